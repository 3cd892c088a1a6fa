package cpu

import "slices"

// Matrix products are two phases: the rows are brought into the form that the kernel wants, as tiles, once for all
// products of the same rows; then every item multiplies a few panels of a weight with all tiles, so that a weight goes
// from memory to the core once per step, whatever the number of rows. With few rows every worker prepares them for
// itself: that is cheaper than waiting for each other.

const (
	itemBytes = 96 << 10 // of panels in an item: a few microseconds of memory bandwidth, and at home in the second-level cache
	fewRows   = 4        // that every worker prepares for itself
)

// tileSet is the rows of a view as tiles for one linear.
type tileSet struct {
	x         view
	norm      *norm // of the rows, before anything else; nil for none
	in        int
	linear    *linear
	tileRows  int // rows of a full tile
	tileBytes int // from tile to tile
	offset    int // in the tiles that workers share
	private   int // in a worker's own
}

func newTileSet(x view, norm *norm, l *linear) *tileSet {
	return &tileSet{x: x, norm: norm, in: x.size(), linear: l, tileRows: l.tileRows, tileBytes: l.tileBytes(x.size(), l.tileRows)}
}

// count is the number of tiles of so many rows.
func (s *tileSet) count(rows int) int { return (rows + s.tileRows - 1) / s.tileRows }

// height is the number of rows of each tile but the last. Tiles are about equally high: a kernel
// has more to load per product when it has few rows.
func (s *tileSet) height(rows int) int {
	n := max(1, s.count(rows))
	return (rows + n - 1) / n
}

// prepare fills one tile.
func (s *tileSet) prepare(w *worker, tiles []byte, tile, rows int) {
	height := s.height(rows)
	first := tile * height
	n := min(height, rows-first)
	x, stride := s.x.from(first), s.x.t.stride
	if s.norm != nil {
		for r := range n {
			s.norm.normalize(w.kernels, w.row[r*s.in:][:s.in], s.x.row(first+r))
		}
		x, stride = w.row, s.in
	}
	s.linear.prepare(tiles[tile*s.tileBytes:][:s.tileBytes], x, stride, n, s.in)
}

// preparation fills the shared tiles of products, for more than a few rows.
type preparation struct {
	sets  []*tileSet
	tiles *[]byte
}

func (o *preparation) rows(s *step) int { return s.rows[o.sets[0].x.t.rows] }

func (o *preparation) items(s *step) int {
	rows, n := o.rows(s), 0
	if rows > fewRows {
		for _, set := range o.sets {
			n += set.count(rows)
		}
	}
	return n
}

func (o *preparation) run(w *worker, item int) {
	rows := o.rows(w.step)
	for _, set := range o.sets {
		if n := set.count(rows); item < n {
			set.prepare(w, (*o.tiles)[set.offset:], item, rows)
			return
		} else {
			item -= n
		}
	}
}

// linearProduct is one weight multiplied in a phase. With gated it is a pair of weights and what a gated linear unit
// makes of them.
type linearProduct struct {
	weight     *weight
	up         *weight    // nil, or the other half of a gated linear unit
	upOffset   int        // of up's rows in a tile, where it has some of its own
	act        activation // of that unit
	set        *tileSet
	dst        view
	accumulate bool
	cutting
	single cutting // of steps of one row
}

// cutting is how a product's panels become items.
type cutting struct {
	itemPanels int // panels of an item, of each weight
	items      int
}

// newCutting makes items of so many panels.
func newCutting(panels, itemPanels int) cutting {
	return cutting{itemPanels, (panels + itemPanels - 1) / itemPanels}
}

func (p *linearProduct) cut(workers int) {
	panelBytes := p.weight.panelBytes
	if p.up != nil {
		panelBytes += p.up.panelBytes
	}
	n := p.weight.numPanels
	p.cutting = newCutting(n, max(1, min(itemBytes/panelBytes, (n+4*workers-1)/(4*workers))))
	p.single = p.cutting
	// Items as large as a kernel's panels, or a multiple of that, unless workers would then wait for the last ones.
	if together := p.weight.linear.beside; together > 0 && n >= 4*together*workers {
		p.single = newCutting(n, max(1, p.itemPanels/together)*together)
	}
}

// of is the cutting for so many rows.
func (p *linearProduct) of(rows int) cutting {
	if rows == 1 {
		return p.single
	}
	return p.cutting
}

// matmul is a phase of products of the same rows.
type matmul struct {
	*preparation
	products []*linearProduct
}

func (o *matmul) items(s *step) int {
	rows, n := o.rows(s), 0
	if rows > 0 {
		for _, p := range o.products {
			n += p.of(rows).items
		}
	}
	return n
}

func (o *matmul) run(w *worker, item int) {
	rows := o.rows(w.step)
	tiles := *o.tiles
	if rows <= fewRows {
		tiles = o.own(w, rows)
	}
	for _, p := range o.products {
		c := p.of(rows)
		if item >= c.items {
			item -= c.items
			continue
		}
		first := item * c.itemPanels
		j := panelJob{linearProduct: p, firstPanel: first, panels: min(c.itemPanels, p.weight.numPanels-first)}
		if rows <= fewRows {
			j.tiles = tiles[p.set.private:]
		} else {
			j.tiles = tiles[p.set.offset:]
		}
		j.run(w, rows)
		return
	}
}

// own returns the worker's own tiles, which it prepares at its first item of the phase.
func (o *matmul) own(w *worker, rows int) []byte {
	if w.prepared != operation(o) || w.preparedStep != w.step.number {
		for _, set := range o.sets {
			for tile := range set.count(rows) {
				set.prepare(w, w.tiles[set.private:], tile, rows)
			}
		}
		w.prepared, w.preparedStep = o, w.step.number
	}
	return w.tiles
}

// panelJob is some consecutive panels of an expert, 0 of a plain weight, times all of its rows.
type panelJob struct {
	*linearProduct
	expert             int
	firstPanel, panels int
	firstRow           int    // of the destination
	tiles              []byte // of all rows, as linearProduct.set prepares them
}

// run multiplies the panels with tile after tile; between tiles they stay in the second-level cache.
func (j *panelJob) run(w *worker, rows int) {
	w.weightBytes += uint64(j.panels * j.weight.panelBytes)
	if j.up != nil {
		w.weightBytes += uint64(j.panels * j.up.panelBytes)
	}
	if j.canExpand() && j.set.count(rows) >= expandedTiles {
		j.runExpanded(w, rows)
		return
	}
	height := j.set.height(rows)
	for first := 0; first < rows; first += height {
		n := min(height, rows-first)
		tile := j.tiles[first/height*j.set.tileBytes:]
		w.multiplyPanels(w.product, j.weight, tile, panelRange{j.expert, j.firstPanel, j.panels, n})
		if j.up != nil {
			w.multiplyPanels(w.productUp, j.up, tile[j.upOffset:], panelRange{j.expert, j.firstPanel, j.panels, n})
		}
		j.write(w, first, n)
		preempt(first)
	}
}

// cols returns the columns of the job: the last panel may be cut off.
func (j *panelJob) cols() (first, n int) {
	first = j.firstPanel * panelCols
	return first, min(j.panels*panelCols, j.weight.out-first)
}

// write puts the compact piece into the rows of the destination.
func (j *panelJob) write(w *worker, firstRow, rows int) {
	first, n := j.cols()
	stride := j.panels * panelCols
	dst, dstStride := j.dst.from(j.firstRow + firstRow)[first:], j.dst.t.stride
	switch {
	case j.up != nil:
		for r := range rows {
			j.act.apply(w.kernels, dst[r*dstStride:][:n], w.product[r*stride:][:n], w.productUp[r*stride:][:n])
		}
	case j.accumulate:
		w.kernels.addRows(dst, dstStride, w.product, stride, rows, n)
	default:
		w.kernels.copyRows(dst, dstStride, w.product, stride, rows, n)
	}
}

// panelRange names consecutive panels of one expert, and the rows of the tile they are multiplied with.
type panelRange struct{ expert, first, panels, rows int }

// multiplyPanels computes a compact piece of a product, [rows][panels*panelCols], with scale and bias.
func (w *worker) multiplyPanels(dst []float32, weight *weight, tile []byte, p panelRange) {
	a := &w.multiply
	a.dst, a.dstStride = dst, p.panels*panelCols
	a.panels, a.numPanels = weight.panel(p.expert, p.first)[:p.panels*weight.panelBytes], p.panels
	a.tile, a.rows, a.in = tile, p.rows, weight.in
	weight.linear.multiply(a)
	w.scaleAndBias(dst, weight, p)
}

// scaleAndBias completes a compact piece of a product.
func (w *worker) scaleAndBias(dst []float32, weight *weight, p panelRange) {
	if weight.scale == 1 && weight.bias == nil {
		return
	}
	dstStride, first := p.panels*panelCols, p.first*panelCols
	n := min(p.panels*panelCols, weight.out-first)
	for r := range p.rows {
		y := dst[r*dstStride:][:n]
		if weight.scale != 1 {
			w.kernels.scale(y, weight.scale)
		}
		if weight.bias != nil {
			w.kernels.add(y, weight.bias[first:first+n])
		}
	}
}

// newMatmul completes products: it lays their tiles out and cuts them into items.
func newMatmul(products []*linearProduct, tiles *[]byte, workers int) *matmul {
	o := &matmul{preparation: &preparation{tiles: tiles}, products: products}
	for _, p := range products {
		p.cut(workers)
		if i := slices.IndexFunc(o.sets, func(s *tileSet) bool { return s.linear == p.set.linear }); i >= 0 {
			p.set = o.sets[i]
		} else {
			o.sets = append(o.sets, p.set)
		}
	}
	return o
}

// grow raises sizes to what the operation needs, and places the tile sets behind each other. It returns the bytes of
// the shared tiles.
func (o *matmul) grow(w *workerSizes, maxRows int) int {
	shared, private := 0, 0
	for _, s := range o.sets {
		s.offset, s.private = shared, private
		shared += s.count(maxRows) * s.tileBytes
		private += s.count(min(fewRows, maxRows)) * s.tileBytes
		if s.norm != nil {
			w.row = max(w.row, min(s.tileRows, maxRows)*s.in)
		}
	}
	w.tiles = max(w.tiles, private)
	for _, p := range o.products {
		p.grow(w, maxRows)
	}
	return shared
}

// grow raises a worker's sizes to what the product of so many rows needs.
func (p *linearProduct) grow(w *workerSizes, maxRows int) {
	w.product = max(w.product, min(p.set.tileRows, maxRows)*p.itemPanels*panelCols, p.single.itemPanels*panelCols)
	if p.canExpand() && p.set.count(maxRows) >= expandedTiles {
		w.product = max(w.product, min(maxRows, expandedRows)*expandedPanels*panelCols)
		w.expanded = expandedPanels * expandedBytes
	}
	w.scratch = max(w.scratch, p.weight.linear.scratch)
	if p.up != nil {
		w.scratch = max(w.scratch, p.up.linear.scratch)
	}
}

// canExpand reports whether the product has the second way to multiply.
func (p *linearProduct) canExpand() bool {
	return p.weight.linear.expanded != nil && (p.up == nil || p.up.linear.expanded != nil)
}

// phases are the operation's phases.
func (o *matmul) phases() []operation { return []operation{o.preparation, o} }
