package cpu_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"hearth/hardware"
	"hearth/hardware/cpu"
	"hearth/hardware/quant"
)

// benchShape is a model's geometry; the layers are as many as a benchmark has time for.
type benchShape struct {
	hidden, ffn, heads, kvHeads, headDim, layers, vocab int
}

// shape06B is a Qwen3 of 0.6 billion parameters with 4 of its 28 layers and a part of its vocabulary.
var shape06B = benchShape{hidden: 1024, ffn: 3072, heads: 16, kvHeads: 8, headDim: 128, layers: 4, vocab: 16384}

// record records the model with random weights.
func (s benchShape) record(f *quant.Format) (p *hardware.Program, weightBytes int) {
	rng := rand.New(rand.NewPCG(1, 1))
	p = hardware.NewProgram("bench")
	pool := make([]float32, 1<<16)
	for i := range pool {
		pool[i] = float32(rng.NormFloat64() / 32)
	}
	bytes, _ := f.RowBytes(len(pool))
	packed := make([]byte, bytes)
	f.Quantize(packed, pool)
	matrix := func(out, in int) hardware.Weight {
		n, _ := f.RowBytes(out * in)
		data := make([]byte, n)
		for at := 0; at < n; at += copy(data[at:], packed) {
		}
		weightBytes += n
		return p.Weight(hardware.WeightInfo{Name: "w", Format: f, Out: out, In: in, Data: data})
	}
	vector := func(n int) hardware.Weight {
		data := make([]byte, 4*n)
		quant.F32.Quantize(data, pool[:n])
		return p.Weight(hardware.WeightInfo{Name: "norm", Format: quant.F32, Out: 1, In: n, Data: data})
	}
	frequencies := make([]float64, s.headDim/2)
	for i := range frequencies {
		frequencies[i] = math.Pow(1e6, -2*float64(i)/float64(s.headDim))
	}
	rope := p.Rope(hardware.RopeInfo{Frequencies: frequencies, Pairing: hardware.HalfSplit})
	p.Section("trunk")
	table := matrix(s.vocab, s.hidden)
	x := p.Embed(table)
	for i := range s.layers {
		k := p.Stream(hardware.StreamInfo{Name: "k", Layer: i, Heads: s.kvHeads, Dim: s.headDim, Class: hardware.KeyStream})
		v := p.Stream(hardware.StreamInfo{Name: "v", Layer: i, Heads: s.kvHeads, Dim: s.headDim, Class: hardware.ValueStream})
		p.Mixer(i)
		h := p.Norm(x, vector(s.hidden), 1e-6)
		q, key, value := p.MatMul(h, matrix(s.heads*s.headDim, s.hidden)), p.MatMul(h, matrix(s.kvHeads*s.headDim, s.hidden)), p.MatMul(h, matrix(s.kvHeads*s.headDim, s.hidden))
		norm := vector(s.headDim)
		qh, kh := p.Norm(q.Heads(s.heads), norm, 1e-6), p.Norm(key.Heads(s.kvHeads), norm, 1e-6)
		qh, kh = p.RoPE(qh, rope), p.RoPE(kh, rope)
		p.Store(k, kh)
		p.Store(v, value.Heads(s.kvHeads))
		p.MatMulAdd(x, p.Attention(qh, k, v, 0.1), matrix(s.hidden, s.heads*s.headDim))
		p.FFN(i)
		h = p.Norm(x, vector(s.hidden), 1e-6)
		p.MatMulAdd(x, p.GLU(hardware.SiLU, p.MatMul(h, matrix(s.ffn, s.hidden)), p.MatMul(h, matrix(s.ffn, s.hidden))), matrix(s.hidden, s.ffn))
	}
	p.Tail()
	p.Output("logits", p.MatMul(p.Norm(p.Gather(x), vector(s.hidden), 1e-6), table))
	return p, weightBytes
}

// benchWork is a step: so many sequences with so many rows each, behind so many positions.
type benchWork struct{ sequences, rows, start int }

// loadStep loads a program for steps of some work, and returns the batch of one.
func loadStep(b *testing.B, p *hardware.Program, work benchWork) (hardware.Queue, *hardware.Batch) {
	d, err := cpu.Open(cpu.Options{})
	if err != nil {
		b.Fatal(err)
	}
	perSequence := (work.start + work.rows + hardware.BlockLen - 1) / hardware.BlockLen
	l := hardware.Limits{
		Tokens: work.sequences * work.rows, Spans: work.sequences, Outputs: work.sequences,
		Blocks: work.sequences * perSequence, MaxLen: work.start + work.rows, KV: quant.F16,
	}
	q, err := d.Load(context.Background(), p, l)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		q.Close()
		d.Close()
	})
	batch := hardware.NewBatch(l)
	for i := range work.sequences {
		batch.Spans = append(batch.Spans, hardware.Span{
			Row: int32(len(batch.Tokens)), Len: int32(work.rows), Start: int32(work.start), Table: int32(len(batch.Tables)),
		})
		for j := range work.rows {
			batch.Tokens = append(batch.Tokens, int32((i+j)%shape06B.vocab))
		}
		batch.Outputs = append(batch.Outputs, int32(len(batch.Tokens)-1))
		for j := range perSequence {
			batch.Tables = append(batch.Tables, int32(i*perSequence+j))
		}
	}
	return q, batch
}

// BenchmarkStep runs steps of a 0.6B-shaped model: so many sequences with so many rows each, behind so many positions.
func BenchmarkStep(b *testing.B) {
	for _, f := range []*quant.Format{quant.Q8_0, quant.Q4_K} {
		p, weightBytes := shape06B.record(f)
		if err := p.Err(); err != nil {
			b.Fatal(err)
		}
		for _, work := range []benchWork{{1, 1, 0}, {1, 1, 4000}, {8, 1, 100}, {1, 512, 0}, {1, 512, 3500}} {
			b.Run(fmt.Sprintf("%s/%dx%d@%d", f.Name, work.sequences, work.rows, work.start), func(b *testing.B) {
				q, batch := loadStep(b, p, work)
				for b.Loop() {
					q.Run(0, batch)
				}
				if err := q.Sync(); err != nil {
					b.Fatal(err)
				}
				seconds := b.Elapsed().Seconds() / float64(b.N)
				b.ReportMetric(float64(len(batch.Tokens))/seconds, "rows/s")
				b.ReportMetric(float64(weightBytes)/seconds/1e9, "weights-GB/s")
			})
		}
	}
}
