package cpu

import "math"

// Attention goes over the entries of each source in partitions of eight tiles of 64 entries, counted from the source's
// first entry. In a partition it computes all scores of a row, then their weights relative to the largest, then the
// weighted sum of values; the partitions' results are merged in ascending order, source by source, by their maxima and
// sums (arXiv 1805.02867). The borders are absolute, so that a row's arithmetic is the same whether one worker goes
// through all partitions or each is done by another, and whichever rows are computed beside it. Entries of a selection
// are counted by their place in it: one that holds all visible entries gives the bits of attention without it.
const (
	partitionTiles = 8
	partitionLen   = partitionTiles * blockLen
	scoreStride    = partitionLen + 16 // of rows; else those of a unit would fall into few places of a first-level cache
)

// attention is causal attention of every token over its sequence.
type attention struct {
	query, dst view
	sources    []*source
	scale      float32
	sinks      *weight // a logit of each query head that has no value; nil: none
	keyHeads   int
	group      int // query heads of a key head
	keyCols    int // elements of a query, in whole panels
	valueCols  int // elements of a value, in whole panels
	plan       *attentionPlan
	partials   *[]float32 // [slot][query head][partialCols], shared by all attention operations
}

// partialCols is the size of a partition's result for one row and head: maximum, sum, weighted sum of values.
func (o *attention) partialCols() int { return o.valueCols + 2 }

// partial returns the result of one row and head in a slot.
func (o *attention) partial(slot, head int) []float32 {
	n := o.partialCols()
	return (*o.partials)[(slot*o.query.heads+head)*n:][:n]
}

func (o *attention) items(*step) int { return len(o.plan.units) * o.keyHeads }

func (o *attention) run(w *worker, item int) {
	u := &o.plan.units[item%len(o.plan.units)]
	t := attentionTile{attention: o, w: w, unit: u, keyHead: item / len(o.plan.units)}
	t.open()
	for _, t.source = range o.sources {
		t.goOver(item)
	}
	if !u.split {
		t.finish()
	}
}

// firstKeys returns the tile that an item reads first, nil if there is no such item or the tile is none of the cache.
func (o *attention) firstKeys(w *worker, item int) []byte {
	if item >= o.items(w.step) || !o.sources[0].isDirect() {
		return nil
	}
	u := &o.plan.units[item%len(o.plan.units)]
	return o.sources[0].direct(w, u.table, u.firstPart*partitionLen, item/len(o.plan.units)).keys
}

// attentionTile is the state of one unit: rows of query tokens times query heads of one key head, ascending by token, so
// that the rows which see a later tile are always the last ones, and those which have lost sight of a tile too.
type attentionTile struct {
	*attention
	w       *worker
	unit    *attentionUnit
	keyHead int

	source      *source
	first, last int    // rows that see something of the current partition
	after       []byte // the tile that the worker reads after the source, most likely
}

// rows is the number of rows.
func (t *attentionTile) rows() int { return t.unit.rows * t.unit.heads }

// token returns the row of the batch that a row belongs to, head which query head it is.
func (t *attentionTile) token(row int) int { return t.unit.row + row/t.unit.heads }
func (t *attentionTile) head(row int) int {
	return t.keyHead*t.group + t.unit.firstHead + row%t.unit.heads
}

// entries returns the entries [lo, hi) of the source that a row sees.
func (t *attentionTile) entries(row int) (lo, hi int) {
	token := row / t.unit.heads
	return t.source.entries(t.unit.position+token, t.unit.row+token, t.keyHead)
}

// open copies the queries together, scaled.
func (t *attentionTile) open() {
	a, dim := &t.w.attention, t.query.dim
	for row := range t.rows() {
		q := a.query[row*t.keyCols:][:t.keyCols]
		copy(q, t.query.head(t.token(row), t.head(row)))
		clear(q[dim:])
		t.w.kernels.scale(q[:dim], t.scale)
		a.mergedSum[row] = nothing
	}
}

// nothing is the sum of a row that no partition was merged into.
const nothing = -1

// goOver computes the source's partitions: those of the unit if it is split, else all that its rows see.
func (t *attentionTile) goOver(item int) {
	begin, _ := t.entries(0)
	_, end := t.entries(t.rows() - 1)
	first, last := begin/partitionLen, (end+partitionLen-1)/partitionLen
	if t.unit.split {
		first, last = t.unit.firstPart, t.unit.lastPart
	}
	t.after = t.firstKeys(t.w, item+1)
	for part := first; part < last; part++ {
		t.partition(part, end)
		if t.unit.split {
			t.keep(part)
		} else {
			t.merge()
		}
	}
}

// partition computes the rows' results of one partition, of a source of which the last row sees the entries before seen.
func (t *attentionTile) partition(part, seen int) {
	a := &t.w.attention
	end := min((part+1)*partitionLen, seen)
	t.first, t.last = t.seeing(part*partitionLen, end)
	if t.first == t.last {
		return
	}
	begin, _ := t.entries(t.first)
	begin = max(begin/blockLen*blockLen, part*partitionLen)
	for base := begin; base < end; base += blockLen {
		next := t.tileAt(base+blockLen, end).keys
		if base+blockLen >= end {
			next = t.tileAt(begin, end).values
		}
		t.scores(base, seen, next)
	}
	for row := t.first; row < t.last; row++ {
		t.softmax(row, part*partitionLen, end)
	}
	clear(a.acc[t.first*t.valueCols : t.last*t.valueCols])
	for base := begin; base < end; base += blockLen {
		next := t.after
		switch {
		case base+blockLen < end:
			next = t.tileAt(base+blockLen, end).values
		case !t.unit.split && end < seen:
			next = t.tileAt(end, seen).keys
		}
		t.values(base, seen, next)
	}
}

// seeing returns the rows that see any of the entries [begin, end).
func (t *attentionTile) seeing(begin, end int) (first, last int) {
	if t.source.chosen != nil { // a unit's rows read the same entries
		if _, hi := t.entries(0); hi <= begin {
			return 0, 0
		}
		return 0, t.rows()
	}
	from, to := t.source.positions(begin, end)
	first, last = max(0, from-t.unit.position), min(t.unit.rows, to-t.unit.position)
	return first * t.unit.heads, max(first, last) * t.unit.heads
}

// tileAt returns the tile of the entries from base on as far as it is at hand in the cache, to be fetched ahead.
func (t *attentionTile) tileAt(base, end int) sourceTile {
	if base >= end || !t.source.isDirect() {
		return sourceTile{}
	}
	return t.source.direct(t.w, t.unit.table, base, t.keyHead)
}

// scores multiplies the queries of all rows that see a tile with its keys; next is read after them.
func (t *attentionTile) scores(base, seen int, next []byte) {
	a, s := &t.w.attention, t.source
	first, last := t.seeing(base, base+blockLen)
	if first == last {
		return
	}
	seen = min(blockLen, seen-base)
	a.tile.dst, a.tile.dstStride = a.scores[first*scoreStride+base%partitionLen:], scoreStride
	a.tile.x, a.tile.xStride = a.query[first*t.keyCols:], t.keyCols
	a.tile.tile, a.tile.ahead, a.tile.rows = s.tile(t, base).keys, next, last-first
	kernels := t.w.kernels.tiles(s.keyFormat)
	if s.keyPanels {
		a.tile.k, a.tile.panels = t.query.dim, (seen+panelCols-1)/panelCols
		kernels.keys(&a.tile)
		return
	}
	a.tile.k, a.tile.slots, a.tile.entries = t.keyCols, blockLen, seen
	kernels.latents(&a.tile)
}

// softmax turns the scores of the entries that a row sees of a partition into weights, and those of the others that values
// are multiplied with into zeros.
func (t *attentionTile) softmax(row, begin, end int) {
	a, k := &t.w.attention, t.w.kernels
	scores := a.scores[row*scoreStride:][:partitionLen]
	lo, hi := t.entries(row)
	lo, hi = max(lo, begin)-begin, min(hi, end)-begin
	clear(scores[lo/blockLen*blockLen : lo])
	a.max[row] = k.maxOf(scores[lo:hi])
	a.sum[row] = k.expSum(scores[lo:hi], scores[lo:hi], a.max[row])
	clear(scores[hi:min(end-begin, roundUp(hi, blockLen))])
}

// values adds the weighted values of a tile; next is read after them, if anything is.
func (t *attentionTile) values(base, seen int, next []byte) {
	a, s := &t.w.attention, t.source
	first, last := t.seeing(base, base+blockLen)
	if first == last {
		return
	}
	a.tile.dst, a.tile.dstStride = a.acc[first*t.valueCols:], t.valueCols
	a.tile.x, a.tile.xStride = a.scores[first*scoreStride+base%partitionLen:], scoreStride
	a.tile.tile, a.tile.ahead, a.tile.rows = s.tile(t, base).values, next, last-first
	a.tile.k, a.tile.panels = min(blockLen, seen-base), t.valueCols/panelCols
	t.w.kernels.tiles(s.valueFormat).values(&a.tile)
}

// keep stores the results of a partition for the merging phase.
func (t *attentionTile) keep(part int) {
	a := &t.w.attention
	for row := t.first; row < t.last; row++ {
		// A row's slots lie behind each other: slot of its token's first partition, plus the partition.
		slot := t.unit.slot + row/t.unit.heads*t.unit.slotStride + part
		p := t.partial(slot, t.head(row))
		p[0], p[1] = a.max[row], a.sum[row]
		copy(p[2:], a.acc[row*t.valueCols:][:t.valueCols])
	}
}

// merge adds the partition to those before it.
func (t *attentionTile) merge() {
	a, n := &t.w.attention, t.valueCols
	for row := t.first; row < t.last; row++ {
		merged, x := a.merged[row*n:][:n], a.acc[row*n:][:n]
		if a.mergedSum[row] == nothing {
			a.mergedMax[row], a.mergedSum[row] = a.max[row], a.sum[row]
			copy(merged, x)
			continue
		}
		a.mergedMax[row], a.mergedSum[row] = mergePartials(t.w.kernels, merged, x,
			[2]float32{a.mergedMax[row], a.mergedSum[row]}, [2]float32{a.max[row], a.sum[row]})
	}
}

// finish writes the rows.
func (t *attentionTile) finish() {
	a := &t.w.attention
	for row := range t.rows() {
		dst := t.dst.head(t.token(row), t.head(row))
		copy(dst, a.merged[row*t.valueCols:])
		t.divide(t.w.kernels, dst, t.head(row), [2]float32{a.mergedMax[row], a.mergedSum[row]})
	}
}

// divide makes the result of a row and head of the weighted sum of values, given the maximum and the sum of the weights.
func (o *attention) divide(k *kernels, dst []float32, head int, of [2]float32) {
	largest, sum := of[0], of[1]
	switch {
	case sum == nothing:
		clear(dst)
	case o.sinks == nil:
		k.scale(dst, 1/sum)
	default:
		sink := o.sinks.vector[head]
		most := max(largest, sink)
		shrink := exp64(largest - most)
		k.scale(dst, shrink/(float32(sum*shrink)+exp64(sink-most)))
	}
}

// mergePartials adds the weighted sum x to dst, given the maximum and the sum of each, and returns those of both.
func mergePartials(k *kernels, dst, x []float32, a, b [2]float32) (largest, sum float32) {
	largest = max(a[0], b[0])
	shrinkA, shrinkB := exp64(a[0]-largest), exp64(b[0]-largest)
	k.scale(dst, shrinkA)
	k.addScaled(dst, x, shrinkB)
	return largest, float32(a[1]*shrinkA) + float32(b[1]*shrinkB)
}

// exp64 is rounded from double precision: it is computed once per row and tile.
func exp64(x float32) float32 { return float32(math.Exp(float64(x))) }

// attentionMerge merges the partitions of rows that were split.
type attentionMerge struct{ *attention }

func (o attentionMerge) items(*step) int { return len(o.plan.merges) * o.keyHeads }

func (o attentionMerge) run(w *worker, item int) {
	m, keyHead := &o.plan.merges[item/o.keyHeads], item%o.keyHeads
	for h := keyHead * o.group; h < (keyHead+1)*o.group; h++ {
		merged := w.attention.merged[:o.valueCols]
		first := o.partial(m.slot, h)
		copy(merged, first[2:])
		largest, sum := first[0], first[1]
		for part := 1; part < m.parts; part++ {
			p := o.partial(m.slot+part, h)
			largest, sum = mergePartials(w.kernels, merged, p[2:], [2]float32{largest, sum}, [2]float32{p[0], p[1]})
		}
		dst := o.dst.head(m.row, h)
		copy(dst, merged)
		o.divide(w.kernels, dst, h, [2]float32{largest, sum})
	}
}
