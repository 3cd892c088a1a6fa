package devicetest

import (
	"fmt"
	"strings"
	"testing"

	"hearth/hardware"
	"hearth/hardware/quant"
)

// testForms compares the forms of operations that only some families of models use.
func testForms(t *testing.T, d hardware.Device, c *Config) {
	for _, kind := range []hardware.NormKind{hardware.RMSNorm, hardware.LayerNorm, hardware.L2Norm} {
		for _, dim := range []int{1, 7, 128} {
			if kind == hardware.LayerNorm && dim == 1 {
				continue // nothing is left
			}
			t.Run(fmt.Sprintf("Norm/kind=%d/dim=%d", kind, dim), func(t *testing.T) { testNormForms(t, d, c, kind, dim) })
		}
	}
	for _, act := range []hardware.Activation{hardware.SiLU, hardware.Sigmoid, hardware.OAI} {
		for _, limit := range []float32{0, 0.7} {
			t.Run(fmt.Sprintf("GLU/act=%d/limit=%v", act, limit), func(t *testing.T) { testUnits(t, d, c, act, limit) })
		}
	}
	for i, form := range routeForms {
		for score := hardware.ScoreSoftmax; score <= hardware.ScoreSqrtSoftplus; score++ {
			form.Score = score
			t.Run(fmt.Sprintf("Route/form=%d/score=%d", i, score), func(t *testing.T) { testRouteForm(t, d, c, form) })
		}
	}
	for _, f := range d.Info().Formats {
		if !c.brief() || f.BlockLen == 1 || f == quant.Q8_0 {
			t.Run("stack/"+f.Name, func(t *testing.T) { testStack(t, d, c, f) })
		}
	}
	for _, pairing := range []hardware.Pairing{hardware.Interleaved, hardware.HalfSplit} {
		t.Run(fmt.Sprintf("RoPE/inverse/pairing=%d", pairing), func(t *testing.T) { testInverse(t, d, c, pairing) })
	}
	for _, n := range []int{1, 4, 5} {
		t.Run(fmt.Sprintf("Hyper/streams=%d", n), func(t *testing.T) { testHyper(t, d, c, n, 13) })
	}
	t.Run("Hyper/wide", func(t *testing.T) { testHyper(t, d, c, 4, 1100) })
	t.Run("Copy", func(t *testing.T) { testCopy(t, d) })
	t.Run("Carry", func(t *testing.T) { testCarry(t, d, c) })
}

// testNormForms has norms with and without weight, bias and scale, of rows, heads and columns, in place, and before
// products.
func testNormForms(t *testing.T, d hardware.Device, c *Config, kind hardware.NormKind, dim int) {
	o := newOpTest("norm forms")
	x := o.Embed(o.table(opVocab, 3*dim+2))
	bound := c.floatBound()
	if kind == hardware.LayerNorm {
		bound *= 3 // what is near the mean is left with less digits
	}
	heads := x.Cols(1, 3*dim).Heads(3)
	weight, bias := o.vector("weight", dim), o.vector("bias", dim)
	o.want("plain", o.Normalize(hardware.NormArgs{Norm: kind, X: heads, Eps: 1e-3}), bound)
	o.want("weight", o.Normalize(hardware.NormArgs{Norm: kind, X: heads, Weight: weight, Eps: 1e-3}), bound)
	o.want("bias", o.Normalize(hardware.NormArgs{Norm: kind, X: heads, Bias: bias, Eps: 1e-3}), bound)
	o.want("all", o.Normalize(hardware.NormArgs{Norm: kind, X: heads, Weight: weight, Bias: bias, Scale: 0.25, Eps: 1e-3}), bound)
	row := o.Normalize(hardware.NormArgs{Norm: kind, X: x, Scale: 3, Eps: 1e-6})
	o.want("product of normalised rows", o.MatMul(row, o.matrix("w", quant.F32, 9, 3*dim+2)), 2*bound)
	o.Normalize(hardware.NormArgs{Norm: kind, X: heads, Dst: heads, Scale: 0.5, Eps: 1e-3})
	o.want("in place", x, bound)
	o.run(t, d, oddRows...)
}

// testUnits has gated linear units by themselves, in place, with one gate for a row, behind products and inside experts.
func testUnits(t *testing.T, d hardware.Device, c *Config, act hardware.Activation, limit float32) {
	const in, ffn, experts, topK = 35, 50, 3, 2
	o := newOpTest("units")
	x := o.Embed(o.table(opVocab, in+2*ffn+1))
	gate, up := x.Cols(in, ffn), x.Cols(in+ffn, ffn)
	bound := c.floatBound()
	args := hardware.GLUArgs{Act: act, Limit: limit}
	args.Gate, args.Up = gate, up
	o.want("apart", o.Gate(args), bound)
	args.Gate, args.Up = gate.Heads(5).HeadCols(1, 7), up.Heads(5).HeadCols(0, 7)
	o.want("columns of heads", o.Gate(args), bound)
	args.Gate, args.Up = x.Cols(in+2*ffn, 1), up.Heads(5)
	o.want("one gate", o.Gate(args), bound)
	args.Gate, args.Up, args.Dst = gate, up, gate
	o.Gate(args)
	o.want("into the gate", x, bound)
	h := o.Temp(hardware.Tokens, 1, in)
	o.Copy(h, x.Cols(0, in))
	o.want("of products", o.Gate(hardware.GLUArgs{
		Act: act, Limit: limit, Gate: o.MatMul(h, o.matrix("gate", quant.F32, ffn, in)), Up: o.MatMul(h, o.matrix("up", quant.F32, ffn, in)),
	}), 3*bound)
	o.want("one gate, of products", o.Gate(hardware.GLUArgs{
		Act: act, Limit: limit, Gate: o.MatMul(h, o.matrix("gate", quant.F32, 1, in)), Up: o.MatMul(h, o.matrix("up", quant.F32, ffn, in)),
	}), 3*bound)
	y := o.Temp(hardware.Tokens, 1, in)
	o.MatMulInto(y, h, o.matrix("residual", quant.F32, in, in))
	o.ExpertsAdd(hardware.ExpertsArgs{
		X: h, Dst: y, Act: act, Limit: limit,
		Routes: o.Route(hardware.RouteArgs{Logits: o.MatMul(h, o.matrix("router", quant.F32, experts, in)), TopK: topK}),
		Gate:   o.stack("gate", quant.F32, experts, ffn, in), Up: o.stack("up", quant.F32, experts, ffn, in), Down: o.stack("down", quant.F32, experts, in, ffn),
	})
	o.want("experts", y, 3*bound)
	o.run(t, d, oddRows...)
}

const formExperts, formTopK = 12, 4

// routeForm is a routing of formExperts experts, with what needs a program to be declared in.
type routeForm struct {
	hardware.RouteArgs
	bias, table bool
}

var routeForms = []routeForm{
	{},
	{RouteArgs: hardware.RouteArgs{Normalize: true, Scale: 2.5}},
	{RouteArgs: hardware.RouteArgs{Normalize: true}, bias: true},
	{RouteArgs: hardware.RouteArgs{Groups: 4, UsedGroups: 2, Scale: 16}},
	{RouteArgs: hardware.RouteArgs{Groups: 4, UsedGroups: 2, PairRank: true, Normalize: true}, bias: true},
	{RouteArgs: hardware.RouteArgs{Groups: 3, UsedGroups: 1, PairRank: true}},
	{RouteArgs: hardware.RouteArgs{Normalize: true, Scale: 1.5}, table: true},
}

// testRouteForm sees the chosen experts and their weights through networks of their own.
func testRouteForm(t *testing.T, d hardware.Device, c *Config, form routeForm) {
	const in = 16
	o := newOpTest("route forms")
	x := o.Embed(o.table(opVocab, in))
	y := o.Temp(hardware.Tokens, 1, in)
	o.MatMulInto(y, x, o.matrix("residual", quant.F32, in, in))
	args := form.RouteArgs
	args.Logits, args.TopK = o.MatMul(x, o.matrix("router", quant.F32, formExperts, in)), formTopK
	if form.bias {
		args.Bias = o.vector("bias", formExperts)
	}
	if form.table {
		for range opVocab * formTopK {
			args.Table = append(args.Table, int32(o.rng.IntN(formExperts)))
		}
	}
	o.ExpertsAdd(hardware.ExpertsArgs{
		X: x, Dst: y, Act: hardware.SiLU, Routes: o.Route(args), Gate: o.stack("gate", quant.F32, formExperts, in, in),
		Up: o.stack("up", quant.F32, formExperts, in, in), Down: o.stack("down", quant.F32, formExperts, in, in),
	})
	o.want("experts", y, 3*c.floatBound())
	o.run(t, d, oddRows...)
}

// testStack multiplies heads, or columns of them, with matrices of their own.
func testStack(t *testing.T, d hardware.Device, c *Config, f *quant.Format) {
	const heads, out = 3, 37
	in := f.BlockLen
	if in == 1 {
		in = 21
	}
	o := newOpTest("stack")
	x := o.Embed(o.table(opVocab, heads*(in+5)+1))
	views := x.Cols(1, heads*(in+5)).Heads(heads).HeadCols(2, in)
	bound := c.bound(f)
	o.want("plain", o.MatMul(views, o.stack("w", f, heads, out, in)), bound)
	info := hardware.WeightInfo{Name: "scaled", Format: f, Out: out, In: in, Experts: heads, Scale: 0.5, Bias: o.values(out, 1)}
	info.Data = o.pack(f, heads*out*in, 0.1)
	wide := o.Temp(hardware.Tokens, heads, out+4)
	o.MatMulInto(wide.HeadCols(3, out), views, o.Weight(info))
	o.want("scale and bias, into columns of heads", wide.HeadCols(3, out), bound)
	o.run(t, d, oddRows...)
}

// testInverse turns heads back, in place, and there and back again.
func testInverse(t *testing.T, d hardware.Device, c *Config, pairing hardware.Pairing) {
	o := newOpTest("inverse")
	x := o.Embed(o.table(opVocab, 3*22)).Heads(3)
	rope := o.Rope(hardware.RopeInfo{Frequencies: frequencies(16, 10000), Pairing: pairing})
	there := o.RoPE(x, rope)
	o.RoPEInverse(there, rope)
	o.want("there and back", there, c.floatBound())
	o.RoPEInverse(x.HeadCols(4, 18), rope)
	o.want("back", x, c.floatBound())
	o.run(t, d, oddRows...)
}

// testHyper mixes residual streams, and collapses them.
func testHyper(t *testing.T, d hardware.Device, c *Config, n, dim int) {
	o := newOpTest("streams")
	x := o.Embed(o.table(opVocab, n*dim)).Heads(n)
	flat := x.Cols(0, n*dim)
	f := o.Normalize(hardware.NormArgs{X: flat, Eps: 1e-6})
	bound := 3 * c.floatBound()
	dst, coef := o.HyperPre(hardware.HyperPreArgs{
		X: x, Mix: o.MatMul(f, o.matrix("fn", quant.F32, n*(n+2), n*dim)), Scale: o.vector("scale", 3), Base: o.vector("base", n*(n+2)),
		Eps: 1e-6, Iterations: 20,
	})
	o.want("input", dst, bound)
	o.want("coefficients", coef, bound)
	o.HyperPost(x, o.GLU(hardware.SiLU, dst, dst), coef)
	o.want("streams", flat, bound)
	outputs := o.Gather(x)
	mix := o.MatMul(outputs.Cols(0, n*dim), o.matrix("head", quant.F32, n, n*dim))
	collapsed, _ := o.HyperPre(hardware.HyperPreArgs{X: outputs, Mix: mix, Scale: o.vector("scale", 1), Base: o.vector("base", n), Eps: 1e-6})
	o.want("collapsed", collapsed, bound)
	o.run(t, d, oddRows...)
}

// testCopy copies rows, heads, and one head to several.
func testCopy(t *testing.T, d hardware.Device) {
	o := newOpTest("copy")
	x := o.Embed(o.table(opVocab, 3*7+2))
	heads := o.Temp(hardware.Tokens, 3, 7)
	o.Copy(heads, x.Cols(1, 21).Heads(3))
	o.want("heads", heads, 0)
	o.Copy(heads.HeadCols(2, 4), x.Cols(0, 4))
	o.want("one head to the columns of all", heads, 0)
	o.Copy(x.Cols(0, 7), x.Cols(10, 7))
	o.want("within a tensor", x, 0)
	o.run(t, d, oddRows...)
}

// testCarry has a section gather rows that another one wrote in the step before, and write them anew.
func testCarry(t *testing.T, d hardware.Device, c *Config) {
	const dim = 9
	o := newOpTest("carry")
	h := o.Temp(hardware.Tokens, 1, dim)
	o.Copy(h, o.Embed(o.table(opVocab, dim)))
	o.Carry(h)
	o.want("first", h, 0)
	draft := o.Section("draft")
	x := o.Embed(o.table(opVocab, dim))
	y := o.GatherInputs(h)
	o.Add(x, y)
	o.Copy(h, x)
	o.want("second", x, 0)
	o.mustClaim(t, d)
	l := hardware.Limits{Tokens: 20, Spans: 1, Outputs: 20, Blocks: 1, MaxLen: 64, KV: quant.F32}
	q, ref, batch := load(t, d, o.Program, l), NewReference(o.Program, l), hardware.NewBatch(l)
	var total meter
	for step, rows := range []int{20, 7, 3, 3, 1, 12, 12} {
		section := hardware.Section(min(step%5, 1)) * draft
		batch.Reset()
		batch.Tables = append(batch.Tables, 0)
		batch.Spans = append(batch.Spans, hardware.Span{Len: int32(rows)})
		for row := range rows {
			batch.Tokens = append(batch.Tokens, int32(o.rng.IntN(opVocab)))
			batch.Outputs = append(batch.Outputs, int32(row))
			if section == draft {
				batch.Inputs = append(batch.Inputs, int32(o.rng.IntN(rows)))
			}
		}
		q.Run(section, batch)
		if err := q.Sync(); err != nil {
			t.Fatalf("Sync: %v", err)
		}
		ref.Run(section, batch)
		for row := range rows {
			total.add(q.Output(hardware.Output(section), row), ref.Output(hardware.Output(section), row))
		}
	}
	total.check(t, "rows", c.floatBound())
	batch.Inputs = batch.Inputs[:0]
	if message := panicOf(func() { q.Run(draft, batch) }); !strings.Contains(message, "inputs") {
		t.Errorf("a section that gathers by inputs without any: panic %q", message)
	}
}
