package quant

// Q2_K stores 256 elements in 84 bytes (block_q2_K in ggml-common.h): 16 runs of 16, each with a scale and a minimum of
// 4 bits.
//
//	0   s     uint8[16] low nibble: scale of a run; high nibble: its minimum
//	16  q     uint8[64] y = d·scale·q - dmin·min; 2 bits an element, see crumbs
//	80  d     half      scale of the scales
//	82  dmin  half      scale of the minimums
var Q2_K = register(&Format{
	Name: "Q2_K", ID: 10, BlockLen: 256, BlockBytes: 84, MaxError: 0.3,
	dequantize: dequantizeQ2_K, quantize: quantizeQ2_K,
})

var searchQ2_K = affineSearch{most: 3, first: -0.5, step: 0.1, steps: 15, absolute: true}

// crumbs returns where the 2-bit codes of a run of 16 lie, in Q2_K and Q3_K: 32 bytes hold 128 elements, those of run
// pair p, 0 … 3, at bits 2p; the first 16 bytes are the pair's first run.
//
//	byte i < 16 of a half:  run 6 | run 4 | run 2 | run 0
//	byte i ≥ 16 of a half:  run 7 | run 5 | run 3 | run 1
func crumbs(q []byte, run int) (part []byte, shift int) {
	at := run/8*32 + run%2*16
	return q[at : at+16], run % 8 / 2 * 2
}

func dequantizeQ2_K(dst []float32, src []byte) {
	for ; len(dst) >= 256; dst, src = dst[256:], src[84:] {
		d, dmin := half(src[80:]), half(src[82:])
		for run, s := range src[:16] {
			scale, minimum := d*float32(s&15), float32(dmin*float32(s>>4))
			q, shift := crumbs(src[16:80], run)
			y := dst[16*run : 16*run+16]
			for i, b := range q {
				y[i] = float32(scale*float32(b>>shift&3)) - minimum
			}
		}
	}
}

func quantizeQ2_K(dst []byte, src, importance []float32) {
	cols := columns{importance: importance}
	for at := 0; at < len(src); at, dst = at+256, dst[84:] {
		quantizeBlockQ2_K(dst[:84], src[at:at+256], &cols, at)
	}
}

func quantizeBlockQ2_K(dst []byte, x []float32, cols *columns, at int) {
	clear(dst)
	if !finite(x) {
		putNaN(dst[80:])
		putNaN(dst[82:])
		return
	}
	cols.measure(x)
	var codes [256]uint8
	search := searchQ2_K
	if cols.importance != nil {
		search = weightedSearch(search.most)
	}
	var scales, mins, weight [16]float32
	for r := range scales {
		run := x[16*r : 16*r+16]
		weights := cols.weigh(at+16*r, run)
		if weights == nil {
			var buffer [16]float32
			for i, v := range run {
				buffer[i] = max(v, -v)
			}
			weights = buffer[:]
		}
		weight[r] = sum(weights)
		scales[r], mins[r] = search.search(codes[16*r:16*r+16], run, weights)
	}
	var scaleCodes, minCodes [16]uint8
	putHalf(dst[80:], roundScales(scaleCodes[:], scales[:], cols.known(weight[:]), 15))
	putHalf(dst[82:], roundScales(minCodes[:], mins[:], cols.known(weight[:]), 15))
	d, dmin := half(dst[80:]), half(dst[82:])
	for r := range scales {
		dst[r] = scaleCodes[r] | minCodes[r]<<4
		run := codes[16*r : 16*r+16]
		if dr, mr := d*float32(scaleCodes[r]), float32(dmin*float32(minCodes[r])); dr != 0 {
			// The codes again, for the scale and the minimum as they will be read.
			for i, v := range x[16*r : 16*r+16] {
				run[i] = uint8(roundEven((v+mr)/dr, 0, 3))
			}
		}
		q, shift := crumbs(dst[16:80], r)
		for i, c := range run {
			q[i] |= c << shift
		}
	}
}
