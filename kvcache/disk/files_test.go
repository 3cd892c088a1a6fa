package disk

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"sync"
)

// testFiles is a file system with what tests need: calls that fail, and a disk that cannot punch holes.
type testFiles struct {
	*memoryFiles
	noPunch bool

	mu   sync.Mutex
	fail func(call, path string) error // nil: nothing fails; may be called concurrently
	// short lets a failing WriteAt write half of its bytes.
	short bool
	calls int // that could fail
	// record notes what happens to the files.
	record bool
	log    []change
}

// change is what a call did to a file.
type change struct {
	call, path string
	offset     int64
	data       []byte // written; of a hole as many zeros; of a link the other name
}

// note adds a change that is about to happen to the log, and returns the error that the call is to have.
func (t *testFiles) note(c change) error {
	t.mu.Lock()
	fail := t.fail
	t.calls++
	t.mu.Unlock()
	if fail != nil {
		if err := fail(c.call, c.path); err != nil {
			return err
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.record {
		c.data = bytes.Clone(c.data)
		t.log = append(t.log, c)
	}
	return nil
}

func newTestFiles() *testFiles { return &testFiles{memoryFiles: newMemoryFiles()} }

// length is the number of changes so far.
func (t *testFiles) length() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.log)
}

// set says what fails from now on.
func (t *testFiles) set(fail func(call, path string) error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fail = fail
}

func (t *testFiles) Open(name string, flag int) (file, error) {
	call := "open"
	switch {
	case flag&os.O_TRUNC != 0:
		call = "empty"
	case flag&os.O_CREATE != 0:
		call = "create"
	}
	if err := t.note(change{call: call, path: name}); err != nil {
		return nil, err
	}
	f, err := t.memoryFiles.Open(name, flag)
	if err != nil {
		return nil, err
	}
	return testFile{f.(*memoryFile), t, name}, nil
}

func (t *testFiles) Lock(name string) (file, error) {
	if err := t.note(change{call: "lock", path: name}); err != nil {
		return nil, err
	}
	f, err := t.memoryFiles.Lock(name)
	if err != nil {
		return nil, err
	}
	return testFile{f.(*memoryFile), t, name}, nil
}

func (t *testFiles) Mkdir(name string) error {
	if err := t.note(change{call: "mkdir", path: name}); err != nil {
		return err
	}
	return t.memoryFiles.Mkdir(name)
}

func (t *testFiles) ReadDir(name string) ([]string, error) {
	if err := t.note(change{call: "readdir", path: name}); err != nil {
		return nil, err
	}
	return t.memoryFiles.ReadDir(name)
}

func (t *testFiles) Link(from, to string) error {
	if err := t.note(change{"link", to, 0, []byte(from)}); err != nil {
		return err
	}
	return t.memoryFiles.Link(from, to)
}

func (t *testFiles) Remove(name string) error {
	if err := t.note(change{call: "remove", path: name}); err != nil {
		return err
	}
	return t.memoryFiles.Remove(name)
}

func (t *testFiles) Same(f file, name string) bool {
	return t.memoryFiles.Same(f.(testFile).memoryFile, name)
}

func (t *testFiles) SyncDir(name string) error {
	if err := t.note(change{call: "syncdir", path: name}); err != nil {
		return err
	}
	return nil
}

type testFile struct {
	*memoryFile
	files *testFiles
	name  string
}

func (f testFile) ReadAt(b []byte, offset int64) (int, error) {
	if err := f.files.note(change{call: "read", path: f.name}); err != nil {
		return 0, err
	}
	return f.memoryFile.ReadAt(b, offset)
}

func (f testFile) WriteAt(b []byte, offset int64) (int, error) {
	if err := f.files.note(change{"write", f.name, offset, b}); err != nil {
		n := 0
		if f.files.short {
			n, _ = f.memoryFile.WriteAt(b[:len(b)/2], offset)
		}
		return n, err
	}
	return f.memoryFile.WriteAt(b, offset)
}

func (f testFile) Truncate(size int64) error {
	if err := f.files.note(change{"truncate", f.name, size, nil}); err != nil {
		return err
	}
	return f.memoryFile.Truncate(size)
}

func (f testFile) Sync() error {
	if err := f.files.note(change{call: "sync", path: f.name}); err != nil {
		return err
	}
	return nil // a process that ends does not need it, and it is slow
}

func (f testFile) Punch(offset, n int64) error {
	if f.files.noPunch {
		return errors.ErrUnsupported
	}
	if err := f.files.note(change{"punch", f.name, offset, make([]byte, n)}); err != nil {
		return err
	}
	return f.memoryFile.Punch(offset, n)
}

// replay returns the files that a log leaves. The last is done to half when it is a write.
func replay(log []change) (*testFiles, error) {
	files := newTestFiles()
	for i, c := range log {
		if c.call == "write" && i == len(log)-1 {
			c.data = c.data[:len(c.data)/2]
		}
		if err := c.apply(files.memoryFiles); err != nil {
			return nil, err
		}
	}
	return files, nil
}

func (c change) apply(files *memoryFiles) error {
	switch c.call {
	case "link":
		return files.Link(string(c.data), c.path)
	case "remove":
		if err := files.Remove(c.path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	case "create", "empty", "truncate", "write", "punch":
		flag := os.O_CREATE
		if c.call == "empty" {
			flag |= os.O_TRUNC
		}
		f, err := files.Open(c.path, flag)
		switch {
		case err != nil:
		case c.call == "truncate":
			err = f.Truncate(c.offset)
		case c.call == "write":
			_, err = f.WriteAt(c.data, c.offset)
		case c.call == "punch":
			err = f.Punch(c.offset, int64(len(c.data)))
		}
		return err
	}
	return nil
}

// losePower leaves changes out of a log that the file system might not have made yet: any writes since the file's last sync.
func losePower(log []change, r *rand.Rand) []change {
	synced := map[string]int{}
	for i, c := range log {
		if c.call == "sync" {
			synced[c.path] = i
		}
	}
	var kept []change
	for i, c := range log {
		unsure := c.call == "write" || c.call == "punch" || c.call == "truncate"
		if unsure && i > synced[c.path] && r.IntN(2) == 0 {
			continue
		}
		kept = append(kept, c)
	}
	return kept
}
