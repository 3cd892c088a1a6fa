package model

import (
	"slices"

	"hearth/hardware"
)

// DeepSeek-V4 (ggml-org/llama.cpp, src/models/deepseek4.cpp; Hugging Face, modeling_deepseek_v4.py): several residual streams
// that each half of a layer reads and writes by learned mixes, keys and values in one vector, attention to the latest
// positions and to compressed earlier ones, and experts in every layer, in the first layers chosen by the token itself.
var _ = register(Arch{
	Names:    []string{"deepseek4"},
	Defaults: Defaults{ScoringFunc: hardware.ScoreSqrtSoftplus, NormTopKProb: true},
	Load:     newDeepSeek4,
})

// deepSeek4 is the skeleton of DeepSeek-V4.
type deepSeek4 struct {
	eps        float32
	numStreams int
	tokenEmbd  hardware.Weight // [vocab, hidden]
	layers     []deepSeek4Layer
	outputMix  hyperMix         // collapses the streams
	outputNorm hardware.Weight  // [hidden]
	output     hardware.Weight  // [vocab, hidden]
	predictor  *streamPredictor // nil: none, or not wanted
}

// deepSeek4Layer is one layer: each half with its mix of the streams.
type deepSeek4Layer struct {
	attnMix  hyperMix
	attnNorm hardware.Weight // [hidden]
	attn     compressedAttention
	ffnMix   hyperMix
	ffnNorm  hardware.Weight // [hidden]
	ffn      moe
}

// deepSeek4Config holds the hyperparameters that DeepSeek-V4 alone has.
type deepSeek4Config struct {
	hyper          hyperConfig
	attention      compressedConfig
	ratios         []int     // of each layer and a predicting block: positions to a compressed entry, 0: none
	numHashLayers  int       // leading layers whose experts the token chooses
	limits, shared []float32 // of the same: GLUArgs.Limit of chosen and of shared experts
}

func readDeepSeek4(l *Loader) deepSeek4Config {
	k, n := l.keys, l.Config.NumLayers
	c := deepSeek4Config{
		hyper: hyperConfig{
			numStreams: k.count("hyper_connection.count", 0, 64),
			iterations: k.count("hyper_connection.sinkhorn_iterations", 0, 1<<10),
			eps:        float32(k.positive("hyper_connection.epsilon", 0)),
		},
		ratios:        k.counts("attention.compress_ratios", n, MaxContext),
		numHashLayers: k.optionalCount("hash_layer_count", 0, maxLayers),
		limits:        k.numbers("swiglu_clamp_exp", n),
		shared:        k.numbers("swiglu_clamp_shexp", n),
	}
	if c.ratios == nil {
		k.wrong("attention.compress_ratios", "is missing")
	}
	if c.limits == nil {
		c.limits = make([]float32, n)
	}
	if c.shared == nil {
		c.shared = c.limits
	}
	if c.hyper.numStreams*l.Config.HiddenSize > maxWidth {
		k.wrong("hyper_connection.count", "is %d, with rows of %d too wide", c.hyper.numStreams, l.Config.HiddenSize)
	}
	if l.Config.NumExperts == 0 || l.Config.SharedExpertFFNSize == 0 {
		k.wrong("expert_shared_count", "is missing or 0, with %d experts", l.Config.NumExperts)
	}
	// A predicting block behind the layers attends to the latest positions alone, and clamps as the last layer does.
	c.ratios = append(slices.Clip(c.ratios), 0)
	c.limits = append(slices.Clip(c.limits), c.limits[n-1])
	c.shared = append(slices.Clip(c.shared), c.shared[n-1])
	c.attention = readCompressed(l)
	return c
}

func newDeepSeek4(l *Loader) Forwarder {
	c, config := l.Config, readDeepSeek4(l)
	m := &deepSeek4{eps: c.RMSNormEps, numStreams: config.hyper.numStreams}
	if l.err != nil {
		return m
	}
	m.tokenEmbd = l.Matrix("token_embd", c.VocabSize, c.HiddenSize)
	m.outputMix = newHyperMix(l, "output_hc", config.hyper, config.hyper.numStreams)
	m.outputNorm = l.Vector("output_norm.weight", c.HiddenSize)
	m.output = l.head(m.tokenEmbd)
	ropes := newDeepSeek4Ropes(l, config.attention)
	for i := range c.NumLayers {
		if l.err != nil { // a hostile layer count ends at the first missing tensor
			break
		}
		m.layers = append(m.layers, newDeepSeek4Layer(l, i, config, ropes))
	}
	if l.predictsFrom(c.NumLayers) {
		m.predictor = newStreamPredictor(l, m, config.hyper, newDeepSeek4Layer(l, c.NumLayers, config, ropes))
	}
	return m
}

// newDeepSeek4Layer declares one layer, or the predicting block behind them.
func newDeepSeek4Layer(l *Loader, i int, config deepSeek4Config, ropes compressedRopes) deepSeek4Layer {
	c, prefix, columns := l.Config, blockPrefix(i), config.hyper.numStreams*(config.hyper.numStreams+2)
	experts := moeOptions{Limit: config.limits[i], SharedLimit: config.shared[i]}
	if i < config.numHashLayers {
		experts.Table = l.Table(prefix+"ffn_gate_tid2eid.weight", c.VocabSize, c.NumExpertsPerTok)
	}
	return deepSeek4Layer{
		attnMix:  newHyperMix(l, prefix+"hc_attn", config.hyper, columns),
		attnNorm: l.Vector(prefix+"attn_norm.weight", c.HiddenSize),
		attn:     newCompressedAttention(l, i, config.ratios[i], config.attention, ropes),
		ffnMix:   newHyperMix(l, prefix+"hc_ffn", config.hyper, columns),
		ffnNorm:  l.Vector(prefix+"ffn_norm.weight", c.HiddenSize),
		ffn:      newMoE(l, i, experts),
	}
}

// Forward records the pass.
func (m *deepSeek4) Forward(p *hardware.Program) Trunk {
	embedded := p.Embed(m.tokenEmbd)
	x := p.Temp(hardware.Tokens, m.numStreams, embedded.Dim()) // [tokens, numStreams, hidden], the residual streams
	p.Copy(x, embedded)
	for i := range m.layers {
		m.layers[i].forward(p, i, x, m.eps)
	}
	p.Tail()
	var trunk Trunk
	if m.predictor != nil {
		p.Carry(x)
		trunk.Draft = func(p *hardware.Program) hardware.Tensor { return m.predictor.forward(p, len(m.layers), x) }
	}
	last, _ := m.outputMix.read(p, p.Gather(x), m.eps)
	trunk.Hidden = p.Norm(last, m.outputNorm, m.eps)
	trunk.Logits = p.MatMul(trunk.Hidden, m.output)
	return trunk
}

// forward records one layer: both halves read the streams x and write them back.
func (l *deepSeek4Layer) forward(p *hardware.Program, i int, x hardware.Tensor, eps float32) {
	p.Mixer(i)
	h, coef := l.attnMix.read(p, x, eps)
	p.HyperPost(x, l.attn.mixed(p, p.Norm(h, l.attnNorm, eps)), coef)
	p.FFN(i)
	h, coef = l.ffnMix.read(p, x, eps)
	p.HyperPost(x, l.ffn.mixed(p, p.Norm(h, l.ffnNorm, eps)), coef)
}

// newDeepSeek4Ropes declares the rotations of layers that attend to the latest positions alone, and of those that compress
// earlier ones, whose base is larger and stretched by YaRN without changing magnitudes.
func newDeepSeek4Ropes(l *Loader, c compressedConfig) compressedRopes {
	plain, stretched := l.Config.Rope, l.Config.Rope
	plain.Scaling = RopeScaling{}
	stretched.Theta = c.theta
	stretched.Scaling.UnitMagnitude = true
	return compressedRopes{plain: l.Rope(plain, hardware.Interleaved), stretched: l.Rope(stretched, hardware.Interleaved)}
}
