package model

import "hearth/hardware"

// DeepSeek-V3.2 (arXiv 2512.02556): V3 whose attention reads the positions that an indexer chooses. The indexer rotates
// half-split pairs, unlike attention.
var _ = register(Arch{
	Names: []string{"deepseek32"},
	Load: func(l *Loader) Forwarder {
		return newDeepSeek(l, mlaOptions{
			Rope:  l.deepSeekRope(hardware.Interleaved),
			Index: &indexerOptions{Rope: l.deepSeekRope(hardware.HalfSplit)},
		})
	},
})
