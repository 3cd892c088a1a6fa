package quant

import "encoding/binary"

// Q5_0 stores 32 elements in 22 bytes (block_q5_0 in ggml-common.h):
//
//	0   d   half      scale
//	2   h   uint32    fifth bits: bit i is that of element i
//	6   q   uint8[16] y = d·(q-16); low nibbles are elements 0–15, high ones 16–31
var Q5_0 = register(&Format{
	Name: "Q5_0", ID: 6, BlockLen: 32, BlockBytes: 22, MaxError: 0.043,
	dequantize: dequantizeQ5_0, quantize: quantizeQ5_0,
})

func dequantizeQ5_0(dst []float32, src []byte) {
	for ; len(dst) >= 32; dst, src = dst[32:], src[22:] {
		d, h := half(src), binary.LittleEndian.Uint32(src[2:])
		lo, hi, q := dst[:16], dst[16:32], src[6:22]
		for i, b := range q {
			lo[i] = d * float32(int32(uint32(b&15)|h>>i&1<<4)-16)
			hi[i] = d * float32(int32(uint32(b>>4)|h>>(i+16)&1<<4)-16)
		}
	}
}

func quantizeQ5_0(dst []byte, src, importance []float32) {
	cols := columns{importance: importance}
	cols.measure(src)
	var codes [32]uint8
	for at := 0; at < len(src); at, dst = at+32, dst[22:] {
		x := src[at : at+32]
		putHalf(dst, symmetricCodes(&codes, x, cols.weigh(at, x), 16))
		putFives(dst[2:22], &codes)
	}
}

// putFives writes 32 codes of 5 bits: the fifth bits, then the nibbles, as Q5_0 and Q5_1 keep them.
func putFives(dst []byte, codes *[32]uint8) {
	var h uint32
	for i := range 16 {
		lo, hi := codes[i], codes[i+16]
		h |= uint32(lo>>4)<<i | uint32(hi>>4)<<(i+16)
		dst[4+i] = lo&15 | hi<<4
	}
	binary.LittleEndian.PutUint32(dst, h)
}
