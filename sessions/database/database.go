package database

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"time"

	_ "modernc.org/sqlite" // the driver
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
	sql *sql.DB
}

// Open opens the database file at path, and makes it where there is none.
func Open(ctx context.Context, path string, opts Options) (*DB, error) {
	db, err := sql.Open("sqlite", path)
	if err != nil {
		return nil, fmt.Errorf("database: %s: %w", path, err)
	}
	return &DB{sql: db}, db.PingContext(ctx)
}

// Close waits for what runs and closes the file.
func (d *DB) Close() error { return d.sql.Close() }
