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

// deltaHead is what a slot holds of some panels of one value head, and of its key head.
type deltaHead struct {
	valueHead, panel, panels int
	state                    []float32 // [panels][key dim][16]
	rows                     []float32 // [panels][64][16]
	decay                    []float32 // [64], -G of each row
	keys                     []float32 // [4][key dim][16]
}

// cols is the number of columns of the head's panels.
func (h *deltaHead) cols() int { return h.panels * panelCols }

// head returns panels lo to hi-1 of a value head in a slot.
func (d *delta) head(slot []byte, keyHead, valueHead, lo, hi int) deltaHead {
	x := floatsOf(slot[d.offset:][:d.bytes()])
	part := func(heads, head, size int) []float32 {
		all := x[:heads*size]
		x = x[heads*size:]
		return all[head*size:][:size]
	}
	h := deltaHead{
		valueHead: valueHead, panel: lo, panels: hi - lo,
		state: part(d.info.ValueHeads, valueHead, d.stateSize()),
		rows:  part(d.info.ValueHeads, valueHead, d.rowsSize()),
		decay: part(d.info.ValueHeads, valueHead, blockLen),
		keys:  part(d.info.KeyHeads, keyHead, d.keysSize()),
	}
	state, rows := d.info.KeyDim*panelCols, blockLen*panelCols
	h.state, h.rows = h.state[lo*state:hi*state], h.rows[lo*rows:hi*rows]
	return h
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
			head := d.head(slot, keyHead, h, 0, d.panels)
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
	for p := range head.panels {
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
	keys      []float32 // [4][key dim][16], of the chunk, where several workers share a key head
	decay     []float32 // [value heads of a key head][64], likewise
	tile      tileArgs
}

// reserve takes the memory for heads of at most the given sizes; none when there are no delta rules.
func (a *deltaSpace) reserve(c *carver, keyDim, valueCols, group int) {
	if keyDim == 0 {
		return
	}
	a.rows, a.sums = carve[float32](c, 2*blockLen*keyDim), carve[float32](c, 2*blockLen*valueCols)
	a.keys, a.decay = carve[float32](c, blockLen*keyDim), carve[float32](c, blockLen*group)
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

// deltaRule goes through each span chunk by chunk. An item is some panels of the value heads of one key head of a span:
// columns of the state do not know of each other.
type deltaRule struct {
	q, k, v, a, b, dst view
	decay, bias        *weight
	state              *delta
}

// parts is the number of items of a key head: one, unless workers would have nothing to do.
func (o *deltaRule) parts(s *step) int {
	heads := len(s.batch.Spans) * o.state.info.KeyHeads
	if heads >= s.workers {
		return 1
	}
	return min((2*s.workers+heads-1)/heads, o.state.group()*o.state.panels)
}

func (o *deltaRule) items(s *step) int {
	return len(s.batch.Spans) * o.state.info.KeyHeads * o.parts(s)
}

func (o *deltaRule) run(w *worker, item int) {
	d, parts := o.state, o.parts(w.step)
	span, keyHead := &w.step.batch.Spans[item/parts/d.info.KeyHeads], item/parts%d.info.KeyHeads
	panels := d.group() * d.panels
	c := deltaChunk{deltaRule: o, w: w, slot: w.queue.slot(int(span.Slot)), keyHead: keyHead, lo: panels * (item % parts) / parts, hi: panels * (item%parts + 1) / parts}
	if parts > 1 {
		c.copyRows()
	}
	base := int(d.from(span).base)
	for start, end := int(span.Start), int(span.Start+span.Len); start < end; {
		c.isFirst = base == 0
		if start == base+blockLen {
			c.fold()
			c.isFirst, base = false, start
		}
		c.row, c.first, c.last = int(span.Row-span.Start)+start, start-base, min(end-base, blockLen)
		c.run()
		start = base + c.last
	}
}

// deltaKeep writes the rows of keys and decay that items with a part of a key head have computed each for itself.
type deltaKeep struct{ *deltaRule }

func (o deltaKeep) items(s *step) int {
	if o.parts(s) == 1 {
		return 0
	}
	return len(s.batch.Spans) * o.state.info.KeyHeads
}

func (o deltaKeep) run(w *worker, item int) {
	d := o.state
	span, keyHead := &w.step.batch.Spans[item/d.info.KeyHeads], item%d.info.KeyHeads
	next := after(span)
	start := max(span.Start, next.base)
	c := deltaChunk{
		deltaRule: o.deltaRule, w: w, slot: w.queue.slot(int(span.Slot)), keyHead: keyHead, hi: d.group() * d.panels,
		row: int(span.Row - span.Start + start), first: int(start - next.base), last: int(next.end - next.base),
	}
	for i := range d.group() {
		head := c.head(i)
		if i == 0 {
			c.addKeys(&head)
		}
		c.gates(&head)
	}
}

// deltaChunk is some rows of a chunk, those with index first to last-1 in it, from a row of the batch on, for panels lo to
// hi-1 of all value heads of a key head.
type deltaChunk struct {
	*deltaRule
	w           *worker
	slot        []byte
	keyHead     int
	lo, hi      int
	row         int
	first, last int
	isFirst     bool // the chunk is a sequence's first one: the state is zero
	isShared    bool // others work on the key head too
}

// head returns the chunk's panels of the i-th value head of its key head.
func (c *deltaChunk) head(i int) deltaHead {
	d := c.state
	h := d.head(c.slot, c.keyHead, d.valueHead(c.keyHead, i), max(c.lo-i*d.panels, 0), min(c.hi-i*d.panels, d.panels))
	if c.isShared {
		h.keys, h.decay = c.w.delta.keys[:d.keysSize()], c.w.delta.decay[i*blockLen:][:blockLen]
	}
	return h
}

// heads returns which of the key head's value heads have panels in the chunk.
func (c *deltaChunk) heads() (first, last int) {
	return c.lo / c.state.panels, (c.hi-1)/c.state.panels + 1
}

// copyRows copies the keys and the decay of the slot's chunk, which others read while the worker writes.
func (c *deltaChunk) copyRows() {
	for i, last := c.heads(); i < last; i++ {
		h := c.head(i)
		copy(c.w.delta.keys, h.keys)
		copy(c.w.delta.decay[i*blockLen:], h.decay)
	}
	c.isShared = true
}

// fold takes the chunk, which is full, into the states.
func (c *deltaChunk) fold() {
	for i, last := c.heads(); i < last; i++ {
		head := c.head(i)
		if i*c.state.panels <= c.lo {
			c.w.delta.transpose(head.keys, c.state.info.KeyDim)
		}
		c.state.fold(c.w, &head, c.isFirst)
	}
}

func (c *deltaChunk) run() {
	for i, last := c.heads(); i < last; i++ {
		head := c.head(i)
		if i*c.state.panels <= c.lo {
			c.multiplyKeys(&head)
		}
		c.gates(&head)
		c.multiplyState(&head)
		for group := c.first / deltaGroup * deltaGroup; group < c.last; group += deltaGroup {
			c.rows(&head, group)
		}
	}
}

// addKeys adds the rows' keys to those of the chunk.
func (c *deltaChunk) addKeys(head *deltaHead) {
	dim := c.state.info.KeyDim
	for at := c.first; at < c.last; at++ {
		panel := head.keys[at/panelCols*panelCols*dim+at&keyPanelMask:]
		for j, v := range c.k.head(c.row+at-c.first, c.keyHead) {
			panel[j*panelCols] = v
		}
	}
}

// multiplyKeys multiplies the rows' keys and queries with all keys of the chunk.
func (c *deltaChunk) multiplyKeys(head *deltaHead) {
	c.addKeys(head)
	a, dim, n := &c.w.delta, c.state.info.KeyDim, c.last-c.first
	for i := range n {
		copy(a.rows[i*dim:][:dim], c.k.head(c.row+i, c.keyHead))
		copy(a.rows[(n+i)*dim:][:dim], c.q.head(c.row+i, c.keyHead))
	}
	a.tile.dst, a.tile.dstStride = a.products, blockLen
	a.tile.x, a.tile.xStride = a.rows, dim
	a.tile.tile, a.tile.ahead = floatBytes(head.keys), nil
	a.tile.k, a.tile.panels, a.tile.rows = dim, (c.last+panelCols-1)/panelCols, 2*n
	c.w.kernels.tilesF32.keys(&a.tile)
}

// gates computes the rows' decay and beta.
func (c *deltaChunk) gates(head *deltaHead) {
	h := head.valueHead
	decay, bias := c.decay.vector[h], c.bias.vector[h]
	for i := c.first; i < c.last; i++ {
		row := c.row + i - c.first
		a, b := float64(c.a.element(row, h)+bias), float64(c.b.element(row, h))
		head.decay[i] = -float32(decay * float32(max(a, 0)+math.Log1p(math.Exp(-math.Abs(a)))))
		if i > 0 {
			head.decay[i] += head.decay[i-1]
		}
		c.w.delta.beta[i] = float32(1 / (1 + math.Exp(-b)))
	}
}

// multiplyState multiplies keys and queries with the state, decayed up to each row.
func (c *deltaChunk) multiplyState(head *deltaHead) {
	a, n, cols := &c.w.delta, c.last-c.first, head.cols()
	if c.isFirst {
		clear(a.sums[:2*n*cols])
		return
	}
	a.tile.dst, a.tile.dstStride = a.sums, cols
	a.tile.x, a.tile.xStride = a.rows, c.state.info.KeyDim
	a.tile.tile, a.tile.ahead = floatBytes(head.state), nil
	a.tile.k, a.tile.panels, a.tile.rows = c.state.info.KeyDim, head.panels, 2*n
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
func (c *deltaChunk) rows(head *deltaHead, group int) {
	a, n, cols := &c.w.delta, c.last-c.first, head.cols()
	col := head.panel * panelCols
	known := min(cols, c.state.info.ValueDim-col) // columns that are no padding
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
		c.w.kernels.addScaled(d[:known], c.v.head(c.row+i-c.first, head.valueHead)[col:][:known], a.beta[i])
		for p := range head.panels {
			copy(head.rows[(p*blockLen+i)*panelCols:][:panelCols], d[p*panelCols:])
		}
	}
	for i := first; i < last; i++ {
		c.addRows(head, q+i-first, 1, group, i+1)
		copy(c.dst.head(c.row+i-c.first, head.valueHead)[col:], a.sums[(q+i-first)*cols:][:cols])
	}
}

// addRows adds d of the chunk's rows from lo to hi-1, weighted, to some sums.
func (c *deltaChunk) addRows(head *deltaHead, sum, sums, lo, hi int) {
	if lo == hi {
		return
	}
	a, cols := &c.w.delta, head.cols()
	a.tile.dst, a.tile.dstStride = a.sums[sum*cols:], cols
	a.tile.x, a.tile.xStride = a.weights[sum*blockLen+lo:], blockLen
	a.tile.tile, a.tile.ahead = floatBytes(head.rows[lo*panelCols:]), nil
	a.tile.k, a.tile.panels, a.tile.rows = hi-lo, head.panels, sums
	c.w.kernels.tilesF32.values(&a.tile)
}
