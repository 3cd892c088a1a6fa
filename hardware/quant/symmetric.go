package quant

// tiny is the magnitude below which the searches take a run for zeros (GROUP_MAX_EPS of ggml-quants.c).
const tiny = 1e-15

// symmetricCodes finds codes 0 … 2·most-1 and a scale for 32 elements, x ≈ scale·(code-most). Without weights the
// element of largest magnitude becomes exactly -most, so that no code is lost; with them it searches. Elements that are
// not all finite give a scale that is not a number.
func symmetricCodes(codes *[32]uint8, x, weights []float32, most int32) (scale float32) {
	largest, ok := extreme(x)
	if !ok {
		clear(codes[:])
		return nan()
	}
	if weights != nil {
		var signed [32]int8
		scale = symmetricSearch(signed[:], x, weights, most)
		for i, c := range signed {
			codes[i] = uint8(int32(c) + most)
		}
		return scale
	}
	d := largest / float32(-most)
	inv := quotient(1, d)
	for i, v := range x {
		codes[i] = truncate(float32(v*inv)+(float32(most)+0.5), uint8(2*most-1))
	}
	return d
}

// symmetricSearch finds codes -most … most-1 and a scale, x ≈ scale·code, with small weighted squared error. It tries
// scales around the one that maps the largest element to -most; for each, the fit is Σwxq/Σwq².
//
// This is make_qx_quants of ggml-quants.c in single precision and in the same order of operations.
func symmetricSearch(codes []int8, x, weights []float32, most int32) (scale float32) {
	largest, _ := extreme(x)
	if max(largest, -largest) < tiny {
		fill(codes, int8(-most))
		return 0
	}
	width := float32(-most) / largest
	fit := fitCodes(x, weights, width, most)
	scale = fit.scale()
	best, chosen := scale*fit.sumXQ, width
	for i := float32(-9); i <= 9; i++ {
		if i == 0 {
			continue
		}
		width = -(float32(most) + float32(0.1*i)) / largest
		fit = fitCodes(x, weights, width, most)
		if fit.sumQ2 > 0 && fit.sumXQ*fit.sumXQ > best*fit.sumQ2 {
			scale, chosen = fit.scale(), width
			best = scale * fit.sumXQ
		}
	}
	for i, v := range x {
		codes[i] = int8(roundEven(chosen*v, -most, most-1))
	}
	return scale
}

// fitCodes returns Σwxq and Σwq² of the codes that a width gives.
func fitCodes(x, weights []float32, width float32, most int32) (fit squaresFit) {
	for i, v := range x {
		fit.add(v, weights[i], int8(roundEven(width*v, -most, most-1)))
	}
	return fit
}

// squaresFit is the weighted least squares fit of x ≈ scale·q with the codes q.
type squaresFit struct{ sumXQ, sumQ2 float32 } // Σwxq and Σwq²

func (f *squaresFit) add(x, w float32, code int8) {
	q := float32(code)
	f.sumXQ += float32(float32(w*x) * q)
	f.sumQ2 += float32(float32(w*q) * q)
}

// scale returns the scale with the smallest error.
func (f *squaresFit) scale() float32 {
	if !(f.sumQ2 > 0) {
		return 0
	}
	return f.sumXQ / f.sumQ2
}

// descend changes one code at a time, within [lo, hi], while the fit gets better, in at most five sweeps: coordinate
// descent.
func (f *squaresFit) descend(codes []int8, x, weights []float32, lo, hi int32) {
	for changed, sweep := true, 0; changed && sweep < 5; sweep++ {
		changed = false
		for i, v := range x {
			q, w := float32(codes[i]), weights[i]
			rest := squaresFit{f.sumXQ - float32(float32(w*v)*q), f.sumQ2 - float32(float32(w*q)*q)}
			if !(rest.sumXQ > 0) {
				continue
			}
			code := int8(roundEven(v*rest.sumQ2/rest.sumXQ, lo, hi))
			if code == codes[i] {
				continue
			}
			rest.add(v, w, code)
			if rest.sumQ2 > 0 && rest.sumXQ*rest.sumXQ*f.sumQ2 > f.sumXQ*f.sumXQ*rest.sumQ2 {
				codes[i], *f, changed = code, rest, true
			}
		}
	}
}

// descendCodes finds codes -most … most-1 and a scale like symmetricSearch, errors weighted by x²: it starts from the
// codes that map the largest element to -most, and descends.
//
// This is make_q3_quants of ggml-quants.c in single precision and in the same order of operations.
func descendCodes(codes []int8, x []float32, most int32) (scale float32) {
	largest, _ := extreme(x)
	if max(largest, -largest) < tiny {
		fill(codes, int8(-most))
		return 0
	}
	var buffer [32]float32
	weights := square(buffer[:len(x)], x)
	width := float32(-most) / largest
	for i, v := range x {
		codes[i] = int8(roundEven(width*v, -most, most-1))
	}
	fit := fitCodes(x, weights, width, most)
	fit.descend(codes, x, weights, -most, most-1)
	return fit.scale()
}

func fill(codes []int8, code int8) {
	for i := range codes {
		codes[i] = code
	}
}
