package draft

// maxRows is the most rows of a step whose time is kept by their exact number. Beyond it nothing pays that does not
// before: a device reads its weights once for so many.
const maxRows = 64

// costs are the measured seconds of steps by their number of rows. They do not follow a straight line: some rows more are
// for nothing, where a device computes several at once, and the next is not.
type costs struct {
	seconds [maxRows + 1]float64 // moving averages; 0: never measured
	counts  [maxRows + 1]int
	latest  [maxRows + 1]int     // steps when it was measured last
	guessed [maxRows + 1]float64 // seconds, and between and beyond what was measured a guess; all 0 before the first
	steps   int
}

const (
	newest     = 0.1 // weight of the newest measure
	unknownRow = 0.1 // what a row is taken to cost, as a part of the step without it, before steps of several are known
	oldest     = 128 // steps after which a time is measured again
)

// update takes a measure. A step that was held up by something else must not count much.
func (c *costs) update(rows int, seconds float64) {
	if rows < 1 || rows > maxRows {
		return
	}
	average := &c.seconds[rows]
	c.counts[rows]++
	c.steps++
	c.latest[rows] = c.steps
	switch n := c.counts[rows]; {
	case n == 1:
		*average = seconds
	case n <= 3: // the first may have been slow for reasons of its own
		*average = min(*average, seconds)
	default:
		change := newest * (min(seconds / *average, 2) - 1)
		for i := range c.seconds { // a longer context or a slower machine concerns all
			c.seconds[i] *= 1 + change
			c.guessed[i] *= 1 + change
		}
		return
	}
	c.guess()
}

// known reports whether a step of so many rows was measured, and lately.
func (c *costs) known(rows int) bool {
	return rows > maxRows || c.counts[rows] >= 2 && c.steps-c.latest[rows] < oldest
}

// guess fills in what was not measured: a straight line between the nearest numbers that were.
func (c *costs) guess() {
	least, last := 0, 0
	for rows, seconds := range c.seconds {
		if seconds == 0 {
			continue
		}
		if last == 0 {
			least = rows
		}
		for i := last + 1; i <= rows; i++ {
			part := float64(i-last) / float64(rows-last)
			c.guessed[i] = seconds
			if last > 0 {
				c.guessed[i] = c.seconds[last] + part*(seconds-c.seconds[last])
			}
		}
		last = rows
	}
	slope := unknownRow * c.seconds[last]
	if least < last {
		slope = max((c.seconds[last]-c.seconds[least])/float64(last-least), slope/4)
	}
	for i := last + 1; i <= maxRows; i++ {
		c.guessed[i] = c.seconds[last] + float64(i-last)*slope
	}
	for i := maxRows - 1; i > 0; i-- { // fewer rows do not take longer: a step was held up that seems to say so
		c.guessed[i] = min(c.guessed[i], c.guessed[i+1])
	}
}

// of is about the time of a step of so many rows, in an unknown unit before anything was measured.
func (c *costs) of(rows int) float64 {
	if c.guessed[1] == 0 {
		return 1 + unknownRow*float64(rows-1)
	}
	if rows <= maxRows {
		return c.guessed[max(rows, 1)]
	}
	return c.guessed[maxRows] * float64(rows) / maxRows
}
