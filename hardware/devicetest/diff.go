package devicetest

import (
	"fmt"

	"hearth/hardware"
)

// DiffStep is the work that Diff compares: one batch of a section, and how far elements may differ relative to the
// size of their tensor. A tolerance of 0 wants equal bits.
type DiffStep struct {
	Program   *hardware.Program
	Section   hardware.Section
	Batch     *hardware.Batch
	Tolerance float64
}

// Diff runs a batch on two queues of the same program and names the first operation whose tensors differ, "" for none.
// Both queues must be tracers, and their caches hold the same. It is the tool for bringing up a device or a model: what
// comes after the first difference is only its consequence.
func Diff(a, b hardware.Queue, s DiffStep) (string, error) {
	first, ok := a.(hardware.Tracer)
	second, alsoOK := b.(hardware.Tracer)
	if !ok || !alsoOK {
		return "", fmt.Errorf("devicetest: Diff: queues that show no operations (%T, %T)", a, b)
	}
	var rows [][]float32
	first.SetTrace(func(_ int, x []float32) { rows = append(rows, append([]float32(nil), x...)) })
	defer first.SetTrace(nil)
	a.Run(s.Section, s.Batch)
	if err := a.Sync(); err != nil {
		return "", err
	}
	found := ""
	second.SetTrace(func(op int, x []float32) {
		if found == "" {
			found = diffRows(s, op, rows[op], x)
		}
	})
	defer second.SetTrace(nil)
	b.Run(s.Section, s.Batch)
	return found, b.Sync()
}

// diffRows describes the first element in which two results of an operation differ.
func diffRows(s DiffStep, op int, a, b []float32) string {
	recorded := s.Program.Ops(s.Section)[op]
	name := fmt.Sprintf("operation %d, %s", op, recorded.Args.Kind())
	if recorded.Layer >= 0 {
		name = fmt.Sprintf("operation %d, layer %d %s: %s", op, recorded.Layer, recorded.Half, recorded.Args.Kind())
	}
	if len(a) != len(b) {
		return fmt.Sprintf("%s: %d and %d elements", name, len(a), len(b))
	}
	var m meter
	m.add(a, widen(b))
	allowed := s.Tolerance * m.size()
	for i := range a {
		if d := float64(a[i]) - float64(b[i]); !(d <= allowed && -d <= allowed) {
			cols := len(a) / max(1, rowsOf(s, recorded))
			return fmt.Sprintf("%s: row %d, column %d: %v and %v", name, i/cols, i%cols, a[i], b[i])
		}
	}
	return ""
}

// rowsOf returns how many rows an operation's result has.
func rowsOf(s DiffStep, op hardware.Op) int {
	for _, t := range op.Args.Writes(nil) {
		if t.Rows() == hardware.Outputs {
			return len(s.Batch.Outputs)
		}
	}
	return len(s.Batch.Tokens)
}

// destination returns the rows that an operation of the current step wrote, nil for none.
func (r *Reference) destination(s hardware.Section, op int) []float64 {
	var rows []float64
	for _, t := range r.program.Ops(s)[op].Args.Writes(nil) {
		for i := range r.rows[t.Rows()] {
			rows = append(rows, r.row(t, i)...)
		}
	}
	return rows
}
