package cpu

import "hearth/hardware"

// Experts are products of a few rows each. The chosen (row, rank) pairs, called slots, are sorted by expert, so that
// each expert's weights are read once for all its rows and those of experts that nobody chose are not read at all:
//
//	sort -> gather and prepare -> gate, up and GLU -> prepare -> down -> sum by rank
//
// With few rows every worker prepares those of its experts for itself, which is cheaper than waiting for each other. Every
// slot's arithmetic is that of a plain matrix product of its row.

// expertSpace is memory that all experts operations share: only one runs at a time.
type expertSpace struct {
	order  []int32 // [slots] slots, sorted by expert
	place  []int32 // [slots] the inverse
	first  []int32 // [experts+1] first place of each expert
	active []int32 // [experts] those that were chosen
	tiles  []int32 // [tiles] expert of each tile, counted over all experts
	tileAt []int32 // [experts+1] first tile of each expert

	hidden, results []float32 // [slots][ffn] and [slots][in], by place
	hiddenOf        []*tensor // hidden and results, as the operations see them
	resultsOf       []*tensor
	packed          []byte // tiles for gate and up
	packed2         []byte // tiles for down
	counts          expertCounts
}

// expertSizes are the largest sizes that a program's experts ask for.
type expertSizes struct {
	slots, experts, tiles int
	hidden, results       int // elements
	packed, packed2       int // bytes
}

// reserve takes the memory.
func (s *expertSpace) reserve(c *carver, n *expertSizes) {
	s.order, s.place = carve[int32](c, n.slots), carve[int32](c, n.slots)
	s.first, s.active, s.tileAt = carve[int32](c, n.experts+1), carve[int32](c, n.experts), carve[int32](c, n.experts+1)
	s.tiles = carve[int32](c, n.tiles)
	s.hidden, s.results = carve[float32](c, n.hidden), carve[float32](c, n.results)
	for i := range s.hiddenOf {
		s.hiddenOf[i].mem, s.resultsOf[i].mem = s.hidden, s.results
	}
	s.packed, s.packed2 = c.bytes(n.packed), c.bytes(n.packed2)
}

// expertCounts is what the sorting phase finds.
type expertCounts struct{ active, tiles int }

// experts is the sum of the chosen experts' networks.
type experts struct {
	x, dst         view
	routes         *routes
	gate, up, down *weight
	act            activation
	space          *expertSpace

	tileRows      int           // rows of one expert that are prepared together
	gateTileBytes int           // of gate's rows in a tile, before those of up where these are others
	gates         linearProduct // gate and up into hidden, items of one expert
	downs         linearProduct // down into results
}

// newExperts cuts the work of one expert into items.
func newExperts(o experts) *experts {
	o.tileRows = min(o.gate.linear.tileRows, o.up.linear.tileRows, o.down.linear.tileRows)
	o.gateTileBytes = o.gate.linear.tileBytes(o.gate.in, o.tileRows)
	hidden := &tensor{rows: o.routes.rows, cols: o.gate.out, stride: o.gate.out}
	results := &tensor{rows: o.routes.rows, cols: o.down.out, stride: o.down.out}
	o.space.hiddenOf, o.space.resultsOf = append(o.space.hiddenOf, hidden), append(o.space.resultsOf, results)
	o.gates = linearProduct{
		weight: o.gate, up: o.up, act: o.act, dst: view{t: hidden, heads: 1, dim: o.gate.out},
		set: &tileSet{linear: o.gate.linear, in: o.gate.in, tileRows: o.tileRows, tileBytes: o.gateTileBytes},
	}
	if o.up.linear != o.gate.linear {
		o.gates.upOffset = o.gateTileBytes
		o.gates.set.tileBytes += o.up.linear.tileBytes(o.up.in, o.tileRows)
	}
	o.downs = linearProduct{
		weight: o.down, dst: view{t: results, heads: 1, dim: o.down.out},
		set: &tileSet{linear: o.down.linear, in: o.down.in, tileRows: o.tileRows, tileBytes: o.down.linear.tileBytes(o.down.in, o.tileRows)},
	}
	o.gates.cut(1)
	o.downs.cut(1)
	return &o
}

// maxTiles bounds the tiles that n slots become: each expert's last one may be part empty.
func (o *experts) maxTiles(n int) int { return n/o.tileRows + min(n, o.routes.experts) }

// rows is the number of rows of this step.
func (o *experts) rows(s *step) int { return s.rows[o.routes.rows] }

// found is what the sorting phase found in this step.
func (o *experts) found(s *step) expertCounts {
	if o.rows(s) == 0 {
		return expertCounts{} // nothing was sorted
	}
	return o.space.counts
}

// sharedTiles is the number of tiles that are prepared for all workers in this step.
func (o *experts) sharedTiles(s *step) int {
	if o.rows(s) <= fewRows {
		return 0
	}
	return o.found(s).tiles
}

// expertSort sorts the slots by expert, by counting.
type expertSort struct{ *experts }

func (o expertSort) items(s *step) int { return min(1, o.rows(s)) }

func (o expertSort) run(w *worker, _ int) {
	s, n := o.space, o.rows(w.step)*o.routes.topK
	first := s.first[:o.routes.experts+1]
	clear(first)
	for _, e := range o.routes.chosen[:n] {
		first[e+1]++
	}
	s.counts = expertCounts{}
	for e := range o.routes.experts {
		rows := int(first[e+1])
		s.tileAt[e] = int32(s.counts.tiles)
		for range (rows + o.tileRows - 1) / o.tileRows {
			s.tiles[s.counts.tiles] = int32(e)
			s.counts.tiles++
		}
		if rows > 0 {
			s.active[s.counts.active] = int32(e)
			s.counts.active++
		}
		first[e+1] += first[e]
	}
	s.tileAt[o.routes.experts] = int32(s.counts.tiles)
	// Filling moves each first to its expert's end; going backwards over the slots, ends move to firsts instead, and
	// slots of an expert stay in the order of the rows.
	for slot := n - 1; slot >= 0; slot-- {
		e := o.routes.chosen[slot]
		first[e+1]--
		s.order[first[e+1]], s.place[slot] = int32(slot), first[e+1]
	}
	// Now first[e+1] is the first place of e: shift by one.
	copy(first, first[1:])
	first[o.routes.experts] = int32(n)
}

// placesOf returns the places of an expert's rows.
func (o *experts) placesOf(e int) (first, n int) {
	return int(o.space.first[e]), int(o.space.first[e+1] - o.space.first[e])
}

// tileRange returns the places of a tile's rows.
func (o *experts) tileRange(tile int) (first, n int) {
	e := int(o.space.tiles[tile])
	first, n = o.placesOf(e)
	height := o.gates.set.height(n)
	skip := (tile - int(o.space.tileAt[e])) * height
	return first + skip, min(height, n-skip)
}

// prepareGate gathers the rows of n places and prepares them for gate and up.
func (o *experts) prepareGate(w *worker, tile []byte, first, n int) {
	in := o.gate.in
	for i := range n {
		copy(w.row[i*in:][:in], o.x.row(int(o.space.order[first+i])/o.routes.topK))
	}
	o.gate.linear.prepare(tile[:o.gateTileBytes], w.row, in, n, in)
	if o.gates.upOffset > 0 {
		o.up.linear.prepare(tile[o.gates.upOffset:o.gates.set.tileBytes], w.row, in, n, in)
	}
}

// prepareDown prepares the hidden rows of n places for down.
func (o *experts) prepareDown(_ *worker, tile []byte, first, n int) {
	ffn := o.down.in
	o.down.linear.prepare(tile[:o.downs.set.tileBytes], o.space.hidden[first*ffn:], ffn, n, ffn)
}

// expertGather prepares the tiles for gate and up.
type expertGather struct{ *experts }

func (o expertGather) items(s *step) int { return o.sharedTiles(s) }

func (o expertGather) run(w *worker, tile int) {
	first, n := o.tileRange(tile)
	o.prepareGate(w, o.space.packed[tile*o.gates.set.tileBytes:], first, n)
}

// expertPrepare prepares the tiles for down.
type expertPrepare struct{ *experts }

func (o expertPrepare) items(s *step) int { return o.sharedTiles(s) }

func (o expertPrepare) run(w *worker, tile int) {
	first, n := o.tileRange(tile)
	o.prepareDown(w, o.space.packed2[tile*o.downs.set.tileBytes:], first, n)
}

// expertProduct is one product of every chosen expert.
type expertProduct struct {
	*experts
	product *linearProduct
	packed  *[]byte                                    // the tiles that workers share
	prepare func(w *worker, tile []byte, first, n int) // one tile
}

func (o *expertProduct) items(s *step) int { return o.found(s).active * o.product.items }

func (o *expertProduct) run(w *worker, item int) {
	p := o.product
	e := int(o.space.active[item/p.items])
	j := panelJob{linearProduct: p, expert: e, firstPanel: item % p.items * p.itemPanels}
	j.panels = min(p.itemPanels, p.weight.numPanels-j.firstPanel)
	first, rows := o.placesOf(e)
	j.firstRow = first
	if o.rows(w.step) <= fewRows {
		j.tiles = o.own(w, e)
	} else {
		j.tiles = (*o.packed)[int(o.space.tileAt[e])*p.set.tileBytes:]
	}
	j.run(w, rows)
}

// own returns the worker's own tiles of an expert, which it prepares at its first item of that.
func (o *expertProduct) own(w *worker, e int) []byte {
	if w.prepared == operation(o) && w.preparedStep == w.step.number && w.preparedExpert == e {
		return w.tiles
	}
	for tile := int(o.space.tileAt[e]); tile < int(o.space.tileAt[e+1]); tile++ {
		first, n := o.tileRange(tile)
		o.prepare(w, w.tiles[(tile-int(o.space.tileAt[e]))*o.product.set.tileBytes:], first, n)
	}
	w.prepared, w.preparedStep, w.preparedExpert = o, w.step.number, e
	return w.tiles
}

// expertSum adds the results of each row by rank, and the sum to the destination.
type expertSum struct{ *experts }

func (o expertSum) shape() (hardware.Rows, int) { return o.routes.rows, 1 }

func (o expertSum) block(w *worker, b rowBlock) {
	k, n := o.routes.topK, o.down.out
	sum := w.row[:n]
	for r := b.first; r < b.last; r++ {
		clear(sum)
		for rank := range k {
			slot := r*k + rank
			w.kernels.addScaled(sum, o.space.results[int(o.space.place[slot])*n:][:n], o.routes.weights[slot])
		}
		w.kernels.add(o.dst.row(r), sum)
	}
}

// grow raises sizes to what the operation needs.
func (o *experts) grow(n *expertSizes, w *workerSizes, maxRows int) {
	slots := maxRows * o.routes.topK
	tiles := o.maxTiles(slots)
	n.slots, n.experts, n.tiles = max(n.slots, slots), max(n.experts, o.routes.experts), max(n.tiles, tiles)
	n.hidden, n.results = max(n.hidden, slots*o.gate.out), max(n.results, slots*o.down.out)
	n.packed = max(n.packed, tiles*o.gates.set.tileBytes)
	n.packed2 = max(n.packed2, tiles*o.downs.set.tileBytes)
	w.row = max(w.row, o.tileRows*o.gate.in, o.down.out)
	// A table may give a token the same expert at every rank.
	ofFew := o.gates.set.count(min(fewRows, maxRows) * o.routes.topK)
	w.tiles = max(w.tiles, ofFew*o.gates.set.tileBytes, ofFew*o.downs.set.tileBytes)
	o.gates.grow(w, slots)
	o.downs.grow(w, slots)
}

// phases are the operation's phases.
func (o *experts) phases() []operation {
	sum := &rowPhase{kind: o.routes.rows, ops: []rowOperation{expertSum{o}}, width: o.down.out * o.routes.topK, parts: 1}
	return []operation{
		expertSort{o},
		expertGather{o}, &expertProduct{o, &o.gates, &o.space.packed, o.prepareGate},
		expertPrepare{o}, &expertProduct{o, &o.downs, &o.space.packed2, o.prepareDown},
		sum,
	}
}
