package cpu

import (
	"encoding/binary"

	"hearth/hardware/quant"
)

// runsFormat describes a format whose blocks are 256 codes of 2 to 4 bits, in runs with a scale each, and a scale of
// these scales. A panel is, for each 256 elements of its rows, read strictly in this order:
//
//	d       half [16 columns]
//	dmin    half [16 columns]                 scale of minimums, or nothing
//	scales  [runs / 2][16 columns][2]         of runs 2p and 2p+1: int8, or in Q2_K a nibble and above it the minimum's
//	codes   8 times, for 32 elements:
//	  IQ4_XS
//	    q     uint8 [4 words][16 columns][4]  the words of the file: low nibbles of word s are elements 4s to 4s+3 of the
//	                                          run, high ones elements 16+4s on
//	  Q3_K
//	    upper uint8 [16 columns][4]           bit 4r+s of byte i is the third bit of element 4s+i of run r of two
//	    lower uint8 [2 runs][16 columns][4]   bits 2s and 2s+1 of byte i are the lower ones of element 4s+i of the run
//	  Q2_K
//	    q     uint8 [2 runs][16 columns][4]   as lower
//
// Tiles are those of Q6_K, which have sums of 16 elements: for minimums, and for machines that multiply unsigned codes.
type runsFormat struct {
	format    *quant.Format
	runLen    int // elements of a run
	codeBytes int // of 32 elements of a column
	minimums  bool

	// pack writes blocks x and y of the file as a column and the next.
	pack func(to superRuns, x, y []byte, col int)
	// value is what element e of 32 of a column stands for, before scales.
	value func(codes []byte, col, e int) int32
}

// runsFormats are all of that kind.
func runsFormats() []*runsFormat {
	return []*runsFormat{
		{format: quant.IQ4_XS, runLen: 32, codeBytes: 256, pack: packIQ4_XS, value: codesIQ4_NL().value},
		{format: quant.Q2_K, runLen: 16, codeBytes: 128, minimums: true, pack: packQ2_K, value: valueQ2_K},
		{format: quant.Q3_K, runLen: 16, codeBytes: 192, pack: packQ3_K, value: valueQ3_K},
	}
}

// genericRunsLinears are those of all formats in plain Go.
func genericRunsLinears() []*linear {
	var linears []*linear
	for _, f := range runsFormats() {
		linears = append(linears, f.linear(genericTileRows, prepareQ6_KGeneric, f.multiplyGeneric))
	}
	return linears
}

// linear describes weights in that layout.
func (f *runsFormat) linear(tileRows int, prepare prepareFunc, multiply func(*multiplyArgs)) *linear {
	return &linear{
		format:     f.format,
		tileRows:   tileRows,
		panelBytes: func(in int) int { return in / longRun * f.superBytes() },
		pack:       f.packPanel,
		row:        f.row,
		tileBytes:  sixteenthTileBytes,
		prepare:    prepare,
		multiply:   multiply,
	}
}

// superBytes is a panel's size for 256 elements.
func (f *runsFormat) superBytes() int { return 64 + longRun/f.runLen*panelCols + 8*f.codeBytes }

// superRuns is 256 elements of a panel, by its parts.
type superRuns struct{ d, dmin, scales, codes []byte }

func (f *runsFormat) split(panel []byte, i int) superRuns {
	b := panel[i*f.superBytes():][:f.superBytes()]
	codes := 64 + longRun/f.runLen*panelCols
	return superRuns{d: b[:32], dmin: b[32:64], scales: b[64:codes], codes: b[codes:]}
}

// scale is that of a run of a column, with its minimum in the upper nibble if there is one.
func (s *superRuns) scale(run, col int) *byte { return &s.scales[2*panelCols*(run/2)+2*col+run%2] }

// scaleOf is the scale of a run of a column, and its minimum.
func (f *runsFormat) scaleOf(s *superRuns, run, col int) (scale, minimum int32) {
	b := *s.scale(run, col)
	if f.minimums {
		return int32(b & 15), int32(b >> 4)
	}
	return int32(int8(b)), 0
}

func (f *runsFormat) packPanel(dst, src []byte, numRows, in int) {
	supers, size := in/longRun, f.format.BlockBytes
	rowBytes := supers * size
	src = wholePanel(src, numRows, rowBytes)
	for i := range supers {
		for r := 0; r < panelCols; r += 2 {
			f.pack(f.split(dst, i), src[r*rowBytes+i*size:][:size], src[(r+1)*rowBytes+i*size:][:size], r)
		}
	}
}

// packIQ4_XS packs blocks of quant.IQ4_XS.
func packIQ4_XS(to superRuns, x, y []byte, col int) {
	putHalf2(to.d[2*col:], x, y)
	for c, block := range [2][]byte{x, y} {
		upper := binary.LittleEndian.Uint16(block[2:])
		for run := range runsQ4_K {
			*to.scale(run, col+c) = (block[4+run/2]>>(run%2*4)&15 | byte(upper>>(2*run)&3<<4)) - 32
		}
	}
	for run := range runsQ4_K {
		packNibbles(to.codes[256*run+4*col:], x[8+16*run:], y[8+16*run:])
	}
}

// codesIQ4_NL are the codes that IQ4_XS shares with IQ4_NL.
func codesIQ4_NL() *shortFormat { return newShortFormat(shortFormat{format: quant.IQ4_NL}) }

// packQ2_K packs blocks of quant.Q2_K. A half of one, 128 elements, is 32 bytes with a pair of bits for each of its four
// pairs of runs.
func packQ2_K(to superRuns, x, y []byte, col int) {
	putHalf2(to.d[2*col:], x[80:], y[80:])
	putHalf2(to.dmin[2*col:], x[82:], y[82:])
	for pair := range longRun / sixteenth / 2 {
		putHalf2(to.scales[2*(panelCols*pair+col):], x[2*pair:], y[2*pair:])
	}
	packPairsOfBits(to.codes, x[16:80], y[16:80], col, 128)
}

func valueQ2_K(codes []byte, col, e int) int32 { return pairOfBits(codes, col, e) }

// packQ3_K packs blocks of quant.Q3_K. Its scales are nibbles of 8 bytes with the two bits above them in 4 more. Bit p of
// byte i of the third bits is that of element i of pair p of runs.
func packQ3_K(to superRuns, x, y []byte, col int) {
	putHalf2(to.d[2*col:], x[108:], y[108:])
	for half := range 2 {
		first, second := scalesQ3_K(x[96:108], half), scalesQ3_K(y[96:108], half)
		for pair := range 4 {
			word := uint32(first>>(16*pair))&0xffff | uint32(second>>(16*pair))<<16
			binary.LittleEndian.PutUint32(to.scales[2*(panelCols*(4*half+pair)+col):], word)
		}
	}
	packPairsOfBits(to.codes[64:], x[32:96], y[32:96], col, 192)
	var thirds [8]uint64
	for s := range 8 {
		word := uint64(load32(x[4*s:])) | uint64(load32(y[4*s:]))<<32
		for pair := range thirds {
			thirds[pair] |= word >> pair & 0x0101010101010101 << s
		}
	}
	for pair, word := range thirds {
		store64(to.codes[192*pair+4*col:], word)
	}
}

// scalesQ3_K returns the scales of eight runs, one in each byte.
func scalesQ3_K(s []byte, half int) uint64 {
	const nibbles, pairs, sign = 0x0f0f0f0f0f0f0f0f, 0x0303030303030303, 0x2020202020202020
	upper := load32(s[8:]) >> (4 * half)
	codes := load64(s)>>(4*half)&nibbles | (uint64(upper)|uint64(upper>>2)<<32)&pairs<<4
	// Each less 32, without carries between bytes: where the sixth bit is missing, the three upper ones are set.
	return codes&^sign | ^codes&sign*7
}

func valueQ3_K(codes []byte, col, e int) int32 {
	third := codes[4*col+e%4] >> (e / 4) & 1
	return pairOfBits(codes[4*panelCols:], col, e) + int32(third)<<2 - shiftQ3_K
}

// shiftQ3_K is what the codes of Q3_K are too large by.
const shiftQ3_K = 4

// packPairsOfBits writes the lower two bits of all codes, as Q2_K and Q3_K have them in the file, where each pair of runs
// has so many bytes.
func packPairsOfBits(codes, x, y []byte, col, pairBytes int) {
	for part := range 4 { // 16 bytes are one run of each of four pairs
		var words [4]uint64
		for s := range words {
			words[s] = uint64(load32(x[16*part+4*s:])) | uint64(load32(y[16*part+4*s:]))<<32
		}
		for pair := range 4 {
			const low = 0x0303030303030303
			word := words[0]>>(2*pair)&low | words[1]>>(2*pair)&low<<2 | words[2]>>(2*pair)&low<<4 | words[3]>>(2*pair)&low<<6
			store64(codes[(part/2*4+pair)*pairBytes+4*(part%2*panelCols+col):], word)
		}
	}
}

// pairOfBits reads them for element e of a pair of runs.
func pairOfBits(codes []byte, col, e int) int32 {
	return int32(codes[4*(e/sixteenth*panelCols+col)+e%4] >> (e / 4 % 4 * 2) & 3)
}

func (f *runsFormat) row(dst []float32, panel []byte, col, in int) {
	for i := range in / longRun {
		s := f.split(panel, i)
		d, dmin := halfAt(s.d[2*col:]), halfAt(s.dmin[2*col:])
		for run := range longRun / f.runLen {
			code, min := f.scaleOf(&s, run, col)
			scale, minimum := d*float32(code), dmin*float32(min)
			first := run * f.runLen
			y := dst[i*longRun+first:][:f.runLen]
			codes := s.codes[first/shortRun*f.codeBytes:]
			for e := range y {
				y[e] = scale * float32(f.value(codes, col, first%shortRun+e))
			}
			if f.minimums {
				for e := range y {
					y[e] -= minimum
				}
			}
		}
	}
}

// multiplyGeneric adds the blocks in order: y += x's scale * (dmin * sum of minimums * minus the sums of x), if there are
// minimums, and then y += x's scale * (d * sum of scales * sums of products). Both inner sums are exact integers.
func (f *runsFormat) multiplyGeneric(a *multiplyArgs) {
	panelBytes := a.in / longRun * f.superBytes()
	for p := range a.numPanels {
		panel := a.panels[p*panelBytes:][:panelBytes]
		for r := range a.rows {
			var y [panelCols]float32
			for i := range a.in / longRun {
				w := f.split(panel, i)
				x := a.tile[i*a.rows*superRowQ6_K:]
				mins, sums := f.dot(&w, x[4*a.rows+4*r:], x[36*a.rows+4*r:], a.rows)
				scale := floatAt(x[4*r:])
				for c := range y {
					if f.minimums {
						y[c] += float32(float32(mins[c])*halfAt(w.dmin[2*c:])) * scale
					}
					y[c] += float32(float32(sums[c])*halfAt(w.d[2*c:])) * scale
				}
			}
			copy(a.dst[r*a.dstStride+p*panelCols:], y[:])
		}
	}
}

// dot returns for each column its minimums times minus a row's sums, and its scaled products with the row. The sums and
// words of the row lie rows words apart.
func (f *runsFormat) dot(w *superRuns, rowSums, x []byte, rows int) (mins, sums [panelCols]int32) {
	for part := range longRun / sixteenth {
		minus := int32(int16(binary.LittleEndian.Uint16(rowSums[4*(part/2)*rows+2*(part%2):])))
		codes := w.codes[part/2*f.codeBytes:]
		for c := range sums {
			scale, minimum := f.scaleOf(w, part*sixteenth/f.runLen, c)
			var dot int32
			for e := range sixteenth {
				dot += f.value(codes, c, part%2*sixteenth+e) * int32(int8(x[4*(4*part+e/4)*rows+e%4]))
			}
			mins[c] += minimum * minus
			sums[c] += scale * dot
		}
	}
	return mins, sums
}
