package quant

import "math"

// Q8_0 stores 32 elements in 34 bytes (block_q8_0 in ggml-common.h):
//
//	0   d   half     scale
//	2   q   int8[32] y = d·q
var Q8_0 = register(&Format{
	Name: "Q8_0", ID: 8, BlockLen: 32, BlockBytes: 34, MaxError: 0.0055,
	dequantize: dequantizeQ8_0, quantize: quantizeQ8_0,
})

func dequantizeQ8_0(dst []float32, src []byte) {
	for ; len(dst) >= 32; dst, src = dst[32:], src[34:] {
		d := half(src)
		y, q := dst[:32], src[2:34]
		for i := range y {
			y[i] = d * float32(int8(q[i]))
		}
	}
}

// quantizeQ8_0 divides by the scale before it is rounded to a half, as the reference does.
func quantizeQ8_0(dst []byte, src, _ []float32) {
	for ; len(src) >= 32; dst, src = dst[34:], src[32:] {
		x, q := src[:32], dst[2:34]
		most, ok := extreme(x)
		if !ok {
			putNaN(dst)
			clear(q)
			continue
		}
		d := float32(math.Abs(float64(most))) / 127
		putHalf(dst, d)
		inv := quotient(1, d)
		for i, v := range x {
			// Ties go away from zero. The sum is exact in double precision, and so is the decision.
			s := float64(v * inv)
			q[i] = byte(int8(s + math.Copysign(0.5, s)))
		}
	}
}
