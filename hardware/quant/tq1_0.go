package quant

// TQ1_0 stores 256 elements -1, 0 or 1 times a scale in 54 bytes (block_tq1_0 in ggml-common.h). A byte holds 5 digits
// to the base 3, as the fixed-point fraction ceil(256·n/243): multiplied by 3, its integer part is the first digit.
//
//	0   q   uint8[48] digit k of bytes 0–31 is elements 32k…; digit k of bytes 32–47 elements 160 + 16k…
//	48  h   uint8[4]  4 digits: digit k is elements 240 + 4k…
//	52  d   half      scale; y = d·(digit-1)
var TQ1_0 = register(&Format{
	Name: "TQ1_0", ID: 34, BlockLen: 256, BlockBytes: 54, MaxError: 0.81,
	dequantize: dequantizeTQ1_0, quantize: quantizeTQ1_0,
})

// powersOf3 shift the fraction of a byte to its k-th digit.
var powersOf3 = [5]uint8{1, 3, 9, 27, 81}

// partsTQ1_0 are the three parts of a block: their bytes, and how many digits each byte of a part holds.
var partsTQ1_0 = [3]struct{ at, bytes, digits int }{{0, 32, 5}, {32, 16, 5}, {48, 4, 4}}

func dequantizeTQ1_0(dst []float32, src []byte) {
	for ; len(src) >= 54; src = src[54:] {
		d := half(src[52:])
		for _, part := range partsTQ1_0 {
			q := src[part.at : part.at+part.bytes]
			for _, power := range powersOf3[:part.digits] {
				for i, b := range q {
					digit := uint32(b*power) * 3 >> 8 // the product drops the digits before, modulo 256
					dst[i] = d * float32(int32(digit)-1)
				}
				dst = dst[part.bytes:]
			}
		}
	}
}

func quantizeTQ1_0(dst []byte, src, _ []float32) {
	for ; len(dst) >= 54; dst = dst[54:] {
		inv, ok := putTernary(dst[52:54], src[:256])
		if !ok {
			clear(dst[:52])
			src = src[256:]
			continue
		}
		for _, part := range partsTQ1_0 {
			q := dst[part.at : part.at+part.bytes]
			for i := range q {
				n := uint32(0)
				for k := range 5 {
					n *= 3
					if k < part.digits {
						n += ternary(src[k*part.bytes+i] * inv)
					}
				}
				q[i] = uint8((n*256 + 242) / 243)
			}
			src = src[part.bytes*part.digits:]
		}
	}
}

// putTernary writes the scale of a ternary block, its largest magnitude, and returns it inverted. It returns false, and
// writes that it is not a number, when not all elements are finite.
func putTernary(dst []byte, x []float32) (inv float32, ok bool) {
	most, ok := extreme(x)
	if !ok {
		putNaN(dst)
		return 0, false
	}
	d := max(most, -most)
	putHalf(dst, d)
	return quotient(1, d), true
}

// ternary returns the digit 0, 1 or 2 of an element -1 … 1; halves go away from zero.
func ternary(v float32) uint32 {
	switch {
	case v >= 0.5:
		return 2
	case v <= -0.5:
		return 0
	}
	return 1
}
