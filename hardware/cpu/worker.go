package cpu

// worker is one worker's memory for one queue.
type worker struct {
	id      int
	queue   *queue
	kernels *kernels
	step    *step
	round   uint32 // in the pool's barriers
	phase   int    // phases of this step that had work

	tiles              []byte    // few rows of products, as tiles
	product, productUp []float32 // [rows of a tile][columns of an item]
	row                []float32 // a few rows
	short              []byte    // one row of 2-byte elements
	attention          attentionSpace
	delta              deltaSpace
	gemm               gemmArgs
	multiply           multiplyArgs // with the worker's scratch
	expanded           []byte       // some panels' pieces
	multiplyExpanded   expandedArgs

	prepared       operation // whose rows are in tiles, of step preparedStep
	preparedStep   uint64
	preparedExpert int    // and of this expert, where there are experts
	weightBytes    uint64 // of panels multiplied
}

// attentionSpace is the memory of one unit of attention.
type attentionSpace struct {
	query                []float32  // [rows][keyCols], scaled
	scores               []float32  // [rows][scoreStride], of a partition
	acc                  []float32  // [rows][valueCols], weighted values of the partition
	merged               []float32  // [rows][valueCols], of the partitions before it
	max, sum             []float32  // [rows]
	mergedMax, mergedSum []float32  // [rows]
	tile                 tileArgs   // with the kernels' room
	gathered             []byte     // tiles of sources that are not direct
	has                  []gathered // what lies in them
	indexQuery           []float32  // [index heads][keyCols]
	indexScores          []float32  // [index heads][blockLen]
}

// workerSizes are the largest sizes that a program's operations ask of a worker, in elements or bytes as the fields of
// worker have it.
type workerSizes struct {
	tiles, product, row, short, scratch int
	expanded                            int
	attentionRows, keyCols, valueCols   int
	gatheredBytes, gatheredTiles        int
	indexRows                           int
	deltaKeyDim, deltaValueCols         int
	deltaGroup                          int
}

// reserve takes the worker's memory.
func (w *worker) reserve(c *carver, n *workerSizes) {
	w.tiles = c.bytes(n.tiles)
	w.product, w.productUp = carve[float32](c, n.product), carve[float32](c, n.product)
	w.row, w.short = carve[float32](c, n.row), c.bytes(n.short)
	w.multiply.scratch = carve[float32](c, n.scratch)
	w.expanded = c.bytes(n.expanded)
	a := &w.attention
	a.query = carve[float32](c, n.attentionRows*n.keyCols)
	a.scores = carve[float32](c, n.attentionRows*scoreStride)
	a.acc, a.merged = carve[float32](c, n.attentionRows*n.valueCols), carve[float32](c, n.attentionRows*n.valueCols)
	a.max, a.sum = carve[float32](c, n.attentionRows), carve[float32](c, n.attentionRows)
	a.mergedMax, a.mergedSum = carve[float32](c, n.attentionRows), carve[float32](c, n.attentionRows)
	a.tile.room = carve[float32](c, tileRoom(max(n.attentionRows, n.indexRows), n.keyCols))
	a.gathered, a.has = c.bytes(n.gatheredBytes), carve[gathered](c, n.gatheredTiles)
	a.indexQuery, a.indexScores = carve[float32](c, n.indexRows*n.keyCols), carve[float32](c, n.indexRows*blockLen)
	w.delta.reserve(c, n.deltaKeyDim, n.deltaValueCols, n.deltaGroup)
}

// share works on a phase's items: first on the worker's own consecutive part, then on what the others have left.
// A worker that something else holds up costs its own part, not everybody's time.
func (w *worker) share(op operation, items int, cursors []flag) {
	n := len(cursors)
	for i := range n {
		owner := (w.id + i) % n
		lo, hi := items*owner/n, items*(owner+1)/n
		for {
			item := lo + int(cursors[owner].v.Add(1)) - 1
			if item >= hi {
				break
			}
			op.run(w, item)
			preempt(item)
		}
	}
}
