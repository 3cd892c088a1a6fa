package cpu

import (
	"math"

	"hearth/hardware"
)

// activation is what a gated linear unit does with its two halves.
type activation struct {
	kind  hardware.Activation
	limit float32 // 0: none
}

// oaiSlope multiplies the gate inside OAI's sigmoid.
const oaiSlope = 1.702

// apply computes a row, or a part of one. dst may be gate or up.
func (a activation) apply(k *kernels, dst, gate, up []float32) {
	limit := a.limit
	if limit <= 0 {
		limit = float32(math.Inf(1))
	}
	switch {
	case a.kind == hardware.OAI:
		k.clippedMul(dst, gate, up, oaiSlope, limit, 1)
	case a.kind == hardware.SiLU && a.limit <= 0:
		k.siluMul(dst, gate, up)
	case a.kind == hardware.SiLU:
		k.clippedMul(dst, gate, up, 1, limit, 0)
	case a.limit <= 0:
		k.sigmoidMul(dst, gate, up)
	default:
		for i, g := range gate {
			dst[i] = min(max(up[i], -limit), limit) / (1 + exp(-min(g, limit)))
		}
	}
}

// glu is a gated linear unit.
type glu struct {
	act           activation
	gate, up, dst view
}

func (o *glu) shape() (hardware.Rows, int) { return o.dst.t.rows, o.dst.heads }

func (o *glu) block(w *worker, b rowBlock) {
	lo, hi := b.heads(o.dst.heads)
	for r := b.first; r < b.last; r++ {
		for h := lo; h < hi; h++ {
			o.act.apply(w.kernels, o.dst.head(r, h), o.gate.head(r, h), o.up.head(r, h))
		}
	}
}

// rowGate is a gated linear unit with one gate for the whole row.
type rowGate struct{ glu }

func (o *rowGate) block(w *worker, b rowBlock) {
	lo, hi := b.heads(o.dst.heads)
	for r := b.first; r < b.last; r++ {
		gate := w.row[:o.dst.dim]
		for i := range gate {
			gate[i] = o.gate.head(r, 0)[0]
		}
		for h := lo; h < hi; h++ {
			o.act.apply(w.kernels, o.dst.head(r, h), gate, o.up.head(r, h))
		}
	}
}
