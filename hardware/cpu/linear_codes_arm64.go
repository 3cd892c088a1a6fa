//go:build !purego

package cpu

import (
	"encoding/binary"

	"hearth/hardware/quant"
)

// codeBits is how codes of few bits are kept, in units of words. The lower bits of several words share the bytes of a
// plane, [16 columns][g], with those of the first word lowest; the bits above them share one plane more, in front. A unit
// is as many words as one of its planes has room for, or as a block has.
type codeBits struct{ lower, upper, most int }

// unitWords is the number of words in a unit, perPlane that in a lower plane.
func (c codeBits) unitWords() int {
	if c.upper > 0 {
		return min(8/c.upper, c.most)
	}
	return c.perPlane()
}

func (c codeBits) perPlane() int { return 8 / c.lower }

// bytes is the size of so many words for all columns.
func (c codeBits) bytes(g group, words int) int {
	planes := words / c.perPlane()
	if c.upper > 0 {
		planes += words / c.unitWords()
	}
	return planes * panelCols * int(g)
}

// pack writes codes of a column, four in a word.
func (c codeBits) pack(g group, to []byte, codes []uint32, col int) {
	const ones = 0x01010101
	m := int(g) / 4 // words of four codes in a word of the group
	lower, upper := uint32(1<<c.lower-1)*ones, uint32(1<<c.upper-1)*ones
	for ; len(codes) > 0; codes = codes[c.unitWords()*m:] {
		if c.upper > 0 {
			for j := range m {
				var plane uint32
				for s := range c.unitWords() {
					plane |= codes[s*m+j] >> c.lower & upper << (c.upper * s)
				}
				binary.LittleEndian.PutUint32(to[int(g)*col+4*j:], plane)
			}
			to = to[panelCols*int(g):]
		}
		for first := 0; first < c.unitWords(); first += c.perPlane() {
			for j := range m {
				var plane uint32
				for s := range c.perPlane() {
					plane |= codes[(first+s)*m+j] & lower << (c.lower * s)
				}
				binary.LittleEndian.PutUint32(to[int(g)*col+4*j:], plane)
			}
			to = to[panelCols*int(g):]
		}
	}
}

// code reads element e of a column.
func (c codeBits) code(g group, units []byte, e, col int) byte {
	word, plane := e/int(g), panelCols*int(g)
	at := int(g)*col + e%int(g)
	unit := units[word/c.unitWords()*c.bytes(g, c.unitWords()):]
	word %= c.unitWords()
	var upper byte
	if c.upper > 0 {
		upper = unit[at] >> (c.upper * word) & (1<<c.upper - 1) << c.lower
		unit = unit[plane:]
	}
	return unit[word/c.perPlane()*plane+at]>>(word%c.perPlane()*c.lower)&(1<<c.lower-1) | upper
}

// shortCodes are blocks of 32 codes for this group.
type shortCodes struct {
	*shortFormat
	g    group
	bits codeBits
}

// linearShort is a format with blocks of 32 codes for this group.
func (g group) linearShort(s *shortFormat, kernels []panelKernel, prepare prepareKernel) *linear {
	c := &shortCodes{shortFormat: s, g: g, bits: codeBits{lower: 4, most: shortRun / int(g)}}
	if s.fifths {
		c.bits.upper = 1
	}
	return g.linear(linear{
		format:     s.format,
		panelBytes: func(in int) int { return roundUp(in/shortRun*c.blockBytes(), 64) },
		pack:       c.pack,
		row:        c.row,
	}, tileForm{kernel: prepare, blockLen: shortRun, factors: c.headBytes() / 32}, kernels)
}

// headBytes is the size of a block's scales and minimums.
func (c *shortCodes) headBytes() int { return c.shortFormat.headBytes() / 2 }

// blockBytes is a panel's size for 32 elements.
func (c *shortCodes) blockBytes() int {
	return c.headBytes() + c.bits.bytes(c.g, shortRun/int(c.g))
}

// flip makes codes those that kernels want: of Q4_0 the weight itself in 4 bits.
func (c *shortCodes) flip() uint32 {
	if c.format == quant.Q4_0 {
		return 0x08080808
	}
	return 0
}

func (c *shortCodes) pack(dst, src []byte, numRows, in int) {
	blocks, size := in/shortRun, c.format.BlockBytes
	clearRest(dst, blocks*c.blockBytes(), numRows)
	var codes [shortRun / 4]uint32
	for r := range numRows {
		for b := range blocks {
			block, to := src[(r*blocks+b)*size:][:size], dst[b*c.blockBytes():][:c.blockBytes()]
			binary.LittleEndian.PutUint16(to[2*r:], c.scaleBits(block))
			if c.minimums {
				copy(to[32+2*r:][:2], block[2:])
			}
			for i := range 4 {
				v := binary.LittleEndian.Uint32(block[size-16+4*i:])
				codes[i], codes[4+i] = v&0x0f0f0f0f^c.flip(), v>>4&0x0f0f0f0f^c.flip()
			}
			if c.fifths {
				fifths := binary.LittleEndian.Uint32(block[size-20:])
				for i := range codes { // the product has each of four bits at the bottom of a byte
					codes[i] |= fifths >> (4 * i) & 15 * 0x00204081 & 0x01010101 << 4
				}
			}
			c.bits.pack(c.g, to[c.headBytes():], codes[:], r)
		}
	}
}

func (c *shortCodes) row(dst []float32, panel []byte, col, in int) {
	for b := range in / shortRun {
		block := panel[b*c.blockBytes():][:c.blockBytes()]
		scale := c.scaleAt(block[2*col:])
		y := dst[b*shortRun:][:shortRun]
		for e := range y {
			code := c.bits.code(c.g, block[c.headBytes():], e, col) ^ byte(c.flip())
			y[e] = scale * float32(c.values[code])
		}
		if c.minimums {
			minimum := halfAt(block[32+2*col:])
			for e := range y {
				y[e] += minimum
			}
		}
	}
}
