package main

import (
	"fmt"
	"strings"

	"hearth/hardware/quant"
)

// Registers of all integer kernels of arm64: R0 dst, R1 panel, R2 tile, R3 scales of the tile, R4 blocks to do, R5 bytes
// between rows of dst, R6 a place in the tile, R9 free; those of blocks of 256 also R7 scales of runs, R8 and R10 counters,
// R11 to R14 rows of dst, R15 what runs start from, R19 the block of the panel.

// group is how many consecutive elements of a column, and of a row, an instruction multiplies and adds: 4 of one row, or
// 8 of two rows.
func (s isa) group() int {
	if s.suffix == i8mm.suffix {
		return 8
	}
	return 4
}

// linearARM multiplies a panel with some rows. Its results lie in vectors by line: a line is a row, whose vectors have 4
// columns each, or with groups of 8 two rows, whose vectors have 2 columns of each.
type linearARM struct {
	*arm
	set   isa
	rows  int
	lines int
	vecs  int // of a line

	results   int // first vector of the lines' results
	sums      int // first vector of the integer sums of some columns
	perPass   int // vectors of a line whose sums are made in one pass over a block
	constants int // first vector of constants
	x         []int
	free      []int // for weights, and whatever else
	dup       int   // three vectors for products where there are no dot products

	xBase   string // where x lies
	xTotal  int    // vectors of it
	xCached []int  // what the registers hold, -1 for nothing
}

// linearNeeds is what a kernel needs beside results and sums.
type linearNeeds struct {
	name         string
	constants, x int // vectors
	free         int // vectors, at least
	comment      []string
}

// rowsOf is the number of rows in tiles: lines have two rows with groups of 8.
func rowsOf(set isa, n int) int {
	if set.group() == 8 {
		return (n + 1) / 2 * 2
	}
	return n
}

// newLinearARM distributes the registers, writes the head and reads the arguments. A block of the tile has so many bytes
// per row.
func newLinearARM(f *file, s *stubs, set isa, n, tileBlock int, needs linearNeeds) *linearARM {
	k := &linearARM{set: set, rows: n, lines: rowsOf(set, n) * 4 / set.group(), vecs: set.group()}
	k.sums = k.lines * k.vecs
	least := needs.constants + needs.x + needs.free
	if set.suffix == neon.suffix {
		least += 3
	}
	k.perPass = k.vecs
	for k.sums+k.lines*k.perPass+least > 32 {
		k.perPass /= 2
	}
	k.constants = k.sums + k.lines*k.perPass
	next := k.constants + needs.constants
	for range needs.x {
		k.x = append(k.x, next)
		next++
	}
	last := 32
	if set.suffix == neon.suffix {
		last -= 3
		k.dup = last
	}
	for ; next < last; next++ {
		k.free = append(k.free, next)
	}
	comment := append(needs.comment,
		fmt.Sprintf("Registers: V0 up results, V%d up sums of a pass, then constants, x, weights; R0 dst, R1 panel, R2 tile, R3 its scales,", k.sums),
		"R4 blocks left, R5 bytes between rows of dst, R6 x, R7 and R15 scales and starts of runs, R8 and R10 counters, R9 free,",
		"R11 to R14 rows of dst, R19 block of the panel.")
	sig := signature{linearName(needs.name, set, n), linearParams, 40, 0}
	k.arm = beginARM(f, s, set, sig, comment...)
	k.label = fmt.Sprintf("rows%d", n)
	k.op("results", "MOVD dst+0(FP), R0")
	k.op("weights, read in order", "MOVD panel+8(FP), R1")
	k.op("activations", "MOVD tile+16(FP), R2")
	k.op("blocks to do", "MOVD blocks+24(FP), R4")
	k.op("bytes between rows of dst", "MOVD stride+32(FP), R5")
	k.op("bytes of a block in the tile", "MOVD $%d, R9", tileBlock*rowsOf(set, n))
	k.op("of all", "MUL R4, R9, R9")
	k.op("scales stand behind them", "ADD R9, R2, R3")
	return k
}

// result and sum are the vectors of line l, vector v.
func (k *linearARM) result(l, v int) int { return k.results + l*k.vecs + v }
func (k *linearARM) sum(l, v int) int    { return k.sums + l*k.perPass + v%k.perPass }

// passes calls body for the vectors from first on that belong to one pass.
func (k *linearARM) passes(body func(first int)) {
	for first := 0; first < k.vecs; first += k.perPass {
		body(first)
	}
}

// zeroSums begins a pass.
func (k *linearARM) zeroSums() {
	for l := range k.lines {
		for v := range k.perPass {
			k.clear(k.sum(l, v), "no products yet")
		}
	}
}

// openX says that x lies at a register, so many bytes of it; nothing is loaded.
func (k *linearARM) openX(base string, bytes int) {
	k.xBase, k.xTotal = base, bytes/16
	k.forgetX()
}

// forgetX says that the registers of x were used otherwise.
func (k *linearARM) forgetX() {
	k.xCached = make([]int, len(k.x))
	for i := range k.xCached {
		k.xCached[i] = -1
	}
}

// xVector returns the register that holds vector i of x, loading it if need be. Vectors come in pairs where words do not
// cross them.
func (k *linearARM) xVector(i int) int {
	slot := i % len(k.x)
	if k.xCached[slot] == i {
		return k.x[slot]
	}
	crossing := k.set.group() == 4 && k.rows == 3
	if i%2 == 0 && i+1 < k.xTotal && !crossing {
		k.loadPair(k.x[slot], k.x[slot+1], 16*i, k.xBase, "x")
		k.xCached[slot], k.xCached[slot+1] = i, i+1
	} else {
		k.load(k.x[slot], 16*i, k.xBase, "x")
		k.xCached[slot] = i
	}
	return k.x[slot]
}

// dots adds the products of vectors of weights, for the columns from vector v on, with a word of each line.
func (k *linearARM) dots(weights []int, v, word int) {
	for l := range k.lines {
		if k.set.group() == 8 {
			x := k.xVector(word*k.lines + l)
			for i, w := range weights {
				k.neon(fmt.Sprintf("rows %d and %d += 8 products", 2*l, 2*l+1), "SMMLA V%d.4S, V%d.16B, V%d.16B", k.sum(l, v+i), x, w)
			}
			continue
		}
		flat := word*k.rows + l
		x, lane := k.xVector(flat/4), flat%4
		if k.dup == 0 {
			for i, w := range weights {
				k.neon(fmt.Sprintf("row %d += 4 products", l), "SDOT V%d.4S, V%d.16B, V%d.4B[%d]", k.sum(l, v+i), w, x, lane)
			}
			continue
		}
		k.op(fmt.Sprintf("4 elements of row %d", l), "VDUP V%d.S[%d], V%d.S4", x, lane, k.dup)
		for i, w := range weights {
			lower, upper := k.dup+1, k.dup+2
			k.neon("products of 2 columns", "SMULL V%d.8H, V%d.8B, V%d.8B", lower, w, k.dup)
			k.neon("and of the other 2", "SMULL2 V%d.8H, V%d.16B, V%d.16B", upper, w, k.dup)
			k.op("added in pairs", "VADDP V%d.H8, V%d.H8, V%d.H8", upper, lower, lower)
			k.neon(fmt.Sprintf("row %d += pairs", l), "SADALP V%d.4S, V%d.8H", k.sum(l, v+i), lower)
		}
	}
}

// blockFormat is what formats with blocks of 32 differ in.
type blockFormat struct {
	name     string
	codes    *codesARM // nil for bytes as they are
	minimums bool
	bfloat   bool // scales are bfloat16
}

func blockFormats() []blockFormat {
	return []blockFormat{
		{name: "Q8_0"},
		{name: "Q4_0", codes: &codesARM{lower: 4, onTop: true}},
		{name: "Q4_1", codes: &codesARM{lower: 4}, minimums: true},
		{name: "Q5_0", codes: &codesARM{lower: 4, upper: 1, minus: 16}},
		{name: "Q5_1", codes: &codesARM{lower: 4, upper: 1}, minimums: true},
		{name: "IQ4_NL", codes: &codesARM{lower: 4, values: func() []int { return codebook(quant.IQ4_NL, 0x00, 0x3c) }}},
		{name: "MXFP4", codes: &codesARM{lower: 4, values: func() []int { return codebook(quant.MXFP4, 128) }}, bfloat: true},
	}
}

// headBytes is the size of a block's scales and minimums.
func (b blockFormat) headBytes() int {
	if b.minimums {
		return 64
	}
	return 32
}

// factors is the number of float32 that a row's block has in the tile.
func (b blockFormat) factors() int { return b.headBytes() / 32 }

// linearBlocksARM writes the kernels of a format.
func linearBlocksARM(s *stubs, set isa, format blockFormat) *file {
	f := newFile("linear_"+strings.ToLower(format.name), set)
	table := ""
	if format.codes != nil {
		format.codes.most = 32 / set.group()
		table = format.codes.table(f)
	}
	f.linears(s, set, format.name, func(n int) { newBlocksARM(f, s, set, n, format).write(table) })
	return f
}

// xRegisters is how many vectors hold two words of all rows.
func xRegisters(set isa, n int) int {
	if set.group() == 8 && n > 2 {
		return 4
	}
	return 2
}

// blocksARM is a kernel of blocks of 32.
type blocksARM struct {
	*linearARM
	format blockFormat
}

func newBlocksARM(f *file, s *stubs, set isa, n int, format blockFormat) *blocksARM {
	needs := linearNeeds{name: format.name, x: 2, free: 4, comment: []string{
		"dst[r][c] = sum over blocks of (scale of w * scale of x) * sum of 32 products, for 16 columns. blocks is at least 1; there",
		"are no tails. Layouts: linear_groups_arm64.go.",
	}}
	if format.minimums {
		needs.comment[0] = "dst[r][c] = sum over blocks of minimum of w * scaled sum of x + (scale of w * scale of x) * sum of 32 products, for 16"
		needs.comment[1] = "columns. blocks is at least 1; there are no tails. Layouts: linear_groups_arm64.go."
	}
	if format.codes != nil {
		needs.constants, needs.x, needs.free = format.codes.constants(), xRegisters(set, n), format.codes.free()
	}
	return &blocksARM{newLinearARM(f, s, set, n, 32, needs), format}
}

func (k *blocksARM) write(table string) {
	tileRows, head := rowsOf(k.set, k.rows), k.format.headBytes()
	bytes := head + 512
	if c := k.format.codes; c != nil {
		k.loadConstants(*c, table)
		bytes = head + 32/k.set.group()/c.unitWords()*c.unitBytes(k.set)
	}
	for i := range k.lines * k.vecs {
		k.clear(i, "no blocks yet")
	}
	k.at(k.label + "block")
	k.passes(func(first int) {
		k.zeroSums()
		k.openX("R2", 32*tileRows)
		if k.format.codes == nil {
			k.byteWords(first, head)
		} else {
			for pair := range 16 / k.set.group() {
				for v := range k.perPass {
					k.wordPair(*k.format.codes, pair, first+v, head)
				}
			}
		}
		k.scaleBlock(first)
	})
	k.op("next block", "ADD $%d, R1, R1", bytes)
	k.op("next block of x", "ADD $%d, R2, R2", 32*tileRows)
	k.op("its scales", "ADD $%d, R3, R3", k.format.factors()*k.set.group()*tileRows)
	k.op("one block less", "SUBS $1, R4, R4")
	k.op("until all are done", "BNE %sblock", k.label)
	k.writeResults()
	k.done()
}

// byteWords multiplies a block's bytes as they are.
func (k *linearARM) byteWords(first, head int) {
	chunk := k.perPass
	for chunk > len(k.free) {
		chunk /= 2
	}
	for word := range 32 / k.set.group() {
		for v := first; v < first+k.perPass; v += chunk {
			w := k.free[:chunk]
			for i := 0; i < chunk; i += 2 {
				k.loadPair(w[i], w[i+1], head+16*(word*k.vecs+v+i), "R1", "weights")
			}
			k.dots(w, v, word)
		}
	}
}

// temporaries are all registers that hold nothing between sums; x is forgotten.
func (k *linearARM) temporaries() []int {
	k.forgetX()
	return append(append([]int{}, k.free...), k.x...)
}

// rowFactors reads factors of rows, at an offset of R3, into vectors: one for all lines, or one a line.
func (k *linearARM) rowFactors(to []int, offset int, meaning string) {
	if k.set.group() == 4 {
		k.load(to[0], offset, "R3", meaning)
		return
	}
	for l := range k.lines {
		k.load(to[l], offset+16*l, "R3", meaning+", each twice")
	}
}

// columnFactors reads the factors of 4 columns that begin with vector v, at an offset of R1.
func (k *blocksARM) columnFactors(to, offset, v int, meaning string) {
	k.op(meaning+" of 4 columns", "FMOVD %s, F%d", mem(offset+8*(v*4/k.vecs), "R1"), to)
	if k.format.bfloat {
		k.neon("as float32", "SHLL V%d.4S, V%d.4H, #16", to, to)
	} else {
		k.neon("as float32", "FCVTL V%d.4S, V%d.4H", to, to)
	}
}

// scaleBlock adds the sums of a pass to the results: result += (scale of w * scale of x) * float(sum), and before that the
// minimums if there are any.
func (k *blocksARM) scaleBlock(first int) {
	t := k.temporaries()
	w, pair, product, xs := t[0], t[1], t[2], t[3:]
	perQuad := k.vecs / 4
	// each calls body for the pass's vectors with factors of their columns in a register.
	each := func(offset int, meaning string, body func(v, factors int)) {
		for v := first; v < first+k.perPass; v++ {
			if v == first || v%perQuad == 0 {
				k.columnFactors(w, offset, v, meaning)
			}
			if perQuad == 1 {
				body(v, w)
				continue
			}
			k.op("of 2 columns, twice", "VDUP V%d.D[%d], V%d.D2", w, v%2, pair)
			body(v, pair)
		}
	}
	if k.format.minimums {
		k.rowFactors(xs, k.set.group()*rowsOf(k.set, k.rows), "scaled sums of rows")
		each(32, "minimums", func(v, factors int) {
			for l := range k.lines {
				k.timesRows("FMLA", k.result(l, v), factors, xs, l, "results += minimums * sums")
			}
		})
	}
	k.rowFactors(xs, 0, "scales of rows")
	each(0, "scales", func(v, factors int) {
		for l := range k.lines {
			sum := k.sum(l, v)
			k.timesRows("FMUL", product, factors, xs, l, "columns' scales * rows'")
			fraction := 0
			if k.format.codes != nil && k.format.codes.onTop {
				fraction = 4
			}
			k.toFloat(sum, fraction)
			k.neon("results += scaled sums", "FMLA V%d.4S, V%d.4S, V%d.4S", k.result(l, v), product, sum)
		}
	})
}

// timesRows multiplies factors of columns with those of a line's rows.
func (k *linearARM) timesRows(op string, to, factors int, xs []int, l int, meaning string) {
	if k.set.group() == 4 {
		k.neon(meaning, op+" V%d.4S, V%d.4S, V%d.S[%d]", to, factors, xs[0], l)
	} else {
		k.neon(meaning, op+" V%d.4S, V%d.4S, V%d.4S", to, factors, xs[l])
	}
}

func (k *linearARM) toFloat(sum, fraction int) {
	if fraction > 0 {
		k.neon(fmt.Sprintf("to float32, without the factor %d", 1<<fraction), "SCVTF V%d.4S, V%d.4S, #%d", sum, sum, fraction)
	} else {
		k.neon("to float32", "SCVTF V%d.4S, V%d.4S", sum, sum)
	}
}

// writeResults writes all rows.
func (k *linearARM) writeResults() {
	for r := range k.rows {
		from := k.result(r, 0)
		if k.set.group() == 8 {
			from = k.sums
			for quad := range 4 {
				k.zipRow(r, k.result(r/2, 2*quad), from+quad)
			}
		}
		k.op(fmt.Sprintf("row %d is done", r), "VST1 %s, (R0)", four(from))
		if r < k.rows-1 {
			k.op("next row", "ADD R5, R0, R0")
		}
	}
}

// zipRow puts together 4 columns of a row from two neighbouring vectors of a line of two rows.
func (k *linearARM) zipRow(r, v, to int) {
	k.op(fmt.Sprintf("4 columns of row %d", r), "VZIP%d V%d.D2, V%d.D2, V%d.D2", 1+r%2, v+1, v, to)
}
