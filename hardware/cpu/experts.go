package cpu

import "hearth/hardware"

// Experts are products of a few rows each. The chosen (row, rank) pairs, called slots, are sorted by expert, so that
// each expert's weights are read once for all its rows and those of experts that nobody chose are not read at all:
//
//	sort -> gather and prepare -> gate, up and GLU -> prepare -> down -> sum by rank
//
// Every slot's arithmetic is that of a plain matrix product of its row.

// expertSpace is memory that all experts operations share: only one runs at a time.
type expertSpace struct {
	order   []int32   // [slots] slots, sorted by expert
	place   []int32   // [slots] the inverse
	first   []int32   // [experts+1] first place of each expert
	active  []int32   // [experts] those that were chosen
	tiles   []int32   // [tiles] expert of each tile, counted over all experts
	tileAt  []int32   // [experts+1] first tile of each expert
	hidden  []float32 // [slots][ffn], by place
	results []float32 // [slots][in], by place
	packed  []byte    // tiles for gate and up
	packed2 []byte    // tiles for down
	counts  expertCounts
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
	tileRows       int // rows of one expert that are prepared together

	gateTileBytes, upTileBytes, downTileBytes int
	sameLinear                                bool // gate and up read the same tiles
	gateItemPanels, downItemPanels            int
	gateItems, downItems                      int // of one expert
}

// newExperts cuts the work of one expert into items.
func newExperts(o experts) *experts {
	o.tileRows = min(o.gate.linear.tileRows, o.up.linear.tileRows, o.down.linear.tileRows)
	o.sameLinear = o.gate.linear == o.up.linear
	o.gateTileBytes = o.gate.linear.tileBytes(o.gate.in, o.tileRows)
	if !o.sameLinear {
		o.upTileBytes = o.up.linear.tileBytes(o.up.in, o.tileRows)
	}
	o.downTileBytes = o.down.linear.tileBytes(o.down.in, o.tileRows)
	o.gateItemPanels = max(1, itemBytes/(o.gate.panelBytes+o.up.panelBytes))
	o.downItemPanels = max(1, itemBytes/o.down.panelBytes)
	o.gateItems = (o.gate.numPanels + o.gateItemPanels - 1) / o.gateItemPanels
	o.downItems = (o.down.numPanels + o.downItemPanels - 1) / o.downItemPanels
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

// tileRange returns the places of a tile's rows.
func (o *experts) tileRange(tile int) (first, n int) {
	e := o.space.tiles[tile]
	first = int(o.space.first[e]) + (tile-int(o.space.tileAt[e]))*o.tileRows
	return first, min(o.tileRows, int(o.space.first[e+1])-first)
}

// expertGather gathers the rows of a tile and prepares them for gate and up.
type expertGather struct{ *experts }

func (o expertGather) items(s *step) int { return o.found(s).tiles }

func (o expertGather) run(w *worker, tile int) {
	first, n := o.tileRange(tile)
	in := o.gate.in
	for i := range n {
		copy(w.row[i*in:][:in], o.x.row(int(o.space.order[first+i])/o.routes.topK))
	}
	packed := o.space.packed[tile*(o.gateTileBytes+o.upTileBytes):]
	o.gate.linear.prepare(packed[:o.gateTileBytes], w.row, in, n, in)
	if !o.sameLinear {
		o.up.linear.prepare(packed[o.gateTileBytes:][:o.upTileBytes], w.row, in, n, in)
	}
}

// expertGate is gate, up and the gated linear unit of every chosen expert.
type expertGate struct{ *experts }

func (o expertGate) items(s *step) int { return o.found(s).active * o.gateItems }

func (o expertGate) run(w *worker, item int) {
	e := int(o.space.active[item/o.gateItems])
	firstPanel := item % o.gateItems * o.gateItemPanels
	panels := min(o.gateItemPanels, o.gate.numPanels-firstPanel)
	w.weightBytes += uint64(panels * (o.gate.panelBytes + o.up.panelBytes))
	ffn := o.gate.out
	firstCol := firstPanel * panelCols
	cols := min(panels*panelCols, ffn-firstCol)
	for tile := int(o.space.tileAt[e]); tile < int(o.space.tileAt[e+1]); tile++ {
		first, n := o.tileRange(tile)
		packed := o.space.packed[tile*(o.gateTileBytes+o.upTileBytes):]
		w.multiplyPanels(w.product, o.gate, packed, panelRange{e, firstPanel, panels, n})
		if !o.sameLinear {
			packed = packed[o.gateTileBytes:]
		}
		w.multiplyPanels(w.productUp, o.up, packed, panelRange{e, firstPanel, panels, n})
		for i := range n {
			at := i * panels * panelCols
			o.act.apply(w.kernels, o.space.hidden[(first+i)*ffn+firstCol:][:cols], w.product[at:][:cols], w.productUp[at:][:cols])
		}
		preempt(tile)
	}
}

// expertPrepare prepares the hidden rows for down.
type expertPrepare struct{ *experts }

func (o expertPrepare) items(s *step) int { return o.found(s).tiles }

func (o expertPrepare) run(w *worker, tile int) {
	first, n := o.tileRange(tile)
	ffn := o.down.in
	o.down.linear.prepare(o.space.packed2[tile*o.downTileBytes:][:o.downTileBytes], o.space.hidden[first*ffn:], ffn, n, ffn)
}

// expertDown is down of every chosen expert.
type expertDown struct{ *experts }

func (o expertDown) items(s *step) int { return o.found(s).active * o.downItems }

func (o expertDown) run(w *worker, item int) {
	e := int(o.space.active[item/o.downItems])
	firstPanel := item % o.downItems * o.downItemPanels
	panels := min(o.downItemPanels, o.down.numPanels-firstPanel)
	w.weightBytes += uint64(panels * o.down.panelBytes)
	firstCol := firstPanel * panelCols
	cols := min(panels*panelCols, o.down.out-firstCol)
	for tile := int(o.space.tileAt[e]); tile < int(o.space.tileAt[e+1]); tile++ {
		first, n := o.tileRange(tile)
		w.multiplyPanels(w.product, o.down, o.space.packed2[tile*o.downTileBytes:], panelRange{e, firstPanel, panels, n})
		for i := range n {
			copy(o.space.results[(first+i)*o.down.out+firstCol:][:cols], w.product[i*panels*panelCols:])
		}
		preempt(tile)
	}
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
	n.packed = max(n.packed, tiles*(o.gateTileBytes+o.upTileBytes))
	n.packed2 = max(n.packed2, tiles*o.downTileBytes)
	w.row = max(w.row, o.tileRows*o.gate.in, o.down.out)
	w.product = max(w.product, o.tileRows*panelCols*max(o.gateItemPanels, o.downItemPanels))
	w.scratch = max(w.scratch, o.gate.linear.scratch, o.up.linear.scratch, o.down.linear.scratch)
}

// phases are the operation's phases.
func (o *experts) phases() []operation {
	sum := &rowPhase{kind: o.routes.rows, ops: []rowOperation{expertSum{o}}, width: o.down.out * o.routes.topK, parts: 1}
	return []operation{expertSort{o}, expertGather{o}, expertGate{o}, expertPrepare{o}, expertDown{o}, sum}
}
