package inproc

import (
	"fmt"

	"hearth/hardware"
	"hearth/hardware/quant"
)

// The heads of DeepSeek-V2-Lite, whose keys and values are one latent, and the index of DeepSeek-V3.2.
const (
	latentHeads, latentDim, latentValueDim = 16, 576, 512
	indexHeads, indexDim, indexTopK        = 64, 128, 2048
	indexedLen                             = 4096
)

// cacheReader is how an operation that reads the cache of some layers is measured.
type cacheReader struct {
	op, shape     string
	class         hardware.StreamClass
	dim           int
	positionBytes int     // of a layer
	pairOps       float64 // for a row and a position that it sees
	// record records the operation on a layer, for the rows that prepare has returned.
	prepare func(b *bench) []hardware.Tensor
	record  func(b *bench, rows []hardware.Tensor, layer hardware.Stream)
	cases   []cachedRows
}

// cachedRows are the rows of a sequence behind start, read from memory or from one layer again and again.
type cachedRows struct {
	rows, start int
	cold        bool
}

// group returns the cases, on layers that no cache holds where they are to be cold.
func (r *cacheReader) group(f *quant.Format, cold int) *group {
	b := newBench(r.op + " " + f.Name)
	g := &group{what: b.Name(), program: b.Program}
	longest := 0
	for _, c := range r.cases {
		longest = max(longest, c.start+c.rows)
	}
	layers := make([]hardware.Stream, max(2, (cold+longest*r.positionBytes-1)/(longest*r.positionBytes)))
	for i := range layers {
		layers[i] = b.Stream(hardware.StreamInfo{Name: r.op, Layer: i, Heads: 1, Dim: r.dim, Class: r.class})
	}
	store := b.Section("store")
	x := b.rows(r.dim)
	for _, layer := range layers {
		b.Store(layer, x)
	}
	sections := map[int]hardware.Section{}
	for _, n := range []int{1, len(layers)} {
		sections[n] = b.Section(r.op)
		rows := r.prepare(&b)
		for _, layer := range layers[:n] {
			r.record(&b, rows, layer)
		}
	}
	for _, c := range r.cases {
		n := 1
		if c.cold {
			n = len(layers)
		}
		seen := float64(c.rows)*float64(c.start) + float64(c.rows*(c.rows+1))/2
		g.cases = append(g.cases, kernelCase{
			row: KernelRow{
				Op: r.op, Format: f.Name, Shape: fmt.Sprintf("%s@%d", r.shape, c.start), Rows: c.rows, factors: quant.F32,
				Bytes: float64(r.positionBytes * (c.start + c.rows)), Ops: r.pairOps * seen,
			},
			section: sections[n], base: noBase, times: n, batch: b.batch(c.rows, c.start, tableRows),
		})
	}
	g.limits = limitsOf(g.cases, f)
	first := b.batch(hardware.BlockLen, 0, tableRows)
	g.fill = func(q hardware.Queue) {
		q.Run(store, first)
		for id := 1; id < g.limits.Blocks; id++ {
			q.CopyBlock(id, 0)
		}
	}
	return g
}

// latentsGroup attends to latents: one row from memory, and many from one layer.
func latentsGroup(f *quant.Format, cold int) *group {
	r := cacheReader{
		op: "latents", shape: fmt.Sprintf("%dx%d", latentHeads, latentDim), class: hardware.LatentStream, dim: latentDim,
		positionBytes: mustRowBytes(f, latentDim), pairOps: 2 * latentHeads * (latentDim + latentValueDim),
		prepare: func(b *bench) []hardware.Tensor {
			return []hardware.Tensor{b.rows(latentHeads * latentDim).Heads(latentHeads)}
		},
		record: func(b *bench, rows []hardware.Tensor, layer hardware.Stream) {
			source := hardware.Source{K: layer, V: layer, ValueDim: latentValueDim}
			b.Attend(hardware.AttentionArgs{Q: rows[0], Sources: []hardware.Source{source}, Scale: 0.04})
		},
		cases: []cachedRows{{1, 511, true}, {1, 4095, true}, {1, 8191, true}, {256, 256, false}, {256, 3840, false}, {256, 7936, false}},
	}
	return r.group(f, cold)
}

// selectGroup chooses entries of an index.
func selectGroup(f *quant.Format, cold int) *group {
	r := cacheReader{
		op: "select", shape: fmt.Sprintf("%dx%d", indexHeads, indexDim), class: hardware.IndexStream, dim: indexDim,
		positionBytes: mustRowBytes(f, indexDim), pairOps: 2 * indexHeads * indexDim,
		prepare: func(b *bench) []hardware.Tensor {
			return []hardware.Tensor{b.rows(indexHeads * indexDim).Heads(indexHeads), b.rows(indexHeads)}
		},
		record: func(b *bench, rows []hardware.Tensor, layer hardware.Stream) {
			b.Select(hardware.SelectArgs{Q: rows[0], Weights: rows[1], Index: layer, TopK: indexTopK})
		},
		cases: []cachedRows{{1, indexedLen - 1, true}, {64, indexedLen - 64, false}},
	}
	return r.group(f, cold)
}
