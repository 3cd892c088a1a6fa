//go:build !purego

package cpu

import (
	"encoding/binary"

	"hearth/hardware/quant"
)

// Processors of arm64 multiply signed with signed bytes: groups of four consecutive elements of a column with four of a
// row, or of eight with eight of two rows. A word is a group's worth of elements. With g elements in a group, panels have
// for each block of 32 elements of their columns:
//
//	scales  half [16 columns]                     32 bytes
//	q       int8 [32/g words][16 columns][g]     512 bytes of Q8_0
//	q       uint8 [16/g][16 columns][g]          256 bytes of Q4_0: two words in low and high nibbles, signed
//
// and tiles, whose rows are even in number where they go in twos, the missing one zero:
//
//	q       int8 [blocks][32/g words][rows][g]
//	scales  float32 [blocks][rows][g/4]           of rows in twos each scale is there twice
const (
	blockBytesQ8_0 = 32 + 512
	blockBytesQ4_0 = 32 + 256
)

// group is the number of elements that are multiplied and added by one instruction, 4 or 8.
type group int

// rows is the number of rows in a tile for n of them.
func (g group) rows(n int) int { return roundUp(n, int(g)/4) }

// tileBytes is the size of a tile of blocks that have so many bytes per row beside their scales. Kernels read scales 16
// bytes at a time.
func (g group) tileBytes(blocks, blockBytes, rows int) int {
	return roundUp(blocks*g.rows(rows)*(blockBytes+int(g))+12, 64)
}

// prepareKernel fills one row of a tile: q and scale are the row's in the first block, step is the distance of its words
// and of its scales.
type prepareKernel = func(scale, q *byte, x *float32, blocks, step int)

// prepare fills a tile row by row.
func (g group) prepare(kernel prepareKernel, blockLen, blockBytes int) func(tile []byte, x []float32, stride, rows, in int) {
	return func(tile []byte, x []float32, stride, rows, in int) {
		blocks, n := in/blockLen, g.rows(rows)
		scales := blocks * n * blockBytes
		if n > rows {
			clear(tile[:blocks*n*(blockBytes+int(g))])
		}
		for r := range rows {
			kernel(&tile[scales+int(g)*r], &tile[int(g)*r], &x[r*stride], blocks, int(g)*n)
		}
		clear(tile[blocks*n*(blockBytes+int(g)) : g.tileBytes(blocks, blockBytes, rows)])
	}
}

// linearQ8_0 is Q8_0 for this group.
func (g group) linearQ8_0(kernels []panelKernel, prepare prepareKernel) *linear {
	return &linear{
		format:     quant.Q8_0,
		tileRows:   len(kernels),
		panelBytes: func(in int) int { return roundUp(in/shortRun*blockBytesQ8_0, 64) },
		pack:       g.packQ8_0,
		row:        g.rowQ8_0,
		tileBytes:  func(in, rows int) int { return g.tileBytes(in/shortRun, shortRun, rows) },
		prepare:    g.prepare(prepare, shortRun, shortRun),
		multiply: func(a *multiplyArgs) {
			blocks := a.in / shortRun
			multiplyPanels(a, kernels, roundUp(blocks*blockBytesQ8_0, 64), blocks)
		},
	}
}

// linearQ4_0 is Q4_0 for this group. Its tiles are those of Q8_0.
func (g group) linearQ4_0(kernels []panelKernel, prepare prepareKernel) *linear {
	return &linear{
		format:     quant.Q4_0,
		tileRows:   len(kernels),
		panelBytes: func(in int) int { return roundUp(in/shortRun*blockBytesQ4_0, 64) },
		pack:       g.packQ4_0,
		row:        g.rowQ4_0,
		tileBytes:  func(in, rows int) int { return g.tileBytes(in/shortRun, shortRun, rows) },
		prepare:    g.prepare(prepare, shortRun, shortRun),
		multiply: func(a *multiplyArgs) {
			blocks := a.in / shortRun
			multiplyPanels(a, kernels, roundUp(blocks*blockBytesQ4_0, 64), blocks)
		},
	}
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

// at is the place of element e of a column in words of bytes.
func (g group) at(e, col int) int { return (e/int(g)*panelCols+col)*int(g) + e%int(g) }

func (g group) packQ4_0(dst, src []byte, numRows, in int) {
	blocks := in / shortRun
	clearRest(dst, blocks*blockBytesQ4_0, numRows)
	for r := range numRows {
		for b := range blocks {
			block, to := src[(r*blocks+b)*18:][:18], dst[b*blockBytesQ4_0:][:blockBytesQ4_0]
			copy(to[2*r:][:2], block)
			var codes [shortRun / 4]uint32
			for i := range 4 {
				// A code is the weight + 8; flipping its top bit makes it the weight in 4 bits.
				v := binary.LittleEndian.Uint32(block[2+4*i:]) ^ 0x88888888
				codes[i], codes[4+i] = v&0x0f0f0f0f, v>>4&0x0f0f0f0f
			}
			g.packCodes(to[32:], codes[:], r, 0)
		}
	}
}

func (g group) rowQ4_0(dst []float32, panel []byte, col, in int) {
	for b := range in / shortRun {
		block := panel[b*blockBytesQ4_0:][:blockBytesQ4_0]
		d := halfAt(block[2*col:])
		for e := range shortRun {
			code := g.code(block[32:], e, col, 0)
			dst[b*shortRun+e] = d * float32(int8(code<<4)>>4)
		}
	}
}
