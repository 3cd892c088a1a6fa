package draft

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// simulate decodes tokens one lane at a time, on a machine where a step of so many rows takes that long, with guesses
// that are right with some probability. It returns the time, and the time without guesses.
func simulate(c *Control, tokens int, right float64, class int, took func(rows int) time.Duration) (with, without time.Duration) {
	rng := rand.New(rand.NewPCG(7, 7))
	lane := NewLane(16)
	for n := 0; n < tokens; {
		lane.Draft, lane.Source, lane.Class = lane.Draft[:16], NGram, class
		c.Choose([]*Lane{&lane}, 16)
		rows, good := 1+len(lane.Draft), 0
		for good < len(lane.Draft) && rng.Float64() < right {
			good++
		}
		c.Checked(&lane, len(lane.Draft), good)
		c.Took(rows, took(rows))
		with += took(rows)
		without += time.Duration(good+1) * took(1)
		n += good + 1
	}
	return with, without
}

// TestControlPays plays machines and texts: where guesses pay, they are checked, and the time is near the best that a
// fixed number of them takes; where they do not, almost nothing is lost.
func TestControlPays(t *testing.T) {
	machines := map[string]func(rows int) time.Duration{
		"rows for nothing": func(rows int) time.Duration { return time.Millisecond + time.Duration(rows)*10*time.Microsecond },
		"rows in fours":    func(rows int) time.Duration { return time.Duration(1+(rows+3)/4) * time.Millisecond },
		"rows of 30%":      func(rows int) time.Duration { return time.Duration(7+3*rows) * 100 * time.Microsecond },
		"rows as dear":     func(rows int) time.Duration { return time.Duration(rows) * time.Millisecond },
	}
	for name, took := range machines {
		for _, right := range []float64{0, 0.1, 0.3, 0.6, 0.9, 1} {
			c := &Control{}
			simulate(c, 200, right, 2, took) // to learn
			with, without := simulate(c, 2000, right, 2, took)
			best := 1.0
			for k := range 16 {
				expected := 1.0
				for i := range k + 1 {
					expected += math.Pow(right, float64(i+1))
				}
				best = min(best, float64(took(k+2))/float64(took(1))/expected)
			}
			got := float64(with) / float64(without)
			if got > max(1.02, best*1.02) && got > best*1.2 {
				t.Errorf("%s, %v right: the time is %.3f of that without guesses, at best %.3f", name, right, got, best)
			}
			if got > 1.03 {
				t.Errorf("%s, %v right: guesses cost %.1f%%", name, right, 100*(got-1))
			}
		}
	}
}

// TestControlTriesAgain changes the text: guesses that never were right become right.
func TestControlTriesAgain(t *testing.T) {
	took := func(rows int) time.Duration { return time.Duration(9+rows) * 100 * time.Microsecond }
	c := &Control{}
	simulate(c, 1000, 0, 0, took)
	if with, without := simulate(c, 2000, 1, 0, took); float64(with) > 0.5*float64(without) {
		t.Errorf("the time is %.3f of that without guesses", float64(with)/float64(without))
	}
}

// TestNewLanesBeginCarefully has many short texts of which nothing is guessed right, after one that always was: little is
// checked in vain.
func TestNewLanesBeginCarefully(t *testing.T) {
	took := func(rows int) time.Duration { return time.Duration(9+rows) * 100 * time.Microsecond }
	c := &Control{}
	simulate(c, 1000, 1, 5, took)
	var with, without time.Duration
	for range 20 {
		w, o := simulate(c, 50, 0, 5, took)
		with, without = with+w, without+o
	}
	if float64(with) > 1.03*float64(without) {
		t.Errorf("the time is %.3f of that without guesses", float64(with)/float64(without))
	}
}

// TestChooseRoom never takes more than there is room for, and the surest first.
func TestChooseRoom(t *testing.T) {
	c := &Control{Always: true}
	lanes := make([]*Lane, 3)
	for i := range lanes {
		l := NewLane(8)
		l.Draft, l.Class = l.Draft[:4+i], i*2
		lanes[i] = &l
	}
	for room := range 20 {
		for i, l := range lanes {
			l.Draft = l.Draft[:4+i]
		}
		c.Choose(lanes, room)
		sum := 0
		for _, l := range lanes {
			sum += len(l.Draft)
		}
		if sum != min(room, 15) || len(lanes[0].Draft) > len(lanes[2].Draft) {
			t.Errorf("room %d: drafts of %d, %d and %d", room, len(lanes[0].Draft), len(lanes[1].Draft), len(lanes[2].Draft))
		}
	}
}

// TestCosts guesses between and beyond what was measured, and forgets a step that was held up.
func TestCosts(t *testing.T) {
	var c costs
	if c.of(3) <= c.of(1) {
		t.Error("rows cost nothing before anything was measured")
	}
	for range 10 {
		c.update(1, 10)
		c.update(5, 18)
	}
	for rows, want := range map[int]float64{1: 10, 3: 14, 5: 18, 7: 22, 64: 18 + 59*2} {
		if got := c.of(rows); math.Abs(got-want) > 1e-9 {
			t.Errorf("%d rows: %v, want %v", rows, got, want)
		}
	}
	c.update(5, 1000)
	if got := c.of(5); got > 20 {
		t.Errorf("after a step that was held up: %v", got)
	}
	for range 100 {
		c.update(5, 36)
	}
	if one, five := c.of(1), c.of(5); math.Abs(five-36) > 1 || math.Abs(one-20) > 1 {
		t.Errorf("on a machine of half the speed: %v and %v", one, five)
	}
}

// BenchmarkGuess is what a step of one sequence costs whose text is all of few tokens, so that something is always found.
func BenchmarkGuess(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	c, lane := &Control{}, NewLane(16)
	lane.LookIn(nil, []int32{1}, 1<<20)
	tokens := make([]int32, 1, 1<<20)
	for i := 0; b.Loop(); i++ {
		if len(tokens) == cap(tokens) {
			tokens = tokens[:1]
			lane.LookIn(nil, tokens, 1<<20)
		}
		tokens = append(tokens, rng.Int32N(6))
		lane.Tokens, lane.Most, lane.Draft = tokens, 16, lane.Draft[:0]
		(Lookup{}).Propose([]*Lane{&lane})
		c.Choose([]*Lane{&lane}, 16)
		c.Checked(&lane, len(lane.Draft), 0)
		c.Took(1+len(lane.Draft), time.Duration(100+5*len(lane.Draft)))
	}
}

// TestWishesOfTheFinished has a lane whose answer ends with the next token: no model is asked for it, however long ago it
// was tried last.
func TestWishesOfTheFinished(t *testing.T) {
	c := &Control{}
	lane := NewLane(16)
	for range 2 * lastPause {
		lane.Most = 0
		if c.Wish([]*Lane{&lane}, OtherModel, 1, 16); lane.Most != 0 {
			t.Fatalf("%d guesses are wanted of a lane that takes none", lane.Most)
		}
	}
}
