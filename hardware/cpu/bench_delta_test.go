package cpu_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"hearth/hardware"
	"hearth/hardware/cpu"
	"hearth/hardware/quant"
)

// BenchmarkDeltaRule is one recurrent layer of Qwen3.5 without its projections: convolution, norms and delta rule, of a
// prompt of 512 tokens and of single tokens behind it.
func BenchmarkDeltaRule(b *testing.B) {
	const dim, vocab = 128, 64
	for _, heads := range [][2]int{{16, 16}, {16, 48}} {
		keys, values := heads[0]*dim, heads[1]*dim
		p := hardware.NewProgram("delta")
		rng := rand.New(rand.NewPCG(1, 1))
		weight := func(out, in int, mean, deviation float64) hardware.Weight {
			x, data := make([]float32, out*in), make([]byte, 4*out*in)
			for i := range x {
				x[i] = float32(mean + deviation*rng.NormFloat64())
			}
			quant.F32.Quantize(data, x)
			return p.Weight(hardware.WeightInfo{Name: "w", Format: quant.F32, Out: out, In: in, Data: data})
		}
		ring := p.Ring(hardware.RingInfo{Name: "rows", Dim: 2*keys + values, Reach: 3})
		state := p.Delta(hardware.DeltaInfo{Name: "state", KeyHeads: heads[0], ValueHeads: heads[1], KeyDim: dim, ValueDim: dim, Map: hardware.Tiled})
		p.Section("trunk")
		x := p.Temp(hardware.Tokens, 1, 2*keys+values+2*heads[1])
		p.Copy(x.Heads(x.Size()/32), p.Embed(weight(vocab, 32, 0, 1)))
		rows := x.Cols(0, 2*keys+values)
		c := p.Conv(rows, ring, weight(2*keys+values, 4, 0, 0.5))
		p.Remember(ring, rows)
		unit := func(lo int) hardware.Tensor {
			return p.Normalize(hardware.NormArgs{Norm: hardware.L2Norm, X: c.Cols(lo, keys).Heads(heads[0]), Eps: 1e-6})
		}
		o := p.DeltaRule(hardware.DeltaRuleArgs{
			Q: unit(0), K: unit(keys), V: c.Cols(2*keys, values).Heads(heads[1]), A: x.Cols(2*keys+values, heads[1]),
			B: x.Cols(2*keys+values+heads[1], heads[1]), Decay: weight(1, heads[1], -0.05, 0.01), Bias: weight(1, heads[1], 0, 1), State: state,
		})
		p.Output("o", p.Gather(o.Cols(0, values)))
		for _, rows := range []int{512, 1} {
			b.Run(fmt.Sprintf("heads=%d:%d/rows=%d", heads[0], heads[1], rows), func(b *testing.B) {
				d, err := cpu.Open(cpu.Options{})
				if err != nil {
					b.Fatal(err)
				}
				defer d.Close()
				l := hardware.Limits{Tokens: 512, Spans: 1, Outputs: 1, Blocks: 1, MaxLen: 1 << 20, Slots: 1}
				q, err := d.Load(context.Background(), p, l)
				if err != nil {
					b.Fatal(err)
				}
				defer q.Close()
				batch, start := &hardware.Batch{Outputs: []int32{0}, Tables: make([]int32, l.MaxLen/hardware.BlockLen)}, 0
				run := func(rows int) {
					batch.Tokens, batch.Spans = batch.Tokens[:0], append(batch.Spans[:0], hardware.Span{Len: int32(rows), Start: int32(start)})
					for i := range rows {
						batch.Tokens = append(batch.Tokens, int32((start+i)*7%vocab))
					}
					q.Run(0, batch)
					if start += rows; start+512 > l.MaxLen {
						start = 0
					}
				}
				run(512)
				b.ResetTimer()
				for range b.N {
					run(rows)
				}
				b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*rows), "µs/token")
			})
		}
	}
}
