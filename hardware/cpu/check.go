package cpu

import (
	"fmt"
	"math"
	"slices"

	"hearth/hardware/quant"
)

// Kernels in assembly are compared with their specification before they are used: a processor, a virtual machine or an
// emulator may claim instructions that it gets wrong, and a model's output would not tell. One panel of each format, or as
// many copies as a kernel multiplies at once, is multiplied with one row, and with as many copies of it as a tile holds, and
// some rows with a tile of the cache: a few milliseconds when a device opens.

// checkedIn is the length of the row: a block of the longest formats.
const checkedIn = 256

// checkKernels returns what is wrong with a level's products, or nil.
func checkKernels(k *kernels) error {
	generic := goKernels()
	x := make([]float32, checkedIn)
	for i := range x {
		x[i] = float32(i*37%101-50) / 16
	}
	for _, l := range k.linears {
		specification := generic.linears[slices.IndexFunc(generic.linears, func(g *linear) bool { return g.format == l.format })]
		if l.roundsFloat {
			specification = newPairLinearBF16(1, preparePairsBF16Generic, multiplyPairsBF16Generic)
		}
		want := checkedProduct(specification, x, 1)
		for _, rows := range []int{1, l.tileRows} {
			got := checkedProduct(l, x, rows)
			perRow := len(got) / rows / panelCols
			for i := range rows * perRow {
				if err := compareProducts(got[i*panelCols:][:panelCols], want); err != nil {
					return fmt.Errorf("%s, row %d of %d: %w", l.format, i/perRow, rows, err)
				}
			}
		}
	}
	if err := checkGemms(k, generic, x); err != nil {
		return err
	}
	return checkTiles(k, generic.complete(), x)
}

// checkGemms does so with the float kernels.
func checkGemms(k, generic *kernels, x []float32) error {
	const rows = 3
	const length = checkedIn / rows
	for _, c := range []struct {
		format         *quant.Format
		kernel, wanted func(*gemmArgs)
	}{
		{quant.F32, k.gemmF32, generic.gemmF32}, {quant.F16, k.gemmF16, generic.gemmF16}, {quant.BF16, k.gemmBF16, generic.gemmBF16},
	} {
		got, want := make([]float32, rows*panelCols), make([]float32, rows*panelCols)
		a := gemmArgs{dstStride: panelCols, x: x, xStride: length, panel: checkedWeights(c.format), k: length, rows: rows}
		a.dst = got
		c.kernel(&a)
		a.dst = want
		c.wanted(&a)
		if err := compareProducts(got, want); err != nil {
			return fmt.Errorf("rows with a panel of %s: %w", c.format, err)
		}
	}
	return nil
}

// checkTiles does so with the products of attention. A panel's weights are as many bytes as a tile of heads of this size.
func checkTiles(k, generic *kernels, x []float32) error {
	const dim = panelCols * checkedIn / blockLen
	for _, f := range streamFormats() {
		tile, ours, wanted := checkedWeights(f), k.tiles(f), generic.tiles(f)
		for _, c := range []struct {
			what           string
			kernel, wanted func(*tileArgs)
		}{{"keys", ours.keys, wanted.keys}, {"values", ours.values, wanted.values}, {"latents", ours.latents, wanted.latents}} {
			for _, rows := range []int{1, 13} {
				a := tileArgs{
					dstStride: dim, x: x, xStride: 15, tile: tile, k: dim, panels: dim / panelCols, rows: rows,
					slots: blockLen, entries: blockLen - 1, room: make([]float32, tileRoom(rows, dim)),
				}
				got, want := make([]float32, rows*dim), make([]float32, rows*dim)
				a.dst = got
				c.kernel(&a)
				a.dst = want
				c.wanted(&a)
				if err := compareProducts(got, want); err != nil {
					return fmt.Errorf("%s of %s with %d rows: %w", c.what, f, rows, err)
				}
			}
		}
	}
	return nil
}

// checkedProduct multiplies copies of a row with copies of a panel, and returns [rows, panels*panelCols].
func checkedProduct(l *linear, x []float32, rows int) []float32 {
	numPanels, size := max(1, l.beside), l.panelBytes(checkedIn)
	panels, tile := heapAllocate(numPanels*size), heapAllocate(l.tileBytes(checkedIn, rows))
	for p := range numPanels {
		l.pack(panels[p*size:][:size], checkedWeights(l.format), panelCols, checkedIn)
	}
	l.prepare(tile, x, 0, rows, checkedIn)
	dst := make([]float32, rows*numPanels*panelCols)
	l.multiply(&multiplyArgs{
		dst: dst, dstStride: numPanels * panelCols, panels: panels, numPanels: numPanels, tile: tile, rows: rows, in: checkedIn,
		scratch: make([]float32, l.scratch),
	})
	return dst
}

// checkedWeights returns a panel's rows in a format. In every format, bytes between 0x20 and 0x3b are finite numbers: as
// halves, the scales are between 0.008 and 1.
func checkedWeights(f *quant.Format) []byte {
	rowBytes, _ := f.RowBytes(checkedIn)
	data := make([]byte, panelCols*rowBytes)
	state := uint32(1)
	for i := range data {
		state = state*1664525 + 1013904223 // Numerical Recipes, chapter 7
		data[i] = byte(0x20 + state>>16%28)
	}
	return data
}

// compareProducts allows for float32 rounding, and for the difference of two sums that are larger than itself.
func compareProducts(got, want []float32) error {
	const allowed = 1e-4
	largest := float32(0)
	for _, w := range want {
		largest = max(largest, float32(math.Abs(float64(w))))
	}
	for i, w := range want {
		if difference := float32(math.Abs(float64(got[i] - w))); !(difference <= allowed*largest) {
			return fmt.Errorf("column %d is %v, want %v", i, got[i], w)
		}
	}
	return nil
}
