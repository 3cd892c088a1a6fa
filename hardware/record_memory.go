package hardware

// The methods of this file record the operations of ops_memory.go.

// Conv records the causal convolution of x, whose rows of earlier steps are in a ring, with SiLU behind it. Remember
// writes the ring.
func (p *Program) Conv(x Tensor, ring Ring, weight Weight) Tensor {
	if !p.okRing("Conv", ring, x) || !p.okWeight("Conv", weight) {
		return invalidTensor
	}
	if w, r := p.WeightInfo(weight), p.RingInfo(ring); w.Out != r.Dim || w.In < 2 || w.In != r.Reach+1 || w.Experts > 0 {
		p.fail("Conv: weight %q is [%d, %d], ring %q has rows of %d and reaches %d back", w.Name, w.Out, w.In, r.Name, r.Dim, r.Reach)
	}
	dst := p.Temp(Tokens, 1, x.Size())
	p.record(&ConvArgs{X: x, Ring: ring, Weight: weight, Dst: dst})
	return dst
}

// Remember records the writing of a step's rows into a ring.
func (p *Program) Remember(ring Ring, x Tensor) {
	if p.okRing("Remember", ring, x) {
		p.record(&RememberArgs{X: x, Ring: ring})
	}
}

// DeltaRule records the gated delta rule; a.Dst is set by this method.
func (p *Program) DeltaRule(a DeltaRuleArgs) Tensor {
	if !p.ok("DeltaRule", a.Q, a.K, a.V, a.A, a.B) {
		return invalidTensor
	}
	if a.State.id <= 0 || int(a.State.id) > len(p.deltas) {
		p.fail("DeltaRule: no state")
		return invalidTensor
	}
	info := p.DeltaInfo(a.State)
	for _, operand := range []struct {
		name       string
		t          Tensor
		heads, dim int
	}{
		{"Q", a.Q, info.KeyHeads, info.KeyDim}, {"K", a.K, info.KeyHeads, info.KeyDim}, {"V", a.V, info.ValueHeads, info.ValueDim},
	} {
		if t := operand.t; t.rows != Tokens || t.NumHeads() != operand.heads || t.Dim() != operand.dim {
			p.fail("DeltaRule: %s is [%s, %d, %d], state %q has %d heads of %d", operand.name, t.rows, t.NumHeads(), t.Dim(),
				info.Name, operand.heads, operand.dim)
		}
	}
	if a.A.Size() != info.ValueHeads || a.B.Size() != info.ValueHeads || a.A.rows != Tokens || a.B.rows != Tokens {
		p.fail("DeltaRule: A of %d and B of %d for %d value heads", a.A.Size(), a.B.Size(), info.ValueHeads)
	}
	if p.okWeight("DeltaRule", a.Decay) && p.okWeight("DeltaRule", a.Bias) {
		p.okVector("DeltaRule", a.Decay, info.ValueHeads)
		p.okVector("DeltaRule", a.Bias, info.ValueHeads)
	}
	a.Dst = p.Temp(Tokens, info.ValueHeads, info.ValueDim)
	p.record(&a)
	return a.Dst
}

// Select records the choice of entries of an index stream; a.Dst is set by this method.
func (p *Program) Select(a SelectArgs) Selection {
	if !p.ok("Select", a.Q) || !p.okStream("Select", a.Index) {
		return Selection{}
	}
	index := p.StreamInfo(a.Index)
	if a.Scale == 0 {
		a.Scale = 1
	}
	info := SelectionInfo{Groups: 1, Entries: a.TopK, Unit: 1, Index: a.Index}
	switch {
	case a.Q.rows != Tokens || index.Heads != 1 || a.Q.Dim() != index.Dim || index.Class != IndexStream:
		p.fail("Select: queries [%s, %d, %d], index %q has %d heads of %d", a.Q.rows, a.Q.NumHeads(), a.Q.Dim(), index.Name, index.Heads, index.Dim)
	case a.TopK <= 0:
		p.fail("Select: the best %d", a.TopK)
	case a.Reduce == WeightedReLU:
		if p.ok("Select", a.Weights) && (a.Weights.rows != Tokens || a.Weights.Size() != a.Q.NumHeads()) {
			p.fail("Select: %d weights for %d heads", a.Weights.Size(), a.Q.NumHeads())
		}
	case a.Unit <= 0 || a.Local < 0 || a.Local > a.TopK:
		p.fail("Select: %d units of %d entries, %d of them local", a.TopK, a.Unit, a.Local)
	default:
		info = SelectionInfo{Groups: a.Q.NumHeads(), Entries: a.TopK * a.Unit, Unit: a.Unit, Index: a.Index}
	}
	p.chosen = append(p.chosen, info)
	a.Dst = Selection{int32(len(p.chosen))}
	p.record(&a)
	return a.Dst
}

// Compress records the making of a compressed stream's entries. Remember writes the ring.
func (p *Program) Compress(a CompressArgs) {
	if !p.okRing("Compress", a.Ring, a.X) || !p.okStream("Compress", a.Dst) || !p.okWeight("Compress", a.Ape) ||
		!p.okWeight("Compress", a.Weight) || !p.okRope("Compress", a.Rope) {
		return
	}
	dst, ring, ape := p.StreamInfo(a.Dst), p.RingInfo(a.Ring), p.WeightInfo(a.Ape)
	width, reach := dst.Dim, dst.Ratio-1
	if a.Overlap {
		width, reach = 2*dst.Dim, 2*dst.Ratio-1
	}
	switch {
	case dst.Heads != 1 || dst.Ratio < 2:
		p.fail("Compress: stream %q has %d heads, for every %d positions", dst.Name, dst.Heads, dst.Ratio)
	case a.X.Size() != 2*width || ring.Reach < reach:
		p.fail("Compress: x of %d and ring %q that reaches %d back, stream %q needs %d and %d", a.X.Size(), ring.Name, ring.Reach, dst.Name, 2*width, reach)
	case ape.Out != dst.Ratio || ape.In != width || ape.Experts > 0:
		p.fail("Compress: weight %q is [%d, %d], want [%d, %d]", ape.Name, ape.Out, ape.In, dst.Ratio, width)
	case 2*len(p.RopeInfo(a.Rope).Frequencies) > dst.Dim:
		p.fail("Compress: rotates %d elements of entries of %d", 2*len(p.RopeInfo(a.Rope).Frequencies), dst.Dim)
	}
	p.okVector("Compress", a.Weight, dst.Dim)
	p.record(&a)
}

// HyperPre records the reading of a block's input from residual streams. It sets a.Dst and, unless the mix has a column
// for each stream alone, a.Coef.
func (p *Program) HyperPre(a HyperPreArgs) (dst, coef Tensor) {
	if !p.ok("HyperPre", a.X, a.Mix) || !p.okWeight("HyperPre", a.Scale) || !p.okWeight("HyperPre", a.Base) {
		return invalidTensor, invalidTensor
	}
	n := a.X.NumHeads()
	scales := 3
	switch a.Mix.Size() {
	case n * (n + 2):
		if a.Iterations < 1 {
			p.fail("HyperPre: %d iterations", a.Iterations)
		}
		a.Coef = p.Temp(a.X.rows, 1, n+n*n)
	case n:
		scales = 1
	default:
		p.fail("HyperPre: a mix of %d for %d streams", a.Mix.Size(), n)
	}
	if a.Mix.rows != a.X.rows || !a.Mix.Flat() {
		p.fail("HyperPre: streams of %s, a mix of %s", a.X.rows, a.Mix.rows)
	}
	p.okVector("HyperPre", a.Scale, scales)
	p.okVector("HyperPre", a.Base, a.Mix.Size())
	a.Dst = p.Temp(a.X.rows, 1, a.X.Dim())
	p.record(&a)
	return a.Dst, a.Coef
}

// HyperPost records the writing of a block's result to residual streams, in place.
func (p *Program) HyperPost(x, y, coef Tensor) {
	if !p.ok("HyperPost", x, y, coef) {
		return
	}
	if y.Base() == x.Base() || coef.Base() == x.Base() {
		p.fail("HyperPost: streams share a tensor with the result or the coefficients")
	}
	if n := x.NumHeads(); coef.Size() != n+n*n || y.Size() != x.Dim() || y.rows != x.rows || coef.rows != x.rows || !y.Flat() || !coef.Flat() {
		p.fail("HyperPost: %d streams of %d, a result of %d, %d coefficients", n, x.Dim(), y.Size(), coef.Size())
	}
	p.record(&HyperPostArgs{X: x, Y: y, Coef: coef})
}
