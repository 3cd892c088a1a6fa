package main

import "slices"

// groupedAttention is grouped-query attention with a cache of keys and values, as the series Llama, Qwen2, Qwen3 and
// MiniMax have it.
type groupedAttention struct {
	biases   bool
	headNorm bool // a norm for each head of queries and keys
	rowNorm  bool // a norm for all heads together

	indexHeads, indexDim, indexTopK, indexBlock, localBlocks int // of an index of blocks behind the dense layers; 0: none
}

func (g groupedAttention) keys(s *synthShape, set func(name string, value any)) {
	if g.indexHeads > 0 {
		set("attention.indexer.head_count", uint32(g.indexHeads))
		set("attention.indexer.key_length", uint32(g.indexDim))
		set("attention.indexer.top_k", uint32(g.indexTopK))
		set("attention.indexer.block_size", uint32(g.indexBlock))
		set("attention.indexer.local_blocks", uint32(g.localBlocks))
	}
}

func (g groupedAttention) layer(s *synthShape, i int, add func(name string, shape ...int)) {
	queries, groups := s.heads*s.headDim, s.kvHeads*s.headDim
	add("attn_q.weight", queries, s.hidden)
	add("attn_k.weight", groups, s.hidden)
	add("attn_v.weight", groups, s.hidden)
	if g.biases {
		add("attn_q.bias", queries)
		add("attn_k.bias", groups)
		add("attn_v.bias", groups)
	}
	switch {
	case g.headNorm:
		add("attn_q_norm.weight", s.headDim)
		add("attn_k_norm.weight", s.headDim)
	case g.rowNorm:
		add("attn_q_norm.weight", queries)
		add("attn_k_norm.weight", groups)
	}
	add("attn_output.weight", s.hidden, queries)
	if g.indexHeads > 0 && i >= s.experts.dense {
		add("indexer.q_proj.weight", g.indexHeads*g.indexDim, s.hidden)
		add("indexer.k_proj.weight", g.indexDim, s.hidden)
		add("indexer.q_norm.weight", g.indexDim)
		add("indexer.k_norm.weight", g.indexDim)
	}
}

func (g groupedAttention) outer(s *synthShape, add func(name string, shape ...int)) {
	if s.llama3Factor > 0 {
		add(ropeFactorsName, s.headDim/2)
	}
}

// groupedShapes are Llama 3.1 and 3.2, Qwen2.5, Qwen1.5-MoE and Qwen2-MoE, Qwen3, MiniMax-M2, and a tiny MiniMax-M3, whose
// sizes are not published.
var groupedShapes = slices.Concat(
	sized(llamaShape,
		tinyShape,
		synthShape{size: "1b", hidden: 2048, layers: 16, heads: 32, kvHeads: 8, headDim: 64, ffn: 8192, vocab: 128256, tied: true, llama3Factor: 32},
		synthShape{size: "3b", hidden: 3072, layers: 28, heads: 24, kvHeads: 8, headDim: 128, ffn: 8192, vocab: 128256, tied: true, llama3Factor: 32},
		synthShape{size: "8b", hidden: 4096, layers: 32, heads: 32, kvHeads: 8, headDim: 128, ffn: 14336, vocab: 128256, llama3Factor: 8},
	),
	sized(qwen2Shape,
		tinyShape,
		synthShape{size: "0.5b", hidden: 896, layers: 24, heads: 14, kvHeads: 2, headDim: 64, ffn: 4864, vocab: 151936, tied: true},
		synthShape{size: "1.5b", hidden: 1536, layers: 28, heads: 12, kvHeads: 2, headDim: 128, ffn: 8960, vocab: 151936, tied: true},
		synthShape{size: "3b", hidden: 2048, layers: 36, heads: 16, kvHeads: 2, headDim: 128, ffn: 11008, vocab: 151936, tied: true},
		synthShape{size: "7b", hidden: 3584, layers: 28, heads: 28, kvHeads: 4, headDim: 128, ffn: 18944, vocab: 152064},
	),
	sized(qwen2MoEShape,
		withExperts(tinyShape, synthExperts{count: 8, chosen: 2, ffn: 256, sharedFFN: 256}),
		synthShape{
			size: "14b-a2.7b", hidden: 2048, layers: 24, heads: 16, kvHeads: 16, headDim: 128, ffn: 5632, vocab: 151936, context: 8192,
			experts: synthExperts{count: 60, chosen: 4, ffn: 1408, sharedFFN: 5632},
		},
		synthShape{
			size: "57b-a14b", hidden: 3584, layers: 28, heads: 28, kvHeads: 4, headDim: 128, ffn: 18944, vocab: 151936, context: 32768,
			experts: synthExperts{count: 64, chosen: 8, ffn: 2560, sharedFFN: 20480},
		},
	),
	sized(qwen3Shape,
		tinyShape,
		synthShape{size: "0.6b", hidden: 1024, layers: 28, heads: 16, kvHeads: 8, headDim: 128, ffn: 3072, vocab: 151936, tied: true},
		synthShape{size: "1.7b", hidden: 2048, layers: 28, heads: 16, kvHeads: 8, headDim: 128, ffn: 6144, vocab: 151936, tied: true},
		synthShape{size: "4b", hidden: 2560, layers: 36, heads: 32, kvHeads: 8, headDim: 128, ffn: 9728, vocab: 151936, tied: true},
		synthShape{size: "8b", hidden: 4096, layers: 36, heads: 32, kvHeads: 8, headDim: 128, ffn: 12288, vocab: 151936},
		synthShape{size: "14b", hidden: 5120, layers: 40, heads: 40, kvHeads: 8, headDim: 128, ffn: 17408, vocab: 151936},
		synthShape{size: "32b", hidden: 5120, layers: 64, heads: 64, kvHeads: 8, headDim: 128, ffn: 25600, vocab: 151936},
	),
	sized(qwen3MoEShape,
		withExperts(tinyShape, synthExperts{count: 8, chosen: 2, ffn: 256}),
		synthShape{
			size: "30b-a3b", hidden: 2048, layers: 48, heads: 32, kvHeads: 4, headDim: 128, ffn: 6144, vocab: 151936,
			experts: synthExperts{count: 128, chosen: 8, ffn: 768},
		},
		synthShape{
			size: "235b-a22b", hidden: 4096, layers: 94, heads: 64, kvHeads: 4, headDim: 128, ffn: 12288, vocab: 151936,
			experts: synthExperts{count: 128, chosen: 8, ffn: 1536},
		},
	),
	sized(miniMaxM2Shape,
		withExperts(tinyShape, synthExperts{count: 8, chosen: 2, ffn: 256, scoring: sigmoidScoring, bias: true}),
		synthShape{
			size: "m2", hidden: 3072, layers: 62, heads: 48, kvHeads: 8, headDim: 128, rotated: 64, ffn: 1536, vocab: 200064,
			experts: synthExperts{count: 256, chosen: 8, ffn: 1536, scoring: sigmoidScoring, bias: true},
		},
	),
	sized(miniMaxM3Shape, withExperts(tinyShape, synthExperts{
		count: 8, chosen: 2, ffn: 256, shared: 1, sharedFFN: 256, dense: 1, scoring: sigmoidScoring, bias: true, scale: 2,
	})),
)

// tinyShape is small enough for tests, and large enough for blocks of 256.
var tinyShape = synthShape{size: "tiny", hidden: 256, layers: 4, heads: 8, kvHeads: 2, headDim: 32, ffn: 512, tied: true}

func withExperts(s synthShape, e synthExperts) synthShape {
	s.experts = e
	return s
}

// llamaShape and the like fill in what the sizes of an architecture share.
func llamaShape(s synthShape) synthShape {
	s.arch, s.theta, s.eps, s.context, s.mixer = "llama", 500000, 1e-5, 131072, groupedAttention{}
	return s
}

func qwen2Shape(s synthShape) synthShape {
	s.arch, s.theta, s.eps, s.context, s.mixer = "qwen2", 1e6, 1e-6, 32768, groupedAttention{biases: true}
	return s
}

func qwen2MoEShape(s synthShape) synthShape {
	s.arch, s.family, s.theta, s.eps, s.mixer = "qwen2moe", "qwen2", 1e6, 1e-6, groupedAttention{biases: true}
	s.experts.sharedGate, s.experts.unnormalized = true, true
	s.context = max(s.context, 8192)
	return s
}

func qwen3Shape(s synthShape) synthShape {
	s.arch, s.theta, s.eps, s.context, s.mixer = "qwen3", 1e6, 1e-6, 40960, groupedAttention{headNorm: true}
	return s
}

func qwen3MoEShape(s synthShape) synthShape {
	s = qwen3Shape(s)
	s.arch, s.family = "qwen3moe", "qwen3"
	return s
}

func miniMaxM2Shape(s synthShape) synthShape {
	s.arch, s.family, s.theta, s.eps, s.context, s.mixer = "minimax-m2", "minimax", 5e6, 1e-6, 196608, groupedAttention{rowNorm: true}
	return s
}

func miniMaxM3Shape(s synthShape) synthShape {
	s.arch, s.family, s.theta, s.eps, s.context = "minimax-m3", "minimax", 5e6, 1e-6, 196608
	s.mixer = groupedAttention{headNorm: true, indexHeads: s.kvHeads, indexDim: 64, indexTopK: 4, indexBlock: 16, localBlocks: 1}
	return s
}
