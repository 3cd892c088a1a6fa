package cpu

// expansion is a second way to multiply, for many tiles: pieces of panels are unpacked once, into a worker's own memory,
// and all tiles then multiply what is unpacked. Integers and the order of arithmetic are those of linear.multiply, and so
// are the results' bits.
type expansion struct {
	panelBytes int // of a block, the elements of a row that kernels go by, in a panel
	bytes      int // of a block that is expanded
	tileBytes  int // of a block of one row in a tile
	// expand unpacks consecutive blocks of one panel.
	expand func(dst, panel []byte, blocks int)
	// multiply adds the products of a tile with expanded blocks of a panel to dst.
	multiply func(a *expandedArgs)
}

// expandedArgs is one call of a kernel of expanded weights.
type expandedArgs struct {
	dst          []float32 // [rows][dstStride], of which panelCols are added to
	dstStride    int
	weights      []byte // expanded blocks
	tile         []byte // as prepare left it, from the first of these blocks on
	rows, blocks int
}

const (
	expandedTiles  = 3        // from which it is faster
	expandedPanels = 2        // that are multiplied with a tile while it is near
	expandedBytes  = 64 << 10 // of each at once: all of it is at home in a second-level cache
	expandedRows   = 512      // whose results are too
)

// runExpanded multiplies some panels after the other, and pieces of these, with tile after tile.
func (j *panelJob) runExpanded(w *worker, rows int) {
	height := j.set.height(rows)
	pass := max(1, expandedRows/height) * height
	for first := 0; first < rows; first += pass {
		for p := 0; p < j.panels; p += expandedPanels {
			part := *j
			part.firstPanel, part.panels = j.firstPanel+p, min(expandedPanels, j.panels-p)
			part.tiles = j.tiles[first/height*j.set.tileBytes:]
			n := min(pass, rows-first)
			part.expandedProduct(w, w.product, part.weight, n, height)
			if part.up != nil {
				part.tiles = part.tiles[j.upOffset:]
				part.expandedProduct(w, w.productUp, part.up, n, height)
			}
			part.write(w, first, n)
		}
	}
}

// expandedProduct computes a compact piece of a product of rows in tiles of some height, with scale and bias.
func (j *panelJob) expandedProduct(w *worker, dst []float32, weight *weight, rows, height int) {
	e, stride := weight.linear.expanded, j.panels*panelCols
	clear(dst[:rows*stride])
	a := &w.multiplyExpanded
	a.dstStride = stride
	packed := weight.panel(j.expert, j.firstPanel)
	blocks, piece := weight.panelBytes/e.panelBytes, expandedBytes/e.bytes
	for first := 0; first < blocks; first += piece {
		a.blocks = min(piece, blocks-first)
		for p := range j.panels {
			e.expand(w.expanded[p*expandedBytes:], packed[p*weight.panelBytes+first*e.panelBytes:], a.blocks)
		}
		for row := 0; row < rows; row += height {
			a.rows = min(height, rows-row)
			a.tile = j.tiles[row/height*j.set.tileBytes+first*e.tileBytes*a.rows:]
			for p := range j.panels {
				a.dst, a.weights = dst[row*stride+p*panelCols:], w.expanded[p*expandedBytes:]
				e.multiply(a)
			}
			preempt(row)
		}
	}
	w.scaleAndBias(dst, weight, panelRange{j.expert, j.firstPanel, j.panels, rows})
}
