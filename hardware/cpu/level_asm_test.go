//go:build (amd64 || arm64) && !purego

package cpu

import (
	"fmt"
	"testing"
)

// TestAssemblyLevelsAgree checks that the levels in assembly give the same bits, which is more than they promise: their
// integer sums are exact, and their float32 arithmetic has one order. Only the level that rounds rows to bfloat16 differs
// there.
func TestAssemblyLevelsAgree(t *testing.T) {
	levels := assemblyHere()
	for _, other := range levels[:max(0, len(levels)-1)] {
		a, b := levels[len(levels)-1].open(), other.open()
		for i, l := range a.linears {
			if b.linears[i].roundsFloat != l.roundsFloat {
				continue
			}
			const in, out = 512, 32
			r := newRand(uint64(i))
			data := weightBytes(r, l.format, out, in)
			x := normals(r, in)
			want := multiplied(t, l, packAll(t, l, data, out, in), matrixRows{x, in, 1, in})
			got := multiplied(t, b.linears[i], packAll(t, b.linears[i], data, out, in), matrixRows{x, in, 1, in})
			sameBits(t, fmt.Sprintf("%s at %s and %s", l.format, b.level, a.level), got, want)
		}
	}
}
