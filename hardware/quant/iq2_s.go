package quant

// IQ2_S stores 256 elements in 82 bytes (block_iq2_s in ggml-common.h): 32 points of 8.
//
//	0   d      half      scale of the scales
//	2   p      uint8[32] lower 8 bits of the points
//	34  signs  uint8[32] of the points
//	66  h      uint8[8]  bits 2k of byte i: upper bits of point 4i+k
//	74  s      uint8[8]  nibbles: scales of 2 points each, low one first; y = d·(scale+½)/4·point
var IQ2_S = register(&Format{
	Name: "IQ2_S", ID: 22, BlockLen: 256, BlockBytes: 82,
	dequantize: dequantizeIQ2_S,
})

func dequantizeIQ2_S(dst []float32, src []byte) {
	for ; len(src) >= 82; src = src[82:] {
		d, p, signs, h, s := half(src), src[2:34], src[34:66], src[66:74], src[74:82]
		for pair := range 16 {
			scale := s[pair/2] >> (pair % 2 * 4) & 15
			scaled := scaled4(&levelsIQ2_S, d*(0.5+float32(scale))*0.25)
			for k := 2 * pair; k < 2*pair+2; k++ {
				point := int(p[k]) | int(h[k/4]>>(k%4*2)&3)<<8
				readPoint8(dst, pointsIQ2_S[point], &scaled, signs[k])
				dst = dst[8:]
			}
		}
	}
}
