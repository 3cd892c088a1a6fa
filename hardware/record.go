package hardware

// The methods of this file record one operation each. They return the destination, a new tensor unless the name ends
// in Into, Add or says that it works in place.

// Embed records the look-up of each token's row of a table.
func (p *Program) Embed(table Weight) Tensor {
	if !p.okWeight("Embed", table) {
		return invalidTensor
	}
	x := p.Temp(Tokens, 1, p.WeightInfo(table).In)
	p.record(&EmbedArgs{Table: table, Dst: x})
	return x
}

// Norm records root mean square normalisation of each head of x; a plain row is one head.
func (p *Program) Norm(x Tensor, weight Weight, eps float32) Tensor {
	if !p.ok("Norm", x) {
		return invalidTensor
	}
	dst := p.Temp(x.rows, x.NumHeads(), x.Dim())
	p.NormInto(dst, x, weight, eps)
	return dst
}

// NormInto records Norm with a destination, which may be x itself.
func (p *Program) NormInto(dst, x Tensor, weight Weight, eps float32) {
	if !p.ok("Norm", dst, x) || !p.okWeight("Norm", weight) {
		return
	}
	p.same("Norm", dst, x)
	if w := p.WeightInfo(weight); w.Out != 1 || w.In != x.Dim() {
		p.fail("Norm: weight %q is [%d, %d], the rows are of %d", w.Name, w.Out, w.In, x.Dim())
	}
	p.record(&NormArgs{X: x, Dst: dst, Weight: weight, Eps: eps})
}

// MatMul records the product of a weight with each row.
func (p *Program) MatMul(x Tensor, w Weight) Tensor {
	if !p.ok("MatMul", x) || !p.okWeight("MatMul", w) {
		return invalidTensor
	}
	dst := p.Temp(x.rows, 1, p.WeightInfo(w).Out)
	p.matMul(&MatMulArgs{X: x, W: w, Dst: dst})
	return dst
}

// MatMulInto records MatMul with a destination that does not overlap x.
func (p *Program) MatMulInto(dst, x Tensor, w Weight) {
	p.matMul(&MatMulArgs{X: x, W: w, Dst: dst})
}

// MatMulAdd records dst += W x.
func (p *Program) MatMulAdd(dst, x Tensor, w Weight) {
	p.matMul(&MatMulArgs{X: x, W: w, Dst: dst, Accumulate: true})
}

func (p *Program) matMul(a *MatMulArgs) {
	if !p.ok("MatMul", a.X, a.Dst) || !p.okWeight("MatMul", a.W) {
		return
	}
	w := p.WeightInfo(a.W)
	switch {
	case w.Experts > 0:
		p.fail("MatMul: weight %q is a stack of experts", w.Name)
	case !a.X.Flat() || !a.Dst.Flat():
		p.fail("MatMul: weight %q: rows are not contiguous", w.Name)
	case a.X.Size() != w.In || a.Dst.Size() != w.Out || a.X.rows != a.Dst.rows:
		p.fail("MatMul: weight %q is [%d, %d], x has %d columns of %s, the result %d of %s",
			w.Name, w.Out, w.In, a.X.Size(), a.X.rows, a.Dst.Size(), a.Dst.rows)
	case a.X.Base() == a.Dst.Base():
		p.fail("MatMul: weight %q: source and result share a tensor", w.Name)
	}
	p.record(a)
}

// RoPE records the rotation of each head of x by its row's position.
func (p *Program) RoPE(x Tensor, rope Rope) Tensor {
	if !p.ok("RoPE", x) {
		return invalidTensor
	}
	dst := p.Temp(x.rows, x.NumHeads(), x.Dim())
	p.RoPEInto(dst, x, rope)
	return dst
}

// RoPEInto records RoPE with a destination, which may be x itself.
func (p *Program) RoPEInto(dst, x Tensor, rope Rope) {
	if !p.ok("RoPE", dst, x) {
		return
	}
	p.same("RoPE", dst, x)
	switch {
	case rope.id <= 0 || int(rope.id) > len(p.ropes):
		p.fail("RoPE: no rotary embedding declared")
		return
	case x.rows != Tokens:
		p.fail("RoPE: rows of %s have no position", x.rows)
	case 2*len(p.RopeInfo(rope).Frequencies) > x.Dim():
		p.fail("RoPE: rotates %d elements of heads of %d", 2*len(p.RopeInfo(rope).Frequencies), x.Dim())
	}
	p.record(&RoPEArgs{X: x, Dst: dst, Rope: rope})
}

// Store records the writing of each row into a stream, at the row's position.
func (p *Program) Store(s Stream, x Tensor) {
	if !p.ok("Store", x) || !p.okStream("Store", s) {
		return
	}
	info := p.StreamInfo(s)
	if x.rows != Tokens || x.NumHeads() != info.Heads || x.Dim() != info.Dim {
		p.fail("Store: stream %q holds %d heads of %d, x has %d of %d in rows of %s",
			info.Name, info.Heads, info.Dim, x.NumHeads(), x.Dim(), x.rows)
	}
	p.record(&StoreArgs{X: x, Stream: s})
}

// Attention records causal attention of q over the streams k and v.
func (p *Program) Attention(q Tensor, k, v Stream, scale float32) Tensor {
	if !p.ok("Attention", q) || !p.okStream("Attention", k) || !p.okStream("Attention", v) {
		return invalidTensor
	}
	key, value := p.StreamInfo(k), p.StreamInfo(v)
	switch {
	case q.rows != Tokens:
		p.fail("Attention: rows of %s have no position", q.rows)
	case key.Heads != value.Heads || q.NumHeads()%key.Heads != 0:
		p.fail("Attention: %d query heads, %d key heads, %d value heads", q.NumHeads(), key.Heads, value.Heads)
	case q.Dim() != key.Dim:
		p.fail("Attention: query heads of %d, key heads of %d", q.Dim(), key.Dim)
	}
	dst := p.Temp(Tokens, q.NumHeads(), value.Dim)
	p.record(&AttentionArgs{Q: q, K: k, V: v, Scale: scale, Dst: dst})
	return dst.Cols(0, dst.Size())
}

// GLU records a gated linear unit.
func (p *Program) GLU(act Activation, gate, up Tensor) Tensor {
	if !p.ok("GLU", gate, up) {
		return invalidTensor
	}
	p.same("GLU", gate, up)
	dst := p.Temp(gate.rows, gate.NumHeads(), gate.Dim())
	p.record(&GLUArgs{Act: act, Gate: gate, Up: up, Dst: dst})
	return dst
}

// Add records dst += x.
func (p *Program) Add(dst, x Tensor) {
	if !p.ok("Add", dst, x) {
		return
	}
	p.same("Add", dst, x)
	p.record(&AddArgs{X: x, Dst: dst})
}

// Gather records the choice of the rows whose outputs were asked for.
func (p *Program) Gather(x Tensor) Tensor {
	if !p.ok("Gather", x) {
		return invalidTensor
	}
	if x.rows != Tokens {
		p.fail("Gather: x has rows of %s", x.rows)
	}
	dst := p.Temp(Outputs, x.NumHeads(), x.Dim())
	p.record(&GatherArgs{X: x, Dst: dst})
	return dst
}

// Route records the choice of experts from router logits; a.Dst is set by this method.
func (p *Program) Route(a RouteArgs) Routes {
	if !p.ok("Route", a.Logits) {
		return Routes{}
	}
	if a.TopK <= 0 || a.TopK > a.Logits.Size() {
		p.fail("Route: %d of %d experts", a.TopK, a.Logits.Size())
	}
	if a.Scale == 0 {
		a.Scale = 1
	}
	p.routes = append(p.routes, RoutesInfo{Rows: a.Logits.rows, Experts: a.Logits.Size(), TopK: a.TopK})
	a.Dst = Routes{int32(len(p.routes))}
	p.record(&a)
	return a.Dst
}

// NumRoutes returns how many routes were declared.
func (p *Program) NumRoutes() int { return len(p.routes) }

// RoutesInfo returns the sizes of declared routes.
func (p *Program) RoutesInfo(r Routes) *RoutesInfo { return &p.routes[r.Index()] }

// ExpertsAdd records the sum of the chosen experts, added to a.Dst.
func (p *Program) ExpertsAdd(a ExpertsArgs) {
	if !p.ok("Experts", a.X, a.Dst) || !p.okWeight("Experts", a.Gate) || !p.okWeight("Experts", a.Up) || !p.okWeight("Experts", a.Down) {
		return
	}
	if a.Routes.id <= 0 || int(a.Routes.id) > len(p.routes) {
		p.fail("Experts: no routes")
		return
	}
	gate, up, down, routes := p.WeightInfo(a.Gate), p.WeightInfo(a.Up), p.WeightInfo(a.Down), p.RoutesInfo(a.Routes)
	for _, w := range []*WeightInfo{gate, up, down} {
		if w.Experts != routes.Experts {
			p.fail("Experts: weight %q stacks %d experts, the router has %d", w.Name, w.Experts, routes.Experts)
		}
	}
	if gate.In != a.X.Size() || up.In != gate.In || up.Out != gate.Out || down.In != gate.Out || down.Out != a.Dst.Size() {
		p.fail("Experts: x of %d, gate %q [%d, %d], up [%d, %d], down [%d, %d], result of %d", a.X.Size(),
			gate.Name, gate.Out, gate.In, up.Out, up.In, down.Out, down.In, a.Dst.Size())
	}
	if !a.X.Flat() || !a.Dst.Flat() || a.X.rows != routes.Rows || a.Dst.rows != routes.Rows || a.X.Base() == a.Dst.Base() {
		p.fail("Experts: x, routes and result need contiguous rows of one kind and tensors of their own")
	}
	p.record(&a)
}

// SoftmaxParts records what a softmax over each row needs, part by part; the result is [rows, parts, 2].
func (p *Program) SoftmaxParts(x Tensor) Tensor {
	if !p.ok("SoftmaxParts", x) {
		return invalidTensor
	}
	if !x.Flat() {
		p.fail("SoftmaxParts: rows are not contiguous")
	}
	dst := p.Temp(x.rows, NumParts(x.Size()), 2)
	p.record(&SoftmaxPartsArgs{X: x, Dst: dst})
	return dst
}

// same records a mistake when two views differ in shape.
func (p *Program) same(op string, a, b Tensor) {
	if a.rows != b.rows || a.heads != b.heads || a.dim != b.dim {
		p.fail("%s: [%s, %d, %d] and [%s, %d, %d] differ", op, a.rows, a.heads, a.dim, b.rows, b.heads, b.dim)
	}
}

// okWeight records a mistake and returns false when w names no weight.
func (p *Program) okWeight(op string, w Weight) bool {
	if w.id <= 0 || int(w.id) > len(p.weights) {
		p.fail("%s: no weight", op)
		return false
	}
	return true
}

// okStream records a mistake and returns false when s names no stream.
func (p *Program) okStream(op string, s Stream) bool {
	if s.id <= 0 || int(s.id) > len(p.streams) {
		p.fail("%s: no stream", op)
		return false
	}
	return true
}
