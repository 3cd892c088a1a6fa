package model

import (
	"hearth/engine/weights"
	"hearth/hardware"
)

// Llama 2 and 3 (arXiv 2302.13971, 2407.21783), TinyLlama, and the distills of other models into them.
//
// Converters to GGUF permute the rows of q and k so that the rotated pairs lie side by side; Hugging Face's own files
// keep the halves apart.
var _ = register(Arch{
	Names: []string{"llama"},
	Load: func(l *Loader) Forwarder {
		pairing := hardware.Interleaved
		if l.Origin() == weights.HuggingFace {
			pairing = hardware.HalfSplit
		}
		rope := l.Rope(l.Config.Rope, pairing)
		return newTransformer(l, skeleton{}, func(i int) (mixer, ffn block) {
			attn := newAttention(l, i, attentionOptions{Rope: rope})
			dense := newMLP(l, i, mlpOptions{})
			return &attn, &dense
		})
	},
})
