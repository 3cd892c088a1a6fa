package cpu

import "hearth/hardware"

// weight is a declared weight as this device keeps it: as panels for matrix products and look-ups, as float32 for
// norms and convolutions, or both.
type weight struct {
	info    *hardware.WeightInfo
	out, in int
	experts int // 1 for a plain matrix
	scale   float32
	bias    []float32 // [out], or nil

	isMatrix   bool
	linear     *linear
	panelBytes int
	numPanels  int    // of one expert
	panels     []byte // [experts][numPanels][panelBytes]

	isVector bool
	byColumn bool      // the vector is transposed
	vector   []float32 // [out, in], or [in, out]
}

func newWeight(info *hardware.WeightInfo) *weight {
	w := &weight{info: info, out: info.Out, in: info.In, experts: max(1, info.Experts), scale: info.Scale, bias: info.Bias}
	if w.scale == 0 {
		w.scale = 1
	}
	return w
}

// useMatrix has the weight packed for a linear.
func (w *weight) useMatrix(l *linear) {
	w.isMatrix, w.linear = true, l
	w.panelBytes, w.numPanels = l.panelBytes(w.in), (w.out+panelCols-1)/panelCols
}

// panel returns the packed bytes from a panel of an expert on.
func (w *weight) panel(expert, panel int) []byte {
	return w.panels[(expert*w.numPanels+panel)*w.panelBytes:]
}

// bytes is the size of the weight in memory.
func (w *weight) bytes() int64 {
	total := int64(0)
	if w.isMatrix {
		total += product(w.experts, w.numPanels, w.panelBytes)
	}
	if w.isVector {
		total += product(roundUp(4*w.in*w.out, align))
	}
	return total
}

// reserve takes the weight's memory.
func (w *weight) reserve(c *carver) {
	if w.isMatrix {
		w.panels = c.bytes(w.experts * w.numPanels * w.panelBytes)
	}
	if w.isVector {
		w.vector = carve[float32](c, w.in*w.out)
	}
}

// rowBytes is the size of a row in the file.
func (w *weight) rowBytes() int {
	n, _ := w.info.Format.RowBytes(w.in)
	return n
}

// packPanel packs one panel of an expert from its rows.
func (w *weight) packPanel(expert, panel int, rows []byte) {
	fetch(rows)
	w.linear.pack(w.panel(expert, panel)[:w.panelBytes], rows, len(rows)/w.rowBytes(), w.in)
}

// unpack fills the vector from the weight's rows.
func (w *weight) unpack(rows []byte) {
	if !w.byColumn {
		w.info.Format.Dequantize(w.vector, rows)
		return
	}
	row := make([]float32, w.in)
	for o := range w.out {
		w.info.Format.Dequantize(row, rows[o*w.rowBytes():][:w.rowBytes()])
		for i, v := range row {
			w.vector[i*w.out+o] = v
		}
	}
}

// fetch reads a byte of each cache line, in order. Packing goes through sixteen rows at once, too many streams for the
// machine to read ahead; after one pass in the order of addresses, it finds them in the second-level cache.
//
//go:noinline
func fetch(src []byte) (sum byte) {
	for i := 0; i < len(src); i += align {
		sum += src[i]
	}
	return sum
}
