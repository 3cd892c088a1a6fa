package quant

// Q4_0 stores 32 elements in 18 bytes (block_q4_0 in ggml-common.h):
//
//	0   d   half      scale
//	2   q   uint8[16] y = d·(q-8); low nibbles are elements 0–15, high ones 16–31
var Q4_0 = register(&Format{
	Name: "Q4_0", ID: 2, BlockLen: 32, BlockBytes: 18, MaxError: 0.095,
	dequantize: dequantizeQ4_0, quantize: quantizeQ4_0,
})

func dequantizeQ4_0(dst []float32, src []byte) {
	for ; len(dst) >= 32; dst, src = dst[32:], src[18:] {
		d := half(src)
		lo, hi, q := dst[:16], dst[16:32], src[2:18]
		for i, b := range q {
			lo[i] = d * float32(int32(b&15)-8)
			hi[i] = d * float32(int32(b>>4)-8)
		}
	}
}

// quantizeQ4_0 scales the element of largest magnitude to exactly -8, so that no code is lost.
func quantizeQ4_0(dst []byte, src []float32) {
	for ; len(src) >= 32; dst, src = dst[18:], src[32:] {
		lo, hi, q := src[:16], src[16:32], dst[2:18]
		most, ok := extreme(src[:32])
		if !ok {
			putNaN(dst)
			clear(q)
			continue
		}
		d := most / -8
		putHalf(dst, d)
		inv := quotient(1, d)
		for i := range q {
			q[i] = truncate(float32(lo[i]*inv)+8.5, 15) | truncate(float32(hi[i]*inv)+8.5, 15)<<4
		}
	}
}
