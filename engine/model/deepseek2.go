package model

import "hearth/hardware"

// DeepSeek-V2, V2-Lite and V2.5 (arXiv 2405.04434), V3, R1 and V3.1 (arXiv 2412.19437), and what is built like them, such
// as Kimi-K2 and GLM-4.7-Flash: latent attention, a few dense layers, then experts with shared ones beside them, which V2
// scores with softmax and V3 with sigmoid.
var _ = register(Arch{
	Names: []string{"deepseek2"},
	Load: func(l *Loader) Forwarder {
		return newDeepSeek(l, mlaOptions{Rope: l.deepSeekRope(hardware.Interleaved)})
	},
})

// newDeepSeek declares the layers of DeepSeek-V2 and V3.
func newDeepSeek(l *Loader, attention mlaOptions) *transformer {
	c := l.Config
	if c.FFNSize == 0 && c.FirstKDenseReplace > 0 {
		l.keys.wrong("feed_forward_length", "is missing or 0, with %d dense layers", c.FirstKDenseReplace)
	}
	return newTransformer(l, skeleton{}, func(i int) (mixer, ffn block) {
		attn := newMLA(l, i, attention)
		if i < c.FirstKDenseReplace || c.NumExperts == 0 {
			dense := newMLP(l, i, mlpOptions{})
			return &attn, &dense
		}
		sparse := newMoE(l, i, moeOptions{})
		return &attn, &sparse
	})
}

// deepSeekRope declares the rotation of DeepSeek, whose YaRN scales the logits of attention in place of cosine and sine.
func (l *Loader) deepSeekRope(pairing hardware.Pairing) hardware.Rope {
	rope := l.Config.Rope
	rope.Scaling.UnitMagnitude = true
	return l.Rope(rope, pairing)
}
