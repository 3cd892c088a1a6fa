package disk

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

func TestKeyFileIsItsOwnersAlone(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files have no mode")
	}
	o := Options{Dir: t.TempDir(), KeyFile: filepath.Join(t.TempDir(), "key")}
	open(t, o).Close()
	info, err := os.Stat(o.KeyFile)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, error %v", info.Mode(), err)
	}
	if err := os.Chmod(o.KeyFile, 0o640); err != nil {
		t.Fatal(err)
	}
	wantOpenError(t, o, o.KeyFile)
}

// TestKeyFileIsMadeOnce shows that what comes later leaves the key that is there, and nothing else.
func TestKeyFileIsMadeOnce(t *testing.T) {
	k := KeyFile{Path: filepath.Join(t.TempDir(), "key"), Prefix: "test "}
	first, err := k.Load()
	if err != nil {
		t.Fatal(err)
	}
	if err := k.write(osFiles{}, [keyBytes]byte{1}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("written again: %v, want %v", err, fs.ErrExist)
	}
	if again, err := k.Load(); err != nil || again != first {
		t.Errorf("read again it is %x, was %x, %v", again, first, err)
	}
	if names, err := filepath.Glob(k.Path + "*"); err != nil || len(names) != 1 {
		t.Errorf("the folder has %q, %v", names, err)
	}
}

// TestKeyFileIsMadeByOneOfMany lets many make a file at once: all get the key that is kept.
func TestKeyFileIsMadeByOneOfMany(t *testing.T) {
	for range 20 {
		k := KeyFile{Path: filepath.Join(t.TempDir(), "key"), Prefix: "test "}
		var keys [16][keyBytes]byte
		var wait sync.WaitGroup
		for i := range keys {
			wait.Go(func() {
				var err error
				if keys[i], err = k.Load(); err != nil {
					t.Error(err)
				}
			})
		}
		wait.Wait()
		kept, err := k.Load()
		if err != nil {
			t.Fatal(err)
		}
		for i, key := range keys {
			if key != kept {
				t.Fatalf("number %d got %x, and %x is kept", i, key, kept)
			}
		}
		if names, err := filepath.Glob(k.Path + "*"); err != nil || len(names) != 1 {
			t.Errorf("the folder has %q, %v", names, err)
		}
	}
}

func wantOpenError(t *testing.T, o Options, part string) {
	t.Helper()
	s, err := Open(o)
	if err == nil {
		s.Close()
		t.Fatalf("the store opens, want an error with %q", part)
	}
	if !strings.Contains(err.Error(), part) {
		t.Fatalf("error %q, want one with %q", err, part)
	}
}

// TestKeyFileThatIsNone shows that a file that holds no key is an error, and stays what it is.
func TestKeyFileThatIsNone(t *testing.T) {
	o := Options{Dir: t.TempDir(), KeyFile: filepath.Join(t.TempDir(), "key")}
	open(t, o).Close()
	line, err := os.ReadFile(o.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, other := range [][]byte{{}, []byte("notes"), line[:len(line)-1], append(bytes.Clone(line), '\n'), bytes.ToUpper(line),
		bytes.Replace(line, []byte("key-1"), []byte("key-2"), 1), append(bytes.Clone(line[:len(line)-2]), "g\n"...)} {
		if err := os.WriteFile(o.KeyFile, other, 0o600); err != nil {
			t.Fatal(err)
		}
		wantOpenError(t, o, o.KeyFile)
		if after, err := os.ReadFile(o.KeyFile); err != nil || !bytes.Equal(after, other) {
			t.Fatalf("the file was %q, is %q, error %v", other, after, err)
		}
	}
	o.KeyFile = t.TempDir()
	wantOpenError(t, o, o.KeyFile)
	o.KeyFile = filepath.Join(o.KeyFile, "missing", "key")
	wantOpenError(t, o, o.KeyFile)
}

// TestLostKey takes the key away: all records are misses, the operator is told once, and the store works with a new key.
// With the old one they are back.
func TestLostKey(t *testing.T) {
	warned := &warnings{}
	o := Options{Dir: t.TempDir(), KeyFile: filepath.Join(t.TempDir(), "key"), Logger: slog.New(warned)}
	s := open(t, o)
	for i := range 5 {
		put(t, s, "a", i, 5000)
	}
	s.Close()
	old := o.KeyFile + ".old"
	if err := os.Rename(o.KeyFile, old); err != nil {
		t.Fatal(err)
	}
	s = open(t, o)
	if n := warned.count.Load(); n != 1 {
		t.Errorf("%d warnings, want 1", n)
	}
	for i := range 5 {
		wantMissing(t, s, "a", i, 5000)
	}
	put(t, s, "a", 7, 5000)
	flush(t, s)
	wantRecord(t, s, "a", 7, 5000)
	s.check(t)
	s.Close()
	o.KeyFile = old
	s = open(t, o)
	for i := range 5 {
		wantRecord(t, s, "a", i, 5000)
	}
	wantMissing(t, s, "a", 7, 5000)
}

// TestForeignRecordsMakeRoom shows that records that nobody can read do not count for ever.
func TestForeignRecordsMakeRoom(t *testing.T) {
	files := newTestFiles()
	o := Options{Dir: "cache", MaxBytes: 256 << 10, SegmentBytes: 32 << 10, files: files}
	s := open(t, o)
	for i := range 20 {
		put(t, s, "a", i, 9000)
	}
	s.Close()
	files.removeAll("cache/key")
	s = open(t, o)
	if st := s.Stats(); st.Records != 0 || st.Garbage < 100_000 {
		t.Fatalf("stats %+v", st)
	}
	for i := range 20 {
		put(t, s, "a", i, 9000)
	}
	flush(t, s)
	s.check(t)
	if st := s.Stats(); st.Records != 20 || st.Evicted != 0 || st.Bytes > st.Budget {
		t.Errorf("stats %+v", st)
	}
}

func TestFolderHasOneOwner(t *testing.T) {
	o := Options{Dir: t.TempDir()}
	s := open(t, o)
	wantOpenError(t, o, "in use")
	s.Close()
	open(t, o)
}

// TestNothingIsReadable looks for names, keys and data in the files.
func TestNothingIsReadable(t *testing.T) {
	files := newTestFiles()
	s := open(t, Options{Dir: "cache", files: files})
	secret := []byte("the words of a conversation")
	k := Key(bytes.Repeat([]byte("key!"), 8))
	if !s.Put(Record{Tenant: "somebody", Key: k, Data: secret}) {
		t.Fatal("not taken")
	}
	s.Close()
	for name, f := range files.files {
		for _, plain := range [][]byte{secret, []byte("somebody"), k[:], []byte("words")} {
			if bytes.Contains(f.data, plain) {
				t.Errorf("%s has %q", name, plain)
			}
		}
	}
}

// TestRemovedTenantCannotComeBack puts the records of a removed tenant back: without its salt they are nothing.
func TestRemovedTenantCannotComeBack(t *testing.T) {
	files := newTestFiles()
	o := Options{Dir: "cache", files: files}
	s := open(t, o)
	put(t, s, "a", 1, 5000)
	put(t, s, "b", 1, 5000)
	flush(t, s)
	path := segmentPath("cache", 1)
	before := files.read(path)
	if err := s.RemoveTenant("a"); err != nil {
		t.Fatal(err)
	}
	wantMissing(t, s, "a", 1, 5000)
	put(t, s, "a", 2, 5000)
	s.Close()
	files.write(path, before)
	files.removeAll("cache/*.index")
	s = open(t, o)
	wantMissing(t, s, "a", 1, 5000)
	wantRecord(t, s, "b", 1, 5000)
}
