package quant

import "math"

// MXFP4 stores 32 elements in 17 bytes (block_mxfp4 in ggml-common.h; OCP Microscaling Formats 1.0):
//
//	0   e   uint8     scale 2^(e-127)
//	1   q   uint8[16] y = scale·E2M1[q]; low nibbles are elements 0–15, high ones 16–31
//
// The scale cannot say that an element was not a number: such blocks are written as infinite ones.
var MXFP4 = register(&Format{
	Name: "MXFP4", ID: 39, BlockLen: 32, BlockBytes: 17, MaxError: 0.116,
	dequantize: dequantizeMXFP4, quantize: quantizeMXFP4,
})

// valuesFP4 are twice the values of the codes of E2M1: sign, 2 bits of exponent, 1 of mantissa. The negative zero reads
// as zero. Doubled they are integers, and half the scale never overflows.
var valuesFP4 = [16]float32{0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12}

// halfE8M0 returns 2^(e-128), half of the scale that e stands for. The two smallest are subnormal.
func halfE8M0(e uint8) float32 {
	if e < 2 {
		return math.Float32frombits(0x00200000 << e)
	}
	return math.Float32frombits(uint32(e-1) << 23)
}

func dequantizeMXFP4(dst []float32, src []byte) {
	for ; len(dst) >= 32; dst, src = dst[32:], src[17:] {
		d := halfE8M0(src[0])
		lo, hi, q := dst[:16], dst[16:32], src[1:17]
		for i, b := range q {
			lo[i] = d * valuesFP4[b&15]
			hi[i] = d * valuesFP4[b>>4]
		}
	}
}

// quantizeMXFP4 takes the scale that puts the largest element between 4 and 8 times it: some are cut to 6.
func quantizeMXFP4(dst []byte, src, _ []float32) {
	for ; len(src) >= 32; dst, src = dst[17:], src[32:] {
		lo, hi, q := src[:16], src[16:32], dst[1:17]
		most, ok := extreme(src[:32])
		if !ok {
			dst[0] = 255
			for i := range q {
				q[i] = 0x77
			}
			continue
		}
		dst[0] = 0
		if most != 0 {
			// Frexp's fraction is below 1, so its exponent is one above that of the logarithm.
			_, exponent := math.Frexp(float64(most))
			dst[0] = uint8(max(0, exponent-1-2+127))
		}
		d := halfE8M0(dst[0])
		for i := range q {
			q[i] = nearestFP4(lo[i], d) | nearestFP4(hi[i], d)<<4
		}
	}
}

// nearestFP4 returns the code whose value times d is nearest to x, of two equally near ones that of smaller magnitude;
// 0 for NaN.
func nearestFP4(x, d float32) uint8 {
	sign := uint8(0)
	if x < 0 {
		sign, x = 8, -x
	}
	best, code := x, uint8(0)
	for c := uint8(1); c < 8; c++ {
		diff := float32(valuesFP4[c]*d) - x
		if diff = max(diff, -diff); diff < best {
			best, code = diff, c
		}
	}
	if code == 0 {
		return 0
	}
	return code | sign
}
