package quant

// IQ4_NL stores 32 elements in 18 bytes (block_iq4_nl in ggml-common.h): as Q4_0, with codes that are denser near zero.
//
//	0   d   half      scale
//	2   q   uint8[16] y = d·valuesIQ4[q]; low nibbles are elements 0–15, high ones 16–31
var IQ4_NL = register(&Format{
	Name: "IQ4_NL", ID: 20, BlockLen: 32, BlockBytes: 18, MaxError: 0.0765,
	dequantize: dequantizeIQ4_NL, quantize: quantizeIQ4_NL,
})

// valuesIQ4 are the values of the codes of IQ4_NL and IQ4_XS (kvalues_iq4nl in ggml-common.h).
var valuesIQ4 = [16]float32{-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113}

func dequantizeIQ4_NL(dst []float32, src []byte) {
	for ; len(dst) >= 32; dst, src = dst[32:], src[18:] {
		readIQ4(dst[:32], src[2:18], half(src))
	}
}

// readIQ4 reads 32 elements with their scale: nibbles of 16 bytes.
func readIQ4(y []float32, q []byte, d float32) {
	lo, hi := y[:16], y[16:32]
	for i, b := range q[:16] {
		lo[i] = d * valuesIQ4[b&15]
		hi[i] = d * valuesIQ4[b>>4]
	}
}

// writeIQ4 writes the codes nearest to 32 elements times inv.
func writeIQ4(q []byte, x []float32, inv float32) {
	lo, hi := x[:16], x[16:32]
	for i := range q[:16] {
		q[i] = nearestIQ4(inv*lo[i]) | nearestIQ4(inv*hi[i])<<4
	}
}

// nearestIQ4 returns the code of the nearest value, of two equally near ones the larger.
func nearestIQ4(v float32) uint8 {
	if !(v > valuesIQ4[0]) {
		return 0
	}
	below, above := 0, 15
	if v >= valuesIQ4[above] {
		return uint8(above)
	}
	for above-below > 1 {
		if middle := (below + above) / 2; v < valuesIQ4[middle] {
			above = middle
		} else {
			below = middle
		}
	}
	if v = float32(v); v-valuesIQ4[below] < valuesIQ4[above]-v {
		return uint8(below)
	}
	return uint8(above)
}

func quantizeIQ4_NL(dst []byte, src, importance []float32) {
	cols := columns{importance: importance}
	for at := 0; at < len(src); at, dst = at+32, dst[18:] {
		x := src[at : at+32]
		if !finite(x) {
			clear(dst[:18])
			putNaN(dst)
			continue
		}
		cols.measure(x)
		cols.power *= 2
		d := searchIQ4(x, cols.weigh(at, x))
		putHalf(dst, d)
		writeIQ4(dst[2:18], x, quotient(1, d))
	}
}

// searchIQ4 returns the scale of a run with small weighted error. It tries scales that map the largest element to values
// around the first one; for each, the fit is Σwxv/Σwv² over the nearest values v. Without weights they are x².
//
// This is quantize_row_iq4_nl_impl of ggml-quants.c in single precision and in the same order of operations.
func searchIQ4(x, weights []float32) (scale float32) {
	largest, _ := extreme(x)
	if max(largest, -largest) < tiny {
		return 0
	}
	var buffer [32]float32
	if weights == nil {
		weights = square(buffer[:], x)
	}
	sumXV, sumV2 := fitIQ4(x, weights, 1/(-largest/valuesIQ4[0]))
	if sumV2 > 0 {
		scale = sumXV / sumV2
	}
	best := scale * sumXV
	for i := float32(-7); i <= 7; i++ {
		sumXV, sumV2 = fitIQ4(x, weights, (i+valuesIQ4[0])/largest)
		if sumV2 > 0 && sumXV*sumXV > best*sumV2 {
			scale = sumXV / sumV2
			best = scale * sumXV
		}
	}
	return scale
}

// fitIQ4 returns Σwxv and Σwv² of the values nearest to inv·x.
func fitIQ4(x, weights []float32, inv float32) (sumXV, sumV2 float32) {
	for i, v := range x {
		value, w := valuesIQ4[nearestIQ4(inv*v)], weights[i]
		sumXV += float32(float32(w*value) * v)
		sumV2 += float32(float32(w*value) * value)
	}
	return sumXV, sumV2
}
