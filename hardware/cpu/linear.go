package cpu

import (
	"encoding/binary"
	"math"
	"unsafe"

	"hearth/hardware/quant"
)

// Weights that are integers are multiplied with activations that are integers too: each run of a row, 32 or 256
// elements as long as the weights' own blocks, gets one float32 scale and signed bytes. The products' sums are then
// exact, and only the scales' multiplication rounds. The scale belongs to the run, never to the row or the tile, so that
// it depends on the row's own elements alone.

const (
	shortRun = 32  // elements of a Q8_0 or Q4_0 block
	longRun  = 256 // elements of a Q4_K, Q5_K or Q6_K block
)

// tiniestRun is the largest magnitude below which a run counts as zeros: its reciprocal would overflow. Everything
// below 2^-120 is negligible beside any other run of a row, and the float formats keep it.
const tiniestRun = 0x1p-120

// quantizeRun writes the bytes of a run and returns the scale and the bytes' sum: x[i] is about scale*q[i], q within
// ±127, rounded to nearest even. A run with an element that is not finite becomes zeros with the scale NaN, so that
// every result it takes part in is NaN and the fault stays visible.
func quantizeRun(q []byte, x []float32) (scale float32, sum int32) {
	var largest uint32 // without the sign, the order of the bits is that of the numbers, with NaN above infinity
	for _, v := range x {
		largest = max(largest, math.Float32bits(v)&0x7fffffff)
	}
	most := math.Float32frombits(largest)
	if most < tiniestRun || !(most <= math.MaxFloat32) {
		clear(q)
		if most < tiniestRun {
			return 0, 0
		}
		return float32(math.NaN()), 0
	}
	inverse := 127 / most
	for i, v := range x {
		// The last bit of 1.5*2^23 is 1: the addition rounds to integers, and the sum's lower bits are the integer.
		const shift = 0x1.8p23
		n := int32(math.Float32bits(float32(v*inverse)+shift)) - int32(math.Float32bits(shift))
		q[i] = byte(n)
		sum += n
	}
	return most / 127, sum
}

// halfAt reads the half at the start of b.
func halfAt(b []byte) float32 { return quant.F16ToF32(binary.LittleEndian.Uint16(b)) }

func floatAt(b []byte) float32     { return math.Float32frombits(binary.LittleEndian.Uint32(b)) }
func putFloat(b []byte, v float32) { binary.LittleEndian.PutUint32(b, math.Float32bits(v)) }

// roundUp returns the smallest multiple of m that is not less than n.
func roundUp(n, m int) int { return (n + m - 1) / m * m }

// floatsOf looks at aligned bytes as float32, in the machine's own order.
func floatsOf(b []byte) []float32 {
	if len(b) == 0 {
		return nil
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(&b[0])), len(b)/4)
}
