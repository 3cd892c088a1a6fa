package quant

import "encoding/binary"

// IQ2_XXS stores 256 elements in 66 bytes (block_iq2_xxs in ggml-common.h): 8 runs of 32, each 4 points of 8.
//
//	0   d   half       scale of the scales
//	2   8 runs of 8 bytes:
//	    0   p  uint8[4] points
//	    4   s  uint32   bits 7k: signs of point k, see evenSigns; bits 28–31: scale; y = d·(scale+½)/4·point
var IQ2_XXS = register(&Format{
	Name: "IQ2_XXS", ID: 16, BlockLen: 256, BlockBytes: 66,
	dequantize: dequantizeIQ2_XXS,
})

func dequantizeIQ2_XXS(dst []float32, src []byte) {
	for ; len(src) >= 66; src = src[66:] {
		d := half(src)
		for run := range 8 {
			part := src[2+8*run : 10+8*run]
			s := binary.LittleEndian.Uint32(part[4:])
			scaled := scaled4(&levelsIQ2_XXS, d*(0.5+float32(s>>28))*0.25)
			for k, p := range part[:4] {
				readPoint8(dst, pointsIQ2_XXS[p], &scaled, evenSigns(uint8(s>>(7*k))))
				dst = dst[8:]
			}
		}
	}
}
