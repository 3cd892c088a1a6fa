package cpu

import "hearth/hardware/quant"

// fallbackSlice is how many elements of each row are dequantized at once: a panel of them, 64 KiB, stays in the
// second-level cache. It is a multiple of every format's block. As it is the same for all calls, so is the order of
// additions.
const fallbackSlice = 1024

// fallbackTileRows is large: every call dequantizes its panels again, which costs as much as multiplying some 200 rows.
const fallbackTileRows = 256

// newFallbackLinear returns the linear of a format that has no kernel of its own. It keeps the rows as they are in the
// file and dequantizes them, a slice at a time, into a panel for the float kernel.
//
//	panel:   [panelCols][row bytes of the format], padded to 64 bytes
//	tile:    [rows][in] float32
//	scratch: [fallbackSlice] of one row, [fallbackSlice][panelCols] of all
func newFallbackLinear(k *kernels, format *quant.Format) *linear {
	rowBytes := func(in int) int { n, _ := format.RowBytes(in); return n }
	return &linear{
		format:     format,
		tileRows:   fallbackTileRows,
		panelBytes: func(in int) int { return roundUp(panelCols*rowBytes(in), align) },
		pack: func(dst, src []byte, numRows, in int) {
			n := copy(dst, src[:numRows*rowBytes(in)])
			clear(dst[n:])
		},
		row: func(dst []float32, panel []byte, col, in int) {
			format.Dequantize(dst[:in], panel[col*rowBytes(in):])
		},
		tileBytes: func(in, rows int) int { return roundUp(4*in*rows, align) },
		prepare: func(tile []byte, x []float32, stride, rows, in int) {
			dst := floatsOf(tile)
			for r := range rows {
				copy(dst[r*in:][:in], x[r*stride:])
			}
		},
		scratch:  fallbackSlice * (1 + panelCols),
		multiply: func(a *multiplyArgs) { multiplyFallback(k, format, a) },
	}
}

func multiplyFallback(k *kernels, format *quant.Format, a *multiplyArgs) {
	rowBytes, _ := format.RowBytes(a.in)
	panelBytes := roundUp(panelCols*rowBytes, align)
	row, panel := a.scratch[:fallbackSlice], a.scratch[fallbackSlice:]
	for p := range a.numPanels {
		packed := a.panels[p*panelBytes:]
		for first := 0; first < a.in; first += fallbackSlice {
			n := min(fallbackSlice, a.in-first)
			skip, _ := format.RowBytes(first)
			for c := range panelCols {
				format.Dequantize(row[:n], packed[c*rowBytes+skip:])
				for i, v := range row[:n] {
					panel[i*panelCols+c] = v
				}
			}
			a.gemm = gemmArgs{
				dst: a.dst[p*panelCols:], dstStride: a.dstStride, x: floatsOf(a.tile)[first:], xStride: a.in,
				panel: floatBytes(panel), k: n, rows: a.rows, add: first > 0,
			}
			k.gemmF32(&a.gemm)
		}
	}
}
