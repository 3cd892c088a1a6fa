package model

import "hearth/hardware"

// mlp is the SwiGLU feed-forward network (arXiv 2002.05202).
type mlp struct {
	gate, up hardware.Weight // [ffn, hidden]
	down     hardware.Weight // [hidden, ffn]
}

func newMLP(l *Loader, layer int) mlp {
	c, prefix := l.Config, blockPrefix(layer)
	return mlp{
		gate: l.Matrix(prefix+"ffn_gate", c.FFNSize, c.HiddenSize),
		up:   l.Matrix(prefix+"ffn_up", c.FFNSize, c.HiddenSize),
		down: l.Matrix(prefix+"ffn_down", c.HiddenSize, c.FFNSize),
	}
}

// mix records x += Down(silu(Gate h) * Up h).
func (b *mlp) mix(p *hardware.Program, x, h hardware.Tensor) {
	p.MatMulAdd(x, p.GLU(hardware.SiLU, p.MatMul(h, b.gate), p.MatMul(h, b.up)), b.down)
}
