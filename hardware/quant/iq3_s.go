package quant

// IQ3_S stores 256 elements in 110 bytes (block_iq3_s in ggml-common.h): 64 points of 4.
//
//	0    d      half      scale of the scales
//	2    p      uint8[64] lower 8 bits of the points
//	66   h      uint8[8]  bit k of byte i: ninth bit of point 8i+k
//	74   signs  uint8[32] of 2 points each
//	106  s      uint8[4]  nibbles: scales of 8 points each, low one first; y = d·(2·scale+1)·point
var IQ3_S = register(&Format{
	Name: "IQ3_S", ID: 21, BlockLen: 256, BlockBytes: 110,
	dequantize: dequantizeIQ3_S,
})

func dequantizeIQ3_S(dst []float32, src []byte) {
	for ; len(src) >= 110; src = src[110:] {
		d, p, h, signs, s := half(src), src[2:66], src[66:74], src[74:106], src[106:110]
		for run := range 8 {
			scale := s[run/2] >> (run % 2 * 4) & 15
			scaled := scaled8(&levelsIQ3_S, d*float32(1+2*uint32(scale)))
			for k := 8 * run; k < 8*run+8; k++ {
				point := int(p[k]) | int(h[run]>>(k%8)&1)<<8
				readPoint4(dst, pointsIQ3_S[point], &scaled, signs[k/2]>>(k%2*4))
				dst = dst[4:]
			}
		}
	}
}
