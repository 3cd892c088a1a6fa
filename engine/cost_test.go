package engine

import (
	"math"
	"testing"
	"time"

	"hearth/hardware"
)

// TestCostFitsALine measures a machine on which a row takes 2 ms and 1 µs more for each position before it, in steps of any
// size, and wants to be told how long other ranges take; then the machine becomes three times slower.
func TestCostFitsALine(t *testing.T) {
	var c cost
	if got := c.block(hardware.BlockLen); got != hardware.BlockLen*assumedRow {
		t.Errorf("before anything was measured a block takes %v", got)
	}
	slower := 1.0
	row := func(position float64) float64 { return slower * (2e-3 + 1e-6*position) }
	observe := func() {
		for position, rows := 0, 16; position < 8000; position, rows = position+rows, 16+(rows*7)%500 {
			middle := float64(position) + float64(rows)/2
			c.observe(rows, middle, float64(rows)*row(middle))
		}
	}
	check := func() {
		t.Helper()
		for _, span := range [][2]int{{0, 64}, {4000, 8000}, {0, 30_000}, {500, 501}} {
			want := float64(span[1]-span[0]) * row(float64(span[0]+span[1])/2)
			if got := c.span(span[0], span[1]).Seconds(); math.Abs(got-want) > 0.05*want {
				t.Errorf("positions %v take %.3f s, want %.3f", span, got, want)
			}
		}
	}
	observe()
	check()
	slower = 3
	observe()
	observe()
	check()
	if c.span(100, 100) != 0 || c.span(200, 100) != 0 {
		t.Error("nothing takes time")
	}
}

// TestEstimateOfARestore has a disk that answers at different speeds: the estimate follows what came, and a record that does
// not come counts for all that are still wanted.
func TestEstimateOfARestore(t *testing.T) {
	start := time.Now()
	const mib = 1 << 20
	for name, test := range map[string]struct {
		unread, got int // records of 1 MiB
		last, now   time.Duration
		others      time.Duration // when the last record of others came
		ahead       int64         // bytes of others
		speed       float64       // of earlier reads
		want        time.Duration
	}{
		"nothing is known":             {unread: 100},
		"the disk is known":            {unread: 100, speed: 100 * mib, want: time.Second},
		"it is slower than before":     {unread: 50, got: 50, last: time.Second, now: time.Second, speed: 1000 * mib, want: time.Second},
		"it is faster than before":     {unread: 50, got: 50, last: time.Second / 10, now: time.Second / 10, speed: mib, want: time.Second / 10},
		"it stops":                     {unread: 50, got: 50, last: time.Second, now: 2*time.Second + noticeable, want: 50 * time.Second},
		"it does not answer at all":    {unread: 100, now: time.Second + noticeable, speed: 1000 * mib, want: 100 * time.Second},
		"the machine was busy shortly": {unread: 100, now: noticeable, speed: 100 * mib, want: time.Second},
		"others come first":            {unread: 100, ahead: 100 * mib, others: time.Second, now: time.Second, speed: 100 * mib, want: 2 * time.Second},
	} {
		r := &restore{
			unread: test.unread, unreadSize: int64(test.unread) * mib, gotSize: int64(test.got) * mib, began: start, last: start.Add(test.last),
		}
		if got := r.estimate(start.Add(test.now), start.Add(test.others), test.ahead, test.speed); (got - test.want).Abs() > time.Millisecond {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}
