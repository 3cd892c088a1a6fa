package cpu

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"hearth/hardware"
	"hearth/hardware/quant"
)

// attentionWork is a step of attention alone, in the geometry of a 0.6B model: so many sequences with so many rows each,
// behind so many positions.
type attentionWork struct {
	kv                    *quant.Format
	sequences, rows, past int
}

const (
	benchHeads, benchKVHeads, benchHeadDim = 16, 8, 128
	benchLayers                            = 28
	benchCacheBytes                        = 1 << 29 // far more than the processor's caches hold
)

// length is the number of positions of a sequence.
func (a attentionWork) length() int { return a.past + a.rows }

// rowBytes is what a layer remembers of a position.
func (a attentionWork) rowBytes() int {
	n, _ := a.kv.RowBytes(benchHeadDim)
	return 2 * benchKVHeads * n
}

// layers are as many as a model has, or fewer if they fill the memory that is set aside.
func (a attentionWork) layers() int {
	return min(benchLayers, max(1, benchCacheBytes/(a.sequences*a.length()*a.rowBytes())))
}

// record records a section that fills blocks, and one that attends to them.
func (a attentionWork) record() (p *hardware.Program, fill, attend hardware.Section) {
	const queries, keys = benchHeads * benchHeadDim, benchKVHeads * benchHeadDim
	p = hardware.NewProgram("attention")
	table := make([]byte, 4*blockLen*(queries+2*keys))
	quant.F32.Quantize(table, normals(newRand(1), len(table)/4))
	w := p.Weight(hardware.WeightInfo{Name: "table", Format: quant.F32, Out: blockLen, In: queries + 2*keys, Data: table})
	var k, v []hardware.Stream
	for i := range a.layers() {
		k = append(k, p.Stream(hardware.StreamInfo{Name: "k", Layer: i, Heads: benchKVHeads, Dim: benchHeadDim, Class: hardware.KeyStream}))
		v = append(v, p.Stream(hardware.StreamInfo{Name: "v", Layer: i, Heads: benchKVHeads, Dim: benchHeadDim, Class: hardware.ValueStream}))
	}
	fill = p.Section("fill")
	x := p.Embed(w)
	for i := range k {
		p.Mixer(i)
		p.Store(k[i], x.Cols(queries, keys).Heads(benchKVHeads))
		p.Store(v[i], x.Cols(queries+keys, keys).Heads(benchKVHeads))
	}
	attend = p.Section("attend")
	x = p.Embed(w)
	for i := range k {
		p.Mixer(i)
		p.Attention(x.Cols(0, queries).Heads(benchHeads), k[i], v[i], 0.088)
	}
	return p, fill, attend
}

// limits fit the work.
func (a attentionWork) limits() hardware.Limits {
	return hardware.Limits{
		Tokens: max(blockLen, a.sequences*a.rows), Spans: a.sequences,
		Blocks: a.sequences * ((a.length() + blockLen - 1) / blockLen), MaxLen: max(blockLen, a.length()), KV: a.kv,
	}
}

// batch is the step, with blocks in random order.
func (a attentionWork) batch(l hardware.Limits) *hardware.Batch {
	b := hardware.NewBatch(l)
	for _, id := range rand.New(rand.NewPCG(1, 1)).Perm(l.Blocks) {
		b.Tables = append(b.Tables, int32(id))
	}
	for i := range a.sequences {
		b.Spans = append(b.Spans, hardware.Span{
			Row: int32(i * a.rows), Len: int32(a.rows), Start: int32(a.past), Table: int32(i * l.Blocks / a.sequences),
		})
		for j := range a.rows {
			b.Tokens = append(b.Tokens, int32((i+j)%blockLen))
		}
	}
	return b
}

// BenchmarkAttention reports what a decoding step reads of the cache, in GB/s and as a share of what two sums over
// memory read beside it, and the operations of a prefill (a multiplication and an addition are two).
func BenchmarkAttention(b *testing.B) {
	for _, kv := range []*quant.Format{quant.F16, quant.Q8_0, quant.F32, quant.BF16} {
		for _, length := range []int{512, 8192, 32768} {
			for _, sequences := range []int{1, 2, 8} {
				benchAttention(b, attentionWork{kv: kv, sequences: sequences, rows: 1, past: length - 1})
			}
		}
		for _, past := range []int{0, 8192} {
			benchAttention(b, attentionWork{kv: kv, sequences: 1, rows: 512, past: past})
		}
	}
}

func benchAttention(b *testing.B, a attentionWork) {
	b.Run(fmt.Sprintf("%s/%dx%d@%d", a.kv, a.sequences, a.rows, a.past), func(b *testing.B) {
		p, fill, attend := a.record()
		d, err := Open(Options{})
		if err != nil {
			b.Fatal(err)
		}
		defer d.Close()
		l := a.limits()
		q, err := d.Load(context.Background(), p, l)
		if err != nil {
			b.Fatal(err)
		}
		defer q.Close()
		first := attentionWork{kv: a.kv, sequences: 1, rows: blockLen}.batch(hardware.Limits{Tokens: blockLen, Spans: 1, Blocks: 1, MaxLen: blockLen})
		q.Run(fill, first)
		for id := 1; id < l.Blocks; id++ {
			q.CopyBlock(id, 0)
		}
		batch := a.batch(l)
		q.Run(attend, batch)
		for b.Loop() {
			q.Run(attend, batch)
		}
		if err := q.Sync(); err != nil {
			b.Fatal(err)
		}
		seconds := b.Elapsed().Seconds() / float64(b.N)
		if a.rows == 1 {
			rate := float64(a.layers()*a.sequences*a.length()*a.rowBytes()) / seconds / 1e9
			b.ReportMetric(rate, "KV-GB/s")
			b.ReportMetric(100*rate/readBandwidth(d.(*device)), "%bandwidth")
			return
		}
		pairs := a.rows*a.past + a.rows*(a.rows+1)/2
		b.ReportMetric(4*float64(a.layers()*benchHeads*benchHeadDim*pairs)/seconds/1e9, "GFLOPS")
	})
}

// readBandwidth measures how fast all workers together read memory in order, in GB/s: the best of three passes.
func readBandwidth(d *device) float64 {
	r, err := newRegion(1 << 29)
	if err != nil {
		panic(err)
	}
	defer r.release()
	for i := 0; i < len(r.mem); i += 4096 {
		r.mem[i] = 1
	}
	best := time.Duration(1 << 62)
	for range 3 {
		var wg sync.WaitGroup
		start := time.Now()
		for id := range d.pool.size {
			wg.Go(func() {
				x := floatsOf(r.mem)
				x = x[id*len(x)/d.pool.size : (id+1)*len(x)/d.pool.size]
				for len(x) > 0 {
					n := min(len(x), 1<<14)
					d.kernels.sumSquares(x[:n])
					x = x[n:]
				}
			})
		}
		wg.Wait()
		best = min(best, time.Since(start))
	}
	return float64(len(r.mem)) / best.Seconds() / 1e9
}
