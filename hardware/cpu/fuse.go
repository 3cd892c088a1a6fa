package cpu

import (
	"slices"

	"hearth/hardware"
)

// Fusing puts operations into one phase. It never changes a bit: a fused phase calls the same kernels on the same
// rows in the same order. What it saves is barriers between workers, and tensors on their way through memory.

// groupLen returns how many of the operations, from the first on, become one group. all is the whole section.
func (c *compiler) groupLen(ops, all []hardware.Op) int {
	if c.device.options.NoFuse {
		return 1
	}
	if n := c.productsLen(ops, all); n > 0 {
		return n
	}
	if n := c.normedLen(ops, all); n > 0 {
		return n
	}
	if !isRowOperation(ops[0].Args) {
		return 1
	}
	n := 1
	for n < len(ops) && isRowOperation(ops[n].Args) && rowsOf(ops[n].Args) == rowsOf(ops[0].Args) &&
		ops[n].Args.Kind() != hardware.OpGather && // reads other rows than it writes, so that it can only begin a chain
		!overwritesGathered(ops[0].Args, ops[n].Args) && c.normedLen(ops[n:], all) == 0 {
		n++
	}
	return n
}

// overwritesGathered reports whether an operation writes to rows that the first of its chain gathers from, which others
// may not have read yet.
func overwritesGathered(first, args hardware.Args) bool {
	gather, ok := first.(*hardware.GatherArgs)
	return ok && slices.ContainsFunc(args.Writes(nil), func(t hardware.Tensor) bool { return t.Base() == gather.X.Base() })
}

// productsLen returns how many operations are products of the same rows, with the gated linear unit of a pair; 0 when
// the first one is no product.
func (c *compiler) productsLen(ops, all []hardware.Op) int {
	first, ok := ops[0].Args.(*hardware.MatMulArgs)
	if !ok {
		return 0
	}
	if c.program.WeightInfo(first.W).Experts > 0 {
		return 0
	}
	if c.gated(ops, all) {
		return 3
	}
	n := 1
	for n < len(ops) && c.sameRows(first, ops[1:n], ops[n].Args) && !c.gated(ops[n:], all) {
		n++
	}
	return n
}

// normedLen returns how many operations are a norm and products of its rows that nothing else needs; 0 when there is
// no such group. The rows are then normalised on their way into tiles.
func (c *compiler) normedLen(ops, all []hardware.Op) int {
	norm, ok := ops[0].Args.(*hardware.NormArgs)
	if !ok || len(ops) < 2 || norm.X.NumHeads() != 1 || norm.X.Base() == norm.Dst.Base() || c.outputOf[norm.Dst.Base()] {
		return 0
	}
	n := c.productsLen(ops[1:], all)
	if n == 0 || ops[1].Args.(*hardware.MatMulArgs).X != norm.Dst {
		return 0
	}
	products := 0
	for _, op := range ops[1 : n+1] {
		if slices.ContainsFunc(op.Args.Writes(nil), func(t hardware.Tensor) bool { return t.Base() == norm.X.Base() }) {
			return 0 // it would change rows that others still normalise
		}
		if op.Args.Kind() == hardware.OpMatMul {
			products++
		}
	}
	if uses(all, norm.Dst.Base()) != 1+products {
		return 0
	}
	return n + 1
}

// elided notes the tensors that a group passes on without storing them.
func (c *compiler) elided(ops []hardware.Op) []int {
	if len(ops) == 1 {
		return nil
	}
	var bases []int
	if norm, ok := ops[0].Args.(*hardware.NormArgs); ok && ops[1].Args.Kind() == hardware.OpMatMul {
		bases = append(bases, norm.Dst.Base())
	}
	if unit, ok := ops[len(ops)-1].Args.(*hardware.GLUArgs); ok && ops[len(ops)-2].Args.Kind() == hardware.OpMatMul {
		bases = append(bases, unit.Gate.Base(), unit.Up.Base())
	}
	return bases
}

// sameRows reports whether an operation is a product of the same rows as the first, with a result of its own.
func (c *compiler) sameRows(first *hardware.MatMulArgs, between []hardware.Op, args hardware.Args) bool {
	next, ok := args.(*hardware.MatMulArgs)
	if !ok || next.X != first.X || c.program.WeightInfo(next.W).Experts > 0 || next.Dst.Base() == first.Dst.Base() {
		return false
	}
	for _, op := range between {
		if op.Args.(*hardware.MatMulArgs).Dst.Base() == next.Dst.Base() {
			return false
		}
	}
	return true
}

// gated reports whether the operations begin with a gate, an up and their gated linear unit, and nothing else needs
// the first two results.
func (c *compiler) gated(ops, all []hardware.Op) bool {
	if len(ops) < 3 {
		return false
	}
	gate, isGate := ops[0].Args.(*hardware.MatMulArgs)
	up, isUp := ops[1].Args.(*hardware.MatMulArgs)
	unit, isUnit := ops[2].Args.(*hardware.GLUArgs)
	if !isGate || !isUp || !isUnit || gate.Accumulate || up.Accumulate || !c.sameRows(gate, nil, up) {
		return false
	}
	if unit.Gate != gate.Dst || unit.Up != up.Dst || unit.Gate.Size() != unit.Up.Size() || !unit.Dst.Flat() || c.program.WeightInfo(gate.W).Format != c.program.WeightInfo(up.W).Format {
		return false
	}
	for _, base := range []int{gate.Dst.Base(), up.Dst.Base()} {
		if base == unit.Dst.Base() || c.outputOf[base] || uses(all, base) != 2 {
			return false
		}
	}
	return unit.Dst.Base() != gate.X.Base()
}

// uses counts how often operations name a tensor.
func uses(ops []hardware.Op, base int) int {
	n := 0
	for _, op := range ops {
		for _, t := range op.Args.Writes(op.Args.Reads(nil)) {
			if t.Base() == base {
				n++
			}
		}
	}
	return n
}

// isRowOperation reports whether an operation works on each row by itself.
func isRowOperation(args hardware.Args) bool {
	switch args.Kind() {
	case hardware.OpMatMul, hardware.OpAttention, hardware.OpExperts, hardware.OpSoftmaxParts, hardware.OpConv, hardware.OpDeltaRule,
		hardware.OpRemember, hardware.OpSelect, hardware.OpCompress:
		return false
	}
	return true
}

// rowsOf returns the kind of rows that an operation works on.
func rowsOf(args hardware.Args) hardware.Rows {
	switch a := args.(type) {
	case *hardware.RouteArgs:
		return a.Logits.Rows()
	case *hardware.HyperPreArgs:
		return a.X.Rows()
	}
	views := args.Writes(args.Reads(nil))
	return views[len(views)-1].Rows()
}

// headsOf returns into how many heads an operation's rows can be cut.
func headsOf(args hardware.Args) int {
	switch a := args.(type) {
	case *hardware.NormArgs:
		return a.X.NumHeads()
	case *hardware.RoPEArgs:
		return a.X.NumHeads()
	case *hardware.StoreArgs:
		return a.X.NumHeads()
	case *hardware.AddArgs:
		return a.X.NumHeads()
	case *hardware.GLUArgs:
		return a.Dst.NumHeads()
	case *hardware.GatherArgs:
		return a.X.NumHeads()
	case *hardware.CopyArgs:
		return a.Dst.NumHeads()
	}
	return 1
}

// sharedHeads returns into how many shares of heads a chain of row operations can be cut, so that what one share reads
// of the chain's own results the same share has written.
func sharedHeads(ops []hardware.Op) int {
	n := 0
	for _, op := range ops {
		n = gcd(n, headsOf(op.Args))
	}
	for i, op := range ops {
		for _, written := range op.Args.Writes(nil) {
			for _, later := range ops[i+1:] {
				for _, t := range later.Args.Writes(later.Args.Reads(nil)) {
					if t.Base() == written.Base() && t != written {
						return 1
					}
				}
			}
		}
	}
	return n
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
