package devicetest

import (
	"math"
	"math/rand/v2"
	"testing"

	"hearth/hardware"
	"hearth/hardware/quant"
)

// attentionShape is the geometry of attention.
type attentionShape struct{ heads, kvHeads, keyDim, valueDim int }

var attentionShapes = []attentionShape{{4, 2, 32, 32}, {3, 3, 64, 32}, {6, 1, 40, 24}}

// testAttention stores keys and values that come from the embedding unchanged, so that device and reference round the
// same numbers to the cache's format. Lengths lie on both sides of tiles and partitions.
func testAttention(t *testing.T, d hardware.Device, c *Config, kv *quant.Format, s attentionShape) {
	if s.keyDim%kv.BlockLen != 0 || s.valueDim%kv.BlockLen != 0 {
		t.Skip("heads are not whole blocks")
	}
	o := newOpTest("attention")
	queries, keys, values := s.heads*s.keyDim, s.kvHeads*s.keyDim, s.kvHeads*s.valueDim
	x := o.Embed(o.table(opVocab, queries+keys+values))
	k := o.Stream(hardware.StreamInfo{Name: "k", Heads: s.kvHeads, Dim: s.keyDim, Class: hardware.KeyStream})
	v := o.Stream(hardware.StreamInfo{Name: "v", Heads: s.kvHeads, Dim: s.valueDim, Class: hardware.ValueStream})
	o.Store(k, x.Cols(queries, keys).Heads(s.kvHeads))
	o.Store(v, x.Cols(queries+keys, values).Heads(s.kvHeads))
	o.want("attention", o.Attention(x.Cols(0, queries).Heads(s.heads), k, v, float32(1/math.Sqrt(float64(s.keyDim)))), 3*c.floatBound())
	o.mustClaim(t, d)
	steps := []int{1, 1, 62, 1, 5, 64, 300, 76, 1, 1, 3, 40, 2}
	if c.brief() {
		steps = []int{1, 62, 2, 70, 1}
	}
	longest := 0
	for _, n := range steps {
		longest += n
	}
	l := hardware.Limits{Tokens: 450, Spans: 2, Outputs: 450, Blocks: 2 * blocksOf(longest), MaxLen: longest, KV: kv}
	o.attend(t, d, l, steps)
}

// attend feeds one sequence in the given steps, and a second one, half as long, in the same steps.
func (o *opTest) attend(t *testing.T, d hardware.Device, l hardware.Limits, steps []int) {
	t.Helper()
	run, batch := o.begin(t, d, l), hardware.NewBatch(l)
	rng := rand.New(rand.NewPCG(5, 6))
	ids := rng.Perm(l.Blocks)
	lengths := [2]int{}
	for _, n := range steps {
		batch.Reset()
		for sequence, rows := range [2]int{n, n / 2} {
			if rows == 0 {
				continue
			}
			batch.Spans = append(batch.Spans, hardware.Span{
				Row: int32(len(batch.Tokens)), Len: int32(rows), Start: int32(lengths[sequence]), Table: int32(len(batch.Tables)),
				Slot: int32(sequence),
			})
			for range rows {
				batch.Tokens = append(batch.Tokens, int32(rng.IntN(opVocab)))
			}
			lengths[sequence] += rows
			for i := range blocksOf(lengths[sequence]) {
				batch.Tables = append(batch.Tables, int32(ids[2*i+sequence]))
			}
		}
		for row := range batch.Tokens {
			batch.Outputs = append(batch.Outputs, int32(row))
		}
		run.step(t, batch)
	}
	run.judge(t)
}
