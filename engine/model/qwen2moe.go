package model

import "hearth/hardware"

// Qwen1.5-MoE and Qwen2-57B-A14B (arXiv 2407.10671 §2.2.2): Qwen2's attention, and in every layer experts whose softmax
// weights are not made to sum to one, with a shared expert behind a gate of its own.
var _ = register(Arch{
	Names: []string{"qwen2moe"},
	Load: func(l *Loader) Forwarder {
		if !l.needExperts() {
			return nil
		}
		rope := l.Rope(l.Config.Rope, hardware.HalfSplit)
		return newTransformer(l, skeleton{}, func(i int) (mixer, ffn block) {
			attn := newAttention(l, i, attentionOptions{Rope: rope})
			sparse := newMoE(l, i, moeOptions{})
			return &attn, &sparse
		})
	},
})
