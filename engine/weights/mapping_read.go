//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly || windows)

package weights

import (
	"io"
	"os"
)

// mapFile reads a file whole, on systems where it is not mapped.
func mapFile(f *os.File, size int) (*mapping, error) {
	data := make([]byte, size)
	if _, err := io.ReadFull(f, data); err != nil {
		return nil, err
	}
	return &mapping{data: data, unmap: func() error { return nil }}, nil
}
