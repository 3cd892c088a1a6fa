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

// attentionTest is attention of random shape over sequences of random length in blocks of random order.
type attentionTest struct {
	kv                               *quant.Format
	group, kvHeads, keyDim, valueDim int
	lengths                          []int
	table                            []float32 // [vocabulary][queries, keys, values]
	program                          *hardware.Program
	out                              hardware.Output
	limits                           hardware.Limits
	tables                           [][]int32
}

const attentionVocab = 61

// newAttentionTest draws a shape. Long sequences get few and small heads.
func newAttentionTest(rng *rand.Rand, kv *quant.Format, longest int) *attentionTest {
	a := &attentionTest{kv: kv, group: 1 + rng.IntN(9), kvHeads: 1 + rng.IntN(3)}
	most := 128
	if longest > 300 {
		a.kvHeads, most = 1, 64
	}
	dim := func() int { return kv.BlockLen * (1 + rng.IntN(most/kv.BlockLen)) }
	a.keyDim, a.valueDim = dim(), dim()
	for range 1 + rng.IntN(3) {
		a.lengths = append(a.lengths, 1+rng.IntN(longest))
	}
	a.limits = hardware.Limits{Tokens: 150, Spans: len(a.lengths), Outputs: 150, KV: kv}
	for _, n := range a.lengths {
		a.limits.Blocks += (n + hardware.BlockLen - 1) / hardware.BlockLen
		a.limits.MaxLen = max(a.limits.MaxLen, n)
	}
	ids := rng.Perm(a.limits.Blocks)
	for _, n := range a.lengths {
		var table []int32
		for range (n + hardware.BlockLen - 1) / hardware.BlockLen {
			table, ids = append(table, int32(ids[0])), ids[1:]
		}
		a.tables = append(a.tables, table)
	}

	queries, keys, values := a.group*a.kvHeads*a.keyDim, a.kvHeads*a.keyDim, a.kvHeads*a.valueDim
	p := hardware.NewProgram("attention")
	a.table = make([]float32, attentionVocab*(queries+keys+values))
	for i := range a.table {
		a.table[i] = float32(rng.NormFloat64())
	}
	data := make([]byte, 4*len(a.table))
	quant.F32.Quantize(data, a.table)
	k := p.Stream(hardware.StreamInfo{Name: "k", Heads: a.kvHeads, Dim: a.keyDim, Class: hardware.KeyStream})
	v := p.Stream(hardware.StreamInfo{Name: "v", Heads: a.kvHeads, Dim: a.valueDim, Class: hardware.ValueStream})
	p.Section("trunk")
	x := p.Embed(p.Weight(hardware.WeightInfo{Name: "table", Format: quant.F32, Out: attentionVocab, In: queries + keys + values, Data: data}))
	p.Store(k, x.Cols(queries, keys).Heads(a.kvHeads))
	p.Store(v, x.Cols(queries+keys, values).Heads(a.kvHeads))
	o := p.Attention(x.Cols(0, queries).Heads(a.group*a.kvHeads), k, v, a.scale())
	a.out = p.Output("o", p.Gather(o.Cols(0, a.group*a.kvHeads*a.valueDim)))
	a.program = p
	return a
}

func (a *attentionTest) String() string {
	return fmt.Sprintf("%s, %d key heads of %d and %d with %d query heads each, lengths %v", a.kv, a.kvHeads, a.keyDim, a.valueDim, a.group, a.lengths)
}

// token is what stands at a position of a sequence.
func (a *attentionTest) token(sequence, position int) int32 {
	return int32((sequence*31 + position*position + 7*position) % attentionVocab)
}

// play feeds all sequences in steps, as cut says how many of each come next, and hands on every row.
func (a *attentionTest) play(run func(b *hardware.Batch), cut func(left, room int) int, row func(sequence, position, output int)) {
	done := make([]int, len(a.lengths))
	for b := hardware.NewBatch(a.limits); ; {
		b.Reset()
		for s, n := range a.lengths {
			rows := min(cut(n-done[s], a.limits.Tokens-len(b.Tokens)), n-done[s], a.limits.Tokens-len(b.Tokens))
			if rows <= 0 {
				continue
			}
			b.Spans = append(b.Spans, hardware.Span{Row: int32(len(b.Tokens)), Len: int32(rows), Start: int32(done[s]), Table: int32(len(b.Tables))})
			b.Tables = append(b.Tables, a.tables[s]...)
			for i := range rows {
				b.Outputs = append(b.Outputs, int32(len(b.Tokens)))
				b.Tokens = append(b.Tokens, a.token(s, done[s]+i))
			}
			done[s] += rows
		}
		if len(b.Tokens) == 0 {
			return
		}
		run(b)
		for _, span := range b.Spans {
			s := 0
			for a.tables[s][0] != b.Tables[span.Table] {
				s++
			}
			for i := range int(span.Len) {
				row(s, int(span.Start)+i, int(span.Row)+i)
			}
		}
	}
}

// results feeds the sequences to a device and returns all rows.
func (a *attentionTest) results(t *testing.T, o cpu.Options, cut func(left, room int) int) map[[2]int][]float32 {
	t.Helper()
	d, err := cpu.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	q, err := d.Load(context.Background(), a.program, a.limits)
	if err != nil {
		t.Fatalf("%s: %v", a, err)
	}
	defer q.Close()
	rows := map[[2]int][]float32{}
	a.play(func(b *hardware.Batch) {
		q.Run(0, b)
		if err := q.Sync(); err != nil {
			t.Fatal(err)
		}
	}, cut, func(s, position, output int) {
		rows[[2]int{s, position}] = append([]float32(nil), q.Output(a.out, output)...)
	})
	return rows
}

// scale multiplies the scores: twice the usual, so that weights differ more.
func (a *attentionTest) scale() float32 { return float32(2 / math.Sqrt(float64(a.keyDim))) }

// expected is one row in double precision, of keys and values rounded to the cache's format.
func (a *attentionTest) expected(sequence, position int) []float64 {
	queries, keys := a.group*a.kvHeads*a.keyDim, a.kvHeads*a.keyDim
	cols := len(a.table) / attentionVocab
	of := func(p, from, n int) []float32 { return a.table[int(a.token(sequence, p))*cols+from:][:n] }
	rounded := func(x []float32) []float32 {
		n, _ := a.kv.RowBytes(len(x))
		b, y := make([]byte, n), make([]float32, len(x))
		a.kv.Quantize(b, x)
		a.kv.Dequantize(y, b)
		return y
	}
	var o []float64
	for h := range a.group * a.kvHeads {
		q, sum, out := of(position, h*a.keyDim, a.keyDim), 0.0, make([]float64, a.valueDim)
		for p := range position + 1 {
			score := 0.0
			for i, k := range rounded(of(p, queries+h/a.group*a.keyDim, a.keyDim)) {
				score += float64(q[i]) * float64(k)
			}
			weight := math.Exp(float64(a.scale()) * score)
			sum += weight
			for i, v := range rounded(of(p, queries+keys+h/a.group*a.valueDim, a.valueDim)) {
				out[i] += weight * float64(v)
			}
		}
		for _, v := range out {
			o = append(o, v/sum)
		}
	}
	return o
}

// TestAttention compares random shapes with double precision, and each level with itself: rows have the same bits one by
// one or many at once, with any others beside them, and for any number of workers.
//
// The bound is that of sums of float32: a score is a sum of up to 128 products of about unit size with an error of some
// 2^-22, which is the relative error of its weight; the weights' errors are independent and the result is their mean.
func TestAttention(t *testing.T) {
	const bound = 3e-6
	for _, kv := range []*quant.Format{quant.F32, quant.F16, quant.BF16, quant.Q8_0} {
		for seed, longest := range []int{1300, 30, 150, 200} {
			if testing.Short() && seed != 2 {
				continue
			}
			rng := rand.New(rand.NewPCG(uint64(seed), 77))
			a := newAttentionTest(rng, kv, longest)
			want := map[[2]int][]float64{}
			for s, n := range a.lengths {
				for p := n - 1; p >= 0; p -= 1 + n/7 {
					want[[2]int{s, p}] = a.expected(s, p)
				}
			}
			levels := cpu.Levels()
			if longest > 1000 {
				levels = levels[:1]
			}
			for _, level := range levels {
				t.Run(fmt.Sprintf("%s/%d/%s", kv, seed, level), func(t *testing.T) {
					one := a.results(t, cpu.Options{ISA: level, Threads: 1}, func(int, int) int { return 1 })
					a.near(t, one, want, bound)
					for threads := 1; threads <= 3; threads++ {
						a.same(t, threads, a.results(t, cpu.Options{ISA: level, Threads: threads}, func(left, room int) int {
							if threads == 1 {
								return left
							}
							return 1 + rng.IntN(1+min(left, room))
						}), one)
					}
				})
			}
		}
	}
}

// near compares the rows for which there are results in double precision.
func (a *attentionTest) near(t *testing.T, got map[[2]int][]float32, want map[[2]int][]float64, bound float64) {
	t.Helper()
	var difference, power float64
	for at, row := range want {
		for i, v := range row {
			difference += math.Pow(float64(got[at][i])-v, 2)
			power += v * v
		}
	}
	if e := math.Sqrt(difference / power); !(e <= bound) {
		t.Errorf("%s: error %.3g, want at most %.3g", a, e, bound)
	}
}

// same compares bit by bit.
func (a *attentionTest) same(t *testing.T, threads int, got, want map[[2]int][]float32) {
	t.Helper()
	for at, row := range want {
		for i, v := range row {
			if math.Float32bits(got[at][i]) != math.Float32bits(v) {
				t.Fatalf("%s: %d workers: sequence %d, position %d, element %d is %v, and %v one by one", a, threads, at[0], at[1], i, got[at][i], v)
			}
		}
	}
}
