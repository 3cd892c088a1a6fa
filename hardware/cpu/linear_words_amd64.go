//go:build !purego

package cpu

// Machines without an instruction that sums products of bytes in 32 bits sum pairs of them in 16. Values of 5 bits are
// too large for that when they are unsigned: 16 products of a word, 31*127 each, pass 2^15. But sums wrap around, so all
// that counts is the size of the result: when the words start from what the shift makes of the row, -shift times the sum
// of the same 16 elements, they end as sums of products of signed values, and those of ±16 or less fit: 16*16*127 < 2^15.
//
// A word tile is a quad tile with such starts:
//
//	start   int16 [rows][2]          -shift * sum of q over the elements 4s, 4s+1, and over 4s+2, 4s+3
//	scale   float32 [rows]
//	q       int8 [8 words][rows][4]

// prepareWords returns what fills word tiles with a shift.
func prepareWords(shift int) prepareFunc {
	return func(tile []byte, x []float32, stride, rows, in int) {
		blocks := in / shortRun
		for r := range rows {
			prepareWordsAVX2(&tile[4*(rows+r)], &tile[4*(2*rows+r)], &x[r*stride], blocks, rows, shift)
		}
		clear(tile[blocks*rows*quadBlockBytes : quadTileBytes(in, rows)])
	}
}

// shortLinears are the linears of formats of short codes, of which there are the kernels in the order of shortFormats.
// prepare returns what fills their tiles. Values too large for word tiles are multiplied with their signs, and have no
// starts; their tiles are those of VNNI.
func shortLinears(prepare func(shift int) prepareFunc, kernels ...[]panelKernel) []*linear {
	var linears []*linear
	for i, s := range shortFormats() {
		fill := prepare(s.shift)
		if s.shift > 16 {
			fill = prepareQuads(s.shift)
		}
		linears = append(linears, s.linear(len(kernels[i]), fill, nil).withKernels(kernels[i], blockPairs))
	}
	return linears
}

func shortLinearsAVX2() []*linear {
	return shortLinears(prepareWords, linearQ4_1AVX2(), linearQ5_0AVX2(), linearQ5_1AVX2(), linearIQ4_NLAVX2(), linearMXFP4AVX2())
}

func shortLinearsAVX512() []*linear {
	return shortLinears(prepareWords, linearQ4_1AVX512(), linearQ5_0AVX512(), linearQ5_1AVX512(), linearIQ4_NLAVX512(), linearMXFP4AVX512())
}

func shortLinearsAVXVNNI() []*linear {
	return shortLinears(prepareQuads, linearQ4_1AVXVNNI(), linearQ5_0AVXVNNI(), linearQ5_1AVXVNNI(), linearIQ4_NLAVXVNNI(), linearMXFP4AVXVNNI())
}

func shortLinearsVNNI() []*linear {
	return shortLinears(prepareQuads, linearQ4_1VNNI(), linearQ5_0VNNI(), linearQ5_1VNNI(), linearIQ4_NLVNNI(), linearMXFP4VNNI())
}
