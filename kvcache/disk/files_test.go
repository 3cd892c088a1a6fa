package disk

import (
	"errors"
	"io"
	"sync"
)

// testFiles is the file system with what tests need: calls that fail, and a disk that cannot punch holes.
type testFiles struct {
	osFiles
	noPunch bool

	mu   sync.Mutex
	fail func(call, path string) error // nil: nothing fails
	// short lets a failing WriteAt write half of its bytes.
	short bool
}

// set says what fails from now on.
func (t *testFiles) set(fail func(call, path string) error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fail = fail
}

func (t *testFiles) err(call, path string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fail == nil {
		return nil
	}
	return t.fail(call, path)
}

func (t *testFiles) Open(name string, flag int) (file, error) {
	if err := t.err("open", name); err != nil {
		return nil, err
	}
	f, err := t.osFiles.Open(name, flag)
	if err != nil {
		return nil, err
	}
	return testFile{f.(osFile), t, name}, nil
}

func (t *testFiles) Lock(name string) (io.Closer, error) {
	if err := t.err("lock", name); err != nil {
		return nil, err
	}
	return t.osFiles.Lock(name)
}

func (t *testFiles) Mkdir(name string) error {
	if err := t.err("mkdir", name); err != nil {
		return err
	}
	return t.osFiles.Mkdir(name)
}

func (t *testFiles) ReadDir(name string) ([]string, error) {
	if err := t.err("readdir", name); err != nil {
		return nil, err
	}
	return t.osFiles.ReadDir(name)
}

func (t *testFiles) Link(from, to string) error {
	if err := t.err("link", to); err != nil {
		return err
	}
	return t.osFiles.Link(from, to)
}

func (t *testFiles) Remove(name string) error {
	if err := t.err("remove", name); err != nil {
		return err
	}
	return t.osFiles.Remove(name)
}

func (t *testFiles) Same(f file, name string) bool { return t.osFiles.Same(f.(testFile).osFile, name) }

func (t *testFiles) SyncDir(name string) error {
	if err := t.err("syncdir", name); err != nil {
		return err
	}
	return nil
}

type testFile struct {
	osFile
	files *testFiles
	name  string
}

func (f testFile) ReadAt(b []byte, offset int64) (int, error) {
	if err := f.files.err("read", f.name); err != nil {
		return 0, err
	}
	return f.osFile.ReadAt(b, offset)
}

func (f testFile) WriteAt(b []byte, offset int64) (int, error) {
	if err := f.files.err("write", f.name); err != nil {
		n := 0
		if f.files.short {
			n, _ = f.osFile.WriteAt(b[:len(b)/2], offset)
		}
		return n, err
	}
	return f.osFile.WriteAt(b, offset)
}

func (f testFile) Truncate(size int64) error {
	if err := f.files.err("truncate", f.name); err != nil {
		return err
	}
	return f.osFile.Truncate(size)
}

func (f testFile) Sync() error {
	if err := f.files.err("sync", f.name); err != nil {
		return err
	}
	return nil // a process that ends does not need it, and it is slow
}

func (f testFile) Punch(offset, n int64) error {
	if f.files.noPunch {
		return errors.ErrUnsupported
	}
	if err := f.files.err("punch", f.name); err != nil {
		return err
	}
	return f.osFile.Punch(offset, n)
}
