package model

import "hearth/hardware"

// moe is a sparse mixture of gated experts (arXiv 2101.03961), with shared ones beside those chosen where a family has
// them (arXiv 2401.06066).
type moe struct {
	route      hardware.RouteArgs // all but Logits
	act        hardware.Activation
	limit      float32
	router     hardware.Weight // [experts, hidden]
	gate, up   hardware.Weight // [experts, ffn, hidden]
	down       hardware.Weight // [experts, hidden, ffn]
	hasShared  bool
	shared     mlp
	sharedGate hardware.Weight // [1, hidden]: the shared experts count sigmoid(sharedGate h), absent: 1
}

// moeOptions are what families differ in, beside the hyperparameters.
type moeOptions struct {
	Act         hardware.Activation
	Limit       float32 // of GLUArgs, for the experts that are chosen
	SharedLimit float32 // and for the shared ones
	Table       []int32 // of RouteArgs
}

// needExperts records a mistake and returns false when a model of experts has none.
func (l *Loader) needExperts() bool {
	if l.Config.NumExperts == 0 {
		l.keys.wrong("expert_count", "is missing or 0")
	}
	return l.Config.NumExperts > 0
}

// newMoE declares the experts of one layer. The bias of the router and the gate of the shared experts are taken where the
// file has them.
func newMoE(l *Loader, layer int, opts moeOptions) moe {
	c, prefix := l.Config, blockPrefix(layer)
	b := moe{
		route: hardware.RouteArgs{
			Score: c.ScoringFunc, TopK: c.NumExpertsPerTok, Groups: c.NumGroups, UsedGroups: c.TopKGroups,
			Table: opts.Table, Normalize: c.NormTopKProb, Scale: c.RoutedScalingFactor,
			// DeepSeek-V2 ranks groups by their best expert, and later models, which score with sigmoid, by the two best.
			PairRank: c.NumGroups > 1 && c.ScoringFunc != hardware.ScoreSoftmax,
		},
		act: opts.Act, limit: opts.Limit,
		router: l.Matrix(prefix+"ffn_gate_inp", c.NumExperts, c.HiddenSize),
	}
	if opts.Table == nil {
		b.route.Bias = l.OptionalVector(prefix+"exp_probs_b.bias", c.NumExperts)
	}
	b.gate, b.up = l.GateUp(prefix, c.ExpertFFNSize, c.HiddenSize)
	b.down = l.Experts(prefix+"ffn_down_exps", c.HiddenSize, c.ExpertFFNSize)
	if c.SharedExpertFFNSize > 0 {
		b.hasShared = true
		b.shared = l.mlp(prefix, "_shexp", c.SharedExpertFFNSize, mlpOptions{Act: opts.Act, Limit: opts.SharedLimit})
		if l.Has(prefix + "ffn_gate_inp_shexp.weight") {
			b.sharedGate = l.Matrix(prefix+"ffn_gate_inp_shexp", 1, c.HiddenSize)
		}
	}
	return b
}

// mix records x += the weighted sum of the chosen experts of h, and the shared ones.
func (b *moe) mix(p *hardware.Program, x, h hardware.Tensor) {
	b.addChosen(p, x, h)
	switch {
	case !b.hasShared:
	case !b.sharedGate.Valid():
		b.shared.mix(p, x, h)
	default:
		y := p.MatMul(b.shared.hidden(p, h), b.shared.down)
		p.Add(x, p.GLU(hardware.Sigmoid, p.MatMul(h, b.sharedGate), y))
	}
}

// addChosen records x += the weighted sum of the chosen experts of h.
func (b *moe) addChosen(p *hardware.Program, x, h hardware.Tensor) {
	route := b.route
	route.Logits = p.MatMul(h, b.router)
	p.ExpertsAdd(hardware.ExpertsArgs{
		X: h, Routes: p.Route(route), Gate: b.gate, Up: b.up, Down: b.down, Act: b.act, Limit: b.limit, Dst: x,
	})
}

// mixed records the weighted sum of the chosen experts of h and the shared ones, which the layer must have.
func (b *moe) mixed(p *hardware.Program, h hardware.Tensor) hardware.Tensor {
	y := p.MatMul(b.shared.hidden(p, h), b.shared.down)
	b.addChosen(p, y, h)
	return y
}
