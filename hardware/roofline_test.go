package hardware

import "testing"

func TestRoofline(t *testing.T) {
	r := Roofline{ReadBytes: 10, Peaks: []Peak{{Int8, "a", 4}, {Int8, "b", 8}, {Float32, "c", 2}}}
	for _, c := range []struct {
		ops        float64
		arithmetic Arithmetic
		bytes      float64
		want       float64
	}{
		{16, Int8, 10, 2}, {16, Int8, 100, 10}, {16, Float32, 0, 8}, {16, BFloat16, 20, 2},
	} {
		if got := r.Seconds(c.ops, c.arithmetic, c.bytes); got != c.want {
			t.Errorf("%g operations of %s on %g bytes take %g s, want %g", c.ops, c.arithmetic, c.bytes, got, c.want)
		}
	}
}
