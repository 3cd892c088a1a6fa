package main

import "fmt"

const latentsParams = "(dst, x *float32, tile, scales *byte, panels, groups, dstStride, xStride, panelBytes int, ahead *byte)"

// latentsEntries are the numbers of entries that kernels multiply at once.
var latentsEntries = []int{1, 2, 4}

// latents writes the kernels that multiply rows with the entries of a tile of values. A product is a sum over the
// elements of both, in the lanes of one vector: with rows and entries enough, these sums fill the registers.
func latents(s *stubs, set isa) *file {
	f := newFile("latents", set)
	for _, e := range append(elements[:len(elements):len(elements)], elementI8) {
		for _, entries := range latentsEntries {
			most := set.maxRows
			switch {
			case entries == 4 && e == elementI8:
				continue // its scales take the registers
			case entries == 4 || entries == 1 && set.wide():
				most /= 2
			}
			name := "latents" + e.name
			if e == elementI8 {
				name = "latentsQ8_0"
			}
			var names []string
			for n := 1; n <= most; n++ {
				l := &latent{set: set, element: e, rows: n, entries: entries, name: fmt.Sprintf("%s%sRows%dEntries%d", name, set.suffix, n, entries)}
				l.write(f, s)
				names = append(names, l.name)
			}
			s.table(fmt.Sprintf("%s%sEntries%d", name, set.suffix, entries), "latentsKernel", fmt.Sprintf("the kernels of %s for %d entries", name, entries), names)
		}
	}
	return f
}

// latent is such a kernel.
type latent struct {
	*function
	set           isa
	element       element
	rows, entries int
	name          string
	from          rows
}

// Vectors: first those of the entries or the rows, whichever are fewer, and one of the others; with Q8_0 the entries'
// scales and an entry. Then the sums, by row and entry.
func (l *latent) temps() int {
	if l.element == elementI8 {
		return l.entries + 1
	}
	return min(l.rows, l.entries) + 1
}
func (l *latent) sum(r, e int) int { return l.temps() + r*l.entries + e }

// each goes through the sums.
func (l *latent) each(do func(r, e int)) {
	for r := range l.rows {
		for e := range l.entries {
			do(r, e)
		}
	}
}

func (l *latent) write(f *file, s *stubs) {
	comment := []string{
		"dst[r][c] = sum over i of x[r][i] * entry c's element i, for groups of consecutive entries. In a panel an entry has 16",
		"elements, and the next entry follows. Each lane is a sum of its own, i ascending; then the upper half of the lanes is",
		"added to the lower one, until one is left. Strides are in bytes. Each round asks for as many bytes at ahead.",
		fmt.Sprintf("Registers: %s0 up x, entries and scales, then the sums; DI dst, BX x, AX tile, DX what is left of a group, R14 to the", l.set.prefix),
		"next panel, R15 ahead, R9 scales, R10 to the next of them. There are no tails.",
	}
	l.function = f.begin(s, l.set, signature{l.name, latentsParams, 80, 0}, comment...)
	l.label = l.name
	l.from = rows{base: "BX", base6: "R8", stride: "CX", stride3: "R12", stride5: "R13"}
	l.op("results", "MOVQ dst+0(FP), DI")
	l.op("bytes between rows of dst", "MOVQ dstStride+48(FP), SI")
	l.op("bytes between rows of x", "MOVQ xStride+56(FP), CX")
	l.op("bytes between panels", "MOVQ panelBytes+64(FP), R14")
	l.op("what is read next", "MOVQ ahead+72(FP), R15")
	l.at(l.label + "group")
	l.op("rows", "MOVQ x+8(FP), BX")
	l.op("entries", "MOVQ tile+16(FP), AX")
	l.op("their panels", "MOVQ panels+32(FP), DX")
	l.from.setup(l.function, l.rows)
	l.each(func(r, e int) { l.zero(l.sum(r, e), fmt.Sprintf("row %d, entry %d: no sum yet", r, e)) })
	if l.element == elementI8 {
		l.scaledRounds()
	} else {
		l.rounds()
	}
	dstRows.setup(l.function, l.rows)
	l.each(l.finish)
	l.op("next results", "ADDQ $%d, DI", 4*l.entries)
	l.op("next entries", "ADDQ $%d, tile+16(FP)", 16*l.element.bytes*l.entries)
	if l.element == elementI8 {
		l.op("their scales", "ADDQ $%d, scales+24(FP)", 2*l.entries)
	}
	l.op("one group less", "DECQ groups+40(FP)")
	l.op("until all are done", "JNZ %sgroup", l.label)
	l.end()
}

// address is a half of an entry's part of a panel at a register.
func (l *latent) address(e, h int, base string) string {
	return mem((16*e+h*l.bytes/4)*l.element.bytes, base)
}

// rounds goes through the panels.
func (l *latent) rounds() {
	l.at(l.label + "panel")
	l.prefetchAhead()
	for h := range l.halves() {
		loadRow := func(r, to int) {
			l.op(fmt.Sprintf("x of row %d", r), "VMOVUPS %s, %s", l.from.at(r, h*l.bytes), l.v(to))
		}
		if l.rows <= l.entries {
			for r := range l.rows {
				loadRow(r, r)
			}
			for e := range l.entries {
				l.loadElements(l.element, l.address(e, h, "AX"), l.rows)
				for r := range l.rows {
					l.multiply(r, e, l.v(r), l.rows)
				}
			}
			continue
		}
		for e := range l.entries {
			l.loadElements(l.element, l.address(e, h, "AX"), e)
		}
		for r := range l.rows {
			loadRow(r, l.entries)
			for e := range l.entries {
				l.multiply(r, e, l.v(l.entries), e)
			}
		}
	}
	l.op("next panel", "ADDQ R14, AX")
	l.nextX(16)
	l.op("one panel less", "DECQ DX")
	l.op("until all are done", "JNZ %spanel", l.label)
}

// scaledRounds goes through the runs of Q8_0: two panels, and before them the scales of all entries of the tile.
func (l *latent) scaledRounds() {
	k := l.entries
	l.op("scales", "MOVQ scales+24(FP), R9")
	l.op("2 bytes for 16 of a panel", "MOVQ R14, R10")
	l.op("bytes of a run's scales", "SHRQ $3, R10")
	l.op("and panels", "LEAQ (R10)(R14*2), R10")
	l.op("runs", "SHRQ $1, DX")
	l.at(l.label + "run")
	l.prefetchAhead()
	for e := range l.entries {
		half := l.x16(e)
		l.op(fmt.Sprintf("scale of entry %d", e), "VPBROADCASTW %s, %s", mem(2*e, "R9"), half)
		l.op("as float32", "VCVTPH2PS %s, %s", half, l.v(e))
	}
	for _, base := range []string{"AX", "AX)(R14*1"} {
		for h := range l.halves() {
			for e := range l.entries {
				l.loadElements(l.element, l.address(e, h, base), k)
				l.op("scaled", "VMULPS %s, %s, %s", l.v(e), l.v(k), l.v(k))
				for r := range l.rows {
					offset := h * l.bytes
					if base != "AX" {
						offset += 64
					}
					l.multiply(r, e, l.from.at(r, offset), k)
				}
			}
		}
	}
	l.op("next run", "ADDQ R10, AX")
	l.op("its scales", "ADDQ R10, R9")
	l.nextX(32)
	l.op("one run less", "DECQ DX")
	l.op("until all are done", "JNZ %srun", l.label)
}

// x16 is the half of a vector that 16-bit numbers for all its lanes take.
func (l *latent) x16(i int) string {
	if l.wide() {
		return l.y(i)
	}
	return l.x(i)
}

// multiply adds to a sum.
func (l *latent) multiply(r, e int, x string, w int) {
	l.op(fmt.Sprintf("row %d, entry %d += x * entry", r, e), "VFMADD231PS %s, %s, %s", x, l.v(w), l.v(l.sum(r, e)))
}

// nextX goes on by count elements of x.
func (l *latent) nextX(count int) {
	l.op("next of x", "ADDQ $%d, BX", 4*count)
	if l.rows > 6 {
		l.op("and in rows from 6 on", "ADDQ $%d, R8", 4*count)
	}
}

// prefetchAhead asks for what is read after the tile, as far as a round reads whole lines.
func (l *latent) prefetchAhead() {
	bytes := 16 * l.element.bytes * l.entries
	if l.element == elementI8 {
		bytes *= 2 // panels of a run
	}
	for i := 0; i+64 <= bytes; i += 64 {
		l.op("what comes next", "PREFETCHT1 %s", mem(i, "R15"))
	}
	if bytes >= 64 {
		l.op("and after that", "ADDQ $%d, R15", bytes)
	}
}

// finish adds the lanes of a sum, and writes it.
func (l *latent) finish(r, e int) {
	sum := l.sum(r, e)
	low := sum
	if l.wide() {
		l.op("the upper half", "VEXTRACTF64X4 $1, %s, %s", l.v(sum), l.y(0))
		l.op("the sum, where shorter vectors reach it", "VMOVAPS %s, %s", l.v(sum), l.v(1))
		l.op("8 lanes", "VADDPS %s, %s, %s", l.y(0), l.y(1), l.y(1))
		low = 1
	}
	l.op("the upper half", "VEXTRACTF128 $1, %s, %s", l.y(low), l.x(0))
	l.op("4 lanes", "VADDPS %s, %s, %s", l.x(0), l.x(low), l.x(1))
	l.op("the upper half", "VPERMILPS $0xee, %s, %s", l.x(1), l.x(0))
	l.op("2 lanes", "VADDPS %s, %s, %s", l.x(0), l.x(1), l.x(1))
	l.op("the upper one", "VMOVSHDUP %s, %s", l.x(1), l.x(0))
	l.op("1 lane", "VADDSS %s, %s, %s", l.x(0), l.x(1), l.x(1))
	l.op(fmt.Sprintf("row %d, entry %d", r, e), "VMOVSS %s, %s", l.x(1), dstRows.at(r, 4*e))
}
