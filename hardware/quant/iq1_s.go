package quant

import "encoding/binary"

// IQ1_S stores 256 elements in 50 bytes (block_iq1_s in ggml-common.h): 8 runs of 32, each 4 points of 8.
//
//	0   d   half      scale of the scales
//	2   p   uint8[32] lower 8 bits of the points
//	34  h   uint16[8] of a run: bits 3k: upper bits of point k; bits 12–14: scale; bit 15: sign of the shift ⅛;
//	                  y = d·(2·scale+1)·(point ± ⅛)
var IQ1_S = register(&Format{
	Name: "IQ1_S", ID: 19, BlockLen: 256, BlockBytes: 50,
	dequantize: dequantizeIQ1_S,
})

// shiftIQ1 is what the points of IQ1_S and IQ1_M are shifted by, up or down.
const shiftIQ1 = 0.125

// shifted returns the levels of IQ1 shifted, down if the lowest bit of down is set, and then d times them.
func shifted(d float32, down uint8) (scaled [4]float32) {
	shift := flip(shiftIQ1, down)
	for i, level := range levelsIQ1 {
		scaled[i] = d * (level + shift)
	}
	return scaled
}

func dequantizeIQ1_S(dst []float32, src []byte) {
	for ; len(src) >= 50; src = src[50:] {
		d := half(src)
		for run := range 8 {
			h := binary.LittleEndian.Uint16(src[34+2*run:])
			scaled := shifted(d*float32(2*(h>>12&7)+1), uint8(h>>15))
			for k, p := range src[2+4*run : 6+4*run] {
				readPoint8(dst, pointsIQ1[int(p)|int(h>>(3*k)&7)<<8], &scaled, 0)
				dst = dst[8:]
			}
		}
	}
}
