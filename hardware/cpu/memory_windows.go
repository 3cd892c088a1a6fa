//go:build !race

package cpu

import (
	"unsafe"

	"golang.org/x/sys/windows"
)

// mapMemory maps zeroed memory.
func mapMemory(size int) (mem []byte, release func(), err error) {
	address, err := windows.VirtualAlloc(0, uintptr(size), windows.MEM_RESERVE|windows.MEM_COMMIT, windows.PAGE_READWRITE)
	if err != nil {
		return nil, nil, err
	}
	// The address is none of Go's memory: read as a pointer in place, since arithmetic on it would be suspect.
	mem = unsafe.Slice((*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&address))), size)
	return mem, func() { _ = windows.VirtualFree(address, 0, windows.MEM_RELEASE) }, nil
}
