//go:build !purego

package cpu

// tileKernel multiplies some panels with the rows that it is for, with strides in bytes; add is 0 or 1.
type tileKernel = func(dst, x *float32, panel *byte, k, dstStride, xStride, add, panelStride int, ahead *byte)

// keysKernel and valuesKernel multiply some panels of Q8_0 with the rows that they are for, with strides in bytes. room
// takes the scaled rows.
type (
	keysKernel   = func(dst, x *float32, panel, scales *byte, blocks, dstStride, xStride int, ahead *byte)
	valuesKernel = func(dst, x *float32, panel, scales *byte, k, dstStride, xStride int, room *float32, ahead *byte)
)

// latentsKernel multiplies groups of entries of a tile with the rows that it is for, with strides in bytes. There are scales
// in Q8_0 only.
type latentsKernel = func(dst, x *float32, tile, scales *byte, panels, groups, dstStride, xStride, panelBytes int, ahead *byte)

// latentsKernels are those for 1, 2 and 4 entries, of which the last may be missing.
type latentsKernels struct{ one, two, four []latentsKernel }

// multiply goes through the entries in the largest groups that there are kernels for: with many rows groups are small.
func (l *latentsKernels) multiply(a *tileArgs, elementBytes, panels int) {
	for first := 0; first < a.entries; {
		kernels, n := l.one, 1
		switch left := a.entries - first; {
		case left >= 4 && a.rows <= len(l.four):
			kernels, n = l.four, 4
		case left >= 2:
			kernels, n = l.two, 2
		}
		groups := (a.entries - first) / n
		tile, ahead := &a.tile[panels+first*panelCols*elementBytes], a.aheadAt(first*len(a.tile)/a.slots)
		eachShare(a.rows, len(kernels), func(row, rows int) {
			kernels[rows-1](&a.dst[row*a.dstStride+first], &a.x[row*a.xStride], tile, &a.tile[2*first], a.k/panelCols, groups,
				4*a.dstStride, 4*a.xStride, a.slots*panelCols*elementBytes, ahead)
			ahead = &a.tile[0] // once is enough
		})
		first += groups * n
	}
}

// of returns the kernels as those of a format of floats.
func (l latentsKernels) of(e element) func(a *tileArgs) {
	return func(a *tileArgs) { l.multiply(a, e.bytes(), 0) }
}

// ofQ8_0 returns them as those of Q8_0, whose panels lie behind scales.
func (l latentsKernels) ofQ8_0() func(a *tileArgs) {
	return func(a *tileArgs) { l.multiply(a, 1, 2*a.slots) }
}

// cacheAVX2 sets the kernels on the cache.
func (k *kernels) cacheAVX2() {
	k.tilesF32 = floatTiles(elementF32, tileF32AVX2Panels2(), tileF32AVX2Panels4(), gemmF32AVX2())
	k.tilesF16 = floatTiles(elementF16, tileF16AVX2Panels2(), tileF16AVX2Panels4(), gemmF16AVX2())
	k.tilesBF16 = floatTiles(elementBF16, tileBF16AVX2Panels2(), tileBF16AVX2Panels4(), gemmBF16AVX2())
	k.tilesQ8_0 = scaledKernels{
		keys1: keysQ8_0AVX2Panels1(), keys2: keysQ8_0AVX2Panels2(), keys4: keysQ8_0AVX2Panels4(),
		values1: valuesQ8_0AVX2Panels1(), values2: valuesQ8_0AVX2Panels2(),
	}.tiles()
	k.tilesF32.latents = latentsKernels{latentsF32AVX2Entries1(), latentsF32AVX2Entries2(), latentsF32AVX2Entries4()}.of(elementF32)
	k.tilesF16.latents = latentsKernels{latentsF16AVX2Entries1(), latentsF16AVX2Entries2(), latentsF16AVX2Entries4()}.of(elementF16)
	k.tilesBF16.latents = latentsKernels{latentsBF16AVX2Entries1(), latentsBF16AVX2Entries2(), latentsBF16AVX2Entries4()}.of(elementBF16)
	k.tilesQ8_0.latents = latentsKernels{one: latentsQ8_0AVX2Entries1(), two: latentsQ8_0AVX2Entries2()}.ofQ8_0()
	k.quantizeQ8_0 = quantizeQ8_0
}

// cacheAVX512 sets those that are better with vectors of 64 bytes.
func (k *kernels) cacheAVX512() {
	k.tilesF32 = floatTiles(elementF32, nil, tileF32AVX512Panels4(), gemmF32AVX512())
	k.tilesF16 = floatTiles(elementF16, nil, tileF16AVX512Panels4(), gemmF16AVX512())
	k.tilesBF16 = floatTiles(elementBF16, nil, tileBF16AVX512Panels4(), gemmBF16AVX512())
	k.tilesQ8_0 = scaledKernels{
		keys1: keysQ8_0AVX512Panels1(), keys4: keysQ8_0AVX512Panels4(), values1: valuesQ8_0AVX512Panels1(), values2: valuesQ8_0AVX512Panels2(),
	}.tiles()
	k.tilesF32.latents = latentsKernels{latentsF32AVX512Entries1(), latentsF32AVX512Entries2(), latentsF32AVX512Entries4()}.of(elementF32)
	k.tilesF16.latents = latentsKernels{latentsF16AVX512Entries1(), latentsF16AVX512Entries2(), latentsF16AVX512Entries4()}.of(elementF16)
	k.tilesBF16.latents = latentsKernels{latentsBF16AVX512Entries1(), latentsBF16AVX512Entries2(), latentsBF16AVX512Entries4()}.of(elementBF16)
	k.tilesQ8_0.latents = latentsKernels{one: latentsQ8_0AVX512Entries1(), two: latentsQ8_0AVX512Entries2()}.ofQ8_0()
}

// floatTiles multiplies several panels at once where there are kernels for so many rows: two panels and four. The others
// go one by one.
func floatTiles(e element, two, four []tileKernel, one []floatKernel) tileKernels {
	multiply := func(a *tileArgs, panelBytes, add int) {
		for p := 0; p < a.panels; {
			panel, n, kernels := &a.tile[p*panelBytes], 1, four
			switch left := a.panels - p; {
			case left >= 4 && a.rows <= len(four):
				n = 4
			case left >= 2 && a.rows <= len(two):
				n, kernels = 2, two
			}
			if n > 1 {
				kernels[a.rows-1](&a.dst[p*panelCols], &a.x[0], panel, a.k, 4*a.dstStride, 4*a.xStride, add, panelBytes, a.aheadAt(p*panelBytes))
			} else {
				eachShare(a.rows, len(one), func(first, rows int) {
					one[rows-1](&a.dst[first*a.dstStride+p*panelCols], &a.x[first*a.xStride], panel, a.k, 4*a.dstStride, 4*a.xStride, add)
				})
			}
			p += n
		}
	}
	return tileKernels{
		keys:   func(a *tileArgs) { multiply(a, a.k*panelCols*e.bytes(), 0) },
		values: func(a *tileArgs) { multiply(a, blockLen*panelCols*e.bytes(), 1) },
	}
}

// scaledKernels multiply with tiles of Q8_0: kernels for 1, 2 and 4 panels of keys, and for 1 and 2 of values.
type scaledKernels struct {
	keys1, keys2, keys4 []keysKernel
	values1, values2    []valuesKernel
}

// tiles returns the kernels as those of a format. Keys are multiplied in groups of panels, so that some which are not
// asked for may be computed too.
func (s scaledKernels) tiles() tileKernels {
	return tileKernels{keys: s.multiplyKeys, values: s.multiplyValues}
}

func (s scaledKernels) multiplyKeys(a *tileArgs) {
	kernels, n := s.keys1, 1
	switch {
	case a.rows <= len(s.keys4):
		kernels, n = s.keys4, 4
	case a.rows <= len(s.keys2):
		kernels, n = s.keys2, 2
	}
	for p := 0; p < a.panels; p += n {
		panel, scales, next := &a.tile[runScaleBytes+p*keyPanelBytes], &a.tile[2*p*panelCols], a.aheadAt(p*len(a.tile)/keyPanels)
		eachShare(a.rows, len(kernels), func(first, rows int) {
			kernels[rows-1](&a.dst[first*a.dstStride+p*panelCols], &a.x[first*a.xStride], panel, scales, a.k/shortRun, 4*a.dstStride, 4*a.xStride, next)
		})
	}
}

func (s scaledKernels) multiplyValues(a *tileArgs) {
	kernels, n := s.values1, 1
	if a.rows <= len(s.values2) {
		kernels, n = s.values2, 2
	}
	for p := 0; p < a.panels; p += n {
		run := p / runPanels * runBytesQ8_0
		at := run + runScaleBytes + p%runPanels*valuePanelBytes
		scales, panel, next := &a.tile[run], &a.tile[at], a.aheadAt(at)
		eachShare(a.rows, len(kernels), func(first, rows int) {
			kernels[rows-1](&a.dst[first*a.dstStride+p*panelCols], &a.x[first*a.xStride], panel, scales, a.k, 4*a.dstStride, 4*a.xStride, &a.room[0], next)
		})
	}
}

// aheadAt returns a place of the tile that is read next, or any place where there is nothing to be gained.
func (a *tileArgs) aheadAt(i int) *byte {
	if i < len(a.ahead) {
		return &a.ahead[i]
	}
	return &a.tile[0]
}

// eachShare cuts rows into shares of nearly equal size, of at most so many.
func eachShare(rows, most int, do func(first, rows int)) {
	shares := (rows + most - 1) / most
	for first := 0; first < rows; {
		n := (rows - first + shares - 1) / shares
		do(first, n)
		first, shares = first+n, shares-1
	}
}

func quantizeQ8_0(dst []byte, x []float32) {
	if len(x) > 0 {
		quantizeQ8_0AVX2(&dst[0], &x[0], len(x)/shortRun)
	}
}
