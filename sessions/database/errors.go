package database

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// Errors that callers decide on; test with errors.Is.
var (
	// ErrNotFound says that the tenant has no such row.
	ErrNotFound = errors.New("not found")
	// ErrExists says that the id is taken.
	ErrExists = errors.New("exists already")
	// ErrRange says that a session has fewer items than were asked for.
	ErrRange = errors.New("out of range")
	// ErrQuota says that the tenant has as much as it may; a *QuotaError says of what.
	ErrQuota = errors.New("quota exceeded")
	// ErrFinished says that a response has ended and changes no more.
	ErrFinished = errors.New("has ended")
	// ErrQuery says that a search has nothing to look for, or too much.
	ErrQuery = errors.New("query")
	// ErrFull says that the disk has no room.
	ErrFull = errors.New("disk is full")
	// ErrRemoved says that the file is no longer where it was opened, so that what is written would be lost.
	ErrRemoved = errors.New("was removed or replaced")
	// ErrDamaged says that the file is not what was written. The error names it and what to do.
	ErrDamaged = errors.New("damaged")
	// ErrForeign says that a file is of another program, or of a newer version of this one.
	ErrForeign = errors.New("foreign file")
)

// QuotaError says which quota of a tenant is used up. It is an ErrQuota.
type QuotaError struct {
	Of          string // what is counted: "sessions" or "bytes"
	Used, Limit int64
}

// Error says how much is used, and how much may be.
func (e *QuotaError) Error() string {
	return fmt.Sprintf("%v: %d %s are stored, and the limit is %d", ErrQuota, e.Used, e.Of, e.Limit)
}

// Is makes it an ErrQuota.
func (e *QuotaError) Is(target error) bool { return target == ErrQuota }

// damage is an error that shows that the file is not what was written.
type damage struct{ reason error }

func (e damage) Error() string { return e.reason.Error() }

func damagef(format string, args ...any) error { return damage{fmt.Errorf(format, args...)} }

// wrap names the subject of an error, and says of a damaged file which one it is and what to do.
func (d *DB) wrap(subject string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	var failure *sqlite.Error
	if errors.As(err, &failure) {
		switch code := failure.Code(); code & 0xff { // the lowest byte of an extended code is its kind
		case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
			err = damage{err}
		case sqlite3.SQLITE_CONSTRAINT:
			if code == sqlite3.SQLITE_CONSTRAINT_UNIQUE || code == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY {
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
	var found damage
	if errors.As(err, &found) {
		return fmt.Errorf("database: %s: %s is %w (%w): stop the server, move the file away together with %s-wal and %s-shm, and put a backup in its place",
			subject, d.path, ErrDamaged, err, d.path, d.path)
	}
	return fmt.Errorf("database: %s: %w", subject, err)
}

// notFound is ErrNotFound where a query found no row.
func notFound(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return ErrNotFound
	}
	return err
}
