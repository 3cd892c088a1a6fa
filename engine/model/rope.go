package model

import (
	"fmt"
	"math"

	"hearth/engine/weights"
	"hearth/hardware"
)

// RopeConfig holds the hyperparameters of rotary position embedding (arXiv 2104.09864) and its extensions.
type RopeConfig struct {
	Dim     int     // rotated elements of a head
	Theta   float64 // base of the frequencies
	Scaling RopeScaling
}

// RopeScaling stretches a context beyond the trained one.
type RopeScaling struct {
	Type               string  // "", "linear", "llama3" or "yarn"
	Factor             float64 // of the context's length
	OriginalContext    int     // positions before stretching
	LowFreq, HighFreq  float64 // llama3: wavelengths, as fractions of the original context
	BetaFast, BetaSlow float64 // yarn: rotations over the original context between which it interpolates
	Magnitude          float64 // yarn: multiplies cosine and sine, beside the paper's 0.1 ln(factor) + 1
	UnitMagnitude      bool    // yarn: cosine and sine are not multiplied (DeepSeek)
	LogMultiplier      float64 // yarn: DeepSeek scales attention by the square of LogMultiplier ln(factor) + 1
}

// AttentionFactor multiplies the logits of attention where YaRN is to act on them alone, and not on cosine and sine.
func (s RopeScaling) AttentionFactor() float64 {
	if s.Type != "yarn" {
		return 1
	}
	m := s.LogMultiplier*math.Log(s.Factor) + 1
	return m * m
}

// rope reads the rotary keys.
func (k *keys) rope(c *Config) RopeConfig {
	r := RopeConfig{
		Dim:   k.count("rope.dimension_count", c.HeadDim, maxWidth),
		Theta: k.number("rope.freq_base", 10000),
	}
	s := &r.Scaling
	s.Type = k.text("rope.scaling.type", "linear")
	if s.Factor = k.number("rope.scaling.factor", 1); s.Factor == 0 { // converters write 0 for "no scaling"
		s.Factor = 1
	}
	switch s.Type {
	case "none", "default":
		s.Type = ""
		return r
	case "linear", "llama3", "yarn":
	default:
		k.wrong("rope.scaling.type", "is %q; known are none, linear, llama3 and yarn", s.Type)
		return r
	}
	if s.Type == "linear" && s.Factor == 1 { // how converters write "no scaling"
		s.Type = ""
		return r
	}
	s.OriginalContext = k.count("rope.scaling.original_context_length", c.ContextLength, MaxContext)
	s.LowFreq = k.number("rope.scaling.low_freq_factor", 1)
	s.HighFreq = k.number("rope.scaling.high_freq_factor", 4)
	s.BetaFast = k.number("rope.scaling.yarn_beta_fast", 32)
	s.BetaSlow = k.number("rope.scaling.yarn_beta_slow", 1)
	s.Magnitude = k.number("rope.scaling.attn_factor", 1)
	if s.LogMultiplier = k.number("rope.scaling.yarn_log_multiplier", 0); !(s.LogMultiplier >= 0) || s.LogMultiplier > 1 {
		k.wrong("rope.scaling.yarn_log_multiplier", "is %v, want a number from 0 to 1", s.LogMultiplier)
	}
	k.checkScaling(s)
	return r
}

// checkScaling verifies that the formulas below stay finite.
func (k *keys) checkScaling(s *RopeScaling) {
	for _, key := range []struct {
		name  string
		value float64
	}{
		{"factor", s.Factor}, {"low_freq_factor", s.LowFreq}, {"high_freq_factor", s.HighFreq},
		{"yarn_beta_fast", s.BetaFast}, {"yarn_beta_slow", s.BetaSlow}, {"attn_factor", s.Magnitude},
	} {
		if !(key.value > 0) || math.IsInf(key.value, 0) {
			k.wrong("rope.scaling."+key.name, "is %v, want a positive number", key.value)
		}
	}
	if s.HighFreq <= s.LowFreq {
		k.wrong("rope.scaling.high_freq_factor", "is %v, want more than low_freq_factor %v", s.HighFreq, s.LowFreq)
	}
}

// Rope declares a rotary embedding, with the divisors of rope_freqs.weight where the file has them.
func (l *Loader) Rope(r RopeConfig, pairing hardware.Pairing) hardware.Rope {
	const name = "rope_freqs.weight"
	var factors []float32
	if l.Has(name) {
		if factors = l.Values(name, r.Dim/2); factors == nil {
			return hardware.Rope{}
		}
		for i, f := range factors {
			if !(f > 0) || math.IsInf(float64(f), 0) {
				l.fail(fmt.Errorf("%w: tensor %q: element %d is %v, want a positive number", weights.ErrCorrupt, name, i, f))
				return hardware.Rope{}
			}
		}
	}
	return l.program.Rope(r.info(pairing, factors))
}

// info returns the rotation with all scaling applied. Factors, when not nil, divide the frequencies: the tensor
// rope_freqs.weight of GGUF files, which holds llama3's scaling ready made.
func (r RopeConfig) info(pairing hardware.Pairing, factors []float32) hardware.RopeInfo {
	info := hardware.RopeInfo{Frequencies: make([]float64, r.Dim/2), Magnitude: 1, Pairing: pairing}
	for i := range info.Frequencies {
		f := frequency(i, r.Dim, r.Theta)
		switch {
		case factors != nil:
			f /= float64(factors[i])
		case r.Scaling.Type == "linear":
			f /= r.Scaling.Factor
		case r.Scaling.Type == "llama3":
			f /= r.Scaling.llama3Divisor(f)
		case r.Scaling.Type == "yarn":
			f = r.yarn(f, i)
		}
		info.Frequencies[i] = f
	}
	if r.Scaling.Type == "yarn" && !r.Scaling.UnitMagnitude {
		info.Magnitude = float32(r.Scaling.Magnitude * (0.1*math.Log(r.Scaling.Factor) + 1))
	}
	return info
}

// llama3Divisor is Llama 3.1's rule (Hugging Face modeling_rope_utils.py): long wavelengths are divided by the factor,
// short ones kept, those between blended.
func (s RopeScaling) llama3Divisor(frequency float64) float64 {
	wavelength := 2 * math.Pi / frequency
	original := float64(s.OriginalContext)
	switch {
	case wavelength < original/s.HighFreq:
		return 1
	case wavelength > original/s.LowFreq:
		return s.Factor
	}
	smooth := (original/wavelength - s.LowFreq) / (s.HighFreq - s.LowFreq)
	return 1 / ((1-smooth)/s.Factor + smooth)
}

// Divisors returns by how much llama3's rule divides the frequency of each pair: what converters store as
// rope_freqs.weight.
func (s RopeScaling) Divisors(dim int, theta float64) []float64 {
	divisors := make([]float64, dim/2)
	for i := range divisors {
		divisors[i] = s.llama3Divisor(frequency(i, dim, theta))
	}
	return divisors
}

// frequency is that of pair i, in radians per position.
func frequency(i, dim int, theta float64) float64 { return math.Pow(theta, -2*float64(i)/float64(dim)) }

// yarn interpolates pair i by YaRN's ramp (arXiv 2309.00071 §3.2): pairs that turn often over the original context
// keep their frequency, slow ones are divided by the factor.
func (r RopeConfig) yarn(frequency float64, i int) float64 {
	s := r.Scaling
	correction := func(rotations float64) float64 {
		return float64(r.Dim) * math.Log(float64(s.OriginalContext)/(rotations*2*math.Pi)) / (2 * math.Log(r.Theta))
	}
	low := math.Max(0, math.Floor(correction(s.BetaFast)))
	high := math.Min(float64(r.Dim-1), math.Ceil(correction(s.BetaSlow)))
	ramp := 1 - min(max((float64(i)-low)/math.Max(0.001, high-low), 0), 1)
	return frequency * ((1-ramp)/s.Factor + ramp)
}
