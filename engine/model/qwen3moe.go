package model

import "hearth/hardware"

// Qwen3 with a mixture of experts in every layer (arXiv 2505.09388), and Qwen3-Coder: softmax over all experts, the
// chosen weights summing to one, no shared expert.
var _ = register(Arch{
	Names:    []string{"qwen3moe"},
	Defaults: Defaults{NormTopKProb: true},
	Load: func(l *Loader) Forwarder {
		if !l.needExperts() {
			return nil
		}
		rope := l.Rope(l.Config.Rope, hardware.HalfSplit)
		return newTransformer(l, skeleton{}, func(i int) (mixer, ffn block) {
			attn := newAttention(l, i, attentionOptions{QKNorm: true, Rope: rope})
			sparse := newMoE(l, i, moeOptions{})
			return &attn, &sparse
		})
	},
})
