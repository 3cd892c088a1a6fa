package model

import "hearth/hardware"

// Qwen3 (arXiv 2505.09388), dense: no biases, each head of q and k normalised before the rotation.
var _ = register(Arch{
	Names: []string{"qwen3"},
	Load: func(l *Loader) Forwarder {
		rope := l.Rope(l.Config.Rope, hardware.HalfSplit)
		return newTransformer(l, skeleton{}, func(i int) (mixer, ffn block) {
			attn := newAttention(l, i, attentionOptions{QKNorm: true, Rope: rope})
			dense := newMLP(l, i, mlpOptions{})
			return &attn, &dense
		})
	},
})
