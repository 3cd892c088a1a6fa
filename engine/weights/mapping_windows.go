package weights

import (
	"os"
	"unsafe"

	"golang.org/x/sys/windows"
)

// mapFile maps a file read-only, as a view of it.
func mapFile(f *os.File, size int) (*mapping, error) {
	section, err := windows.CreateFileMapping(windows.Handle(f.Fd()), nil, windows.PAGE_READONLY, 0, 0, nil)
	if err != nil {
		return nil, &os.PathError{Op: "CreateFileMapping", Path: f.Name(), Err: err}
	}
	defer windows.CloseHandle(section) // the view keeps it
	address, err := windows.MapViewOfFile(section, windows.FILE_MAP_READ, 0, 0, uintptr(size))
	if err != nil {
		return nil, &os.PathError{Op: "MapViewOfFile", Path: f.Name(), Err: err}
	}
	// The address is none of Go's memory: read as a pointer in place, since arithmetic on it would be suspect.
	data := unsafe.Slice((*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&address))), size)
	return &mapping{
		data:  data,
		unmap: func() error { return windows.UnmapViewOfFile(address) },
		// Unlocking pages that nobody locked is an error by which the system takes them out of the working set.
		evict: func(pages []byte) { _ = windows.VirtualUnlock(uintptr(unsafe.Pointer(&pages[0])), uintptr(len(pages))) },
	}, nil
}
