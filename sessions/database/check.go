package database

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"time"
)

// startCheck is how long Open looks for damage.
const startCheck = 500 * time.Millisecond

// checkStart verifies the structure of the file for as long as a start may take. What it does not get to is checked by a
// goroutine, which Close ends. It leaves the index of texts to Check: what is wrong there costs searches, not conversations.
func (d *DB) checkStart(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, startCheck)
	defer cancel()
	left, err := d.quickCheck(bounded, nil)
	if bounded.Err() == nil || ctx.Err() != nil {
		return err
	}
	var rest context.Context
	rest, d.stop = context.WithCancel(context.WithoutCancel(ctx))
	d.checks.Go(func() {
		if _, err := d.quickCheck(rest, left); err != nil && rest.Err() == nil {
			d.damages.Add(1)
			d.opts.Logger.Error("the database is not whole", "path", d.path, "error", d.wrap("check", err))
		}
	})
	return nil
}

// Damages counts the checks that found the file damaged while it was open.
func (d *DB) Damages() int64 { return d.damages.Load() }

// quickCheck verifies the structure of tables, of all where none are named, without comparing indexes with them. It returns
// those that it did not get to.
func (d *DB) quickCheck(ctx context.Context, tables []string) (left []string, err error) {
	err = d.apart(ctx, func(conn *sql.DB) error {
		if tables == nil {
			tables, err = texts(conn.QueryContext(ctx, `SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0`))
			if err != nil {
				return err
			}
		}
		for left = tables; len(left) > 0; left = left[1:] {
			if err := verify(texts(conn.QueryContext(ctx, `SELECT quick_check FROM pragma_quick_check(?)`, left[0]))); err != nil {
				return err
			}
		}
		return nil
	})
	return left, err
}

// apart runs f on a connection of its own: nobody waits for it, and it has nothing in memory of an earlier state. SQLite's
// check of the index of texts (version 3.54) takes that for the present one and sees damage.
func (d *DB) apart(ctx context.Context, f func(*sql.DB) error) error {
	if d.path == Memory {
		return f(d.writer)
	}
	conn, err := connect(ctx, d.path, forApart)
	if err != nil {
		return err
	}
	defer conn.Close()
	return f(conn)
}

// verify takes the findings of SQLite's checks, which are "ok" where there are none.
func verify(findings []string, err error) error {
	if err == nil && strings.Join(findings, "") != "ok" {
		err = damage{errors.New(strings.Join(findings, "; "))}
	}
	return err
}

// Check verifies the whole file: its structure, its indexes, its foreign keys and the index of its texts. It reads
// everything.
func (d *DB) Check(ctx context.Context) error {
	return d.wrap("check", d.apart(ctx, func(conn *sql.DB) error {
		if err := verify(texts(conn.QueryContext(ctx, `PRAGMA integrity_check(10)`))); err != nil {
			return err
		}
		findings, err := texts(conn.QueryContext(ctx, `SELECT "table" || ' lacks its ' || parent FROM pragma_foreign_key_check LIMIT 10`))
		if len(findings) == 0 {
			findings = []string{"ok"}
		}
		return verify(findings, err)
	}))
}

// checkVersion refuses a file that is not ours, or that this program may not bring to a version that it can read.
func (d *DB) checkVersion(ctx context.Context) error {
	tx, err := d.reader.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	version, err := versionOf(ctx, tx)
	if err == nil && (version > len(migrations) || d.opts.ReadOnly && version < len(migrations)) {
		err = versionError(version, len(migrations))
	}
	return err
}

func texts(rows *sql.Rows, err error) ([]string, error) {
	return collect(rows, err, func(row scanner) (s string, err error) { return s, row.Scan(&s) })
}
