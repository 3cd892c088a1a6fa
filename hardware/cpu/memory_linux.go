//go:build linux && !race

package cpu

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

const hugePage = 2 << 20

// mapMemory maps zeroed memory, aligned to huge pages, and asks for them.
func mapMemory(size int) (mem []byte, release func(), err error) {
	mapped, err := unix.Mmap(-1, 0, roundUp(size, hugePage)+hugePage, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return nil, nil, err
	}
	skip := int(-uintptr(unsafe.Pointer(&mapped[0])) % hugePage)
	mem = mapped[skip : skip+size : skip+size]
	// A kernel without huge pages refuses; small pages are slower, not wrong.
	_ = unix.Madvise(mapped[skip:skip+roundUp(size, hugePage)], unix.MADV_HUGEPAGE)
	return mem, func() { _ = unix.Munmap(mapped) }, nil
}
