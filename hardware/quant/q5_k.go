package quant

// Q5_K stores 256 elements in 176 bytes (block_q5_K in ggml-common.h): 8 runs of 32, each with a scale and a minimum of
// 6 bits.
//
//	0   d     half       scale of the scales
//	2   dmin  half       scale of the minimums
//	4   s     uint8[12]  8 scales and 8 minimums, see scaleMin
//	16  h     uint8[32]  fifth bits: bit r of byte i is that of element i of run r
//	48  q     uint8[128] y = d·scale·q - dmin·min; in each 32 bytes low nibbles are one run, high ones the next
var Q5_K = register(&Format{
	Name: "Q5_K", ID: 13, BlockLen: 256, BlockBytes: 176, MaxError: 0.036,
	dequantize: dequantizeQ5_K, quantize: quantizeQ5_K,
})

var searchQ5_K = affineSearch{most: 31, first: -0.5, step: 0.1, steps: 15}

func dequantizeQ5_K(dst []float32, src []byte) {
	for ; len(dst) >= 256; dst, src = dst[256:], src[176:] {
		d, dmin, s, h := half(src), half(src[2:]), src[4:16], src[16:48]
		for g := range 4 {
			q := src[48+32*g : 80+32*g]
			lo, hi := dst[64*g:64*g+32], dst[64*g+32:64*g+64]
			scale0, min0 := scaleMin(s, 2*g)
			scale1, min1 := scaleMin(s, 2*g+1)
			d0, m0 := d*float32(scale0), float32(dmin*float32(min0))
			d1, m1 := d*float32(scale1), float32(dmin*float32(min1))
			for i, b := range q {
				fifths := h[i] >> (2 * g)
				lo[i] = float32(d0*float32(b&15|fifths&1<<4)) - m0
				hi[i] = float32(d1*float32(b>>4|fifths>>1&1<<4)) - m1
			}
		}
	}
}

func quantizeQ5_K(dst []byte, src, importance []float32) {
	cols := columns{importance: importance}
	var codes [256]uint8
	for at := 0; at < len(src); at, dst = at+256, dst[176:] {
		quantizeRuns(dst[:16], &codes, src[at:at+256], &cols, at, &searchQ5_K)
		h := dst[16:48]
		clear(h)
		for g := range 4 {
			lo, hi, q := codes[64*g:64*g+32], codes[64*g+32:64*g+64], dst[48+32*g:80+32*g]
			for i := range q {
				q[i] = lo[i]&15 | hi[i]<<4
				h[i] |= lo[i]>>4<<(2*g) | hi[i]>>4<<(2*g+1)
			}
		}
	}
}
