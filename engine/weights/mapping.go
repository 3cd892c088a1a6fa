package weights

import (
	"fmt"
	"io"
	"os"
	"unsafe"
)

// mapping is a file's bytes, mapped into memory where the system can, and read otherwise. The file must not shrink while
// it is mapped: reading past its new end is a fault that no check can catch.
type mapping struct {
	path  string
	data  []byte
	unmap func() error
	evict func(pages []byte) // takes pages out of the process's memory, but not of the mapping; nil where nothing can
}

// openMapping maps a regular file. Devices, pipes and the like are refused before they are opened: reading them may
// never end.
func openMapping(path string) (*mapping, error) {
	f, size, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // the mapping outlives it
	if size == 0 {
		return &mapping{path: path, unmap: func() error { return nil }}, nil
	}
	m, err := mapFile(f, size)
	if err != nil {
		return nil, err
	}
	m.path = path
	return m, nil
}

// windowBytes is how much of a file around it a system maps, aligned, when a page is read for the first time (Linux:
// fault_around_bytes). It is a multiple of every page size.
const windowBytes = 64 << 10

// releaseBytes takes the windows of bytes that were read out of memory, if they are the mapping's. Those at both ends are
// taken too: whoever still reads the bytes beside fetches them again, and the last one to finish leaves nothing behind.
func (m *mapping) releaseBytes(read []byte) {
	if m.evict == nil || len(m.data) == 0 || len(read) == 0 {
		return
	}
	start := int(uintptr(unsafe.Pointer(&read[0])) - uintptr(unsafe.Pointer(&m.data[0]))) // negative before the mapping
	if start < 0 || start > len(m.data)-len(read) {
		return
	}
	end := min((start+len(read)+windowBytes-1)&^(windowBytes-1), len(m.data))
	m.evict(m.data[start&^(windowBytes-1) : end])
}

// contains reports whether an address lies in the mapping.
func (m *mapping) contains(address uintptr) bool {
	return len(m.data) > 0 && address-uintptr(unsafe.Pointer(&m.data[0])) < uintptr(len(m.data)) // wraps around before it
}

func (m *mapping) close() error {
	m.data = nil
	return m.unmap()
}

// openRegular opens a regular file and returns its size.
func openRegular(path string) (*os.File, int, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%w: %s is not a regular file", ErrUnsupported, path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	if info, err = f.Stat(); err == nil && !info.Mode().IsRegular() { // it was replaced in between
		err = fmt.Errorf("%w: %s is not a regular file", ErrUnsupported, path)
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, int(info.Size()), nil
}

// maxJSONBytes bounds the configuration files, which are read whole. The largest known are tokenizer configurations of
// about a megabyte.
const maxJSONBytes = 64 << 20

// readFile reads a regular file of at most maxJSONBytes.
func readFile(path string) ([]byte, error) {
	f, size, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if size > maxJSONBytes {
		return nil, fmt.Errorf("%w: %s has %d bytes, the most is %d", ErrCorrupt, path, size, maxJSONBytes)
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(f, data); err != nil {
		return nil, err
	}
	return data, nil
}
