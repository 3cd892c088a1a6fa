package draft

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestLookup(t *testing.T) {
	for _, test := range []struct {
		text  []int32
		most  int
		want  []int32
		match int
	}{
		{nil, 4, nil, 0},
		{[]int32{1, 2}, 4, nil, 0},
		{[]int32{1, 2, 3, 4, 5, 1, 2}, 4, nil, 0},                             // two tokens are too few
		{[]int32{1, 2, 3, 4, 5, 1, 2, 3}, 2, []int32{4, 5}, 3},                // what followed
		{[]int32{1, 2, 3, 4, 1, 2, 3}, 6, []int32{4, 1, 2, 3, 4, 1}, 3},       // and goes on like that
		{[]int32{7, 7, 7, 7}, 3, []int32{7, 7, 7}, 3},                         // a place may overlap the end
		{[]int32{1, 2, 3, 4, 9, 1, 2, 3, 5, 9, 1, 2, 3}, 1, []int32{5}, 4},    // the longest
		{[]int32{1, 2, 3, 4, 8, 1, 2, 3, 5, 9, 1, 2, 3}, 1, []int32{5}, 3},    // of equals the latest
		{[]int32{8, 1, 2, 3, 4, 9, 1, 2, 3, 5, 8, 1, 2, 3}, 1, []int32{4}, 4}, // longer before later
		{[]int32{0, 0, 0, 4, 1, 0, 0, 0}, 2, []int32{4, 1}, 3},                // the first place there is
	} {
		x := NewIndex(4)
		x.Append(test.text...)
		got, match := x.Lookup(nil, test.most)
		if !slices.Equal(got, test.want) || match != test.match {
			t.Errorf("%v: %v after %d, want %v after %d", test.text, got, match, test.want, test.match)
		}
	}
}

// TestLookupAgainstSearch compares with a search through the whole text, tokens added in pieces of any length.
func TestLookupAgainstSearch(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		x, text := NewIndex(10), []int32(nil)
		for range 300 {
			piece := make([]int32, rng.IntN(4))
			for i := range piece {
				piece[i] = rng.Int32N(5)
			}
			x.Append(piece...)
			text = append(text, piece...)
			draft, match := x.Lookup(nil, 3)
			best, at, seen := minMatch-1, 0, 0
			for place := len(text) - 1; place >= minMatch && seen < maxCandidates && best < maxMatch; place-- {
				n := 0
				for n < min(place, maxMatch) && text[place-1-n] == text[len(text)-1-n] {
					n++
				}
				if n >= minMatch {
					seen++
				}
				if n > best {
					best, at = n, place
				}
			}
			var want []int32
			for i := range 3 {
				if at > 0 {
					want = append(want, text[at+i%(len(text)-at)])
				}
			}
			if at == 0 {
				best = 0
			}
			if match != best || !slices.Equal(draft, want) {
				t.Fatalf("seed %d: after %v: %v after %d, want %v after %d", seed, text, draft, match, want, best)
			}
		}
	}
}

// TestProposeExpected looks in a text that is not the sequence's.
func TestProposeExpected(t *testing.T) {
	lane := NewLane(8)
	lane.LookIn([]int32{1, 2, 3, 4, 5, 6}, []int32{9, 8, 1}, 20)
	for _, step := range []struct {
		tokens, want []int32
		class        int
	}{
		{[]int32{9, 8, 1}, nil, 0},
		{[]int32{9, 8, 1, 2, 3}, []int32{4, 5, 6, 9}, 0},
		{[]int32{9, 8, 1, 2, 3, 4}, []int32{5, 6, 9, 8}, 1},
	} {
		lane.Tokens, lane.Most = step.tokens, 4
		if err := (Lookup{}).Propose([]*Lane{&lane}); err != nil || !slices.Equal(lane.Draft, step.want) || lane.Class != step.class {
			t.Errorf("%v: %v of class %d, %v; want %v of class %d", step.tokens, lane.Draft, lane.Class, err, step.want, step.class)
		}
	}
	lane.Tokens, lane.Most = slices.Repeat([]int32{4}, 100), 1
	if (Lookup{}).Propose([]*Lane{&lane}); lane.Class != NumClasses-1 {
		t.Errorf("a match of %d tokens is of class %d", maxMatch, lane.Class)
	}
}

func BenchmarkLookup(b *testing.B) {
	for _, vocab := range []int32{4, 1000} {
		b.Run(fmt.Sprint("vocab", vocab), func(b *testing.B) {
			rng := rand.New(rand.NewPCG(1, 1))
			x, draft := NewIndex(1<<22), make([]int32, 0, 16)
			for b.Loop() {
				x.Append(rng.Int32N(vocab))
				draft, _ = x.Lookup(draft[:0], 16)
			}
		})
	}
}
