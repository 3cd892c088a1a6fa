package cpu

import (
	"math"
	"testing"

	"hearth/hardware"
)

// TestSoftmaxPartOfOddNumbers has infinities and what is not a number at every place of a part.
func TestSoftmaxPartOfOddNumbers(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	forEachLevel(t, func(t *testing.T, k *kernels) {
		w := &worker{kernels: k, row: make([]float32, hardware.PartLen)}
		for _, n := range []int{1, 5, 8, 17, hardware.PartLen} {
			for place := range n {
				for _, c := range []struct {
					odd, others  float32
					largest, sum float32 // sum NaN: the largest does not matter
				}{
					{-inf, 2, 2, float32(n - 1)},
					{-inf, -inf, -inf, 0},
					{-3, -inf, -3, 1},
					{nan, 2, 0, nan},
					{nan, -inf, 0, nan},
					{inf, 2, 0, nan},
					{inf, inf, 0, nan},
				} {
					if n == 1 && c.odd == -inf {
						c.largest, c.sum = -inf, 0
					}
					x := make([]float32, n)
					for i := range x {
						x[i] = c.others
					}
					x[place] = c.odd
					largest, sum := softmaxPart(w, x)
					if c.sum != c.sum && sum == sum || c.sum == c.sum && (largest != c.largest || sum != c.sum) {
						t.Fatalf("%v among %d of %v: %v, sum %v, want %v, sum %v", c.odd, n, c.others, largest, sum, c.largest, c.sum)
					}
				}
			}
		}
	})
}
