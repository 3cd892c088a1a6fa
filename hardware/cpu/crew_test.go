package cpu

import (
	"testing"
	"time"
)

// observeFor tells a crew of steps of a time each in which so much of it was lost by every worker.
func observeFor(c *crew, total, each time.Duration, lostPart float64) {
	for spent := time.Duration(0); spent < total; spent += each {
		c.observe(1, time.Duration(lostPart*float64(each)*float64(c.active)), each)
	}
}

func TestCrewShrinksAndGrows(t *testing.T) {
	c := newCrew(6)
	observeFor(&c, time.Second, 5*time.Millisecond, 0.1)
	if c.active != 6 {
		t.Fatalf("%d workers after losing a tenth of the time, want all 6", c.active)
	}
	var sizes []int
	for range 4 {
		sizes = append(sizes, c.active)
		observeFor(&c, crewWindow, crewWindow/4, 0.9)
	}
	if want := [4]int{6, 3, 2, 1}; [4]int(sizes) != want {
		t.Errorf("the crew shrank by %v, want %v", sizes, want)
	}
	observeFor(&c, 20*mostPatience, crewWindow/2, 0)
	if c.active != 6 || c.patience != leastPatience {
		t.Errorf("%d workers and a patience of %v long after the last time was lost, want 6 and %v", c.active, c.patience, leastPatience)
	}
}

// TestCrewTriesRarely checks that a crew whose every attempt to grow fails spends little of its time with them.
func TestCrewTriesRarely(t *testing.T) {
	c := newCrew(2)
	const each = 10 * time.Millisecond
	failing, total := time.Duration(0), time.Minute
	for spent := time.Duration(0); spent < total; spent += each {
		lost := time.Duration(0)
		if c.active == 2 {
			failing += each
			lost = 2 * each * 9 / 10
		}
		c.observe(1, lost, each)
	}
	if failing > total/50 {
		t.Errorf("%v of %v were spent with two workers in each other's way", failing, total)
	}
}

// TestCrewForgivesOneSlice checks that what happens once in a while on every machine changes nothing.
func TestCrewForgivesOneSlice(t *testing.T) {
	c := newCrew(2)
	for i := range 1000 {
		lost := time.Duration(0)
		if i%10 == 0 {
			lost = 3 * time.Millisecond
		}
		c.observe(1, lost, 5*time.Millisecond)
		if c.active != 2 {
			t.Fatalf("step %d: a slice of 3 ms in 50 ms made the crew %d", i, c.active)
		}
	}
}

// TestCrewKeepsTogetherForPrompts checks that long waits change nothing where items are long too, and that a crew which
// has shrunk grows again meanwhile.
func TestCrewKeepsTogetherForPrompts(t *testing.T) {
	c := newCrew(4)
	observeFor(&c, crewWindow, crewWindow/4, 0.9)
	if c.active != 2 {
		t.Fatalf("%d workers after losing nine tenths of the time, want 2", c.active)
	}
	for range 100 {
		c.observe(crewRows+1, 100*time.Millisecond, 100*time.Millisecond)
	}
	if c.active != 4 {
		t.Errorf("%d workers after steps of many rows, want all 4", c.active)
	}
}
