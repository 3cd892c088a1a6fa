package model

import (
	"math"

	"hearth/hardware"
)

// attention is grouped-query attention (arXiv 2305.13245) with rotary positions.
type attention struct {
	numHeads, numKVHeads, headDim int
	isGated                       bool
	eps                           float32

	qkv          hardware.Weight // [(numHeads + 2*numKVHeads) * headDim, hidden], in place of q, k and v in fused files
	q            hardware.Weight // [numHeads * headDim, hidden]; gated: [numHeads * 2 * headDim, hidden], query | gate of each head
	k, v         hardware.Weight // [numKVHeads * headDim, hidden]
	o            hardware.Weight // [hidden, numHeads * headDim]
	qNorm, kNorm hardware.Weight // [headDim], or across heads [numHeads * headDim] and [numKVHeads * headDim]; absent without QKNorm
	acrossHeads  bool
	index        *unitIndexer // nil: all positions are attended to
	rope         hardware.Rope
	keys, values hardware.Stream // [numKVHeads, headDim] per position
}

// attentionOptions are what families differ in.
type attentionOptions struct {
	QKNorm bool // normalise each head of q and k before the rotation (Qwen3)
	Gate   bool // multiply each head's result by sigmoid of a gate, which the query's projection gives too (Qwen3-Next)
	Rope   hardware.Rope
	// AcrossHeads says that QKNorm is over all heads together (MiniMax-M2).
	AcrossHeads bool
	Units       bool // attend to the units of positions that an indexer chooses (MiniMax-M3)
}

// newAttention declares the attention of one layer. Biases are taken where the file has them (Qwen2).
func newAttention(l *Loader, layer int, opts attentionOptions) attention {
	c := l.Config
	if c.ValueHeadDim != c.HeadDim {
		l.keys.wrong("attention.value_length", "is %d, but key_length is %d", c.ValueHeadDim, c.HeadDim)
	}
	b := attention{
		numHeads: c.NumHeads, numKVHeads: c.NumKVHeads, headDim: c.HeadDim, isGated: opts.Gate, acrossHeads: opts.AcrossHeads,
		eps: c.RMSNormEps, rope: opts.Rope,
	}
	prefix := blockPrefix(layer)
	queries, groups := c.NumHeads*c.HeadDim, c.NumKVHeads*c.HeadDim
	if opts.Gate {
		b.q = l.Matrix(prefix+"attn_q", 2*queries, c.HiddenSize)
	} else if l.Has(prefix + "attn_qkv.weight") {
		b.qkv = l.Matrix(prefix+"attn_qkv", queries+2*groups, c.HiddenSize)
	} else {
		b.q = l.Matrix(prefix+"attn_q", queries, c.HiddenSize)
	}
	if !b.qkv.Valid() {
		b.k = l.Matrix(prefix+"attn_k", groups, c.HiddenSize)
		b.v = l.Matrix(prefix+"attn_v", groups, c.HiddenSize)
	}
	b.o = l.Matrix(prefix+"attn_output", c.HiddenSize, queries)
	if opts.QKNorm {
		perQueries, perGroups := c.HeadDim, c.HeadDim
		if opts.AcrossHeads {
			perQueries, perGroups = queries, groups
		}
		b.qNorm = l.Vector(prefix+"attn_q_norm.weight", perQueries)
		b.kNorm = l.Vector(prefix+"attn_k_norm.weight", perGroups)
	}
	b.keys = l.program.Stream(hardware.StreamInfo{Name: prefix + "k", Layer: layer, Heads: c.NumKVHeads, Dim: c.HeadDim, Class: hardware.KeyStream})
	b.values = l.program.Stream(hardware.StreamInfo{Name: prefix + "v", Layer: layer, Heads: c.NumKVHeads, Dim: c.HeadDim, Class: hardware.ValueStream})
	if opts.Units {
		b.index = newUnitIndexer(l, layer, opts.Rope)
	}
	return b
}

// mix records x += Wo * attention(h).
func (b *attention) mix(p *hardware.Program, x, h hardware.Tensor) {
	q, k, v := b.project(p, h)
	if b.acrossHeads {
		q = p.Norm(q, b.qNorm, b.eps)
		k = p.Norm(k, b.kNorm, b.eps)
	}
	q, k, v = q.Heads(b.numHeads), k.Heads(b.numKVHeads), v.Heads(b.numKVHeads)
	var gate hardware.Tensor
	if b.isGated {
		q, gate = q.HeadCols(0, b.headDim), q.HeadCols(b.headDim, b.headDim)
	}
	if b.qNorm.Valid() && !b.acrossHeads {
		q = p.Norm(q, b.qNorm, b.eps)
		k = p.Norm(k, b.kNorm, b.eps)
	}
	q = p.RoPE(q, b.rope)
	k = p.RoPE(k, b.rope)
	p.Store(b.keys, k)
	p.Store(b.values, v)
	all := hardware.Source{K: b.keys, V: b.values}
	if b.index != nil {
		all.Selection = b.index.choose(p, h)
	}
	o := p.Attend(hardware.AttentionArgs{Q: q, Sources: []hardware.Source{all}, Scale: attentionScale(b.headDim)})
	if b.isGated {
		o = p.GLU(hardware.Sigmoid, gate, o)
	}
	p.MatMulAdd(x, o, b.o)
}

// project returns the flat rows q [numHeads*headDim], twice as wide with a gate, k and v [numKVHeads*headDim].
func (b *attention) project(p *hardware.Program, h hardware.Tensor) (q, k, v hardware.Tensor) {
	if !b.qkv.Valid() {
		return p.MatMul(h, b.q), p.MatMul(h, b.k), p.MatMul(h, b.v)
	}
	queries, groups := b.numHeads*b.headDim, b.numKVHeads*b.headDim
	all := p.MatMul(h, b.qkv)
	return all.Cols(0, queries), all.Cols(queries, groups), all.Cols(queries+groups, groups)
}

// attentionScale is the factor of the products of queries and keys (arXiv 1706.03762 §3.2.1).
func attentionScale(headDim int) float32 { return float32(1 / math.Sqrt(float64(headDim))) }
