package model

import "hearth/hardware"

// transformer is the pre-norm residual skeleton of every family here: embedding, layers of a mixer and a feed-forward
// network, final norm and head.
type transformer struct {
	eps        float32
	tokenEmbd  hardware.Weight // [vocab, hidden]
	outputNorm hardware.Weight // [hidden]
	output     hardware.Weight // [vocab, hidden], the embedding itself where they are tied
	layers     []layer
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

// newTransformer declares the weights of the skeleton; the halves of each layer come from the architecture.
func newTransformer(l *Loader, halves func(layer int) (mixer, ffn block)) *transformer {
	c := l.Config
	m := &transformer{
		eps:        c.RMSNormEps,
		tokenEmbd:  l.Matrix("token_embd", c.VocabSize, c.HiddenSize),
		outputNorm: l.Vector("output_norm.weight", c.HiddenSize),
	}
	m.output = m.tokenEmbd
	if l.Has("output.weight") || !c.TieWordEmbeddings {
		m.output = l.Matrix("output", c.VocabSize, c.HiddenSize)
	}
	for i := range c.NumLayers {
		if l.err != nil { // a hostile layer count ends at the first missing tensor
			break
		}
		mixer, ffn := halves(i)
		m.layers = append(m.layers, layer{
			mixerNorm: l.Vector(blockPrefix(i)+"attn_norm.weight", c.HiddenSize),
			mixer:     mixer,
			ffnNorm:   l.Vector(blockPrefix(i)+"ffn_norm.weight", c.HiddenSize),
			ffn:       ffn,
		})
	}
	return m
}

// Forward records the pass. Only the rows whose logits were asked for reach the final norm and the head.
func (m *transformer) Forward(p *hardware.Program) hardware.Tensor {
	x := p.Embed(m.tokenEmbd) // [tokens, hidden], the residual stream
	for i, l := range m.layers {
		p.Mixer(i)
		l.mixer.mix(p, x, p.Norm(x, l.mixerNorm, m.eps))
		p.FFN(i)
		l.ffn.mix(p, x, p.Norm(x, l.ffnNorm, m.eps))
	}
	p.Tail()
	return p.MatMul(p.Norm(p.Gather(x), m.outputNorm, m.eps), m.output)
}
