package hardware

// Rows is the symbolic number of rows of a tensor: everything else is fixed at load.
type Rows uint8

// The two row counts of a step.
const (
	Tokens  Rows = iota // one row per token of the batch
	Outputs             // one row per token whose logits were asked for
)

// String returns the name of the row count.
func (r Rows) String() string { return [...]string{"tokens", "outputs"}[r] }

// Tensor is a view [rows, heads, dim] of float32 rows that live for one step. It holds no memory and is freely copied.
//
//	row r of the base tensor: |....off....|--dim--|.......|--dim--|.......|
//	                                      |<----stride--->|  heads times
type Tensor struct {
	id                      int32 // base tensor + 1; 0 is no tensor, -1 a view that does not fit its base
	rows                    Rows
	off, heads, stride, dim int32
}

// Valid reports whether the view names a tensor and fits it.
func (t Tensor) Valid() bool { return t.id > 0 }

// Base is the index of the tensor that the view looks at.
func (t Tensor) Base() int { return int(t.id) - 1 }

// Rows returns which row count the tensor has.
func (t Tensor) Rows() Rows { return t.rows }

// Offset is the first element of the view in a row of the base tensor.
func (t Tensor) Offset() int { return int(t.off) }

// NumHeads is the number of heads in a row.
func (t Tensor) NumHeads() int { return int(t.heads) }

// Stride is the distance between the heads of a row, in elements.
func (t Tensor) Stride() int { return int(t.stride) }

// Dim is the number of elements of one head.
func (t Tensor) Dim() int { return int(t.dim) }

// Size is the number of elements of a row of the view.
func (t Tensor) Size() int { return int(t.heads) * int(t.dim) }

// Flat reports whether the view's elements are contiguous in each row.
func (t Tensor) Flat() bool { return t.heads == 1 || t.stride == t.dim }

// Cols returns columns [lo, lo+n) of the row, as one head. The view must be contiguous.
func (t Tensor) Cols(lo, n int) Tensor {
	if !t.Valid() || !t.Flat() || lo < 0 || n <= 0 || lo+n > t.Size() {
		return invalidTensor
	}
	return Tensor{t.id, t.rows, t.off + int32(lo), 1, int32(n), int32(n)}
}

// Heads returns the row as h heads of equal size. The view must be contiguous.
func (t Tensor) Heads(h int) Tensor {
	if !t.Valid() || !t.Flat() || h <= 0 || t.Size()%h != 0 {
		return invalidTensor
	}
	dim := int32(t.Size() / h)
	return Tensor{t.id, t.rows, t.off, int32(h), dim, dim}
}

// HeadCols returns columns [lo, lo+n) of every head.
func (t Tensor) HeadCols(lo, n int) Tensor {
	if !t.Valid() || lo < 0 || n <= 0 || lo+n > t.Dim() {
		return invalidTensor
	}
	return Tensor{t.id, t.rows, t.off + int32(lo), t.heads, t.stride, int32(n)}
}

var invalidTensor = Tensor{id: -1}

// Temp declares a tensor [rows, heads, dim] of the current section. Its contents are undefined until written.
func (p *Program) Temp(rows Rows, heads, dim int) Tensor {
	if heads <= 0 || dim <= 0 {
		p.fail("tensor of %d heads of %d", heads, dim)
		return invalidTensor
	}
	p.tensors = append(p.tensors, tensorInfo{rows: rows, cols: heads * dim, section: Section(len(p.sections) - 1)})
	return Tensor{int32(len(p.tensors)), rows, 0, int32(heads), int32(dim), int32(dim)}
}

// NumTensors returns how many base tensors were declared.
func (p *Program) NumTensors() int { return len(p.tensors) }

// TensorCols returns the row count and the number of columns of a base tensor.
func (p *Program) TensorCols(base int) (Rows, int) {
	return p.tensors[base].rows, p.tensors[base].cols
}

// ok records a mistake and returns false when one of the operands is not a tensor of this program.
func (p *Program) ok(op string, operands ...Tensor) bool {
	for i, t := range operands {
		if !t.Valid() || t.Base() >= len(p.tensors) {
			p.fail("%s: operand %d is a view that does not fit its tensor", op, i)
			return false
		}
	}
	return true
}
