package quant

import "math"

// NVFP4 stores 64 elements in 36 bytes (block_nvfp4 in ggml-common.h): 4 runs of 16.
//
//	0   e   uint8[4]  scales, UE4M3
//	4   q   uint8[32] y = scale·E2M1[q]; of a run's 8 bytes low nibbles are elements 0–7, high ones 8–15
//
// A model may have a further scale for the whole tensor, which is a tensor of its own. The scales cannot say that an
// element was not finite: infinite ones become the largest there is, 2688, and what is not a number becomes 0.
var NVFP4 = register(&Format{
	Name: "NVFP4", ID: 40, BlockLen: 64, BlockBytes: 36, MaxError: 0.095,
	dequantize: dequantizeNVFP4, quantize: quantizeNVFP4,
})

// largestUE4M3 is the code of 448, the largest number of 8 bits: 4 of exponent (bias 7), 3 of mantissa, no sign.
const largestUE4M3 = 0x7e

// halfUE4M3 returns half of the scale that a code stands for. The uppermost bit is no part of it.
func halfUE4M3(e uint8) float32 {
	exponent, mantissa := uint32(e>>3&15), uint32(e&7)
	switch {
	case e == 0x7f: // not a number elsewhere
		return 0
	case exponent == 0:
		return float32(mantissa) * 0x1p-10
	}
	return math.Float32frombits((exponent+127-7-1)<<23 | mantissa<<20)
}

// nearestUE4M3 returns the code nearest to x ≥ 0, of two equally near ones the larger; 0 for NaN.
func nearestUE4M3(x float32) uint8 {
	switch {
	case !(x > 0):
		return 0
	case x >= 448:
		return largestUE4M3
	case x < 0x1p-6: // subnormal: multiples of 2^-9, not rounded up to the smallest normal
		return min(7, uint8(float32(x*512)+0.5))
	}
	bits := math.Float32bits(x) + 1<<19
	return uint8(bits>>20 - (127-7)<<3)
}

func dequantizeNVFP4(dst []float32, src []byte) {
	for ; len(dst) >= 64; dst, src = dst[64:], src[36:] {
		for run, e := range src[:4] {
			d := halfUE4M3(e)
			q := src[4+8*run : 12+8*run]
			lo, hi := dst[16*run:16*run+8], dst[16*run+8:16*run+16]
			for i, b := range q {
				lo[i] = d * valuesFP4[b&15]
				hi[i] = d * valuesFP4[b>>4]
			}
		}
	}
}

// quantizeNVFP4 scales the largest element of a run to 6, the largest code.
func quantizeNVFP4(dst []byte, src, _ []float32) {
	for ; len(src) >= 64; dst, src = dst[36:], src[64:] {
		for run := range 4 {
			lo, hi := src[16*run:16*run+8], src[16*run+8:16*run+16]
			var most float32
			for i := range lo {
				// Comparisons, not the builtin max, so that what is not a number stays out.
				for _, v := range [2]float32{lo[i], hi[i]} {
					if v > most {
						most = v
					} else if -v > most {
						most = -v
					}
				}
			}
			e := nearestUE4M3(most / 6)
			dst[run] = e
			d := halfUE4M3(e)
			q := dst[4+8*run : 12+8*run]
			for i := range q {
				q[i] = nearestFP4(lo[i], d) | nearestFP4(hi[i], d)<<4
			}
		}
	}
}
