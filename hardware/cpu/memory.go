package cpu

import (
	"fmt"
	"unsafe"

	"hearth/hardware"
)

// align is the alignment of everything that kernels read in vectors: a cache line.
const align = 64

// region is one allocation of a queue. Regions are cut from large pages where the system has them: with pages of
// 4 KiB, a tenth to a fifth of the memory bandwidth goes to looking them up.
type region struct {
	mem     []byte
	release func()
}

// mappedBytes is the size from which a region has a mapping of its own, outside Go's heap. There, a collection would
// wait until as much again was allocated as the weights take, and closing a model would return nothing at once.
const mappedBytes = 2 << 20

// newRegion allocates zeroed bytes, aligned.
func newRegion(size int) (region, error) {
	if size < mappedBytes {
		return region{mem: heapAllocate(size), release: func() {}}, nil
	}
	mem, release, err := mapMemory(size)
	if err != nil {
		return region{}, fmt.Errorf("%w: cpu: %d bytes: %w", hardware.ErrOutOfMemory, size, err)
	}
	return region{mem, release}, nil
}

// heapAllocate takes aligned bytes from Go's heap, nil for none.
func heapAllocate(size int) []byte {
	if size == 0 {
		return nil
	}
	mem := make([]byte, size+align)
	skip := int(-uintptr(unsafe.Pointer(&mem[0])) % align)
	return mem[skip : skip+size : skip+size]
}

// carver hands out consecutive aligned pieces of a region. Before the region exists, it only adds up their sizes.
type carver struct {
	mem  []byte // nil while measuring
	used int
}

// bytes returns the next n bytes, nil while measuring.
func (c *carver) bytes(n int) []byte {
	at := c.used
	c.used += roundUp(n, align)
	if c.mem == nil {
		return nil
	}
	return c.mem[at : at+n : at+n]
}

// carve returns the next n elements of a type without pointers, nil while measuring.
func carve[T any](c *carver, n int) []T {
	var element T
	b := c.bytes(n * int(unsafe.Sizeof(element)))
	if len(b) == 0 {
		return nil
	}
	return unsafe.Slice((*T)(unsafe.Pointer(&b[0])), n)
}

// The sizes of a program are products of numbers from a file; memoryLimit keeps their sums far from overflow.
const memoryLimit = 1 << 56

// product multiplies sizes and stays at memoryLimit when that is exceeded.
func product(sizes ...int) int64 {
	n := int64(1)
	for _, s := range sizes {
		if s == 0 {
			return 0
		}
		if n > memoryLimit/int64(s) {
			return memoryLimit
		}
		n *= int64(s)
	}
	return n
}

// floatBytes looks at float32 as bytes, in the machine's order.
func floatBytes(x []float32) []byte {
	if len(x) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&x[0])), 4*len(x))
}
