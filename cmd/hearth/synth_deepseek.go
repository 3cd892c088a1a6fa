package main

import "slices"

// latentAttention is the attention of DeepSeek-V2 and V3, with the indexer of V3.2 where there is one.
type latentAttention struct {
	qLora, lora       int // ranks; qLora 0: full
	nope, rope, value int // elements of a head that are not rotated, that are, and of its values
	logMultiplier     float32
	index             synthIndex
}

// synthIndex chooses positions or entries to attend to.
type synthIndex struct{ heads, dim, topK int }

func (x synthIndex) keys(set func(name string, value any)) {
	set("attention.indexer.head_count", uint32(x.heads))
	set("attention.indexer.key_length", uint32(x.dim))
	set("attention.indexer.top_k", uint32(x.topK))
}

func (m latentAttention) keys(s *synthShape, set func(name string, value any)) {
	if m.qLora > 0 {
		set("attention.q_lora_rank", uint32(m.qLora))
	}
	set("attention.kv_lora_rank", uint32(m.lora))
	set("attention.key_length", uint32(m.lora+m.rope))
	set("attention.value_length", uint32(m.lora))
	set("attention.key_length_mla", uint32(m.nope+m.rope))
	set("attention.value_length_mla", uint32(m.value))
	set("rope.dimension_count", uint32(m.rope))
	set("rope.scaling.type", "yarn")
	set("rope.scaling.factor", float32(40))
	set("rope.scaling.original_context_length", uint32(4096))
	set("rope.scaling.yarn_log_multiplier", m.logMultiplier)
	if m.index.heads > 0 {
		m.index.keys(set)
	}
}

func (m latentAttention) layer(s *synthShape, _ int, add func(name string, shape ...int)) {
	if m.qLora > 0 {
		add("attn_q_a.weight", m.qLora, s.hidden)
		add("attn_q_a_norm.weight", m.qLora)
		add("attn_q_b.weight", s.heads*(m.nope+m.rope), m.qLora)
	} else {
		add("attn_q.weight", s.heads*(m.nope+m.rope), s.hidden)
	}
	add("attn_kv_a_mqa.weight", m.lora+m.rope, s.hidden)
	add("attn_kv_a_norm.weight", m.lora)
	add("attn_k_b.weight", s.heads, m.lora, m.nope)
	add("attn_v_b.weight", s.heads, m.value, m.lora)
	add("attn_output.weight", s.hidden, s.heads*m.value)
	if m.index.heads > 0 {
		add("indexer.attn_q_b.weight", m.index.heads*m.index.dim, m.qLora)
		add("indexer.attn_k.weight", m.index.dim, s.hidden)
		add("indexer.k_norm.weight", m.index.dim)
		add("indexer.k_norm.bias", m.index.dim)
		add("indexer.proj.weight", m.index.heads, s.hidden)
	}
}

func (latentAttention) outer(*synthShape, func(name string, shape ...int)) {}

// compressedMixer is the attention of DeepSeek-V4, with its residual streams.
type compressedMixer struct {
	qLora, groups, oLora int
	window               int
	index                synthIndex
	streams              int
	ratios               func(layer int) int // positions to a compressed entry; 0: none
}

// sinkhornIterations is how often mixes of residual streams are normalised.
const sinkhornIterations = 20

func (m compressedMixer) keys(s *synthShape, set func(name string, value any)) {
	set("attention.q_lora_rank", uint32(m.qLora))
	set("attention.output_group_count", uint32(m.groups))
	set("attention.output_lora_rank", uint32(m.oLora))
	set("attention.sliding_window", uint32(m.window))
	set("attention.compress_rope_freq_base", float32(160000))
	ratios := make([]int32, s.layers)
	for i := range ratios {
		ratios[i] = int32(m.ratios(i))
	}
	set("attention.compress_ratios", ratios)
	m.index.keys(set)
	set("hyper_connection.count", uint32(m.streams))
	set("hyper_connection.sinkhorn_iterations", uint32(sinkhornIterations))
	set("hyper_connection.epsilon", float32(1e-6))
	set("rope.scaling.type", "yarn")
	set("rope.scaling.factor", float32(16))
	set("rope.scaling.original_context_length", uint32(65536))
}

func (m compressedMixer) layer(s *synthShape, i int, add func(name string, shape ...int)) {
	queries := s.heads * s.headDim
	add("attn_sinks.weight", s.heads)
	add("attn_q_a.weight", m.qLora, s.hidden)
	add("attn_q_a_norm.weight", m.qLora)
	add("attn_q_b.weight", queries, m.qLora)
	add("attn_kv.weight", s.headDim, s.hidden)
	add("attn_kv_a_norm.weight", s.headDim)
	add("attn_output_a.weight", m.groups*m.oLora, queries/m.groups)
	add("attn_output_b.weight", s.hidden, m.groups*m.oLora)
	for _, half := range []string{"hc_attn", "hc_ffn"} {
		m.mix(half, m.streams*(m.streams+2), 3, s, add)
	}
	if i >= s.layers { // a block that predicts attends to the latest positions alone
		m.mix("nextn.hc_head", m.streams, 1, s, add)
		return
	}
	switch ratio := m.ratios(i); ratio {
	case 0:
	case 4: // entries overlap, and are chosen
		m.compressor("attn_compressor", ratio, 2*s.headDim, s, add)
		m.compressor("indexer_compressor", ratio, 2*m.index.dim, s, add)
		add("indexer.proj.weight", m.index.heads, s.hidden)
		add("indexer.attn_q_b.weight", m.index.heads*m.index.dim, m.qLora)
	default:
		m.compressor("attn_compressor", ratio, s.headDim, s, add)
	}
}

// compressor adds the tensors of a compressor whose values have a width.
func (m compressedMixer) compressor(name string, ratio, width int, s *synthShape, add func(name string, shape ...int)) {
	dim := width
	if ratio == 4 {
		dim /= 2
	}
	add(name+"_kv.weight", width, s.hidden)
	add(name+"_gate.weight", width, s.hidden)
	add(name+"_ape.weight", ratio, width)
	add(name+"_norm.weight", dim)
}

// mix adds the tensors that mix residual streams.
func (m compressedMixer) mix(name string, columns, scales int, s *synthShape, add func(name string, shape ...int)) {
	add(name+"_fn.weight", columns, m.streams*s.hidden)
	add(name+"_base.weight", columns)
	add(name+"_scale.weight", scales)
}

func (m compressedMixer) outer(s *synthShape, add func(name string, shape ...int)) {
	m.mix("output_hc", m.streams, 1, s, add)
}

// deepSeekShapes are DeepSeek-V2, V3, V3.2 and V4.
var deepSeekShapes = slices.Concat(
	sized(deepSeek2Shape,
		tinyLatent,
		synthShape{
			size: "v2-lite", hidden: 2048, layers: 27, heads: 16, ffn: 10944, vocab: 102400,
			mixer:   latentAttention{lora: 512, nope: 128, rope: 64, value: 128, logMultiplier: 0.0707},
			experts: synthExperts{count: 64, chosen: 6, ffn: 1408, shared: 2, sharedFFN: 2816, dense: 1, scoring: softmaxScoring, unnormalized: true},
		},
		synthShape{
			size: "v2", hidden: 5120, layers: 60, heads: 128, ffn: 12288, vocab: 102400,
			mixer: latentAttention{qLora: 1536, lora: 512, nope: 128, rope: 64, value: 128, logMultiplier: 0.1},
			experts: synthExperts{
				count: 160, chosen: 6, ffn: 1536, shared: 2, sharedFFN: 3072, dense: 1, groups: 8, usedGroups: 3,
				scoring: softmaxScoring, unnormalized: true, scale: 16,
			},
		},
		synthShape{size: "v3", hidden: 7168, layers: 61, heads: 128, ffn: 18432, vocab: 129280, mixer: latentV3, experts: expertsV3, predicts: true},
	),
	sized(deepSeek32Shape,
		tinyLatent,
		synthShape{size: "v3.2", hidden: 7168, layers: 61, heads: 128, ffn: 18432, vocab: 129280, mixer: latentV3, experts: expertsV3, predicts: true},
	),
	sized(deepSeek4Shape,
		synthShape{
			size: "tiny", hidden: 256, layers: 4, heads: 4, headDim: 64, rotated: 32,
			mixer: compressedMixer{
				qLora: 256, groups: 2, oLora: 128, window: 16, index: synthIndex{4, 64, 8},
				ratios: func(layer int) int { return []int{0, 4, 128, 4}[layer] },
			},
			experts: synthExperts{count: 8, chosen: 2, ffn: 256, shared: 1, sharedFFN: 256, hash: 1, scale: 1.5},
		},
		synthShape{
			size: "v4-flash", hidden: 4096, layers: 43, heads: 64, headDim: 512, rotated: 64, vocab: 129280,
			mixer: compressedMixer{
				qLora: 1024, groups: 8, oLora: 1024, window: 128, index: synthIndex{64, 128, 512},
				ratios: func(layer int) int {
					if layer < 2 {
						return 0
					}
					return []int{4, 128}[layer%2]
				},
			},
			experts: synthExperts{count: 256, chosen: 6, ffn: 2048, shared: 1, sharedFFN: 2048, hash: 3, scale: 1.5},
		},
		synthShape{
			size: "v4-pro", hidden: 7168, layers: 61, heads: 128, headDim: 512, rotated: 64, vocab: 129280,
			mixer: compressedMixer{
				qLora: 1536, groups: 16, oLora: 1024, window: 128, index: synthIndex{64, 128, 1024},
				ratios: func(layer int) int {
					if layer == 0 {
						return 128
					}
					return []int{4, 128}[layer%2]
				},
			},
			experts: synthExperts{count: 384, chosen: 6, ffn: 3072, shared: 1, sharedFFN: 3072, hash: 3, scale: 2.5},
		},
	),
)

var latentV3 = latentAttention{qLora: 1536, lora: 512, nope: 128, rope: 64, value: 128, logMultiplier: 0.1}

var expertsV3 = synthExperts{
	count: 256, chosen: 8, ffn: 2048, shared: 1, sharedFFN: 2048, dense: 3, groups: 8, usedGroups: 4, scoring: sigmoidScoring, scale: 2.5, bias: true,
}

var tinyLatent = synthShape{
	size: "tiny", hidden: 256, layers: 4, heads: 4, ffn: 512, predicts: true,
	mixer: latentAttention{qLora: 256, lora: 256, nope: 64, rope: 32, value: 64, logMultiplier: 0.1},
	experts: synthExperts{
		count: 8, chosen: 2, ffn: 256, shared: 1, sharedFFN: 256, dense: 1, groups: 4, usedGroups: 2, scoring: sigmoidScoring, scale: 2.5, bias: true,
	},
}

func deepSeek2Shape(s synthShape) synthShape {
	s.arch, s.family, s.kvHeads, s.theta, s.eps, s.context = "deepseek2", "deepseek", 1, 10000, 1e-6, 163840
	return s
}

func deepSeek32Shape(s synthShape) synthShape {
	s = deepSeek2Shape(s)
	s.arch = "deepseek32"
	mixer := s.mixer.(latentAttention)
	if mixer.index = (synthIndex{64, 128, 2048}); s.size == "tiny" {
		mixer.index = synthIndex{4, 64, 32}
	}
	s.mixer = mixer
	return s
}

func deepSeek4Shape(s synthShape) synthShape {
	s.arch, s.family, s.kvHeads, s.theta, s.eps, s.context = "deepseek4", "deepseek", 1, 10000, 1e-6, 1048576
	s.predicts = true
	mixer := s.mixer.(compressedMixer)
	mixer.streams = 4
	s.mixer = mixer
	s.ffn = s.experts.ffn
	s.experts.scoring, s.experts.bias, s.experts.limit = rootScoring, true, 10
	return s
}
