package cpu

import "hearth/hardware"

// gather copies the rows whose outputs were asked for.
type gather struct{ x, dst view }

func (o *gather) shape() (hardware.Rows, int) { return hardware.Outputs, o.x.heads }

func (o *gather) block(w *worker, b rowBlock) {
	lo, hi := b.heads(o.x.heads)
	for r := b.first; r < b.last; r++ {
		from := int(w.step.batch.Outputs[r])
		for h := lo; h < hi; h++ {
			copy(o.dst.head(r, h), o.x.head(from, h))
		}
	}
}
