package model

import "hearth/hardware"

// moe is a sparse mixture of SwiGLU experts (arXiv 2101.03961) with softmax routing over all experts.
type moe struct {
	topK      int
	normalize bool
	scale     float32
	router    hardware.Weight // [experts, hidden]
	gate, up  hardware.Weight // [experts, ffn, hidden]
	down      hardware.Weight // [experts, hidden, ffn]
}

func newMoE(l *Loader, layer int) moe {
	c, prefix := l.Config, blockPrefix(layer)
	return moe{
		topK: c.NumExpertsPerTok, normalize: c.NormTopKProb, scale: c.ExpertScale,
		router: l.Matrix(prefix+"ffn_gate_inp", c.NumExperts, c.HiddenSize),
		gate:   l.Experts(prefix+"ffn_gate_exps", c.ExpertFFNSize, c.HiddenSize),
		up:     l.Experts(prefix+"ffn_up_exps", c.ExpertFFNSize, c.HiddenSize),
		down:   l.Experts(prefix+"ffn_down_exps", c.HiddenSize, c.ExpertFFNSize),
	}
}

// mix records x += the weighted sum of the chosen experts of h.
func (b *moe) mix(p *hardware.Program, x, h hardware.Tensor) {
	routes := p.Route(hardware.RouteArgs{
		Logits: p.MatMul(h, b.router), TopK: b.topK, Normalize: b.normalize, Scale: b.scale,
	})
	p.ExpertsAdd(hardware.ExpertsArgs{
		X: h, Routes: routes, Gate: b.gate, Up: b.up, Down: b.down, Act: hardware.SiLU, Dst: x,
	})
}
