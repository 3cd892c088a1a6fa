package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// Backup writes a copy of the database as it is at this moment to a new file, which only its owner can read. It does not
// hinder readers or writers, and leaves nothing behind where it fails.
func (d *DB) Backup(ctx context.Context, path string) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("database: backup: %w", err)
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("database: backup: %w", err)
	}
	if err := d.vacuumInto(ctx, path); err != nil {
		return errors.Join(d.wrap("backup to "+path, err), os.Remove(path))
	}
	return nil
}

// vacuumInto copies to an empty file, over a connection of its own so that nobody waits for it.
func (d *DB) vacuumInto(ctx context.Context, path string) error {
	source := d.writer
	if d.path != Memory {
		own, err := sql.Open("sqlite", dataSource(d.path, "temp_store(MEMORY)"))
		if err != nil {
			return err
		}
		defer own.Close()
		source = own
	}
	_, err := source.ExecContext(ctx, `VACUUM INTO ?`, path)
	return err
}

// Check verifies the whole file: its structure, its indexes and its foreign keys. It reads everything.
func (d *DB) Check(ctx context.Context) error {
	return d.read(ctx, "check", func(tx *sql.Tx) error {
		findings, err := texts(tx.QueryContext(ctx, `PRAGMA integrity_check(10)`))
		if err != nil {
			return err
		}
		if !slices.Equal(findings, []string{"ok"}) {
			return d.damaged("check", errors.New(strings.Join(findings, "; ")))
		}
		findings, err = texts(tx.QueryContext(ctx, `SELECT "table" || ' lacks its ' || parent FROM pragma_foreign_key_check LIMIT 10`))
		if err == nil && len(findings) > 0 {
			err = d.damaged("check", errors.New(strings.Join(findings, "; ")))
		}
		return err
	})
}

func texts(rows *sql.Rows, err error) ([]string, error) {
	return collect(rows, err, func(row scanner) (s string, err error) { return s, row.Scan(&s) })
}

// scrub takes what was deleted out of the log beside the file too, as far as no reader needs it; the next call does the
// rest. In the file itself SQLite overwrites what is deleted (PRAGMA secure_delete).
func (d *DB) scrub(ctx context.Context) {
	if _, err := d.writer.ExecContext(context.WithoutCancel(ctx), `PRAGMA wal_checkpoint(TRUNCATE)`); err != nil {
		d.opts.Logger.Warn("what was deleted is still in the database's log", "path", d.path, "error", err)
	}
}
