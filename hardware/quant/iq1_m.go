package quant

import "encoding/binary"

// IQ1_M stores 256 elements in 56 bytes (block_iq1_m in ggml-common.h): 32 points of 8.
//
//	0   p   uint8[32] lower 8 bits of the points
//	32  h   uint8[16] nibbles, low one first, of a point: bits 0–2: upper bits; bit 3: sign of the shift ⅛
//	48  s   uint16[4] bits 3k: scales of 2 points each; bits 12–15: a nibble of d, the first one the lowest;
//	                  y = d·(2·scale+1)·(point ± ⅛)
var IQ1_M = register(&Format{
	Name: "IQ1_M", ID: 29, BlockLen: 256, BlockBytes: 56,
	dequantize: dequantizeIQ1_M,
})

func dequantizeIQ1_M(dst []float32, src []byte) {
	for ; len(src) >= 56; src = src[56:] {
		var s [4]uint16
		var super uint16
		for i := range s {
			s[i] = binary.LittleEndian.Uint16(src[48+2*i:])
			super |= s[i] >> 12 << (4 * i)
		}
		d := F16ToF32(super)
		for k, p := range src[:32] {
			scale := s[k/8] >> (k % 8 / 2 * 3) & 7
			h := src[32+k/2] >> (k % 2 * 4)
			scaled := shifted(d*float32(2*scale+1), h>>3)
			readPoint8(dst, pointsIQ1[int(p)|int(h&7)<<8], &scaled, 0)
			dst = dst[8:]
		}
	}
}
