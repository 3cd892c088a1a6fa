package cpu

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
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

// BenchmarkAttention reports what a decoding step reads of the cache, in GB/s and as a share of what all workers read of
// memory in the same seconds, and the operations of a prefill (a multiplication and an addition are two). All are medians.
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
		m := memoryReader{d: d.(*device)}
		m.open(b)
		defer m.close()
		var steps, reads []time.Duration
		for b.Loop() {
			start := time.Now()
			q.Run(attend, batch)
			steps = append(steps, time.Since(start))
			if a.rows == 1 {
				reads = append(reads, m.read())
			}
		}
		if err := q.Sync(); err != nil {
			b.Fatal(err)
		}
		step := median(steps)
		b.ReportMetric(step*1e9, "ns/op")
		if a.rows == 1 {
			rate := float64(a.layers()*a.sequences*a.length()*a.rowBytes()) / step / 1e9
			b.ReportMetric(rate, "KV-GB/s")
			b.ReportMetric(100*rate/(float64(len(m.mem))/median(reads)/1e9), "%bandwidth")
			return
		}
		pairs := a.rows*a.past + a.rows*(a.rows+1)/2
		b.ReportMetric(4*float64(a.layers()*benchHeads*benchHeadDim*pairs)/step/1e9, "GFLOPS")
	})
}

// median of durations, in seconds.
func median(d []time.Duration) float64 {
	slices.Sort(d)
	return d[len(d)/2].Seconds()
}

// memoryReader measures how fast all workers together read memory in order.
type memoryReader struct {
	d *device
	region
}

func (m *memoryReader) open(b *testing.B) {
	var err error
	if m.region, err = newRegion(1 << 28); err != nil {
		b.Fatal(err)
	}
	for i := 0; i < len(m.mem); i += 4096 {
		m.mem[i] = 1
	}
}

func (m *memoryReader) close() { m.release() }

// read reads all of it once.
func (m *memoryReader) read() time.Duration {
	start := time.Now()
	if _, err := m.d.pool.run(m, m.d.pool.size); err != nil {
		panic(err)
	}
	return time.Since(start)
}

// work implements job.
func (m *memoryReader) work(id int) {
	x, n := floatsOf(m.mem), m.d.pool.size
	for x = x[id*len(x)/n : (id+1)*len(x)/n]; len(x) > 0; x = x[1<<14:] {
		m.d.kernels.sumSquares(x[:1<<14])
	}
}

// BenchmarkTile multiplies rows with tiles of keys and of values that stay in the processor's cache.
func BenchmarkTile(b *testing.B) {
	for _, name := range availableLevels() {
		k, _, _ := selectKernels(name)
		for _, f := range streamFormats() {
			for _, rows := range []int{1, 2, 4, 8, 48} {
				b.Run(fmt.Sprintf("%s/%s/%d", name, f, rows), func(b *testing.B) {
					s, _ := newStream(hardware.StreamInfo{Heads: 1, Dim: benchHeadDim}, f, 0)
					x := normals(newRand(1), rows*benchHeadDim)
					a := &tileArgs{
						dst: make([]float32, rows*benchHeadDim), x: x, tile: heapAllocate(s.tileBytes), rows: rows, room: make([]float32, tileRoom(rows, benchHeadDim)),
					}
					b.SetBytes(int64(2 * s.tileBytes))
					for b.Loop() {
						a.k, a.panels, a.xStride, a.dstStride = benchHeadDim, keyPanels, benchHeadDim, blockLen
						k.tiles(f).keys(a)
						a.k, a.panels, a.xStride, a.dstStride = blockLen, benchHeadDim/panelCols, blockLen, benchHeadDim
						k.tiles(f).values(a)
					}
					b.ReportMetric(4*float64(rows*blockLen*benchHeadDim*b.N)/b.Elapsed().Seconds()/1e9, "GFLOPS")
				})
			}
		}
	}
}
