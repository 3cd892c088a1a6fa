//go:build !purego

package cpu

import (
	"encoding/binary"

	"hearth/hardware/quant"
)

// Formats with blocks of 256 elements. Codes are kept in nibbles, two words in the low and the high ones of as many bytes,
// and the bits above a nibble in front of a unit: as many words as fill a byte with such bits. With g elements in a group a
// unit is, for u upper bits:
//
//	upper   uint8 [16 columns][g]                 bits u*s up of byte i belong to element i of word s; none if u is 0
//	lower   uint8 [8/u/2, or 1][16 columns][g]    words 2s and 2s+1
//
// A panel has for each 256 elements of its columns, read strictly in this order:
//
//	d       half [16 columns]
//	dmin    half [16 columns]                     of Q4_K and Q5_K
//	mins    uint8 [8/g][16 columns][g]            of Q4_K and Q5_K, minimum of runs in order
//	for each 4 runs, of 32 elements or in Q6_K of 16:
//	scales  uint8 or in Q6_K int8 [4 runs][16 columns]
//	units
//
// and a tile, with rows as in other tiles of the group:
//
//	[blocks] of:
//	  q       int8 [256/g words][rows][g]
//	  sums    int8 [hi, lo][8/g][rows][g]         of Q4_K and Q5_K: sum of q over runs 128*hi + lo, with lo in 0..127
//	  starts  int32 [16 runs][rows][g/4]          of Q6_K: -32 times the sum of q over a run
//	scales    float32 [blocks][rows][g/4]
//
// Sums in two bytes let the minimums be multiplied by the instruction that multiplies the weights.

// superLayout is what such formats differ in.
type superLayout struct {
	format    *quant.Format
	run       int
	upperBits int
	minimums  bool
	head      int // bytes of a panel's block before its sections

	// codes unpacks a block of the file to 4 codes in a word, in order.
	codes func(codes *[longRun / 4]uint32, block []byte)
}

func layoutQ4_K() *superLayout {
	return &superLayout{format: quant.Q4_K, run: shortRun, minimums: true, head: 192, codes: codesQ4_K}
}

func layoutQ5_K() *superLayout {
	return &superLayout{format: quant.Q5_K, run: shortRun, upperBits: 1, minimums: true, head: 192, codes: codesQ5_K}
}

func layoutQ6_K() *superLayout {
	return &superLayout{format: quant.Q6_K, run: sixteenth, upperBits: 2, head: 32, codes: codesQ6_K}
}

// elementsBytes is the size of n elements of 16 columns.
func (s *superLayout) elementsBytes(n int) int { return panelCols * n * (4 + s.upperBits) / 8 }

// sectionBytes is the size of 4 runs with their scales.
func (s *superLayout) sectionBytes() int { return 4*panelCols + s.elementsBytes(4*s.run) }

// blockBytes is the size of a panel's block.
func (s *superLayout) blockBytes() int { return s.head + longRun/(4*s.run)*s.sectionBytes() }

func (s *superLayout) panelBytes(in int) int { return roundUp(in/longRun*s.blockBytes(), 64) }

// extraBytes is the size of a row's sums or starts in a tile's block.
func (s *superLayout) extraBytes(g group) int {
	if s.minimums {
		return 16
	}
	return longRun / s.run * int(g)
}

// linearSuper is a format of this kind for this group.
func (g group) linearSuper(s *superLayout, kernels []panelKernel, prepare prepareKernel) *linear {
	tileBlock := longRun + s.extraBytes(g)
	return &linear{
		format:     s.format,
		tileRows:   len(kernels),
		panelBytes: s.panelBytes,
		pack:       func(dst, src []byte, numRows, in int) { g.packSuper(s, dst, src, numRows, in) },
		row:        func(dst []float32, panel []byte, col, in int) { g.rowSuper(s, dst, panel, col, in) },
		tileBytes:  func(in, rows int) int { return g.tileBytes(in/longRun, tileBlock, rows) },
		prepare:    g.prepare(prepare, longRun, tileBlock),
		multiply:   func(a *multiplyArgs) { multiplyPanels(a, kernels, s.panelBytes(a.in), a.in/longRun) },
	}
}

// packCodes writes codes of a column, four in a word, as units.
func (g group) packCodes(to []byte, codes []uint32, col, upperBits int) {
	const low, ones = 0x0f0f0f0f, 0x01010101
	m := int(g) / 4 // words of codes in a word of the group
	perUnit := 2
	if upperBits > 0 {
		perUnit = 8 / upperBits
	}
	size := panelCols * int(g)
	for ; len(codes) > 0; codes = codes[perUnit*m:] {
		if upperBits > 0 {
			mask := uint32(1<<upperBits-1) * ones
			for j := range m {
				var upper uint32
				for s := range perUnit {
					upper |= codes[s*m+j] >> 4 & mask << (upperBits * s)
				}
				binary.LittleEndian.PutUint32(to[int(g)*col+4*j:], upper)
			}
			to = to[size:]
		}
		for s := 0; s < perUnit; s += 2 {
			for j := range m {
				binary.LittleEndian.PutUint32(to[int(g)*col+4*j:], codes[s*m+j]&low|codes[(s+1)*m+j]&low<<4)
			}
			to = to[size:]
		}
	}
}

// code reads element e of a column from units.
func (g group) code(units []byte, e, col, upperBits int) byte {
	word, size := e/int(g), panelCols*int(g)
	at := int(g)*col + e%int(g)
	if upperBits == 0 {
		return units[word/2*size+at] >> (word % 2 * 4) & 15
	}
	perUnit := 8 / upperBits
	unit := units[word/perUnit*(1+perUnit/2)*size:]
	word %= perUnit
	upper := unit[at] >> (upperBits * word) & (1<<upperBits - 1)
	return unit[(1+word/2)*size+at]>>(word%2*4)&15 | upper<<4
}

func (g group) packSuper(s *superLayout, dst, src []byte, numRows, in int) {
	blocks, size := in/longRun, s.format.BlockBytes
	clearRest(dst, blocks*s.blockBytes(), numRows)
	var codes [longRun / 4]uint32
	for r := range numRows {
		for b := range blocks {
			block, to := src[(r*blocks+b)*size:][:size], dst[b*s.blockBytes():][:s.blockBytes()]
			g.packHead(s, to, block, r)
			s.codes(&codes, block)
			for section := range longRun / (4 * s.run) {
				units := to[s.head+section*s.sectionBytes()+4*panelCols:]
				g.packCodes(units, codes[section*s.run:][:s.run], r, s.upperBits)
			}
		}
	}
}

// packHead writes the scales of a block of the file as column col.
func (g group) packHead(s *superLayout, to, block []byte, col int) {
	scale := func(run int) *byte { return &to[s.head+run/4*s.sectionBytes()+panelCols*(run%4)+col] }
	if !s.minimums {
		copy(to[2*col:][:2], block[208:])
		for run := range longRun / s.run {
			*scale(run) = block[192+run]
		}
		return
	}
	copy(to[2*col:][:2], block)
	copy(to[32+2*col:][:2], block[2:])
	scales, mins := scalesQ4_K(block[4:16])
	for run := range longRun / s.run {
		*scale(run) = byte(scales[run/4] >> (run % 4 * 8))
		to[64+g.at(run, col)] = byte(mins[run/4] >> (run % 4 * 8))
	}
}

func (g group) rowSuper(s *superLayout, dst []float32, panel []byte, col, in int) {
	for b := range in / longRun {
		block := panel[b*s.blockBytes():][:s.blockBytes()]
		d := halfAt(block[2*col:])
		for run := range longRun / s.run {
			section := block[s.head+run/4*s.sectionBytes():]
			scale, units := section[panelCols*(run%4)+col], section[4*panelCols:]
			y := dst[b*longRun+run*s.run:][:s.run]
			for e := range y {
				code := g.code(units, run%4*s.run+e, col, s.upperBits)
				if s.minimums {
					minimum := halfAt(block[32+2*col:]) * float32(block[64+g.at(run, col)])
					y[e] = float32(float32(d*float32(scale))*float32(code)) - minimum
				} else {
					y[e] = float32(d*float32(int8(scale))) * float32(int32(code)-shiftQ6_K)
				}
			}
		}
	}
}

// codesQ4_K: 32 bytes hold two runs, one in low nibbles and one in high ones.
func codesQ4_K(codes *[longRun / 4]uint32, block []byte) {
	for i := range codes {
		run := i / 8
		codes[i] = binary.LittleEndian.Uint32(block[16+32*(run/2)+4*(i%8):]) >> (run % 2 * 4) & 0x0f0f0f0f
	}
}

// codesQ5_K: bit r of byte i of 32 is the fifth bit of element i of run r; nibbles as in Q4_K.
func codesQ5_K(codes *[longRun / 4]uint32, block []byte) {
	for i := range codes {
		run := i / 8
		lower := binary.LittleEndian.Uint32(block[48+32*(run/2)+4*(i%8):]) >> (run % 2 * 4) & 0x0f0f0f0f
		fifth := binary.LittleEndian.Uint32(block[16+4*(i%8):]) >> run & 0x01010101
		codes[i] = lower | fifth<<4
	}
}

// codesQ6_K: a half of the block has its lower bits in the low and then the high nibbles of 64 bytes, and the upper ones in
// four pairs of bits of 32 bytes.
func codesQ6_K(codes *[longRun / 4]uint32, block []byte) {
	for i := range codes {
		half, quarter, at := i/32, i%32/8, 4*(i%8)
		lower := binary.LittleEndian.Uint32(block[64*half+32*(quarter%2)+at:]) >> (quarter / 2 * 4) & 0x0f0f0f0f
		upper := binary.LittleEndian.Uint32(block[128+32*half+at:]) >> (2 * quarter) & 0x03030303
		codes[i] = lower | upper<<4
	}
}
