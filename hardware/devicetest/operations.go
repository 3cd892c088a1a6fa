package devicetest

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"hearth/hardware"
	"hearth/hardware/quant"
)

// oddRows fit no tile: kernels have 4 to 12 rows, blocks 64.
var oddRows = []int{0, 1, 2, 3, 5, 8, 64, 65, 13}

const (
	opVocab = 97
	opRows  = 65
)

// opTest is a program of a few operations whose outputs are compared with the reference.
type opTest struct {
	*builder
	bounds []float64 // of each output; 0: equal, bit by bit
}

func newOpTest(name string) *opTest {
	b := newBuilder(name, 11)
	b.Section("trunk")
	return &opTest{builder: b}
}

// want makes a tensor an output.
func (o *opTest) want(name string, x hardware.Tensor, bound float64) {
	o.show(name, x)
	o.bounds = append(o.bounds, bound)
}

// run compares all outputs for some numbers of rows, each with all rows as outputs and the last time with some.
func (o *opTest) run(t *testing.T, d hardware.Device, rowCounts ...int) {
	t.Helper()
	o.mustClaim(t, d)
	l := hardware.Limits{Tokens: opRows, Spans: 3, Outputs: opRows, Blocks: 1, MaxLen: 6000, KV: quant.F32}
	run, batch := o.begin(t, d, l), hardware.NewBatch(l)
	rng := rand.New(rand.NewPCG(5, 5))
	every := 1
	for i, rows := range rowCounts {
		if i == len(rowCounts)-1 {
			every = 3
		}
		fillRows(batch, rows, every, rng)
		run.step(t, batch)
	}
	run.judge(t)
}

// mustClaim skips the test when the device does not claim the program, and fails when there is a mistake in the program.
func (o *opTest) mustClaim(t *testing.T, d hardware.Device) {
	t.Helper()
	if err := o.Err(); err != nil {
		t.Fatal(err)
	}
	if !claims(d, o.Program) {
		t.Skip("not claimed")
	}
}

// comparison runs a program on a device and on the reference.
type comparison struct {
	*opTest
	q      hardware.Queue
	ref    *Reference
	meters []meter // of each output
}

func (o *opTest) begin(t *testing.T, d hardware.Device, l hardware.Limits) *comparison {
	t.Helper()
	return &comparison{o, load(t, d, o.Program, l), NewReference(o.Program, l), make([]meter, len(o.bounds))}
}

// step runs a batch on both and adds its outputs to the meters.
func (c *comparison) step(t *testing.T, batch *hardware.Batch) {
	t.Helper()
	c.q.Run(0, batch)
	if err := c.q.Sync(); err != nil {
		t.Fatalf("Sync: %v", err)
	}
	c.ref.Run(0, batch)
	for i := range c.meters {
		for r := range c.ref.rows[hardware.Outputs] {
			got, want := c.q.Output(hardware.Output(i), r), c.ref.Output(hardware.Output(i), r)
			if len(got) != len(want) {
				t.Fatalf("output %d has %d columns, want %d", i, len(got), len(want))
			}
			if c.bounds[i] > 0 {
				c.meters[i].add(got, want)
				continue
			}
			for j, w := range want {
				if got[j] != float32(w) {
					name, _ := c.OutputTensor(hardware.Output(i))
					t.Fatalf("%s: %d rows: row %d, column %d: %v, want exactly %v", name, c.ref.rows[hardware.Tokens], r, j, got[j], float32(w))
				}
			}
		}
	}
}

// judge holds the errors of all steps against the bounds.
func (c *comparison) judge(t *testing.T) {
	t.Helper()
	for i := range c.meters {
		name, _ := c.OutputTensor(hardware.Output(i))
		c.meters[i].check(t, name, c.bounds[i])
	}
}

// fillRows writes a batch of up to three spans at random positions. They share a block table of one block: nothing here
// reads the cache.
func fillRows(b *hardware.Batch, rows, every int, rng *rand.Rand) {
	b.Reset()
	for range 5000/hardware.BlockLen + 3 {
		b.Tables = append(b.Tables, 0)
	}
	for first := 0; first < rows; {
		n := rows - first
		if len(b.Spans) < 2 {
			n = 1 + rng.IntN(n)
		}
		b.Spans = append(b.Spans, hardware.Span{Row: int32(first), Len: int32(n), Start: int32(rng.IntN(5000))})
		first += n
	}
	for row := range rows {
		b.Tokens = append(b.Tokens, int32(rng.IntN(opVocab)))
		if row%every == every-1 {
			b.Outputs = append(b.Outputs, int32(row))
		}
	}
}

func testOperations(t *testing.T, d hardware.Device, c *Config) {
	for _, f := range d.Info().Formats {
		if c.brief() && !contains([]*quant.Format{quant.F32, quant.BF16, quant.Q8_0, quant.Q4_K, quant.Q6_K}, f) {
			continue
		}
		t.Run("Embed/"+f.Name, func(t *testing.T) { testEmbed(t, d, f) })
		for _, blocks := range []int{1, 2} {
			in := blocks * f.BlockLen
			if f.BlockLen == 1 {
				in = []int{0, 37, 130}[blocks]
			}
			if c.brief() && in > 256 {
				continue
			}
			t.Run(fmt.Sprintf("MatMul/%s/in=%d", f.Name, in), func(t *testing.T) { testMatMul(t, d, c, f, in) })
		}
		if !c.brief() || f.BlockLen <= 32 {
			t.Run("Experts/"+f.Name, func(t *testing.T) { testExperts(t, d, c, f) })
		}
	}
	t.Run("MatMul/siblings", func(t *testing.T) { testSiblings(t, d, c) })
	for _, dim := range []int{1, 7, 64, 300} {
		t.Run(fmt.Sprintf("Norm/dim=%d", dim), func(t *testing.T) { testNorm(t, d, c, dim) })
		t.Run(fmt.Sprintf("Elementwise/dim=%d", dim), func(t *testing.T) { testElementwise(t, d, c, dim) })
	}
	for _, pairing := range []hardware.Pairing{hardware.Interleaved, hardware.HalfSplit} {
		t.Run(fmt.Sprintf("RoPE/pairing=%d", pairing), func(t *testing.T) { testRoPE(t, d, c, pairing) })
	}
	for _, normalize := range []bool{false, true} {
		t.Run(fmt.Sprintf("Route/normalize=%v", normalize), func(t *testing.T) { testRoute(t, d, c, normalize) })
	}
	for _, cols := range []int{1, 64, 65, 200, 1024} {
		t.Run(fmt.Sprintf("SoftmaxParts/cols=%d", cols), func(t *testing.T) { testSoftmaxParts(t, d, c, cols) })
	}
	for _, kv := range d.Info().StreamFormats {
		for _, s := range attentionShapes {
			t.Run(fmt.Sprintf("Attention/%s/heads=%d:%d/dims=%d,%d", kv.Name, s.heads, s.kvHeads, s.keyDim, s.valueDim), func(t *testing.T) {
				testAttention(t, d, c, kv, s)
			})
		}
	}
}

func testEmbed(t *testing.T, d hardware.Device, f *quant.Format) {
	o := newOpTest("embed")
	in := 2 * f.BlockLen
	if f.BlockLen == 1 {
		in = 37
	}
	o.want("rows", o.Embed(o.matrix("table", f, opVocab, in)), 0)
	o.run(t, d, oddRows...)
}

// testMatMul has odd numbers of outputs, products of the same rows, scale, bias and accumulation.
func testMatMul(t *testing.T, d hardware.Device, c *Config, f *quant.Format, in int) {
	o := newOpTest("matmul")
	x := o.Embed(o.table(opVocab, in))
	bound := c.bound(f)
	for _, out := range []int{1, 5, 16, 49} {
		o.want(fmt.Sprintf("plain, %d outputs", out), o.MatMul(x, o.matrix("w", f, out, in)), bound)
	}
	o.Add(x, x) // so that what follows has rows of its own
	info := o.info("scaled", f, 33, in)
	info.Scale, info.Bias = 0.25, o.values(33, 1)
	scaled := o.MatMul(x, o.Weight(info))
	o.want("scale and bias", scaled, bound)
	sum := o.Temp(hardware.Tokens, 1, 33)
	o.MatMulInto(sum, x, o.matrix("first", f, 33, in))
	info = o.info("second", f, 33, in)
	info.Bias = o.values(33, 1)
	o.MatMulAdd(sum, x, o.Weight(info))
	o.want("accumulated", sum, bound)
	wide := o.Temp(hardware.Tokens, 1, 3+20+2)
	o.MatMulInto(wide.Cols(3, 20), x, o.matrix("part", f, 20, in))
	o.want("columns of a wider tensor", wide.Cols(3, 20), bound)
	g := o.GLU(hardware.SiLU, o.MatMul(x, o.matrix("gate", f, 50, in)), o.MatMul(x, o.matrix("up", f, 50, in)))
	o.want("gated linear unit", g, 3*bound)
	o.run(t, d, oddRows...)
}

// testSiblings multiplies the same normalised rows with weights of several formats, as mixed recipes have them.
func testSiblings(t *testing.T, d hardware.Device, c *Config) {
	const in = 256
	o := newOpTest("siblings")
	x := o.Embed(o.table(opVocab, in))
	h := o.Norm(x, o.vector("norm", in), 1e-5)
	var products []hardware.Tensor
	formats := []*quant.Format{quant.Q4_K, quant.Q6_K, quant.Q4_K, quant.F16}
	for _, f := range formats {
		products = append(products, o.MatMul(h, o.matrix("w", f, 40, in)))
	}
	for i, f := range formats {
		o.want(f.Name, products[i], c.bound(f))
	}
	o.want("the rows themselves", x, 0)
	o.run(t, d, oddRows...)
}

// testExperts routes by well separated logits, so that rounding chooses nobody else.
func testExperts(t *testing.T, d hardware.Device, c *Config, f *quant.Format) {
	const experts, topK = 3, 2
	in, ffn := f.BlockLen, f.BlockLen
	if f.BlockLen == 1 {
		in, ffn = 37, 21
	}
	o := newOpTest("experts")
	o.want("experts", o.experts(f, in, ffn, experts, hardware.RouteArgs{TopK: topK, Normalize: true, Scale: 1.5}), 3*c.bound(f))
	o.run(t, d, 0, 1, 3, 14, 8)
}

// experts records a network of n experts and what it adds to.
func (o *opTest) experts(f *quant.Format, in, ffn, n int, route hardware.RouteArgs) hardware.Tensor {
	x := o.Embed(o.table(opVocab, in))
	y := o.Temp(hardware.Tokens, 1, in)
	o.MatMulInto(y, x, o.matrix("residual", quant.F32, in, in))
	route.Logits = o.MatMul(x, o.matrix("router", quant.F32, n, in))
	o.ExpertsAdd(hardware.ExpertsArgs{
		X: x, Dst: y, Act: hardware.SiLU, Routes: o.Route(route),
		Gate: o.stack("gate", f, n, ffn, in), Up: o.stack("up", f, n, ffn, in), Down: o.stack("down", f, n, in, ffn),
	})
	return y
}

// testRoute sees the chosen experts and their weights through networks that are the same but for a factor.
func testRoute(t *testing.T, d hardware.Device, c *Config, normalize bool) {
	const experts, topK, in = 9, 4, 16
	o := newOpTest("route")
	o.want("experts", o.experts(quant.F32, in, in, experts, hardware.RouteArgs{TopK: topK, Normalize: normalize, Scale: 2}), 3*c.floatBound())
	o.run(t, d, oddRows...)
}

func testNorm(t *testing.T, d hardware.Device, c *Config, dim int) {
	o := newOpTest("norm")
	x := o.Embed(o.table(opVocab, 3*dim+2))
	o.want("row", o.Norm(x, o.vector("row", 3*dim+2), 1e-5), c.floatBound())
	w := o.vector("head", dim)
	heads := x.Cols(1, 3*dim).Heads(3)
	o.want("heads", o.Norm(heads, w, 1e-2), c.floatBound())
	o.NormInto(heads, heads, w, 1e-6)
	o.want("heads in place", x, c.floatBound())
	o.run(t, d, oddRows...)
}

func testElementwise(t *testing.T, d hardware.Device, c *Config, dim int) {
	o := newOpTest("elementwise")
	x := o.Embed(o.table(opVocab, 2*dim+1))
	a, b := x.Cols(0, dim), x.Cols(dim+1, dim)
	o.want("GLU", o.GLU(hardware.SiLU, a, b), c.floatBound())
	o.Add(a, b)
	o.want("Add", x, c.floatBound())
	o.want("Gather", x.Cols(dim, 1), 0)
	o.run(t, d, oddRows...)
}

// testRoPE turns heads of which only a part turns, at positions up to 5000, into a new tensor and in place.
func testRoPE(t *testing.T, d hardware.Device, c *Config, pairing hardware.Pairing) {
	o := newOpTest("rope")
	x := o.Embed(o.table(opVocab, 3*22)).Heads(3)
	whole := o.Rope(hardware.RopeInfo{Frequencies: frequencies(22, 10000), Pairing: pairing})
	part := o.Rope(hardware.RopeInfo{Frequencies: frequencies(16, 500000), Pairing: pairing, Magnitude: 1.2})
	o.want("whole heads", o.RoPE(x, whole).Cols(0, 3*22), c.floatBound())
	o.want("a part of heads", o.RoPE(x, part).Cols(0, 3*22), c.floatBound())
	o.RoPEInto(x.HeadCols(4, 18), x.HeadCols(4, 18), part)
	o.want("columns of heads, in place", x.Cols(0, 3*22), c.floatBound())
	o.run(t, d, oddRows...)
}

// testSoftmaxParts takes the parts of all rows and of some columns of the rows of outputs.
func testSoftmaxParts(t *testing.T, d hardware.Device, c *Config, cols int) {
	o := newOpTest("softmax parts")
	x := o.Embed(o.table(opVocab, cols+3))
	o.want("all columns", o.SoftmaxParts(x), c.floatBound())
	o.want("some columns of outputs", o.SoftmaxParts(o.Gather(x).Cols(3, cols)), c.floatBound())
	o.run(t, d, oddRows...)
}
