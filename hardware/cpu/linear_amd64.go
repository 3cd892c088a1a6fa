//go:build !purego

package cpu

// pairLinearQ8_0 multiplies in pairs of 16-bit integers.
func pairLinearQ8_0(kernels []panelKernel) *linear {
	return newLinearQ8_0(len(kernels), preparePairs, nil).withKernels(kernels, blockPairs)
}

func quadLinearQ8_0(kernels []panelKernel) *linear {
	return newQuadLinearQ8_0(len(kernels), prepareQuads(shiftQ8_0), nil).withKernels(kernels, blockPairs)
}

func quadLinearQ4_0(kernels []panelKernel) *linear {
	return newLinearQ4_0(len(kernels), prepareQuads(shiftQ4_0), nil).withKernels(kernels, blockPairs)
}

func superLinearQ4_K(kernels []panelKernel) *linear {
	return newLinearQ4_K(len(kernels), prepareQ4_K, nil).withKernels(kernels, longRuns)
}

func superLinearQ5_K(kernels []panelKernel) *linear {
	return newLinearQ5_K(len(kernels), prepareQ4_K, nil).withKernels(kernels, longRuns)
}

func superLinearQ6_K(kernels []panelKernel) *linear {
	return newLinearQ6_K(len(kernels), prepareQ6_K, nil).withKernels(kernels, longRuns)
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
