package cpu

import "hearth/hardware"

// tensor is the memory of a base tensor of a program.
type tensor struct {
	rows    hardware.Rows
	cols    int
	stride  int  // elements from row to row, cols rounded up to whole cache lines
	section int  // that uses it; -1 before the first use
	carried bool // it survives steps, outside the arena
	// first and last are the groups of operations between which the tensor holds something.
	first, last int
	offset      int       // in the arena, in bytes
	mem         []float32 // [limit of rows][stride]
}

// bytes is the size of the tensor.
func (t *tensor) bytes(l *hardware.Limits) int { return 4 * t.stride * maxRows(t.rows, l) }

// maxRows is the limit of a row count.
func maxRows(rows hardware.Rows, l *hardware.Limits) int {
	if rows == hardware.Outputs {
		return l.Outputs
	}
	return l.Tokens
}

// view is a hardware.Tensor with its memory.
type view struct {
	t          *tensor
	off        int
	heads      int
	headStride int
	dim        int
}

// size is the number of elements of a row of the view.
func (v *view) size() int { return v.heads * v.dim }

// row returns the view's part of a row: all elements of a flat view.
func (v *view) row(r int) []float32 {
	at := r*v.t.stride + v.off
	return v.t.mem[at : at+(v.heads-1)*v.headStride+v.dim]
}

// from returns a flat view's elements from a row on, for kernels that go from row to row by the tensor's stride.
func (v *view) from(r int) []float32 { return v.t.mem[r*v.t.stride+v.off:] }

// element returns an element of a row, counted head after head.
func (v *view) element(r, i int) float32 { return v.head(r, i/v.dim)[i%v.dim] }

// headView returns head h of the rows.
func (v *view) headView(h int) view {
	return view{t: v.t, off: v.off + h*v.headStride, heads: 1, headStride: v.dim, dim: v.dim}
}

// head returns head h of a row.
func (v *view) head(r, h int) []float32 {
	at := r*v.t.stride + v.off + h*v.headStride
	return v.t.mem[at : at+v.dim]
}
