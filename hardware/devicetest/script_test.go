package devicetest

import (
	"slices"
	"testing"
)

// TestShuffle wants the same orders in every run, and another one for each player.
func TestShuffle(t *testing.T) {
	var one, other model
	first, _ := one.shuffle(40, 8)
	again, _ := other.shuffle(40, 8)
	second, _ := one.shuffle(40, 8)
	if !slices.Equal(first, again) || slices.Equal(first, second) {
		t.Errorf("two models begin with %v and %v, the first goes on with %v", first, again, second)
	}
}
