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
	"sync"
	"sync/atomic"
	"time"

	_ "modernc.org/sqlite" // the driver
)

// Memory as the path of Open keeps everything in memory, for as long as the database is open.
const Memory = ":memory:"

// Options configure a database. The zero value works.
type Options struct {
	ReadOnly bool             // neither make nor change the file; another process may be writing it
	Quota    Quota            // of each tenant
	Now      func() time.Time // nil: time.Now
	Logger   *slog.Logger     // nil: slog.Default
}

// DB is an open database.
type DB struct {
	path   string
	opts   Options
	writer *sql.DB     // one connection: writers wait for each other here, not in the file's lock; nil: read only
	reader *sql.DB     // several, each reading the state that was committed when its transaction began
	file   os.FileInfo // of the file that is written; nil: none is

	dirty atomic.Bool // what was deleted may still be in the file's log

	stop    context.CancelFunc // ends the check that goes on after Open
	checks  sync.WaitGroup
	damages atomic.Int64
}

// numReaders bounds the connections that read at the same time; each has a page cache of its own.
const numReaders = 4

// Open opens the database file at path, and makes it, readable by its owner alone, where there is none. Its folder must
// exist. A file that is damaged, or that is not Hearth's, is refused and left as it is.
//
// Damage is looked for in the time that a start may take; the rest of a large file is checked after Open has returned, and
// what is found then is logged and counted in Damages.
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

func (d *DB) open(ctx context.Context) (err error) {
	if d.path == Memory {
		d.writer, err = connect(ctx, d.path, forWriting)
		d.reader = d.writer
		if err == nil {
			err = migrate(ctx, d.writer, migrations)
		}
		return err
	}
	if d.opts.ReadOnly {
		_, err = os.Stat(d.path)
	} else {
		err = create(ctx, d.path)
	}
	if err != nil {
		return err
	}
	if d.reader, err = connect(ctx, d.path, forReading); err != nil {
		return err
	}
	if err := d.checkVersion(ctx); err != nil { // before anything writes to a file that may be another program's
		return err
	}
	if d.opts.ReadOnly {
		return d.checkStart(ctx)
	}
	if d.writer, err = connect(ctx, d.path, forWriting); err != nil {
		return err
	}
	if err := migrate(ctx, d.writer, migrations); err != nil {
		return err
	}
	if d.file, err = os.Stat(d.path); err != nil {
		return err
	}
	return d.checkStart(ctx)
}

// create makes a database where there is none, whole or not at all, and takes away what others may do with the one that
// there is: SQLite gives the files beside it the same mode. A file without content is not taken for a new one, since a
// database that was there may have lost it.
func create(ctx context.Context, path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return createAside(ctx, path)
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return errors.New("not a regular file")
	case info.Size() == 0:
		return damagef("it is empty")
	case info.Mode().Perm()&0o077 != 0:
		return os.Chmod(path, 0o600)
	}
	return nil
}

func createAside(ctx context.Context, path string) error {
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*") // of mode 0600
	if err != nil {
		return err
	}
	aside := file.Name()
	defer os.Remove(aside)
	if err := file.Close(); err != nil {
		return err
	}
	db, err := connect(ctx, aside, forMaking)
	if err != nil {
		return err
	}
	if err := errors.Join(migrate(ctx, db, migrations), db.Close()); err != nil {
		return err
	}
	// A link, unlike a new name, never takes the place of what another process has just made.
	err = os.Link(aside, path)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil { // a file system without links
		return os.Rename(aside, path)
	}
	return nil
}

// What a connection is for.
const (
	forWriting = "journal_mode(WAL)"
	forReading = "query_only(1)"
	forMaking  = "journal_mode(DELETE)"
	forApart   = "temp_store(MEMORY)" // for what takes long
)

func connect(ctx context.Context, path, purpose string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", dataSource(path, purpose))
	if err != nil {
		return nil, err
	}
	conns := 1
	if purpose == forReading {
		conns = numReaders
	}
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns) // closing the last connection would end a database in memory
	if err := db.PingContext(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// busyTimeout is how long a connection waits for another process.
const busyTimeout = "busy_timeout(10000)"

// dataSource is the driver's name of a file. Every transaction that may write takes the file's lock as it begins, so that it
// waits for another process rather than fail in its middle.
func dataSource(path, purpose string) string {
	query := url.Values{"_txlock": {"immediate"}, "_pragma": {
		busyTimeout, "foreign_keys(1)", "secure_delete(1)", "synchronous(FULL)", "cell_size_check(1)", "journal_size_limit(67108864)", purpose,
	}}
	if purpose == forReading || purpose == forApart {
		query.Set("_txlock", "deferred")
		query.Set("mode", "rw") // never makes the file
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
	if d.stop != nil {
		d.stop()
		d.checks.Wait()
	}
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
	if d.writer == nil {
		return fmt.Errorf("database: %s: %s is open for reading only", subject, d.path)
	}
	if err := d.inPlace(); err != nil { // before a connection could make another file
		return d.wrap(subject, err)
	}
	return d.transact(ctx, d.writer, subject, func(tx *sql.Tx) error {
		if err := f(tx); err != nil {
			return err
		}
		return d.inPlace() // it may have waited for long
	})
}

// inPlace returns ErrRemoved where the path no longer leads to the file that is open. The system lets a process write to a
// file that has lost its name, and nobody finds again what was written.
func (d *DB) inPlace() error {
	if d.file == nil {
		return nil
	}
	info, err := os.Stat(d.path)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case err != nil || !os.SameFile(info, d.file):
		return fmt.Errorf("%s %w while it was open: put it back, or restart the server", d.path, ErrRemoved)
	}
	return nil
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
