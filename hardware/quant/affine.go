package quant

// affineCodes finds codes 0 … most, a scale and a minimum for 32 elements, x ≈ scale·code + minimum. Without weights
// the codes spread over the range of the elements; with them it searches. Elements that are not all finite give a scale
// and a minimum that are not a number.
func affineCodes(codes *[32]uint8, x, weights []float32, most uint8) (scale, minimum float32) {
	if !finite(x) {
		clear(codes[:])
		return nan(), nan()
	}
	if weights != nil {
		search := weightedSearch(int32(most))
		scale, minimum = search.search(codes[:], x, weights)
		return scale, -minimum
	}
	lo, hi := x[0], x[0]
	for _, v := range x[1:] {
		lo, hi = min(lo, v), max(hi, v)
	}
	d := (hi - lo) / float32(most)
	inv := quotient(1, d)
	for i, v := range x {
		codes[i] = truncate(float32((v-lo)*inv)+0.5, most)
	}
	return d, lo
}

// affineSearch finds codes 0 … most, a scale and a minimum for a run of elements, x ≈ scale·code − minimum, with small
// weighted error. It starts from the range of the elements and then tries other widths; for each, the line through the
// codes is the weighted least squares fit. An accepted fit moves the low end for the widths that follow.
//
// This is make_qkx2_quants and make_qkx3_quants of ggml-quants.c in single precision and in the same order of
// operations, so that the blocks come out the same.
type affineSearch struct {
	most        int32   // largest code
	first, step float32 // widths tried: (most + first + step·i) codes over the range
	steps       float32 // i = 0 … steps
	absolute    bool    // weigh |error| instead of its square
}

// weightedSearch is the search of all formats when the importance of the columns is known.
func weightedSearch(most int32) affineSearch {
	return affineSearch{most: most, first: -0.9, step: 0.05, steps: 36}
}

// search fills codes, and returns scale and minimum, neither negative. All three slices have one length, at most 32.
func (s *affineSearch) search(codes []uint8, x, weights []float32) (scale, minimum float32) {
	var best, trial [32]float32 // codes, as numbers: they are multiplied more often than they are kept
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
	s.fit(&best, x, weights, width, lo)
	least := s.err(&best, x, weights, scale, lo)
	for i := float32(0); i <= s.steps; i++ {
		width = (s.first + float32(s.step*i) + float32(s.most)) / (hi - lo)
		sumL, sumL2, sumXL := s.fit(&trial, x, weights, width, lo)
		det := float32(sumW*sumL2) - float32(sumL*sumL)
		if !(det > 0) {
			continue
		}
		a := (float32(sumW*sumXL) - float32(sumX*sumL)) / det
		b := (float32(sumL2*sumX) - float32(sumL*sumXL)) / det
		if b > 0 {
			a, b = sumXL/sumL2, 0
		}
		if err := s.err(&trial, x, weights, a, b); err < least {
			best, least, scale, lo = trial, err, a, b
		}
	}
	for i := range codes {
		codes[i] = uint8(best[i])
	}
	return scale, -lo
}

// fit gives each element its nearest code, width·(element − lo) rounded as roundEven does, and returns the weighted sums of
// the codes, of their squares, and of their products with the elements.
func (s *affineSearch) fit(codes *[32]float32, x, weights []float32, width, lo float32) (sumL, sumL2, sumXL float32) {
	const shift = 0x1.8p23 // see roundEven
	most := float32(s.most)
	row := codes[:len(x)]
	weights = weights[:len(x)]
	for i, v := range x {
		l := float32(width * (v - lo))
		switch {
		case !(l > 0):
			l = 0
		case l >= most:
			l = most
		default:
			l = float32(l+shift) - shift
		}
		row[i] = l
		wl := float32(weights[i] * l)
		sumL += wl
		sumL2 += float32(wl * l)
		sumXL += float32(wl * v)
	}
	return sumL, sumL2, sumXL
}

// err returns the weighted error of x ≈ scale·code + lo.
func (s *affineSearch) err(codes *[32]float32, x, weights []float32, scale, lo float32) float32 {
	var sum float32
	row := codes[:len(x)]
	weights = weights[:len(x)]
	for i, v := range x {
		d := float32(scale*row[i]) + lo - v
		if s.absolute {
			d = max(d, -d)
		} else {
			d = float32(d * d)
		}
		sum += float32(weights[i] * d)
	}
	return sum
}

// roundScales rounds the scales of runs, none negative, to codes 0 … most, and returns the scale of the scales. Without
// weights of the runs the largest scale becomes exactly most. With them it tries scales around that one, and then
// changes one code at a time while the weighted squared error gets smaller, in at most five sweeps.
//
// With weights this is make_qp_quants of ggml-quants.c in single precision and in the same order of operations.
func roundScales(codes []uint8, scales, weights []float32, most int32) (d float32) {
	var largest float32
	for _, v := range scales {
		largest = max(largest, v)
	}
	width := quotient(float32(most), largest)
	if weights == nil {
		for i, v := range scales {
			codes[i] = uint8(roundEven(width*v, 0, most))
		}
		return largest / float32(most)
	}
	if !(largest >= tiny) {
		clear(codes)
		return 0
	}
	best := scaleError(scales, weights, width, most)
	for i := float32(-4); i <= 4; i++ {
		trial := (float32(0.1*i) + float32(most)) / largest
		if err := scaleError(scales, weights, trial, most); i != 0 && err < best {
			best, width = err, trial
		}
	}
	fit := squaresFit{}
	var signed [16]int8
	for i, v := range scales {
		signed[i] = int8(roundEven(width*v, 0, most))
		fit.add(v, weights[i], signed[i])
	}
	fit.descend(signed[:len(scales)], scales, weights, 0, most)
	for i := range codes {
		codes[i] = uint8(signed[i])
	}
	return fit.scale()
}

// scaleError returns the weighted squared error of the scales once they are rounded.
func scaleError(scales, weights []float32, width float32, most int32) (sum float32) {
	scale := 1 / width
	for i, v := range scales {
		diff := v - float32(scale*float32(roundEven(width*v, 0, most)))
		sum += float32(float32(weights[i]*diff) * diff)
	}
	return sum
}
