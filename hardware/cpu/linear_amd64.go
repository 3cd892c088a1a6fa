//go:build !purego

package cpu

import "hearth/hardware/quant"

// wordLinears are the linears of levels that have no instruction for sums of products of bytes.
func wordLinears(k integerKernels) []*linear {
	q8_0 := newLinearQ8_0(len(k.q8_0), preparePairs, nil).withKernels(k.q8_0, blockPairs)
	return append([]*linear{q8_0}, codeLinears(k, prepareWords)...)
}

// quadLinears are those of levels that multiply and add bytes in fours.
func quadLinears(k integerKernels) []*linear {
	q8_0 := newQuadLinearQ8_0(len(k.q8_0), prepareQuads(shiftQ8_0), nil).withKernels(k.q8_0, blockPairs)
	return append([]*linear{q8_0}, codeLinears(k, prepareQuads)...)
}

// withBesideAVX2 gives kernels of several panels to the formats that they make faster.
func withBesideAVX2(linears []*linear) []*linear {
	for _, l := range linears {
		switch l.format {
		case quant.Q8_0:
			l.withBeside(linearQ8_0AVX2Beside()[0], linearQ8_0AVX2(), blockPairs)
		case quant.Q4_0:
			l.withBeside(linearQ4_0AVX2Beside()[0], linearQ4_0AVX2(), blockPairs)
		}
	}
	return linears
}

// codeLinears are the linears of formats of shorter codes. prepareShort returns what fills the tiles of shortFormats, by
// their shift. Values too large for word tiles are multiplied with their signs, and have no starts; their tiles are those
// of VNNI.
func codeLinears(k integerKernels, prepareShort func(shift int) prepareFunc) []*linear {
	linears := []*linear{
		newLinearQ4_0(len(k.q4_0), prepareQuads(shiftQ4_0), nil).withKernels(k.q4_0, blockPairs),
		newLinearQ4_K(len(k.q4_K), prepareQ4_K, nil).withKernels(k.q4_K, longRuns),
		newLinearQ5_K(len(k.q5_K), prepareQ4_K, nil).withKernels(k.q5_K, longRuns),
		newLinearQ6_K(len(k.q6_K), prepareQ6_K, nil).withKernels(k.q6_K, longRuns),
	}
	short, runs := k.short(), k.runs()
	for i, s := range shortFormats() {
		prepare := prepareShort(s.shift)
		if s.shift > 16 {
			prepare = prepareQuads(s.shift)
		}
		linears = append(linears, s.linear(len(short[i]), prepare, nil).withKernels(short[i], blockPairs))
	}
	for i, f := range runsFormats() {
		linears = append(linears, f.linear(len(runs[i]), prepareQ6_K, nil).withKernels(runs[i], longRuns))
	}
	return linears
}

func pairLinearBF16(kernels []panelKernel) *linear {
	return newPairLinearBF16(len(kernels), preparePairsBF16, nil).withKernels(kernels, eights)
}

// longRuns returns how many runs of 256 a row of in elements has.
func longRuns(in int) int { return in / longRun }

func preparePairs(tile []byte, x []float32, stride, rows, in int) {
	blocks := in / shortRun
	for r := range rows {
		preparePairsAVX2(&tile[4*r], &tile[4*(rows+r)], &x[r*stride], blocks, rows)
	}
	clear(tile[blocks*rows*(4+2*shortRun) : pairTileBytes(in, rows)])
}

// prepareQuads returns what fills quad tiles with a shift.
func prepareQuads(shift int) prepareFunc {
	return func(tile []byte, x []float32, stride, rows, in int) {
		blocks := in / shortRun
		for r := range rows {
			prepareQuadsAVX2(&tile[4*(rows+r)], &tile[4*(2*rows+r)], &x[r*stride], blocks, rows, shift)
		}
		clear(tile[blocks*rows*quadBlockBytes : quadTileBytes(in, rows)])
	}
}

func prepareQ4_K(tile []byte, x []float32, stride, rows, in int) {
	for r := range rows {
		prepareQ4_KAVX2(&tile[4*r], &tile[4*(rows+r)], &tile[4*(5*rows+r)], &x[r*stride], in/longRun, rows)
	}
}

func prepareQ6_K(tile []byte, x []float32, stride, rows, in int) {
	for r := range rows {
		prepareQ6_KAVX2(&tile[4*r], &tile[4*(rows+r)], &tile[4*(9*rows+r)], &x[r*stride], in/longRun, rows)
	}
}

func preparePairsBF16(tile []byte, x []float32, stride, rows, in int) {
	const block = 16
	for r := range rows {
		if in >= block {
			preparePairsBF16AVX2(&tile[4*r], &x[r*stride], in/block, rows)
		}
		roundRow(tile[4*r:], x[r*stride:][:in], in/block*block, rows)
	}
}
