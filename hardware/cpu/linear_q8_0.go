package cpu

import (
	"encoding/binary"

	"hearth/hardware/quant"
)

// Q8_0 for machines that multiply pairs of 16-bit integers, and the specification. A panel is, for each 64 elements of
// its rows, two blocks' scales and then their bytes, [2 blocks] of:
//
//	scales  half [2 blocks][16 columns]                 64 bytes, for both blocks
//	q       int8 [2 blocks][16 steps][16 columns][2]   1024 bytes; step s holds elements 2s and 2s+1 of the block
//
// A row whose blocks are odd in number ends with a block of zeros. A tile of rows has for each block, in the same order:
//
//	scale   float32 [rows]
//	q       int16 [16 steps][rows][2]
const (
	pairBytesQ8_0 = 64 + 2*16*panelCols*2 // a panel's bytes for 64 elements
	stepsQ8_0     = shortRun / 2
)

// newLinearQ8_0 describes weights and tiles in that layout.
func newLinearQ8_0(tileRows int, prepare prepareFunc, multiply func(*multiplyArgs)) *linear {
	return &linear{
		format:     quant.Q8_0,
		tileRows:   tileRows,
		panelBytes: func(in int) int { return blockPairs(in) * pairBytesQ8_0 },
		pack:       packQ8_0,
		row:        rowQ8_0,
		tileBytes:  pairTileBytes,
		prepare:    prepare,
		multiply:   multiply,
	}
}

// blockPairs returns how many pairs of blocks a row of in elements has, the last one perhaps half filled.
func blockPairs(in int) int { return (in/shortRun + 1) / 2 }

// pairTileBytes is the size of a tile.
func pairTileBytes(in, rows int) int { return roundUp(2*blockPairs(in)*rows*(4+2*shortRun), 64) }

func packQ8_0(dst, src []byte, numRows, in int) {
	blocks, rowBytes := in/shortRun, in/shortRun*34
	src = wholePanel(src, numRows, rowBytes)
	if blocks%2 == 1 {
		clear(dst[blocks/2*pairBytesQ8_0:])
	}
	for b := range blocks {
		pair := dst[b/2*pairBytesQ8_0:][:pairBytesQ8_0]
		for r := 0; r < panelCols; r += 4 {
			x, y := (*[34]byte)(src[r*rowBytes+34*b:]), (*[34]byte)(src[(r+1)*rowBytes+34*b:])
			z, w := (*[34]byte)(src[(r+2)*rowBytes+34*b:]), (*[34]byte)(src[(r+3)*rowBytes+34*b:])
			putHalf2(pair[32*(b%2)+2*r:], x[:], y[:])
			putHalf2(pair[32*(b%2)+2*r+4:], z[:], w[:])
			q := (*[488]byte)(pair[64+512*(b%2)+2*r:])
			for i := 0; i < shortRun; i += 8 {
				x, y, z, w := load64(x[2+i:]), load64(y[2+i:]), load64(z[2+i:]), load64(w[2+i:])
				h0, h2 := beside(evenHalves(x, y), evenHalves(z, w))
				h1, h3 := beside(oddHalves(x, y), oddHalves(z, w))
				store64(q[16*i:], h0)
				store64(q[16*i+32:], h1)
				store64(q[16*i+64:], h2)
				store64(q[16*i+96:], h3)
			}
		}
	}
}

func rowQ8_0(dst []float32, panel []byte, col, in int) {
	for b := range in / shortRun {
		pair := panel[b/2*pairBytesQ8_0:][:pairBytesQ8_0]
		d := halfAt(pair[32*(b%2)+2*col:])
		q := pair[64+512*(b%2)+2*col:]
		for i := range shortRun {
			dst[b*shortRun+i] = d * float32(int8(q[2*panelCols*(i/2)+i%2]))
		}
	}
}

func prepareQ8_0Generic(tile []byte, x []float32, stride, rows, in int) {
	clear(tile[:pairTileBytes(in, rows)])
	var q [shortRun]byte
	for b := range in / shortRun {
		block := tile[b*rows*(4+2*shortRun):]
		for r := range rows {
			scale, _ := quantizeRun(q[:], x[r*stride+b*shortRun:][:shortRun])
			putFloat(block[4*r:], scale)
			for i, v := range q {
				binary.LittleEndian.PutUint16(block[4*rows+4*(i/2*rows+r)+2*(i%2):], uint16(int8(v)))
			}
		}
	}
}

// multiplyQ8_0Generic adds the blocks in order: y += (scale of w * scale of x) * sum of products.
func multiplyQ8_0Generic(a *multiplyArgs) {
	panelBytes := blockPairs(a.in) * pairBytesQ8_0
	for p := range a.numPanels {
		panel := a.panels[p*panelBytes:][:panelBytes]
		for r := range a.rows {
			var y [panelCols]float32
			for b := range a.in / shortRun {
				pair := panel[b/2*pairBytesQ8_0:][:pairBytesQ8_0]
				block := a.tile[b*a.rows*(4+2*shortRun):]
				scale := floatAt(block[4*r:])
				sums := dotQ8_0(pair[64+512*(b%2):], block[4*a.rows+4*r:], a.rows)
				for c := range y {
					y[c] += float32(halfAt(pair[32*(b%2)+2*c:])*scale) * float32(sums[c])
				}
			}
			copy(a.dst[r*a.dstStride+p*panelCols:], y[:])
		}
	}
}

// dotQ8_0 returns the sums of products of a block's columns with one row, whose pairs lie rows pairs apart.
func dotQ8_0(w, x []byte, rows int) [panelCols]int32 {
	var sums [panelCols]int32
	for s := range stepsQ8_0 {
		x0 := int32(int16(binary.LittleEndian.Uint16(x[4*s*rows:])))
		x1 := int32(int16(binary.LittleEndian.Uint16(x[4*s*rows+2:])))
		step := w[2*panelCols*s:][:2*panelCols]
		for c := range sums {
			sums[c] += int32(int8(step[2*c]))*x0 + int32(int8(step[2*c+1]))*x1
		}
	}
	return sums
}
