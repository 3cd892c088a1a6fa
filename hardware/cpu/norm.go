package cpu

import (
	"math"

	"hearth/hardware"
)

// norm is root mean square normalisation of each head.
type norm struct {
	x, dst view
	weight *weight
	eps    float32
}

func (o *norm) shape() (hardware.Rows, int) { return o.x.t.rows, o.x.heads }

func (o *norm) block(w *worker, b rowBlock) {
	lo, hi := b.heads(o.x.heads)
	for r := b.first; r < b.last; r++ {
		for h := lo; h < hi; h++ {
			o.normalize(w.kernels, o.dst.head(r, h), o.x.head(r, h))
		}
	}
}

// normalize computes one head. dst may be x.
func (o *norm) normalize(k *kernels, dst, x []float32) {
	mean := k.sumSquares(x) / float32(len(x))
	k.scaleMul(dst, x, o.weight.vector, 1/float32(math.Sqrt(float64(mean+o.eps))))
}
