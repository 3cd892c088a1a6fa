package main

import "fmt"

// gemmRowsNEON is the largest number of rows whose results fit in registers beside x and two vectors of the panel.
const gemmRowsNEON = 6

// gemmARM writes the float kernels.
func gemmARM(s *stubs) *file {
	f := newFile("gemm", neon)
	for _, e := range elements {
		var names []string
		for n := 1; n <= gemmRowsNEON; n++ {
			g := &gemmKernel{element: e, rows: n, label: fmt.Sprintf("gemm%srows%d", e.name, n)}
			names = append(names, g.write(f, s))
		}
		s.table("gemm"+e.name+neon.suffix, "floatKernel", "the kernels of "+e.name+" panels", names)
	}
	return f
}

// gemmKernel is a float kernel of some rows. A row's results are 4 vectors.
type gemmKernel struct {
	*arm
	element element
	rows    int
	label   string

	pairs int // of vectors for the panel
	next  int // pair to use next
}

// sum, x and weights name registers: results first, then x, then the panel.
func (g *gemmKernel) sum(r, v int) int { return 4*r + v }
func (g *gemmKernel) x(r int) int      { return 4*g.rows + r }
func (g *gemmKernel) pointer(r int) string {
	return fmt.Sprintf("R%d", 8+r)
}

// write writes the kernel and returns its name.
func (g *gemmKernel) write(f *file, s *stubs) string {
	n := g.rows
	g.pairs = min(4, (32-5*n)/2)
	name := fmt.Sprintf("gemm%s%sRows%d", g.element.name, neon.suffix, n)
	g.arm = beginARM(f, s, neon, signature{name, gemmParams, 56, 0},
		"dst[r][c] (+)= sum over i of x[r][i] * panel[i][c], for 16 columns, i ascending. Strides are in bytes. Four i are a",
		"round, the last one to three go one by one.",
		"Registers: V0 up results, 4 a row, then x, 1 a row, then the panel; R0 dst, R1 x, R2 panel, R3 what is left of k, R4 and R5",
		"bytes between rows of dst and x, R6 free, R8 up rows of x.")
	g.op("results", "MOVD dst+0(FP), R0")
	g.op("rows", "MOVD x+8(FP), R8")
	g.op("panel", "MOVD panel+16(FP), R2")
	g.op("its rows", "MOVD k+24(FP), R3")
	g.op("bytes between rows of dst", "MOVD dstStride+32(FP), R4")
	g.op("bytes between rows of x", "MOVD xStride+40(FP), R5")
	g.op("add to dst?", "MOVD add+48(FP), R6")
	for r := 1; r < n; r++ {
		g.op(fmt.Sprintf("row %d", r), "ADD R5, %s, %s", g.pointer(r-1), g.pointer(r))
	}
	g.start()
	g.op("four are left?", "SUBS $4, R3, R3")
	g.op("no", "BLT %stail", g.label)
	g.at(g.label + "four")
	for r := range n {
		g.op(fmt.Sprintf("4 of row %d", r), "FMOVQ.P 16(%s), F%d", g.pointer(r), g.x(r))
	}
	for u := range 4 {
		g.step(u)
	}
	g.op("next of the panel", "ADD $%d, R2, R2", 4*16*g.element.bytes)
	g.op("four less", "SUBS $4, R3, R3")
	g.op("while there are four", "BGE %sfour", g.label)
	g.at(g.label + "tail")
	g.op("0 to 3 are left", "ADDS $4, R3, R3")
	g.op("none", "BEQ %sdone", g.label)
	g.at(g.label + "one")
	for r := range n {
		g.op(fmt.Sprintf("1 of row %d", r), "FMOVS.P 4(%s), F%d", g.pointer(r), g.x(r))
	}
	g.step(0)
	g.op("next of the panel", "ADD $%d, R2, R2", 16*g.element.bytes)
	g.op("one less", "SUBS $1, R3, R3")
	g.op("until all are done", "BNE %sone", g.label)
	g.at(g.label + "done")
	for r := range n {
		g.op(fmt.Sprintf("row %d is done", r), "VST1 %s, (R0)", four(g.sum(r, 0)))
		if r < n-1 {
			g.op("next row", "ADD R4, R0, R0")
		}
	}
	g.done()
	return name
}

// start reads dst or clears the results.
func (g *gemmKernel) start() {
	for i := range 4 * g.rows {
		g.clear(i, fmt.Sprintf("row %d = 0", i/4))
	}
	g.op("no", "CBZ R6, %sstart", g.label)
	g.op("dst", "MOVD R0, R6")
	for r := range g.rows {
		g.op(fmt.Sprintf("row %d as it is", r), "VLD1 (R6), %s", four(g.sum(r, 0)))
		if r < g.rows-1 {
			g.op("next row", "ADD R4, R6, R6")
		}
	}
	g.at(g.label + "start")
}

// step multiplies row u of the panel, counted from R2, with element u of each row's vector.
func (g *gemmKernel) step(u int) {
	for half := range 2 {
		w := 5*g.rows + 2*(g.next%g.pairs)
		g.next++
		g.loadElements(w, (16*u+8*half)*g.element.bytes)
		for r := range g.rows {
			for v := range 2 {
				g.neon(fmt.Sprintf("row %d += panel * x", r), "FMLA V%d.4S, V%d.4S, V%d.S[%d]", g.sum(r, 2*half+v), w+v, g.x(r), u)
			}
		}
	}
}

// loadElements reads 8 elements of the panel as two vectors of float32.
func (g *gemmKernel) loadElements(w, offset int) {
	switch g.element.name {
	case "F32":
		g.loadPair(w, w+1, offset, "R2", "panel")
	case "F16":
		g.load(w, offset, "R2", "panel")
		g.neon("upper 4", "FCVTL2 V%d.4S, V%d.8H", w+1, w)
		g.neon("lower 4", "FCVTL V%d.4S, V%d.4H", w, w)
	default:
		g.load(w, offset, "R2", "panel")
		g.neon("upper 4", "SHLL2 V%d.4S, V%d.8H, #16", w+1, w)
		g.neon("lower 4", "SHLL V%d.4S, V%d.4H, #16", w, w)
	}
}
