package quant

// Q4_K stores 256 elements in 144 bytes (block_q4_K in ggml-common.h): 8 runs of 32, each with a scale and a minimum of
// 6 bits.
//
//	0   d     half       scale of the scales
//	2   dmin  half       scale of the minimums
//	4   s     uint8[12]  8 scales and 8 minimums, see scaleMin
//	16  q     uint8[128] y = d·scale·q - dmin·min; in each 32 bytes low nibbles are one run, high ones the next
var Q4_K = register(&Format{
	Name: "Q4_K", ID: 12, BlockLen: 256, BlockBytes: 144, MaxError: 0.0715,
	dequantize: dequantizeQ4_K, quantize: quantizeQ4_K,
})

var searchQ4_K = affineSearch{most: 15, first: -1, step: 0.1, steps: 20}

// scaleMin returns the j-th scale and minimum of Q4_K and Q5_K. The first four of each have 6 bits of a byte for
// themselves; the others take the nibbles of the last four bytes and the two bits left over in the first eight.
//
//	s[0..3]    hi of scale 4..7 (2 bits) | scale 0..3 (6)
//	s[4..7]    hi of min 4..7 (2 bits)   | min 0..3 (6)
//	s[8..11]   lo of min 4..7 (4 bits)   | lo of scale 4..7 (4)
func scaleMin(s []byte, j int) (scale, minimum uint8) {
	if j < 4 {
		return s[j] & 63, s[j+4] & 63
	}
	return s[j+4]&15 | s[j-4]>>6<<4, s[j+4]>>4 | s[j]>>6<<4
}

// putScaleMin writes the j-th scale and minimum, of 6 bits each, into bytes that were zero before the first one.
func putScaleMin(s []byte, j int, scale, minimum uint8) {
	if j < 4 {
		s[j], s[j+4] = scale, minimum
		return
	}
	s[j+4] = scale&15 | minimum<<4
	s[j-4] |= scale >> 4 << 6
	s[j] |= minimum >> 4 << 6
}

func dequantizeQ4_K(dst []float32, src []byte) {
	for ; len(dst) >= 256; dst, src = dst[256:], src[144:] {
		d, dmin, s := half(src), half(src[2:]), src[4:16]
		for g := range 4 {
			q := src[16+32*g : 48+32*g]
			lo, hi := dst[64*g:64*g+32], dst[64*g+32:64*g+64]
			scale0, min0 := scaleMin(s, 2*g)
			scale1, min1 := scaleMin(s, 2*g+1)
			d0, m0 := d*float32(scale0), float32(dmin*float32(min0))
			d1, m1 := d*float32(scale1), float32(dmin*float32(min1))
			for i, b := range q {
				lo[i] = float32(d0*float32(b&15)) - m0
				hi[i] = float32(d1*float32(b>>4)) - m1
			}
		}
	}
}

func quantizeQ4_K(dst []byte, src, importance []float32) {
	cols := columns{importance: importance}
	var codes [256]uint8
	for at := 0; at < len(src); at, dst = at+256, dst[144:] {
		quantizeRuns(dst[:16], &codes, src[at:at+256], &cols, at, &searchQ4_K)
		for g := range 4 {
			lo, hi, q := codes[64*g:64*g+32], codes[64*g+32:64*g+64], dst[16+32*g:48+32*g]
			for i := range q {
				q[i] = lo[i] | hi[i]<<4
			}
		}
	}
}

// quantizeRuns writes the head that Q4_K and Q5_K share, d, dmin and s, and finds the codes of the block x, whose first
// column is at.
func quantizeRuns(head []byte, codes *[256]uint8, x []float32, cols *columns, at int, s *affineSearch) {
	clear(head)
	if !finite(x) {
		clear(codes[:])
		putNaN(head)
		putNaN(head[2:])
		return
	}
	cols.measure(x)
	cols.power *= 2
	search := *s
	if cols.importance != nil {
		search = weightedSearch(s.most)
	}
	var scales, mins, weight [8]float32
	for j := range scales {
		run := x[32*j : 32*j+32]
		weights := cols.weigh(at+32*j, run)
		if weights == nil {
			var buffer [32]float32
			weights = runWeights(&buffer, run)
		}
		weight[j] = sum(weights)
		scales[j], mins[j] = search.search(codes[32*j:32*j+32], run, weights)
	}
	var scaleCodes, minCodes [8]uint8
	putHalf(head, roundScales(scaleCodes[:], scales[:], cols.known(weight[:]), 63))
	putHalf(head[2:], roundScales(minCodes[:], mins[:], cols.known(weight[:]), 63))
	for j := range scales {
		putScaleMin(head[4:], j, scaleCodes[j], minCodes[j])
	}

	// The codes again, now for the scales and minimums as they will be read.
	d, dmin := half(head), half(head[2:])
	for j := range scales {
		dj, mj := d*float32(scaleCodes[j]), float32(dmin*float32(minCodes[j]))
		if dj == 0 {
			continue
		}
		for i, v := range x[32*j : 32*j+32] {
			codes[32*j+i] = uint8(roundEven((v+mj)/dj, 0, s.most))
		}
	}
}

// runWeights weighs errors by the elements' magnitude over that of the run.
func runWeights(weights *[32]float32, x []float32) []float32 {
	typical := root(squares(x) / 32)
	for i, v := range x {
		weights[i] = typical + max(v, -v)
	}
	return weights[:]
}
