package model

import (
	"math"
	"testing"

	"hearth/hardware"
)

func frequencies(r RopeConfig, factors []float32) ([]float64, float32) {
	info := r.info(hardware.HalfSplit, factors)
	return info.Frequencies, info.Magnitude
}

func close(a, b float64) bool { return math.Abs(a-b) <= 1e-12*math.Abs(b) }

func TestRopePlainAndLinear(t *testing.T) {
	plain, magnitude := frequencies(RopeConfig{Dim: 8, Theta: 10000}, nil)
	for i, want := range []float64{1, 0.1, 0.01, 0.001} {
		if !close(plain[i], want) || magnitude != 1 {
			t.Errorf("pair %d: %v, want %v", i, plain[i], want)
		}
	}
	linear, _ := frequencies(RopeConfig{Dim: 8, Theta: 10000, Scaling: RopeScaling{Type: "linear", Factor: 4}}, nil)
	divided, _ := frequencies(RopeConfig{Dim: 8, Theta: 10000}, []float32{4, 4, 4, 4})
	for i := range plain {
		if !close(linear[i], plain[i]/4) || !close(divided[i], plain[i]/4) {
			t.Errorf("pair %d: %v and %v, want %v", i, linear[i], divided[i], plain[i]/4)
		}
	}
}

// TestRopeLlama3 checks the rule at its two ends and between, for the parameters of Llama 3.1.
func TestRopeLlama3(t *testing.T) {
	s := RopeScaling{Type: "llama3", Factor: 8, OriginalContext: 8192, LowFreq: 1, HighFreq: 4}
	r := RopeConfig{Dim: 128, Theta: 500000, Scaling: s}
	scaled, _ := frequencies(r, nil)
	plain, _ := frequencies(RopeConfig{Dim: 128, Theta: 500000}, nil)
	for i, f := range plain {
		divisor := f / scaled[i]
		switch wavelength := 2 * math.Pi / f; {
		case wavelength < 2048 && !close(divisor, 1), wavelength > 8192 && !close(divisor, 8), divisor < 1-1e-12, divisor > 8+1e-12:
			t.Errorf("pair %d of wavelength %v is divided by %v", i, wavelength, divisor)
		}
	}
	// Between: a wavelength of 4096 gives smooth = (2 - 1) / (4 - 1), divisor 1 / ((2/3)/8 + 1/3) = 2.4.
	if got := s.llama3Divisor(2 * math.Pi / 4096); !close(got, 2.4) {
		t.Errorf("wavelength 4096 is divided by %v, want 2.4", got)
	}
	factors := s.Divisors(128, 500000)
	for i := range factors {
		if !close(plain[i]/factors[i], scaled[i]) {
			t.Errorf("Divisors: pair %d: %v", i, factors[i])
		}
	}
}

// TestRopeYarn checks Qwen's published setting: theta 1e6, heads of 128, factor 4 over 32768 positions. The ramp begins
// at floor(128 ln(32768 / (32·2π)) / (2 ln 1e6)) = 23 and ends at ceil(128 ln(32768 / 2π) / (2 ln 1e6)) = 40.
func TestRopeYarn(t *testing.T) {
	r := RopeConfig{Dim: 128, Theta: 1e6, Scaling: RopeScaling{
		Type: "yarn", Factor: 4, OriginalContext: 32768, BetaFast: 32, BetaSlow: 1, Magnitude: 1,
	}}
	scaled, magnitude := frequencies(r, nil)
	plain, _ := frequencies(RopeConfig{Dim: 128, Theta: 1e6}, nil)
	if want := float32(0.1*math.Log(4) + 1); magnitude != want {
		t.Errorf("magnitude %v, want %v", magnitude, want)
	}
	for i := range plain {
		interpolated := min(max((float64(i)-23)/(40-23), 0), 1)
		if want := plain[i] * (interpolated/4 + 1 - interpolated); !close(scaled[i], want) {
			t.Errorf("pair %d: %v, want %v", i, scaled[i], want)
		}
	}
}
