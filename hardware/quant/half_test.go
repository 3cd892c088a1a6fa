package quant

import (
	"math"
	"testing"
)

// TestHalves goes through all halves: their values by definition, their way back, and the rounding between neighbours.
func TestHalves(t *testing.T) {
	for h := range 1 << 16 {
		h := uint16(h)
		got, want := F16ToF32(h), halfFormula([]byte{byte(h), byte(h >> 8)}, 0)
		if !same(got, want) {
			t.Fatalf("F16ToF32(%#04x) = %v, want %v", h, got, want)
		}
		back := F32ToF16(got)
		if got != got {
			if want := h | 0x200; back != want {
				t.Fatalf("F32ToF16 of NaN %#04x is %#04x, want %#04x", h, back, want)
			}
			continue
		}
		if back != h {
			t.Fatalf("F32ToF16(%v) = %#04x, want %#04x", got, back, h)
		}
		checkBetween(t, "F32ToF16", F32ToF16, got, halfAbove(h), h)
	}
}

// halfAbove returns what the next half away from zero would be if exponents had no end.
func halfAbove(h uint16) float32 {
	if h&0x7fff == 0x7bff {
		return float32(math.Copysign(65536, float64(F16ToF32(h))))
	}
	return F16ToF32(h + 1)
}

// checkBetween checks the rounding of what lies between two neighbours, low with the code given and high with the next.
func checkBetween(t *testing.T, name string, convert func(float32) uint16, low, high float32, code uint16) {
	t.Helper()
	middle := low + (high-low)/2
	if math.IsInf(float64(low), 0) || math.IsNaN(float64(middle)) || middle == low {
		return
	}
	even := code + code&1
	below, above := math.Nextafter32(middle, low), math.Nextafter32(middle, high)
	for _, c := range []struct {
		x    float32
		want uint16
	}{{below, code}, {middle, even}, {above, code + 1}} {
		if got := convert(c.x); got != c.want {
			t.Fatalf("%s(%v) = %#04x, want %#04x; between %v and %v", name, c.x, got, c.want, low, high)
		}
	}
}

// TestBFloat16 goes through all bfloat16 in the same way.
func TestBFloat16(t *testing.T) {
	for h := range 1 << 16 {
		h := uint16(h)
		value := math.Float32frombits(uint32(h) << 16)
		if got := BF16ToF32(h); math.Float32bits(got) != math.Float32bits(value) {
			t.Fatalf("BF16ToF32(%#04x) = %v, want %v", h, got, value)
		}
		back := F32ToBF16(value)
		switch {
		case value != value:
			if want := h | 0x40; back != want {
				t.Fatalf("F32ToBF16 of NaN %#04x is %#04x, want %#04x", h, back, want)
			}
		case back != h:
			t.Fatalf("F32ToBF16(%v) = %#04x, want %#04x", value, back, h)
		case h&0x7fff < 0x7f7f:
			checkBetween(t, "F32ToBF16", F32ToBF16, value, BF16ToF32(h+1), h)
		}
	}
	if got := F32ToBF16(math.MaxFloat32); got != 0x7f80 {
		t.Errorf("F32ToBF16 of the largest is %#04x, want infinity", got)
	}
	if got := F32ToBF16(math.Float32frombits(0x7f800001)); got != 0x7fc0 {
		t.Errorf("F32ToBF16 of a signalling NaN is %#04x, want 0x7fc0", got)
	}
}
