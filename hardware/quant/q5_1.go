package quant

import "encoding/binary"

// Q5_1 stores 32 elements in 24 bytes (block_q5_1 in ggml-common.h):
//
//	0   d   half      scale
//	2   m   half      minimum
//	4   h   uint32    fifth bits: bit i is that of element i
//	8   q   uint8[16] y = d·q + m; low nibbles are elements 0–15, high ones 16–31
var Q5_1 = register(&Format{
	Name: "Q5_1", ID: 7, BlockLen: 32, BlockBytes: 24, MaxError: 0.038,
	dequantize: dequantizeQ5_1, quantize: quantizeQ5_1,
})

func dequantizeQ5_1(dst []float32, src []byte) {
	for ; len(dst) >= 32; dst, src = dst[32:], src[24:] {
		d, m, h := half(src), half(src[2:]), binary.LittleEndian.Uint32(src[4:])
		lo, hi, q := dst[:16], dst[16:32], src[8:24]
		for i, b := range q {
			lo[i] = float32(d*float32(uint32(b&15)|h>>i&1<<4)) + m
			hi[i] = float32(d*float32(uint32(b>>4)|h>>(i+16)&1<<4)) + m
		}
	}
}

func quantizeQ5_1(dst []byte, src, importance []float32) {
	cols := columns{importance: importance}
	cols.measure(src)
	var codes [32]uint8
	for at := 0; at < len(src); at, dst = at+32, dst[24:] {
		x := src[at : at+32]
		d, m := affineCodes(&codes, x, cols.weigh(at, x), 31)
		putHalf(dst, d)
		putHalf(dst[2:], m)
		putFives(dst[4:24], &codes)
	}
}
