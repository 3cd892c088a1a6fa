package quant

import (
	"encoding/binary"
	"math"
)

// F8_E4M3 stores 128 elements in 132 bytes: a block of the FP8 checkpoints of DeepSeek-V3 and MiniMax-M2, whose scales
// belong to squares of 128 by 128 elements (DeepSeek-V3, inference/kernel.py). Each row of a square repeats its scale.
//
//	0   d   float32
//	4   q   uint8[128] y = d·E4M3[q]
//
// E4M3 is 1 bit of sign, 4 of exponent (bias 7) and 3 of mantissa; it has no infinities, and all ones are NaN (OCP 8-bit
// Floating Point Specification 1.0). GGUF files have no such type.
var F8_E4M3 = register(&Format{
	Name: "F8_E4M3", ID: NoID, BlockLen: 128, BlockBytes: 132,
	dequantize: dequantizeF8_E4M3,
})

// MXFP8 stores 32 elements in 33 bytes (OCP Microscaling Formats 1.0): a block of the checkpoints of MiniMax-M3.
//
//	0   e   uint8     scale 2^(e-127), NaN for 255
//	1   q   uint8[32] y = scale·E4M3[q]
//
// GGUF files have no such type.
var MXFP8 = register(&Format{
	Name: "MXFP8", ID: NoID, BlockLen: 32, BlockBytes: 33,
	dequantize: dequantizeMXFP8,
})

// valuesE4M3 are the values of all codes.
var valuesE4M3 = tableE4M3()

func tableE4M3() (values [256]float32) {
	for code := range values {
		exponent, mantissa := code>>3&15, code&7
		v := math.Ldexp(float64(8+mantissa), exponent-7-3)
		switch {
		case code&0x7f == 0x7f:
			v = math.NaN()
		case exponent == 0:
			v = math.Ldexp(float64(mantissa), 1-7-3)
		}
		values[code] = float32(math.Copysign(v, float64(127-code)))
	}
	return values
}

// E4M3ToF32 returns the value of a code of E4M3, exactly.
func E4M3ToF32(code uint8) float32 { return valuesE4M3[code] }

// E8M0ToF32 returns the scale 2^(e-127) that a code of E8M0 stands for, exactly; NaN for 255.
func E8M0ToF32(e uint8) float32 {
	switch e {
	case 0: // subnormal
		return 0x1p-127
	case 255:
		return float32(math.NaN())
	}
	return math.Float32frombits(uint32(e) << 23)
}

func dequantizeF8_E4M3(dst []float32, src []byte) {
	for ; len(dst) >= 128; dst, src = dst[128:], src[132:] {
		scaleE4M3(dst[:128], src[4:132], math.Float32frombits(binary.LittleEndian.Uint32(src)))
	}
}

func dequantizeMXFP8(dst []float32, src []byte) {
	for ; len(dst) >= 32; dst, src = dst[32:], src[33:] {
		scaleE4M3(dst[:32], src[1:33], E8M0ToF32(src[0]))
	}
}

func scaleE4M3(dst []float32, codes []byte, scale float32) {
	for i, q := range codes[:len(dst)] {
		dst[i] = scale * valuesE4M3[q]
	}
}
