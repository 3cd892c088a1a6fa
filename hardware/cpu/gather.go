package cpu

import "hearth/hardware"

// gather copies the rows whose outputs were asked for, or those of a carried tensor that the batch names.
type gather struct {
	x, dst   view
	byInputs bool
}

func (o *gather) shape() (hardware.Rows, int) { return o.dst.t.rows, o.x.heads }

func (o *gather) block(w *worker, b rowBlock) {
	from := w.step.batch.Outputs
	if o.byInputs {
		from = w.step.batch.Inputs
	}
	lo, hi := b.heads(o.x.heads)
	for r := b.first; r < b.last; r++ {
		for h := lo; h < hi; h++ {
			copy(o.dst.head(r, h), o.x.head(int(from[r]), h))
		}
	}
}

// duplicate copies each row to another tensor, one head to all of its heads.
type duplicate struct{ x, dst view }

func (o *duplicate) shape() (hardware.Rows, int) { return o.dst.t.rows, o.dst.heads }

func (o *duplicate) block(_ *worker, b rowBlock) {
	lo, hi := b.heads(o.dst.heads)
	for r := b.first; r < b.last; r++ {
		for h := lo; h < hi; h++ {
			copy(o.dst.head(r, h), o.x.head(r, min(h, o.x.heads-1)))
		}
	}
}
