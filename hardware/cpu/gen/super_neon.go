package main

import (
	"fmt"
	"strings"

	"hearth/hardware/quant"
)

// superFormatARM is what the formats with blocks of 256 differ in.
type superFormatARM struct {
	name     string
	run      int // elements that share a scale
	codes    codesARM
	signed   bool // scales
	minimums bool
	starts   bool // the tile has what runs start from
}

func superFormatsARM() []superFormatARM {
	return []superFormatARM{
		{name: "Q4_K", run: 32, codes: codesARM{lower: 4}, minimums: true},
		{name: "Q5_K", run: 32, codes: codesARM{lower: 4, upper: 1}, minimums: true},
		{name: "Q6_K", run: 16, codes: codesARM{lower: 4, upper: 2}, signed: true, starts: true},
		{name: "IQ4_XS", run: 32, codes: codesARM{lower: 4, values: func() []int { return codebook(quant.IQ4_NL, 0x00, 0x3c) }}, signed: true},
		{name: "Q2_K", run: 16, codes: codesARM{lower: 2}, minimums: true},
		{name: "Q3_K", run: 16, codes: codesARM{lower: 2, upper: 1, minus: 4}, signed: true},
	}
}

// runs is the number of runs in a block.
func (f superFormatARM) runs() int { return 256 / f.run }

// head is the size of a panel's block before its sections.
func (f superFormatARM) head() int {
	if f.minimums {
		return 64 + 16*f.runs()
	}
	return 32
}

// extra is the size of what a row has in the tile behind a block's elements.
func (f superFormatARM) extra(set isa) int {
	switch {
	case f.minimums:
		return 2 * f.runs()
	case f.starts:
		return f.runs() * set.group()
	default:
		return 0
	}
}

// linearSuperARM writes the kernels of a format.
func linearSuperARM(s *stubs, set isa, format superFormatARM) *file {
	f := newFile("linear_"+strings.ToLower(format.name), set)
	table := format.codes.table(f)
	f.linears(s, set, format.name, func(n int) { newSuperARM(f, s, set, n, format).write(table) })
	return f
}

// superARM is a kernel of blocks of 256. Its results are the integer sums of a block; the float32 sums are in dst.
type superARM struct {
	*linearARM
	format superFormatARM
}

func newSuperARM(f *file, s *stubs, set isa, n int, format superFormatARM) *superARM {
	needs := linearNeeds{name: format.name, constants: format.codes.constants(), x: xRegisters(set, n), free: format.codes.free(), comment: []string{
		"dst[r][c] = sum over blocks of 256 of scale of x * d * sum of scales * products, for 16 columns. blocks is at least 1;",
		"there are no tails. Layouts: linear_super_arm64.go.",
	}}
	if format.minimums {
		needs.comment[0] = "dst[r][c] = sum over blocks of 256 of scale of x * (d * sum of scales * products - dmin * sum of minimums * sums of x),"
		needs.comment[1] = "the minimums first, for 16 columns. blocks is at least 1; there are no tails. Layouts: linear_super_arm64.go."
	}
	return &superARM{newLinearARM(f, s, set, n, 256+format.extra(set), needs), format}
}

func (k *superARM) write(table string) {
	set, format, tileRows := k.set, k.format, rowsOf(k.set, k.rows)
	k.loadConstants(format.codes, table)
	k.clearRows()
	k.at(k.label + "super")
	k.op("the block", "MOVD R1, R19")
	k.op("what stands behind its elements", "ADD $%d, R2, R15", 256*tileRows)
	if format.minimums {
		k.minimums()
	}
	for i := range k.lines * k.vecs {
		k.clear(i, "no runs yet")
	}
	k.op("x", "MOVD R2, R6")
	k.op("runs", "ADD $%d, R1, R1", format.head())
	k.op("sections of 4 runs", "MOVD $%d, R10", 64/format.run)
	k.at(k.label + "section")
	k.op("scales of 4 runs", "MOVD R1, R7")
	k.op("their weights", "ADD $64, R1, R1")
	body := max(format.run, format.codes.unitWords()*set.group())
	k.op("runs of a section, as they share units", "MOVD $%d, R8", 4*format.run/body)
	k.at(k.label + "run")
	for first := 0; first < body; first += format.run {
		k.passes(func(v int) { k.run(first, v, body*tileRows) })
	}
	k.op("next weights", "ADD $%d, R1, R1", body/set.group()/format.codes.unitWords()*format.codes.unitBytes(set))
	k.op("next elements", "ADD $%d, R6, R6", body*tileRows)
	k.op("next scales", "ADD $%d, R7, R7", 16*body/format.run)
	if format.starts {
		k.op("next starts", "ADD $%d, R15, R15", body/format.run*tileRows*set.group())
	}
	k.op("fewer runs", "SUBS $1, R8, R8")
	k.op("until the section is done", "BNE %srun", k.label)
	k.op("one section less", "SUBS $1, R10, R10")
	k.op("until all are done", "BNE %ssection", k.label)
	k.scaleSuper()
	k.op("next block of x", "ADD $%d, R2, R2", (256+format.extra(set))*tileRows)
	k.op("its scales", "ADD $%d, R3, R3", set.group()*tileRows)
	k.op("one block less", "SUBS $1, R4, R4")
	k.op("until all are done", "BNE %ssuper", k.label)
	k.done()
}

// row is the register of a row of dst.
func (k *superARM) row(r int) string { return fmt.Sprintf("R%d", 11+r) }

// clearRows sets dst to 0.
func (k *superARM) clearRows() {
	for i := range 4 {
		k.clear(i, "0")
	}
	for r := range k.rows {
		if r == 0 {
			k.op("row 0", "MOVD R0, R11")
		} else {
			k.op(fmt.Sprintf("row %d", r), "ADD R5, %s, %s", k.row(r-1), k.row(r))
		}
		k.op("no blocks yet", "VST1 %s, (%s)", four(0), k.row(r))
	}
}

// minimums subtracts scale of x * (dmin * minimums times sums of x). The sums are bytes: 128 times high ones and low ones.
// The results are not in use yet.
func (k *superARM) minimums() {
	words := k.format.runs() / k.set.group()
	k.passes(func(first int) {
		k.zeroSums()
		k.openX("R15", 2*k.format.runs()*rowsOf(k.set, k.rows))
		for part := range 2 {
			for word := range words {
				for v := first; v < first+k.perPass; v++ {
					k.load(k.free[0], 64+16*(word*k.vecs+v), "R19", "minimums")
					k.dots(k.free[:1], v, part*words+word)
				}
			}
			if part == 1 {
				break
			}
			for l := range k.lines {
				for v := range k.perPass {
					k.op("* 128", "VSHL $7, V%d.S4, V%d.S4", k.sum(l, v), k.sum(l, v))
				}
			}
		}
		k.addRows(rowSums{first, k.perPass, k.sum, 32, "FMLS", k.temporaries()})
	})
}

// rowSums says what addRows adds.
type rowSums struct {
	first, count int // vectors of a line
	sum          func(l, v int) int
	factor       int    // where the columns' factors are in the block
	op           string // FMLA or FMLS
	free         []int  // at least 4 vectors
}

// addRows adds scale of x * (factors of columns * sums) to dst, or subtracts it.
func (k *superARM) addRows(s rowSums) {
	factor, dst, value := s.free[0], s.free[1], s.free[2]
	perQuad := k.vecs / 4
	for v := s.first; v < s.first+s.count; v += perQuad {
		quad := v / perQuad
		k.op("factors of 4 columns", "FMOVD %s, F%d", mem(s.factor+8*quad, "R19"), factor)
		k.neon("as float32", "FCVTL V%d.4S, V%d.4H", factor, factor)
		for r := range k.rows {
			sum, x, lane := s.sum(r, v), 0, r
			if k.set.group() == 8 {
				x, lane = 16*(r/2), 2*(r%2)
				k.zipRow(r, s.sum(r/2, v), value)
				sum = value
			}
			k.toFloat(sum, 0)
			k.neon("* factors", "FMUL V%d.4S, V%d.4S, V%d.4S", value, sum, factor)
			k.load(dst, 16*quad, k.row(r), fmt.Sprintf("row %d", r))
			k.load(s.free[3], x, "R3", "scales of rows")
			k.neon("scale of x times that", s.op+" V%d.4S, V%d.4S, V%d.S[%d]", dst, value, s.free[3], lane)
			k.store(dst, 16*quad, k.row(r), "back")
		}
	}
}

// run multiplies a run that starts at an element of those in the loop, for the columns from vector v on, and adds the
// scaled sums to those of 256.
func (k *superARM) run(first, v, xBytes int) {
	k.openX("R6", xBytes)
	if k.format.starts {
		k.starts(first / k.format.run)
	} else {
		k.zeroSums()
	}
	words := k.format.run / k.set.group()
	for pair := first / k.set.group() / 2; pair < (first/k.set.group()+words)/2; pair++ {
		for i := range k.perPass {
			k.wordPair(k.format.codes, pair, v+i, 0)
		}
	}
	k.scaleRun(first/k.format.run, v)
}

// starts begins sums with what the weights' shift makes of the rows' sums.
func (k *superARM) starts(run int) {
	t := k.free[0]
	for l := range k.lines {
		if k.set.group() == 8 {
			k.load(t, 16*(run*k.lines+l), "R15", "starts of two rows, each twice")
		} else if l == 0 {
			k.load(t, 4*k.rows*run, "R15", "starts of rows")
		}
		for v := range k.perPass {
			if k.set.group() == 8 {
				k.op("rows start", "VMOV V%d.B16, V%d.B16", t, k.sum(l, v))
			} else {
				k.op(fmt.Sprintf("row %d starts", l), "VDUP V%d.S[%d], V%d.S4", t, l, k.sum(l, v))
			}
		}
	}
}

// scaleRun multiplies the sums of a pass with the columns' scales and adds them to those of 256.
func (k *superARM) scaleRun(run, first int) {
	t := k.temporaries()
	bytes, wide, words, pair := t[0], t[1], t[2], t[3]
	perQuad := k.vecs / 4
	k.load(bytes, 16*run, "R7", "scales of the run")
	for v := first; v < first+k.perPass; v++ {
		quad := v / perQuad
		if v == first || v%(2*perQuad) == 0 {
			k.widen(quad/2%2, wide, bytes, "8H", "8B", "16B")
		}
		if v == first || v%perQuad == 0 {
			k.widen(quad%2, words, wide, "4S", "4H", "8H")
		}
		scales := words
		if perQuad == 2 {
			k.op("of 2 columns, twice", "VDUP V%d.D[%d], V%d.D2", words, v%2, pair)
			scales = pair
		}
		for l := range k.lines {
			k.neon("scaled, added to those of 256", "MLA V%d.4S, V%d.4S, V%d.4S", k.result(l, v), k.sum(l, v), scales)
		}
	}
}

// widen doubles the size of the lower or upper half of a vector's elements.
func (k *superARM) widen(half, to, from int, wide, lower, upper string) {
	op := "USHLL"
	if k.format.signed {
		op = "SSHLL"
	}
	if half == 0 {
		k.neon("wider", op+" V%d.%s, V%d.%s, #0", to, wide, from, lower)
	} else {
		k.neon("wider", op+"2 V%d.%s, V%d.%s, #0", to, wide, from, upper)
	}
}

// scaleSuper adds scale of x * (d * sums of 256).
func (k *superARM) scaleSuper() {
	free := k.temporaries()
	for i := range k.lines * k.perPass {
		free = append(free, k.sums+i)
	}
	k.addRows(rowSums{0, k.vecs, k.result, 0, "FMLA", free})
}
