package quant

// Q1_0 stores the signs of 128 elements in 18 bytes (block_q1_0 in ggml-common.h):
//
//	0   d   half      scale
//	2   q   uint8[16] bit j of byte i is element 8i+j; y = d where it is set, else -d
var Q1_0 = register(&Format{
	Name: "Q1_0", ID: 41, BlockLen: 128, BlockBytes: 18,
	dequantize: dequantizeQ1_0,
})

func dequantizeQ1_0(dst []float32, src []byte) {
	for ; len(dst) >= 128; dst, src = dst[128:], src[18:] {
		d := half(src)
		choice := [2]float32{-d, d}
		for i, b := range src[2:18] {
			y := dst[8*i : 8*i+8]
			for j := range y {
				y[j] = choice[b>>j&1]
			}
		}
	}
}
