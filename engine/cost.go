package engine

import (
	"time"

	"hearth/hardware"
)

// cost is how long it takes to compute a prompt's row, as a line over its position, since a row attends to all before it:
// the least squares fit to the steps so far, of which the latest count most.
type cost struct {
	weight, x, y, xx, xy float64 // weighted sums: rows, positions, seconds of a row, and products
}

// assumedRow is taken for the time of a row before any was measured: that of a large model on a small machine, so that the
// first sequence after a start rather waits for the disk than computes what it is about to read.
const assumedRow = 10 * time.Millisecond

// costDecay is what older steps count when so many rows were measured: after 2,000 rows half, roughly.
const costDecay = 1.0 / 3000

// observe takes the measure of so many rows around a position.
func (c *cost) observe(rows int, position, seconds float64) {
	n := float64(rows)
	keep := max(0, 1-n*costDecay)
	y := seconds / n
	c.weight, c.x, c.y = keep*c.weight+n, keep*c.x+n*position, keep*c.y+n*y
	c.xx, c.xy = keep*c.xx+n*position*position, keep*c.xy+n*position*y
}

// row is the time of a row at a position, in seconds.
func (c *cost) row(position float64) float64 {
	if c.weight == 0 {
		return assumedRow.Seconds()
	}
	meanX, meanY := c.x/c.weight, c.y/c.weight
	variance, slope := c.xx/c.weight-meanX*meanX, 0.0
	if variance > 1 {
		slope = max(0, (c.xy/c.weight-meanX*meanY)/variance)
	}
	return max(meanY+slope*(position-meanX), meanY/16)
}

// span is about how long it takes to compute positions [from, to).
func (c *cost) span(from, to int) time.Duration {
	if to <= from {
		return 0
	}
	return time.Duration(float64(to-from) * c.row(float64(from+to)/2) * float64(time.Second))
}

// block is about how long it takes to compute the block that ends at a position, when what comes before is there.
func (c *cost) block(end int) time.Duration { return c.span(max(end-hardware.BlockLen, 0), end) }
