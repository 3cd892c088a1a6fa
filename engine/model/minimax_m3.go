package model

import "hearth/hardware"

// MiniMax-M3 (ggml-org/llama.cpp, src/models/minimax-m3.cpp): queries and keys normalised head by head, a few dense layers,
// then layers that attend to the units of positions that an indexer chooses, with a shared expert beside those chosen. All
// feed-forward networks have the clipped unit of gpt-oss (openai/gpt-oss, torch/model.py).
var _ = register(Arch{
	Names:    []string{"minimax-m3"},
	Defaults: Defaults{ScoringFunc: hardware.ScoreSigmoid, NormTopKProb: true},
	Load: func(l *Loader) Forwarder {
		if !l.needExperts() {
			return nil
		}
		const limit = 7
		c := l.Config
		if c.FFNSize == 0 && c.FirstKDenseReplace > 0 {
			l.keys.wrong("feed_forward_length", "is missing or 0, with %d dense layers", c.FirstKDenseReplace)
		}
		rope := l.Rope(c.Rope, hardware.HalfSplit)
		return newTransformer(l, skeleton{}, func(i int) (mixer, ffn block) {
			isSparse := i >= c.FirstKDenseReplace
			attn := newAttention(l, i, attentionOptions{QKNorm: true, Rope: rope, Units: isSparse})
			if !isSparse {
				dense := newMLP(l, i, mlpOptions{Act: hardware.OAI, Limit: limit})
				return &attn, &dense
			}
			sparse := newMoE(l, i, moeOptions{Act: hardware.OAI, Limit: limit, SharedLimit: limit})
			return &attn, &sparse
		})
	},
})
