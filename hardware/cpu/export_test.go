package cpu

import (
	"slices"

	"hearth/hardware"
	"hearth/hardware/quant"
)

// Levels names the levels that this machine runs.
func Levels() []string { return availableLevels() }

// KernelFormats lists the formats that a level has kernels for.
func KernelFormats(level string) []*quant.Format {
	k, _, err := selectKernels(level)
	if err != nil {
		panic(err)
	}
	var formats []*quant.Format
	for _, l := range k.linears {
		formats = append(formats, l.format)
	}
	return formats
}

// RoundsBF16 reports whether a level rounds the rows that weights of BF16 are multiplied with.
func RoundsBF16(level string) bool {
	k, _, err := selectKernels(level)
	if err != nil {
		panic(err)
	}
	return slices.ContainsFunc(k.linears, func(l *linear) bool { return l.format == quant.BF16 && l.roundsFloat })
}

// OpenRoundingBF16 opens a device of plain Go that does.
func OpenRoundingBF16(threads int) hardware.Device {
	d, err := Open(Options{ISA: "go", Threads: threads})
	if err != nil {
		panic(err)
	}
	d.(*device).linears[quant.BF16] = newPairLinearBF16(genericTileRows, preparePairsBF16Generic, multiplyPairsBF16Generic)
	return d
}

// BusyPhases returns how many phases of a queue's last section had work in the last step: so many barriers it had.
func BusyPhases(q hardware.Queue) int {
	n := 0
	for _, op := range q.(*queue).current {
		if op.items(&q.(*queue).step) > 0 {
			n++
		}
	}
	return n
}

// brokenPhase panics in its last item.
type brokenPhase struct{ operation }

func (b brokenPhase) run(w *worker, item int) {
	if item == b.items(w.step)-1 {
		panic("broken kernel")
	}
	b.operation.run(w, item)
}

// BreakPhase makes the n-th phase of a queue's first section that had work in the last step panic, until mend is called.
func BreakPhase(q hardware.Queue, n int) (mend func()) {
	phases := q.(*queue).sections[0]
	for i, op := range phases {
		if op.items(&q.(*queue).step) == 0 {
			continue
		}
		if n--; n < 0 {
			phases[i] = brokenPhase{op}
			return func() { phases[i] = op }
		}
	}
	panic("cpu: BreakPhase: there are fewer phases")
}
