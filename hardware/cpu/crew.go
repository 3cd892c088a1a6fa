package cpu

import "time"

// crew decides how many workers run a queue's next step.
//
// Where another process takes a worker's processor, every barrier waits until the system runs that worker again, which
// is a time slice: a hundred times what a phase of few rows takes. Fewer workers then get more done, since the system
// finds them processors of their own; a single one waits for nobody. The bits of a step do not depend on their number.
//
// Time is counted in what steps took, so that a crew does not forget while nothing runs.
type crew struct {
	most   int // workers of the pool
	active int // workers of the next step

	lost, took time.Duration // of the steps since the last decision
	steady     time.Duration // of the steps since active last changed
	patience   time.Duration // before more workers are tried again
}

const (
	crewRows      = 32                    // items of more rows may take as long as a time slice by themselves
	crewWindow    = 20 * time.Millisecond // long enough that a single slice lost decides nothing
	leastPatience = 50 * time.Millisecond
	mostPatience  = 2 * time.Second // a try that fails costs a few hundredths of it
)

func newCrew(size int) crew { return crew{most: size, active: size, patience: leastPatience} }

// observe takes the time that a step of so many rows took and that its workers lost together.
func (c *crew) observe(rows int, lost, took time.Duration) {
	if rows <= crewRows {
		c.lost += lost
	}
	c.took += took
	c.steady += took
	if c.took < crewWindow {
		return
	}
	// Of two workers that lose two fifths, hardly more is left than one does alone.
	held := 5*c.lost > 2*time.Duration(c.active)*c.took
	c.lost, c.took = 0, 0
	switch {
	case held:
		c.resize((c.active + 1) / 2)
		c.patience = min(2*c.patience, mostPatience)
	case c.active == c.most:
		c.patience = max(c.patience-crewWindow, leastPatience)
	case c.steady >= c.patience:
		c.resize(min(2*c.active, c.most))
	}
}

func (c *crew) resize(active int) {
	if active != c.active {
		c.active, c.steady = active, 0
	}
}
