package model

import (
	"math"

	"hearth/hardware"
)

// mla is multi-head latent attention (DeepSeek-V2, arXiv 2405.04434 §2.1) in its absorbed form: keys and values of all heads
// come from one latent vector c of a position, so that queries are turned into the latent's space instead, and the cache
// holds the latent and one rotated key [c | kp] alone. Head h of a query is [qn | qp] with
//
//	q_h·k_h = (kB_h qn_h)·c + qp_h·kp,   value_h = vB_h c
type mla struct {
	numHeads   int
	nope, rope int // elements of a query head that are not rotated, and that are
	lora       int // elements of c
	eps, scale float32

	qA, qANorm   hardware.Weight // [qLora, hidden], [qLora]; absent where queries have no low rank
	q            hardware.Weight // [numHeads * (nope + rope), qLora or hidden]
	kvA, kvANorm hardware.Weight // [lora + rope, hidden], [lora]
	kB           hardware.Weight // [numHeads, lora, nope]
	vB           hardware.Weight // [numHeads, valueDim, lora]
	o            hardware.Weight // [hidden, numHeads * valueDim]
	table        hardware.Rope
	latent       hardware.Stream // [lora + rope] per position
	index        *indexer        // chooses the positions to attend to; nil: all
}

// mlaOptions are what families differ in.
type mlaOptions struct {
	Rope  hardware.Rope
	Index *indexerOptions // nil: attend to all positions
}

// mlaConfig holds the hyperparameters of latent attention.
type mlaConfig struct {
	qLora, lora  int // ranks of queries, 0: full, and of keys and values
	nope, rope   int
	valueHeadDim int
}

// readMLA reads the hyperparameters. The keys of a head's own sizes are missing in older files, whose key_length and
// value_length have them, and give the latent's otherwise.
func readMLA(l *Loader) mlaConfig {
	k := l.keys
	c := mlaConfig{
		qLora:        k.optionalCount("attention.q_lora_rank", 0, maxWidth),
		lora:         k.count("attention.kv_lora_rank", 0, maxWidth),
		rope:         l.Config.Rope.Dim,
		valueHeadDim: k.count("attention.value_length_mla", l.Config.ValueHeadDim, maxWidth),
	}
	key := k.count("attention.key_length_mla", l.Config.HeadDim, maxWidth)
	if c.nope = key - c.rope; c.nope <= 0 {
		k.wrong("rope.dimension_count", "is %d, which leaves nothing of heads of %d", c.rope, key)
		c.nope = 1
	}
	if (c.lora+key+c.valueHeadDim)*l.Config.NumHeads > maxWidth {
		k.wrong("attention.kv_lora_rank", "is %d, with %d heads too wide", c.lora, l.Config.NumHeads)
	}
	return c
}

// newMLA declares the attention of one layer.
func newMLA(l *Loader, layer int, opts mlaOptions) mla {
	c, heads, hidden, prefix := readMLA(l), l.Config.NumHeads, l.Config.HiddenSize, blockPrefix(layer)
	b := mla{
		numHeads: heads, nope: c.nope, rope: c.rope, lora: c.lora, eps: l.Config.RMSNormEps,
		scale: float32(l.Config.Rope.Scaling.AttentionFactor() / math.Sqrt(float64(c.nope+c.rope))),
		table: opts.Rope,
	}
	if l.err != nil {
		return b
	}
	if c.qLora > 0 {
		b.qA = l.Matrix(prefix+"attn_q_a", c.qLora, hidden)
		b.qANorm = l.Vector(prefix+"attn_q_a_norm.weight", c.qLora)
		b.q = l.Matrix(prefix+"attn_q_b", heads*(c.nope+c.rope), c.qLora)
	} else {
		b.q = l.Matrix(prefix+"attn_q", heads*(c.nope+c.rope), hidden)
	}
	b.kvA = l.Matrix(prefix+"attn_kv_a_mqa", c.lora+c.rope, hidden)
	b.kvANorm = l.Vector(prefix+"attn_kv_a_norm.weight", c.lora)
	if l.Has(prefix + "attn_k_b.weight") {
		b.kB = l.Stack(prefix+"attn_k_b", heads, c.lora, c.nope)
		b.vB = l.Stack(prefix+"attn_v_b", heads, c.valueHeadDim, c.lora)
	} else {
		b.kB, b.vB = l.splitKV(prefix+"attn_kv_b", c)
	}
	b.o = l.Matrix(prefix+"attn_output", hidden, heads*c.valueHeadDim)
	b.latent = l.program.Stream(hardware.StreamInfo{
		Name: prefix + "latent", Layer: layer, Heads: 1, Dim: c.lora + c.rope, Class: hardware.LatentStream,
	})
	if opts.Index != nil {
		index := newIndexer(l, layer, c.qLora, *opts.Index)
		b.index = &index
	}
	return b
}

// splitKV declares what older files keep as one matrix [heads * (nope + valueDim), lora]: the rows of keys, transposed, and
// those of values.
func (l *Loader) splitKV(name string, c mlaConfig) (kB, vB hardware.Weight) {
	whole, ok := l.stack(name, l.Config.NumHeads, c.nope+c.valueHeadDim, c.lora)
	if !ok {
		return kB, vB
	}
	return l.program.Weight(transposed(stackRows(whole, 0, c.nope))), l.program.Weight(stackRows(whole, c.nope, c.valueHeadDim))
}

// mix records x += Wo * attention(h).
func (b *mla) mix(p *hardware.Program, x, h hardware.Tensor) {
	low := h
	if b.qA.Valid() {
		low = p.Norm(p.MatMul(h, b.qA), b.qANorm, b.eps) // [tokens, qLora]
	}
	q := p.MatMul(low, b.q).Heads(b.numHeads) // [tokens, numHeads, nope | rope]
	kv := p.MatMul(h, b.kvA)                  // [tokens, c | kp]
	p.NormInto(kv.Cols(0, b.lora), kv.Cols(0, b.lora), b.kvANorm, b.eps)
	p.RoPEInto(kv.Cols(b.lora, b.rope), kv.Cols(b.lora, b.rope), b.table)
	p.Store(b.latent, kv)

	query := p.Temp(hardware.Tokens, b.numHeads, b.lora+b.rope)
	p.MatMulInto(query.HeadCols(0, b.lora), q.HeadCols(0, b.nope), b.kB)
	p.RoPEInto(query.HeadCols(b.lora, b.rope), q.HeadCols(b.nope, b.rope), b.table)
	source := hardware.Source{K: b.latent, V: b.latent, ValueDim: b.lora}
	if b.index != nil {
		source.Selection = b.index.choose(p, h, low)
	}
	o := p.Attend(hardware.AttentionArgs{Q: query, Sources: []hardware.Source{source}, Scale: b.scale})
	p.MatMulAdd(x, p.MatMul(o, b.vB), b.o)
}
