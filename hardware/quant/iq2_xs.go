package quant

import "encoding/binary"

// IQ2_XS stores 256 elements in 74 bytes (block_iq2_xs in ggml-common.h): 32 points of 8.
//
//	0   d   half       scale of the scales
//	2   p   uint16[32] bits 0–8: point; bits 9–15: its signs, see evenSigns
//	66  s   uint8[8]   nibbles: scales of 2 points each, low one first; y = d·(scale+½)/4·point
var IQ2_XS = register(&Format{
	Name: "IQ2_XS", ID: 17, BlockLen: 256, BlockBytes: 74,
	dequantize: dequantizeIQ2_XS,
})

func dequantizeIQ2_XS(dst []float32, src []byte) {
	for ; len(src) >= 74; src = src[74:] {
		d, s := half(src), src[66:74]
		for pair := range 16 {
			scale := s[pair/2] >> (pair % 2 * 4) & 15
			scaled := scaled4(&levelsIQ2_XS, d*(0.5+float32(scale))*0.25)
			for k := 2 * pair; k < 2*pair+2; k++ {
				p := binary.LittleEndian.Uint16(src[2+2*k:])
				readPoint8(dst, pointsIQ2_XS[p&511], &scaled, evenSigns(uint8(p>>9)))
				dst = dst[8:]
			}
		}
	}
}
