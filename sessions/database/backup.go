package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"time"
)

// Backup writes a copy of the database as it is at this moment to a new file, which only its owner can read. It does not
// hinder readers or writers, and leaves nothing behind where it fails.
func (d *DB) Backup(ctx context.Context, path string) error {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("database: backup: %w", err)
	}
	err = d.apart(ctx, func(conn *sql.DB) error {
		_, err := conn.ExecContext(ctx, `VACUUM INTO ?`, path)
		return err
	})
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return errors.Join(d.wrap("backup to "+path, err), os.Remove(path))
	}
	return nil
}

// scrubTimeout is how long a deletion waits for readers of what was deleted, and with it all other writers.
const scrubTimeout = 100 * time.Millisecond

// erase is write for f that deletes, and takes what it deleted off the disk.
func (d *DB) erase(ctx context.Context, subject string, f func(*sql.Tx) error) error {
	err := d.write(ctx, subject, f)
	if err == nil {
		d.scrub(ctx)
	}
	return err
}

// scrub takes what was deleted out of the log beside the file too, where it stays until other pages are written over it. In
// the file itself SQLite overwrites what is deleted (PRAGMA secure_delete). A reader that still sees it stands in the way;
// then the next deletion or Expire does it.
func (d *DB) scrub(ctx context.Context) {
	d.dirty.Store(true)
	if d.path == Memory {
		return
	}
	done, err := d.truncateLog(context.WithoutCancel(ctx))
	if err != nil {
		d.opts.Logger.Warn("deleted rows are still in the database's log", "path", d.path, "error", err)
	}
	if done {
		d.dirty.Store(false)
	}
}

func (d *DB) truncateLog(ctx context.Context) (done bool, err error) {
	conn, err := d.writer.Conn(ctx)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, fmt.Sprintf("PRAGMA busy_timeout = %d", scrubTimeout.Milliseconds())); err != nil {
		return false, err
	}
	var busy, frames, moved int
	err = conn.QueryRowContext(ctx, `PRAGMA wal_checkpoint(TRUNCATE)`).Scan(&busy, &frames, &moved)
	_, restore := conn.ExecContext(ctx, "PRAGMA "+busyTimeout)
	return err == nil && busy == 0, errors.Join(err, restore)
}
