// Package quant knows the formats in which weights and cache rows are stored: how many elements make a block, how many
// bytes it takes, and how it is read and written.
//
// A format cuts a row into blocks of BlockLen consecutive elements; a block never crosses a row. Its bytes are those of
// GGUF files where these have the format, little-endian, and each format's file draws them. The dequantizers here are the specification for every
// kernel: a device's own reading of a block gives the same bits.
//
// All functions are safe for concurrent use, allocate nothing and keep no state.
package quant

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Format is one way to store a row of numbers. Formats are compared by pointer: there is one value for each.
type Format struct {
	Name       string // "Q8_0"
	ID         uint32 // tensor type in GGUF files, or NoID
	BlockLen   int    // elements of a block
	BlockBytes int    // bytes of a block

	// MaxError bounds the root mean square error of a round trip of normally distributed elements of variance 1.
	// It is 0 for formats that cannot quantize and for those that keep every bit.
	MaxError float64

	// Both work on whole blocks, and trust their caller on the lengths.
	dequantize func(dst []float32, src []byte)
	quantize   func(dst []byte, src, importance []float32) // nil: reading only
}

// NoID is the ID of the formats that GGUF files have no type for: blocks in which other files' weights are presented.
const NoID = ^uint32(0)

// formats holds what the formats' files register, in no particular order.
var formats = map[string]*Format{}

// register enters a format into the registry, and returns it.
func register(f *Format) *Format {
	if formats[f.Name] != nil {
		panic(fmt.Sprintf("quant: format %s registered twice", f))
	}
	if t, known := tensorTypes[f.ID]; f.ID != NoID && (!known || t != (tensorType{f.Name, f.BlockLen, f.BlockBytes})) {
		panic(fmt.Sprintf("quant: type %d is %v in the list of types and %v in its file", f.ID, t, f))
	}
	formats[f.Name] = f
	return f
}

// ByName returns the format of a name, in any case: "q8_0".
func ByName(name string) (*Format, bool) {
	for _, f := range formats {
		if strings.EqualFold(f.Name, name) {
			return f, true
		}
	}
	return nil, false
}

// ByID returns the format of a tensor type of GGUF files. Types that are known only by name and size, such as I32, have
// none; see TypeName and TypeSize.
func ByID(id uint32) (*Format, bool) {
	f, ok := formats[tensorTypes[id].name]
	return f, ok && f.ID == id
}

// All returns every format, ordered by tensor type; those that GGUF files lack come last, by name.
func All() []*Format {
	return slices.SortedFunc(maps.Values(formats), func(a, b *Format) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Name, b.Name))
	})
}

// String returns the format's name.
func (f *Format) String() string { return f.Name }

// RowBytes returns the bytes of a row of n elements, and whether they are whole blocks. A negative row is not.
func (f *Format) RowBytes(n int) (bytes int, whole bool) {
	if n < 0 {
		return 0, false
	}
	return n / f.BlockLen * f.BlockBytes, n%f.BlockLen == 0
}

// CanQuantize reports whether Quantize is there: some formats are only read.
func (f *Format) CanQuantize() bool { return f.quantize != nil }

// Dequantize reads len(dst) elements, whole blocks, from the start of src. It panics when src is too short. It does not
// modify src, which may not overlap dst.
func (f *Format) Dequantize(dst []float32, src []byte) {
	f.dequantize(dst, src[:f.needs("Dequantize", len(dst), len(src))])
}

// Quantize writes src, whole blocks, to the start of dst. It panics when dst is too short or the format is only read.
// It does not modify src, which may not overlap dst. A block with an element that is not finite reads back as not
// finite, so that a fault upstream stays visible; where a format cannot say so, its file states what it does.
func (f *Format) Quantize(dst []byte, src []float32) {
	if f.quantize == nil {
		panic(fmt.Sprintf("quant: Quantize: %s is only read", f))
	}
	f.quantize(dst[:f.needs("Quantize", len(src), len(dst))], src, nil)
}

// QuantizeWeighted is Quantize for one row of a matrix, when it is known how much each of its columns matters: errors
// of column i weigh importance[i], such as the mean square of the activations that it meets. It searches longer than
// Quantize, even where all columns matter alike, and in some formats it looks at the whole row. Formats without a
// search ignore the importance. It panics when there are not as many of them as elements.
func (f *Format) QuantizeWeighted(dst []byte, src, importance []float32) {
	if f.quantize == nil {
		panic(fmt.Sprintf("quant: QuantizeWeighted: %s is only read", f))
	}
	if len(importance) != len(src) {
		panic(fmt.Sprintf("quant: QuantizeWeighted: %d elements have the importance of %d", len(src), len(importance)))
	}
	f.quantize(dst[:f.needs("QuantizeWeighted", len(src), len(dst))], src, importance)
}

// needs returns the bytes of n elements, after checking that they are whole blocks and that there are so many bytes.
func (f *Format) needs(op string, n, have int) int {
	bytes, whole := f.RowBytes(n)
	if !whole {
		panic(fmt.Sprintf("quant: %s: %d elements are not whole blocks of %s's %d", op, n, f, f.BlockLen))
	}
	if have < bytes {
		panic(fmt.Sprintf("quant: %s: %d elements of %s need %d bytes, there are %d", op, n, f, bytes, have))
	}
	return bytes
}
