package disk

import (
	"io"
	"io/fs"
	"os"
)

// fileSystem is what the store asks of the operating system, so that tests can let any of it fail.
type fileSystem interface {
	Open(name string, flag int) (file, error) // new files are the owner's alone
	Lock(name string) (file, error)           // fails when another process has locked it
	Mkdir(name string) error                  // no error when it is there
	ReadDir(name string) ([]string, error)    // names, sorted
	Link(from, to string) error
	Remove(name string) error
	// Same reports whether name is still the file's name.
	Same(f file, name string) bool
	// SyncDir makes durable which files a folder has.
	SyncDir(name string) error
}

// file is an open file.
type file interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Stat() (fs.FileInfo, error)
	Truncate(size int64) error
	Sync() error
	// Punch gives the space of a range back, which reads as zeros then; errors.ErrUnsupported where the system cannot.
	Punch(offset, n int64) error
	// Advise tells that a range will be read soon.
	Advise(offset, n int64)
	// Allocated is the space that the file takes on the disk, as far as that is known.
	Allocated() (int64, error)
}

type osFiles struct{}

type osFile struct{ *os.File }

func (osFiles) Open(name string, flag int) (file, error) {
	f, err := os.OpenFile(name, flag, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFiles) Lock(name string) (file, error) {
	f, err := lockNamed(name)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

// Lock makes a file where there is none and locks it, as a store does with that of its folder, until it is closed or the
// process ends. It fails at once when another process has locked it, or this one. Systems without such locks lock nothing.
func Lock(name string) (io.Closer, error) {
	f, err := lockNamed(name)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func lockNamed(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := lockFile(f); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (osFiles) Mkdir(name string) error {
	if err := os.Mkdir(name, 0o700); err != nil && !os.IsExist(err) {
		return err
	}
	return nil
}

func (osFiles) ReadDir(name string) ([]string, error) {
	entries, err := os.ReadDir(name)
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, err
}

func (osFiles) Link(from, to string) error { return os.Link(from, to) }
func (osFiles) Remove(name string) error   { return os.Remove(name) }

func (osFiles) Same(f file, name string) bool {
	open, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(name)
	return err == nil && os.SameFile(open, named)
}

func (osFiles) SyncDir(name string) error { return syncDir(name) }

func (f osFile) Allocated() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return allocated(info), nil
}

func (f osFile) Advise(offset, n int64)      { advise(f.File, offset, n) }
func (f osFile) Punch(offset, n int64) error { return punch(f.File, offset, n) }
