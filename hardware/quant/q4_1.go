package quant

// Q4_1 stores 32 elements in 20 bytes (block_q4_1 in ggml-common.h):
//
//	0   d   half      scale
//	2   m   half      minimum
//	4   q   uint8[16] y = d·q + m; low nibbles are elements 0–15, high ones 16–31
var Q4_1 = register(&Format{
	Name: "Q4_1", ID: 3, BlockLen: 32, BlockBytes: 20, MaxError: 0.080,
	dequantize: dequantizeQ4_1, quantize: quantizeQ4_1,
})

func dequantizeQ4_1(dst []float32, src []byte) {
	for ; len(dst) >= 32; dst, src = dst[32:], src[20:] {
		d, m := half(src), half(src[2:])
		lo, hi, q := dst[:16], dst[16:32], src[4:20]
		for i, b := range q {
			lo[i] = float32(d*float32(b&15)) + m
			hi[i] = float32(d*float32(b>>4)) + m
		}
	}
}

func quantizeQ4_1(dst []byte, src []float32) {
	for ; len(src) >= 32; dst, src = dst[20:], src[32:] {
		q := dst[4:20]
		m, inv, ok := putRange(dst, src[:32], 15)
		if !ok {
			clear(q)
			continue
		}
		lo, hi := src[:16], src[16:32]
		for i := range q {
			q[i] = truncate(float32((lo[i]-m)*inv)+0.5, 15) | truncate(float32((hi[i]-m)*inv)+0.5, 15)<<4
		}
	}
}

// putRange writes the scale and the minimum that spread the codes 0 … most over the range of x, which Q4_1 and Q5_1
// start with. It returns them as they were before rounding, the scale inverted, and whether all elements are finite;
// if not, both are written as not a number.
func putRange(head []byte, x []float32, most float32) (lo, inv float32, ok bool) {
	if !finite(x) {
		putNaN(head)
		putNaN(head[2:])
		return 0, 0, false
	}
	lo, hi := x[0], x[0]
	for _, v := range x[1:] {
		lo, hi = min(lo, v), max(hi, v)
	}
	d := (hi - lo) / most
	putHalf(head, d)
	putHalf(head[2:], lo)
	return lo, quotient(1, d), true
}
