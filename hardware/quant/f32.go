package quant

import (
	"encoding/binary"
	"math"
)

// F32 stores IEEE 754 single precision: 4 bytes an element, every bit kept.
var F32 = register(&Format{
	Name: "F32", ID: 0, BlockLen: 1, BlockBytes: 4,
	dequantize: dequantizeF32, quantize: quantizeF32,
})

func dequantizeF32(dst []float32, src []byte) {
	for i := range dst {
		dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i : 4*i+4]))
	}
}

func quantizeF32(dst []byte, src, _ []float32) {
	for i, x := range src {
		binary.LittleEndian.PutUint32(dst[4*i:4*i+4], math.Float32bits(x))
	}
}
