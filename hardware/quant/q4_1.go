package quant

// Q4_1 stores 32 elements in 20 bytes (block_q4_1 in ggml-common.h):
//
//	0   d   half      scale
//	2   m   half      minimum
//	4   q   uint8[16] y = d·q + m; low nibbles are elements 0–15, high ones 16–31
var Q4_1 = register(&Format{
	Name: "Q4_1", ID: 3, BlockLen: 32, BlockBytes: 20, MaxError: 0.078,
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

func quantizeQ4_1(dst []byte, src, importance []float32) {
	cols := columns{importance: importance}
	cols.measure(src)
	var codes [32]uint8
	for at := 0; at < len(src); at, dst = at+32, dst[20:] {
		x := src[at : at+32]
		d, m := affineCodes(&codes, x, cols.weigh(at, x), 15)
		putHalf(dst, d)
		putHalf(dst[2:], m)
		for i := range 16 {
			dst[4+i] = codes[i] | codes[i+16]<<4
		}
	}
}
