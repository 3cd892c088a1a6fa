package quant

// Q6_K stores 256 elements in 210 bytes (block_q6_K in ggml-common.h): 16 runs of 16, each with a scale of 8 bits.
// Either half of 128 elements has 64 bytes of low nibbles and 32 bytes of upper bits; its four quarters of 32 lie so:
//
//	0    lo  uint8[128] of a half: bytes 0–31 quarter 0 | quarter 2 (high nibble), bytes 32–63 quarter 1 | quarter 3
//	128  hi  uint8[64]  of a half: bits 2k of byte i are the upper bits of element i of quarter k
//	192  s   int8[16]   scales
//	208  d   half       scale of the scales; y = d·scale·(q-32)
var Q6_K = register(&Format{
	Name: "Q6_K", ID: 14, BlockLen: 256, BlockBytes: 210, MaxError: 0.018,
	dequantize: dequantizeQ6_K, quantize: quantizeQ6_K,
})

func dequantizeQ6_K(dst []float32, src []byte) {
	for ; len(dst) >= 256; dst, src = dst[256:], src[210:] {
		d := half(src[208:])
		// Two runs of each quarter of each half; what a byte of upper bits belongs to is computed together.
		for part := range 4 {
			h, at := part/2, part%2*16
			lo, hi := src[64*h+at:64*h+at+48], src[128+32*h+at:144+32*h+at]
			s := src[192+8*h+part%2 : 199+8*h+part%2]
			s0, s1, s2, s3 := d*float32(int8(s[0])), d*float32(int8(s[2])), d*float32(int8(s[4])), d*float32(int8(s[6]))
			y := dst[128*h+at : 128*h+at+112]
			for i, b := range hi {
				y[i] = s0 * float32(int32(lo[i]&15|b&3<<4)-32)
				y[i+32] = s1 * float32(int32(lo[i+32]&15|b>>2&3<<4)-32)
				y[i+64] = s2 * float32(int32(lo[i]>>4|b>>4&3<<4)-32)
				y[i+96] = s3 * float32(int32(lo[i+32]>>4|b>>6<<4)-32)
			}
		}
	}
}

// sixes returns where the low nibbles and the upper bits of a run of 16 lie in a block of Q6_K.
func sixes(block []byte, run int) (lo []byte, loShift int, hi []byte, hiShift int) {
	half, quarter, part := run/8, run%8/2, run%2
	loAt := 64*half + 32*(quarter%2) + 16*part
	hiAt := 128 + 32*half + 16*part
	return block[loAt : loAt+16], quarter / 2 * 4, block[hiAt : hiAt+16], 2 * quarter
}

// quantizeQ6_K weighs an error by its element's magnitude, squared, or by the importance of its column alone.
func quantizeQ6_K(dst []byte, src, importance []float32) {
	for at := 0; at < len(src); at, dst = at+256, dst[210:] {
		if importance == nil {
			quantizeBlockQ6_K(dst[:210], src[at:at+256], nil)
		} else {
			quantizeBlockQ6_K(dst[:210], src[at:at+256], importance[at:at+256])
		}
	}
}

func quantizeBlockQ6_K(dst []byte, x, importance []float32) {
	clear(dst)
	if !finite(x) {
		putNaN(dst[208:])
		return
	}
	var codes [256]int8
	var scales [16]float32
	for r := range scales {
		run := x[16*r : 16*r+16]
		var buffer [16]float32
		weights := square(buffer[:], run)
		if importance != nil {
			weights = importance[16*r : 16*r+16]
		}
		scales[r] = symmetricSearch(codes[16*r:16*r+16], run, weights, 32)
	}
	largest, _ := extreme(scales[:])
	if max(largest, -largest) < tiny {
		return
	}
	inv := quotient(-128, largest)
	putHalf(dst[208:], quotient(1, inv))
	d := half(dst[208:])
	for r := range scales {
		s := roundEven(inv*scales[r], -128, 127)
		dst[192+r] = uint8(s)
		run := codes[16*r : 16*r+16]
		if dr := d * float32(s); dr != 0 {
			// The codes again, for the scale as it will be read.
			for i, v := range x[16*r : 16*r+16] {
				run[i] = int8(roundEven(v/dr, -32, 31))
			}
		}
		lo, loShift, hi, hiShift := sixes(dst, r)
		for i, c := range run {
			code := uint8(c + 32)
			lo[i] |= code & 15 << loShift
			hi[i] |= code >> 4 << hiShift
		}
	}
}
