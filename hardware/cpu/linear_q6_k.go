package cpu

import (
	"encoding/binary"

	"hearth/hardware/quant"
)

// Q6_K everywhere but on arm64. A panel is, for each 256 elements of its rows, read strictly in this order:
//
//	d       half [16 columns], and 32 bytes of nothing
//	scales  int8 [8][16 columns][2]             of runs 2p and 2p+1, of 16 elements each
//	16 times, for each run:
//	upper   uint8 [16 columns][4]               bits 2s and 2s+1 of byte i are the upper bits of element 4s+i of the run
//	lower   uint8 [2 words][16 columns][4]      low nibbles of word s are elements 8s to 8s+3 of the run, high ones the
//	                                            next four
//
// A tile of rows has for each 256 elements:
//
//	scale   float32 [rows]
//	sums    int16 [8][rows][2]                  minus the sum of q over runs 2p and 2p+1
//	q       int8 [64 words][rows][4]
//
// The weights are multiplied as they are stored, from 0 to 63. What the 32 that they are too large by makes, is taken away
// as 32 times the scales times the row's sums.
const (
	superBytesQ6_K = 3392 // a panel's bytes for 256 elements
	superRowQ6_K   = 292  // a tile's bytes for 256 elements of a row
	sixteenth      = 16   // elements of a run
	shiftQ6_K      = 32
)

// newLinearQ6_K describes weights and tiles in that layout.
func newLinearQ6_K(tileRows int, prepare prepareFunc, multiply func(*multiplyArgs)) *linear {
	return &linear{
		format:     quant.Q6_K,
		tileRows:   tileRows,
		panelBytes: func(in int) int { return in / longRun * superBytesQ6_K },
		pack:       packQ6_K,
		row:        rowQ6_K,
		tileBytes:  sixteenthTileBytes,
		prepare:    prepare,
		multiply:   multiply,
	}
}

// sixteenthTileBytes is the size of a tile.
func sixteenthTileBytes(in, rows int) int { return roundUp(in/longRun*superRowQ6_K*rows, 64) }

// superQ6_K is 256 elements of a panel, by its parts.
type superQ6_K struct{ d, scales, runs []byte }

func splitQ6_K(panel []byte, i int) superQ6_K {
	b := panel[i*superBytesQ6_K:][:superBytesQ6_K]
	return superQ6_K{d: b[:32], scales: b[64:320], runs: b[320:]}
}

// scale is that of a run of a column.
func (s *superQ6_K) scale(run, col int) int32 {
	return int32(int8(s.scales[2*panelCols*(run/2)+2*col+run%2]))
}

// code is element e of a run of a column, from 0 to 63.
func (s *superQ6_K) code(run, col, e int) int32 {
	words := s.runs[192*run+4*col+e%4:]
	step := e / 4
	upper := words[0] >> (2 * step) & 3
	lower := words[64+4*panelCols*(step/2)] >> (step % 2 * 4) & 15
	return int32(lower | upper<<4)
}

func packQ6_K(dst, src []byte, numRows, in int) {
	rowBytes := in / longRun * 210
	src = wholePanel(src, numRows, rowBytes)
	for i := range in / longRun {
		super := splitQ6_K(dst, i)
		for r := 0; r < panelCols; r += 2 {
			packSuperQ6_K(&super, (*[210]byte)(src[r*rowBytes+210*i:]), (*[210]byte)(src[(r+1)*rowBytes+210*i:]), r)
		}
	}
}

// packSuperQ6_K writes two blocks of the file as column col and the next. A half of a block has its runs' lower bits in
// the low and then the high nibbles of 64 bytes, and the upper ones in four pairs of bits of 32 bytes (quant.Q6_K).
func packSuperQ6_K(to *superQ6_K, x, y *[210]byte, col int) {
	putHalf2(to.d[2*col:], x[208:], y[208:])
	for p := range longRun / sixteenth / 2 {
		putHalf2(to.scales[2*panelCols*p+2*col:], x[192+2*p:], y[192+2*p:])
	}
	const low4, low2 = 0x0f0f0f0f0f0f0f0f, 0x0303030303030303
	for i := range 8 { // 16 bytes of lower bits, of two runs
		half, quarter, part := i/4, i/2%2, i%2
		lower, upper := 64*half+32*quarter+16*part, 128+32*half+16*part
		l0, l1 := beside(load64(x[lower:]), load64(y[lower:]))
		l2, l3 := beside(load64(x[lower+8:]), load64(y[lower+8:]))
		u0, u1 := beside(load64(x[upper:])>>(2*quarter), load64(y[upper:])>>(2*quarter))
		u2, u3 := beside(load64(x[upper+8:])>>(2*quarter), load64(y[upper+8:])>>(2*quarter))
		words := (*[4*192 + 136]byte)(to.runs[192*(8*half+2*quarter+part)+4*col:])
		store64(words[0:], u0&low2|u1&low2<<2|u2&low2<<4|u3&low2<<6)
		store64(words[64:], l0&low4|l1&low4<<4)
		store64(words[128:], l2&low4|l3&low4<<4)
		store64(words[4*192:], u0>>4&low2|u1>>4&low2<<2|u2>>4&low2<<4|u3>>4&low2<<6)
		store64(words[4*192+64:], l0>>4&low4|l1&^uint64(low4))
		store64(words[4*192+128:], l2>>4&low4|l3&^uint64(low4))
	}
}

func rowQ6_K(dst []float32, panel []byte, col, in int) {
	for i := range in / longRun {
		s := splitQ6_K(panel, i)
		d := halfAt(s.d[2*col:])
		for run := range longRun / sixteenth {
			scale := d * float32(s.scale(run, col))
			y := dst[i*longRun+run*sixteenth:][:sixteenth]
			for e := range y {
				y[e] = scale * float32(s.code(run, col, e)-shiftQ6_K)
			}
		}
	}
}

func prepareQ6_KGeneric(tile []byte, x []float32, stride, rows, in int) {
	var q [longRun]byte
	for i := range in / longRun {
		super := tile[i*rows*superRowQ6_K:]
		for r := range rows {
			scale, _ := quantizeRun(q[:], x[r*stride+i*longRun:][:longRun])
			putFloat(super[4*r:], scale)
			for run := range longRun / sixteenth {
				var sum int16
				for _, v := range q[run*sixteenth:][:sixteenth] {
					sum += int16(int8(v))
				}
				binary.LittleEndian.PutUint16(super[4*rows+4*(run/2*rows+r)+2*(run%2):], uint16(-sum))
			}
			for word := range longRun / 4 {
				copy(super[36*rows+4*(word*rows+r):][:4], q[4*word:])
			}
		}
	}
}

// multiplyQ6_KGeneric adds the blocks in order: y += x's scale * (d * sum of scales * sums of products), with an inner sum
// that is an exact integer.
func multiplyQ6_KGeneric(a *multiplyArgs) {
	panelBytes := a.in / longRun * superBytesQ6_K
	for p := range a.numPanels {
		panel := a.panels[p*panelBytes:][:panelBytes]
		for r := range a.rows {
			var y [panelCols]float32
			for i := range a.in / longRun {
				w := splitQ6_K(panel, i)
				x := a.tile[i*a.rows*superRowQ6_K:]
				sums := dotQ6_K(&w, x[4*a.rows+4*r:], x[36*a.rows+4*r:], a.rows)
				for c := range y {
					y[c] += float32(float32(sums[c])*halfAt(w.d[2*c:])) * floatAt(x[4*r:])
				}
			}
			copy(a.dst[r*a.dstStride+p*panelCols:], y[:])
		}
	}
}

// dotQ6_K returns the columns' scaled products with one row, whose sums and words lie rows words apart.
func dotQ6_K(w *superQ6_K, rowSums, x []byte, rows int) [panelCols]int32 {
	var sums [panelCols]int32
	for run := range longRun / sixteenth {
		minus := int32(int16(binary.LittleEndian.Uint16(rowSums[4*(run/2)*rows+2*(run%2):])))
		for c := range sums {
			dot := shiftQ6_K * minus
			for e := range sixteenth {
				dot += w.code(run, c, e) * int32(int8(x[4*(4*run+e/4)*rows+e%4]))
			}
			sums[c] += w.scale(run, c) * dot
		}
	}
	return sums
}
