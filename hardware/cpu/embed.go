package cpu

import "hearth/hardware"

// embed looks up the packed row of each token: a table that is also the head is kept once.
type embed struct {
	table *weight
	dst   view
}

func (o *embed) shape() (hardware.Rows, int) { return hardware.Tokens, 1 }

func (o *embed) block(w *worker, b rowBlock) {
	t := o.table
	for r := b.first; r < b.last; r++ {
		token := int(w.step.batch.Tokens[r])
		t.linear.row(o.dst.row(r), t.panel(0, token/panelCols), token%panelCols, t.in)
	}
}
