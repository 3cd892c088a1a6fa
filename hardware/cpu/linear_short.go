package cpu

import (
	"encoding/binary"
	"math"

	"hearth/hardware/quant"
)

// shortFormat describes a format whose blocks are 32 codes of 4 or 5 bits and one scale, some with a minimum too. What a
// code stands for is an integer: itself, itself less a shift, or an element of a table. A panel is, for each 64 elements
// of its rows, read strictly in this order:
//
//	scales  [2 blocks][16 columns]         half, or bfloat16 where a scale is a power of two
//	mins    half [2 blocks][16 columns]    if there are minimums
//	2 times, for each block:
//	fifths  uint8 [16 columns][4]          if codes have 5 bits: bit s of byte i is the fifth bit of element 4s+i
//	q       uint8 [4 words][16 columns][4] the words of the file: low nibbles of word s are elements 4s to 4s+3 of the
//	                                       block, high ones elements 16+4s on
//
// which is as large as in the file, but for MXFP4's scales of one byte. A row whose blocks are odd in number ends with a
// block of zeros.
//
// Tiles are quad tiles or, where machines sum up in 16 bits, word tiles (linear_words_amd64.go). Their shift makes the
// values unsigned. Values that have minimums are unsigned anyway; the shift -1 lets each row's start be its sum, which the
// minimum is multiplied with.
type shortFormat struct {
	format   *quant.Format
	shift    int
	fifths   bool
	minimums bool
	values   [shortRun]int32 // of the codes; twice the same where there are 16
}

// shortFormats are all of that kind but Q4_0, which has kernels of its own on amd64 (linear_q4_0.go).
func shortFormats() []*shortFormat {
	return []*shortFormat{
		newShortFormat(shortFormat{format: quant.Q4_1, shift: -1, minimums: true}),
		newShortFormat(shortFormat{format: quant.Q5_0, shift: 16, fifths: true}),
		newShortFormat(shortFormat{format: quant.Q5_1, shift: -1, fifths: true, minimums: true}),
		newShortFormat(shortFormat{format: quant.IQ4_NL, shift: 128}),
		newShortFormat(shortFormat{format: quant.MXFP4, shift: 12}),
	}
}

// newShortFormat adds the values: those of a block of all codes with scale 1 and minimum 0.
func newShortFormat(s shortFormat) *shortFormat {
	block := make([]byte, s.format.BlockBytes)
	if s.format == quant.MXFP4 {
		block[0] = 128
	} else {
		binary.LittleEndian.PutUint16(block, 0x3c00)
	}
	if s.fifths {
		binary.LittleEndian.PutUint32(block[s.format.BlockBytes-20:], 0xffff0000)
	}
	for i := range shortRun / 2 {
		block[s.format.BlockBytes-16+i] = byte(i | i<<4)
	}
	var values [shortRun]float32
	s.format.Dequantize(values[:], block)
	for i, v := range values {
		s.values[i] = int32(v)
	}
	return &s
}

// linear describes weights in that layout.
func (s *shortFormat) linear(tileRows int, prepare prepareFunc, multiply func(*multiplyArgs)) *linear {
	return &linear{
		format:     s.format,
		tileRows:   tileRows,
		panelBytes: func(in int) int { return blockPairs(in) * s.pairBytes() },
		pack:       s.pack,
		row:        s.row,
		tileBytes:  quadTileBytes,
		prepare:    prepare,
		multiply:   multiply,
	}
}

// generic is the linear in plain Go.
func (s *shortFormat) generic() *linear {
	return s.linear(genericTileRows, prepareQuadsGeneric(s.shift), s.multiplyGeneric)
}

// genericShortLinears are those of all formats.
func genericShortLinears() []*linear {
	var linears []*linear
	for _, s := range shortFormats() {
		linears = append(linears, s.generic())
	}
	return linears
}

// headBytes is the size of a pair's scales and minimums.
func (s *shortFormat) headBytes() int {
	if s.minimums {
		return 128
	}
	return 64
}

// blockBytes is the size of a block's codes.
func (s *shortFormat) blockBytes() int {
	if s.fifths {
		return 5 * 64
	}
	return 4 * 64
}

// pairBytes is a panel's size for 64 elements.
func (s *shortFormat) pairBytes() int { return s.headBytes() + 2*s.blockBytes() }

// scaleBits is the scale of a block of the file, as a panel has it.
func (s *shortFormat) scaleBits(block []byte) uint16 {
	if s.format != quant.MXFP4 {
		return binary.LittleEndian.Uint16(block)
	}
	// 2^(e-128): half of what e stands for, as the values are twice theirs. The two smallest are subnormal.
	if e := uint16(block[0]); e >= 2 {
		return (e - 1) << 7
	}
	return 0x20 << block[0]
}

// scaleAt reads a scale of a panel.
func (s *shortFormat) scaleAt(b []byte) float32 {
	if s.format == quant.MXFP4 {
		return math.Float32frombits(uint32(binary.LittleEndian.Uint16(b)) << 16)
	}
	return halfAt(b)
}

func (s *shortFormat) pack(dst, src []byte, numRows, in int) {
	blocks, size := in/shortRun, s.format.BlockBytes
	rowBytes := blocks * size
	src = wholePanel(src, numRows, rowBytes)
	if blocks%2 == 1 {
		clear(dst[blocks/2*s.pairBytes():])
	}
	for b := range blocks {
		pair := dst[b/2*s.pairBytes():][:s.pairBytes()]
		for r := 0; r < panelCols; r += 2 {
			s.packBlocks(pair, src[r*rowBytes+b*size:][:size], src[(r+1)*rowBytes+b*size:][:size], b%2*panelCols+r)
		}
	}
}

// packBlocks writes blocks x and y of the file into two columns of a pair's first or, from panelCols on, second block.
func (s *shortFormat) packBlocks(pair, x, y []byte, col int) {
	binary.LittleEndian.PutUint32(pair[2*col:], uint32(s.scaleBits(x))|uint32(s.scaleBits(y))<<16)
	if s.minimums {
		putHalf2(pair[64+2*col:], x[2:], y[2:])
	}
	words := pair[s.headBytes()+col/panelCols*s.blockBytes()+4*(col%panelCols):]
	if s.fifths {
		store64(words, fifthsByStep(load32(x[len(x)-20:]), load32(y[len(y)-20:])))
		words = words[4*panelCols:]
	}
	packNibbles(words, x[len(x)-16:], y[len(y)-16:])
}

// packNibbles writes four words of x and y each beside each other, into columns.
func packNibbles(words, x, y []byte) {
	q := (*[200]byte)(words)
	first, second := beside(load64(x), load64(y))
	store64(q[0:], first)
	store64(q[64:], second)
	first, second = beside(load64(x[8:]), load64(y[8:]))
	store64(q[128:], first)
	store64(q[192:], second)
}

// fifthsByStep puts bit 4s+i into bit s of byte i, in words of two columns beside each other.
func fifthsByStep(x, y uint32) uint64 {
	h := uint64(x) | uint64(y)<<32
	var to uint64
	for i := range 4 {
		bits := h >> i & 0x1111111111111111
		bits = (bits | bits>>3) & 0x0303030303030303
		bits = (bits | bits>>6) & 0x000f000f000f000f
		to |= (bits | bits>>12) & 0x000000ff000000ff << (8 * i)
	}
	return to
}

// value is what element e of a block of a column stands for, from the block's codes on.
func (s *shortFormat) value(block []byte, col, e int) int32 {
	code := 0
	if s.fifths {
		code = int(block[4*col+e%4]>>(e/4)&1) << 4
		block = block[4*panelCols:]
	}
	return s.values[code|int(block[4*(panelCols*(e/4%4)+col)+e%4]>>(e/16*4)&15)]
}

func (s *shortFormat) row(dst []float32, panel []byte, col, in int) {
	for b := range in / shortRun {
		pair := panel[b/2*s.pairBytes():][:s.pairBytes()]
		scale := s.scaleAt(pair[2*(b%2*panelCols+col):])
		block := pair[s.headBytes()+b%2*s.blockBytes():]
		y := dst[b*shortRun:][:shortRun]
		for e := range y {
			y[e] = scale * float32(s.value(block, col, e))
		}
		if s.minimums {
			minimum := halfAt(pair[64+2*(b%2*panelCols+col):])
			for e := range y {
				y[e] += minimum
			}
		}
	}
}

// multiplyGeneric adds the pairs in order. For each it adds the minimums of both blocks, if there are any, and then
// their products: y += minimum * (x's scale * sum of x), y += (scale of w * scale of x) * sum of products.
func (s *shortFormat) multiplyGeneric(a *multiplyArgs) {
	panelBytes := blockPairs(a.in) * s.pairBytes()
	for p := range a.numPanels {
		panel := a.panels[p*panelBytes:][:panelBytes]
		for r := range a.rows {
			var y [panelCols]float32
			for i := range blockPairs(a.in) {
				pair := panel[i*s.pairBytes():][:s.pairBytes()]
				tile := a.tile[2*i*a.rows*quadBlockBytes:]
				if s.minimums {
					s.addMinimums(&y, pair, tile, r, a.rows)
				}
				for half := range 2 {
					tile := tile[half*a.rows*quadBlockBytes:]
					scale := floatAt(tile[4*(a.rows+r):])
					sums := s.dot(pair[s.headBytes()+half*s.blockBytes():], tile[8*a.rows+4*r:], a.rows)
					for c := range y {
						y[c] += float32(s.scaleAt(pair[2*(half*panelCols+c):])*scale) * float32(sums[c])
					}
				}
			}
			copy(a.dst[r*a.dstStride+p*panelCols:], y[:])
		}
	}
}

// addMinimums adds those of a pair of blocks.
func (s *shortFormat) addMinimums(y *[panelCols]float32, pair, tile []byte, r, rows int) {
	for half := range 2 {
		block := tile[half*rows*quadBlockBytes:]
		rowSum := int32(binary.LittleEndian.Uint32(block[4*r:]))
		sum := float32(rowSum) * floatAt(block[4*(rows+r):])
		for c := range y {
			y[c] += halfAt(pair[64+2*(half*panelCols+c):]) * sum
		}
	}
}

// dot returns the sums of products of a block's columns with one row, whose words lie rows words apart.
func (s *shortFormat) dot(block, x []byte, rows int) [panelCols]int32 {
	var sums [panelCols]int32
	for e := range shortRun {
		v := int32(int8(x[4*(e/4)*rows+e%4]))
		for c := range sums {
			sums[c] += s.value(block, c, e) * v
		}
	}
	return sums
}
