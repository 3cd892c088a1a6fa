package cpu

import "hearth/hardware"

// routes are the chosen experts of each row.
type routes struct {
	rows    hardware.Rows
	experts int
	topK    int
	chosen  []int32   // [limit of rows][topK], best first
	weights []float32 // [limit of rows][topK]
}

// route chooses experts.
type route struct {
	logits    view
	normalize bool
	scale     float32
	dst       *routes
}

func (o *route) shape() (hardware.Rows, int) { return o.dst.rows, 1 }

func (o *route) block(w *worker, b rowBlock) {
	k := o.dst.topK
	for r := b.first; r < b.last; r++ {
		o.row(w, r, o.dst.chosen[r*k:][:k], o.dst.weights[r*k:][:k])
	}
}

// row takes the largest logits, of equal ones the first, and weighs them by their softmax over all of them.
func (o *route) row(w *worker, r int, chosen []int32, weights []float32) {
	probabilities := w.row[:o.dst.experts]
	for h := range o.logits.heads {
		copy(probabilities[h*o.logits.dim:], o.logits.head(r, h))
	}
	best := 0
	for i, logit := range probabilities {
		if best == len(chosen) && !(logit > weights[best-1]) {
			continue
		}
		at := best
		if best < len(chosen) {
			best++
		} else {
			at--
		}
		for ; at > 0 && logit > weights[at-1]; at-- {
			chosen[at], weights[at] = chosen[at-1], weights[at-1]
		}
		chosen[at], weights[at] = int32(i), logit
	}
	total := w.kernels.expSum(probabilities, probabilities, w.kernels.maxOf(probabilities))
	if o.normalize {
		total = 0
		for _, e := range chosen {
			total += probabilities[e]
		}
	}
	for i, e := range chosen {
		weights[i] = probabilities[e] / total * o.scale
	}
}
