package model

import (
	"math"

	"hearth/engine/weights"
	"hearth/hardware"
)

// deltaNet is a gated delta rule behind a causal convolution (arXiv 2412.06464), as Qwen3-Next has it: a state of fixed
// size in place of keys and values.
type deltaNet struct {
	deltaConfig
	heads            hardware.HeadMap
	eps, unitEps     float32
	qkv              hardware.Weight // [convDim, hidden], rows q | k | v
	z                hardware.Weight // [values, hidden], the gate of the output
	qkvz             hardware.Weight // [convDim + values, hidden], rows q | k | v | z of each key head, in place of qkv and z
	a, b             hardware.Weight // [valueHeads, hidden], the decay and how much is written
	ba               hardware.Weight // [2 * valueHeads, hidden], rows b | a of each key head, in place of a and b
	conv             hardware.Weight // [convDim, kernel]
	decay, decayBias hardware.Weight // [valueHeads]
	norm             hardware.Weight // [valueDim]
	out              hardware.Weight // [hidden, values]
	ring             hardware.Ring   // rows of q | k | v before the convolution
	state            hardware.Delta
}

// deltaConfig holds the sizes of gated delta rules.
type deltaConfig struct {
	keyHeads, valueHeads, keyDim, valueDim int
	kernel                                 int // positions of the convolution
}

// maxKernel is far above any convolution's length.
const maxKernel = 1 << 8

// readDeltaConfig reads the keys of gated delta rules, whose names are those of state space models.
func readDeltaConfig(k *keys) deltaConfig {
	c := deltaConfig{
		keyHeads: k.count("ssm.group_count", 0, maxWidth), valueHeads: k.count("ssm.time_step_rank", 0, maxWidth),
		keyDim: k.count("ssm.state_size", 0, maxWidth), kernel: k.count("ssm.conv_kernel", 0, maxKernel),
	}
	inner := k.count("ssm.inner_size", 0, maxWidth)
	switch {
	case k.err != nil:
	case c.valueHeads%c.keyHeads != 0:
		k.wrong("ssm.time_step_rank", "is %d, not a multiple of group_count %d", c.valueHeads, c.keyHeads)
	case inner%c.valueHeads != 0:
		k.wrong("ssm.inner_size", "is %d, not a multiple of time_step_rank %d", inner, c.valueHeads)
	case c.keyHeads*c.keyDim > maxWidth:
		k.wrong("ssm.state_size", "is %d, with %d heads too wide", c.keyDim, c.keyHeads)
	case c.kernel < 2:
		k.wrong("ssm.conv_kernel", "is %d, want 2 or more", c.kernel)
	default:
		c.valueDim = inner / c.valueHeads
	}
	return c
}

func (c *deltaConfig) keys() int    { return c.keyHeads * c.keyDim }
func (c *deltaConfig) values() int  { return c.valueHeads * c.valueDim }
func (c *deltaConfig) convDim() int { return 2*c.keys() + c.values() }

// newDeltaNet declares the delta rule of one layer. Which key head a value head uses is the family's.
func newDeltaNet(l *Loader, layer int, c deltaConfig, heads hardware.HeadMap) deltaNet {
	prefix, hidden := blockPrefix(layer), l.Config.HiddenSize
	b := deltaNet{deltaConfig: c, heads: heads, eps: l.Config.RMSNormEps}
	// Files in the one form were converted for an implementation that divides by max(|x|, eps), those in the other for one
	// that divides by sqrt(|x|^2 + 1e-6).
	b.unitEps = b.eps * b.eps
	if l.Origin() == weights.HuggingFace {
		b.unitEps = 1e-6
	}
	if name := prefix + "ssm_in"; l.Has(name + ".weight") {
		b.qkvz = l.Matrix(name, c.convDim()+c.values(), hidden)
	} else {
		b.qkv = l.Matrix(prefix+"attn_qkv", c.convDim(), hidden)
		b.z = l.Matrix(prefix+"attn_gate", c.values(), hidden)
	}
	if name := prefix + "ssm_ba"; l.Has(name + ".weight") {
		b.ba = l.Matrix(name, 2*c.valueHeads, hidden)
	} else {
		b.a = l.Matrix(prefix+"ssm_alpha", c.valueHeads, hidden)
		b.b = l.Matrix(prefix+"ssm_beta", c.valueHeads, hidden)
	}
	b.conv = l.Matrix(prefix+"ssm_conv1d", c.convDim(), c.kernel)
	b.decay = l.Vector(prefix+"ssm_a", c.valueHeads)
	b.decayBias = l.Vector(prefix+"ssm_dt.bias", c.valueHeads)
	b.norm = l.Vector(prefix+"ssm_norm.weight", c.valueDim)
	b.out = l.Matrix(prefix+"ssm_out", hidden, c.values())
	if l.err == nil { // else the sizes may be anything
		b.ring = l.program.Ring(hardware.RingInfo{Name: prefix + "conv", Layer: layer, Dim: c.convDim(), Reach: c.kernel - 1})
		b.state = l.program.Delta(hardware.DeltaInfo{
			Name: prefix + "state", Layer: layer, KeyHeads: c.keyHeads, ValueHeads: c.valueHeads, KeyDim: c.keyDim, ValueDim: c.valueDim, Map: heads,
		})
	}
	return b
}

// mix records x += Wo * (norm(delta rule of h) * silu(z)).
func (b *deltaNet) mix(p *hardware.Program, x, h hardware.Tensor) {
	qkv, z := b.project(p, h)
	c := p.Conv(qkv, b.ring, b.conv)
	p.Remember(b.ring, qkv)
	unit := func(t hardware.Tensor, scale float64) hardware.Tensor {
		return p.Normalize(hardware.NormArgs{Norm: hardware.L2Norm, X: t.Heads(b.keyHeads), Eps: b.unitEps, Scale: float32(scale)})
	}
	args := hardware.DeltaRuleArgs{
		Q: unit(c.Cols(0, b.keys()), 1/math.Sqrt(float64(b.keyDim))), K: unit(c.Cols(b.keys(), b.keys()), 1),
		V: c.Cols(2*b.keys(), b.values()).Heads(b.valueHeads), Decay: b.decay, Bias: b.decayBias, State: b.state,
	}
	args.A, args.B = b.gates(p, h)
	o := p.Norm(p.DeltaRule(args), b.norm, b.eps)
	p.MatMulAdd(x, p.GLU(hardware.SiLU, z, o), b.out)
}

// project returns the rows q | k | v, and the gate of each value head.
func (b *deltaNet) project(p *hardware.Program, h hardware.Tensor) (qkv, z hardware.Tensor) {
	if !b.qkvz.Valid() {
		return p.MatMul(h, b.qkv), p.MatMul(h, b.z).Heads(b.valueHeads)
	}
	group := b.values() / b.keyHeads // elements of a key head's values
	all := p.MatMul(h, b.qkvz).Heads(b.keyHeads)
	qkv = p.Temp(hardware.Tokens, 1, b.convDim())
	p.Copy(qkv.Cols(0, b.keys()).Heads(b.keyHeads), all.HeadCols(0, b.keyDim))
	p.Copy(qkv.Cols(b.keys(), b.keys()).Heads(b.keyHeads), all.HeadCols(b.keyDim, b.keyDim))
	p.Copy(qkv.Cols(2*b.keys(), b.values()).Heads(b.keyHeads), all.HeadCols(2*b.keyDim, group))
	z = p.Temp(hardware.Tokens, b.keyHeads, group)
	p.Copy(z, all.HeadCols(2*b.keyDim+group, group))
	return qkv, z.Heads(b.valueHeads)
}

// gates returns what decay and the share that is written are made of, an element for each value head.
func (b *deltaNet) gates(p *hardware.Program, h hardware.Tensor) (decay, share hardware.Tensor) {
	if !b.ba.Valid() {
		return p.MatMul(h, b.a), p.MatMul(h, b.b)
	}
	group := b.valueHeads / b.keyHeads
	both := p.MatMul(h, b.ba).Heads(b.keyHeads)
	return both.HeadCols(group, group), both.HeadCols(0, group)
}
