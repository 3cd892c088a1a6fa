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
	k := w.kernels
	lo, hi := b.heads(o.x.heads)
	for r := b.first; r < b.last; r++ {
		for h := lo; h < hi; h++ {
			x := o.x.head(r, h)
			mean := k.sumSquares(x) / float32(len(x))
			k.scaleMul(o.dst.head(r, h), x, o.weight.vector, 1/float32(math.Sqrt(float64(mean+o.eps))))
		}
	}
}
