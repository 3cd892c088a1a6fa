//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package weights

import (
	"os"
	"syscall"
)

// mapFile maps a file read-only. Its pages come and go with the page cache, so a model may be larger than memory.
func mapFile(f *os.File, size int) (*mapping, error) {
	data, err := syscall.Mmap(int(f.Fd()), 0, size, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return nil, &os.PathError{Op: "mmap", Path: f.Name(), Err: err}
	}
	return &mapping{data: data, unmap: func() error { return syscall.Munmap(data) }}, nil
}
