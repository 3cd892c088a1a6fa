package cpu

import "encoding/binary"

// A panel of float weights is [in][panelCols] elements, as gemm takes it; a tile is the rows themselves, each followed
// by the same gap. Without a gap the rows of a power of two would fall into the same few places of a first-level cache.

// newFloatLinear describes the weights of a float format.
func newFloatLinear(e element, tileRows int, multiply func(*multiplyArgs)) *linear {
	return &linear{
		format:     e.format(),
		tileRows:   tileRows,
		panelBytes: func(in int) int { return roundUp(in*panelCols*e.bytes(), 64) },
		pack:       func(dst, src []byte, numRows, in int) { packFloat(dst, src, numRows, in, e) },
		row: func(dst []float32, panel []byte, col, in int) {
			for i := range dst[:in] {
				dst[i] = e.at(panel, i*panelCols+col)
			}
		},
		tileBytes: func(in, rows int) int { return 4 * floatTileStride(in) * rows },
		prepare:   prepareFloat,
		multiply:  multiply,
	}
}

// floatTileStride is the distance of a tile's rows, in elements.
func floatTileStride(in int) int { return roundUp(in, 16) + 16 }

func prepareFloat(tile []byte, x []float32, stride, rows, in int) {
	dst, dstStride := floatsOf(tile), floatTileStride(in)
	for r := range rows {
		copy(dst[r*dstStride:][:in], x[r*stride:])
	}
}

// packFloat transposes. It goes along the rows in short pieces, so that what it writes stays near.
func packFloat(dst, src []byte, numRows, in int, e element) {
	size := e.bytes()
	if numRows < panelCols {
		clear(dst)
	}
	const piece = 64
	for first := 0; first < in; first += piece {
		n := min(piece, in-first)
		for r := range numRows {
			from := src[(r*in+first)*size:][:n*size]
			to := dst[(first*panelCols+r)*size:]
			if size == 4 {
				for i := range n {
					binary.LittleEndian.PutUint32(to[4*panelCols*i:], binary.LittleEndian.Uint32(from[4*i:]))
				}
			} else {
				for i := range n {
					binary.LittleEndian.PutUint16(to[2*panelCols*i:], binary.LittleEndian.Uint16(from[2*i:]))
				}
			}
		}
	}
	clear(dst[in*panelCols*size:])
}

// panelGemm is the product of a tile with one panel of a.
func panelGemm(a *multiplyArgs, panel, elementBytes int) gemmArgs {
	size := roundUp(a.in*panelCols*elementBytes, 64)
	return gemmArgs{
		dst: a.dst[panel*panelCols:], dstStride: a.dstStride,
		x: floatsOf(a.tile), xStride: floatTileStride(a.in),
		panel: a.panels[panel*size:][:size],
		k:     a.in, rows: a.rows,
	}
}

func multiplyF32Generic(a *multiplyArgs) {
	for p := range a.numPanels {
		g := panelGemm(a, p, 4)
		gemmGeneric(&g, elementF32)
	}
}

func multiplyF16Generic(a *multiplyArgs) {
	for p := range a.numPanels {
		g := panelGemm(a, p, 2)
		gemmGeneric(&g, elementF16)
	}
}

func multiplyBF16Generic(a *multiplyArgs) {
	for p := range a.numPanels {
		g := panelGemm(a, p, 2)
		gemmGeneric(&g, elementBF16)
	}
}
