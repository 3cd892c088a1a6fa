package cpu

import "hearth/hardware"

// glu is a gated linear unit with SiLU.
type glu struct{ gate, up, dst view }

func (o *glu) shape() (hardware.Rows, int) { return o.dst.t.rows, o.dst.heads }

func (o *glu) block(w *worker, b rowBlock) {
	lo, hi := b.heads(o.dst.heads)
	for r := b.first; r < b.last; r++ {
		for h := lo; h < hi; h++ {
			w.kernels.siluMul(o.dst.head(r, h), o.gate.head(r, h), o.up.head(r, h))
		}
	}
}
