package cpu

import (
	"math"

	"hearth/hardware"
)

// compress makes entries of a stream from several positions each. An item is an entry that a row of the step completes.
type compress struct {
	x       view
	ring    *ring
	ape     *weight // [ratio, width]
	norm    *norm   // of an entry
	by      *rotation
	overlap bool
	dst     *stream
}

// emitCompress compiles Compress.
func (c *compiler) emitCompress(a *hardware.CompressArgs) {
	o := &compress{
		x: c.view(a.X), ring: c.rings[a.Ring.Index()], ape: c.vector(a.Ape), by: c.rotation(a.Rope, false), overlap: a.Overlap,
		norm: c.norm(&hardware.NormArgs{X: a.X, Dst: a.X, Weight: a.Weight, Eps: a.Eps, Scale: 1}), dst: c.streams[a.Dst.Index()],
	}
	c.sizes.row = max(c.sizes.row, 4*o.dst.dim+2*o.by.pairs)
	c.sizes.short = max(c.sizes.short, o.dst.rowBytes)
	c.phases = append(c.phases, o)
}

// completed returns how many entries a span completes.
func (o *compress) completed(s *hardware.Span) int {
	ratio := o.dst.info.Ratio
	return int(s.Start+s.Len)/ratio - int(s.Start)/ratio
}

func (o *compress) items(s *step) int {
	n := 0
	for i := range s.batch.Spans {
		n += o.completed(&s.batch.Spans[i])
	}
	return n
}

func (o *compress) run(w *worker, item int) {
	spans := w.step.batch.Spans
	for n := o.completed(&spans[0]); item >= n; n = o.completed(&spans[0]) {
		item, spans = item-n, spans[1:]
	}
	o.entry(w, &spans[0], int(spans[0].Start)/o.dst.info.Ratio+item)
}

// entry makes one entry: a softmax of each column over positions, in ascending order.
func (o *compress) entry(w *worker, span *hardware.Span, entry int) {
	dim, ratio, k := o.dst.dim, o.dst.info.Ratio, w.kernels
	sum, mixed, largest, gates := w.row[:dim], w.row[dim:2*dim], w.row[2*dim:3*dim], w.row[3*dim:4*dim]
	rows := o.ring.rows(w.queue.slot(int(span.Slot)))
	first := entry * ratio
	begin := first
	if o.overlap {
		begin = max(0, first-ratio)
	}
	// each visits the positions with their values and, in gates, their gates.
	each := func(visit func(values []float32)) {
		for p := begin; p < first+ratio; p++ {
			x, column := latestRow(&o.x, o.ring, rows, span, p), 0
			if o.overlap && p >= first {
				column = dim // an entry's own positions give the second half, those before it the first
			}
			copy(gates, x[o.ape.in+column:])
			k.add(gates, o.ape.vector[p%ratio*o.ape.in+column:][:dim])
			visit(x[column:][:dim])
		}
	}
	for c := range largest {
		largest[c] = float32(math.Inf(-1))
	}
	each(func([]float32) {
		for c, g := range gates {
			largest[c] = max(largest[c], g)
		}
	})
	clear(sum)
	clear(mixed)
	each(func(values []float32) {
		k.addScaled(gates, largest, -1)
		k.expSum(gates, gates, 0)
		k.add(sum, gates)
		k.mulAdd(mixed, gates, values)
	})
	for c, s := range sum {
		mixed[c] /= s
	}
	o.norm.normalize(k, mixed, mixed)
	o.turn(w, mixed[dim-2*o.by.pairs:], first)
	block, slot := o.dst.info.Place(entry)
	id := w.step.batch.Tables[int(span.Table)+block]
	o.dst.write(w, o.dst.tile(w.queue.block(int(id)), 0), slot, mixed)
}

// turn rotates the last elements of an entry by its position.
func (o *compress) turn(w *worker, x []float32, position int) {
	n := len(w.row) - 2*o.by.pairs
	cos, sin := w.row[n:n+o.by.pairs], w.row[n+o.by.pairs:]
	o.by.angles(cos, sin, position)
	o.by.turns(w.kernels)(x, x, cos, sin)
}
