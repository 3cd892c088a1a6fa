package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"

	"hearth/hardware"
	"hearth/kvcache/disk"
	"hearth/sessions/database"
)

// What is in the data folder:
//
//	state.db           conversations, responses, exact token logs, usage (sessions/database); -wal and -shm belong to it
//	cache/             computed blocks and states (kvcache/disk), which can be computed again; --cache-dir puts it elsewhere
//	keys/cache.key     the secret that the cache is encrypted with; --cache-key-file puts it elsewhere
//	keys/sessions.key  the secret that sealed content is encrypted with, such as that of compactions
//	lock               locked while a server uses the folder, since a start ends what an earlier server left unfinished, and
//	                   while a command changes what is in it
//
// The folder and everything in it is for its owner alone.
const (
	databaseFile   = "state.db"
	cacheFolder    = "cache"
	keyFolder      = "keys"
	cacheKeyFile   = "cache.key"
	sessionKeyFile = "sessions.key"
	lockFile       = "lock"
)

// dataFlags say where a server keeps what outlives it, and how much of it.
type dataFlags struct {
	dir           string
	noStore       bool
	cache         cacheFlags
	quotaSessions int
	quotaBytes    byteCount
	sessionTTL    lifetime
	responseTTL   lifetime
	flags         *pflag.FlagSet // says which of them were given
}

func (d *dataFlags) add(flags *pflag.FlagSet) {
	d.flags = flags
	flags.StringVar(&d.dir, "data-dir", defaultDataDir(), "folder for everything that the server keeps; one server at a time uses it")
	flags.BoolVar(&d.noStore, "no-store", false, "keep nothing on disk: sessions and responses end with the server")
	d.cache.add(flags)
	flags.IntVar(&d.quotaSessions, "quota-sessions", 0, "most sessions of each tenant (default: no limit)")
	flags.Var(&d.quotaBytes, "quota-bytes", "most that the sessions and responses of each tenant may take, such as 1GiB (default: no limit)")
	flags.Var(&d.sessionTTL, "session-ttl", "how long new sessions are kept after their last change, such as 12h or 90d, unless their maker says it (default: for ever)")
	flags.Var(&d.responseTTL, "response-ttl", "how long new stored responses and chat completions outside of sessions are kept, a response as long as what goes on from it; OpenAI keeps them for 30d (default: for ever)")
}

// validate names the flag that cannot be followed.
func (d *dataFlags) validate() error {
	if d.quotaSessions < 0 {
		return fmt.Errorf("--quota-sessions: %d, want at least 0, which is no limit", d.quotaSessions)
	}
	switch off := d.cache.budget.off; {
	case d.noStore && off:
		return d.refuseUnused("--no-store", "data-dir", "cache-dir", "cache-key-file")
	case d.noStore:
		return d.refuseUnused("--no-store", "data-dir", "cache-dir", "cache-key-file", "cache-disk")
	case off:
		if err := d.refuseUnused("--cache-disk off", "cache-dir", "cache-key-file"); err != nil {
			return err
		}
	}
	if info, err := os.Stat(d.dir); err == nil && !info.IsDir() {
		return fmt.Errorf("--data-dir: %s is not a folder", d.dir)
	}
	return nil
}

// refuseUnused refuses the flags of the folder that would have no effect beside another one.
func (d *dataFlags) refuseUnused(beside string, names ...string) error {
	for _, name := range names {
		if d.flags.Changed(name) {
			return fmt.Errorf("--%s has no use: nothing is kept there with %s", name, beside)
		}
	}
	return nil
}

// dataFolder is what is open of it: all of it for a server, and less for a command.
type dataFolder struct {
	lock     io.Closer // nil: there is no folder, or it is only read
	database *database.DB
	cache    *disk.Store // nil: blocks are kept in memory alone
	secret   []byte      // of sessions; nil: it is not kept
}

// open makes the folder where there is none and opens what is in it. The caller closes it, after the engines that use it.
func (d *dataFlags) open(ctx context.Context, logger *slog.Logger) (*dataFolder, error) {
	opts := database.Options{Quota: database.Quota{Sessions: d.quotaSessions, Bytes: int64(d.quotaBytes)}, Logger: logger}
	path := database.Memory
	if !d.noStore {
		if err := os.MkdirAll(d.dir, 0o700); err != nil {
			return nil, fmt.Errorf("--data-dir: %w", err)
		}
		path = filepath.Join(d.dir, databaseFile)
	}
	f := &dataFolder{}
	var err error
	if !d.noStore {
		if f.lock, err = disk.Lock(filepath.Join(d.dir, lockFile)); err != nil {
			return nil, fmt.Errorf("--data-dir: %s cannot be locked, perhaps it is in use by another server, or by a command that changes it: %w", d.dir, err)
		}
		if f.cache, err = d.cache.open(d.dir, logger); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		if f.secret, err = openSecret(filepath.Join(d.dir, keyFolder, sessionKeyFile)); err != nil {
			return nil, errors.Join(fmt.Errorf("--data-dir: %w", err), f.Close())
		}
	}
	if f.database, err = database.Open(ctx, path, opts); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if !d.noStore {
		logger.Info("data folder opened", "folder", d.dir)
	}
	return f, nil
}

// Close closes everything. The cache writes before what is queued.
func (f *dataFolder) Close() error {
	var errs []error
	if f.database != nil {
		errs = append(errs, f.database.Close())
	}
	if f.cache != nil {
		errs = append(errs, f.cache.Close())
	}
	if f.lock != nil {
		errs = append(errs, f.lock.Close())
	}
	return errors.Join(errs...)
}

// cacheFlags say where computed blocks are kept on disk.
type cacheFlags struct {
	dir     string
	budget  diskBudget
	keyFile string
}

func (c *cacheFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&c.dir, "cache-dir", "", "folder for computed blocks of prefixes (default: "+cacheFolder+" in the data folder)")
	flags.Var(&c.budget, "cache-disk", "most that it may take, such as 50GiB, or off (default: a tenth of what is free on the disk)")
	flags.StringVar(&c.keyFile, "cache-key-file", "", "file with the secret that they are encrypted with, made where there is none (default: "+keyFolder+"/"+cacheKeyFile+" in the data folder)")
}

// open opens the cache of a data folder, nil where there is to be none.
func (c *cacheFlags) open(dataDir string, logger *slog.Logger) (*disk.Store, error) {
	if c.budget.off {
		return nil, nil
	}
	dir, keyFile := c.dir, c.keyFile
	if dir == "" {
		dir = filepath.Join(dataDir, cacheFolder)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("--cache-dir: %w", err)
	}
	if keyFile == "" {
		keyFile = filepath.Join(dataDir, keyFolder, cacheKeyFile)
		if err := os.MkdirAll(filepath.Dir(keyFile), 0o700); err != nil {
			return nil, fmt.Errorf("--data-dir: %w", err)
		}
	}
	budget := c.budget.bytes
	if budget == 0 {
		budget = max(usualBudget(dir), minBudget)
	}
	store, err := disk.Open(disk.Options{Dir: dir, KeyFile: keyFile, MaxBytes: budget, Logger: logger})
	if err != nil {
		return nil, refusal(err)
	}
	return store, nil
}

// minBudget is the least that a cache gets without a flag; a disk with less than ten times this free is nearly full.
const minBudget = 64 << 20

// usualBudget is a tenth of what the disk could hold of the folder, with what it holds already: the same after every start.
func usualBudget(dir string) int64 {
	used := int64(0)
	filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return nil // what cannot be read is an error when the store is opened
		}
		if info, err := entry.Info(); err == nil {
			used += info.Size()
		}
		return nil
	})
	return (int64(hardware.FreeDisk(dir)) + used) / 10
}

// diskBudget is a flag for a size, or none.
type diskBudget struct {
	bytes int64 // 0: not said
	off   bool
}

// String is part of pflag.Value.
func (b *diskBudget) String() string {
	if b.off {
		return "off"
	}
	size := byteCount(b.bytes)
	return size.String()
}

// Set is part of pflag.Value.
func (b *diskBudget) Set(s string) error {
	if s == "off" || s == "0" {
		*b = diskBudget{off: true}
		return nil
	}
	var size byteCount
	if err := size.Set(s); err != nil {
		return err
	}
	*b = diskBudget{bytes: int64(size)}
	return nil
}

// Type is part of pflag.Value.
func (b *diskBudget) Type() string { return "size" }
