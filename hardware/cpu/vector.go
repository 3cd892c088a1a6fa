package cpu

import (
	"encoding/binary"
	"math"

	"hearth/hardware/quant"
)

// lanes is the number of partial sums that the plain Go sums keep, so that errors grow with the square root of the
// length at most, and the result depends on nothing but the elements.
const lanes = 8

// sumLanes adds the lanes as a tree.
func sumLanes(s *[lanes]float32) float32 {
	return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]))
}

func sumSquaresGeneric(x []float32) float32 {
	var s [lanes]float32
	for i, v := range x {
		s[i%lanes] += float32(v * v)
	}
	return sumLanes(&s)
}

func scaleMulGeneric(dst, x, w []float32, scale float32) {
	for i, v := range x {
		dst[i] = v * scale * w[i]
	}
}

func maxOfGeneric(x []float32) float32 {
	most := float32(math.Inf(-1))
	for _, v := range x {
		if v > most {
			most = v
		}
	}
	return most
}

func expSumGeneric(dst, x []float32, shift float32) float32 {
	var s [lanes]float32
	for i, v := range x {
		e := exp(v - shift)
		dst[i] = e
		s[i%lanes] += e
	}
	return sumLanes(&s)
}

func scaleGeneric(x []float32, s float32) {
	for i := range x {
		x[i] *= s
	}
}

func addGeneric(dst, x []float32) {
	for i, v := range x {
		dst[i] += v
	}
}

func siluMulGeneric(dst, gate, up []float32) {
	for i, g := range gate {
		dst[i] = g / (1 + exp(-g)) * up[i]
	}
}

func sigmoidMulGeneric(dst, gate, up []float32) {
	for i, g := range gate {
		dst[i] = up[i] / (1 + exp(-g))
	}
}

func clippedMulGeneric(dst, gate, up []float32, slope, limit, shift float32) {
	for i, g := range gate {
		g, u := min(g, limit), min(max(up[i], -limit), limit)
		dst[i] = g / (1 + exp(-slope*g)) * (u + shift)
	}
}

func addScaledGeneric(dst, x []float32, s float32) {
	for i, v := range x {
		dst[i] += s * v
	}
}

func mulAddGeneric(dst, x, w []float32) {
	for i, v := range x {
		dst[i] += float32(v * w[i])
	}
}

func addPositiveGeneric(dst, x []float32, s float32) {
	for i, v := range x {
		dst[i] += s * max(0, v)
	}
}

func rotateHalvesGeneric(dst, x, cos, sin []float32) {
	half := len(cos)
	for i := range half {
		u, v := x[i], x[i+half]
		dst[i] = u*cos[i] - v*sin[i]
		dst[i+half] = v*cos[i] + u*sin[i]
	}
}

func rotatePairsGeneric(dst, x, cos, sin []float32) {
	for i := range cos {
		u, v := x[2*i], x[2*i+1]
		dst[2*i] = u*cos[i] - v*sin[i]
		dst[2*i+1] = v*cos[i] + u*sin[i]
	}
}

func halvesGeneric(dst []byte, x []float32) {
	for i, v := range x {
		binary.LittleEndian.PutUint16(dst[2*i:], quant.F32ToF16(v))
	}
}

func copyRowsGeneric(dst []float32, dstStride int, x []float32, xStride, rows, cols int) {
	for r := range rows {
		copy(dst[r*dstStride:][:cols], x[r*xStride:])
	}
}

// addRows adds row by row.
func addRows(add func(dst, x []float32)) func(dst []float32, dstStride int, x []float32, xStride, rows, cols int) {
	return func(dst []float32, dstStride int, x []float32, xStride, rows, cols int) {
		for r := range rows {
			add(dst[r*dstStride:][:cols], x[r*xStride:][:cols])
		}
	}
}

func scaleByHalvesGeneric(dst, x []float32, halves []byte) {
	for i, v := range x {
		dst[i] = v * halfAt(halves[2*i:])
	}
}
