package cpu

import (
	"fmt"
	"math/rand/v2"

	"hearth/hardware"
)

// Parts implements hardware.Parted: what attention's softmax does with the scores of a row in a partition, and the
// preparing of rows for the products of each format that has kernels.
func (d *device) Parts() []hardware.Part {
	random := rand.New(rand.NewPCG(7, 8))
	floats := func(n int) []float32 {
		x := floatsOf(heapAllocate(4 * n))
		for i := range x {
			x[i] = float32(random.NormFloat64())
		}
		return x
	}
	k := d.kernels
	scores, weights := floats(partitionLen), floats(partitionLen)
	parts := []hardware.Part{{
		Name: "scores", Shape: fmt.Sprint(partitionLen), Rows: 1, Bytes: 2 * 4 * partitionLen,
		Run: func() { k.expSum(weights, scores, k.maxOf(scores)) },
	}}
	const in = 1024
	for _, l := range k.linears {
		x, tile := floats(l.tileRows*in), heapAllocate(l.tileBytes(in, l.tileRows))
		parts = append(parts, hardware.Part{
			Name: "prepare", Format: l.format, Shape: fmt.Sprint(in), Rows: l.tileRows, Bytes: float64(4*len(x) + len(tile)),
			Run: func() { l.prepare(tile, x, in, l.tileRows, in) },
		})
	}
	return parts
}
