package quant

// Q3_K stores 256 elements in 110 bytes (block_q3_K in ggml-common.h): 16 runs of 16, each with a scale of 6 bits.
//
//	0    h   uint8[32] third bits: bit r of byte i is that of element i of the r-th 32 elements
//	32   q   uint8[64] y = d·scale·(q-4); the lower 2 bits of each element, see crumbs
//	96   s   uint8[12] 16 scales, see scaleQ3_K
//	108  d   half      scale of the scales
var Q3_K = register(&Format{
	Name: "Q3_K", ID: 11, BlockLen: 256, BlockBytes: 110, MaxError: 0.15,
	dequantize: dequantizeQ3_K, quantize: quantizeQ3_K,
})

// scaleQ3_K returns the scale of a run, -32 … 31. Its lower 4 bits are a nibble of the first 8 bytes, low ones for runs
// 0–7; its upper 2 bits are in the last 4 bytes, run 4p+i at bits 2p of byte i.
func scaleQ3_K(s []byte, run int) int32 {
	return int32(s[run%8]>>(run/8*4)&15|s[8+run%4]>>(run/4*2)&3<<4) - 32
}

// putScaleQ3_K writes the scale of a run, -32 … 31, into bytes that were zero before the first one.
func putScaleQ3_K(s []byte, run int, scale int32) {
	code := uint8(scale + 32)
	s[run%8] |= code & 15 << (run / 8 * 4)
	s[8+run%4] |= code >> 4 << (run / 4 * 2)
}

func dequantizeQ3_K(dst []float32, src []byte) {
	for ; len(dst) >= 256; dst, src = dst[256:], src[110:] {
		d, s := half(src[108:]), src[96:108]
		for run := range 16 {
			scale := d * float32(scaleQ3_K(s, run))
			q, shift := crumbs(src[32:96], run)
			h := src[run%2*16 : run%2*16+16]
			y := dst[16*run : 16*run+16]
			for i, b := range q {
				y[i] = scale * float32(int32(b>>shift&3|h[i]>>(run/2)&1<<2)-4)
			}
		}
	}
}

func quantizeQ3_K(dst []byte, src, importance []float32) {
	cols := columns{importance: importance}
	for at := 0; at < len(src); at, dst = at+256, dst[110:] {
		quantizeBlockQ3_K(dst[:110], src[at:at+256], &cols, at)
	}
}

func quantizeBlockQ3_K(dst []byte, x []float32, cols *columns, at int) {
	clear(dst)
	if !finite(x) {
		putNaN(dst[108:])
		return
	}
	cols.measure(x)
	cols.power *= 2
	var codes [256]int8
	var scales, weight [16]float32
	for r := range scales {
		run, runCodes := x[16*r:16*r+16], codes[16*r:16*r+16]
		if weights := cols.weigh(at+16*r, run); weights != nil {
			weight[r] = sum(weights)
			scales[r] = symmetricSearch(runCodes, run, weights, 4)
		} else {
			scales[r] = descendCodes(runCodes, run, 4)
		}
	}
	var scaleCodes [16]int8
	putHalf(dst[108:], roundSigned(&scaleCodes, &scales, cols.known(weight[:])))
	d := half(dst[108:])
	for r := range scales {
		putScaleQ3_K(dst[96:108], r, int32(scaleCodes[r]))
		run := codes[16*r : 16*r+16]
		if dr := d * float32(scaleCodes[r]); dr != 0 {
			// The codes again, for the scale as it will be read.
			for i, v := range x[16*r : 16*r+16] {
				run[i] = int8(roundEven(v/dr, -4, 3))
			}
		}
		q, shift := crumbs(dst[32:96], r)
		h := dst[r%2*16 : r%2*16+16]
		for i, c := range run {
			code := uint8(c + 4)
			q[i] |= code & 3 << shift
			h[i] |= code >> 2 << (r / 2)
		}
	}
}

// roundSigned rounds the scales of the runs to codes -32 … 31, and returns the scale of the scales. Without weights of
// the runs the scale of largest magnitude becomes exactly -32.
func roundSigned(codes *[16]int8, scales *[16]float32, weights []float32) (d float32) {
	if weights != nil {
		return symmetricSearch(codes[:], scales[:], weights, 32)
	}
	most, _ := extreme(scales[:])
	if most == 0 {
		fill(codes[:], -32)
		return 0
	}
	inv := quotient(-32, most)
	for r, s := range scales {
		codes[r] = int8(roundEven(inv*s, -32, 31))
	}
	return quotient(1, inv)
}
