//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package weights

import (
	"os"

	"golang.org/x/sys/unix"
)

// mapFile maps a file read-only. Its pages come and go with the page cache, so a model may be larger than memory.
func mapFile(f *os.File, size int) (*mapping, error) {
	data, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, &os.PathError{Op: "mmap", Path: f.Name(), Err: err}
	}
	return &mapping{
		data:  data,
		unmap: func() error { return unix.Munmap(data) },
		// The pages stay in the system's cache; a system that refuses keeps them in the process a while longer.
		evict: func(pages []byte) { _ = unix.Madvise(pages, unix.MADV_DONTNEED) },
	}, nil
}
