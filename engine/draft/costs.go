package draft

// maxRows is the most rows of a step whose time is kept by their exact number. Beyond it nothing pays that does not
// before: a device reads its weights once for so many.
const maxRows = 64

// costs are the measured seconds of steps by their number of rows. They do not follow a straight line: some rows more are
// for nothing, where a device computes several at once, and the next is not.
type costs struct {
	seconds [maxRows + 1]float64 // moving averages; 0: never measured
	counts  [maxRows + 1]int
}

const (
	newest     = 0.1 // weight of the newest measure
	drift      = 0.5 // of its deviation, what is taken to be true of other numbers of rows as well
	unknownRow = 0.1 // what a row is taken to cost, as a part of the step without it, before steps of several are known
)

// update takes a measure. A step that was held up by something else must not count much.
func (c *costs) update(rows int, seconds float64) {
	if rows < 1 || rows > maxRows {
		return
	}
	average := &c.seconds[rows]
	c.counts[rows]++
	switch n := c.counts[rows]; {
	case n == 1:
		*average = seconds
		return
	case n <= 3: // the first may have been slow for reasons of its own
		*average = min(*average, seconds)
		return
	}
	change := min(seconds / *average, 2) - 1
	*average += newest * change * *average
	for i := range c.seconds {
		if i != rows {
			c.seconds[i] += drift * newest * change * c.seconds[i]
		}
	}
}

// of is the time of a step of so many rows, between the nearest numbers that were measured.
func (c *costs) of(rows int) float64 {
	rows = max(rows, 1)
	low, high := min(rows, maxRows), rows
	for low > 0 && c.seconds[low] == 0 {
		low--
	}
	for high <= maxRows && c.seconds[high] == 0 {
		high++
	}
	switch {
	case low == 0 && high > maxRows:
		return 1 + unknownRow*float64(rows-1) // of an unknown unit
	case low == 0:
		return c.seconds[high]
	case high > maxRows:
		return c.seconds[low] + float64(rows-low)*c.slope(low)
	case low == high:
		return c.seconds[low]
	}
	part := float64(rows-low) / float64(high-low)
	return c.seconds[low] + part*(c.seconds[high]-c.seconds[low])
}

// slope is what a row costs beyond the most that were measured.
func (c *costs) slope(most int) float64 {
	for least := 1; least < most; least++ {
		if c.seconds[least] != 0 {
			return max((c.seconds[most]-c.seconds[least])/float64(most-least), unknownRow/4*c.seconds[most])
		}
	}
	return unknownRow * c.seconds[most]
}
