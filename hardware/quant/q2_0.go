package quant

// Q2_0 stores 64 elements in 18 bytes (block_q2_0 in ggml-common.h):
//
//	0   d   half      scale
//	2   q   uint8[16] y = d·(q-1); bits 2j of byte i are element 4i+j
var Q2_0 = register(&Format{
	Name: "Q2_0", ID: 42, BlockLen: 64, BlockBytes: 18,
	dequantize: dequantizeQ2_0,
})

func dequantizeQ2_0(dst []float32, src []byte) {
	for ; len(dst) >= 64; dst, src = dst[64:], src[18:] {
		d := half(src)
		for i, b := range src[2:18] {
			y := dst[4*i : 4*i+4]
			for j := range y {
				y[j] = d * float32(int32(b>>(2*j)&3)-1)
			}
		}
	}
}
