package model

import "hearth/hardware"

// indexer is the lightning indexer of DeepSeek-V3.2 (arXiv 2512.02556 §2.1): a small attention without softmax that scores
// positions, of which the best are attended to.
type indexer struct {
	numHeads int
	topK     int
	rope     int // first elements of a head that are rotated
	scale    float32

	q           hardware.Weight // [numHeads * headDim, qLora]
	k           hardware.Weight // [headDim, hidden]
	kNorm, bias hardware.Weight // [headDim], of a layer norm
	proj        hardware.Weight // [numHeads, hidden], weights of the heads
	table       hardware.Rope
	keys        hardware.Stream // [headDim] per position
}

// indexerOptions are what families differ in.
type indexerOptions struct {
	Rope hardware.Rope
}

// indexerEps is the epsilon of the layer norm of index keys (deepseek-ai/DeepSeek-V3.2-Exp, inference/model.py).
const indexerEps = 1e-6

// indexConfig holds the hyperparameters of an indexer.
type indexConfig struct{ numHeads, headDim, topK int }

func readIndexer(l *Loader) indexConfig {
	k := l.keys
	c := indexConfig{
		numHeads: k.count("attention.indexer.head_count", 0, maxWidth),
		headDim:  k.count("attention.indexer.key_length", 0, maxWidth),
		topK:     k.count("attention.indexer.top_k", 0, MaxContext),
	}
	if c.numHeads*c.headDim > maxWidth {
		k.wrong("attention.indexer.head_count", "is %d, with heads of %d too wide", c.numHeads, c.headDim)
	}
	if l.Config.Rope.Dim > c.headDim {
		k.wrong("attention.indexer.key_length", "is %d, of which %d are rotated", c.headDim, l.Config.Rope.Dim)
	}
	return c
}

// scale is what the products of index queries and keys count with the weights of numHeads heads.
func (c indexConfig) scale() float32 { return attentionScale(c.numHeads * c.headDim) }

// newIndexer declares the indexer of one layer, whose queries come from the low-rank ones of attention.
func newIndexer(l *Loader, layer, qLora int, opts indexerOptions) indexer {
	c, prefix := readIndexer(l), blockPrefix(layer)+"indexer."
	b := indexer{numHeads: c.numHeads, topK: c.topK, rope: l.Config.Rope.Dim, table: opts.Rope}
	if l.err != nil {
		return b
	}
	b.scale = c.scale()
	b.q = l.Matrix(prefix+"attn_q_b", c.numHeads*c.headDim, qLora)
	b.k = l.Matrix(prefix+"attn_k", c.headDim, l.Config.HiddenSize)
	b.kNorm = l.Vector(prefix+"k_norm.weight", c.headDim)
	b.bias = l.Vector(prefix+"k_norm.bias", c.headDim)
	b.proj = l.Matrix(prefix+"proj", c.numHeads, l.Config.HiddenSize)
	b.keys = l.program.Stream(hardware.StreamInfo{Name: prefix + "k", Layer: layer, Heads: 1, Dim: c.headDim, Class: hardware.IndexStream})
	return b
}

// choose records the choice of positions for h, low being the low-rank queries of attention. The checkpoints' own code
// multiplies queries and keys with a Hadamard matrix before it rounds them; without rounding that changes nothing, since
// the matrix is orthogonal.
func (b *indexer) choose(p *hardware.Program, h, low hardware.Tensor) hardware.Selection {
	q := p.MatMul(low, b.q).Heads(b.numHeads)
	p.RoPEInto(q.HeadCols(0, b.rope), q.HeadCols(0, b.rope), b.table)
	k := p.Normalize(hardware.NormArgs{Norm: hardware.LayerNorm, X: p.MatMul(h, b.k), Weight: b.kNorm, Bias: b.bias, Eps: indexerEps})
	p.RoPEInto(k.Cols(0, b.rope), k.Cols(0, b.rope), b.table)
	p.Store(b.keys, k)
	return p.Select(hardware.SelectArgs{
		Q: q, Weights: p.MatMul(h, b.proj), Index: b.keys, Reduce: hardware.WeightedReLU, Scale: b.scale, TopK: b.topK,
	})
}
