package quant

// Q6_K stores 256 elements in 210 bytes (block_q6_K in ggml-common.h): 16 runs of 16, each with a scale of 8 bits.
// Either half of 128 elements has 64 bytes of low nibbles and 32 bytes of upper bits; its four quarters of 32 lie so:
//
//	0    lo  uint8[128] of a half: bytes 0–31 quarter 0 | quarter 2 (high nibble), bytes 32–63 quarter 1 | quarter 3
//	128  hi  uint8[64]  of a half: bits 2k of byte i are the upper bits of element i of quarter k
//	192  s   int8[16]   scales
//	208  d   half       scale of the scales; y = d·scale·(q-32)
var Q6_K = register(&Format{
	Name: "Q6_K", ID: 14, BlockLen: 256, BlockBytes: 210, MaxError: 0.0185,
	dequantize: dequantizeQ6_K, quantize: quantizeQ6_K,
})

func dequantizeQ6_K(dst []float32, src []byte) {
	for ; len(dst) >= 256; dst, src = dst[256:], src[210:] {
		d := half(src[208:])
		for run, s := range src[192:208] {
			scale := d * float32(int8(s))
			lo, loShift, hi, hiShift := sixes(src, run)
			y := dst[16*run : 16*run+16]
			for i := range y {
				y[i] = scale * float32(int32(lo[i]>>loShift&15|hi[i]>>hiShift&3<<4)-32)
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

func quantizeQ6_K(dst []byte, src []float32) {
	var codes [256]int8
	for ; len(src) >= 256; dst, src = dst[210:], src[256:] {
		x := src[:256]
		clear(dst[:210])
		if !finite(x) {
			putNaN(dst[208:])
			continue
		}
		var scales [16]float32
		for run := range scales {
			part := x[16*run : 16*run+16]
			var weights [16]float32
			for i, v := range part {
				weights[i] = v * v
			}
			scales[run] = symmetricSearch(codes[16*run:16*run+16], part, weights[:], 32)
		}
		most, _ := extreme(scales[:])
		if max(most, -most) < tiny {
			continue
		}
		perScale := quotient(-128, most)
		putHalf(dst[208:], quotient(1, perScale))
		d := half(dst[208:])
		for run := range scales {
			s := roundEven(perScale*scales[run], -128, 127)
			dst[192+run] = uint8(s)
			run16 := codes[16*run : 16*run+16]
			if dr := d * float32(s); dr != 0 {
				// The codes again, for the scale as it will be read.
				for i, v := range x[16*run : 16*run+16] {
					run16[i] = int8(roundEven(v/dr, -32, 31))
				}
			}
			lo, loShift, hi, hiShift := sixes(dst, run)
			for i, c := range run16 {
				code := uint8(c + 32)
				lo[i] |= code & 15 << loShift
				hi[i] |= code >> 4 << hiShift
			}
		}
	}
}
