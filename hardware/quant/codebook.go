package quant

import (
	"math"
	"math/bits"
)

//go:generate go run ./gen

// The IQ formats of 1 to 3 bits choose whole points of 4 or 8 elements out of a codebook, and store their signs apart.
// A point is kept as the levels of its elements, so a block's scale is multiplied with the few levels, once.

// scaled4 returns d times each level.
func scaled4(levels *[4]float32, d float32) (scaled [4]float32) {
	for i, level := range levels {
		scaled[i] = d * level
	}
	return scaled
}

// scaled8 returns d times each level.
func scaled8(levels *[8]float32, d float32) (scaled [8]float32) {
	for i, level := range levels {
		scaled[i] = d * level
	}
	return scaled
}

// readPoint8 writes a point of 8 elements; element j is negative where bit j of signs is set.
func readPoint8(y []float32, point uint16, scaled *[4]float32, signs uint8) {
	y = y[:8]
	for j := range y {
		y[j] = flip(scaled[point>>(2*j)&3], signs>>j)
	}
}

// readPoint4 writes a point of 4 elements; element j is negative where bit j of signs is set.
func readPoint4(y []float32, point uint16, scaled *[8]float32, signs uint8) {
	y = y[:4]
	for j := range y {
		y[j] = flip(scaled[point>>(3*j)&7], signs>>j)
	}
}

// flip changes the sign of v if the lowest bit of sign is set.
func flip(v float32, sign uint8) float32 {
	return math.Float32frombits(math.Float32bits(v) ^ uint32(sign)<<31)
}

// evenSigns returns the signs of 8 elements of which 7 bits are stored: the eighth makes their number even.
func evenSigns(stored uint8) uint8 {
	stored &= 127
	return stored | uint8(bits.OnesCount8(stored))<<7
}
