package cpu

import "hearth/hardware/quant"

const (
	// fallbackSlice is how many elements of each row are dequantized at once: a panel of them, 16 KiB, stays in the
	// first-level cache. It is a multiple of every format's block. As it is the same for all calls, so is the order of
	// additions.
	fallbackSlice = 256
	// fallbackCols is how many columns are written to a panel together.
	fallbackCols = 4
)

// fallbackTileRows is large: every call dequantizes its panels again, which costs as much as multiplying some 200 rows.
const fallbackTileRows = 256

// newFallbackLinear returns the linear of a format that has no kernel of its own. It keeps the rows as they are in the
// file and dequantizes them, a slice at a time, into a panel for the float kernel.
//
//	panel:   [panelCols][row bytes of the format], padded to 64 bytes
//	tile:    [rows][in] float32
//	scratch: [fallbackCols][fallbackSlice] of some rows, [fallbackSlice][panelCols] of all
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
		scratch:  fallbackSlice * (fallbackCols + panelCols),
		multiply: func(a *multiplyArgs) { multiplyFallback(k, format, a) },
	}
}

func multiplyFallback(k *kernels, format *quant.Format, a *multiplyArgs) {
	rowBytes, _ := format.RowBytes(a.in)
	panelBytes := roundUp(panelCols*rowBytes, align)
	rows, panel := a.scratch[:fallbackSlice*fallbackCols], a.scratch[fallbackSlice*fallbackCols:]
	for p := range a.numPanels {
		packed := a.panels[p*panelBytes:]
		for first := 0; first < a.in; first += fallbackSlice {
			n := min(fallbackSlice, a.in-first)
			skip, _ := format.RowBytes(first)
			for c := 0; c < panelCols; c += fallbackCols {
				for i := range fallbackCols {
					format.Dequantize(rows[i*n:][:n], packed[(c+i)*rowBytes+skip:])
				}
				transpose(panel[c:], rows, n)
			}
			a.gemm = gemmArgs{
				dst: a.dst[p*panelCols:], dstStride: a.dstStride, x: floatsOf(a.tile)[first:], xStride: a.in,
				panel: floatBytes(panel), k: n, rows: a.rows, add: first > 0,
			}
			k.gemmF32(&a.gemm)
		}
	}
}

// transpose writes fallbackCols rows of n elements as columns of a panel.
func transpose(panel, rows []float32, n int) {
	r0, r1, r2, r3 := rows[:n], rows[n:][:n], rows[2*n:][:n], rows[3*n:][:n]
	for i, v := range r0 {
		to := panel[i*panelCols:][:fallbackCols]
		to[0], to[1], to[2], to[3] = v, r1[i], r2[i], r3[i]
	}
}
