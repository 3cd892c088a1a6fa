package cpu

import (
	"fmt"
	"testing"
)

// TestLinearBeside multiplies one row or two with several panels at once, and with each by itself: the bits are the same, where
// the panels are not a multiple of those of a kernel too.
func TestLinearBeside(t *testing.T) {
	forEachLinear(t, func(t *testing.T, l *linear) {
		for _, in := range inputs(l.format) {
			const out = 11 * panelCols
			r := newRand(uint64(in))
			panels := packAll(t, l, weightBytes(r, l.format, out, in), out, in)
			size := l.panelBytes(in)
			for rows := 1; rows <= min(2, l.tileRows); rows++ {
				x := normals(r, rows*in)
				extremes(x, in+rows)
				for _, n := range []int{1, 2, 3, 4, 5, 8, 11} {
					got := multiplied(t, l, panels[:n*size], matrixRows{x, in, rows, in})
					for p := range n {
						want := multiplied(t, l, panels[p*size:][:size], matrixRows{x, in, rows, in})
						for row := range rows {
							what := fmt.Sprintf("%s of %d: %d rows, panel %d of %d, row %d", l.format, in, rows, p, n, row)
							sameBits(t, what, got[(row*n+p)*panelCols:][:panelCols], want[row*panelCols:][:panelCols])
						}
					}
				}
			}
		}
	})
}
