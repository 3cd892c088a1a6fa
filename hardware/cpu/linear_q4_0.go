package cpu

import (
	"encoding/binary"

	"hearth/hardware/quant"
)

// Q4_0 everywhere but on arm64. A panel is, for each 64 elements of its rows:
//
//	scales  half [2 blocks][16 columns]               64 bytes
//	q       uint8 [2 blocks][4 words][16 columns][4]  512 bytes, the words of the file: low nibbles of word s are
//	                                                  elements 4s to 4s+3 of the block, high ones elements 16+4s on
//
// A row whose blocks are odd in number ends with a block of zeros. Tiles are quad tiles with shift 8.
const (
	pairBytesQ4_0 = 64 + 2*shortRun/2*panelCols // a panel's bytes for 64 elements
	shiftQ4_0     = 8
)

// newLinearQ4_0 describes weights and tiles in that layout.
func newLinearQ4_0(tileRows int, prepare prepareFunc, multiply func(*multiplyArgs)) *linear {
	return &linear{
		format:     quant.Q4_0,
		tileRows:   tileRows,
		panelBytes: func(in int) int { return blockPairs(in) * pairBytesQ4_0 },
		pack:       packQ4_0,
		row:        rowQ4_0,
		tileBytes:  quadTileBytes,
		prepare:    prepare,
		multiply:   multiply,
	}
}

func packQ4_0(dst, src []byte, numRows, in int) {
	blocks, rowBytes := in/shortRun, in/shortRun*18
	src = wholePanel(src, numRows, rowBytes)
	if blocks%2 == 1 {
		clear(dst[blocks/2*pairBytesQ4_0:])
	}
	for b := range blocks {
		pair := dst[b/2*pairBytesQ4_0:][:pairBytesQ4_0]
		for r := 0; r < panelCols; r += 2 {
			x, y := (*[18]byte)(src[r*rowBytes+18*b:]), (*[18]byte)(src[(r+1)*rowBytes+18*b:])
			putHalf2(pair[32*(b%2)+2*r:], x[:], y[:])
			q := (*[200]byte)(pair[64+256*(b%2)+4*r:])
			first, second := beside(load64(x[2:]), load64(y[2:]))
			store64(q[0:], first)
			store64(q[64:], second)
			first, second = beside(load64(x[10:]), load64(y[10:]))
			store64(q[128:], first)
			store64(q[192:], second)
		}
	}
}

func rowQ4_0(dst []float32, panel []byte, col, in int) {
	for b := range in / shortRun {
		pair := panel[b/2*pairBytesQ4_0:][:pairBytesQ4_0]
		d := halfAt(pair[32*(b%2)+2*col:])
		q := pair[64+256*(b%2)+4*col:]
		for i := range shortRun / 2 {
			v := q[4*panelCols*(i/4)+i%4]
			dst[b*shortRun+i] = d * float32(int32(v&15)-shiftQ4_0)
			dst[b*shortRun+16+i] = d * float32(int32(v>>4)-shiftQ4_0)
		}
	}
}

// multiplyQ4_0Generic adds the blocks in order: y += (scale of w * scale of x) * sum of products.
func multiplyQ4_0Generic(a *multiplyArgs) {
	panelBytes := blockPairs(a.in) * pairBytesQ4_0
	for p := range a.numPanels {
		panel := a.panels[p*panelBytes:][:panelBytes]
		for r := range a.rows {
			var y [panelCols]float32
			for b := range a.in / shortRun {
				pair := panel[b/2*pairBytesQ4_0:][:pairBytesQ4_0]
				block := a.tile[b*a.rows*quadBlockBytes:]
				start := int32(binary.LittleEndian.Uint32(block[4*r:]))
				scale := floatAt(block[4*(a.rows+r):])
				sums := dotQ4_0(pair[64+256*(b%2):], block[8*a.rows+4*r:], a.rows)
				for c := range y {
					y[c] += float32(halfAt(pair[32*(b%2)+2*c:])*scale) * float32(start+sums[c])
				}
			}
			copy(a.dst[r*a.dstStride+p*panelCols:], y[:])
		}
	}
}

// dotQ4_0 returns the sums of products of a block's unsigned nibbles with one row, whose words lie rows words apart.
func dotQ4_0(w, x []byte, rows int) [panelCols]int32 {
	var sums [panelCols]int32
	for s := range 4 {
		lo, hi := x[4*s*rows:][:4], x[4*(s+4)*rows:][:4]
		step := w[4*panelCols*s:][:4*panelCols]
		for c := range sums {
			for i, v := range step[4*c:][:4] {
				sums[c] += int32(v&15)*int32(int8(lo[i])) + int32(v>>4)*int32(int8(hi[i]))
			}
		}
	}
	return sums
}
