package cpu

import "hearth/hardware"

// stackProduct multiplies each head of a row with a matrix of its own. An item is some panels of one head's matrix, with
// all rows, which it brings into tiles itself: heads are short, and all panels of one are an item or two.
type stackProduct struct {
	weight     *weight
	x, dst     view
	itemPanels int
	headItems  int
}

// stackItemBytes is the size of an item: tiles are worth preparing for so much of a matrix.
const stackItemBytes = 4 * itemBytes

func newStackProduct(w *weight, x, dst view, workers int) *stackProduct {
	o := &stackProduct{weight: w, x: x, dst: dst}
	o.headItems = (w.numPanels*w.panelBytes + stackItemBytes - 1) / stackItemBytes
	if w.experts < 4*workers { // too few heads to share
		o.headItems = max(o.headItems, 4*workers/w.experts)
	}
	o.itemPanels = (w.numPanels + o.headItems - 1) / o.headItems
	o.headItems = (w.numPanels + o.itemPanels - 1) / o.itemPanels
	return o
}

func (o *stackProduct) items(s *step) int {
	if s.rows[o.x.t.rows] == 0 {
		return 0
	}
	return o.weight.experts * o.headItems
}

func (o *stackProduct) run(w *worker, item int) {
	l, head := o.weight.linear, item/o.headItems
	firstPanel := item % o.headItems * o.itemPanels
	panels := min(o.itemPanels, o.weight.numPanels-firstPanel)
	w.weightBytes += uint64(panels * o.weight.panelBytes)
	firstCol := firstPanel * panelCols
	cols := min(panels*panelCols, o.weight.out-firstCol)
	x, dst := o.x.headView(head), o.dst.headView(head)
	rows := w.step.rows[o.x.t.rows]
	height := (rows + tilesOf(rows, l) - 1) / tilesOf(rows, l)
	for first := 0; first < rows; first += height {
		n := min(height, rows-first)
		tile := w.tiles[:l.tileBytes(o.weight.in, n)]
		l.prepare(tile, x.from(first), x.t.stride, n, o.weight.in)
		w.multiplyPanels(w.product, o.weight, tile, panelRange{head, firstPanel, panels, n})
		w.kernels.copyRows(dst.from(first)[firstCol:], dst.t.stride, w.product, panels*panelCols, n, cols)
		preempt(first)
	}
}

// tilesOf is the number of tiles that rows become.
func tilesOf(rows int, l *linear) int { return max(1, (rows+l.tileRows-1)/l.tileRows) }

// grow raises sizes to what the operation needs.
func (o *stackProduct) grow(w *workerSizes) {
	l := o.weight.linear
	w.tiles = max(w.tiles, l.tileBytes(o.weight.in, l.tileRows))
	w.product = max(w.product, l.tileRows*o.itemPanels*panelCols)
	w.scratch = max(w.scratch, l.scratch)
}

// emitStack compiles the product of a stack.
func (c *compiler) emitStack(op hardware.Op, a *hardware.MatMulArgs) error {
	w, err := c.matrix(op, a.W)
	if err != nil {
		return err
	}
	o := newStackProduct(w, c.view(a.X), c.view(a.Dst), c.device.pool.size)
	o.grow(&c.sizes)
	c.phases = append(c.phases, o)
	return nil
}
