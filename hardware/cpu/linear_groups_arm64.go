//go:build !purego

package cpu

import (
	"hearth/hardware/quant"
)

// Processors of arm64 multiply signed with signed bytes: groups of four consecutive elements of a column with four of a
// row, or of eight with eight of two rows. A word is a group's worth of elements. With g elements in a group, panels have
// for each block of 32 elements of their columns:
//
//	scales  half [16 columns]                     bfloat16 of MXFP4, see linear_short.go
//	mins    half [16 columns]                     if there are minimums
//	q       int8 [32/g words][16 columns][g]      of Q8_0
//	units                                         of the other formats, see codeBits; signed codes of Q4_0
//
// and tiles, whose rows are even in number where they go in twos, the missing one zero:
//
//	q       int8 [blocks][32/g words][rows][g]
//	factors float32 [blocks][1 or 2][rows][g/4]   scale, and for minimums the scaled sum of q; of rows in twos each is
//	                                              there twice

// group is the number of elements that are multiplied and added by one instruction, 4 or 8.
type group int

// rows is the number of rows in a tile for n of them.
func (g group) rows(n int) int { return roundUp(n, int(g)/4) }

// at is the place of element e of a column in words of bytes.
func (g group) at(e, col int) int { return (e/int(g)*panelCols+col)*int(g) + e%int(g) }

// prepareKernel fills one row of a tile: q and scale are the row's in the first block, step is the distance of its words
// and of its factors.
type prepareKernel = func(scale, q *byte, x *float32, blocks, step int)

// tileForm is a kind of tile.
type tileForm struct {
	kernel   prepareKernel
	blockLen int
	extra    int // bytes of a row behind the elements of a block
	factors  int // float32 of a row's block
}

// sizes returns the bytes of a tile before its factors, and with them.
func (f *tileForm) sizes(g group, in, rows int) (factors, all int) {
	blocks := in / f.blockLen * g.rows(rows)
	factors = blocks * (f.blockLen + f.extra)
	return factors, factors + blocks*f.factors*int(g)
}

// tileBytes is the size of a tile. Kernels read factors 16 bytes at a time.
func (f *tileForm) tileBytes(g group, in, rows int) int {
	_, all := f.sizes(g, in, rows)
	return roundUp(all+12, 64)
}

// prepare fills a tile row by row.
func (f *tileForm) prepare(g group, tile []byte, m matrixView) {
	factors, all := f.sizes(g, m.in, m.rows)
	if g.rows(m.rows) > m.rows {
		clear(tile[:all])
	}
	for r := range m.rows {
		f.kernel(&tile[factors+int(g)*r], &tile[int(g)*r], &m.x[r*m.stride], m.in/f.blockLen, int(g)*g.rows(m.rows))
	}
	clear(tile[all:f.tileBytes(g, m.in, m.rows)])
}

// matrixView is rows of in elements, stride elements apart.
type matrixView struct {
	x                []float32
	stride, rows, in int
}

// linear completes a linear that has format and panels with tiles and kernels for blocks of these.
func (g group) linear(l linear, f tileForm, kernels []panelKernel) *linear {
	l.tileRows = len(kernels)
	l.tileBytes = func(in, rows int) int { return f.tileBytes(g, in, rows) }
	l.prepare = func(tile []byte, x []float32, stride, rows, in int) {
		f.prepare(g, tile, matrixView{x, stride, rows, in})
	}
	return l.withKernels(kernels, func(in int) int { return in / f.blockLen })
}

const blockBytesQ8_0 = 32 + 512 // of a panel, for 32 elements

// linearQ8_0 is Q8_0 for this group.
func (g group) linearQ8_0(kernels []panelKernel, prepare prepareKernel) *linear {
	return g.linear(linear{
		format:     quant.Q8_0,
		panelBytes: func(in int) int { return roundUp(in/shortRun*blockBytesQ8_0, 64) },
		pack:       g.packQ8_0,
		row:        g.rowQ8_0,
	}, tileForm{kernel: prepare, blockLen: shortRun, factors: 1}, kernels)
}

func (g group) packQ8_0(dst, src []byte, numRows, in int) {
	blocks := in / shortRun
	clearRest(dst, blocks*blockBytesQ8_0, numRows)
	for r := range numRows {
		for b := range blocks {
			block, to := src[(r*blocks+b)*34:][:34], dst[b*blockBytesQ8_0:][:blockBytesQ8_0]
			copy(to[2*r:][:2], block)
			for e := 0; e < shortRun; e += int(g) {
				copy(to[32+panelCols*e+int(g)*r:][:g], block[2+e:])
			}
		}
	}
}

// clearRest clears what packing numRows rows leaves of a panel, whose blocks fill size bytes.
func clearRest(panel []byte, size, numRows int) {
	if numRows < panelCols {
		clear(panel)
	}
	clear(panel[size:])
}

func (g group) rowQ8_0(dst []float32, panel []byte, col, in int) {
	for b := range in / shortRun {
		block := panel[b*blockBytesQ8_0:][:blockBytesQ8_0]
		d := halfAt(block[2*col:])
		for e := range shortRun {
			dst[b*shortRun+e] = d * float32(int8(block[32+g.at(e, col)]))
		}
	}
}
