package cpu

import "hearth/hardware"

// convolution is a causal convolution of each column over positions, with SiLU behind it.
type convolution struct {
	x, dst view
	ring   *ring
	weight *weight // by column: [taps][cols]
}

// convCols is the number of columns of an item: with those of the rows that it reads they stay in the first-level cache.
const convCols = 512

func (o *convolution) parts() int { return (o.x.size() + convCols - 1) / convCols }

// convRows is the number of rows of an item.
const convRows = rowItemElements / convCols

func (o *convolution) items(s *step) int {
	return (s.rows[hardware.Tokens] + convRows - 1) / convRows * o.parts()
}

func (o *convolution) run(w *worker, item int) {
	first := item / o.parts() * convRows
	lo := item % o.parts() * convCols
	hi := min(lo+convCols, o.x.size())
	for r := first; r < min(first+convRows, w.step.rows[hardware.Tokens]); r++ {
		o.row(w, r, lo, hi)
	}
}

// row computes some columns of a row, taps ascending.
func (o *convolution) row(w *worker, r, lo, hi int) {
	span, position := &w.step.batch.Spans[w.step.spans[r]], int(w.step.positions[r])
	ring, dst := o.ring.rows(w.queue.slot(int(span.Slot))), o.dst.row(r)[lo:hi]
	taps := o.weight.in
	first := max(0, taps-1-position)
	for j := first; j < taps; j++ {
		x, weight := latestRow(&o.x, o.ring, ring, span, position-taps+1+j)[lo:hi], o.weight.vector[j*o.x.size():][lo:hi]
		if j == first {
			w.kernels.scaleMul(dst, x, weight, 1)
		} else {
			w.kernels.mulAdd(dst, x, weight)
		}
	}
	w.kernels.siluMul(dst, dst, w.queue.ones[:hi-lo])
}
