package hardware

import "slices"

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
	if !p.okWeight("Norm", weight) {
		return invalidTensor
	}
	return p.Normalize(NormArgs{X: x, Weight: weight, Eps: eps})
}

// NormInto records Norm with a destination, which may be x itself.
func (p *Program) NormInto(dst, x Tensor, weight Weight, eps float32) {
	if !p.okWeight("Norm", weight) {
		return
	}
	p.Normalize(NormArgs{X: x, Dst: dst, Weight: weight, Eps: eps})
}

// Normalize records any norm; without a.Dst it makes one.
func (p *Program) Normalize(a NormArgs) Tensor {
	if !p.ok("Norm", a.X) {
		return invalidTensor
	}
	if a.Dst == (Tensor{}) {
		a.Dst = p.Temp(a.X.rows, a.X.NumHeads(), a.X.Dim())
	}
	if !p.ok("Norm", a.Dst) {
		return invalidTensor
	}
	p.same("Norm", a.Dst, a.X)
	p.okVector("Norm", a.Weight, a.X.Dim())
	p.okVector("Norm", a.Bias, a.X.Dim())
	if a.Scale == 0 {
		a.Scale = 1
	}
	p.record(&a)
	return a.Dst
}

// MatMul records the product of a weight with each row, of a stack of weights with the heads of each row.
func (p *Program) MatMul(x Tensor, w Weight) Tensor {
	if !p.ok("MatMul", x) || !p.okWeight("MatMul", w) {
		return invalidTensor
	}
	dst := p.Temp(x.rows, max(1, p.WeightInfo(w).Experts), p.WeightInfo(w).Out)
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
		p.checkStacked(a, w)
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

// checkStacked records a mistake in the product of a stack with heads.
func (p *Program) checkStacked(a *MatMulArgs, w *WeightInfo) {
	x, dst := a.X, a.Dst
	switch {
	case a.Accumulate:
		p.fail("MatMul: weight %q is a stack, whose products cannot be added", w.Name)
	case x.NumHeads() != w.Experts || x.Dim() != w.In || dst.NumHeads() != w.Experts || dst.Dim() != w.Out || x.rows != dst.rows:
		p.fail("MatMul: weight %q is [%d, %d, %d], x [%s, %d, %d], the result [%s, %d, %d]", w.Name, w.Experts, w.Out, w.In,
			x.rows, x.NumHeads(), x.Dim(), dst.rows, dst.NumHeads(), dst.Dim())
	case x.Base() == dst.Base():
		p.fail("MatMul: weight %q: source and result share a tensor", w.Name)
	}
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
func (p *Program) RoPEInto(dst, x Tensor, rope Rope) { p.rotate(RoPEArgs{X: x, Dst: dst, Rope: rope}) }

// RoPEInverse records in place the rotation back by each row's position.
func (p *Program) RoPEInverse(x Tensor, rope Rope) {
	p.rotate(RoPEArgs{X: x, Dst: x, Rope: rope, Inverse: true})
}

func (p *Program) rotate(a RoPEArgs) {
	x, dst, rope := a.X, a.Dst, a.Rope
	if !p.ok("RoPE", dst, x) {
		return
	}
	p.same("RoPE", dst, x)
	switch {
	case !p.okRope("RoPE", rope):
		return
	case x.rows != Tokens:
		p.fail("RoPE: rows of %s have no position", x.rows)
	case 2*len(p.RopeInfo(rope).Frequencies) > x.Dim():
		p.fail("RoPE: rotates %d elements of heads of %d", 2*len(p.RopeInfo(rope).Frequencies), x.Dim())
	}
	p.record(&a)
}

// Store records the writing of each row into a stream, at the row's position.
func (p *Program) Store(s Stream, x Tensor) {
	if !p.ok("Store", x) || !p.okStream("Store", s) {
		return
	}
	info := p.StreamInfo(s)
	if info.Ratio != 1 {
		p.fail("Store: stream %q has no row for each position", info.Name)
	}
	if x.rows != Tokens || x.NumHeads() != info.Heads || x.Dim() != info.Dim {
		p.fail("Store: stream %q holds %d heads of %d, x has %d of %d in rows of %s",
			info.Name, info.Heads, info.Dim, x.NumHeads(), x.Dim(), x.rows)
	}
	p.record(&StoreArgs{X: x, Stream: s})
}

// Attention records causal attention of q over the streams k and v.
func (p *Program) Attention(q Tensor, k, v Stream, scale float32) Tensor {
	return p.Attend(AttentionArgs{Q: q, Sources: []Source{{K: k, V: v}}, Scale: scale})
}

// Attend records any attention; a.Dst is set by this method. The result has the query's heads in one row.
func (p *Program) Attend(a AttentionArgs) Tensor {
	if !p.ok("Attention", a.Q) {
		return invalidTensor
	}
	if a.Q.rows != Tokens {
		p.fail("Attention: rows of %s have no position", a.Q.rows)
	}
	if len(a.Sources) == 0 {
		p.fail("Attention: no sources")
		return invalidTensor
	}
	p.okVector("Attention", a.Sinks, a.Q.NumHeads())
	valueDim := 0
	for i := range a.Sources {
		dim := p.okSource(&a, &a.Sources[i])
		if dim == 0 {
			return invalidTensor
		}
		if valueDim != 0 && dim != valueDim {
			p.fail("Attention: values of %d and of %d", valueDim, dim)
		}
		valueDim = dim
	}
	a.Dst = p.Temp(Tokens, a.Q.NumHeads(), valueDim)
	p.record(&a)
	return a.Dst
}

// okSource completes and checks a source of attention and returns the size of its values, 0 after a mistake that leaves
// none.
func (p *Program) okSource(a *AttentionArgs, s *Source) int {
	if s.Ring.Valid() {
		if !p.okRing("Attention", s.Ring, s.Recent) {
			return 0
		}
		if s.ValueDim < 0 || s.ValueDim > s.Recent.Size() {
			p.fail("Attention: the first %d elements of rows of %d", s.ValueDim, s.Recent.Size())
		}
		if s.Recent.Size() != a.Q.Dim() || s.Selection.Valid() || s.Window != 0 {
			p.fail("Attention: ring %q of %d for query heads of %d", p.RingInfo(s.Ring).Name, s.Recent.Size(), a.Q.Dim())
		}
		if s.ValueDim == 0 {
			s.ValueDim = s.Recent.Size()
		}
		return s.ValueDim
	}
	if !p.okStream("Attention", s.K) || !p.okStream("Attention", s.V) {
		return 0
	}
	key, value := p.StreamInfo(s.K), p.StreamInfo(s.V)
	if s.ValueDim == 0 {
		s.ValueDim = value.Dim
	}
	switch {
	case key.Heads != value.Heads || a.Q.NumHeads()%key.Heads != 0:
		p.fail("Attention: %d query heads, %d key heads, %d value heads", a.Q.NumHeads(), key.Heads, value.Heads)
	case a.Q.Dim() != key.Dim:
		p.fail("Attention: query heads of %d, key heads of %d", a.Q.Dim(), key.Dim)
	case s.ValueDim < 0 || s.ValueDim > value.Dim:
		p.fail("Attention: the first %d elements of value heads of %d", s.ValueDim, value.Dim)
	case s.Window < 0 || s.Window > 0 && (key.Ratio != 1 || s.Selection.Valid()):
		p.fail("Attention: a window of %d positions of stream %q, with a row for every %d of them or chosen ones", s.Window, key.Name, key.Ratio)
	case key.Ratio != value.Ratio:
		p.fail("Attention: keys for every %d positions, values for every %d", key.Ratio, value.Ratio)
	case s.Selection.Valid() && int(s.Selection.id) > len(p.chosen):
		p.fail("Attention: no selection declared")
	case s.Selection.Valid():
		info := p.SelectionInfo(s.Selection)
		if key.Heads%info.Groups != 0 || p.StreamInfo(info.Index).Ratio != key.Ratio {
			p.fail("Attention: a selection of %d groups for every %d positions, %d key heads for every %d",
				info.Groups, p.StreamInfo(info.Index).Ratio, key.Heads, key.Ratio)
		}
	}
	return s.ValueDim
}

// GLU records a gated linear unit.
func (p *Program) GLU(act Activation, gate, up Tensor) Tensor {
	return p.Gate(GLUArgs{Act: act, Gate: gate, Up: up})
}

// Gate records any gated linear unit; without a.Dst it makes one.
func (p *Program) Gate(a GLUArgs) Tensor {
	if !p.ok("GLU", a.Gate, a.Up) {
		return invalidTensor
	}
	if a.Gate.Size() != 1 || a.Gate.rows != a.Up.rows {
		p.same("GLU", a.Gate, a.Up)
	}
	if a.Dst == (Tensor{}) {
		a.Dst = p.Temp(a.Up.rows, a.Up.NumHeads(), a.Up.Dim())
	}
	if !p.ok("GLU", a.Dst) {
		return invalidTensor
	}
	p.same("GLU", a.Dst, a.Up)
	p.record(&a)
	return a.Dst
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

// GatherInputs records the choice of a carried tensor's rows by Batch.Inputs.
func (p *Program) GatherInputs(x Tensor) Tensor {
	if !p.ok("Gather", x) {
		return invalidTensor
	}
	if !slices.ContainsFunc(p.carried, func(t Tensor) bool { return t.id == x.id }) {
		p.fail("Gather: x is not carried")
	}
	dst := p.Temp(Tokens, x.NumHeads(), x.Dim())
	p.record(&GatherArgs{X: x, ByInputs: true, Dst: dst})
	return dst
}

// Copy records dst = x; an x of one head goes to every head of dst.
func (p *Program) Copy(dst, x Tensor) {
	if !p.ok("Copy", dst, x) {
		return
	}
	if x.rows != dst.rows || x.Dim() != dst.Dim() || x.NumHeads() != 1 && x.NumHeads() != dst.NumHeads() {
		p.same("Copy", dst, x)
	}
	p.record(&CopyArgs{X: x, Dst: dst})
}

// Route records the choice of experts from router logits; a.Dst is set by this method.
func (p *Program) Route(a RouteArgs) Routes {
	if !p.ok("Route", a.Logits) {
		return Routes{}
	}
	experts := a.Logits.Size()
	if a.Groups == 0 {
		a.Groups, a.UsedGroups = 1, 1
	}
	switch {
	case a.TopK <= 0 || a.TopK > experts:
		p.fail("Route: %d of %d experts", a.TopK, experts)
	case a.Groups < 1 || experts%a.Groups != 0 || a.UsedGroups < 1 || a.UsedGroups > a.Groups || a.TopK > experts/a.Groups*a.UsedGroups:
		p.fail("Route: %d of %d experts from %d of %d groups", a.TopK, experts, a.UsedGroups, a.Groups)
	case a.PairRank && experts/a.Groups < 2:
		p.fail("Route: groups of %d experts have no two best", experts/a.Groups)
	case a.Table != nil && (len(a.Table)%a.TopK != 0 || a.Logits.rows != Tokens):
		p.fail("Route: a table of %d for %d experts a token, rows of %s", len(a.Table), a.TopK, a.Logits.rows)
	}
	for i, e := range a.Table {
		if e < 0 || int(e) >= experts {
			p.fail("Route: token %d is given expert %d of %d", i/max(1, a.TopK), e, experts)
			break
		}
	}
	p.okVector("Route", a.Bias, experts)
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

// okVector records a mistake when w names a weight that is not a vector of n; the zero handle is fine.
func (p *Program) okVector(op string, w Weight, n int) {
	if w.id == 0 || !p.okWeight(op, w) {
		return
	}
	if info := p.WeightInfo(w); info.Out != 1 || info.In != n || info.Experts > 0 {
		p.fail("%s: weight %q is [%d, %d], the rows are of %d", op, info.Name, info.Out, info.In, n)
	}
}

// okRope records a mistake and returns false when r names no rotary embedding.
func (p *Program) okRope(op string, r Rope) bool {
	if r.id <= 0 || int(r.id) > len(p.ropes) {
		p.fail("%s: no rotary embedding declared", op)
		return false
	}
	return true
}

// okRing records a mistake and returns false when r names no ring, or x is not rows for it.
func (p *Program) okRing(op string, r Ring, x Tensor) bool {
	if !p.ok(op, x) {
		return false
	}
	if r.id <= 0 || int(r.id) > len(p.rings) {
		p.fail("%s: no ring", op)
		return false
	}
	if info := p.RingInfo(r); x.rows != Tokens || x.Size() != info.Dim || !x.Flat() {
		p.fail("%s: ring %q has rows of %d, x has %d columns of %s", op, info.Name, info.Dim, x.Size(), x.rows)
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
