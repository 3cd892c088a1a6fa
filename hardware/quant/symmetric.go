package quant

// tiny is the magnitude below which the searches take a run for zeros (GROUP_MAX_EPS of ggml-quants.c).
const tiny = 1e-15

// symmetricSearch finds codes -most … most-1 and a scale, x ≈ scale·code, with small weighted squared error. It tries
// scales around the one that maps the largest element to -most; for each, the fit is Σwxq/Σwq².
//
// This is make_qx_quants of ggml-quants.c in single precision and in the same order of operations.
func symmetricSearch(codes []int8, x, weights []float32, most int32) (scale float32) {
	largest, _ := extreme(x)
	if max(largest, -largest) < tiny {
		clear(codes)
		return 0
	}
	width := float32(-most) / largest
	sumXL, sumL2 := fitCodes(x, weights, width, most)
	if sumL2 > 0 {
		scale = sumXL / sumL2
	}
	best, chosen := scale*sumXL, width
	for i := float32(-9); i <= 9; i++ {
		if i == 0 {
			continue
		}
		width = -(float32(most) + float32(0.1*i)) / largest
		sumXL, sumL2 = fitCodes(x, weights, width, most)
		if sumL2 > 0 && sumXL*sumXL > best*sumL2 {
			scale, chosen = sumXL/sumL2, width
			best = scale * sumXL
		}
	}
	for i, v := range x {
		codes[i] = int8(roundEven(chosen*v, -most, most-1))
	}
	return scale
}

// fitCodes returns Σwxq and Σwq² of the codes that a width gives.
func fitCodes(x, weights []float32, width float32, most int32) (sumXL, sumL2 float32) {
	for i, v := range x {
		l := float32(roundEven(width*v, -most, most-1))
		w := weights[i]
		sumXL += float32(float32(w*v) * l)
		sumL2 += float32(float32(w*l) * l)
	}
	return sumXL, sumL2
}

// descend finds codes -most … most-1 and a scale like symmetricSearch, errors weighted by x², by coordinate descent:
// from the codes that map the largest element to -most it changes one code at a time while the fit gets better, in at
// most five sweeps.
//
// This is make_q3_quants of ggml-quants.c in single precision and in the same order of operations.
func descend(codes []int8, x []float32, most int32) (scale float32) {
	largest, _ := extreme(x)
	if max(largest, -largest) < tiny {
		clear(codes)
		return 0
	}
	width := float32(-most) / largest
	var sumXL, sumL2 float32
	for i, v := range x {
		codes[i] = int8(roundEven(width*v, -most, most-1))
		l, w := float32(codes[i]), v*v
		sumXL += float32(float32(w*v) * l)
		sumL2 += float32(float32(w*l) * l)
	}
	for changed, sweep := true, 0; changed && sweep < 5; sweep++ {
		changed = false
		for i, v := range x {
			l, w := float32(codes[i]), v*v
			restXL := sumXL - float32(float32(w*v)*l)
			if !(restXL > 0) {
				continue
			}
			restL2 := sumL2 - float32(float32(w*l)*l)
			code := roundEven(v*restL2/restXL, -most, most-1)
			if code == int32(codes[i]) {
				continue
			}
			l = float32(code)
			restXL += float32(float32(w*v) * l)
			restL2 += float32(float32(w*l) * l)
			if restL2 > 0 && restXL*restXL*sumL2 > sumXL*sumXL*restL2 {
				codes[i], sumXL, sumL2, changed = int8(code), restXL, restL2, true
			}
		}
	}
	if !(sumL2 > 0) {
		return 0
	}
	return sumXL / sumL2
}
