package model

import "hearth/hardware"

// predictor guesses the token after next (multi-token prediction, arXiv 2412.19437 §2.2): from the trunk's hidden row h_t
// behind its final norm and the token t+1 it makes the input of one more layer, whose row predicts the token t+2.
//
//	x  = Weh [norm(embed(token t+1)) | norm(h_t)]
//	h' = norm(layer(x))
//
// To guess further, h' takes the place of h and the guess that of the token. The layer has keys and values of its own; what
// belongs to h_t and the token t+1 has the position t, so that it lies in the blocks of the tokens up to t.
type predictor struct {
	eps      float32
	embed    hardware.Weight // [vocab, hidden]
	ehProj   hardware.Weight // [hidden, 2 * hidden]
	eNorm    hardware.Weight // [hidden]
	hNorm    hardware.Weight // [hidden]
	layer    layer
	headNorm hardware.Weight // [hidden]
	head     hardware.Weight // [vocab, hidden]
}

// newPredictor declares the first predicting block behind a transformer's layers. The embedding and the head are those of
// the trunk where it has none of its own, and so is the norm.
func newPredictor(l *Loader, m *transformer, block layer) *predictor {
	c, prefix := l.Config, blockPrefix(l.Config.NumLayers)+"nextn."
	b := &predictor{
		eps: c.RMSNormEps, embed: m.tokenEmbd, layer: block, headNorm: m.outputNorm, head: m.output,
		ehProj: l.Matrix(prefix+"eh_proj", c.HiddenSize, 2*c.HiddenSize),
		eNorm:  l.Vector(prefix+"enorm.weight", c.HiddenSize),
		hNorm:  l.Vector(prefix+"hnorm.weight", c.HiddenSize),
	}
	if l.Has(prefix + "shared_head_norm.weight") {
		b.headNorm = l.Vector(prefix+"shared_head_norm.weight", c.HiddenSize)
	}
	if l.Has(prefix + "embed_tokens.weight") {
		b.embed = l.Matrix(prefix+"embed_tokens", c.VocabSize, c.HiddenSize)
	}
	if l.Has(prefix + "shared_head_head.weight") {
		b.head = l.Matrix(prefix+"shared_head_head", c.VocabSize, c.HiddenSize)
	}
	return b
}

// forward records the section "draft" and returns the logits of the rows whose outputs are asked for. The hidden rows, of
// the trunk or of this section's run before, are taken from the carried tensor by the batch's inputs, and replaced by h'.
func (b *predictor) forward(p *hardware.Program, layerIndex int, hidden hardware.Tensor) hardware.Tensor {
	n := hidden.Size()
	both := p.Temp(hardware.Tokens, 1, 2*n) // [embedding | hidden]
	p.NormInto(both.Cols(0, n), p.Embed(b.embed), b.eNorm, b.eps)
	p.NormInto(both.Cols(n, n), p.GatherInputs(hidden), b.hNorm, b.eps)
	x := p.MatMul(both, b.ehProj)
	b.layer.forward(p, layerIndex, x, b.eps)
	p.Tail()
	p.NormInto(hidden, x, b.headNorm, b.eps)
	return p.MatMul(p.Gather(hidden), b.head)
}
