package disk

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// memoryFiles is a file system in memory, where folders need not be made.
type memoryFiles struct {
	mu     sync.Mutex
	files  map[string]*memory
	locked map[string]*memory
	opened int // files that are not closed
}

func newMemoryFiles() *memoryFiles {
	return &memoryFiles{files: map[string]*memory{}, locked: map[string]*memory{}}
}

// memory is a file's bytes; mu of the file system guards them.
type memory struct{ data []byte }

type memoryFile struct {
	*memory
	system *memoryFiles
	unlock string
}

func (m *memoryFiles) Open(name string, flag int) (file, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.files[name]
	switch {
	case f == nil && flag&syscall.O_CREAT == 0:
		return nil, fs.ErrNotExist
	case f == nil:
		f = &memory{}
		m.files[name] = f
	case flag&syscall.O_EXCL != 0:
		return nil, fs.ErrExist
	case flag&syscall.O_TRUNC != 0:
		f.data = nil
	}
	m.opened++
	return &memoryFile{f, m, ""}, nil
}

func (m *memoryFiles) Lock(name string) (file, error) {
	f, err := m.Open(name, syscall.O_CREAT)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.locked[name] == m.files[name] {
		m.opened--
		return nil, errors.New("locked")
	}
	m.locked[name] = m.files[name]
	f.(*memoryFile).unlock = name
	return f, nil
}

func (m *memoryFiles) Mkdir(string) error { return nil }

func (m *memoryFiles) ReadDir(name string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var names []string
	for path := range m.files {
		if base, ok := strings.CutPrefix(path, name+string(filepath.Separator)); ok {
			names = append(names, base)
		}
	}
	slices.Sort(names)
	return names, nil
}

func (m *memoryFiles) Link(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.files[to] != nil {
		return fs.ErrExist
	}
	m.files[to] = m.files[from]
	return nil
}

func (m *memoryFiles) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.files[name] == nil {
		return fs.ErrNotExist
	}
	delete(m.files, name)
	return nil
}

func (m *memoryFiles) Same(f file, name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.files[name] == f.(*memoryFile).memory
}

func (m *memoryFiles) SyncDir(string) error { return nil }

// write makes a file with the bytes.
func (m *memoryFiles) write(name string, data []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.files[name] = &memory{bytes.Clone(data)}
}

// read returns a file's bytes, nil when there is none.
func (m *memoryFiles) read(name string) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.files[name] == nil {
		return nil
	}
	return bytes.Clone(m.files[name].data)
}

// removeAll removes the files whose names match.
func (m *memoryFiles) removeAll(pattern string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name := range m.files {
		if ok, err := filepath.Match(pattern, name); ok || err != nil {
			delete(m.files, name)
		}
	}
}

func (f *memoryFile) ReadAt(b []byte, offset int64) (int, error) {
	f.system.mu.Lock()
	defer f.system.mu.Unlock()
	if offset >= int64(len(f.data)) {
		return 0, io.EOF
	}
	n := copy(b, f.data[offset:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memoryFile) WriteAt(b []byte, offset int64) (int, error) {
	f.system.mu.Lock()
	defer f.system.mu.Unlock()
	f.grow(offset + int64(len(b)))
	return copy(f.data[offset:], b), nil
}

func (f *memoryFile) grow(size int64) {
	if n := size - int64(len(f.data)); n > 0 {
		f.data = append(f.data, make([]byte, n)...)
	}
}

func (f *memoryFile) Truncate(size int64) error {
	f.system.mu.Lock()
	defer f.system.mu.Unlock()
	f.grow(size)
	f.data = f.data[:size]
	return nil
}

func (f *memoryFile) Punch(offset, n int64) error {
	f.system.mu.Lock()
	defer f.system.mu.Unlock()
	if end := min(offset+n, int64(len(f.data))); offset < end {
		clear(f.data[offset:end])
	}
	return nil
}

// Allocated counts the blocks that are not zero.
func (f *memoryFile) Advise(int64, int64) {}

func (f *memoryFile) Allocated() (n int64, err error) {
	f.system.mu.Lock()
	defer f.system.mu.Unlock()
	for block := range slices.Chunk(f.data, holeBytes) {
		if slices.ContainsFunc(block, func(b byte) bool { return b != 0 }) {
			n += holeBytes
		}
	}
	return n, nil
}

func (f *memoryFile) Sync() error { return nil }

func (f *memoryFile) Close() error {
	f.system.mu.Lock()
	defer f.system.mu.Unlock()
	f.system.opened--
	if f.unlock != "" && f.system.locked[f.unlock] == f.memory {
		delete(f.system.locked, f.unlock)
	}
	return nil
}

func (f *memoryFile) Stat() (fs.FileInfo, error) {
	f.system.mu.Lock()
	defer f.system.mu.Unlock()
	return memoryInfo(len(f.data)), nil
}

type memoryInfo int64

func (i memoryInfo) Name() string       { return "" }
func (i memoryInfo) Size() int64        { return int64(i) }
func (i memoryInfo) Mode() fs.FileMode  { return 0o600 }
func (i memoryInfo) ModTime() time.Time { return time.Time{} }
func (i memoryInfo) IsDir() bool        { return false }
func (i memoryInfo) Sys() any           { return nil }
