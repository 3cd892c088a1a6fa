package quant

// affineSearch finds codes 0 … most, a scale and a minimum for a run of elements, x ≈ scale·code − minimum, with small
// weighted error. It starts from the range of the elements and then tries other widths; for each, the line through the
// codes is the weighted least squares fit. An accepted fit moves the low end for the widths that follow.
//
// This is make_qkx2_quants of ggml-quants.c in single precision and in the same order of operations, so that the blocks
// come out the same.
type affineSearch struct {
	most        int32   // largest code
	first, step float32 // widths tried: (most + first + step·i) codes over the range
	steps       float32 // i = 0 … steps
	absolute    bool    // weigh |error| instead of its square
}

// search fills codes, and returns scale and minimum, neither negative. All three slices have one length, at most 32.
func (s *affineSearch) search(codes []uint8, x, weights []float32) (scale, minimum float32) {
	var buffer [32]uint8
	trial := buffer[:len(x)]
	lo, hi := x[0], x[0]
	var sumW, sumX float32
	for i, v := range x {
		lo, hi = min(lo, v), max(hi, v)
		sumW += weights[i]
		sumX += float32(weights[i] * v)
	}
	lo = min(lo, 0)
	if hi == lo {
		clear(codes)
		return 0, -lo
	}

	width := float32(s.most) / (hi - lo)
	scale = 1 / width
	s.assign(codes, x, width, lo)
	best := s.err(codes, x, weights, scale, lo)
	for i := float32(0); i <= s.steps; i++ {
		width = (s.first + float32(s.step*i) + float32(s.most)) / (hi - lo)
		s.assign(trial, x, width, lo)
		var sumL, sumL2, sumXL float32
		for j, c := range trial {
			l := float32(c)
			wl := float32(weights[j] * l)
			sumL += wl
			sumL2 += float32(wl * l)
			sumXL += float32(wl * x[j])
		}
		det := float32(sumW*sumL2) - float32(sumL*sumL)
		if !(det > 0) {
			continue
		}
		a := (float32(sumW*sumXL) - float32(sumX*sumL)) / det
		b := (float32(sumL2*sumX) - float32(sumL*sumXL)) / det
		if b > 0 {
			a, b = sumXL/sumL2, 0
		}
		if err := s.err(trial, x, weights, a, b); err < best {
			copy(codes, trial)
			best, scale, lo = err, a, b
		}
	}
	return scale, -lo
}

// assign gives each element its nearest code.
func (s *affineSearch) assign(codes []uint8, x []float32, width, lo float32) {
	for i, v := range x {
		codes[i] = uint8(roundEven(width*(v-lo), 0, s.most))
	}
}

// err returns the weighted error of x ≈ scale·code + lo.
func (s *affineSearch) err(codes []uint8, x, weights []float32, scale, lo float32) float32 {
	var sum float32
	for i, c := range codes {
		d := float32(scale*float32(c)) + lo - x[i]
		if s.absolute {
			d = max(d, -d)
		} else {
			d = float32(d * d)
		}
		sum += float32(weights[i] * d)
	}
	return sum
}
