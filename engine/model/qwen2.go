package model

import "hearth/hardware"

// Qwen2 and Qwen2.5 (arXiv 2407.10671, 2412.15115): Llama with biases on q, k and v, which attention takes from the
// file, and rotation of half-split pairs.
var _ = register(Arch{
	Names: []string{"qwen2"},
	Load: func(l *Loader) Forwarder {
		rope := l.Rope(l.Config.Rope, hardware.HalfSplit)
		return newTransformer(l, skeleton{}, func(i int) (mixer, ffn block) {
			attn := newAttention(l, i, attentionOptions{Rope: rope})
			dense := newMLP(l, i, mlpOptions{})
			return &attn, &dense
		})
	},
})
