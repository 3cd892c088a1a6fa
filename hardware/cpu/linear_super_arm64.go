//go:build !purego

package cpu

import (
	"encoding/binary"

	"hearth/hardware/quant"
)

// Formats with blocks of 256 elements. With g elements in a group a panel has for each 256 elements of its columns, read
// strictly in this order:
//
//	d       half [16 columns]
//	dmin    half [16 columns]                     if there are minimums
//	mins    uint8 [runs/g][16 columns][g]         if there are minimums
//	for each 4 runs, of 16 or 32 elements:
//	scales  uint8, or without minimums int8 [4 runs][16 columns]
//	units                                         see codeBits
//
// and a tile, with rows as in other tiles of the group:
//
//	[blocks] of:
//	  q       int8 [256/g words][rows][g]
//	  sums    int8 [hi, lo][runs/g][rows][g]      for minimums: sum of q over runs 128*hi + lo, with lo in 0..127
//	  starts  int32 [16 runs][rows][g/4]          of Q6_K: -32 times the sum of q over a run
//	factors   float32 [blocks][rows][g/4]         scales
//
// Sums in two bytes let the minimums be multiplied by the instruction that multiplies the weights.

// superLayout is what such formats differ in.
type superLayout struct {
	format   *quant.Format
	run      int
	bits     codeBits
	minimums bool
	d        int             // offset of d in a block of the file; dmin follows
	values   func(int) int32 // what a code stands for

	// scales reads scales and minimums of a block of the file, codes unpacks it to 4 codes in a word, in order.
	scales func(block []byte) (scales, mins [16]byte)
	codes  func(codes *[longRun / 4]uint32, block []byte)
}

func layoutQ4_K() *superLayout {
	return &superLayout{
		format: quant.Q4_K, run: shortRun, bits: codeBits{lower: 4, most: 64}, minimums: true, values: lessShift(0),
		scales: readScalesQ4_K, codes: readCodesQ4_K,
	}
}

func layoutQ5_K() *superLayout {
	return &superLayout{
		format: quant.Q5_K, run: shortRun, bits: codeBits{lower: 4, upper: 1, most: 64}, minimums: true, values: lessShift(0),
		scales: readScalesQ4_K, codes: readCodesQ5_K,
	}
}

func layoutQ6_K() *superLayout {
	return &superLayout{
		format: quant.Q6_K, run: sixteenth, bits: codeBits{lower: 4, upper: 2, most: 64}, d: 208, values: lessShift(shiftQ6_K),
		scales: func(block []byte) (scales, mins [16]byte) { return [16]byte(block[192:208]), mins }, codes: readCodesQ6_K,
	}
}

func layoutIQ4_XS() *superLayout {
	table := codesIQ4_NL().values
	return &superLayout{
		format: quant.IQ4_XS, run: shortRun, bits: codeBits{lower: 4, most: 64}, values: func(code int) int32 { return table[code] },
		scales: readScalesIQ4_XS, codes: readCodesIQ4_XS,
	}
}

func layoutQ2_K() *superLayout {
	return &superLayout{
		format: quant.Q2_K, run: sixteenth, bits: codeBits{lower: 2, most: 64}, minimums: true, d: 80, values: lessShift(0),
		scales: readScalesQ2_K, codes: func(codes *[longRun / 4]uint32, block []byte) { readPairsOfBits(codes, block[16:80]) },
	}
}

func layoutQ3_K() *superLayout {
	return &superLayout{
		format: quant.Q3_K, run: sixteenth, bits: codeBits{lower: 2, upper: 1, most: 64}, d: 108, values: lessShift(shiftQ3_K),
		scales: readScalesQ3_K, codes: readCodesQ3_K,
	}
}

func lessShift(shift int32) func(int) int32 {
	return func(code int) int32 { return int32(code) - shift }
}

// runs is the number of runs in a block.
func (s *superLayout) runs() int { return longRun / s.run }

// headBytes is the size of a panel's block before its sections.
func (s *superLayout) headBytes() int {
	if s.minimums {
		return 64 + panelCols*s.runs()
	}
	return 32
}

// sectionBytes is the size of 4 runs with their scales.
func (s *superLayout) sectionBytes(g group) int { return 4*panelCols + s.bits.bytes(g, 4*s.run/int(g)) }

// blockBytes is the size of a panel's block.
func (s *superLayout) blockBytes(g group) int { return s.headBytes() + s.runs()/4*s.sectionBytes(g) }

// superCodes are blocks of 256 codes for this group.
type superCodes struct {
	*superLayout
	g group
}

// linearSuper is a format of this kind for this group. A row has so many bytes in the tile behind a block's elements.
func (g group) linearSuper(s *superLayout, extra int, kernels []panelKernel, prepare prepareKernel) *linear {
	c := superCodes{s, g}
	return g.linear(linear{
		format:     s.format,
		panelBytes: func(in int) int { return roundUp(in/longRun*s.blockBytes(g), 64) },
		pack:       c.pack,
		row:        c.row,
	}, tileForm{kernel: prepare, blockLen: longRun, extra: extra, factors: 1}, kernels)
}

func (c superCodes) pack(dst, src []byte, numRows, in int) {
	blocks, size, blockBytes := in/longRun, c.format.BlockBytes, c.blockBytes(c.g)
	clearRest(dst, blocks*blockBytes, numRows)
	var codes [longRun / 4]uint32
	for r := range numRows {
		for b := range blocks {
			block, to := src[(r*blocks+b)*size:][:size], dst[b*blockBytes:][:blockBytes]
			c.packHead(to, block, r)
			c.codes(&codes, block)
			for section := range c.runs() / 4 {
				units := to[c.headBytes()+section*c.sectionBytes(c.g)+4*panelCols:]
				c.bits.pack(c.g, units, codes[section*c.run:][:c.run], r)
			}
		}
	}
}

// packHead writes the scales of a block of the file as column col.
func (c superCodes) packHead(to, block []byte, col int) {
	copy(to[2*col:][:2], block[c.d:])
	if c.minimums {
		copy(to[32+2*col:][:2], block[c.d+2:])
	}
	scales, mins := c.scales(block)
	for run := range c.runs() {
		to[c.headBytes()+run/4*c.sectionBytes(c.g)+panelCols*(run%4)+col] = scales[run]
		if c.minimums {
			to[64+c.g.at(run, col)] = mins[run]
		}
	}
}

func (c superCodes) row(dst []float32, panel []byte, col, in int) {
	for b := range in / longRun {
		block := panel[b*c.blockBytes(c.g):][:c.blockBytes(c.g)]
		d := halfAt(block[2*col:])
		for run := range c.runs() {
			section := block[c.headBytes()+run/4*c.sectionBytes(c.g):]
			scale, minimum := float32(int8(section[panelCols*(run%4)+col])), float32(0)
			if c.minimums {
				minimum = float32(halfAt(block[32+2*col:]) * float32(block[64+c.g.at(run, col)]))
			}
			y := dst[b*longRun+run*c.run:][:c.run]
			for e := range y {
				code := c.bits.code(c.g, section[4*panelCols:], run%4*c.run+e, col)
				y[e] = float32(float32(d*scale) * float32(c.values(int(code))))
				if c.minimums {
					y[e] -= minimum
				}
			}
		}
	}
}

// readScalesQ4_K unpacks those of Q4_K and Q5_K.
func readScalesQ4_K(block []byte) (scales, mins [16]byte) {
	s, m := scalesQ4_K(block[4:16])
	for i := range 2 {
		binary.LittleEndian.PutUint32(scales[4*i:], s[i])
		binary.LittleEndian.PutUint32(mins[4*i:], m[i])
	}
	return scales, mins
}

func readScalesIQ4_XS(block []byte) (scales, mins [16]byte) {
	upper := binary.LittleEndian.Uint16(block[2:])
	for run := range longRun / shortRun {
		scales[run] = (block[4+run/2]>>(run%2*4)&15 | byte(upper>>(2*run)&3<<4)) - 32
	}
	return scales, mins
}

func readScalesQ2_K(block []byte) (scales, mins [16]byte) {
	for run := range scales {
		scales[run], mins[run] = block[run]&15, block[run]>>4
	}
	return scales, mins
}

// readScalesQ3_K: nibbles of 8 bytes with the two bits above them in 4 more.
func readScalesQ3_K(block []byte) (scales, mins [16]byte) {
	s := block[96:108]
	for run := range scales {
		scales[run] = (s[run%8]>>(run/8*4)&15 | s[8+run%4]>>(run/4*2)&3<<4) - 32
	}
	return scales, mins
}

// readCodesQ4_K: 32 bytes hold two runs, one in low nibbles and one in high ones.
func readCodesQ4_K(codes *[longRun / 4]uint32, block []byte) {
	for i := range codes {
		run := i / 8
		codes[i] = binary.LittleEndian.Uint32(block[16+32*(run/2)+4*(i%8):]) >> (run % 2 * 4) & 0x0f0f0f0f
	}
}

// readCodesQ5_K: bit r of byte i of 32 is the fifth bit of element i of run r; nibbles as in Q4_K.
func readCodesQ5_K(codes *[longRun / 4]uint32, block []byte) {
	for i := range codes {
		run := i / 8
		lower := binary.LittleEndian.Uint32(block[48+32*(run/2)+4*(i%8):]) >> (run % 2 * 4) & 0x0f0f0f0f
		fifth := binary.LittleEndian.Uint32(block[16+4*(i%8):]) >> run & 0x01010101
		codes[i] = lower | fifth<<4
	}
}

// readCodesQ6_K: a half of the block has its lower bits in the low and then the high nibbles of 64 bytes, and the upper
// ones in four pairs of bits of 32 bytes.
func readCodesQ6_K(codes *[longRun / 4]uint32, block []byte) {
	for i := range codes {
		half, quarter, at := i/32, i%32/8, 4*(i%8)
		lower := binary.LittleEndian.Uint32(block[64*half+32*(quarter%2)+at:]) >> (quarter / 2 * 4) & 0x0f0f0f0f
		upper := binary.LittleEndian.Uint32(block[128+32*half+at:]) >> (2 * quarter) & 0x03030303
		codes[i] = lower | upper<<4
	}
}

// readCodesIQ4_XS: 16 bytes hold a run, its first half in low nibbles and its second in high ones.
func readCodesIQ4_XS(codes *[longRun / 4]uint32, block []byte) {
	for i := range codes {
		codes[i] = binary.LittleEndian.Uint32(block[8+16*(i/8)+4*(i%4):]) >> (i % 8 / 4 * 4) & 0x0f0f0f0f
	}
}

// readPairsOfBits: 32 bytes have the lower two bits of 128 codes, a pair for each 32.
func readPairsOfBits(codes *[longRun / 4]uint32, src []byte) {
	for i := range codes {
		codes[i] = binary.LittleEndian.Uint32(src[32*(i/32)+4*(i%8):]) >> (i % 32 / 8 * 2) & 0x03030303
	}
}

// readCodesQ3_K: bit r of byte i of 32 is the third bit of element i of 32 number r; the lower ones are as in Q2_K.
func readCodesQ3_K(codes *[longRun / 4]uint32, block []byte) {
	readPairsOfBits(codes, block[32:96])
	for i := range codes {
		codes[i] |= binary.LittleEndian.Uint32(block[4*(i%8):]) >> (i / 8) & 0x01010101 << 2
	}
}
