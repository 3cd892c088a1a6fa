package main

import "fmt"

// Registers of all linear kernels: DI dst, SI its stride, AX the panel, R8 scales in it, BX the tile's block, CX a place
// in that, DX blocks to do, R9 to R11 multiples of the stride, R12 and R13 counters.
var dstRows = rows{base: "DI", base6: "R11", stride: "SI", stride3: "R9", stride5: "R10"}

// linear is a kernel that multiplies one panel with a tile of rows.
type linear struct {
	*function
	rows int

	// Vectors: integer sums of a block first, row by row, each of halves() vectors; then float32 sums where there is room
	// for them; then temporaries.
	sums, floats int
	tmp          int

	panels int // that are multiplied, see beside.go
	panel  int // the one that is being written
}

// Bytes of a panel's block of 32 elements without its scales.
const (
	blockBytesQ8 = 512
	blockBytesQ4 = 256
)

const linearParams = "(dst *float32, panel, tile *byte, blocks, stride int)"

// linears writes the kernels of a format for 1 row and up, and the function that lists them.
func (f *file) linears(s *stubs, set isa, format string, write func(rows int)) {
	var names []string
	for n := 1; n <= set.maxRows; n++ {
		write(n)
		names = append(names, linearName(format, set, n))
	}
	s.table("linear"+format+set.suffix, "panelKernel", "the kernels of "+format, names)
}

func linearName(format string, set isa, rows int) string {
	return fmt.Sprintf("linear%s%sRows%d", format, set.suffix, rows)
}

// linearHead is what the heads of linear kernels differ in.
type linearHead struct {
	name        string // of the format
	rows        int
	frame       int  // bytes of stack
	blockBytes  int  // of a panel's blocks
	inRegisters bool // where the float sums are: in registers, or in dst
	comment     []string
}

// beginLinear writes a head, reads the arguments, and clears the float sums, but for those that kernels of expanded weights
// add to.
func beginLinear(f *file, s *stubs, set isa, head linearHead) *linear {
	n := head.rows
	sig := signature{linearName(head.name, set, n), linearParams, 40, head.frame}
	registers := []string{
		"DI dst, SI its stride, AX panel, R8 scales in it, BX tile, CX x in it, DX blocks left, R9 to R11 multiples of the stride",
		"(R11 in 32-byte vectors' kernels: stack), R12 and R13 counters.",
	}
	if set.beside {
		registers = besideRegisters()
	}
	comment := append(head.comment, registers...)
	k := &linear{function: f.begin(s, set, sig, comment...), rows: n, panels: 1}
	if set.beside {
		k.panels = besidePanels
	}
	k.label = fmt.Sprintf("rows%d", n)
	k.tmp = n * k.panels * set.halves()
	if head.inRegisters {
		k.floats = k.tmp
		k.tmp *= 2
	}
	k.op("results", "MOVQ dst+0(FP), DI")
	k.op("weights, read in order", "MOVQ panel+8(FP), AX")
	k.op("activations", "MOVQ tile+16(FP), BX")
	k.op("blocks to do", "MOVQ blocks+24(FP), DX")
	if set.beside {
		k.findPanels(head.blockBytes)
	} else {
		k.op("bytes between rows of dst", "MOVQ stride+32(FP), SI")
		dstRows.setup(k.function, n)
	}
	switch {
	case head.inRegisters:
		k.each(func(r, h int) { k.zero(k.float(r, h), fmt.Sprintf("row %d = 0", r)) })
	case !set.expanded:
		k.zero(0, "0")
		k.eachPanel(func() {
			k.each(func(r, h int) { k.op(fmt.Sprintf("row %d = 0", r), "VMOVUPS %s, %s", k.v(0), k.result(r, h)) })
		})
	}
	return k
}

// sum is the vector of integer sums of row r, half h; float that of its float32 sums.
func (k *linear) sum(r, h int) int   { return (k.panel*k.rows+r)*k.halves() + h }
func (k *linear) float(r, h int) int { return k.floats + r*k.halves() + h }

// result is where row r, half h of the panel's results are.
func (k *linear) result(r, h int) string { return dstRows.at(r, 64*k.panel+h*k.bytes) }

// each goes through the rows and halves.
func (k *linear) each(f func(r, h int)) {
	for r := range k.rows {
		for h := range k.halves() {
			f(r, h)
		}
	}
}

// finish writes what the registers hold, and returns.
func (k *linear) finish() {
	if k.floats > 0 {
		k.each(func(r, h int) {
			k.op(fmt.Sprintf("row %d is done", r), "VMOVUPS %s, %s", k.v(k.float(r, h)), dstRows.at(r, h*k.bytes))
		})
	}
	k.end()
}

// scaleBlock adds a block's sums to the results: dst += float(sum) * (scale of w * scale of x). The columns' scales are
// halves at (R8); the rows' are float32 at offset(BX). The integers become w's temporaries and are spent.
func (k *linear) scaleBlock(w []int, t, a, offset int) {
	for h := range k.halves() {
		k.op("scales of the columns", "VCVTPH2PS %s, %s", k.scaleAt(h*k.bytes/2), k.v(w[h]))
	}
	k.scaleSums(w, t, a, offset)
}

// scaleSums is scaleBlock once the columns' scales are in w.
func (k *linear) scaleSums(w []int, t, a, offset int) {
	for r := range k.rows {
		if k.wide() {
			k.op(fmt.Sprintf("row %d to float32", r), "VCVTDQ2PS %s, %s", k.v(k.sum(r, 0)), k.v(k.sum(r, 0)))
			k.op("column's scale * row's", "VMULPS.BCST %s, %s, %s", mem(offset+4*r, "BX"), k.v(w[0]), k.v(t))
			k.op("row += scaled sums", "VFMADD231PS %s, %s, %s", k.v(t), k.v(k.sum(r, 0)), k.v(k.float(r, 0)))
			continue
		}
		k.op(fmt.Sprintf("scale of row %d", r), "VBROADCASTSS %s, %s", mem(offset+4*r, "BX"), k.v(a))
		for h, product := range []int{t, a} {
			k.op("sums to float32", "VCVTDQ2PS %s, %s", k.v(k.sum(r, h)), k.v(k.sum(r, h)))
			k.op("column's scale * row's", "VMULPS %s, %s, %s", k.v(a), k.v(w[h]), k.v(product))
			k.op("scaled sums + row", "VFMADD213PS %s, %s, %s", k.result(r, h), k.v(product), k.v(k.sum(r, h)))
			k.op(fmt.Sprintf("row %d", r), "VMOVUPS %s, %s", k.v(k.sum(r, h)), k.result(r, h))
		}
	}
}

// pairs loops over pairs of blocks whose scales, 64 bytes, stand before both: scaleAt(0) are those of the block in body, in
// several panels once the places have gone on by its bytes.
func (k *linear) pairs(blockBytes int, body func()) {
	k.at(k.label + "pair")
	if k.beside {
		k.touch()
		k.advance("their bytes", 64)
		k.startScales("scales of two blocks", 64+blockBytes)
		k.repeat("R13", k.label+"block", 2, func() {
			body()
			k.nextScales("scales of the next block", blockBytes-32)
		})
		k.op("one pair less", "DECQ DX")
		k.op("until all are done", "JNZ %spair", k.label)
		return
	}
	k.op("meet the scales before the bytes", "PREFETCHT0 (AX)")
	k.op("scales of two blocks", "MOVQ AX, R8")
	k.op("their bytes", "ADDQ $64, AX")
	k.repeat("R13", k.label+"block", 2, func() {
		body()
		k.op("scales of the next block", "ADDQ $32, R8")
	})
	k.op("one pair less", "DECQ DX")
	k.op("until all are done", "JNZ %spair", k.label)
}

// linearQ8 writes the kernels of Q8_0.
func linearQ8(s *stubs, set isa) *file {
	f := newFile("linear_q8_0", set)
	f.linears(s, set, "Q8_0", func(n int) {
		if set.vnni {
			q8Quads(f, s, set, n)
		} else {
			q8Pairs(f, s, set, n)
		}
	})
	return f
}

// q8Pairs multiplies 16-bit integers in pairs: the weights' bytes are widened as they are read, once for all rows.
func q8Pairs(f *file, s *stubs, set isa, n int) {
	k := beginLinear(f, s, set, linearHead{name: "Q8_0", rows: n, inRegisters: set.wide(), blockBytes: 64 + 2*blockBytesQ8, comment: []string{
		"dst[r][c] = sum over blocks of (scale of w * scale of x) * sum of 32 products, for 16 columns. blocks counts pairs",
		"of blocks, at least 1; there are no tails. Layouts: linear_q8_0.go.",
		fmt.Sprintf("Registers: %s0 up sums of a block by row and half, then%s weights (2 halves), x, product.", set.prefix,
			map[bool]string{true: " float32 sums,", false: ""}[set.wide()]),
	}})
	w, a, t := []int{k.tmp, k.tmp + 1}, k.tmp+2, k.tmp+3
	const unroll = 4
	steps := func(first bool) {
		k.prefetch(k.rows, 32*unroll)
		for u := range unroll {
			k.eachPanel(func() {
				for h := range k.halves() {
					k.op("2 weights of each column", "VPMOVSXBW %s, %s", mem(32*u+16*h, k.place()), k.v(w[h]))
				}
				k.wordProducts(w, a, t, 4*u*n, first && u == 0)
			})
		}
		k.advance("next weights", 32*unroll)
		k.op("next elements", "ADDQ $%d, CX", 4*n*unroll)
	}
	k.pairs(blockBytesQ8, func() {
		k.op("x of the block", "LEAQ %d(BX), CX", 4*n)
		steps(true)
		k.repeat("R12", k.label+"steps", 16/unroll-1, func() { steps(false) })
		k.eachPanel(func() { k.scaleBlock(w, t, a, 0) })
		k.op("next block of x", "MOVQ CX, BX")
	})
	k.finish()
}

// wordProducts multiplies two 16-bit weights of each column with the rows' words at an offset of CX, and adds them to the
// 32-bit sums; the first of some begin these.
func (k *linear) wordProducts(w []int, a, t, offset int, first bool) {
	for r := range k.rows {
		k.word(r, a, offset+4*r, "2 elements of row %d")
		for h := range k.halves() {
			if first {
				k.op(fmt.Sprintf("row %d = products, added in pairs", r), "VPMADDWD %s, %s, %s", k.v(a), k.v(w[h]), k.v(k.sum(r, h)))
				continue
			}
			k.op("products, added in pairs", "VPMADDWD %s, %s, %s", k.v(a), k.v(w[h]), k.v(t))
			k.op(fmt.Sprintf("row %d += products", r), "VPADDD %s, %s, %s", k.v(t), k.v(k.sum(r, h)), k.v(k.sum(r, h)))
		}
	}
}

// byteProducts multiplies four unsigned bytes of each column with the rows' words at an offset of CX, in pairs, and adds
// them to the 16-bit sums; the first of some begin these.
func (k *linear) byteProducts(w []int, a, t, offset int, first bool) {
	for r := range k.rows {
		k.word(r, a, offset+4*r, "4 elements of row %d")
		for h := range k.halves() {
			if first {
				k.op(fmt.Sprintf("row %d = products, added in pairs", r), "VPMADDUBSW %s, %s, %s", k.v(a), k.v(w[h]), k.v(k.sum(r, h)))
				continue
			}
			k.op("products, added in pairs", "VPMADDUBSW %s, %s, %s", k.v(a), k.v(w[h]), k.v(t))
			k.op(fmt.Sprintf("row %d += products", r), "VPADDW %s, %s, %s", k.v(t), k.v(k.sum(r, h)), k.v(k.sum(r, h)))
		}
	}
}

// loadBytes reads four expanded weights of each column.
func (k *linear) loadBytes(w []int, offset int) {
	for h := range k.halves() {
		k.load(w[h], mem(offset+k.bytes*h, "AX"), "4 weights of each column")
	}
}

// q8Quads multiplies unsigned with signed bytes in fours.
func q8Quads(f *file, s *stubs, set isa, n int) {
	k := beginLinear(f, s, set, linearHead{name: "Q8_0", rows: n, inRegisters: set.wide(), comment: []string{
		"dst[r][c] = sum over blocks of (scale of w * scale of x) * sum of 32 products, for 16 columns. blocks counts pairs",
		"of blocks, at least 1; there are no tails. Layouts: linear_q8_0_quads.go, linear_quads.go.",
		fmt.Sprintf("Registers: %s0 up sums of a block by row and half, then%s weights (2 halves), x, product of scales.", set.prefix,
			map[bool]string{true: " float32 sums,", false: ""}[set.wide()]),
	}})
	w, a, t := []int{k.tmp, k.tmp + 1}, k.tmp+2, k.tmp+3
	k.pairs(blockBytesQ8, func() {
		k.start()
		k.prefetch(k.rows, 512)
		for word := range 8 {
			for h := range k.halves() {
				k.load(w[h], mem(64*word+h*k.bytes, "AX"), "4 weights of each column")
			}
			k.quads(w, a, "BX", 8*n+4*n*word)
		}
		k.op("next weights", "ADDQ $512, AX")
		k.scaleBlock(w, t, a, 4*n)
		k.op("next block of x", "ADDQ $%d, BX", 40*n)
	})
	k.finish()
}

// start begins a block's sums with the rows' shares of the weights' shift.
func (k *linear) start() {
	k.each(func(r, h int) {
		k.op(fmt.Sprintf("row %d starts with its share of the shift", r), "VPBROADCASTD %s, %s", mem(4*r, "BX"), k.v(k.sum(r, h)))
	})
}

// quads adds the products of weights, a vector for each half, with the rows' words at an offset of base. Only vectors of
// 64 bytes are multiplied with a word in memory; a takes it for the others.
func (k *linear) quads(w []int, a int, base string, offset int) {
	for r := range k.rows {
		meaning := fmt.Sprintf("row %d += 4 products", r)
		if k.wide() {
			k.op(meaning, "VPDPBUSD.BCST %s, %s, %s", mem(offset+4*r, base), k.v(w[0]), k.v(k.sum(r, 0)))
			continue
		}
		k.op(fmt.Sprintf("4 elements of row %d", r), "VPBROADCASTD %s, %s", mem(offset+4*r, base), k.v(a))
		for h := range k.halves() {
			k.encoded(meaning, vexDotBytes(a, w[h], k.sum(r, h)))
		}
	}
}

// linearQ4 writes the kernels of Q4_0.
func linearQ4(s *stubs, set isa) *file {
	f := newFile("linear_q4_0", set)
	mask, ones := "", ""
	if !set.vnni && !set.wide() {
		ones = f.constant("ones", "1 as int16", 0x00010001)
	}
	if !set.wide() {
		mask = f.constant("nibbles", "low nibbles of bytes", 0x0f0f0f0f)
	}
	f.linears(s, set, "Q4_0", func(n int) {
		if set.vnni {
			q4Quads(f, s, set, n, mask)
		} else {
			q4Bytes(f, s, set, n, mask, ones)
		}
	})
	return f
}

const (
	q4Comment1 = "dst[r][c] = sum over blocks of (scale of w * scale of x) * sum of 32 products, for 16 columns. blocks counts pairs"
	q4Comment2 = "of blocks, at least 1; there are no tails. Layouts: linear_q4_0.go, linear_quads.go."
)

// q4Quads multiplies nibbles as unsigned bytes in fours.
func q4Quads(f *file, s *stubs, set isa, n int, mask string) {
	k := beginLinear(f, s, set, linearHead{name: "Q4_0", rows: n, inRegisters: set.wide(), comment: []string{
		q4Comment1,
		q4Comment2,
		"Registers: sums of a block by row and half, in 64-byte vectors then float32 sums, weights (2), x, product of scales,",
		"nibble mask in 64-byte vectors.",
	}})
	w, a, t := []int{k.tmp, k.tmp + 1}, k.tmp+2, k.tmp+3
	reg := nibbleRegs{w, a, t, k.tmp + 4, mask}
	if set.wide() {
		k.nibbleMask(reg.maskReg)
	}
	k.pairs(blockBytesQ4, func() {
		k.start()
		k.prefetch(k.rows, 256)
		for word := range 4 {
			k.nibbleQuads(64*word, "BX", 8*n+4*n*word, 8*n+4*n*(word+4), reg)
		}
		k.op("next weights", "ADDQ $256, AX")
		k.scaleBlock(w, t, a, 4*n)
		k.op("next block of x", "ADDQ $%d, BX", 40*n)
	})
	k.finish()
}

// nibbleMask fills a vector with the mask of low nibbles.
func (k *linear) nibbleMask(mask int) {
	k.op("low nibbles of bytes", "MOVL $0x0f0f0f0f, R8")
	k.op("in all bytes", "VPBROADCASTD R8, %s", k.v(mask))
}

// splitNibbles leaves the low nibbles of hi in lo, and the high ones in hi.
func (k *linear) splitNibbles(hi, lo, mask int) {
	k.op("low nibbles", "VPANDD %s, %s, %s", k.v(mask), k.v(hi), k.v(lo))
	k.op("high nibbles", "VPSRLW $4, %s, %s", k.v(hi), k.v(hi))
	k.op("alone", "VPANDD %s, %s, %s", k.v(mask), k.v(hi), k.v(hi))
}

// q4Bytes multiplies nibbles as unsigned bytes in pairs, into 16-bit sums: the 8 of a block, 2*15*127 each at most, fit
// without saturation. They are added to 32 bits once per block.
func q4Bytes(f *file, s *stubs, set isa, n int, mask, ones string) {
	k := beginLinear(f, s, set, linearHead{name: "Q4_0", rows: n, inRegisters: set.wide(), blockBytes: 64 + 2*blockBytesQ4, comment: []string{
		q4Comment1,
		q4Comment2,
		"Registers: 16-bit sums of a block by row and half, then float32 sums in 64-byte vectors, weights (2), x, product,",
		"and with 64-byte vectors the nibble mask and ones.",
	}})
	w, a, t := []int{k.tmp, k.tmp + 1}, k.tmp+2, k.tmp+3
	maskReg, onesReg := k.tmp+4, k.tmp+5
	if set.wide() {
		k.nibbleMask(maskReg)
		k.broadcastOnes(onesReg)
	}
	k.pairs(blockBytesQ4, func() {
		k.op("x of the block", "LEAQ %d(BX), CX", 8*n)
		k.prefetch(k.rows, 256)
		for i := range 8 {
			word := i
			if k.beside {
				word = i/2 + i%2*4 // in the order of the bytes
			}
			k.eachPanel(func() {
				k.loadNibbles(64*(word%4), word/4, nibbleRegs{w, a, t, maskReg, mask})
				k.byteProducts(w, a, t, 4*n*word, word == 0)
			})
		}
		k.advance("next weights", 256)
		k.eachPanel(func() {
			for r := range n {
				k.op(fmt.Sprintf("row %d's share of the shift", r), "VPBROADCASTD %s, %s", mem(4*r, "BX"), k.v(a))
				for h := range k.halves() {
					k.widen(k.sum(r, h), onesReg, ones)
					k.op("less the shift", "VPADDD %s, %s, %s", k.v(a), k.v(k.sum(r, h)), k.v(k.sum(r, h)))
				}
			}
			k.scaleBlock(w, t, a, 4*n)
		})
		k.op("next block of x", "ADDQ $%d, BX", 40*n)
	})
	k.finish()
}

// broadcastOnes fills a vector with 16-bit ones.
func (k *linear) broadcastOnes(ones int) {
	k.op("1 as int16", "MOVL $0x00010001, R8")
	k.op("in all words", "VPBROADCASTD R8, %s", k.v(ones))
}

// widen adds neighbouring 16-bit sums to 32-bit ones, with ones in a register where there is one.
func (k *linear) widen(i, onesReg int, ones string) {
	if k.wide() {
		ones = k.v(onesReg)
	}
	k.op("to 32 bits", "VPMADDWD %s, %s, %s", ones, k.v(i), k.v(i))
}

// nibbleRegs are the temporaries of nibbleProducts; the mask is in a register of 64-byte vectors or in memory.
type nibbleRegs struct {
	w       []int
	a, t    int
	maskReg int
	mask    string
}

// loadNibbles reads 64 bytes at an offset of AX and leaves their low nibbles, or the high ones as part 1, in w.
func (k *linear) loadNibbles(offset, part int, reg nibbleRegs) {
	for h, w := range reg.w[:k.halves()] {
		k.load(w, mem(offset+h*k.bytes, k.place()), "8 weights of each column")
		if part == 1 {
			k.op("high nibbles", "VPSRLW $4, %s, %s", k.v(w), k.v(w))
		}
		if k.wide() {
			k.op("one nibble of a byte", "VPANDD %s, %s, %s", k.v(reg.maskReg), k.v(w), k.v(w))
		} else {
			k.op("one nibble of a byte", "VPAND %s, %s, %s", reg.mask, k.v(w), k.v(w))
		}
	}
}

// nibbleQuads adds the products of the nibbles of 64 bytes at offset w of AX, with the rows' words at offsets lo and hi of
// base, to 32-bit sums. A vector of 64 bytes is read once for both nibbles.
func (k *linear) nibbleQuads(w int, base string, lo, hi int, reg nibbleRegs) {
	if k.wide() {
		low, high := reg.w[0], reg.w[1]
		k.load(high, mem(w, "AX"), "8 weights of each column")
		k.splitNibbles(high, low, reg.maskReg)
		k.quads([]int{low}, reg.a, base, lo)
		k.quads([]int{high}, reg.a, base, hi)
		return
	}
	for part, x := range []int{lo, hi} {
		k.loadNibbles(w, part, reg)
		k.quads(reg.w, reg.a, base, x)
	}
}
