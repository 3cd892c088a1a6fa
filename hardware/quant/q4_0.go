package quant

// Q4_0 stores 32 elements in 18 bytes (block_q4_0 in ggml-common.h):
//
//	0   d   half      scale
//	2   q   uint8[16] y = d·(q-8); low nibbles are elements 0–15, high ones 16–31
var Q4_0 = register(&Format{
	Name: "Q4_0", ID: 2, BlockLen: 32, BlockBytes: 18, MaxError: 0.086,
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

func quantizeQ4_0(dst []byte, src, importance []float32) {
	cols := columns{importance: importance}
	cols.measure(src)
	var codes [32]uint8
	for at := 0; at < len(src); at, dst = at+32, dst[18:] {
		x := src[at : at+32]
		putHalf(dst, symmetricCodes(&codes, x, cols.weigh(at, x), 8))
		for i := range 16 {
			dst[2+i] = codes[i] | codes[i+16]<<4
		}
	}
}
