package model

import "hearth/hardware"

// unitIndexer chooses units of neighbouring positions to attend to (MiniMax-M3): for each group of heads one index query,
// whose best product with an index key of a unit is the unit's score. The latest units are always chosen.
type unitIndexer struct {
	numHeads          int
	unit, local, topK int // positions of a unit; units always chosen; units chosen in all
	eps               float32

	q            hardware.Weight // [numHeads * headDim, hidden]
	k            hardware.Weight // [headDim, hidden]
	qNorm, kNorm hardware.Weight // [headDim]
	rope         hardware.Rope
	keys         hardware.Stream // [headDim] per position
}

// newUnitIndexer declares the indexer of one layer.
func newUnitIndexer(l *Loader, layer int, rope hardware.Rope) *unitIndexer {
	c, k, prefix := readIndexer(l), l.keys, blockPrefix(layer)+"indexer."
	b := &unitIndexer{
		numHeads: c.numHeads, topK: c.topK, eps: l.Config.RMSNormEps, rope: rope,
		unit:  k.count("attention.indexer.block_size", 0, MaxContext),
		local: k.optionalCount("attention.indexer.local_blocks", 0, MaxContext),
	}
	if b.local > b.topK {
		k.wrong("attention.indexer.local_blocks", "is %d, of %d that are chosen in all", b.local, b.topK)
	}
	if c.numHeads > 0 && l.Config.NumKVHeads%c.numHeads != 0 {
		k.wrong("attention.indexer.head_count", "is %d, for %d key heads", c.numHeads, l.Config.NumKVHeads)
	}
	if l.err != nil {
		return b
	}
	b.q = l.Matrix(prefix+"q_proj", c.numHeads*c.headDim, l.Config.HiddenSize)
	b.k = l.Matrix(prefix+"k_proj", c.headDim, l.Config.HiddenSize)
	b.qNorm = l.Vector(prefix+"q_norm.weight", c.headDim)
	b.kNorm = l.Vector(prefix+"k_norm.weight", c.headDim)
	b.keys = l.program.Stream(hardware.StreamInfo{Name: prefix + "k", Layer: layer, Heads: 1, Dim: c.headDim, Class: hardware.IndexStream})
	return b
}

// choose records the choice of units for h.
func (b *unitIndexer) choose(p *hardware.Program, h hardware.Tensor) hardware.Selection {
	q, k := p.MatMul(h, b.q), p.MatMul(h, b.k)
	q = p.RoPE(p.Norm(q.Heads(b.numHeads), b.qNorm, b.eps), b.rope)
	p.Store(b.keys, p.RoPE(p.Norm(k, b.kNorm, b.eps), b.rope))
	return p.Select(hardware.SelectArgs{Q: q, Index: b.keys, Reduce: hardware.MaxOfUnit, Unit: b.unit, Local: b.local, TopK: b.topK})
}
