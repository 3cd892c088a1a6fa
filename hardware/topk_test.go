package hardware

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestTopK compares with sorting: the scores taken are the largest, their places ascend, and each comes once.
func TestTopK(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for n := range 70 {
		for _, values := range []int{2, 5, 1 << 30} {
			scores := make([]float32, n)
			for i := range scores {
				scores[i] = float32(rng.IntN(values) - values/2)
			}
			sorted := slices.Sorted(slices.Values(scores))
			slices.Reverse(sorted)
			for k := range n + 1 {
				places := make([]int32, k)
				TopK(places, scores)
				var taken []float32
				for _, p := range places {
					taken = append(taken, scores[p])
				}
				slices.Sort(taken)
				slices.Reverse(taken)
				if !slices.Equal(taken, sorted[:k]) || !slices.IsSorted(places) || len(slices.Compact(slices.Clone(places))) != k {
					t.Fatalf("the best %d of %v are at %v", k, scores, places)
				}
			}
		}
	}
}

// TestTopKTies follows the rule for equal scores by hand. Of four equal scores the heap is [2 3 0 1]: first the hole of
// place 1 sinks past 3, then that of place 0 past 2, of the equal children the right one. A larger score gives up the top, 2,
// and then, with the heap [0 3 4 1], the next one 0.
func TestTopKTies(t *testing.T) {
	for _, c := range []struct {
		scores []float64
		want   []int32
	}{
		{[]float64{0, 0, 0, 0, 0, 0}, []int32{0, 1, 2, 3}},
		{[]float64{0, 0, 0, 0, 1, 0}, []int32{0, 1, 3, 4}},
		{[]float64{0, 0, 0, 0, 1, 0, 1}, []int32{1, 3, 4, 6}},
		{[]float64{0, 0, 0, 0, 1, 1, 1, 0, 1}, []int32{4, 5, 6, 8}},
	} {
		places := make([]int32, 4)
		if TopK(places, c.scores); !slices.Equal(places, c.want) {
			t.Errorf("of %v: %v, want %v", c.scores, places, c.want)
		}
	}
}
