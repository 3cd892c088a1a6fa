package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"

	"hearth/sessions/database"
)

// What is in the data folder:
//
//	state.db (and -wal, -shm beside it)   conversations, responses, exact token logs, usage: sessions/database
//
// The folder and everything in it is for its owner alone.
const databaseFile = "state.db"

// dataFlags say where a server keeps what outlives it, and how much of it.
type dataFlags struct {
	dir           string
	noStore       bool
	quotaSessions int
	quotaBytes    byteCount
}

func (d *dataFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&d.dir, "data-dir", defaultDataDir(), "folder for everything that the server keeps; one server at a time uses it")
	flags.BoolVar(&d.noStore, "no-store", false, "keep nothing on disk: sessions and responses end with the server")
	flags.IntVar(&d.quotaSessions, "quota-sessions", 0, "most sessions of each tenant (default: no limit)")
	flags.Var(&d.quotaBytes, "quota-bytes", "most that the sessions and responses of each tenant may take, such as 1GiB (default: no limit)")
}

// validate names the flag that cannot be followed.
func (d *dataFlags) validate() error {
	if d.quotaSessions < 0 {
		return fmt.Errorf("--quota-sessions: %d, want at least 0, which is no limit", d.quotaSessions)
	}
	if info, err := os.Stat(d.dir); err == nil && !info.IsDir() && !d.noStore {
		return fmt.Errorf("--data-dir: %s is not a folder", d.dir)
	}
	return nil
}

// dataFolder is what is open of it.
type dataFolder struct {
	database *database.DB
}

// open makes the folder where there is none and opens what is in it. The caller closes it.
func (d *dataFlags) open(ctx context.Context, logger *slog.Logger) (*dataFolder, error) {
	opts := database.Options{Quota: database.Quota{Sessions: d.quotaSessions, Bytes: int64(d.quotaBytes)}, Logger: logger}
	path := database.Memory
	if !d.noStore {
		if err := os.MkdirAll(d.dir, 0o700); err != nil {
			return nil, fmt.Errorf("--data-dir: %w", err)
		}
		path = filepath.Join(d.dir, databaseFile)
	}
	db, err := database.Open(ctx, path, opts)
	if err != nil {
		return nil, refusal(err)
	}
	return &dataFolder{database: db}, nil
}

// Close closes everything, in the reverse order of use.
func (f *dataFolder) Close() error {
	return errors.Join(f.database.Close())
}

// check verifies the database while models load, which takes its time too. The returned function waits for the result.
func (f *dataFolder) check(ctx context.Context) (wait func() error) {
	checked := make(chan error, 1)
	go func() { checked <- f.database.Check(ctx) }()
	return func() error { return <-checked }
}
