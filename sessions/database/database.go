package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// Memory as the path of Open keeps everything in memory, for as long as the database is open.
const Memory = ":memory:"

// Options configure a database. The zero value works.
type Options struct {
	Quota  Quota            // of each tenant
	Now    func() time.Time // nil: time.Now
	Logger *slog.Logger     // nil: slog.Default
}

// DB is an open database.
type DB struct {
	path   string
	opts   Options
	writer *sql.DB // one connection: writers wait for each other here, not in the file's lock
	reader *sql.DB // several, each reading the state that was committed when its transaction began
}

// numReaders bounds the connections that read at the same time; each has a page cache of its own.
const numReaders = 4

// Open opens the database file at path, and makes it, readable by its owner alone, where there is none. Its folder must
// exist. A file that is damaged, or that is not Hearth's, is refused and left as it is.
func Open(ctx context.Context, path string, opts Options) (*DB, error) {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	d := &DB{path: path, opts: opts}
	if err := d.open(ctx); err != nil {
		d.Close()
		return nil, d.wrap(path, err)
	}
	return d, nil
}

func (d *DB) open(ctx context.Context) error {
	if d.path != Memory {
		if err := private(d.path); err != nil {
			return err
		}
	}
	var err error
	if d.writer, err = sql.Open("sqlite", dataSource(d.path, "journal_mode(WAL)")); err != nil {
		return err
	}
	d.writer.SetMaxOpenConns(1)
	d.writer.SetMaxIdleConns(1) // closing the last connection would end a database in memory
	if err := migrate(ctx, d.writer); err != nil {
		return err
	}
	if d.path == Memory {
		d.reader = d.writer
		return nil
	}
	if d.reader, err = sql.Open("sqlite", dataSource(d.path, "query_only(1)")); err != nil {
		return err
	}
	d.reader.SetMaxOpenConns(numReaders)
	d.reader.SetMaxIdleConns(numReaders)
	return nil
}

// private makes the file where there is none, and takes away what others may do with it: SQLite gives the files beside it
// the same mode.
func private(path string) error {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("not a regular file")
	}
	if info.Mode().Perm()&0o077 != 0 {
		return file.Chmod(0o600)
	}
	return nil
}

// dataSource is the driver's name of a file. Every transaction that may write takes the file's lock as it begins, so that it
// waits for another process rather than fail in its middle.
func dataSource(path, pragma string) string {
	query := url.Values{"_pragma": {
		"busy_timeout(10000)", "foreign_keys(1)", "secure_delete(1)", "synchronous(FULL)", "journal_size_limit(67108864)", pragma,
	}, "_txlock": {"immediate"}}
	if pragma == "query_only(1)" {
		query.Set("_txlock", "deferred")
	}
	if path == Memory {
		return path + "?" + query.Encode()
	}
	name := url.URL{Scheme: "file", Opaque: (&url.URL{Path: filepath.ToSlash(path)}).EscapedPath(), RawQuery: query.Encode()}
	return name.String()
}

// Path returns the file's path, or Memory.
func (d *DB) Path() string { return d.path }

// Close waits for what runs and closes the file.
func (d *DB) Close() error {
	var errs []error
	if d.reader != nil && d.reader != d.writer {
		errs = append(errs, d.reader.Close())
	}
	if d.writer != nil {
		errs = append(errs, d.writer.Close())
	}
	return errors.Join(errs...)
}

// write runs f in a transaction that is committed, and on the disk, when write returns nil. f does not call methods of d.
func (d *DB) write(ctx context.Context, subject string, f func(*sql.Tx) error) error {
	return d.transact(ctx, d.writer, subject, f)
}

// read runs f on the state of one moment.
func (d *DB) read(ctx context.Context, subject string, f func(*sql.Tx) error) error {
	return d.transact(ctx, d.reader, subject, f)
}

func (d *DB) transact(ctx context.Context, db *sql.DB, subject string, f func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return d.wrap(subject, err)
	}
	defer tx.Rollback()
	if err := f(tx); err != nil {
		return d.wrap(subject, err)
	}
	return d.wrap(subject, tx.Commit())
}

// wrap names the subject of an error, and says of a damaged file which one it is and what to do.
func (d *DB) wrap(subject string, err error) error {
	if err == nil || errors.Is(err, ErrDamaged) {
		return err
	}
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	var failure *sqlite.Error
	if errors.As(err, &failure) {
		switch failure.Code() & 0xff {
		case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
			return d.damaged(subject, err)
		case sqlite3.SQLITE_CONSTRAINT:
			if failure.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE || failure.Code() == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY {
				err = ErrExists
			}
		case sqlite3.SQLITE_FULL:
			err = fmt.Errorf("%w: %w", ErrFull, err)
		}
	}
	var file *fs.PathError
	if errors.As(err, &file) && file.Path == subject {
		err = file.Err
	}
	return fmt.Errorf("database: %s: %w", subject, err)
}

// damaged says which file is damaged, how that shows and what to do.
func (d *DB) damaged(subject string, err error) error {
	return fmt.Errorf("database: %s: %s is %w (%w): stop the server, move it and the files beside it (%s-wal, %s-shm) away, and put a backup in its place",
		subject, d.path, ErrDamaged, err, d.path, d.path)
}

// now is the time that new rows carry.
func (d *DB) now() time.Time { return d.opts.Now() }

// stamp is how a time is stored; the zero time is NULL.
func stamp(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}

// timeOf reads what stamp stored.
func timeOf(micros sql.NullInt64) time.Time {
	if !micros.Valid {
		return time.Time{}
	}
	return time.UnixMicro(micros.Int64).UTC()
}
