package cpu

import (
	"math"

	"hearth/hardware"
)

// Attention goes over the cache in partitions of eight blocks, counted from position 0. In a partition it computes all
// scores of a row, then their weights relative to the largest, then the weighted sum of values; the partitions' results
// are merged in ascending order by their maxima and sums (arXiv 1805.02867). The borders are absolute positions, so that
// a row's arithmetic is the same whether one worker goes through all partitions or each is done by another, and
// whichever rows are computed beside it.
const (
	partitionLen = 8 * blockLen
	scoreStride  = partitionLen + 16 // of rows; else those of a unit would fall into few places of a first-level cache
)

// attention is causal attention of every token over its sequence.
type attention struct {
	query, dst view
	key, value *stream
	scale      float32
	group      int // query heads of a key head
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

func (o *attention) items(s *step) int { return len(o.plan.units) * o.key.heads }

func (o *attention) run(w *worker, item int) {
	u := &o.plan.units[item%len(o.plan.units)]
	t := attentionTile{attention: o, w: w, unit: u, kvHead: item / len(o.plan.units)}
	t.open()
	t.after = o.firstKeys(w, item+1)
	for part := u.firstPart; part < u.lastPart; part++ {
		t.partition(part)
		if u.split {
			t.keep(part)
		} else {
			t.merge(part == u.firstPart)
		}
	}
	if !u.split {
		t.finish()
	}
}

// firstKeys returns the tile that an item reads first, nil if there is no such item.
func (o *attention) firstKeys(w *worker, item int) []byte {
	if item >= o.items(w.step) {
		return nil
	}
	u := &o.plan.units[item%len(o.plan.units)]
	id := w.step.batch.Tables[u.table+u.firstPart*(partitionLen/blockLen)]
	return o.key.tile(w.queue.block(int(id)), item/len(o.plan.units))
}

// attentionTile is the state of one unit: rows of query tokens times the query heads of one key head, ascending by
// token, so that the rows which see a later tile are always the last ones.
type attentionTile struct {
	*attention
	w      *worker
	unit   *attentionUnit
	kvHead int

	first int    // first row that sees something of the current partition
	after []byte // the tile that the worker reads after the unit, most likely
}

// position returns the position of a row.
func (t *attentionTile) position(row int) int { return t.unit.position + row/t.group }

// rows is the number of rows.
func (t *attentionTile) rows() int { return t.unit.rows * t.group }

// open copies the queries together, scaled.
func (t *attentionTile) open() {
	dim := t.key.dim
	for row := range t.rows() {
		q := t.w.attention.query[row*dim:][:dim]
		copy(q, t.query.head(t.unit.row+row/t.group, t.kvHead*t.group+row%t.group))
		t.w.kernels.scale(q, t.scale)
	}
}

// partition computes the rows' results of one partition.
func (t *attentionTile) partition(part int) {
	a := &t.w.attention
	rows := t.rows()
	last := t.position(rows-1) + 1 // positions that the last row sees
	begin, end := part*partitionLen, min((part+1)*partitionLen, last)
	t.first = t.seeing(begin)
	for base := begin; base < end; base += blockLen {
		t.scores(base, min(blockLen, last-base), t.ahead(base, begin, end))
	}
	for row := t.first; row < rows; row++ {
		t.softmax(row, min(end, t.position(row)+1)-begin, end-begin)
	}
	clear(a.acc[t.first*t.valueCols : rows*t.valueCols])
	for base := begin; base < end; base += blockLen {
		next := t.after
		switch {
		case base+blockLen < end:
			next = t.value.tile(t.block(base+blockLen), t.kvHead)
		case !t.unit.split && end < last:
			next = t.key.tile(t.block(end), t.kvHead)
		}
		t.values(base, min(blockLen, last-base), next)
	}
}

// ahead returns the tile that is read after the keys of a position: the next ones of the partition, or its first values.
func (t *attentionTile) ahead(base, begin, end int) []byte {
	if base+blockLen < end {
		return t.key.tile(t.block(base+blockLen), t.kvHead)
	}
	return t.value.tile(t.block(begin), t.kvHead)
}

// block returns the block of a position.
func (t *attentionTile) block(position int) []byte {
	return t.w.queue.block(int(t.w.step.batch.Tables[t.unit.table+position/blockLen]))
}

// seeing returns the first row that sees a position.
func (t *attentionTile) seeing(position int) int { return max(0, position-t.unit.position) * t.group }

// scores multiplies the queries of all rows that see a tile with its keys; next is read after them.
func (t *attentionTile) scores(base, seen int, next []byte) {
	a, dim, first := &t.w.attention, t.key.dim, t.seeing(base)
	a.tile.dst, a.tile.dstStride = a.scores[first*scoreStride+base%partitionLen:], scoreStride
	a.tile.x, a.tile.xStride = a.query[first*dim:], dim
	a.tile.tile, a.tile.ahead = t.key.tile(t.block(base), t.kvHead), next
	a.tile.k, a.tile.panels, a.tile.rows = dim, (seen+panelCols-1)/panelCols, t.rows()-first
	t.w.kernels.tiles(t.key.format).keys(&a.tile)
}

// softmax turns the scores of the positions that a row sees into weights, and those of the others that values are
// multiplied with into zeros.
func (t *attentionTile) softmax(row, visible, seen int) {
	a, k := &t.w.attention, t.w.kernels
	scores := a.scores[row*scoreStride:][:partitionLen]
	a.max[row] = k.maxOf(scores[:visible])
	a.sum[row] = k.expSum(scores[:visible], scores[:visible], a.max[row])
	clear(scores[visible:min(seen, roundUp(visible, blockLen))])
}

// values adds the weighted values of a tile; next is read after them, if anything is.
func (t *attentionTile) values(base, seen int, next []byte) {
	a, first := &t.w.attention, t.seeing(base)
	a.tile.dst, a.tile.dstStride = a.acc[first*t.valueCols:], t.valueCols
	a.tile.x, a.tile.xStride = a.scores[first*scoreStride+base%partitionLen:], scoreStride
	a.tile.tile, a.tile.ahead = t.value.tile(t.block(base), t.kvHead), next
	a.tile.k, a.tile.panels, a.tile.rows = seen, t.valueCols/panelCols, t.rows()-first
	t.w.kernels.tiles(t.value.format).values(&a.tile)
}

// keep stores the results of a partition for the merging phase.
func (t *attentionTile) keep(part int) {
	a := &t.w.attention
	for row := t.first; row < t.rows(); row++ {
		// A row's slots lie behind each other: slot of its token's first partition, plus the partition.
		slot := t.unit.slot + row/t.group*t.unit.slotStride + part
		p := t.partial(slot, t.kvHead*t.group+row%t.group)
		p[0], p[1] = a.max[row], a.sum[row]
		copy(p[2:], a.acc[row*t.valueCols:][:t.valueCols])
	}
}

// merge adds the partition to those before it.
func (t *attentionTile) merge(isFirst bool) {
	a := &t.w.attention
	if isFirst {
		copy(a.mergedMax, a.max[:t.rows()])
		copy(a.mergedSum, a.sum[:t.rows()])
		copy(a.merged, a.acc[:t.rows()*t.valueCols])
		return
	}
	for row := t.first; row < t.rows(); row++ {
		n := t.valueCols
		a.mergedMax[row], a.mergedSum[row] = mergePartials(t.w.kernels, a.merged[row*n:][:n], a.acc[row*n:][:n],
			[2]float32{a.mergedMax[row], a.mergedSum[row]}, [2]float32{a.max[row], a.sum[row]})
	}
}

// finish divides by the sums and writes the rows.
func (t *attentionTile) finish() {
	a := &t.w.attention
	for row := range t.rows() {
		dst := t.dst.head(t.unit.row+row/t.group, t.kvHead*t.group+row%t.group)
		copy(dst, a.merged[row*t.valueCols:])
		t.w.kernels.scale(dst, 1/a.mergedSum[row])
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

func (o attentionMerge) items(s *step) int { return len(o.plan.merges) * o.key.heads }

func (o attentionMerge) run(w *worker, item int) {
	m, kvHead := &o.plan.merges[item/o.key.heads], item%o.key.heads
	for h := kvHead * o.group; h < (kvHead+1)*o.group; h++ {
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
		w.kernels.scale(dst, 1/sum)
	}
}

// attentionPlan cuts the spans of a step into units of work, for all attention with the same number of query heads to
// a key head.
type attentionPlan struct {
	tokens   int // of a unit
	slots    int // partitions that can be kept for merging
	maxUnits int
	units    []attentionUnit
	merges   []attentionMergeRow
}

// attentionUnit is some rows of one span and some partitions of what they see.
type attentionUnit struct {
	row, rows           int // rows of the batch
	position            int // of the first row
	table               int // index of the sequence's block table
	firstPart, lastPart int
	split               bool
	slot, slotStride    int // where the partitions of the first row are kept, and the distance to the next row's
}

// attentionMergeRow is a row whose partitions were computed apart.
type attentionMergeRow struct{ row, slot, parts int }

const (
	attentionRows = 48 // query rows of a unit, heads included: whole tiles of the kernels (6 or 12 rows), and the scores stay near
	splitRows     = 8  // the longest span of which partitions are computed apart
)

// newAttentionPlan sizes the plan for group query heads to a key head.
func newAttentionPlan(group int, l *hardware.Limits) *attentionPlan {
	parts := (l.MaxLen + partitionLen - 1) / partitionLen
	p := &attentionPlan{tokens: max(1, attentionRows/group)}
	p.slots = 4*parts + min(l.Tokens, 64)
	p.maxUnits = l.Tokens/p.tokens + l.Spans + p.slots
	return p
}

// reserve takes the plan's memory.
func (p *attentionPlan) reserve(c *carver) {
	p.units, p.merges = carve[attentionUnit](c, p.maxUnits), carve[attentionMergeRow](c, p.slots)
}

// fill cuts a batch. Short spans are split into partitions as long as there is room to keep them; longer ones give
// enough units as they are.
func (p *attentionPlan) fill(b *hardware.Batch) {
	p.units, p.merges = p.units[:0], p.merges[:0]
	slot := 0
	for i := range b.Spans {
		s := &b.Spans[i]
		parts := (int(s.Start+s.Len) + partitionLen - 1) / partitionLen
		split := parts > 1 && s.Len <= splitRows && slot+int(s.Len)*parts <= p.slots
		for first := 0; first < int(s.Len); first += p.tokens {
			u := attentionUnit{
				row: int(s.Row) + first, rows: min(p.tokens, int(s.Len)-first), position: int(s.Start) + first, table: int(s.Table),
				split: split, slot: slot + first*parts, slotStride: parts,
			}
			u.lastPart = (u.position + u.rows + partitionLen - 1) / partitionLen
			if !split {
				p.units = append(p.units, u)
				continue
			}
			for part := range u.lastPart {
				u.firstPart, u.lastPart = part, part+1
				p.units = append(p.units, u)
			}
		}
		if split {
			for r := range int(s.Len) {
				p.merges = append(p.merges, attentionMergeRow{int(s.Row) + r, slot + r*parts, (int(s.Start)+r)/partitionLen + 1})
			}
			slot += int(s.Len) * parts
		}
	}
}
