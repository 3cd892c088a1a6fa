package main

import "slices"

// hybridMixer has gated delta rules, and gated attention in every fourth layer, as Qwen3-Next and Qwen3.5.
type hybridMixer struct {
	keyHeads, valueHeads int
	dim                  int  // of a key or value head
	fusedRates           bool // one matrix for decays and update rates
}

// Every hybridInterval-th layer attends; convTaps positions are mixed before a delta rule.
const (
	hybridInterval = 4
	convTaps       = 4
)

func (h hybridMixer) keys(s *synthShape, set func(name string, value any)) {
	set("ssm.conv_kernel", uint32(convTaps))
	set("ssm.state_size", uint32(h.dim))
	set("ssm.group_count", uint32(h.keyHeads))
	set("ssm.time_step_rank", uint32(h.valueHeads))
	set("ssm.inner_size", uint32(h.valueHeads*h.dim))
	set("full_attention_interval", uint32(hybridInterval))
}

func (h hybridMixer) layer(s *synthShape, i int, add func(name string, shape ...int)) {
	if (i+1)%hybridInterval == 0 || i >= s.layers {
		queries, groups := s.heads*s.headDim, s.kvHeads*s.headDim
		add("attn_q.weight", 2*queries, s.hidden) // and gates
		add("attn_k.weight", groups, s.hidden)
		add("attn_v.weight", groups, s.hidden)
		add("attn_q_norm.weight", s.headDim)
		add("attn_k_norm.weight", s.headDim)
		add("attn_output.weight", s.hidden, queries)
		return
	}
	values, columns := h.valueHeads*h.dim, (2*h.keyHeads+h.valueHeads)*h.dim
	add("attn_qkv.weight", columns, s.hidden)
	add("attn_gate.weight", values, s.hidden)
	add("ssm_conv1d.weight", columns, convTaps)
	add("ssm_dt.bias", h.valueHeads)
	add("ssm_a", h.valueHeads)
	if h.fusedRates {
		add("ssm_ba.weight", 2*h.valueHeads, s.hidden)
	} else {
		add("ssm_beta.weight", h.valueHeads, s.hidden)
		add("ssm_alpha.weight", h.valueHeads, s.hidden)
	}
	add("ssm_norm.weight", h.dim)
	add("ssm_out.weight", s.hidden, values)
}

func (hybridMixer) outer(*synthShape, func(name string, shape ...int)) {}

// hybridShapes are Qwen3-Next and Qwen3.5, dense and with experts.
var hybridShapes = slices.Concat(
	sized(qwen35Shape,
		tinyHybrid,
		synthShape{size: "0.8b", hidden: 1024, layers: 24, heads: 8, kvHeads: 2, ffn: 3584, tied: true, mixer: hybridMixer{valueHeads: 16}},
		synthShape{size: "4b", hidden: 2560, layers: 32, heads: 16, kvHeads: 4, ffn: 9216, tied: true, mixer: hybridMixer{valueHeads: 32}},
		synthShape{size: "9b", hidden: 4096, layers: 32, heads: 16, kvHeads: 4, ffn: 12288, mixer: hybridMixer{valueHeads: 32}},
		synthShape{size: "27b", hidden: 5120, layers: 64, heads: 24, kvHeads: 4, ffn: 17408, mixer: hybridMixer{valueHeads: 48}},
	),
	sized(qwen35MoEShape,
		withExperts(tinyHybrid, synthExperts{count: 8, chosen: 2, ffn: 256, sharedFFN: 256}),
		synthShape{
			size: "35b-a3b", hidden: 2048, layers: 40, heads: 16, kvHeads: 2, mixer: hybridMixer{valueHeads: 32},
			experts: synthExperts{count: 256, chosen: 8, ffn: 512, sharedFFN: 512},
		},
		synthShape{
			size: "397b-a17b", hidden: 4096, layers: 60, heads: 32, kvHeads: 2, mixer: hybridMixer{valueHeads: 64},
			experts: synthExperts{count: 512, chosen: 10, ffn: 1024, sharedFFN: 1024},
		},
	),
	sized(qwen3NextShape,
		withExperts(tinyHybrid, synthExperts{count: 8, chosen: 2, ffn: 256, sharedFFN: 256}),
		synthShape{
			size: "80b-a3b", hidden: 2048, layers: 48, heads: 16, kvHeads: 2, mixer: hybridMixer{valueHeads: 32},
			experts: synthExperts{count: 512, chosen: 10, ffn: 512, sharedFFN: 512},
		},
	),
)

var tinyHybrid = synthShape{
	size: "tiny", hidden: 256, layers: 4, heads: 4, kvHeads: 2, headDim: 64, rotated: 16, ffn: 512,
	mixer: hybridMixer{keyHeads: 2, valueHeads: 4, dim: 64},
}

// hybridShape fills in what all but the tiny ones share: 16 key heads, heads of 128 in delta rules and of 256 in attention.
func hybridShape(s synthShape) synthShape {
	s.theta, s.eps, s.context, s.ffnNorm, s.predicts = 1e7, 1e-6, 262144, "post_attention_norm", true
	if s.size != "tiny" {
		s.headDim, s.rotated, s.vocab = 256, 64, 248320
		s.mixer = hybridMixer{keyHeads: 16, valueHeads: s.mixer.(hybridMixer).valueHeads, dim: 128}
	}
	return s
}

func qwen35Shape(s synthShape) synthShape {
	s = hybridShape(s)
	s.arch = "qwen35"
	return s
}

func qwen35MoEShape(s synthShape) synthShape {
	s = hybridShape(s)
	s.arch, s.family, s.experts.sharedGate = "qwen35moe", "qwen35", true
	return s
}

func qwen3NextShape(s synthShape) synthShape {
	s = hybridShape(s)
	s.arch, s.experts.sharedGate = "qwen3next", true
	mixer := s.mixer.(hybridMixer)
	mixer.fusedRates = true
	if s.mixer = mixer; s.size != "tiny" {
		s.vocab = 151936
	}
	return s
}
