package cpu

import "hearth/hardware/quant"

// Q5_K everywhere but on arm64. A panel is that of Q4_K with the fifth bits of each run before its nibbles:
//
//	d       half [16 columns]
//	dmin    half [16 columns]
//	mins    uint8 [2][16 columns][4]               minimum of runs 0..3, of runs 4..7
//	2 times, for runs 0..3 and 4..7:
//	scales  uint8 [4 runs][16 columns]
//	4 times, for each run:
//	fifth   uint8 [16 columns][4]                  bit s of byte i is the fifth bit of element 4s+i of the run
//	q       uint8 [4 words][16 columns][4]         low nibbles of word s are elements 8s to 8s+3 of the run, high ones
//	                                               the next four
//
// Tiles are those of Q4_K.
const (
	superBytesQ5_K = 2880 // a panel's bytes for 256 elements
	runBytesQ5_K   = 320  // of them a run's
)

// newLinearQ5_K describes weights and tiles in that layout.
func newLinearQ5_K(tileRows int, prepare prepareFunc, multiply func(*multiplyArgs)) *linear {
	return &linear{
		format:     quant.Q5_K,
		tileRows:   tileRows,
		panelBytes: func(in int) int { return in / longRun * superBytesQ5_K },
		pack:       packQ5_K,
		row:        rowQ5_K,
		tileBytes:  superTileBytes,
		prepare:    prepare,
		multiply:   multiply,
	}
}

func splitQ5_K(panel []byte, i int) superQ4_K {
	b := panel[i*superBytesQ5_K:][:superBytesQ5_K]
	s := superQ4_K{d: b[:32], dmin: b[32:64], mins: b[64:192]}
	for h := range s.runs {
		half := b[192+(64+4*runBytesQ5_K)*h:]
		s.runs[h].scales, s.runs[h].q = half[:64], half[64:64+4*runBytesQ5_K]
	}
	return s
}

// codeQ5_K is element e of a run of a column, from 0 to 31.
func (s *superQ4_K) codeQ5_K(run, col, e int) int32 {
	words := s.runs[run/4].q[runBytesQ5_K*(run%4)+4*col+e%4:]
	fifth := words[0] >> (e / 4) & 1
	return int32(words[64+4*panelCols*(e/8)]>>(e/4%2*4)&15 | fifth<<4)
}

func packQ5_K(dst, src []byte, numRows, in int) {
	rowBytes := in / longRun * 176
	src = wholePanel(src, numRows, rowBytes)
	for i := range in / longRun {
		super := splitQ5_K(dst, i)
		for r := 0; r < panelCols; r += 2 {
			packSuperQ5_K(&super, (*[176]byte)(src[r*rowBytes+176*i:]), (*[176]byte)(src[(r+1)*rowBytes+176*i:]), r)
		}
	}
}

// packSuperQ5_K writes two blocks of the file as column col and the next. There, bit r of byte i of h is the fifth bit of
// element i of run r (quant.Q5_K).
func packSuperQ5_K(to *superQ4_K, x, y *[176]byte, col int) {
	packHeadQ4_K(to, (*[16]byte)(x[:]), (*[16]byte)(y[:]), col)
	const low, bit = 0x0f0f0f0f0f0f0f0f, 0x0101010101010101
	var h [8]uint64
	for s := range 4 {
		h[2*s], h[2*s+1] = beside(load64(x[16+8*s:]), load64(y[16+8*s:]))
	}
	for g := range 4 { // 32 bytes hold two runs, one in low nibbles and one in high ones
		words := (*[runBytesQ5_K + 64 + 3*4*panelCols + 8]byte)(to.runs[g/2].q[2*runBytesQ5_K*(g%2)+4*col:])
		var first, second uint64
		for s := range 4 {
			u, v := beside(load64(x[48+32*g+8*s:]), load64(y[48+32*g+8*s:]))
			store64(words[64+4*panelCols*s:], u&low|v&low<<4)
			store64(words[runBytesQ5_K+64+4*panelCols*s:], u>>4&low|v&^uint64(low))
			even, odd := h[2*s]>>(2*g), h[2*s+1]>>(2*g)
			first |= even&bit<<(2*s) | odd&bit<<(2*s+1)
			second |= even>>1&bit<<(2*s) | odd>>1&bit<<(2*s+1)
		}
		store64(words[0:], first)
		store64(words[runBytesQ5_K:], second)
	}
}

func rowQ5_K(dst []float32, panel []byte, col, in int) {
	for i := range in / longRun {
		s := splitQ5_K(panel, i)
		d, dmin := halfAt(s.d[2*col:]), halfAt(s.dmin[2*col:])
		for run := range runsQ4_K {
			scale := d * float32(s.runs[run/4].scales[panelCols*(run%4)+col])
			minimum := dmin * float32(s.mins[64*(run/4)+4*col+run%4])
			y := dst[i*longRun+run*shortRun:][:shortRun]
			for e := range y {
				y[e] = float32(scale*float32(s.codeQ5_K(run, col, e))) - minimum
			}
		}
	}
}

// multiplyQ5_KGeneric is multiplyQ4_KGeneric with other products.
func multiplyQ5_KGeneric(a *multiplyArgs) {
	panelBytes := a.in / longRun * superBytesQ5_K
	for p := range a.numPanels {
		panel := a.panels[p*panelBytes:][:panelBytes]
		for r := range a.rows {
			var y [panelCols]float32
			for i := range a.in / longRun {
				w := splitQ5_K(panel, i)
				x := a.tile[i*a.rows*superRowQ4_K:]
				mins := dotMinsQ4_K(&w, x[4*a.rows+4*r:], a.rows)
				sums := dotQ5_K(&w, x[20*a.rows+4*r:], a.rows)
				addSuperQ4_K(&y, &w, floatAt(x[4*r:]), &mins, &sums)
			}
			copy(a.dst[r*a.dstStride+p*panelCols:], y[:])
		}
	}
}

// dotQ5_K returns for each column its scaled products with a row, whose words lie rows words apart.
func dotQ5_K(w *superQ4_K, x []byte, rows int) [panelCols]int32 {
	var sums [panelCols]int32
	for run := range runsQ4_K {
		for c := range sums {
			var dot int32
			for e := range shortRun {
				dot += w.codeQ5_K(run, c, e) * int32(int8(x[4*(8*run+e/4)*rows+e%4]))
			}
			sums[c] += int32(w.runs[run/4].scales[panelCols*(run%4)+c]) * dot
		}
	}
	return sums
}
