package cpu

import (
	"unsafe"

	"hearth/hardware"
)

// peaksGeneric are the sums of products that plain Go makes.
func peaksGeneric() []peak {
	const ops = 2 * peakLanes * peakSteps
	return []peak{
		{hardware.Int8, "Go", ops, func(rounds int) { dotGeneric[int8, int32](rounds) }},
		{hardware.Float32, "Go", ops, func(rounds int) { dotGeneric[float32, float32](rounds) }},
	}
}

const (
	peakLanes = 4 // independent sums
	peakSteps = 4 // products of each in a round
)

// dotGeneric makes peakLanes sums at once.
//
//go:noinline
func dotGeneric[factor int8 | float32, sum int32 | float32](rounds int) (total sum) {
	var x, w [peakLanes * peakSteps]factor
	for i := range x {
		x[i], w[i] = factor(i), factor(i&3)
	}
	var s0, s1, s2, s3 sum
	for range rounds {
		for i := 0; i < len(x); i += peakLanes {
			s0 += sum(x[i]) * sum(w[i])
			s1 += sum(x[i+1]) * sum(w[i+1])
			s2 += sum(x[i+2]) * sum(w[i+2])
			s3 += sum(x[i+3]) * sum(w[i+3])
		}
	}
	return s0 + s1 + s2 + s3
}

// readsGeneric reads words.
func readsGeneric() []readKernel {
	return []readKernel{func(p *byte, n int) { sumWords(unsafe.Slice((*uint64)(unsafe.Pointer(p)), n/8)) }}
}

// sumWords uses what it reads, so that no compiler leaves the reading out.
//
//go:noinline
func sumWords(words []uint64) (sum uint64) {
	var s0, s1, s2, s3 uint64
	for ; len(words) >= 4; words = words[4:] {
		s0 += words[0]
		s1 += words[1]
		s2 += words[2]
		s3 += words[3]
	}
	return s0 + s1 + s2 + s3
}
