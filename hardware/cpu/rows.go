package cpu

import "hearth/hardware"

// rowOperation is an operation that computes each row, and each head of it, from the same row and head alone. Several
// in a row become one phase: a worker carries a few rows through all of them while they are in its cache.
type rowOperation interface {
	// shape returns the kind of rows, and how many heads each has.
	shape() (rows hardware.Rows, heads int)
	// block computes some rows.
	block(w *worker, b rowBlock)
}

// rowBlock is the work of one item of a row phase: rows [first, last), and of their heads the share part of parts.
type rowBlock struct {
	first, last int
	part, parts int
}

// heads returns the block's share of n heads.
func (b rowBlock) heads(n int) (lo, hi int) { return n * b.part / b.parts, n * (b.part + 1) / b.parts }

// rowPhase is a list of row operations as one phase.
type rowPhase struct {
	kind  hardware.Rows
	ops   []rowOperation
	width int // elements that a row's operations touch
	parts int // shares into which a row's heads may be cut
}

// rowItemElements is the size of an item: large against the cost of handing it out, small against a worker's share.
const rowItemElements = 4096

// cut says how a step's rows become items. Rows are cut into shares of heads only when there are too few of them for
// the workers; the results are the same either way.
func (p *rowPhase) cut(s *step) (rowsPerItem, parts int) {
	if s.rows[p.kind] < 4*s.workers {
		parts = p.parts
	}
	return max(1, rowItemElements/p.width), max(1, parts)
}

func (p *rowPhase) items(s *step) int {
	rowsPerItem, parts := p.cut(s)
	return (s.rows[p.kind] + rowsPerItem - 1) / rowsPerItem * parts
}

func (p *rowPhase) run(w *worker, item int) {
	rowsPerItem, parts := p.cut(w.step)
	b := rowBlock{first: item / parts * rowsPerItem, part: item % parts, parts: parts}
	b.last = min(b.first+rowsPerItem, w.step.rows[p.kind])
	for _, op := range p.ops {
		op.block(w, b)
	}
}
