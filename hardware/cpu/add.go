package cpu

import "hearth/hardware"

// addition is dst += x.
type addition struct{ x, dst view }

func (o *addition) shape() (hardware.Rows, int) { return o.x.t.rows, o.x.heads }

func (o *addition) block(w *worker, b rowBlock) {
	lo, hi := b.heads(o.x.heads)
	for r := b.first; r < b.last; r++ {
		for h := lo; h < hi; h++ {
			w.kernels.add(o.dst.head(r, h), o.x.head(r, h))
		}
	}
}
