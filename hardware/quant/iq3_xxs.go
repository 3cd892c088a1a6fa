package quant

import "encoding/binary"

// IQ3_XXS stores 256 elements in 98 bytes (block_iq3_xxs in ggml-common.h): 8 runs of 32, each 8 points of 4.
//
//	0   d   half      scale of the scales
//	2   p   uint8[64] points
//	66  s   uint32[8] bits 7k: signs of points 2k and 2k+1 of a run, see evenSigns; bits 28–31: scale;
//	                  y = d·(scale+½)/2·point
var IQ3_XXS = register(&Format{
	Name: "IQ3_XXS", ID: 18, BlockLen: 256, BlockBytes: 98,
	dequantize: dequantizeIQ3_XXS,
})

func dequantizeIQ3_XXS(dst []float32, src []byte) {
	for ; len(src) >= 98; src = src[98:] {
		d := half(src)
		for run := range 8 {
			s := binary.LittleEndian.Uint32(src[66+4*run:])
			scaled := scaled8(&levelsIQ3_XXS, d*(0.5+float32(s>>28))*0.5)
			p := src[2+8*run : 10+8*run]
			for k := range 4 {
				signs := evenSigns(uint8(s >> (7 * k)))
				readPoint4(dst, pointsIQ3_XXS[p[2*k]], &scaled, signs)
				readPoint4(dst[4:], pointsIQ3_XXS[p[2*k+1]], &scaled, signs>>4)
				dst = dst[8:]
			}
		}
	}
}
