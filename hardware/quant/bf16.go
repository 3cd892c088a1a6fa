package quant

import (
	"encoding/binary"
	"math"
)

// BF16 stores the upper half of float32, 2 bytes an element: its whole range, with 7 bits of mantissa.
var BF16 = register(&Format{
	Name: "BF16", ID: 30, BlockLen: 1, BlockBytes: 2, MaxError: 0.0017,
	dequantize: dequantizeBF16, quantize: quantizeBF16,
})

// BF16ToF32 returns the value of a bfloat16, exactly and bit by bit.
func BF16ToF32(h uint16) float32 { return math.Float32frombits(uint32(h) << 16) }

// F32ToBF16 returns the bfloat16 nearest to x, of two equally near ones the even one. NaN stays NaN, and becomes quiet.
func F32ToBF16(x float32) uint16 {
	bits := math.Float32bits(x)
	if bits&0x7fffffff > bitsInf {
		return uint16(bits>>16) | 0x40
	}
	// Half of the last place less one, and one more if that place is odd: ties go to even, carries to the exponent.
	return uint16((bits + 0x7fff + bits>>16&1) >> 16)
}

func dequantizeBF16(dst []float32, src []byte) {
	for i := range dst {
		dst[i] = BF16ToF32(binary.LittleEndian.Uint16(src[2*i : 2*i+2]))
	}
}

func quantizeBF16(dst []byte, src, _ []float32) {
	for i, x := range src {
		binary.LittleEndian.PutUint16(dst[2*i:2*i+2], F32ToBF16(x))
	}
}
