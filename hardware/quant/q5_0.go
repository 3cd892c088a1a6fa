package quant

import "encoding/binary"

// Q5_0 stores 32 elements in 22 bytes (block_q5_0 in ggml-common.h):
//
//	0   d   half      scale
//	2   h   uint32    fifth bits: bit i is that of element i
//	6   q   uint8[16] y = d·(q-16); low nibbles are elements 0–15, high ones 16–31
var Q5_0 = register(&Format{
	Name: "Q5_0", ID: 6, BlockLen: 32, BlockBytes: 22, MaxError: 0.044,
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

// quantizeQ5_0 scales the element of largest magnitude to exactly -16, so that no code is lost.
func quantizeQ5_0(dst []byte, src []float32) {
	for ; len(src) >= 32; dst, src = dst[22:], src[32:] {
		most, ok := extreme(src[:32])
		if !ok {
			clear(dst[:22])
			putNaN(dst)
			continue
		}
		d := most / -16
		putHalf(dst, d)
		inv := quotient(1, d)
		var codes [32]uint8
		for i, v := range src[:32] {
			codes[i] = truncate(float32(v*inv)+16.5, 31)
		}
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
