package quant

import (
	"encoding/binary"
	"math"
)

// Products that are added to something are written float32(a*b)+c throughout the package, also where the sum is in
// another function: Go may otherwise fuse them into one rounding on some machines (language specification, floating-point
// operators), and blocks would differ from one machine to the next.

// roundEven returns v rounded to an integer, ties to even, within [lo, hi]; lo for NaN. The bounds lie within ±2^22.
func roundEven(v float32, lo, hi int32) int32 {
	if !(v > float32(lo)) {
		return lo
	}
	if v >= float32(hi) {
		return hi
	}
	// The last bit of 1.5*2^23 is 1: the addition rounds to integers, and the sum's lower bits are the integer.
	const shift = 0x1.8p23
	return int32(math.Float32bits(float32(v)+shift)) - int32(math.Float32bits(shift))
}

// extreme returns the element of largest magnitude, with its sign, the first of several; 0 if all are 0. It reports
// whether all elements are finite.
func extreme(x []float32) (value float32, finite bool) {
	// Without the sign, the order of the bits is that of the numbers, with NaN above infinity.
	var largest uint32
	for _, v := range x {
		if bits := math.Float32bits(v) & 0x7fffffff; bits > largest {
			largest, value = bits, v
		}
	}
	return value, largest < bitsInf
}

// finite reports whether all elements are.
func finite(x []float32) bool {
	var largest uint32
	for _, v := range x {
		largest = max(largest, math.Float32bits(v)&0x7fffffff)
	}
	return largest < bitsInf
}

// quotient returns a/d, and 0 where that is not finite: a block with so small a scale is one of zeros.
func quotient(a, d float32) float32 {
	if q := a / d; q >= -math.MaxFloat32 && q <= math.MaxFloat32 {
		return q
	}
	return 0
}

// truncate returns v without its fraction, within [0, hi]; 0 for NaN.
func truncate(v float32, hi uint8) uint8 {
	if !(v > 0) {
		return 0
	}
	if v >= float32(hi) {
		return hi
	}
	return uint8(v)
}

// nan is the scale of a block whose elements are not all finite; putNaN writes it.
func nan() float32 { return float32(math.NaN()) }

func putNaN(b []byte) { binary.LittleEndian.PutUint16(b, 0x7e00) }
