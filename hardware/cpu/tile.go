package cpu

import "hearth/hardware/quant"

// A tile is one head's keys or values of a block of positions, laid out so that attention multiplies what is stored:
//
//	keys:   4 panels of 16 positions     [dim][16]      columns are positions
//	values: dim/16 panels of 16 elements [64][16]       columns are elements; the last panel may be part empty
//
// Latents, which are keys and values at once, and index keys lie as values do. So do streams with an entry for several
// positions, whose tiles have fewer than 64 entries.
//
// In Q8_0 there are such panels for each run of 32 elements of the head, behind the run's scales:
//
//	scales  half [64 positions]                          128 bytes
//	keys    int8 [4 panels of 16 positions][32][16]     2048 bytes
//	values  int8 [2 panels of 16 elements][64][16]      2048 bytes
const (
	keyPanels       = blockLen / panelCols
	runPanels       = shortRun / panelCols // of values
	runScaleBytes   = 2 * blockLen
	runBytesQ8_0    = runScaleBytes + blockLen*shortRun
	runBlockBytes   = 2 + shortRun         // of one position in the file's format
	keyPanelBytes   = shortRun * panelCols // of Q8_0
	valuePanelBytes = blockLen * panelCols
)

// tileKernels multiply float32 rows with tiles of one format. Every row is computed by itself, in one order for any
// number of rows and panels.
//
// Products with Q8_0 are sums of integers times floats, scaled: keys run by run, dst = sum of scale * (sum of x * q);
// values through the rows, dst += sum of (x * scale) * q.
type tileKernels struct {
	keys   func(a *tileArgs) // dst[r][c] = sum over i < k of x[r][i] * key c's element i, for whole panels of columns
	values func(a *tileArgs) // dst[r][c] += sum over i < k of x[r][i] * value i's element c
	// latents is dst[r][c] = sum over i < k of x[r][i] * value c's element i, for c < entries: scores from values' panels.
	// k is a multiple of panelCols, and x is 0 from the end of the head on.
	latents func(a *tileArgs)
}

// tileArgs is one call of a tile kernel.
type tileArgs struct {
	dst       []float32 // [rows][dstStride]
	dstStride int
	x         []float32 // [rows][xStride]
	xStride   int
	tile      []byte
	k, panels int
	rows      int
	ahead     []byte // a tile that is read after this one, nil if it is not known

	slots, entries int // of latents: entries that the tile has room for, and how many of them are multiplied

	room []float32 // tileRoom(rows, k) elements
	gemm gemmArgs  // room for the call of a float kernel, which would else be allocated
}

// tileRoom is the size of tileArgs.room for heads of dim: a panel of Q8_0 or of latents as float32, and rows beside it.
func tileRoom(rows, dim int) int {
	return max(valuePanelBytes, roundUp(dim, panelCols)*panelCols) + rows*blockLen
}

// tiles returns the kernels for the cache's format.
func (k *kernels) tiles(f *quant.Format) *tileKernels {
	switch f {
	case quant.F32:
		return &k.tilesF32
	case quant.F16:
		return &k.tilesF16
	case quant.BF16:
		return &k.tilesBF16
	default:
		return &k.tilesQ8_0
	}
}

// complete gives a level that has no tile kernels of its own those made of its other kernels.
func (k *kernels) complete() *kernels {
	for _, t := range []struct {
		kernels *tileKernels
		made    tileKernels
	}{
		{&k.tilesF32, tilesOfGemm(k, k.gemmF32, elementF32)}, {&k.tilesF16, tilesOfGemm(k, k.gemmF16, elementF16)},
		{&k.tilesBF16, tilesOfGemm(k, k.gemmBF16, elementBF16)}, {&k.tilesQ8_0, scaledTiles(k)},
	} {
		if t.kernels.keys == nil {
			t.kernels.keys, t.kernels.values = t.made.keys, t.made.values
		}
		if t.kernels.latents == nil {
			t.kernels.latents = t.made.latents
		}
	}
	return k
}

// tilesOfGemm multiplies a tile panel by panel.
func tilesOfGemm(k *kernels, gemm func(*gemmArgs), e element) tileKernels {
	multiply := func(a *tileArgs, panelBytes int, add bool) {
		for p := range a.panels {
			a.gemm = gemmArgs{
				dst: a.dst[p*panelCols:], dstStride: a.dstStride, x: a.x, xStride: a.xStride,
				panel: a.tile[p*panelBytes:], k: a.k, rows: a.rows, add: add,
			}
			gemm(&a.gemm)
		}
	}
	return tileKernels{
		keys:   func(a *tileArgs) { multiply(a, a.k*panelCols*e.bytes(), false) },
		values: func(a *tileArgs) { multiply(a, blockLen*panelCols*e.bytes(), true) },
		latents: func(a *tileArgs) {
			k.transposed(a, func(column []float32, entry int) {
				for i := range a.k {
					column[i*panelCols] = e.at(a.tile, (i/panelCols*a.slots+entry)*panelCols+i%panelCols)
				}
			})
		},
	}
}

// transposed multiplies rows with panels of 16 entries each, as float32, of which read fills the columns.
func (k *kernels) transposed(a *tileArgs, read func(column []float32, entry int)) {
	panel, sums := a.room[:a.k*panelCols], a.room[a.k*panelCols:]
	for first := 0; first < a.entries; first += panelCols {
		n := min(panelCols, a.entries-first)
		for c := range n {
			read(panel[c:], first+c)
		}
		a.gemm = gemmArgs{dst: sums, dstStride: panelCols, x: a.x, xStride: a.xStride, panel: floatBytes(panel), k: a.k, rows: a.rows}
		k.gemmF32(&a.gemm)
		for r := range a.rows {
			copy(a.dst[r*a.dstStride+first:][:n], sums[r*panelCols:])
		}
	}
}

// scaledTiles multiplies with the panels of Q8_0 as float32.
func scaledTiles(k *kernels) tileKernels {
	return tileKernels{
		keys: func(a *tileArgs) {
			for p := range a.panels {
				for r := range a.rows {
					clear(a.dst[r*a.dstStride+p*panelCols:][:panelCols])
				}
				for run := range a.k / shortRun {
					from := a.tile[run*runBytesQ8_0:][:runBytesQ8_0]
					panel, sums := a.room[:keyPanelBytes], a.room[keyPanelBytes:]
					widen(panel, from[runScaleBytes+p*keyPanelBytes:])
					a.gemm = gemmArgs{
						dst: sums, dstStride: panelCols, x: a.x[run*shortRun:], xStride: a.xStride,
						panel: floatBytes(panel), k: shortRun, rows: a.rows,
					}
					k.gemmF32(&a.gemm)
					for c := range panelCols {
						scale := halfAt(from[2*(p*panelCols+c):])
						for r := range a.rows {
							a.dst[r*a.dstStride+p*panelCols+c] += scale * sums[r*panelCols+c]
						}
					}
				}
			}
		},
		values: func(a *tileArgs) {
			panel, scaled := a.room[:valuePanelBytes], a.room[valuePanelBytes:]
			for run := range a.panels / runPanels {
				from := a.tile[run*runBytesQ8_0:][:runBytesQ8_0]
				for r := range a.rows {
					k.scaleByHalves(scaled[r*blockLen:][:blockLen], a.x[r*a.xStride:][:blockLen], from)
				}
				for p := range runPanels {
					widen(panel, from[runScaleBytes+p*valuePanelBytes:])
					a.gemm = gemmArgs{
						dst: a.dst[(run*runPanels+p)*panelCols:], dstStride: a.dstStride, x: scaled, xStride: blockLen,
						panel: floatBytes(panel), k: a.k, rows: a.rows, add: true,
					}
					k.gemmF32(&a.gemm)
				}
			}
		},
		latents: func(a *tileArgs) {
			k.transposed(a, func(column []float32, entry int) {
				for i := range a.k {
					from := a.tile[i/shortRun*a.slots*runBlockBytes:]
					at := 2*a.slots + (i%shortRun/panelCols*a.slots+entry)*panelCols + i%panelCols
					column[i*panelCols] = halfAt(from[2*entry:]) * float32(int8(from[at]))
				}
			})
		},
	}
}

// widen turns int8 into float32.
func widen(dst []float32, q []byte) {
	for i := range dst {
		dst[i] = float32(int8(q[i]))
	}
}
