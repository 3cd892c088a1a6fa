package cpu

import (
	"encoding/binary"

	"hearth/hardware/quant"
)

// Q4_K everywhere but on arm64. A panel is, for each 256 elements of its rows, read strictly in this order:
//
//	d       half [16 columns]
//	dmin    half [16 columns]
//	mins    uint8 [2][16 columns][4]               minimum of runs 0..3, of runs 4..7
//	2 times, for runs 0..3 and 4..7:
//	scales  uint8 [4 runs][16 columns]
//	q       uint8 [4 runs][4 words][16 columns][4] low nibbles of word s are elements 8s to 8s+3 of the run, high ones
//	                                               the next four
//
// A tile of rows has for each 256 elements:
//
//	scale   float32 [rows]
//	sums    int8 [2][hi, lo][rows][4]              sum of q over runs 0..3, 4..7: 128*hi + lo, with lo in 0..127
//	q       int8 [64 words][rows][4]
//
// Sums in two bytes let the minimums be multiplied by the instruction that multiplies the weights.
const (
	superBytesQ4_K = 2368 // a panel's bytes for 256 elements
	superRowQ4_K   = 276  // a tile's bytes for 256 elements of a row
	runsQ4_K       = longRun / shortRun
)

// newLinearQ4_K describes weights and tiles in that layout.
func newLinearQ4_K(tileRows int, prepare prepareFunc, multiply func(*multiplyArgs)) *linear {
	return &linear{
		format:     quant.Q4_K,
		tileRows:   tileRows,
		panelBytes: func(in int) int { return in / longRun * superBytesQ4_K },
		pack:       packQ4_K,
		row:        rowQ4_K,
		tileBytes:  superTileBytes,
		prepare:    prepare,
		multiply:   multiply,
	}
}

// superTileBytes is the size of a tile.
func superTileBytes(in, rows int) int { return roundUp(in/longRun*superRowQ4_K*rows, 64) }

// superQ4_K is 256 elements of a panel, by its parts.
type superQ4_K struct {
	d, dmin []byte
	mins    []byte
	runs    [2]struct{ scales, q []byte }
}

func splitQ4_K(panel []byte, i int) superQ4_K {
	b := panel[i*superBytesQ4_K:][:superBytesQ4_K]
	s := superQ4_K{d: b[:32], dmin: b[32:64], mins: b[64:192]}
	for h := range s.runs {
		half := b[192+1088*h:]
		s.runs[h].scales, s.runs[h].q = half[:64], half[64:1088]
	}
	return s
}

// scalesQ4_K unpacks the eight 6-bit scales and minimums of a block (get_scale_min_k4 in ggml-quants.c): two runs of
// four, each in one word.
func scalesQ4_K(s []byte) (scales, mins [2]uint32) {
	a, b, c := binary.LittleEndian.Uint32(s), binary.LittleEndian.Uint32(s[4:]), binary.LittleEndian.Uint32(s[8:])
	const low6, low4, low2 = 0x3f3f3f3f, 0x0f0f0f0f, 0x03030303
	scales = [2]uint32{a & low6, c&low4 | a>>6&low2<<4}
	mins = [2]uint32{b & low6, c>>4&low4 | b>>6&low2<<4}
	return scales, mins
}

func packQ4_K(dst, src []byte, numRows, in int) {
	rowBytes := in / longRun * 144
	src = wholePanel(src, numRows, rowBytes)
	for i := range in / longRun {
		super := splitQ4_K(dst, i)
		for r := 0; r < panelCols; r += 2 {
			packSuperQ4_K(&super, (*[144]byte)(src[r*rowBytes+144*i:]), (*[144]byte)(src[(r+1)*rowBytes+144*i:]), r)
		}
	}
}

// packHeadQ4_K writes the scales of two blocks of the file, which start with them, as column col and the next.
func packHeadQ4_K(to *superQ4_K, x, y *[16]byte, col int) {
	putHalf2(to.d[2*col:], x[0:], y[0:])
	putHalf2(to.dmin[2*col:], x[2:], y[2:])
	xScales, xMins := scalesQ4_K(x[4:])
	yScales, yMins := scalesQ4_K(y[4:])
	for h := range 2 {
		store64(to.mins[64*h+4*col:], uint64(xMins[h])|uint64(yMins[h])<<32)
		scales := (*[3*panelCols + 2]byte)(to.runs[h].scales[col:])
		for j := range 4 {
			scales[panelCols*j], scales[panelCols*j+1] = byte(xScales[h]>>(8*j)), byte(yScales[h]>>(8*j))
		}
	}
}

// packSuperQ4_K writes two blocks of the file as column col and the next.
func packSuperQ4_K(to *superQ4_K, x, y *[144]byte, col int) {
	packHeadQ4_K(to, (*[16]byte)(x[:]), (*[16]byte)(y[:]), col)
	const low = 0x0f0f0f0f0f0f0f0f
	for g := range 4 { // 32 bytes hold two runs, one in low nibbles and one in high ones
		q := (*[256 + 3*4*panelCols + 8]byte)(to.runs[g/2].q[512*(g%2)+4*col:])
		for s := range 4 {
			u, v := beside(load64(x[16+32*g+8*s:]), load64(y[16+32*g+8*s:]))
			store64(q[4*panelCols*s:], u&low|v&low<<4)
			store64(q[256+4*panelCols*s:], u>>4&low|v&^uint64(low))
		}
	}
}

func rowQ4_K(dst []float32, panel []byte, col, in int) {
	for i := range in / longRun {
		s := splitQ4_K(panel, i)
		d, dmin := halfAt(s.d[2*col:]), halfAt(s.dmin[2*col:])
		for run := range runsQ4_K {
			half := s.runs[run/4]
			scale := d * float32(half.scales[panelCols*(run%4)+col])
			minimum := dmin * float32(s.mins[64*(run/4)+4*col+run%4])
			q := half.q[256*(run%4)+4*col:]
			y := dst[i*longRun+run*shortRun:][:shortRun]
			for e := range y {
				v := q[4*panelCols*(e/8)+e%4] >> (e / 4 % 2 * 4) & 15
				y[e] = float32(scale*float32(v)) - minimum
			}
		}
	}
}

func prepareQ4_KGeneric(tile []byte, x []float32, stride, rows, in int) {
	var q [longRun]byte
	for i := range in / longRun {
		super := tile[i*rows*superRowQ4_K:]
		for r := range rows {
			scale, _ := quantizeRun(q[:], x[r*stride+i*longRun:][:longRun])
			putFloat(super[4*r:], scale)
			for run := range runsQ4_K {
				var sum int32
				for _, v := range q[run*shortRun:][:shortRun] {
					sum += int32(int8(v))
				}
				hi := super[4*rows+4*((run/4)*2*rows+r)+run%4:]
				hi[0], hi[4*rows] = byte(sum>>7), byte(sum&127)
			}
			for word := range longRun / 4 {
				copy(super[20*rows+4*(word*rows+r):][:4], q[4*word:])
			}
		}
	}
}

// multiplyQ4_KGeneric adds the blocks in order.
func multiplyQ4_KGeneric(a *multiplyArgs) {
	panelBytes := a.in / longRun * superBytesQ4_K
	for p := range a.numPanels {
		panel := a.panels[p*panelBytes:][:panelBytes]
		for r := range a.rows {
			var y [panelCols]float32
			for i := range a.in / longRun {
				w := splitQ4_K(panel, i)
				x := a.tile[i*a.rows*superRowQ4_K:]
				mins := dotMinsQ4_K(&w, x[4*a.rows+4*r:], a.rows)
				sums := dotQ4_K(&w, x[20*a.rows+4*r:], a.rows)
				addSuperQ4_K(&y, &w, floatAt(x[4*r:]), &mins, &sums)
			}
			copy(a.dst[r*a.dstStride+p*panelCols:], y[:])
		}
	}
}

// addSuperQ4_K adds a block: y -= x's scale * (dmin * sum of minimums * sums of x), and then y += x's scale * (d * sum of
// scales * sums of products). Both inner sums are exact integers.
func addSuperQ4_K(y *[panelCols]float32, w *superQ4_K, scale float32, mins, sums *[panelCols]int32) {
	for c := range y {
		y[c] -= float32(float32(mins[c])*halfAt(w.dmin[2*c:])) * scale
		y[c] += float32(float32(sums[c])*halfAt(w.d[2*c:])) * scale
	}
}

// dotMinsQ4_K returns for each column its minimums times a row's sums, whose words lie rows words apart.
func dotMinsQ4_K(w *superQ4_K, rowSums []byte, rows int) [panelCols]int32 {
	var mins [panelCols]int32
	for run := range runsQ4_K {
		hi := rowSums[4*(run/4)*2*rows+run%4:]
		rowSum := int32(int8(hi[0]))<<7 + int32(hi[4*rows])
		for c := range mins {
			mins[c] += int32(w.mins[64*(run/4)+4*c+run%4]) * rowSum
		}
	}
	return mins
}

// dotQ4_K returns for each column its scaled products with a row, whose words lie rows words apart.
func dotQ4_K(w *superQ4_K, x []byte, rows int) [panelCols]int32 {
	var sums [panelCols]int32
	for run := range runsQ4_K {
		half, j := &w.runs[run/4], run%4
		for c := range sums {
			var dot int32
			for s := range 4 {
				lo, hi := x[4*(8*run+2*s)*rows:][:4], x[4*(8*run+2*s+1)*rows:][:4]
				for e, v := range half.q[256*j+4*(panelCols*s+c):][:4] {
					dot += int32(v&15)*int32(int8(lo[e])) + int32(v>>4)*int32(int8(hi[e]))
				}
			}
			sums[c] += int32(half.scales[panelCols*j+c]) * dot
		}
	}
	return sums
}
