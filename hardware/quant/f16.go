package quant

import (
	"encoding/binary"
	"math"
)

// F16 stores IEEE 754 half precision, 2 bytes an element: sign, 5 bits of exponent (bias 15), 10 of mantissa.
// Elements of 65520 and more become infinite.
var F16 = register(&Format{
	Name: "F16", ID: 1, BlockLen: 1, BlockBytes: 2, MaxError: 0.00021,
	dequantize: dequantizeF16, quantize: quantizeF16,
})

// Bits of float32 at the borders of half precision.
const (
	bitsInf        = 0x7f800000 // infinity; larger ones are NaN
	bitsHalfNormal = 0x38800000 // 2^-14, the smallest normal half
	bitsHalfOver   = 0x47800000 // 2^16, surely infinite; rounding carries what lies just below
)

// F16ToF32 returns the value of a half, exactly. A signalling NaN becomes quiet, as conversion instructions have it.
func F16ToF32(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	magnitude := uint32(h & 0x7fff)
	switch {
	case magnitude < 0x0400: // zero and subnormals: multiples of 2^-24
		return math.Float32frombits(sign | math.Float32bits(float32(magnitude)*0x1p-24))
	case magnitude < 0x7c00: // the exponent's bias grows from 15 to 127
		return math.Float32frombits(sign | (magnitude<<13 + (127-15)<<23))
	case magnitude == 0x7c00:
		return math.Float32frombits(sign | bitsInf)
	default:
		return math.Float32frombits(sign | bitsInf | 0x400000 | magnitude<<13&0x7fffff)
	}
}

// F32ToF16 returns the half nearest to x, of two equally near ones the even one. NaN stays NaN, and becomes quiet.
func F32ToF16(x float32) uint16 {
	bits := math.Float32bits(x)
	sign := uint16(bits >> 16 & 0x8000)
	bits &= 0x7fffffff
	switch {
	case bits > bitsInf:
		return sign | 0x7e00 | uint16(bits>>13&0x3ff)
	case bits >= bitsHalfOver:
		return sign | 0x7c00
	case bits < bitsHalfNormal:
		// The last bit of 0.5 is 2^-24, that of a subnormal half: the addition rounds to it.
		return sign | uint16(math.Float32bits(math.Float32frombits(bits)+0.5)-math.Float32bits(0.5))
	default:
		// Half of the last place less one, and one more if that place is odd: ties go to even, carries to the exponent.
		bits += 0xfff + bits>>13&1
		return sign | uint16((bits-(127-15)<<23)>>13)
	}
}

func dequantizeF16(dst []float32, src []byte) {
	for i := range dst {
		h := binary.LittleEndian.Uint16(src[2*i : 2*i+2])
		// The common case of F16ToF32 stands here, where it costs no call: any exponent but the least and the largest.
		if magnitude := uint32(h & 0x7fff); magnitude-0x0400 < 0x7800 {
			dst[i] = math.Float32frombits(uint32(h&0x8000)<<16 | (magnitude<<13 + (127-15)<<23))
		} else {
			dst[i] = F16ToF32(h)
		}
	}
}

func quantizeF16(dst []byte, src, _ []float32) {
	for i, x := range src {
		putHalf(dst[2*i:2*i+2], x)
	}
}

// half reads a half at the start of b: the scale of most blocks.
func half(b []byte) float32 { return F16ToF32(binary.LittleEndian.Uint16(b)) }

// putHalf writes x as a half to the start of b.
func putHalf(b []byte, x float32) { binary.LittleEndian.PutUint16(b, F32ToF16(x)) }
