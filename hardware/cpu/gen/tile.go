package main

import "fmt"

const tileParams = "(dst, x *float32, panel *byte, k, dstStride, xStride, add, panelStride int, ahead *byte)"

// elementI8 is the element of Q8_0's panels; their scales come in elsewhere.
var elementI8 = element{"I8", 1}

// tileShape is how many rows and panels a kernel multiplies at once. Its sums fill the registers: with few rows there is
// room for several panels, which keeps the multipliers busy while one sum waits for the next, and reads x less often.
type tileShape struct{ rows, panels int }

// tileShapes lists the kernels that multiply so many panels at once.
func tileShapes(set isa, panels int) []tileShape {
	most := set.maxRows
	switch {
	case panels > 1 && set.wide():
		most = 6
	case panels == 4:
		most = 1
	case panels == 2:
		most = 3
	}
	var shapes []tileShape
	for n := 1; n <= most; n++ {
		shapes = append(shapes, tileShape{n, panels})
	}
	return shapes
}

// tiles writes the kernels of attention: rows with the panels of a cache tile. One panel of float elements at a time is
// gemm's.
func tiles(s *stubs, set isa) *file {
	f := newFile("tile", set)
	table := func(name, typ string, panels int, write func(t *tile)) {
		var names []string
		for _, shape := range tileShapes(set, panels) {
			t := &tile{set: set, tileShape: shape, name: fmt.Sprintf("%s%sRows%dPanels%d", name, set.suffix, shape.rows, panels)}
			write(t)
			names = append(names, t.name)
		}
		list := fmt.Sprintf("%s%sPanels%d", name, set.suffix, panels)
		s.table(list, typ, fmt.Sprintf("the kernels of %s for %d panels", name, panels), names)
	}
	for _, e := range elements {
		for _, panels := range []int{2, 4} {
			if panels == 2 && set.wide() {
				continue // leftovers of four are rare, and gemm's
			}
			table("tile"+e.name, "tileKernel", panels, func(t *tile) { t.product(f, s, e) })
		}
	}
	for _, panels := range []int{1, 2} {
		table("valuesQ8_0", "valuesKernel", panels, func(t *tile) { t.scaledValues(f, s) })
	}
	for _, panels := range []int{1, 2, 4} {
		if panels == 2 && set.wide() {
			continue // there are always four
		}
		table("keysQ8_0", "keysKernel", panels, func(t *tile) { t.scaledKeys(f, s) })
	}
	return f
}

// tile is a kernel of attention.
type tile struct {
	*function
	tileShape
	set  isa
	name string
	x    rows
}

// Vectors: sums by row, panel and half; then either x of all rows and one of a panel, or a row of all panels and one x,
// whichever are fewer.
func (t *tile) sum(r, p, h int) int { return (r*t.panels+p)*t.halves() + h }
func (t *tile) tmp() int            { return t.rows * t.panels * t.halves() }

// each goes through the sums.
func (t *tile) each(do func(r, p, h int)) {
	for r := range t.rows {
		for p := range t.panels {
			for h := range t.halves() {
				do(r, p, h)
			}
		}
	}
}

// step multiplies row u of the panels, whose vectors are at address(p, h).
func (t *tile) step(e element, u int, address func(p, h int) string) {
	broadcast := func(r, to int) {
		t.op(fmt.Sprintf("x of row %d", r), "VBROADCASTSS %s, %s", t.x.at(r, 4*u), t.v(to))
	}
	multiply := func(r, p, h, x, w int) {
		t.op(fmt.Sprintf("row %d += x * panel", r), "VFMADD231PS %s, %s, %s", t.v(x), t.v(w), t.v(t.sum(r, p, h)))
	}
	vectors := t.panels * t.halves()
	if t.rows > vectors {
		for p := range t.panels {
			for h := range t.halves() {
				t.loadElements(e, address(p, h), t.tmp()+p*t.halves()+h)
			}
		}
		for r := range t.rows {
			broadcast(r, t.tmp()+vectors)
			for i := range vectors {
				multiply(r, i/t.halves(), i%t.halves(), t.tmp()+vectors, t.tmp()+i)
			}
		}
		return
	}
	for r := range t.rows {
		broadcast(r, t.tmp()+r)
	}
	for p := range t.panels {
		for h := range t.halves() {
			t.loadElements(e, address(p, h), t.tmp()+t.rows)
			for r := range t.rows {
				multiply(r, p, h, t.tmp()+r, t.tmp()+t.rows)
			}
		}
	}
}

// nextX goes on by count elements of x.
func (t *tile) nextX(count int) {
	t.op("next of x", "ADDQ $%d, BX", 4*count)
	if t.rows > 6 {
		t.op("and in rows from 6 on", "ADDQ $%d, R8", 4*count)
	}
}

// prefetchAhead asks for as many bytes of what is read after this tile.
func (t *tile) prefetchAhead(bytes int) {
	for i := 0; i < bytes; i += 64 {
		t.op("what comes next", "PREFETCHT1 %s", mem(i, "R15"))
	}
	t.op("and after that", "ADDQ $%d, R15", bytes)
}

// product is gemm with several panels, which lie one stride apart.
func (t *tile) product(f *file, s *stubs, e element) {
	t.function = f.begin(s, t.set, signature{t.name, tileParams, 72, 0},
		fmt.Sprintf("dst[r][c] (+)= sum over i of x[r][i] * panel[i][c], for the columns of %d panels, i ascending. Strides are in bytes.", t.panels),
		"Four i are a round, the last one to three go one by one. Each round asks for as many bytes at ahead.",
		fmt.Sprintf("Registers: %s0 up results, then x and panel; DI dst, BX x, AX panel, R14 to the next, R15 ahead, DX what is left of k.", t.set.prefix))
	t.label = fmt.Sprintf("%srows%dpanels%d", e.name, t.rows, t.panels)
	t.x = rows{base: "BX", base6: "R8", stride: "CX", stride3: "R12", stride5: "R13"}
	panels := rows{base: "AX", stride: "R14", stride3: "R8"}
	t.op("results", "MOVQ dst+0(FP), DI")
	t.op("rows", "MOVQ x+8(FP), BX")
	t.op("panel", "MOVQ panel+16(FP), AX")
	t.op("its rows", "MOVQ k+24(FP), DX")
	t.op("bytes between rows of dst", "MOVQ dstStride+32(FP), SI")
	t.op("bytes between rows of x", "MOVQ xStride+40(FP), CX")
	t.op("bytes between panels", "MOVQ panelStride+56(FP), R14")
	t.op("what is read next", "MOVQ ahead+64(FP), R15")
	dstRows.setup(t.function, t.rows)
	t.x.setup(t.function, t.rows)
	if t.panels > 3 {
		t.op("3 panels", "LEAQ (R14)(R14*2), R8")
	}
	result := func(r, p, h int) string { return dstRows.at(r, p*64+h*t.bytes) }
	t.each(func(r, p, h int) { t.zero(t.sum(r, p, h), fmt.Sprintf("row %d = 0", r)) })
	t.op("add to dst?", "CMPQ add+48(FP), $0")
	t.op("no", "JEQ %sstart", t.label)
	t.each(func(r, p, h int) {
		t.op(fmt.Sprintf("row %d as it is", r), "VMOVUPS %s, %s", result(r, p, h), t.v(t.sum(r, p, h)))
	})
	t.rounds(e, panels)
	t.each(func(r, p, h int) {
		t.op(fmt.Sprintf("row %d is done", r), "VMOVUPS %s, %s", t.v(t.sum(r, p, h)), result(r, p, h))
	})
	t.end()
}

// rounds goes through DX rows of the panels, four at a time and then the last ones.
func (t *tile) rounds(e element, panels rows) {
	step := func(u int) {
		t.step(e, u, func(p, h int) string { return panels.at(p, (u*16+h*t.bytes/4)*e.bytes) })
	}
	t.at(t.label + "start")
	t.op("four are left?", "SUBQ $4, DX")
	t.op("no", "JLT %stail", t.label)
	t.at(t.label + "four")
	t.prefetchAhead(4 * 16 * e.bytes * t.panels)
	for u := range 4 {
		step(u)
	}
	t.op("next of the panels", "ADDQ $%d, AX", 4*16*e.bytes)
	t.nextX(4)
	t.op("four less", "SUBQ $4, DX")
	t.op("while there are four", "JGE %sfour", t.label)
	t.at(t.label + "tail")
	t.op("0 to 3 are left", "ADDQ $4, DX")
	t.op("none", "JEQ %sdone", t.label)
	t.at(t.label + "one")
	step(0)
	t.op("next of the panels", "ADDQ $%d, AX", 16*e.bytes)
	t.nextX(1)
	t.op("one less", "DECQ DX")
	t.op("until all are done", "JNZ %sone", t.label)
	t.at(t.label + "done")
}

// Sizes of a run of Q8_0: see tile.go.
const (
	keyScaleBytes   = 2 * 64
	keyPanelBytes   = 32 * 16
	keyBlockBytes   = keyScaleBytes + 4*keyPanelBytes
	valuePanelBytes = 64 * 16
)

// scaledKeys multiplies with keys of Q8_0, whose scales belong to columns and blocks of 32 elements.
func (t *tile) scaledKeys(f *file, s *stubs) {
	const params = "(dst, x *float32, panel, scales *byte, blocks, dstStride, xStride int, ahead *byte)"
	t.function = f.begin(s, t.set, signature{t.name, params, 64, 0},
		fmt.Sprintf("dst[r][c] = sum over blocks b of scale[b][c] * sum over i of x[r][32b+i] * panel[b][i][c], for the columns of %d panels,", t.panels),
		"in ascending order. Strides are in bytes. Four i are a round, which asks for as many bytes at ahead. There are no tails.",
		fmt.Sprintf("Registers: %s0 up a block's sums, then x and panel; DI dst, BX x, AX panel, R14 scales, R15 ahead, DX rounds left, 8 a block.", t.set.prefix))
	t.label = fmt.Sprintf("keysrows%dpanels%d", t.rows, t.panels)
	t.x = rows{base: "BX", base6: "R8", stride: "CX", stride3: "R12", stride5: "R13"}
	t.op("results", "MOVQ dst+0(FP), DI")
	t.op("rows", "MOVQ x+8(FP), BX")
	t.op("panel", "MOVQ panel+16(FP), AX")
	t.op("its scales", "MOVQ scales+24(FP), R14")
	t.op("blocks", "MOVQ blocks+32(FP), DX")
	t.op("rounds", "SHLQ $3, DX")
	t.op("bytes between rows of dst", "MOVQ dstStride+40(FP), SI")
	t.op("bytes between rows of x", "MOVQ xStride+48(FP), CX")
	t.op("what is read next", "MOVQ ahead+56(FP), R15")
	dstRows.setup(t.function, t.rows)
	t.x.setup(t.function, t.rows)
	result := func(r, p, h int) string { return dstRows.at(r, p*64+h*t.bytes) }
	t.zero(0, "0")
	t.each(func(r, p, h int) { t.op(fmt.Sprintf("row %d = 0", r), "VMOVUPS %s, %s", t.v(0), result(r, p, h)) })
	t.at(t.label + "block")
	t.each(func(r, p, h int) { t.zero(t.sum(r, p, h), fmt.Sprintf("row %d: no sum yet", r)) })
	t.at(t.label + "four")
	t.prefetchAhead(4 * 16 * t.panels)
	for u := range 4 {
		t.step(elementI8, u, func(p, h int) string { return mem(p*keyPanelBytes+u*16+h*t.bytes/4, "AX") })
	}
	t.op("next of the panels", "ADDQ $%d, AX", 4*16)
	t.nextX(4)
	t.op("one round less", "DECQ DX")
	t.op("all of the block?", "TESTQ $7, DX")
	t.op("no", "JNE %sfour", t.label)
	for p := range t.panels {
		for h := range t.halves() {
			d := t.v(t.tmp())
			t.op("scales", "VCVTPH2PS %s, %s", mem(p*32+h*t.bytes/2, "R14"), d)
			for r := range t.rows {
				t.op("scale * sum + those before", "VFMADD213PS %s, %s, %s", result(r, p, h), d, t.v(t.sum(r, p, h)))
				t.op(fmt.Sprintf("row %d so far", r), "VMOVUPS %s, %s", t.v(t.sum(r, p, h)), result(r, p, h))
			}
		}
	}
	t.prefetchAhead(32 * t.panels)
	t.op("next block's panels", "ADDQ $%d, AX", keyBlockBytes-keyPanelBytes)
	t.op("next block's scales", "ADDQ $%d, R14", keyBlockBytes)
	t.op("blocks left?", "TESTQ DX, DX")
	t.op("yes", "JNE %sblock", t.label)
	t.end()
}

// scaledValues multiplies with values of Q8_0, whose scales belong to positions: rows are scaled first.
func (t *tile) scaledValues(f *file, s *stubs) {
	const params = "(dst, x *float32, panel, scales *byte, k, dstStride, xStride int, room *float32, ahead *byte)"
	t.function = f.begin(s, t.set, signature{t.name, params, 72, 0},
		fmt.Sprintf("dst[r][c] += sum over i of (x[r][i] * scale[i]) * panel[i][c], for the columns of %d panels, i ascending. Strides are in", t.panels),
		"bytes. All 64 elements of a row are scaled into room, [rows][64], whatever k is. Four i are a round, which asks for as",
		"many bytes at ahead, the last one to three go one by one.",
		fmt.Sprintf("Registers: %s0 up results, then x and panel; DI dst, BX x and later room, AX panel, R15 ahead, DX what is left of k,", t.set.prefix),
		"R14 scales and later bytes between panels.")
	t.label = fmt.Sprintf("valuesrows%dpanels%d", t.rows, t.panels)
	t.x = rows{base: "BX", base6: "R8", stride: "CX", stride3: "R12", stride5: "R13"}
	t.op("rows", "MOVQ x+8(FP), BX")
	t.op("scales", "MOVQ scales+24(FP), R14")
	t.op("bytes between rows of x", "MOVQ xStride+48(FP), CX")
	t.op("scaled rows", "MOVQ room+56(FP), DX")
	t.x.setup(t.function, t.rows)
	for i := 0; i < 256; i += t.bytes {
		t.op("scales", "VCVTPH2PS %s, %s", mem(i/2, "R14"), t.v(0))
		for r := range t.rows {
			t.op(fmt.Sprintf("x of row %d, scaled", r), "VMULPS %s, %s, %s", t.x.at(r, i), t.v(0), t.v(1))
			t.op("kept", "VMOVUPS %s, %s", t.v(1), mem(256*r+i, "DX"))
		}
	}
	t.op("scaled rows", "MOVQ DX, BX")
	t.op("bytes between them", "MOVQ $256, CX")
	t.x.setup(t.function, t.rows)
	t.op("results", "MOVQ dst+0(FP), DI")
	t.op("panel", "MOVQ panel+16(FP), AX")
	t.op("its rows", "MOVQ k+32(FP), DX")
	t.op("bytes between rows of dst", "MOVQ dstStride+40(FP), SI")
	t.op("what is read next", "MOVQ ahead+64(FP), R15")
	t.op("bytes between panels", "MOVQ $%d, R14", valuePanelBytes)
	dstRows.setup(t.function, t.rows)
	result := func(r, p, h int) string { return dstRows.at(r, p*64+h*t.bytes) }
	t.each(func(r, p, h int) {
		t.op(fmt.Sprintf("row %d as it is", r), "VMOVUPS %s, %s", result(r, p, h), t.v(t.sum(r, p, h)))
	})
	t.rounds(elementI8, rows{base: "AX", stride: "R14"})
	t.each(func(r, p, h int) {
		t.op(fmt.Sprintf("row %d is done", r), "VMOVUPS %s, %s", t.v(t.sum(r, p, h)), result(r, p, h))
	})
	t.end()
}
