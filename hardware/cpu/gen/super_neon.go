package main

import (
	"fmt"
	"strings"
)

// superFormatARM is what the formats with blocks of 256 differ in. Elements have 4 bits in nibbles and some above them,
// which a unit of words keeps in front, a byte of 8 bits for each column and place in a word.
type superFormatARM struct {
	name      string
	run       int // elements that share a scale
	upperBits int // above the nibble
	signed    bool
	minimums  bool
	head      int // bytes in front of the sections
	mask      uint32
	extra     func(set isa) int // bytes of a row in the tile, behind a block's elements
}

var superFormatsARM = []superFormatARM{
	{name: "Q4_K", run: 32, minimums: true, head: 192, extra: func(isa) int { return 16 }},
	{name: "Q5_K", run: 32, upperBits: 1, minimums: true, head: 192, mask: 0x10, extra: func(isa) int { return 16 }},
	{name: "Q6_K", run: 16, upperBits: 2, signed: true, head: 32, mask: 0x30, extra: func(set isa) int { return 16 * set.group() }},
}

// unitWords is the number of words in a unit: as many as there is room for upper bits in a byte, or two nibbles.
func (f superFormatARM) unitWords() int {
	if f.upperBits == 0 {
		return 2
	}
	return 8 / f.upperBits
}

// unitBytes is the size of a unit.
func (f superFormatARM) unitBytes(set isa) int {
	bytes := f.unitWords() / 2 * 16 * set.group()
	if f.upperBits > 0 {
		bytes += 16 * set.group()
	}
	return bytes
}

// linearSuperARM writes the kernels of a format.
func linearSuperARM(s *stubs, set isa, format superFormatARM) *file {
	f := newFile("linear_"+strings.ToLower(format.name), set)
	var names []string
	for n := 1; n <= set.maxRows; n++ {
		superRowsARM(f, s, set, n, format)
		names = append(names, fmt.Sprintf("linear%s%sRows%d", format.name, set.suffix, n))
	}
	s.table("linear"+format.name+set.suffix, "panelKernel", "the kernels of "+format.name, names)
	return f
}

// superARM is a kernel of blocks of 256. Its results are the integer sums of a block; the float32 sums are in dst.
type superARM struct {
	*linearARM
	format superFormatARM
}

func superRowsARM(f *file, s *stubs, set isa, n int, format superFormatARM) {
	needs := linearNeeds{name: format.name, constants: 1, x: xRegisters(set, n), free: 2, comment: []string{
		"dst[r][c] = sum over blocks of 256 of scale of x * d * sum of scales * products, for 16 columns. blocks is at least 1;",
		"there are no tails. Layouts: linear_super_arm64.go.",
	}}
	if format.minimums {
		needs.comment[0] = "dst[r][c] = sum over blocks of 256 of scale of x * (d * sum of scales * products - dmin * sum of minimums * sums of x),"
		needs.comment[1] = "the minimums first, for 16 columns. blocks is at least 1; there are no tails. Layouts: linear_super_arm64.go."
	}
	if format.upperBits > 0 {
		needs.constants, needs.free = 2, 4
	}
	extra := format.extra(set)
	k := &superARM{newLinearARM(f, s, set, n, 256+extra, needs), format}
	tileRows := rowsOf(set, n)
	k.op("low nibbles", "VMOVI $15, V%d.B16", k.constants)
	if format.upperBits > 0 {
		k.op("bits above them", "VMOVI $%d, V%d.B16", format.mask, k.constants+1)
	}
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
	k.op("runs", "ADD $%d, R1, R1", format.head)
	k.op("sections of 4 runs", "MOVD $%d, R10", 64/format.run)
	k.at(k.label + "section")
	k.op("scales of 4 runs", "MOVD R1, R7")
	k.op("their weights", "ADD $64, R1, R1")
	body := max(format.run, format.unitWords()*set.group())
	k.op("runs of a section, as they share units", "MOVD $%d, R8", 4*format.run/body)
	k.at(k.label + "run")
	for first := 0; first < body; first += format.run {
		k.passes(func(v int) { k.run(first, v, body*tileRows) })
	}
	k.op("next weights", "ADD $%d, R1, R1", body/set.group()/format.unitWords()*format.unitBytes(set))
	k.op("next elements", "ADD $%d, R6, R6", body*tileRows)
	k.op("next scales", "ADD $%d, R7, R7", 16*body/format.run)
	if !format.minimums {
		k.op("next starts", "ADD $%d, R15, R15", body/format.run*tileRows*set.group())
	}
	k.op("fewer runs", "SUBS $1, R8, R8")
	k.op("until the section is done", "BNE %srun", k.label)
	k.op("one section less", "SUBS $1, R10, R10")
	k.op("until all are done", "BNE %ssection", k.label)
	k.scaleSuper()
	k.op("next block of x", "ADD $%d, R2, R2", (256+extra)*tileRows)
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
	words := 8 / k.set.group()
	k.passes(func(first int) {
		k.zeroSums()
		k.openX("R15", 16*rowsOf(k.set, k.rows))
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
	if k.format.minimums {
		k.zeroSums()
	} else {
		k.starts(first / k.format.run)
	}
	words := k.format.run / k.set.group()
	for pair := first / k.set.group() / 2; pair < (first/k.set.group()+words)/2; pair++ {
		for i := range k.perPass {
			k.wordPair(pair, v+i)
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

// wordPair multiplies two words, which lie in low and high nibbles, of the columns of vector v.
func (k *superARM) wordPair(pair, v int) {
	perUnit := k.format.unitWords() / 2
	step := 16 * k.set.group()
	unit := pair / perUnit * k.format.unitBytes(k.set)
	if k.format.upperBits == 0 {
		lo, hi := k.free[0], k.free[1]
		k.load(hi, unit+16*v, "R1", "weights")
		k.op("low nibbles", "VAND V%d.B16, V%d.B16, V%d.B16", k.constants, hi, lo)
		k.op("high nibbles", "VUSHR $4, V%d.B16, V%d.B16", hi, hi)
		k.dots([]int{lo}, v, 2*pair)
		k.dots([]int{hi}, v, 2*pair+1)
		return
	}
	raw, upper, w, t := k.free[0], k.free[1], k.free[2], k.free[3]
	k.load(raw, unit+step*(1+pair%perUnit)+16*v, "R1", "lower bits of weights")
	k.load(upper, unit+16*v, "R1", "their upper bits")
	for half := range 2 {
		if half == 0 {
			k.op("low nibbles", "VAND V%d.B16, V%d.B16, V%d.B16", k.constants, raw, w)
		} else {
			k.op("high nibbles", "VUSHR $4, V%d.B16, V%d.B16", raw, w)
		}
		from := t
		switch left := 4 - k.format.upperBits*(2*(pair%perUnit)+half); {
		case left > 0:
			k.op("bits to their place", "VSHL $%d, V%d.B16, V%d.B16", left, upper, t)
		case left < 0:
			k.op("bits to their place", "VUSHR $%d, V%d.B16, V%d.B16", -left, upper, t)
		default:
			from = upper
		}
		k.op("with upper bits", "VBIT V%d.B16, V%d.B16, V%d.B16", k.constants+1, from, w)
		k.dots([]int{w}, v, 2*pair+half)
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
