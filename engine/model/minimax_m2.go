package model

import "hearth/hardware"

// MiniMax-M2, M2.1 and M2.5 (Hugging Face, modeling_minimax_m2.py): queries and keys normalised over all heads together, a
// part of each head rotated, and experts in every layer that are chosen by sigmoid scores with a bias.
var _ = register(Arch{
	Names:    []string{"minimax-m2"},
	Defaults: Defaults{ScoringFunc: hardware.ScoreSigmoid, NormTopKProb: true},
	Load: func(l *Loader) Forwarder {
		if !l.needExperts() {
			return nil
		}
		rope := l.Rope(l.Config.Rope, hardware.HalfSplit)
		return newTransformer(l, skeleton{}, func(i int) (mixer, ffn block) {
			attn := newAttention(l, i, attentionOptions{QKNorm: true, AcrossHeads: true, Rope: rope})
			sparse := newMoE(l, i, moeOptions{})
			return &attn, &sparse
		})
	},
})
