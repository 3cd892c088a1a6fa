package model

import "hearth/hardware"

// transformer is the pre-norm residual skeleton of nearly every family here: embedding, layers of a mixer and a
// feed-forward network, final norm and head.
type transformer struct {
	eps        float32
	tokenEmbd  hardware.Weight // [vocab, hidden]
	outputNorm hardware.Weight // [hidden]
	output     hardware.Weight // [vocab, hidden], the embedding itself where they are tied
	layers     []layer
	predictor  *predictor // nil: none, or not wanted
}

// layer is one layer of a transformer.
type layer struct {
	mixerNorm hardware.Weight // [hidden]
	mixer     block
	ffnNorm   hardware.Weight // [hidden]
	ffn       block
}

// block is a half of a layer: it records x += block(h).
type block interface {
	mix(p *hardware.Program, x, h hardware.Tensor)
}

// skeleton is what families differ in outside the halves of their layers.
type skeleton struct {
	FFNNorm string // the tensor of the norm before the feed-forward half, "" for ffn_norm
}

// newTransformer declares the weights of the skeleton; the halves of each layer come from the architecture.
func newTransformer(l *Loader, s skeleton, halves func(layer int) (mixer, ffn block)) *transformer {
	c := l.Config
	m := &transformer{
		eps:        c.RMSNormEps,
		tokenEmbd:  l.Matrix("token_embd", c.VocabSize, c.HiddenSize),
		outputNorm: l.Vector("output_norm.weight", c.HiddenSize),
	}
	m.output = l.head(m.tokenEmbd)
	for i := range c.NumLayers {
		if l.err != nil { // a hostile layer count ends at the first missing tensor
			break
		}
		m.layers = append(m.layers, newLayer(l, s, i, halves))
	}
	if l.predictsFrom(c.NumLayers) {
		m.predictor = newPredictor(l, m, newLayer(l, s, c.NumLayers, halves))
	}
	return m
}

// newLayer declares one layer.
func newLayer(l *Loader, s skeleton, i int, halves func(layer int) (mixer, ffn block)) layer {
	ffnNorm := s.FFNNorm
	if ffnNorm == "" {
		ffnNorm = "ffn_norm"
	}
	mixer, ffn := halves(i)
	return layer{
		mixerNorm: l.Vector(blockPrefix(i)+"attn_norm.weight", l.Config.HiddenSize),
		mixer:     mixer,
		ffnNorm:   l.Vector(blockPrefix(i)+ffnNorm+".weight", l.Config.HiddenSize),
		ffn:       ffn,
	}
}

// head declares the matrix that gives logits: its own, or the embedding where they are tied.
func (l *Loader) head(tokenEmbd hardware.Weight) hardware.Weight {
	if l.Has("output.weight") || !l.Config.TieWordEmbeddings {
		return l.Matrix("output", l.Config.VocabSize, l.Config.HiddenSize)
	}
	return tokenEmbd
}

// Forward records the pass. Only the rows whose logits were asked for reach the final norm and the head.
func (m *transformer) Forward(p *hardware.Program) Trunk {
	x := p.Embed(m.tokenEmbd) // [tokens, hidden], the residual stream
	for i, l := range m.layers {
		l.forward(p, i, x, m.eps)
	}
	p.Tail()
	var trunk Trunk
	if m.predictor == nil {
		trunk.Hidden = p.Norm(p.Gather(x), m.outputNorm, m.eps)
	} else { // the predictor goes on from all rows
		all := p.Norm(x, m.outputNorm, m.eps) // [tokens, hidden]
		p.Carry(all)
		trunk.Hidden = p.Gather(all)
		trunk.Draft = func(p *hardware.Program) hardware.Tensor { return m.predictor.forward(p, len(m.layers), all) }
	}
	trunk.Logits = p.MatMul(trunk.Hidden, m.output)
	return trunk
}

// forward records one layer: both halves add to x.
func (l *layer) forward(p *hardware.Program, i int, x hardware.Tensor, eps float32) {
	p.Mixer(i)
	l.mixer.mix(p, x, p.Norm(x, l.mixerNorm, eps))
	p.FFN(i)
	l.ffn.mix(p, x, p.Norm(x, l.ffnNorm, eps))
}
