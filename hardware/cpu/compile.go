package cpu

import (
	"fmt"
	"slices"

	"hearth/hardware"
	"hearth/hardware/quant"
)

// compiler turns a program into a queue that has no memory yet: what it would take can be added up without data.
type compiler struct {
	*queue
	byWeight []*weight // by declaration, nil for those not used
	byRoutes []*routes // by declaration
	byRope   map[ropeUse]*rotation
	byShape  map[attentionShape]*attentionPlan
	byChoice []*selection // by declaration
	outputOf map[int]bool // base tensors that are outputs, or carried

	sources int // of attention that are gathered
	section int
	group   int // groups of operations so far in this section
	phases  []operation
}

// ropeUse is a rotary embedding, forwards or backwards.
type ropeUse struct {
	rope    hardware.Rope
	inverse bool
}

// compile checks a program and its limits and turns its sections into phases.
func compile(d *device, p *hardware.Program, l hardware.Limits) (*queue, error) {
	if err := p.Err(); err != nil {
		return nil, err
	}
	if err := checkLimits(p, &l); err != nil {
		return nil, err
	}
	q := &queue{device: d, program: p, limits: l}
	c := &compiler{
		queue: q, byWeight: make([]*weight, p.NumWeights()), byRope: map[ropeUse]*rotation{},
		byShape: map[attentionShape]*attentionPlan{}, outputOf: map[int]bool{},
	}
	q.needInputs = make([]bool, p.NumSections())
	q.step.workers = d.pool.size
	q.crew = newCrew(d.pool.size)
	for i := range q.cursors {
		q.cursors[i] = make([]flag, d.pool.size)
	}
	for id := range d.pool.size {
		q.workers = append(q.workers, &worker{id: id, queue: q, kernels: d.kernels, step: &q.step})
	}
	if err := c.streamsAndTensors(); err != nil {
		return nil, err
	}
	for s := range p.NumSections() {
		if err := c.compileSection(s); err != nil {
			return nil, err
		}
	}
	for o := range p.NumOutputs() {
		_, t := p.OutputTensor(hardware.Output(o))
		if !t.Flat() || q.tensors[t.Base()].section < 0 {
			name, _ := p.OutputTensor(hardware.Output(o))
			return nil, fmt.Errorf("cpu: program %q: output %q is never written, or not contiguous", p.Name(), name)
		}
		q.outputs = append(q.outputs, c.view(t))
	}
	for s := range p.NumSections() {
		q.arenaBytes = max(q.arenaBytes, placeTensors(q.tensors, s, &q.limits))
	}
	q.memory = q.measure()
	return q, nil
}

// maxPositions is the longest sequence whose positions, and what is computed from them, are surely int32.
const maxPositions = 1 << 30

func checkLimits(p *hardware.Program, l *hardware.Limits) error {
	switch {
	case l.Tokens < 1 || l.Spans < 1 || l.MaxLen < 1 || l.MaxLen > maxPositions || l.Outputs < 0 || l.Blocks < 0:
		return fmt.Errorf("cpu: program %q: limits of %d tokens, %d spans, %d outputs, %d blocks, %d positions",
			p.Name(), l.Tokens, l.Spans, l.Outputs, l.Blocks, l.MaxLen)
	case p.Stateful() && (l.Slots < 1 || l.Snapshots < 0 || l.MaxDraft < 0 || l.MaxDraft > blockLen):
		return fmt.Errorf("cpu: program %q keeps state: limits of %d slots, %d snapshots, %d drafts", p.Name(), l.Slots, l.Snapshots, l.MaxDraft)
	case !p.Stateful():
		l.Slots, l.Snapshots = 0, 0
	}
	switch {
	case len(p.Streams()) == 0:
		return nil
	case l.KV == nil || !slices.Contains(streamFormats(), l.KV):
		return fmt.Errorf("%w: cpu: program %q: cache rows of format %v", hardware.ErrUnsupported, p.Name(), l.KV)
	}
	return nil
}

// streamsAndTensors declares what the program declares.
func (c *compiler) streamsAndTensors() error {
	for _, info := range c.program.Streams() {
		s, err := newStream(info, c.limits.KV, c.blockBytes)
		if err != nil {
			return err
		}
		c.streams = append(c.streams, s)
		c.blockBytes += s.bytes()
	}
	for i := range c.program.NumTensors() {
		rows, cols := c.program.TensorCols(i)
		c.tensors = append(c.tensors, &tensor{rows: rows, cols: cols, stride: roundUp(cols, align/4), section: -1})
	}
	c.states()
	for _, t := range c.program.Carried() {
		c.tensors[t.Base()].carried = true
		c.outputOf[t.Base()] = true // what another section reads is stored, and stays
	}
	c.byRoutes, c.byChoice = make([]*routes, c.program.NumRoutes()), make([]*selection, c.program.NumSelections())
	for o := range c.program.NumOutputs() {
		_, t := c.program.OutputTensor(hardware.Output(o))
		c.outputOf[t.Base()] = true
	}
	return nil
}

// compileSection emits the phases of a section: first what its operations need of the whole batch, then group after
// group of operations.
func (c *compiler) compileSection(section int) error {
	ops := c.program.Ops(hardware.Section(section))
	c.section, c.group, c.phases = section, 0, nil
	c.prelude(ops)
	var ends []int
	c.vocab = append(c.vocab, c.vocabulary(ops))
	c.moved = append(c.moved, c.advanced(ops))
	for rest := ops; len(rest) > 0; c.group++ {
		n := c.groupLen(rest, ops)
		if err := c.emit(rest[:n]); err != nil {
			return err
		}
		ends = append(ends, len(c.phases))
		rest = rest[n:]
	}
	c.sections = append(c.sections, c.phases)
	c.opEnds = append(c.opEnds, ends)
	return nil
}

// vocabulary is the number of tokens that all the section's tables know.
func (c *compiler) vocabulary(ops []hardware.Op) int {
	n := 1<<31 - 1
	for _, op := range ops {
		if a, ok := op.Args.(*hardware.EmbedArgs); ok {
			n = min(n, c.program.WeightInfo(a.Table).Out)
		}
	}
	return n
}

// prelude emits the phases that come before a section's operations: zeroed blocks, and the angles of each row.
func (c *compiler) prelude(ops []hardware.Op) {
	fresh := &freshBlocks{}
	angles := &rowPhase{kind: hardware.Tokens, parts: 1}
	for _, op := range ops {
		switch a := op.Args.(type) {
		case *hardware.StoreArgs:
			fresh.add(c.streams[a.Stream.Index()])
		case *hardware.CompressArgs:
			fresh.add(c.streams[a.Dst.Index()])
		case *hardware.RoPEArgs:
			if r := c.rotation(a.Rope, a.Inverse); !slices.Contains(angles.ops, rowOperation(r)) {
				angles.ops = append(angles.ops, r)
				angles.width += 4 * r.pairs
			}
		}
	}
	if len(fresh.streams) > 0 {
		c.phases = append(c.phases, fresh)
	}
	if len(angles.ops) > 0 {
		c.phases = append(c.phases, angles)
	}
}

// emit turns a group of operations into phases.
func (c *compiler) emit(ops []hardware.Op) error {
	elided := c.elided(ops)
	for _, op := range ops {
		if err := c.touch(op, elided); err != nil {
			return err
		}
	}
	if len(ops) > 1 && ops[1].Args.Kind() == hardware.OpMatMul && ops[0].Args.Kind() == hardware.OpNorm {
		return c.emitMatMul(ops)
	}
	switch a := ops[0].Args.(type) {
	case *hardware.MatMulArgs:
		if c.program.WeightInfo(a.W).Experts > 0 {
			return c.emitStack(ops[0], a)
		}
		return c.emitMatMul(ops)
	case *hardware.AttentionArgs:
		c.emitAttention(a)
		return nil
	case *hardware.SelectArgs:
		c.emitSelect(a)
		return nil
	case *hardware.CompressArgs:
		c.emitCompress(a)
		return nil
	case *hardware.ExpertsArgs:
		return c.emitExperts(ops[0], a)
	case *hardware.ConvArgs:
		w := c.vector(a.Weight)
		w.byColumn = true
		c.onesCount = max(c.onesCount, convCols)
		c.phases = append(c.phases, &convolution{x: c.view(a.X), dst: c.view(a.Dst), ring: c.rings[a.Ring.Index()], weight: w})
		return nil
	case *hardware.DeltaRuleArgs:
		o := c.deltaRule(a)
		c.phases = append(c.phases, o, deltaKeep{o})
		return nil
	case *hardware.RememberArgs:
		c.phases = append(c.phases, &remember{c.view(a.X), c.rings[a.Ring.Index()]})
		return nil
	case *hardware.SoftmaxPartsArgs:
		c.sizes.row = max(c.sizes.row, hardware.PartLen)
		c.phases = append(c.phases, &softmaxParts{c.view(a.X), c.view(a.Dst)})
		return nil
	}
	phase := &rowPhase{kind: rowsOf(ops[0].Args), parts: sharedHeads(ops)}
	for _, op := range ops {
		row, width, err := c.rowOperation(op)
		if err != nil {
			return err
		}
		phase.ops = append(phase.ops, row)
		phase.width += width
	}
	c.phases = append(c.phases, phase)
	return nil
}

// touch notes that an operation's tensors are in use by the current group, but for those that it does not store.
func (c *compiler) touch(op hardware.Op, elided []int) error {
	for _, view := range op.Args.Writes(op.Args.Reads(nil)) {
		if slices.Contains(elided, view.Base()) {
			continue
		}
		t := c.tensors[view.Base()]
		switch {
		case t.carried:
			t.section = c.section
		case t.section < 0:
			t.section, t.first = c.section, c.group
		case t.section != c.section:
			return fmt.Errorf("cpu: %s: tensor of %d columns belongs to another section", place(op), t.cols)
		}
		t.last = c.group
		if c.outputOf[view.Base()] {
			t.last = 1 << 30 // until the next step
		}
	}
	return nil
}

// rowOperation compiles one operation that works row by row, and returns the elements it touches of each.
func (c *compiler) rowOperation(op hardware.Op) (rowOperation, int, error) {
	switch a := op.Args.(type) {
	case *hardware.EmbedArgs:
		table, err := c.matrix(op, a.Table)
		return &embed{table, c.view(a.Dst)}, 2 * a.Dst.Size(), err
	case *hardware.NormArgs:
		return c.norm(a), 2 * a.X.Size(), nil
	case *hardware.RoPEArgs:
		return &rope{c.view(a.X), c.view(a.Dst), c.rotation(a.Rope, a.Inverse)}, 2 * a.X.Size(), nil
	case *hardware.StoreArgs:
		s := c.streams[a.Stream.Index()]
		c.sizes.short = max(c.sizes.short, s.rowBytes)
		return &store{c.view(a.X), s}, 4 * a.X.Size(), nil
	case *hardware.GLUArgs:
		o := glu{activation{a.Act, a.Limit}, c.view(a.Gate), c.view(a.Up), c.view(a.Dst)}
		if a.Gate.Size() < a.Up.Size() {
			c.sizes.row = max(c.sizes.row, a.Dst.Dim())
			return &rowGate{o}, 4 * a.Dst.Size(), nil
		}
		return &o, 4 * a.Dst.Size(), nil
	case *hardware.AddArgs:
		return &addition{c.view(a.X), c.view(a.Dst)}, 2 * a.X.Size(), nil
	case *hardware.GatherArgs:
		c.needInputs[c.section] = c.needInputs[c.section] || a.ByInputs
		return &gather{c.view(a.X), c.view(a.Dst), a.ByInputs}, a.X.Size(), nil
	case *hardware.CopyArgs:
		return &duplicate{c.view(a.X), c.view(a.Dst)}, a.Dst.Size(), nil
	case *hardware.RouteArgs:
		return c.newRoute(a), 8 * a.Logits.Size(), nil
	case *hardware.HyperPreArgs:
		return c.newHyperPre(a), 2 * a.X.Size(), nil
	case *hardware.HyperPostArgs:
		c.sizes.row = max(c.sizes.row, a.X.NumHeads()*min(hyperCols, a.X.Dim()))
		return &hyperPost{c.view(a.X), c.view(a.Y), c.view(a.Coef)}, a.X.NumHeads() * a.X.Size(), nil
	default:
		return nil, 0, fmt.Errorf("%w: cpu: %s", hardware.ErrUnsupported, place(op))
	}
}

// norm compiles a norm.
func (c *compiler) norm(a *hardware.NormArgs) *norm {
	o := &norm{kind: a.Norm, x: c.view(a.X), dst: c.view(a.Dst), scale: a.Scale, eps: a.Eps}
	if a.Weight.Valid() {
		o.weight = c.vector(a.Weight)
	}
	if a.Bias.Valid() {
		o.bias = c.vector(a.Bias)
	}
	return o
}

// deltaRule compiles a delta rule.
func (c *compiler) deltaRule(a *hardware.DeltaRuleArgs) *deltaRule {
	d := c.deltas[a.State.Index()]
	c.sizes.deltaKeyDim = max(c.sizes.deltaKeyDim, d.info.KeyDim)
	c.sizes.deltaGroup = max(c.sizes.deltaGroup, d.group())
	c.sizes.deltaValueCols = max(c.sizes.deltaValueCols, d.panels*panelCols)
	return &deltaRule{
		q: c.view(a.Q), k: c.view(a.K), v: c.view(a.V), a: c.view(a.A), b: c.view(a.B), dst: c.view(a.Dst),
		decay: c.vector(a.Decay), bias: c.vector(a.Bias), state: d,
	}
}

// emitMatMul compiles products of the same rows, or a pair of them with the gated linear unit behind it; the norm of
// the rows may stand before them.
func (c *compiler) emitMatMul(ops []hardware.Op) error {
	var products []*linearProduct
	var before *norm
	for _, op := range ops {
		switch a := op.Args.(type) {
		case *hardware.NormArgs:
			before = c.norm(a)
		case *hardware.MatMulArgs:
			w, err := c.matrix(op, a.W)
			if err != nil {
				return err
			}
			x := c.view(a.X)
			if before != nil {
				x = before.x
			}
			products = append(products, &linearProduct{
				weight: w, set: newTileSet(x, before, w.linear), dst: c.view(a.Dst), accumulate: a.Accumulate,
			})
		case *hardware.GLUArgs:
			gated := products[len(products)-2]
			gated.up, gated.dst = products[len(products)-1].weight, c.view(a.Dst)
			gated.act = activation{a.Act, a.Limit}
			products = products[:len(products)-1]
		}
	}
	o := newMatmul(products, &c.queue.tiles, c.device.pool.size)
	c.tileBytes = max(c.tileBytes, o.grow(&c.sizes, maxRows(o.sets[0].x.t.rows, &c.limits)))
	c.phases = append(c.phases, o.phases()...)
	return nil
}

// emitExperts compiles experts.
func (c *compiler) emitExperts(op hardware.Op, a *hardware.ExpertsArgs) error {
	o := experts{x: c.view(a.X), dst: c.view(a.Dst), routes: c.chosen(a.Routes), act: activation{a.Act, a.Limit}, space: &c.queue.experts}
	for _, w := range []struct {
		dst    **weight
		handle hardware.Weight
	}{{&o.gate, a.Gate}, {&o.up, a.Up}, {&o.down, a.Down}} {
		var err error
		if *w.dst, err = c.matrix(op, w.handle); err != nil {
			return err
		}
	}
	compiled := newExperts(o)
	compiled.grow(&c.expertSizes, &c.sizes, maxRows(o.routes.rows, &c.limits))
	c.phases = append(c.phases, compiled.phases()...)
	return nil
}

// weight returns a declared weight, noted once.
func (c *compiler) weight(h hardware.Weight) *weight {
	w := c.byWeight[h.Index()]
	if w == nil {
		w = newWeight(c.program.WeightInfo(h))
		c.byWeight[h.Index()] = w
		c.weights = append(c.weights, w)
	}
	return w
}

// matrix returns a weight that is multiplied or looked up.
func (c *compiler) matrix(op hardware.Op, h hardware.Weight) (*weight, error) {
	w := c.weight(h)
	l := c.device.linears[w.info.Format]
	if l == nil {
		return nil, fmt.Errorf("%w: cpu: %s: weight %q is of format %s", hardware.ErrUnsupported, place(op), w.info.Name, w.info.Format)
	}
	w.useMatrix(l)
	return w, nil
}

// vector returns a weight that is needed as numbers.
func (c *compiler) vector(h hardware.Weight) *weight {
	w := c.weight(h)
	w.isVector = true
	return w
}

// chosen returns declared routes, noted once.
func (c *compiler) chosen(h hardware.Routes) *routes {
	r := c.byRoutes[h.Index()]
	if r == nil {
		info := c.program.RoutesInfo(h)
		r = &routes{rows: info.Rows, experts: info.Experts, topK: info.TopK}
		c.byRoutes[h.Index()] = r
		c.routes = append(c.routes, r)
	}
	return r
}

// rotation returns a declared rotary embedding, or its inverse, noted once.
func (c *compiler) rotation(h hardware.Rope, inverse bool) *rotation {
	r := c.byRope[ropeUse{h, inverse}]
	if r == nil {
		info := c.program.RopeInfo(h)
		r = &rotation{pairing: info.Pairing, magnitude: float64(info.Magnitude), frequencies: info.Frequencies, pairs: len(info.Frequencies)}
		if inverse {
			r.frequencies = slices.Clone(info.Frequencies)
			for i := range r.frequencies {
				r.frequencies[i] = -r.frequencies[i]
			}
		}
		c.byRope[ropeUse{h, inverse}] = r
		c.ropes = append(c.ropes, r)
	}
	return r
}

// view returns a tensor with its memory.
func (c *compiler) view(t hardware.Tensor) view {
	return view{t: c.tensors[t.Base()], off: t.Offset(), heads: t.NumHeads(), headStride: t.Stride(), dim: t.Dim()}
}

// place names an operation in errors.
func place(op hardware.Op) string {
	if op.Layer < 0 {
		return op.Args.Kind().String()
	}
	return fmt.Sprintf("layer %d %s: %s", op.Layer, op.Half, op.Args.Kind())
}

// placeTensors gives every tensor of a section its place in the arena: large ones first, each at the lowest place that
// no tensor in use at the same time has. It returns the size of the arena.
func placeTensors(tensors []*tensor, section int, l *hardware.Limits) int {
	var own, placed []*tensor
	for _, t := range tensors {
		if t.section == section && !t.carried {
			own = append(own, t)
		}
	}
	slices.SortStableFunc(own, func(a, b *tensor) int { return b.bytes(l) - a.bytes(l) })
	size := 0
	for _, t := range own {
		t.offset = 0
		for _, other := range placed { // by offset
			if other.last < t.first || other.first > t.last || other.offset+other.bytes(l) <= t.offset {
				continue
			}
			if other.offset >= t.offset+t.bytes(l) {
				break
			}
			t.offset = roundUp(other.offset+other.bytes(l), align)
		}
		at, _ := slices.BinarySearchFunc(placed, t, func(a, b *tensor) int { return a.offset - b.offset })
		placed = slices.Insert(placed, at, t)
		size = max(size, t.offset+t.bytes(l))
	}
	return size
}

// formatsOf lists the formats of weights that have a linear.
func formatsOf(linears map[*quant.Format]*linear) []*quant.Format {
	var formats []*quant.Format
	for _, f := range quant.All() {
		if linears[f] != nil {
			formats = append(formats, f)
		}
	}
	return formats
}
