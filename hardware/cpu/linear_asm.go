//go:build (amd64 || arm64) && !purego

package cpu

import "unsafe"

// panelKernel multiplies one panel with a tile of the rows that it is for, and writes dst[r*stride+c], stride in bytes.
// blocks are those of the panel's layout: pairs of 32, or 256 elements.
type panelKernel = func(dst *float32, panel, tile *byte, blocks, stride int)

// floatKernel is gemm for a fixed number of rows, with strides in bytes; add is 0 or 1.
type floatKernel = func(dst, x *float32, panel *byte, k, dstStride, xStride, add int)

// multiplyPanels runs the kernel of the tile's rows on each panel from the first on. A call takes some microseconds, so the
// scheduler and the garbage collector never wait long for a goroutine in assembly.
func multiplyPanels(a *multiplyArgs, kernels []panelKernel, first, panelBytes, blocks int) {
	kernel := kernels[a.rows-1]
	for p := first; p < a.numPanels; p++ {
		kernel(&a.dst[p*panelCols], &a.panels[p*panelBytes], &a.tile[0], blocks, 4*a.dstStride)
	}
}

// integerKernels are a level's kernels of the formats whose codes are integers.
type integerKernels struct {
	q8_0, q4_0, q4_1, q5_0, q5_1, iq4_nl, mxfp4, q4_K, q5_K, q6_K, iq4_xs, q2_K, q3_K []panelKernel
}

// short are those of shortFormats, runs those of runsFormats, in that order.
func (k *integerKernels) short() [][]panelKernel {
	return [][]panelKernel{k.q4_1, k.q5_0, k.q5_1, k.iq4_nl, k.mxfp4}
}

func (k *integerKernels) runs() [][]panelKernel { return [][]panelKernel{k.iq4_xs, k.q2_K, k.q3_K} }

// withKernels has a linear multiply with kernels for 1 to tileRows rows, that go by blocks of the panel's layout.
func (l *linear) withKernels(kernels []panelKernel, blocks func(in int) int) *linear {
	l.multiply = func(a *multiplyArgs) { multiplyPanels(a, kernels, 0, l.panelBytes(a.in), blocks(a.in)) }
	return l
}

// besidePanels is the number of panels that kernels of one row multiply at once, side by side.
const besidePanels = 4

// withBeside has a linear multiply one row with a kernel of several panels, as far as there are as many; kernels do the rest.
func (l *linear) withBeside(beside panelKernel, kernels []panelKernel, blocks func(in int) int) {
	l.beside = besidePanels
	l.multiply = func(a *multiplyArgs) {
		size, n, first := l.panelBytes(a.in), blocks(a.in), 0
		if a.rows == 1 {
			for ; first+besidePanels <= a.numPanels; first += besidePanels {
				beside(&a.dst[first*panelCols], &a.panels[first*size], &a.tile[0], n, 4*a.dstStride)
			}
		}
		multiplyPanels(a, kernels, first, size, n)
	}
}

// floatLinears are the linears of the three float formats.
func floatLinears(f32, f16, bf16 []floatKernel) []*linear {
	return []*linear{floatLinear(elementF32, f32), floatLinear(elementF16, f16), floatLinear(elementBF16, bf16)}
}

func floatLinear(e element, kernels []floatKernel) *linear {
	return newFloatLinear(e, len(kernels), func(a *multiplyArgs) {
		kernel := kernels[a.rows-1]
		x := floatsOf(a.tile)
		size := roundUp(a.in*panelCols*e.bytes(), 64)
		for p := range a.numPanels {
			kernel(&a.dst[p*panelCols], &x[0], &a.panels[p*size], a.in, 4*a.dstStride, 4*floatTileStride(a.in), 0)
		}
	})
}

// floatGemm cuts rows into tiles of nearly equal size.
func floatGemm(kernels []floatKernel) func(*gemmArgs) {
	return func(a *gemmArgs) {
		add := 0
		if a.add {
			add = 1
		}
		for first := 0; first < a.rows; {
			left := a.rows - first
			tiles := (left + len(kernels) - 1) / len(kernels)
			rows := (left + tiles - 1) / tiles
			var x *float32
			if a.k > 0 {
				x = &a.x[first*a.xStride]
			}
			kernels[rows-1](&a.dst[first*a.dstStride], x, unsafe.SliceData(a.panel), a.k, 4*a.dstStride, 4*a.xStride, add)
			first += rows
		}
	}
}
