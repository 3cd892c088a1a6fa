package cpu

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

// packFloat transposes, a few rows at a time and short pieces of them.
func packFloat(dst, src []byte, numRows, in int, e element) {
	size := e.bytes()
	rowBytes := in * size
	src = wholePanel(src, numRows, rowBytes)
	const piece = 64
	for first := 0; first < in; first += piece {
		n := min(piece, in-first)
		from, to := src[first*size:], dst[first*panelCols*size:][:n*panelCols*size]
		if size == 4 {
			for r := 0; r < panelCols; r += 2 {
				packWords(to[4*r:], from[r*rowBytes:], rowBytes, n)
			}
			continue
		}
		for r := 0; r < panelCols; r += 4 {
			packHalves(to[2*r:], from[r*rowBytes:], rowBytes, n)
		}
	}
	clear(dst[panelCols*rowBytes:])
}

// packWords puts n words of two rows, rowBytes apart, beside each other, each pair a line of the panel behind the last.
func packWords(dst, src []byte, rowBytes, n int) {
	const line = 4 * panelCols
	i := 0
	for ; i+2 <= n; i += 2 {
		from, to := src[4*i:], (*[line + 8]byte)(dst[line*i:])
		first, second := beside(load64(from), load64(from[rowBytes:]))
		store64(to[0:], first)
		store64(to[line:], second)
	}
	if i < n {
		store64(dst[line*i:], uint64(load32(src[4*i:]))|uint64(load32(src[rowBytes+4*i:]))<<32)
	}
}

// packHalves puts n halves of four rows, rowBytes apart, beside each other, each four a line of the panel behind the last.
func packHalves(dst, src []byte, rowBytes, n int) {
	const line = 2 * panelCols
	i := 0
	for ; i+4 <= n; i += 4 {
		from, to := src[2*i:], (*[3*line + 8]byte)(dst[line*i:])
		x, y := load64(from), load64(from[rowBytes:])
		z, w := load64(from[2*rowBytes:]), load64(from[3*rowBytes:])
		h0, h2 := beside(evenHalves(x, y), evenHalves(z, w))
		h1, h3 := beside(oddHalves(x, y), oddHalves(z, w))
		store64(to[0:], h0)
		store64(to[line:], h1)
		store64(to[2*line:], h2)
		store64(to[3*line:], h3)
	}
	for ; i < n; i++ {
		for r := range 4 {
			copy(dst[line*i+2*r:][:2], src[r*rowBytes+2*i:])
		}
	}
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
