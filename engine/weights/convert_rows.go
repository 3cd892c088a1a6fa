package weights

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math"
	"sync"
	"sync/atomic"

	"hearth/hardware/quant"
)

// RoundingError says how far the weights of a tensor moved.
type RoundingError struct {
	Elements int64
	Squares  float64 // sum of the squared weights
	Errors   float64 // sum of the squared errors
	Max      float64 // largest error
}

// RMSE is the root of the mean squared error.
func (e RoundingError) RMSE() float64 { return math.Sqrt(e.Errors / float64(max(e.Elements, 1))) }

// Relative is the root mean square of the errors over that of the weights.
func (e RoundingError) Relative() float64 {
	if e.Errors == 0 {
		return 0
	}
	return math.Sqrt(e.Errors / e.Squares)
}

// Add counts other weights with these.
func (e *RoundingError) Add(other RoundingError) {
	e.Elements += other.Elements
	e.Squares += other.Squares
	e.Errors += other.Errors
	e.Max = max(e.Max, other.Max)
}

// pieceElements is about how many elements are converted together: large enough that writing them is one good write, and
// small enough for a core's cache. Memory does not grow with the tensor.
const pieceElements = 1 << 16

// pieces is the number of parts that a tensor is converted in, and rows that of their rows. They do not depend on the
// number of workers, nor do the sums over them.
func (in *input) pieces() (n, rows int) {
	rows = max(1, pieceElements/max(in.columns, 1))
	return (in.rows + rows - 1) / rows, rows
}

// piece returns the rows of the part with a number.
func (in *input) piece(number int) (first, rows int) {
	_, perPiece := in.pieces()
	first = number * perPiece
	return first, min(perPiece, in.rows-first)
}

// piece is what is known of a part that was converted.
type piece struct {
	err      error
	moved    RoundingError
	sum      [sha256.Size]byte // of its bytes in the file
	source   int64             // bytes read
	recorded bool              // by an earlier run
}

// converter is a worker with its buffers.
type converter struct {
	out              *Converted
	in               *input
	values, readBack []float32
	data             []byte
	fetched          []byte // rows that the source makes
}

// convertTensor writes the i-th tensor to its place, all workers on it, but for the pieces that an earlier run had
// finished; kept reports whether these are all.
func (c *Conversion) convertTensor(ctx context.Context, i int, out *partial) (kept bool, err error) {
	in := c.inputs[i]
	if in.values == nil {
		t, err := c.src.Rows(in.tensor.Name)
		if err != nil {
			return false, err
		}
		t.Shape = in.tensor.Shape
		in.tensor = t
	}
	n, _ := in.pieces()
	pieces := make([]piece, n)
	if err := out.recorded(i, pieces); err != nil {
		return false, err
	}
	var next, written atomic.Int64
	var failed atomic.Bool
	var workers sync.WaitGroup
	for range min(c.options.Workers, n) {
		workers.Go(func() {
			w := converter{out: &c.tensors[i], in: &in}
			for ctx.Err() == nil && !failed.Load() {
				p := int(next.Add(1)) - 1
				if p >= n {
					return
				}
				if !c.keep(&w, i, p, &pieces[p], out) {
					written.Add(1)
					c.convertPiece(&w, i, p, &pieces[p], out)
				}
				if pieces[p].err != nil {
					failed.Store(true)
				}
				c.progress.add(pieces[p].source)
			}
		})
	}
	workers.Wait()
	if in.order != nil { // the rows of a piece lie apart
		in.order = nil
		c.release(&in, 0, in.rows)
	}
	var moved RoundingError
	for _, p := range pieces {
		if p.err != nil {
			return false, p.err
		}
		moved.Add(p.moved)
	}
	if err := ctx.Err(); err != nil {
		return false, err
	}
	c.tensors[i].Error = moved
	return n > 0 && written.Load() == 0, nil
}

// offsetWriter writes into a tensor's place.
type offsetWriter struct {
	out   io.WriterAt
	start int64
}

func (w offsetWriter) writeAt(data []byte, at int64) error {
	_, err := w.out.WriteAt(data, w.start+at)
	return err
}

// row returns the bytes of a row of the source.
func (in *input) row(row int) []byte {
	if in.order != nil {
		row = in.order(row)
	}
	parts := in.tensor.Parts()
	perPart := in.rows / len(parts)
	rowBytes := len(parts[0]) / perPart
	return parts[row/perPart][row%perPart*rowBytes:][:rowBytes:rowBytes]
}

// rowBytes is the size of a row of the source.
func (in *input) rowBytes() int { return int(in.tensor.Size()) / in.rows }

// fetch reads the rows of a piece, if the source makes them.
func (w *converter) fetch(first, rows int) error {
	in := w.in
	if in.tensor.Read == nil {
		return nil
	}
	rowBytes := in.rowBytes()
	w.fetched = grow(w.fetched, rows*rowBytes)
	perMatrix := in.rows
	if len(in.tensor.Shape) == 3 {
		perMatrix = in.tensor.Shape[1]
	}
	for i := 0; i < rows; {
		row, n := first+i, 1
		if in.order != nil {
			row = in.order(row)
		} else {
			n = min(rows-i, perMatrix-row%perMatrix)
		}
		if err := in.tensor.Read(w.fetched[i*rowBytes:(i+n)*rowBytes], row/perMatrix, row%perMatrix, row%perMatrix+n); err != nil {
			return err
		}
		i += n
	}
	return nil
}

// row returns the bytes of the i-th row of a piece, after fetch.
func (w *converter) row(first, i int) []byte {
	if w.in.tensor.Read == nil {
		return w.in.row(first + i)
	}
	rowBytes := w.in.rowBytes()
	return w.fetched[i*rowBytes:][:rowBytes]
}

// release gives back the memory of rows that were read, in the order of the source.
func (c *Conversion) release(in *input, first, rows int) {
	if in.values != nil || in.tensor.Read != nil { // which gives back what it read itself
		return
	}
	parts := in.tensor.Parts()
	perPart := in.rows / len(parts)
	for end := first + rows; first < end; {
		part, at := parts[first/perPart], first%perPart
		n := min(end-first, perPart-at)
		rowBytes := len(part) / perPart
		c.src.Release(part[at*rowBytes : (at+n)*rowBytes])
		first += n
	}
}

// convert writes rows of the tensor and measures what they lose.
func (w *converter) convert(first, rows int, out offsetWriter) (p piece) {
	if w.out.Copied() {
		return w.copyRows(first, rows, out)
	}
	elements := rows * w.in.columns
	if cap(w.values) < elements {
		w.values, w.readBack = make([]float32, elements), make([]float32, elements)
	}
	values := w.values[:elements]
	if p.err = w.fetch(first, rows); p.err != nil {
		return p
	}
	for i := range rows {
		data := w.row(first, i)
		w.in.tensor.Format.Dequantize(values[i*w.in.columns:][:w.in.columns], data)
		p.source += int64(len(data))
	}
	if at := firstInfinite(values); at >= 0 {
		p.err = fmt.Errorf("%w: the weight in row %d, column %d is not finite", ErrCorrupt, first+at/w.in.columns, at%w.in.columns)
		return p
	}
	rowBytes, _ := w.out.Format.RowBytes(w.in.columns)
	w.data = grow(w.data, rows*rowBytes)
	w.quantize(first, rows, values)
	readBack := w.readBack[:elements]
	w.out.Format.Dequantize(readBack, w.data)
	if at := firstInfinite(readBack); at >= 0 {
		p.err = fmt.Errorf("%w: the weight %v in row %d, column %d is out of the range of %s",
			ErrUnsupported, values[at], first+at/w.in.columns, at%w.in.columns, w.out.Format)
		return p
	}
	p.moved = roundingError(values, readBack)
	return w.write(p, int64(first)*int64(rowBytes), out)
}

// quantize encodes the rows, each with the importance of its columns where that is known.
func (w *converter) quantize(first, rows int, values []float32) {
	in, f := w.in, w.out.Format
	if in.importance == nil {
		f.Quantize(w.data, values)
		return
	}
	perExpert := in.rows / (len(in.importance) / in.columns)
	rowBytes, _ := f.RowBytes(in.columns)
	for i := range rows {
		importance := in.importance[(first+i)/perExpert*in.columns:][:in.columns]
		f.QuantizeWeighted(w.data[i*rowBytes:], values[i*in.columns:][:in.columns], importance)
	}
}

// copyRows writes rows that keep their type.
func (w *converter) copyRows(first, rows int, out offsetWriter) (p piece) {
	if w.in.values != nil {
		w.data = grow(w.data, 4*rows*w.in.columns)
		quant.F32.Quantize(w.data, w.in.values)
		p.source = int64(len(w.data))
		return w.write(p, 0, out)
	}
	if p.err = w.fetch(first, rows); p.err != nil {
		return p
	}
	w.data = w.data[:0]
	for i := range rows {
		w.data = append(w.data, w.row(first, i)...)
	}
	p.source = int64(len(w.data))
	p.moved.Elements = int64(rows) * int64(w.in.columns)
	return w.write(p, int64(first)*int64(len(w.data)/rows), out)
}

func (w *converter) write(p piece, at int64, out offsetWriter) piece {
	p.sum = sha256.Sum256(w.data)
	p.err = out.writeAt(w.data, at)
	return p
}

// grow returns a buffer of n bytes, the old one where it is large enough.
func grow(buffer []byte, n int) []byte {
	if cap(buffer) < n {
		return make([]byte, n)
	}
	return buffer[:n]
}

// firstInfinite returns the index of the first number that is not finite, -1 when all are.
func firstInfinite(values []float32) int {
	const exponent = 0x7f800000
	for i, v := range values {
		if math.Float32bits(v)&exponent == exponent {
			return i
		}
	}
	return -1
}

func roundingError(want, got []float32) (e RoundingError) {
	e.Elements = int64(len(want))
	for i, v := range want {
		x, d := float64(v), float64(got[i])-float64(v)
		e.Squares += x * x
		e.Errors += d * d
		e.Max = max(e.Max, math.Abs(d))
	}
	return e
}
