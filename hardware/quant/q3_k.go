package quant

// Q3_K stores 256 elements in 110 bytes (block_q3_K in ggml-common.h): 16 runs of 16, each with a scale of 6 bits.
//
//	0    h   uint8[32] third bits: bit r of byte i is that of element i of the r-th 32 elements
//	32   q   uint8[64] y = d·scale·(q-4); the lower 2 bits of each element, see crumbs
//	96   s   uint8[12] 16 scales, see scaleQ3_K
//	108  d   half      scale of the scales
var Q3_K = register(&Format{
	Name: "Q3_K", ID: 11, BlockLen: 256, BlockBytes: 110, MaxError: 0.155,
	dequantize: dequantizeQ3_K, quantize: quantizeQ3_K,
})

// scaleQ3_K returns the scale of a run, -32 … 31. Its lower 4 bits are a nibble of the first 8 bytes, low ones for runs
// 0–7; its upper 2 bits are in the last 4 bytes, run 4p+i at bits 2p of byte i.
func scaleQ3_K(s []byte, run int) int32 {
	return int32(s[run%8]>>(run/8*4)&15|s[8+run%4]>>(run/4*2)&3<<4) - 32
}

// putScaleQ3_K writes the scale of a run, -32 … 31, into bytes that were zero before the first one.
func putScaleQ3_K(s []byte, run int, scale int32) {
	code := uint8(scale + 32)
	s[run%8] |= code & 15 << (run / 8 * 4)
	s[8+run%4] |= code >> 4 << (run / 4 * 2)
}

func dequantizeQ3_K(dst []float32, src []byte) {
	for ; len(dst) >= 256; dst, src = dst[256:], src[110:] {
		d, s := half(src[108:]), src[96:108]
		for run := range 16 {
			scale := d * float32(scaleQ3_K(s, run))
			q, shift := crumbs(src[32:96], run)
			h := src[run%2*16 : run%2*16+16]
			y := dst[16*run : 16*run+16]
			for i, b := range q {
				y[i] = scale * float32(int32(b>>shift&3|h[i]>>(run/2)&1<<2)-4)
			}
		}
	}
}

func quantizeQ3_K(dst []byte, src []float32) {
	var codes [256]int8
	for ; len(src) >= 256; dst, src = dst[110:], src[256:] {
		x := src[:256]
		clear(dst[:110])
		if !finite(x) {
			putNaN(dst[108:])
			continue
		}
		var scales [16]float32
		for run := range scales {
			scales[run] = descend(codes[16*run:16*run+16], x[16*run:16*run+16], 4)
		}
		most, _ := extreme(scales[:])
		perScale := quotient(-32, most)
		putHalf(dst[108:], quotient(1, perScale))
		d, s := half(dst[108:]), dst[96:108]
		for run := range scales {
			putScaleQ3_K(s, run, roundEven(perScale*scales[run], -32, 31))
			run16 := codes[16*run : 16*run+16]
			if dr := d * float32(scaleQ3_K(s, run)); dr != 0 {
				// The codes again, for the scale as it will be read.
				for i, v := range x[16*run : 16*run+16] {
					run16[i] = int8(roundEven(v/dr, -4, 3))
				}
			}
			q, shift := crumbs(dst[32:96], run)
			h := dst[run%2*16 : run%2*16+16]
			for i, c := range run16 {
				code := uint8(c + 4)
				q[i] |= code & 3 << shift
				h[i] |= code >> 2 << (run / 2)
			}
		}
	}
}
