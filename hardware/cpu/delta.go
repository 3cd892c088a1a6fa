package cpu

import (
	"math"

	"hearth/hardware"
)

// delta is the state of a delta rule, with the rows of the chunk that goes on (hardware.DeltaRuleArgs). Everything is laid
// out as tiles of attention are, so that their kernels multiply it:
//
//	S     [value heads][panels of 16 values][key dim][16]   entering the base; this part is what a snapshot holds
//	d     [value heads][panels of 16 values][64][16]        rows of the chunk
//	decay [value heads][64]                                 -G of each row
//	keys  [key heads][4 panels of 16 rows][key dim][16]
//
// Columns of the last panel beyond the value dim are zero. Before the first chunk is folded in, S is not there: it is
// neither read nor set.
type delta struct {
	history
	info        hardware.DeltaInfo
	panels      int // of a value head
	offset      int // in a slot, in bytes
	savedOffset int // in a snapshot
}

func newDelta(info hardware.DeltaInfo) *delta {
	return &delta{history: history{name: info.Name}, info: info, panels: (info.ValueDim + panelCols - 1) / panelCols}
}

// The sizes of a head's parts, in elements.
func (d *delta) stateSize() int { return d.panels * d.info.KeyDim * panelCols }
func (d *delta) rowsSize() int  { return d.panels * blockLen * panelCols }
func (d *delta) keysSize() int  { return d.info.KeyDim * blockLen }

// bytes is the size of the part of a slot.
func (d *delta) bytes() int {
	return d.savedBytes() + 4*(d.info.ValueHeads*(d.rowsSize()+blockLen)+d.info.KeyHeads*d.keysSize())
}

// savedBytes is the size of the part of a snapshot.
func (d *delta) savedBytes() int { return 4 * d.info.ValueHeads * d.stateSize() }

// group is how many value heads use a key head.
func (d *delta) group() int { return d.info.ValueHeads / d.info.KeyHeads }

// valueHead returns the i-th value head of a key head.
func (d *delta) valueHead(keyHead, i int) int {
	if d.info.Map == hardware.Tiled {
		return i*d.info.KeyHeads + keyHead
	}
	return keyHead*d.group() + i
}

// deltaHead is what a slot holds of one value head, and of its key head.
type deltaHead struct {
	state []float32 // [panels][key dim][16]
	rows  []float32 // [panels][64][16]
	decay []float32 // [64], -G of each row
	keys  []float32 // [4][key dim][16]
}

// head returns a value head's part of a slot.
func (d *delta) head(slot []byte, keyHead, valueHead int) deltaHead {
	x := floatsOf(slot[d.offset:][:d.bytes()])
	part := func(heads, head, size int) []float32 {
		all := x[:heads*size]
		x = x[heads*size:]
		return all[head*size:][:size]
	}
	return deltaHead{
		state: part(d.info.ValueHeads, valueHead, d.stateSize()),
		rows:  part(d.info.ValueHeads, valueHead, d.rowsSize()),
		decay: part(d.info.ValueHeads, valueHead, blockLen),
		keys:  part(d.info.KeyHeads, keyHead, d.keysSize()),
	}
}

// save copies the state that enters a position, which is the base or the end of a full chunk.
func (d *delta) save(w *worker, snapshot, slot []byte, position int, at progress) {
	saved := snapshot[d.savedOffset:][:d.savedBytes()]
	copy(saved, slot[d.offset:])
	if position == int(at.base) {
		return
	}
	states := floatsOf(saved)
	for keyHead := range d.info.KeyHeads {
		for i := range d.group() {
			h := d.valueHead(keyHead, i)
			head := d.head(slot, keyHead, h)
			if i == 0 {
				w.delta.transpose(head.keys, d.info.KeyDim)
			}
			head.state = states[h*d.stateSize():][:d.stateSize()]
			d.fold(w, &head, at.base == 0)
		}
	}
}

// load makes a slot go on from a snapshot.
func (d *delta) load(slot, snapshot []byte) {
	copy(slot[d.offset:], snapshot[d.savedOffset:][:d.savedBytes()])
}

// fold takes a full chunk into the state; the chunk's keys are transposed already.
func (d *delta) fold(w *worker, head *deltaHead, first bool) {
	a, dim := &w.delta, d.info.KeyDim
	last := head.decay[blockLen-1]
	if first {
		clear(head.state)
	} else {
		w.kernels.scale(head.state, exp(-last))
	}
	w.kernels.expSum(a.factors[:blockLen], head.decay, last)
	for i := range dim {
		w.kernels.scaleMul(a.scaled[i*blockLen:][:blockLen], a.keysByDim[i*blockLen:][:blockLen], a.factors[:blockLen], 1)
	}
	for p := range d.panels {
		a.tile.dst, a.tile.dstStride = head.state[p*dim*panelCols:], panelCols
		a.tile.x, a.tile.xStride = a.scaled, blockLen
		a.tile.tile, a.tile.ahead = floatBytes(head.rows[p*blockLen*panelCols:]), nil
		a.tile.k, a.tile.panels, a.tile.rows = blockLen, 1, dim
		w.kernels.tilesF32.values(&a.tile)
	}
}

// deltaSpace is a worker's memory for one chunk of one key head.
type deltaSpace struct {
	rows      []float32 // [2*64][key dim]: keys of the span's rows in the chunk, then queries
	products  []float32 // [2*64][64]: of those with the chunk's keys
	weights   []float32 // [2*64][64]: products times decay
	sums      []float32 // [2*64][value columns]: d of each row, then results
	keysByDim []float32 // [key dim][64], of a full chunk
	scaled    []float32 // [key dim][64]
	factors   []float32 // [64]
	beta      []float32 // [64]
	tile      tileArgs
}

// reserve takes the memory for heads of at most the given sizes; none when there are no delta rules.
func (a *deltaSpace) reserve(c *carver, keyDim, valueCols int) {
	if keyDim == 0 {
		return
	}
	a.rows, a.sums = carve[float32](c, 2*blockLen*keyDim), carve[float32](c, 2*blockLen*valueCols)
	a.products, a.weights = carve[float32](c, 2*blockLen*blockLen), carve[float32](c, 2*blockLen*blockLen)
	a.keysByDim, a.scaled = carve[float32](c, keyDim*blockLen), carve[float32](c, keyDim*blockLen)
	a.factors, a.beta = carve[float32](c, blockLen), carve[float32](c, blockLen)
}

// transpose copies the keys of a full chunk, [4][dim][16], to [dim][64].
func (a *deltaSpace) transpose(keys []float32, dim int) {
	for p := range keyPanels {
		for i := range dim {
			copy(a.keysByDim[i*blockLen+p*panelCols:][:panelCols], keys[(p*dim+i)*panelCols:])
		}
	}
}

// deltaRule goes through each span chunk by chunk. An item is one key head of one span, with the value heads that use it.
type deltaRule struct {
	q, k, v, a, b, dst view
	decay, bias        *weight
	state              *delta
}

func (o *deltaRule) items(s *step) int { return len(s.batch.Spans) * o.state.info.KeyHeads }

func (o *deltaRule) run(w *worker, item int) {
	d := o.state
	span, keyHead := &w.step.batch.Spans[item/d.info.KeyHeads], item%d.info.KeyHeads
	slot, from := w.queue.slot(int(span.Slot)), d.from(span)
	base := int(from.base)
	for start, end := int(span.Start), int(span.Start+span.Len); start < end; {
		if start == base+blockLen {
			o.foldChunk(w, slot, keyHead, base == 0)
			base = start
		}
		c := deltaChunk{deltaRule: o, w: w, row: int(span.Row-span.Start) + start, first: start - base, last: min(end-base, blockLen), isZero: base == 0}
		c.run(slot, keyHead)
		start = base + c.last
	}
}

// foldChunk takes a full chunk into the states of a key head's value heads.
func (o *deltaRule) foldChunk(w *worker, slot []byte, keyHead int, first bool) {
	d := o.state
	for i := range d.group() {
		head := d.head(slot, keyHead, d.valueHead(keyHead, i))
		if i == 0 {
			w.delta.transpose(head.keys, d.info.KeyDim)
		}
		d.fold(w, &head, first)
	}
}

// deltaChunk is some rows of a chunk: those with index first to last-1 in it, from a row of the batch on.
type deltaChunk struct {
	*deltaRule
	w           *worker
	row         int
	first, last int
	isZero      bool // no chunk is folded in yet: the state is zero
}

func (c *deltaChunk) run(slot []byte, keyHead int) {
	for i := range c.state.group() {
		valueHead := c.state.valueHead(keyHead, i)
		head := c.state.head(slot, keyHead, valueHead)
		if i == 0 {
			c.multiplyKeys(&head, keyHead)
		}
		c.gates(&head, valueHead)
		c.multiplyState(&head)
		for group := c.first / deltaGroup * deltaGroup; group < c.last; group += deltaGroup {
			c.rows(&head, valueHead, group)
		}
	}
}

// multiplyKeys adds the rows' keys to those of the chunk, and multiplies keys and queries with all of them.
func (c *deltaChunk) multiplyKeys(head *deltaHead, keyHead int) {
	a, dim, n := &c.w.delta, c.state.info.KeyDim, c.last-c.first
	for i := range n {
		k := c.k.head(c.row+i, keyHead)
		copy(a.rows[i*dim:][:dim], k)
		copy(a.rows[(n+i)*dim:][:dim], c.q.head(c.row+i, keyHead))
		at := c.first + i
		panel := head.keys[at/panelCols*panelCols*dim+at&keyPanelMask:]
		for j, v := range k {
			panel[j*panelCols] = v
		}
	}
	a.tile.dst, a.tile.dstStride = a.products, blockLen
	a.tile.x, a.tile.xStride = a.rows, dim
	a.tile.tile, a.tile.ahead = floatBytes(head.keys), nil
	a.tile.k, a.tile.panels, a.tile.rows = dim, (c.last+panelCols-1)/panelCols, 2*n
	c.w.kernels.tilesF32.keys(&a.tile)
}

// gates computes the rows' decay and beta.
func (c *deltaChunk) gates(head *deltaHead, valueHead int) {
	decay, bias := c.decay.vector[valueHead], c.bias.vector[valueHead]
	for i := c.first; i < c.last; i++ {
		row := c.row + i - c.first
		a, b := float64(c.a.element(row, valueHead)+bias), float64(c.b.element(row, valueHead))
		head.decay[i] = -float32(decay * float32(max(a, 0)+math.Log1p(math.Exp(-math.Abs(a)))))
		if i > 0 {
			head.decay[i] += head.decay[i-1]
		}
		c.w.delta.beta[i] = float32(1 / (1 + math.Exp(-b)))
	}
}

// multiplyState multiplies keys and queries with the state, decayed up to each row.
func (c *deltaChunk) multiplyState(head *deltaHead) {
	a, n, cols := &c.w.delta, c.last-c.first, c.state.panels*panelCols
	if c.isZero {
		clear(a.sums[:2*n*cols])
		return
	}
	a.tile.dst, a.tile.dstStride = a.sums, cols
	a.tile.x, a.tile.xStride = a.rows, c.state.info.KeyDim
	a.tile.tile, a.tile.ahead = floatBytes(head.state), nil
	a.tile.k, a.tile.panels, a.tile.rows = c.state.info.KeyDim, c.state.panels, 2*n
	c.w.kernels.tilesF32.keys(&a.tile)
	for i := range n {
		factor := exp(-head.decay[c.first+i])
		c.w.kernels.scale(a.sums[i*cols:][:cols], factor)
		c.w.kernels.scale(a.sums[(n+i)*cols:][:cols], factor)
	}
}

// deltaGroup is how many rows of a chunk are done together: those before the group are added to all of its rows at once,
// its own to each row by itself. Groups begin at multiples, so that a row's sums are made of the same parts whichever rows
// are computed with it.
const deltaGroup = 8

// rows computes d and the results of a group's rows.
func (c *deltaChunk) rows(head *deltaHead, valueHead, group int) {
	a, n, cols := &c.w.delta, c.last-c.first, c.state.panels*panelCols
	first, last := max(group, c.first), min(group+deltaGroup, c.last)
	for i := first; i < last; i++ {
		k, q := (i-c.first)*blockLen, (n+i-c.first)*blockLen
		c.w.kernels.expSum(a.factors[:i+1], head.decay[:i+1], head.decay[i])
		c.w.kernels.scaleMul(a.weights[k:][:i+1], a.products[k:][:i+1], a.factors[:i+1], 1)
		c.w.kernels.scaleMul(a.weights[q:][:i+1], a.products[q:][:i+1], a.factors[:i+1], 1)
	}
	k, q := first-c.first, n+first-c.first
	c.addRows(head, k, last-first, 0, group)
	c.addRows(head, q, last-first, 0, group)
	for i := first; i < last; i++ {
		c.addRows(head, k+i-first, 1, group, i)
		d := a.sums[(k+i-first)*cols:][:cols]
		c.w.kernels.scale(d, -a.beta[i])
		c.w.kernels.addScaled(d[:c.state.info.ValueDim], c.v.head(c.row+i-c.first, valueHead), a.beta[i])
		for p := range c.state.panels {
			copy(head.rows[(p*blockLen+i)*panelCols:][:panelCols], d[p*panelCols:])
		}
	}
	for i := first; i < last; i++ {
		c.addRows(head, q+i-first, 1, group, i+1)
		copy(c.dst.head(c.row+i-c.first, valueHead), a.sums[(q+i-first)*cols:])
	}
}

// addRows adds d of the chunk's rows from lo to hi-1, weighted, to some sums.
func (c *deltaChunk) addRows(head *deltaHead, sum, sums, lo, hi int) {
	if lo == hi {
		return
	}
	a, cols := &c.w.delta, c.state.panels*panelCols
	a.tile.dst, a.tile.dstStride = a.sums[sum*cols:], cols
	a.tile.x, a.tile.xStride = a.weights[sum*blockLen+lo:], blockLen
	a.tile.tile, a.tile.ahead = floatBytes(head.rows[lo*panelCols:]), nil
	a.tile.k, a.tile.panels, a.tile.rows = hi-lo, c.state.panels, sums
	c.w.kernels.tilesF32.values(&a.tile)
}
