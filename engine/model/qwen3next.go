package model

import "hearth/hardware"

// Qwen3-Next and Qwen3-Coder-Next: Qwen3.5 with experts, whose value heads are in the order of their key heads.
var _ = register(Arch{
	Names:    []string{"qwen3next"},
	Defaults: Defaults{NormTopKProb: true},
	Load:     func(l *Loader) Forwarder { return newSparseHybrid(l, hardware.Grouped) },
})
