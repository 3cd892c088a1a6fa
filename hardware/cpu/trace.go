package cpu

import "hearth/hardware"

// tracedQueue is a queue compiled without fusion, whose every tensor can be seen.
type tracedQueue struct{ *queue }

// SetTrace implements hardware.Tracer.
func (q tracedQueue) SetTrace(f func(op int, rows []float32)) { q.trace = f }

// runTraced runs a section one recorded operation at a time.
func (q *queue) runTraced(section int) {
	begin := 0
	for i, op := range q.program.Ops(hardware.Section(section)) {
		end := q.opEnds[section][i]
		q.runPhases(q.sections[section][begin:end])
		begin = end
		q.trace(i, q.destination(op.Args))
	}
}

// destination copies what an operation wrote together.
func (q *queue) destination(args hardware.Args) []float32 {
	rows := q.traceRows[:0]
	for _, t := range args.Writes(nil) {
		v := view{t: q.tensors[t.Base()], off: t.Offset(), heads: t.NumHeads(), headStride: t.Stride(), dim: t.Dim()}
		for r := range q.step.rows[t.Rows()] {
			for h := range v.heads {
				rows = append(rows, v.head(r, h)...)
			}
		}
	}
	return rows
}
