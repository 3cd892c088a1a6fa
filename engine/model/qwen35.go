package model

import "hearth/hardware"

// Qwen3.5 and Qwen3.6: layers of gated delta rules, every fourth one of gated attention, with a dense feed-forward network
// or experts of which one is shared. Converters put the value heads in tiled order.
var _ = register(Arch{
	Names: []string{"qwen35"},
	Load: func(l *Loader) Forwarder {
		return newHybrid(l, hardware.Tiled, func(i int) block {
			dense := newMLP(l, i, mlpOptions{})
			return &dense
		})
	},
})

var _ = register(Arch{
	Names:    []string{"qwen35moe"},
	Defaults: Defaults{NormTopKProb: true},
	Load:     func(l *Loader) Forwarder { return newSparseHybrid(l, hardware.Tiled) },
})

// newSparseHybrid is newHybrid with experts in every layer.
func newSparseHybrid(l *Loader, heads hardware.HeadMap) Forwarder {
	if l.Config.NumExperts == 0 {
		l.keys.wrong("expert_count", "is missing or 0")
		return nil
	}
	return newHybrid(l, heads, func(i int) block {
		sparse := newMoE(l, i, moeOptions{})
		return &sparse
	})
}

// newHybrid declares a model of gated delta rules and gated attention.
func newHybrid(l *Loader, heads hardware.HeadMap, ffn func(layer int) block) Forwarder {
	delta, recurrent := readDeltaConfig(l.keys), recurrentLayers(l.keys, l.Config.NumLayers)
	rope := l.Rope(l.Config.Rope, hardware.HalfSplit)
	return newTransformer(l, skeleton{FFNNorm: "post_attention_norm"}, func(i int) (block, block) {
		if i < len(recurrent) && recurrent[i] { // the blocks behind the layers, which predict, have attention
			mixer := newDeltaNet(l, i, delta, heads)
			return &mixer, ffn(i)
		}
		attn := newAttention(l, i, attentionOptions{QKNorm: true, Gate: true, Rope: rope})
		return &attn, ffn(i)
	})
}

// recurrentLayers tells which layers have a state instead of keys and values: a file lists them, or gives the distance of
// the others.
func recurrentLayers(k *keys, layers int) []bool {
	recurrent := k.flags("attention.recurrent_layers", layers)
	if recurrent == nil {
		interval := k.count("full_attention_interval", 4, maxLayers)
		recurrent = make([]bool, layers)
		for i := range recurrent {
			recurrent[i] = interval > 0 && (i+1)%interval != 0
		}
	}
	return recurrent
}
