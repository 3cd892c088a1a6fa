package devicetest

import (
	"math"
	"testing"
)

// meter compares a device's rows with the reference's, relative to the size of all of them: single elements may be
// near zero by cancellation.
type meter struct {
	difference, power float64 // sums of squares
	count             int
	worst             float64 // largest difference
	notFinite         bool
}

// add compares rows.
func (m *meter) add(got []float32, want []float64) {
	for i, w := range want {
		d := math.Abs(float64(got[i]) - w)
		if !(d <= math.MaxFloat32) {
			m.notFinite = true
		}
		m.difference += d * d
		m.power += w * w
		m.worst = max(m.worst, d)
	}
	m.count += len(want)
}

// size is the root mean square of the reference's elements.
func (m *meter) size() float64 { return math.Sqrt(m.power / float64(max(1, m.count))) }

// check fails the test when the error is above the bound.
func (m *meter) check(t *testing.T, name string, bound float64) {
	t.Helper()
	if m.count == 0 {
		return
	}
	size := m.size()
	total, single := math.Sqrt(m.difference/float64(m.count))/size, m.worst/size
	if m.notFinite || !(total <= bound) || !(single <= 12*bound) {
		t.Errorf("%s: relative error %.3g (bound %.3g), of a single element %.3g (bound %.3g), not finite: %v",
			name, total, bound, single, 12*bound, m.notFinite)
	}
}
