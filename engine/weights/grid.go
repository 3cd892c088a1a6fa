package weights

import (
	"encoding/binary"
	"math"

	"hearth/hardware/quant"
)

// encoding is how the elements of a tensor lie in its bytes.
type encoding struct {
	typ                  uint32        // GGUF tensor type, or NoType
	format               *quant.Format // nil for types that are known by name alone
	dtype                string        // of safetensors, for types without format or GGUF type
	blockLen, blockBytes int
}

// encodingOf returns the encoding of a format.
func encodingOf(f *quant.Format) encoding {
	return encoding{f.ID, f, f.Name, f.BlockLen, f.BlockBytes}
}

// grid is a matrix of a checkpoint in an encoding that models are made of, whatever the form in which the file keeps it. It
// holds no elements: they are made when they are asked for, from bytes of mapped files.
type grid struct {
	encoding
	rows, cols int
	stored     []byte                            // the rows, when the file has them in this encoding
	write      func(dst []byte, first, last int) // otherwise: writes rows [first, last)
	from       [][]byte                          // what write reads
	scaleRows  int                               // of F8_E4M3: row r has the scales of row r/scaleRows*scaleRows; 0 is not known
}

func storedGrid(e encoding, rows, cols int, data []byte) grid {
	return grid{encoding: e, rows: rows, cols: cols, stored: data, from: [][]byte{data}}
}

// rowBytes is the size of a row.
func (g *grid) rowBytes() int { return g.cols / g.blockLen * g.blockBytes }

// put writes rows [first, last) to dst.
func (g *grid) put(dst []byte, first, last int) {
	if g.stored != nil {
		n := g.rowBytes()
		copy(dst, g.stored[first*n:last*n])
		return
	}
	g.write(dst, first, last)
}

// derived returns a grid of another encoding or size whose rows come from this one's bytes.
func (g *grid) derived(e encoding, rows, cols int, write func(dst []byte, first, last int)) grid {
	return grid{encoding: e, rows: rows, cols: cols, write: write, from: g.from}
}

// slice returns n rows from the first on.
func (g grid) slice(first, n int) grid {
	if g.stored != nil {
		size := g.rowBytes()
		return storedGrid(g.encoding, n, g.cols, g.stored[first*size:(first+n)*size:(first+n)*size])
	}
	s := g.derived(g.encoding, n, g.cols, func(dst []byte, from, to int) { g.write(dst, first+from, first+to) })
	if g.scaleRows > 0 && first%g.scaleRows == 0 {
		s.scaleRows = g.scaleRows
	}
	return s
}

// gather returns n rows, of which row i is this grid's row from(i).
func (g grid) gather(n int, from func(row int) int) grid {
	size := g.rowBytes()
	return g.derived(g.encoding, n, g.cols, func(dst []byte, first, last int) {
		for row := first; row < last; row++ {
			at := from(row)
			g.put(dst[(row-first)*size:][:size], at, at+1)
		}
	})
}

// gatherCols returns the columns in another order: chunk i of a row, of so many elements, is this grid's chunk from(i).
// Blocks that are longer than a chunk are taken apart, into F32.
func (g grid) gatherCols(chunk int, from func(i int) int) grid {
	if chunk%g.blockLen != 0 {
		return g.floats().gatherCols(chunk, from)
	}
	size, chunkBytes := g.rowBytes(), chunk/g.blockLen*g.blockBytes
	return g.derived(g.encoding, g.rows, g.cols, func(dst []byte, first, last int) {
		row := make([]byte, size)
		for r := first; r < last; r++ {
			g.put(row, r, r+1)
			to := dst[(r-first)*size:][:size]
			for i := range size / chunkBytes {
				copy(to[i*chunkBytes:][:chunkBytes], row[from(i)*chunkBytes:])
			}
		}
	})
}

// beside returns rows that are this grid's followed by another's of as many rows.
func (g grid) beside(h grid) grid {
	if g.encoding != h.encoding {
		return g.floats().beside(h.floats())
	}
	left, right := g.rowBytes(), h.rowBytes()
	both := g.derived(g.encoding, g.rows, g.cols+h.cols, func(dst []byte, first, last int) {
		for row := first; row < last; row++ {
			to := dst[(row-first)*(left+right):]
			g.put(to[:left], row, row+1)
			h.put(to[left:][:right], row, row+1)
		}
	})
	both.from = append(append([][]byte{}, g.from...), h.from...)
	return both
}

// transposed returns the columns as rows. Blocks of FP8 stay such where squares of them share a scale, others become
// F32.
func (g grid) transposed() grid {
	const square = 128 // F8_E4M3's block
	switch {
	case g.format == quant.F8_E4M3 && g.scaleRows%square == 0 && g.scaleRows > 0 && g.rows%square == 0:
		return g.transposedFP8()
	case g.blockLen != 1:
		return g.floats().transposed()
	}
	size, element := g.rowBytes(), g.blockBytes
	return g.derived(g.encoding, g.cols, g.rows, func(dst []byte, first, last int) {
		row, line := make([]byte, size), g.rows*element
		for r := range g.rows {
			g.put(row, r, r+1)
			for c := first; c < last; c++ {
				copy(dst[(c-first)*line+r*element:][:element], row[c*element:])
			}
		}
	})
}

// transposedFP8 is transposed for squares of 128 by 128 elements with one scale.
func (g grid) transposedFP8() grid {
	block, blockBytes := g.blockLen, g.blockBytes
	scaleBytes := blockBytes - block
	size, line := g.rowBytes(), g.rows/block*blockBytes
	return g.derived(g.encoding, g.cols, g.rows, func(dst []byte, first, last int) {
		row := make([]byte, size)
		for r := range g.rows {
			g.put(row, r, r+1)
			at := r / block * blockBytes
			for c := first; c < last; c++ {
				from, to := row[c/block*blockBytes:], dst[(c-first)*line+at:]
				if r%block == 0 {
					copy(to[:scaleBytes], from)
				}
				to[scaleBytes+r%block] = from[scaleBytes+c%block]
			}
		}
	})
}

// floats returns the elements as F32.
func (g grid) floats() grid {
	return g.each(func(x float32) float32 { return x })
}

// each returns a function of the elements, as F32.
func (g grid) each(f func(x float32) float32) grid {
	size, cols := g.rowBytes(), g.cols
	return g.derived(encodingOf(quant.F32), g.rows, cols, func(dst []byte, first, last int) {
		row, values := make([]byte, size), make([]float32, cols)
		for r := first; r < last; r++ {
			g.put(row, r, r+1)
			g.format.Dequantize(values, row)
			for i, x := range values {
				binary.LittleEndian.PutUint32(dst[4*((r-first)*cols+i):], math.Float32bits(f(x)))
			}
		}
	})
}

// narrowed returns integers of 8 bytes as those of 4. Those that do not fit become -1, which no table of experts may have.
func (g grid) narrowed() grid {
	e := encoding{typ: dataTypes["I32"].id, dtype: "I32", blockLen: 1, blockBytes: 4}
	return g.derived(e, g.rows, g.cols, func(dst []byte, first, last int) {
		for i := range (last - first) * g.cols {
			v := int64(binary.LittleEndian.Uint64(g.stored[8*(first*g.cols+i):]))
			if v != int64(int32(v)) {
				v = -1
			}
			binary.LittleEndian.PutUint32(dst[4*i:], uint32(v))
		}
	})
}
