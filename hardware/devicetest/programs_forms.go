package devicetest

import (
	"math"

	"hearth/hardware"
	"hearth/hardware/quant"
)

// formsModel is what the layers of a model of many forms share.
type formsModel struct {
	*builder
	weights             *quant.Format
	hidden, ffn, numExp int
	rope                hardware.Rope
}

// streams of the residual, and the sizes of attention.
const (
	formStreams          = 4
	formHeads, formDim   = 4, 32
	formKVHeads, formRot = 2, 16
)

// newFormsModel records two layers of the forms that only some families use: residual streams, norms of all kinds, a
// rotation taken back, a matrix for each head, sigmoid routing within groups, and a shared expert with a gate.
func newFormsModel(spec modelSpec) *model {
	const layers, vocab = 2, 50
	b := &formsModel{builder: newBuilder("forms", 2), weights: spec.weights, hidden: 64, ffn: 96, numExp: 8}
	if n := spec.weights.BlockLen; n > 32 {
		b.hidden, b.ffn = n, n
	}
	m := &model{Program: b.Program, vocab: vocab}
	b.rope = b.Rope(hardware.RopeInfo{Frequencies: frequencies(formRot, 10000), Pairing: hardware.Interleaved})
	m.trunk = b.Section("trunk")
	x := b.Temp(hardware.Tokens, formStreams, b.hidden)
	b.Copy(x, b.Embed(b.table(vocab, b.hidden)))
	for layer := range layers {
		b.Mixer(layer)
		h, coef := b.read(x)
		b.HyperPost(x, b.attend(layer, h), coef)
		b.FFN(layer)
		h, coef = b.read(x)
		b.HyperPost(x, b.feedForward(h), coef)
	}
	b.Tail()
	out := b.Gather(x)
	mix := b.MatMul(out.Cols(0, formStreams*b.hidden), b.matrix("head_fn", quant.F32, formStreams, formStreams*b.hidden))
	y, _ := b.HyperPre(hardware.HyperPreArgs{X: out, Mix: mix, Scale: b.vector("scale", 1), Base: b.vector("base", formStreams), Eps: 1e-6})
	logits := b.MatMul(b.Norm(y, b.vector("norm", b.hidden), 1e-5), b.matrix("output", spec.weights, vocab, b.hidden))
	m.logits = b.Output("logits", logits)
	return m
}

// read reads a block's input from the streams.
func (b *formsModel) read(x hardware.Tensor) (h, coef hardware.Tensor) {
	const mixes = formStreams * (formStreams + 2)
	f := b.Normalize(hardware.NormArgs{X: x.Cols(0, formStreams*b.hidden), Eps: 1e-6})
	h, coef = b.HyperPre(hardware.HyperPreArgs{
		X: x, Mix: b.MatMul(f, b.matrix("fn", quant.F32, mixes, formStreams*b.hidden)), Scale: b.vector("scale", 3),
		Base: b.vector("base", mixes), Eps: 1e-6, Iterations: 5,
	})
	return b.Normalize(hardware.NormArgs{
		Norm: hardware.LayerNorm, X: h, Weight: b.vector("weight", b.hidden), Bias: b.vector("bias", b.hidden), Eps: 1e-5,
	}), coef
}

// attend is attention with queries and keys of unit length, whose result is turned back and multiplied head by head.
func (b *formsModel) attend(layer int, h hardware.Tensor) hardware.Tensor {
	keys := b.Stream(hardware.StreamInfo{Name: "k", Layer: layer, Heads: formKVHeads, Dim: formDim, Class: hardware.KeyStream})
	values := b.Stream(hardware.StreamInfo{Name: "v", Layer: layer, Heads: formKVHeads, Dim: formDim, Class: hardware.ValueStream})
	project := func(heads int) hardware.Tensor {
		return b.MatMul(h, b.matrix("w", b.weights, heads*formDim, b.hidden)).Heads(heads)
	}
	q, k, v := project(formHeads), project(formKVHeads), project(formKVHeads)
	for _, x := range []hardware.Tensor{q, k} {
		b.Normalize(hardware.NormArgs{Norm: hardware.L2Norm, X: x, Dst: x, Scale: 3, Eps: 1e-6})
		b.RoPEInto(x.HeadCols(formDim-formRot, formRot), x.HeadCols(formDim-formRot, formRot), b.rope)
	}
	b.Store(keys, k)
	b.Store(values, v)
	o := b.Attention(q, keys, values, float32(1/math.Sqrt(formDim)))
	b.RoPEInverse(o.HeadCols(formDim-formRot, formRot), b.rope)
	format := b.weights
	if format.BlockLen > formDim {
		format = quant.Q8_0
	}
	return b.MatMul(b.MatMul(o, b.stack("per_head", format, formHeads, 20, formDim)).Cols(0, formHeads*20), b.matrix("o", quant.F32, b.hidden, formHeads*20))
}

// feedForward is experts, and a shared one behind a gate.
func (b *formsModel) feedForward(h hardware.Tensor) hardware.Tensor {
	y := b.Temp(hardware.Tokens, 1, b.hidden)
	shared := b.MatMul(b.Gate(hardware.GLUArgs{
		Act: hardware.OAI, Limit: 2, Gate: b.MatMul(h, b.matrix("gate_shexp", b.weights, b.ffn, b.hidden)), Up: b.MatMul(h, b.matrix("up_shexp", b.weights, b.ffn, b.hidden)),
	}), b.matrix("down_shexp", b.weights, b.hidden, b.ffn))
	b.Copy(y, b.GLU(hardware.Sigmoid, b.MatMul(h, b.matrix("gate_inp_shexp", quant.F32, 1, b.hidden)), shared))
	b.ExpertsAdd(hardware.ExpertsArgs{
		X: h, Dst: y, Act: hardware.OAI, Limit: 2,
		Routes: b.Route(hardware.RouteArgs{
			Logits: b.MatMul(h, b.matrix("router", quant.F32, b.numExp, b.hidden)), Score: hardware.ScoreSigmoid, Bias: b.vector("bias", b.numExp),
			TopK: 3, Groups: 4, UsedGroups: 2, PairRank: true, Normalize: true, Scale: 2.5,
		}),
		Gate: b.stack("gate", b.weights, b.numExp, b.ffn, b.hidden), Up: b.stack("up", b.weights, b.numExp, b.ffn, b.hidden),
		Down: b.stack("down", b.weights, b.numExp, b.hidden, b.ffn),
	})
	return y
}
