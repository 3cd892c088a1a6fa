package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// warnings counts what the operator is told.
type warnings struct{ count atomic.Int32 }

func (w *warnings) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }
func (w *warnings) Handle(context.Context, slog.Record) error        { w.count.Add(1); return nil }
func (w *warnings) WithAttrs([]slog.Attr) slog.Handler               { return w }
func (w *warnings) WithGroup(string) slog.Handler                    { return w }

// clock is a time that tests move.
type clock struct{ nanoseconds atomic.Int64 }

func (c *clock) now() time.Time { return time.Unix(0, c.nanoseconds.Load()) }

var errNoSpace = &fs.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}

// TestDiskThatFails lets the disk be full, read-only or broken for a while: nothing is written then and what is there can
// be read, the operator is told once, and when the disk works again so does the store.
func TestDiskThatFails(t *testing.T) {
	changes := map[string]bool{"write": true, "truncate": true, "sync": true, "punch": true, "create": true, "empty": true, "remove": true, "mkdir": true, "syncdir": true}
	for name, fail := range map[string]func(call, path string) error{
		"full":      func(call, _ string) error { return failWhen(call == "write") },
		"read-only": func(call, _ string) error { return failWhen(changes[call]) },
		"no-files":  func(call, _ string) error { return failWhen(call == "create") },
		"no-sync":   func(call, _ string) error { return failWhen(call == "sync") },
	} {
		for _, short := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/short=%v", name, short), func(t *testing.T) { testFailing(t, fail, short) })
		}
	}
}

func failWhen(fails bool) error {
	if fails {
		return errNoSpace
	}
	return nil
}

func testFailing(t *testing.T, fail func(call, path string) error, short bool) {
	files, warned, now := newTestFiles(), &warnings{}, &clock{}
	files.short = short
	o := Options{Dir: "cache", MaxBytes: 1 << 20, SegmentBytes: 32 << 10, Logger: slog.New(warned), Now: now.now, RetryAfter: time.Second, files: files}
	s := open(t, o)
	for i := range 10 {
		put(t, s, "a", i, 5000)
	}
	flush(t, s)
	files.set(fail)
	dropped := 0
	for i := 100; i < 130; i++ {
		r := Record{Tenant: "b", Key: key(i), Data: data(i, 5000), Release: func() {}}
		s.Put(r)
		if s.Sync(context.Background()) != nil {
			dropped++
		}
		wantRecord(t, s, "a", i%10, 5000)
		now.nanoseconds.Add(int64(200 * time.Millisecond))
	}
	if st := s.Stats(); st.Failing == nil || dropped == 0 {
		t.Errorf("stats %+v, %d failures", st, dropped)
	}
	if n := warned.count.Load(); n != 1 {
		t.Errorf("%d warnings, want 1", n)
	}
	now.nanoseconds.Add(int64(2 * time.Second))
	if !s.Put(Record{Tenant: "b", Key: key(500), Data: data(1, 50000)}) {
		t.Error("the disk is not asked again")
	}
	tryFlush(s)
	files.set(nil)
	if s.Put(Record{Tenant: "b", Key: key(501)}) {
		t.Error("the disk is asked again at once")
	}
	now.nanoseconds.Add(int64(2 * time.Second))
	for i := 200; i < 230; i++ {
		put(t, s, "a", i, 5000)
	}
	flush(t, s)
	if st := s.Stats(); st.Failing != nil || st.Damaged != 0 {
		t.Errorf("stats %+v", st)
	}
	for range 2 {
		for i := range 10 {
			wantRecord(t, s, "a", i, 5000)
			wantRecord(t, s, "a", 200+i, 5000)
		}
		s.check(t)
		s.Close()
		s = open(t, o)
		flush(t, s)
	}
}

// tryFlush waits for the writer, whatever becomes of the records.
func tryFlush(s *Store) { s.Sync(context.Background()) }

// TestFlutteringDisk fails and works by turns: the operator is not told each time.
func TestFlutteringDisk(t *testing.T) {
	files, warned, now := newTestFiles(), &warnings{}, &clock{}
	s := open(t, Options{Dir: "cache", Logger: slog.New(warned), Now: now.now, files: files})
	for i := range 40 { // 5 seconds each
		files.set(func(string, string) error { return failWhen(i%2 == 0) })
		now.nanoseconds.Add(int64(5 * time.Second))
		put(t, s, "a", i, 100)
		tryFlush(s)
		if failing := s.Stats().Failing != nil; failing != (i%2 == 0) {
			t.Fatalf("after %d records the store fails: %v", i+1, failing)
		}
		if i%2 == 1 {
			s.settle(t) // what tidies up would fail as well, and have the store rest when the next record comes
		}
	}
	if n := warned.count.Load(); n != 4 {
		t.Errorf("%d warnings in 200 seconds, want 4", n)
	}
}

// TestRemoveFromFailingDisk removes what cannot be overwritten at once: it is forgotten, an error says why, and it is
// overwritten when the disk works again.
func TestRemoveFromFailingDisk(t *testing.T) {
	files, now := newTestFiles(), &clock{}
	o := Options{Dir: "cache", Now: now.now, files: files}
	s := open(t, o)
	for i := range 4 {
		put(t, s, "a", i, 5000)
		put(t, s, "b", i, 5000)
	}
	flush(t, s)
	files.set(func(call, _ string) error { return failWhen(call == "write") })
	if err := s.Remove("a", []Key{key(1)}); err == nil {
		t.Error("Remove succeeds")
	}
	if err := s.RemoveTenant("b"); err == nil {
		t.Error("RemoveTenant succeeds")
	}
	wantMissing(t, s, "a", 1, 5000)
	wantMissing(t, s, "b", 1, 5000)
	files.set(nil)
	now.nanoseconds.Add(int64(time.Hour))
	put(t, s, "a", 9, 5000)
	flush(t, s)
	after := files.read(segmentPath("cache", 1))
	size := 5000 + overheadBytes
	for _, i := range []int{1, 2, 3, 5, 7} { // b has every second
		at := fileHeaderBytes + i*size
		if record := after[at+headerBytes : at+size]; !bytes.Equal(record, make([]byte, len(record))) {
			t.Errorf("the bytes of record %d are still there", i)
		}
	}
	s.Close()
	s = open(t, o)
	wantRecord(t, s, "a", 0, 5000)
	wantRecord(t, s, "a", 2, 5000)
	wantMissing(t, s, "a", 1, 5000)
	wantMissing(t, s, "b", 1, 5000)
	s.check(t)
}

// TestEveryCallFails lets the n-th call of the file system fail, alone or with all that follow, for many n. Whatever that
// does to a store, it keeps no wrong record, and the next process opens the folder.
func TestEveryCallFails(t *testing.T) {
	for _, all := range []bool{false, true} {
		for n := 0; n < 700; n += 1 + n/20 {
			files, calls := newTestFiles(), atomic.Int32{}
			files.short = n%2 == 0
			files.set(func(string, string) error {
				call := int(calls.Add(1))
				return failWhen(call == n+1 || all && call > n)
			})
			o := Options{Dir: "cache", MaxBytes: 64 << 10, SegmentBytes: 8 << 10, files: files, RetryAfter: 1}
			if s, err := Open(o); err == nil {
				live(t, s)
				s.Close()
			}
			if n > files.calls {
				t.Fatalf("there are %d calls only", files.calls)
			}
			files.set(nil)
			s, err := Open(o)
			if err != nil {
				t.Fatalf("call %d failed, and then: %v", n, err)
			}
			live(t, s)
			s.check(t)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// live does with a store what can be done, without expecting success.
func live(t *testing.T, s *Store) {
	t.Helper()
	var dst [1000]byte
	for i := range 60 {
		s.Put(Record{Tenant: "a", Key: key(i), Recompute: time.Millisecond, Data: bytes.Repeat([]byte{byte(i)}, 1000)})
		switch i % 10 {
		case 3:
			s.Remove("a", []Key{key(i - 1)})
		case 1, 4, 7:
			tryFlush(s)
		}
		for j := 0; j < i; j += 3 {
			n, err := s.Read("a", key(j), Block, dst[:])
			if err != nil && !errors.Is(err, ErrMissing) || err == nil && (n != 1000 || dst != [1000]byte(bytes.Repeat([]byte{byte(j)}, 1000))) {
				t.Fatalf("record %d: %d bytes, error %v", j, n, err)
			}
		}
	}
}

func needsRemoval(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("open files cannot be removed")
	}
}

// TestFolderIsRemoved removes the folder of a running store, or what is in it.
func TestFolderIsRemoved(t *testing.T) {
	needsRemoval(t)
	for name, remove := range map[string]func(dir string) error{
		"folder":   os.RemoveAll,
		"files":    removeFiles("*"),
		"segments": removeFiles("*.segment"),
	} {
		t.Run(name, func(t *testing.T) {
			warned := &warnings{}
			o := Options{Dir: filepath.Join(t.TempDir(), "cache"), MaxBytes: 1 << 20, SegmentBytes: 32 << 10, Logger: slog.New(warned)}
			s := open(t, o)
			for i := range 20 {
				put(t, s, "a", i, 5000)
			}
			flush(t, s)
			if err := remove(o.Dir); err != nil {
				t.Fatal(err)
			}
			for i := 100; i < 120; i++ {
				put(t, s, "a", i, 5000)
			}
			flush(t, s)
			for i := range 20 {
				wantMissing(t, s, "a", i, 5000)
			}
			if st := s.Stats(); st.Failing != nil || st.Records != 20 {
				t.Errorf("stats %+v", st)
			}
			if n := warned.count.Load(); n != 1 {
				t.Errorf("%d warnings, want 1", n)
			}
			for range 2 {
				for i := 100; i < 120; i++ {
					wantRecord(t, s, "a", i, 5000)
				}
				s.check(t)
				s.Close()
				s = open(t, o)
			}
		})
	}
}

func removeFiles(pattern string) func(dir string) error {
	return func(dir string) error {
		paths, err := filepath.Glob(filepath.Join(dir, pattern))
		for _, path := range paths {
			err = errors.Join(err, os.Remove(path))
		}
		return err
	}
}

// TestTenantsAreRemoved removes only the file without which nothing can be decrypted later.
func TestTenantsAreRemoved(t *testing.T) {
	needsRemoval(t)
	o := Options{Dir: t.TempDir()}
	s := open(t, o)
	put(t, s, "a", 1, 5000)
	flush(t, s)
	if err := os.Remove(filepath.Join(o.Dir, tenantsName)); err != nil {
		t.Fatal(err)
	}
	put(t, s, "a", 2, 5000)
	flush(t, s)
	for range 2 {
		wantRecord(t, s, "a", 1, 5000) // its salt is the same, and written again
		wantRecord(t, s, "a", 2, 5000)
		s.check(t)
		s.Close()
		s = open(t, o)
	}
}

// TestFolderCannotBeMadeAnew removes the folder above as well: the store fails, and works again when it is back.
func TestFolderCannotBeMadeAnew(t *testing.T) {
	needsRemoval(t)
	warned, now := &warnings{}, &clock{}
	parent := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(parent, 0o700); err != nil {
		t.Fatal(err)
	}
	s := open(t, Options{Dir: filepath.Join(parent, "cache"), Logger: slog.New(warned), Now: now.now})
	put(t, s, "a", 1, 5000)
	flush(t, s)
	if err := os.RemoveAll(parent); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		s.Put(Record{Tenant: "a", Key: key(10 + i), Data: data(i, 5000)})
		tryFlush(s)
		now.nanoseconds.Add(int64(time.Second))
	}
	if st := s.Stats(); st.Failing == nil || st.Records != 0 || warned.count.Load() != 1 {
		t.Errorf("stats %+v, %d warnings", st, warned.count.Load())
	}
	if err := os.Mkdir(parent, 0o700); err != nil {
		t.Fatal(err)
	}
	now.nanoseconds.Add(int64(time.Hour))
	put(t, s, "a", 30, 5000)
	flush(t, s)
	wantRecord(t, s, "a", 30, 5000)
	if st := s.Stats(); st.Failing != nil {
		t.Errorf("stats %+v", st)
	}
	s.check(t)
}
