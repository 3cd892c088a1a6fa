package model

import "hearth/hardware"

// hyperConfig holds the hyperparameters of manifold-constrained hyper-connections (arXiv 2512.24880).
type hyperConfig struct {
	numStreams int
	iterations int // of the normalisation that makes mixes doubly stochastic
	eps        float32
}

// hyperMix reads the input of a block from several residual streams, and says how its result is written back.
type hyperMix struct {
	hyperConfig
	fn    hardware.Weight // [columns, numStreams * hidden]
	scale hardware.Weight // [3], or [1] for a collapse alone
	base  hardware.Weight // [columns]
}

// newHyperMix declares a mix of numStreams * (numStreams + 2) columns, or a collapse of numStreams.
func newHyperMix(l *Loader, name string, c hyperConfig, columns int) hyperMix {
	numScales := 3
	if columns == c.numStreams {
		numScales = 1
	}
	return hyperMix{
		hyperConfig: c,
		fn:          l.Matrix(name+"_fn", columns, c.numStreams*l.Config.HiddenSize),
		scale:       l.Vector(name+"_scale.weight", numScales),
		base:        l.Vector(name+"_base.weight", columns),
	}
}

// read records the input of a block, [rows, hidden], from the streams x [rows, numStreams, hidden], and the coefficients of
// writing the result back.
func (m *hyperMix) read(p *hardware.Program, x hardware.Tensor, eps float32) (h, coef hardware.Tensor) {
	flat := p.Normalize(hardware.NormArgs{X: x.Cols(0, x.Size()), Eps: eps})
	return p.HyperPre(hardware.HyperPreArgs{
		X: x, Mix: p.MatMul(flat, m.fn), Scale: m.scale, Base: m.base, Eps: m.eps, Iterations: m.iterations,
	})
}
