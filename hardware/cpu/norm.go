package cpu

import (
	"math"

	"hearth/hardware"
)

// norm is normalisation of each head.
type norm struct {
	kind         hardware.NormKind
	x, dst       view
	weight, bias *weight // nil: none
	scale, eps   float32
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
	if o.kind == hardware.LayerNorm {
		centre(dst, x)
		x = dst
	}
	power := k.sumSquares(x)
	if o.kind != hardware.L2Norm {
		power /= float32(len(x))
	}
	factor := o.scale / float32(math.Sqrt(float64(power+o.eps)))
	if o.weight != nil {
		k.scaleMul(dst, x, o.weight.vector, factor)
	} else {
		copy(dst, x)
		k.scale(dst, factor)
	}
	if o.bias != nil {
		k.add(dst, o.bias.vector)
	}
}

// centre subtracts the mean. dst may be x.
func centre(dst, x []float32) {
	var s [lanes]float32
	for i, v := range x {
		s[i%lanes] += v
	}
	mean := sumLanes(&s) / float32(len(x))
	for i, v := range x {
		dst[i] = v - mean
	}
}
