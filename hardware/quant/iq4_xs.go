package quant

import "encoding/binary"

// IQ4_XS stores 256 elements in 136 bytes (block_iq4_xs in ggml-common.h): 8 runs of 32 like IQ4_NL, each with a scale
// of 6 bits.
//
//	0   d   half       scale of the scales
//	2   h   uint16     bits 2r are the upper bits of the scale of run r
//	4   l   uint8[4]   nibbles: the lower bits of the scales, run 2i low and run 2i+1 high in byte i
//	8   q   uint8[128] y = d·(scale-32)·valuesIQ4[q]; of a run's 16 bytes low nibbles are elements 0–15
var IQ4_XS = register(&Format{
	Name: "IQ4_XS", ID: 23, BlockLen: 256, BlockBytes: 136, MaxError: 0.077,
	dequantize: dequantizeIQ4_XS, quantize: quantizeIQ4_XS,
})

func dequantizeIQ4_XS(dst []float32, src []byte) {
	for ; len(dst) >= 256; dst, src = dst[256:], src[136:] {
		d, upper := half(src), binary.LittleEndian.Uint16(src[2:])
		for run := range 8 {
			scale := int32(src[4+run/2]>>(run%2*4)&15) | int32(upper>>(2*run)&3<<4)
			readIQ4(dst[32*run:32*run+32], src[8+16*run:24+16*run], d*float32(scale-32))
		}
	}
}

func quantizeIQ4_XS(dst []byte, src, importance []float32) {
	cols := columns{importance: importance}
	for at := 0; at < len(src); at, dst = at+256, dst[136:] {
		quantizeBlockIQ4_XS(dst[:136], src[at:at+256], &cols, at)
	}
}

func quantizeBlockIQ4_XS(dst []byte, x []float32, cols *columns, at int) {
	clear(dst)
	if !finite(x) {
		putNaN(dst)
		return
	}
	cols.measure(x)
	cols.power *= 2
	var scales [8]float32
	for r := range scales {
		run := x[32*r : 32*r+32]
		scales[r] = searchIQ4(run, cols.weigh(at+32*r, run))
	}
	most, _ := extreme(scales[:])
	d := -most / 32
	putHalf(dst, d)
	inv := quotient(1, d)
	var upper uint16
	for r := range scales {
		scale := roundEven(inv*scales[r], -32, 31)
		writeIQ4(dst[8+16*r:24+16*r], x[32*r:32*r+32], quotient(1, d*float32(scale)))
		code := uint8(scale + 32)
		dst[4+r/2] |= code & 15 << (r % 2 * 4)
		upper |= uint16(code>>4) << (2 * r)
	}
	binary.LittleEndian.PutUint16(dst[2:], upper)
}
