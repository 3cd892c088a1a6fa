//go:build (darwin || freebsd || netbsd || openbsd || dragonfly) && !race

package cpu

import "golang.org/x/sys/unix"

// mapMemory maps zeroed memory.
func mapMemory(size int) (mem []byte, release func(), err error) {
	mapped, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, nil, err
	}
	return mapped, func() { _ = unix.Munmap(mapped) }, nil
}
