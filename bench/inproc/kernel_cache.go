package inproc

import (
	"fmt"
	"math"
	"strconv"

	"hearth/hardware"
	"hearth/hardware/quant"
)

// cacheReader is how an operation that reads the cache of some layers is measured.
type cacheReader struct {
	op      string
	shape   string                // "": the number of sequences
	layer   []hardware.StreamInfo // what a layer keeps, all of one shape
	pairOps float64               // for a row and a position that it sees
	// record records the operation on a layer, for the rows that prepare has returned.
	prepare func(b *bench) []hardware.Tensor
	record  func(b *bench, rows []hardware.Tensor, layer []hardware.Stream)
	cases   []cachedRows
}

// cachedRows are the rows of each of some sequences behind start, read from memory or from one layer again and again.
type cachedRows struct {
	sequences, rows, start int
	cold                   bool
}

// positions is how many positions of a layer are in the cache.
func (c *cachedRows) positions() int { return c.sequences * (c.start + c.rows) }

// pairs is for how many rows and positions a row sees the position.
func (c *cachedRows) pairs() float64 {
	return float64(c.sequences) * (float64(c.rows)*float64(c.start) + float64(c.rows*(c.rows+1))/2)
}

// group returns the cases, on layers that no cache holds where they are to be cold.
func (r *cacheReader) group(f *quant.Format, cold int) *group {
	b := newBench(r.op + " " + f.Name)
	g := &group{what: b.Name(), program: b.Program}
	heads, dim := r.layer[0].Heads, r.layer[0].Dim
	positionBytes := len(r.layer) * mustRowBytes(f, heads*dim)
	longest := 0
	for _, c := range r.cases {
		longest = max(longest, c.positions())
	}
	layers := make([][]hardware.Stream, max(2, (cold+longest*positionBytes-1)/(longest*positionBytes)))
	for i := range layers {
		for _, info := range r.layer {
			info.Layer = i
			layers[i] = append(layers[i], b.Stream(info))
		}
	}
	store := b.Section("store")
	x := b.rows(heads * dim).Heads(heads)
	for _, layer := range layers {
		for _, stream := range layer {
			b.Store(stream, x)
		}
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
		shape := r.shape
		if shape == "" {
			shape = strconv.Itoa(c.sequences)
		}
		g.cases = append(g.cases, kernelCase{
			row: KernelRow{
				Op: r.op, Format: f.Name, Shape: fmt.Sprintf("%s@%d", shape, c.start), Rows: c.rows, factors: quant.F32,
				Bytes: float64(positionBytes * c.positions()), Ops: r.pairOps * c.pairs(),
			},
			section: sections[n], base: noBase, times: n, batch: b.sequences(c.sequences, c.rows, c.start, tableRows),
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

// The heads of a model of 0.6 billion parameters.
const (
	numHeads, numKVHeads, headDim = 16, 8, 128
	cachedLen                     = 8192
)

// attentionGroup attends to keys and values: one row of each sequence from memory, and many from one layer.
func attentionGroup(f *quant.Format, cold int) *group {
	r := cacheReader{
		op: "attention", pairOps: 4 * numHeads * headDim,
		layer: []hardware.StreamInfo{
			{Name: "k", Heads: numKVHeads, Dim: headDim, Class: hardware.KeyStream}, {Name: "v", Heads: numKVHeads, Dim: headDim, Class: hardware.ValueStream},
		},
		prepare: func(b *bench) []hardware.Tensor { return []hardware.Tensor{b.rows(numHeads * headDim).Heads(numHeads)} },
		record: func(b *bench, rows []hardware.Tensor, layer []hardware.Stream) {
			b.Attention(rows[0], layer[0], layer[1], float32(1/math.Sqrt(headDim)))
		},
		cases: []cachedRows{
			{1, 1, cachedLen - 1, true}, {8, 1, cachedLen/8 - 1, true}, {1, 512, 0, false}, {1, 512, cachedLen - 512, false},
		},
	}
	return r.group(f, cold)
}

// The heads of DeepSeek-V2-Lite, whose keys and values are one latent, and the index of DeepSeek-V3.2.
const (
	latentHeads, latentDim, latentValueDim = 16, 576, 512
	indexHeads, indexDim, indexTopK        = 64, 128, 2048
	indexedLen                             = 4096
)

// latentsGroup attends to latents: one row from memory, and many from one layer.
func latentsGroup(f *quant.Format, cold int) *group {
	r := cacheReader{
		op: "latents", shape: fmt.Sprintf("%dx%d", latentHeads, latentDim), pairOps: 2 * latentHeads * (latentDim + latentValueDim),
		layer: []hardware.StreamInfo{{Name: "latents", Heads: 1, Dim: latentDim, Class: hardware.LatentStream}},
		prepare: func(b *bench) []hardware.Tensor {
			return []hardware.Tensor{b.rows(latentHeads * latentDim).Heads(latentHeads)}
		},
		record: func(b *bench, rows []hardware.Tensor, layer []hardware.Stream) {
			source := hardware.Source{K: layer[0], V: layer[0], ValueDim: latentValueDim}
			b.Attend(hardware.AttentionArgs{Q: rows[0], Sources: []hardware.Source{source}, Scale: 0.04})
		},
		cases: []cachedRows{
			{1, 1, 511, true}, {1, 1, 4095, true}, {1, 1, 8191, true}, {1, 256, 256, false}, {1, 256, 3840, false}, {1, 256, 7936, false},
		},
	}
	return r.group(f, cold)
}

// selectGroup chooses entries of an index.
func selectGroup(f *quant.Format, cold int) *group {
	r := cacheReader{
		op: "select", shape: fmt.Sprintf("%dx%d", indexHeads, indexDim), pairOps: 2 * indexHeads * indexDim,
		layer: []hardware.StreamInfo{{Name: "index", Heads: 1, Dim: indexDim, Class: hardware.IndexStream}},
		prepare: func(b *bench) []hardware.Tensor {
			return []hardware.Tensor{b.rows(indexHeads * indexDim).Heads(indexHeads), b.rows(indexHeads)}
		},
		record: func(b *bench, rows []hardware.Tensor, layer []hardware.Stream) {
			b.Select(hardware.SelectArgs{Q: rows[0], Weights: rows[1], Index: layer[0], TopK: indexTopK})
		},
		cases: []cachedRows{{1, 1, indexedLen - 1, true}, {1, 64, indexedLen - 64, false}},
	}
	return r.group(f, cold)
}
