package model

import "hearth/hardware"

// streamPredictor is the predictor of a model of several residual streams: it takes the streams X_t behind the trunk's last
// layer, before they are collapsed, and the token t+1.
//
//	X  = Weh [norm(embed(token t+1)) | norm(X_t)], for each stream
//	X' = layer(X)
//
// To guess further, X' takes the place of X_t. What predicts the token t+2 is X' collapsed and normed.
type streamPredictor struct {
	eps      float32
	embed    hardware.Weight // [vocab, hidden]
	ehProj   hardware.Weight // [hidden, 2 * hidden]
	eNorm    hardware.Weight // [hidden]
	hNorm    hardware.Weight // [hidden]
	layer    deepSeek4Layer
	headMix  hyperMix        // collapses the streams
	headNorm hardware.Weight // [hidden]
	head     hardware.Weight // [vocab, hidden]
}

// newStreamPredictor declares the first predicting block behind the layers of a model, whose embedding and head it shares.
func newStreamPredictor(l *Loader, m *deepSeek4, c hyperConfig, block deepSeek4Layer) *streamPredictor {
	prefix, hidden := blockPrefix(l.Config.NumLayers)+"nextn.", l.Config.HiddenSize
	return &streamPredictor{
		eps: m.eps, embed: m.tokenEmbd, layer: block, head: m.output,
		ehProj:   l.Matrix(prefix+"eh_proj", hidden, 2*hidden),
		eNorm:    l.Vector(prefix+"enorm.weight", hidden),
		hNorm:    l.Vector(prefix+"hnorm.weight", hidden),
		headMix:  newHyperMix(l, prefix+"hc_head", c, c.numStreams),
		headNorm: l.Vector(prefix+"shared_head_norm.weight", hidden),
	}
}

// forward records the section "draft" and returns the logits of the rows whose outputs are asked for. The streams, of the
// trunk or of this section's run before, are taken from the carried tensor by the batch's inputs, and replaced by X'.
func (b *streamPredictor) forward(p *hardware.Program, layerIndex int, streams hardware.Tensor) hardware.Tensor {
	numStreams, n := streams.NumHeads(), streams.Dim()
	both := p.Temp(hardware.Tokens, numStreams, 2*n) // [embedding | hidden] of each stream
	p.Copy(both.HeadCols(0, n), p.Norm(p.Embed(b.embed), b.eNorm, b.eps))
	p.NormInto(both.HeadCols(n, n), p.GatherInputs(streams), b.hNorm, b.eps)
	x := p.Temp(hardware.Tokens, numStreams, n)
	for i := range numStreams {
		p.MatMulInto(x.Cols(i*n, n), both.Cols(2*i*n, 2*n), b.ehProj)
	}
	b.layer.forward(p, layerIndex, x, b.eps)
	p.Tail()
	p.Copy(streams, x)
	last, _ := b.headMix.read(p, p.Gather(streams), b.eps)
	return p.MatMul(p.Norm(last, b.headNorm, b.eps), b.head)
}
