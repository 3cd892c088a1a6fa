package cpu

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"hearth/hardware"
)

// weight is a declared weight as this device keeps it: as panels for matrix products and look-ups, as float32 for
// norms, or both.
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
	vector   []float32 // [in]
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
		total += int64(roundUp(4*w.in, align))
	}
	return total
}

// reserve takes the weight's memory.
func (w *weight) reserve(c *carver) {
	if w.isMatrix {
		w.panels = c.bytes(w.experts * w.numPanels * w.panelBytes)
	}
	if w.isVector {
		w.vector = carve[float32](c, w.in)
	}
}

// packPanel packs one panel, counted over all experts, and returns the bytes it read.
func (w *weight) packPanel(panel int) int {
	expert, local := panel/w.numPanels, panel%w.numPanels
	rowBytes, _ := w.info.Format.RowBytes(w.in)
	first := local * panelCols
	rows := min(panelCols, w.out-first)
	src := w.info.Data[(expert*w.out+first)*rowBytes:][:rows*rowBytes]
	w.linear.pack(w.panels[panel*w.panelBytes:][:w.panelBytes], src, rows, w.in)
	return len(src)
}

// packer packs all weights with a few goroutines. The panels of all matrices, in order, are its work list.
type packer struct {
	weights []*weight
	starts  []int // first panel of each weight in the list
	total   int   // panels
	next    atomic.Int64

	mu        sync.Mutex // guards what follows
	doneBytes int64
	allBytes  int64
	reported  int64
	progress  func(doneBytes, totalBytes int64)
}

// packChunk is how many panels a goroutine takes at once.
const packChunk = 8

// packWeights packs every weight and returns when that is done or ctx ends. Vectors are few, and dequantized here.
func packWeights(ctx context.Context, weights []*weight, threads int, progress func(done, total int64)) error {
	p := &packer{progress: progress}
	for _, w := range weights {
		if (w.isMatrix || w.isVector) && w.info.Data == nil {
			return fmt.Errorf("cpu: weight %q has no data", w.info.Name)
		}
		if w.isVector {
			w.info.Format.Dequantize(w.vector, w.info.Data)
		}
		if w.isMatrix {
			p.weights, p.starts = append(p.weights, w), append(p.starts, p.total)
			p.total += w.experts * w.numPanels
			p.allBytes += int64(w.info.Bytes())
		}
	}
	var group sync.WaitGroup
	for range threads {
		group.Add(1)
		go func() {
			defer group.Done()
			p.work(ctx)
		}()
	}
	group.Wait()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("cpu: packing weights: %w", err)
	}
	return nil
}

func (p *packer) work(ctx context.Context) {
	at := 0 // weight of the last panel packed: they only ascend
	for {
		first := int(p.next.Add(packChunk)) - packChunk
		if first >= p.total || ctx.Err() != nil {
			return
		}
		done := 0
		for panel := first; panel < min(first+packChunk, p.total); panel++ {
			for at+1 < len(p.starts) && p.starts[at+1] <= panel {
				at++
			}
			done += p.weights[at].packPanel(panel - p.starts[at])
		}
		p.report(done)
	}
}

// report adds packed bytes and calls progress for every hundredth part.
func (p *packer) report(bytes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.doneBytes += int64(bytes)
	if p.progress != nil && (p.doneBytes-p.reported > p.allBytes/100 || p.doneBytes == p.allBytes) {
		p.reported = p.doneBytes
		p.progress(p.doneBytes, p.allBytes)
	}
}
