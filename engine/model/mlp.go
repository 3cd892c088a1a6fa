package model

import "hearth/hardware"

// mlp is the gated feed-forward network (arXiv 2002.05202), SwiGLU unless the options say otherwise.
type mlp struct {
	act      hardware.Activation
	limit    float32
	gate, up hardware.Weight // [ffn, hidden]
	down     hardware.Weight // [hidden, ffn]
}

// mlpOptions are what families differ in.
type mlpOptions struct {
	Act   hardware.Activation
	Limit float32 // of GLUArgs
}

// newMLP declares the feed-forward network of one layer.
func newMLP(l *Loader, layer int, opts mlpOptions) mlp {
	return l.mlp(blockPrefix(layer), "", l.Config.FFNSize, opts)
}

// mlp declares a feed-forward network; the suffix tells the tensors of shared experts from a layer's own.
func (l *Loader) mlp(prefix, suffix string, ffn int, opts mlpOptions) mlp {
	hidden := l.Config.HiddenSize
	return mlp{
		act: opts.Act, limit: opts.Limit,
		gate: l.Matrix(prefix+"ffn_gate"+suffix, ffn, hidden),
		up:   l.Matrix(prefix+"ffn_up"+suffix, ffn, hidden),
		down: l.Matrix(prefix+"ffn_down"+suffix, hidden, ffn),
	}
}

// mix records x += Down(act(Gate h) * Up h).
func (b *mlp) mix(p *hardware.Program, x, h hardware.Tensor) {
	p.MatMulAdd(x, b.hidden(p, h), b.down)
}

// hidden records act(Gate h) * Up h, [rows, ffn].
func (b *mlp) hidden(p *hardware.Program, h hardware.Tensor) hardware.Tensor {
	return p.Gate(hardware.GLUArgs{Act: b.act, Limit: b.limit, Gate: p.MatMul(h, b.gate), Up: p.MatMul(h, b.up)})
}
