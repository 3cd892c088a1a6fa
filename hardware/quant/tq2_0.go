package quant

// TQ2_0 stores 256 elements -1, 0 or 1 times a scale in 66 bytes (block_tq2_0 in ggml-common.h):
//
//	0   q   uint8[64] y = d·(q-1); bits 2k of bytes 0–31 are elements 32k…, of bytes 32–63 elements 128 + 32k…
//	64  d   half      scale
var TQ2_0 = register(&Format{
	Name: "TQ2_0", ID: 35, BlockLen: 256, BlockBytes: 66, MaxError: 0.81,
	dequantize: dequantizeTQ2_0, quantize: quantizeTQ2_0,
})

func dequantizeTQ2_0(dst []float32, src []byte) {
	for ; len(dst) >= 256; dst, src = dst[256:], src[66:] {
		d := half(src[64:])
		for run := range 8 {
			q, y := src[run/4*32:run/4*32+32], dst[32*run:32*run+32]
			for i, b := range q {
				y[i] = d * float32(int32(b>>(run%4*2)&3)-1)
			}
		}
	}
}

func quantizeTQ2_0(dst []byte, src, _ []float32) {
	for ; len(src) >= 256; dst, src = dst[66:], src[256:] {
		clear(dst[:64])
		inv, ok := putTernary(dst[64:66], src[:256])
		if !ok {
			continue
		}
		for run := range 8 {
			q, x := dst[run/4*32:run/4*32+32], src[32*run:32*run+32]
			for i, v := range x {
				q[i] |= uint8(ternary(v*inv)) << (run % 4 * 2)
			}
		}
	}
}
