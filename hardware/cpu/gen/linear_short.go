package main

import (
	"fmt"
	"strings"

	"hearth/hardware/quant"
)

// shortFormat is what formats with blocks of 32 codes of 4 or 5 bits differ in. See linear_short.go.
type shortFormat struct {
	name     string
	fifths   bool // codes of 5 bits
	minimums bool
	shift    int          // makes the values of codes unsigned
	values   func() []int // nil: codes are the unsigned values
	bfloat   bool         // scales are bfloat16
	large    bool         // values are too large for 16-bit sums
}

func shortFormats() []shortFormat {
	return []shortFormat{
		{name: "Q4_1", minimums: true},
		{name: "Q5_0", fifths: true, shift: 16},
		{name: "Q5_1", fifths: true, minimums: true},
		{name: "IQ4_NL", shift: 128, values: func() []int { return codebook(quant.IQ4_NL, 0x00, 0x3c) }, large: true},
		{name: "MXFP4", shift: 12, values: func() []int { return codebook(quant.MXFP4, 128) }, bfloat: true},
	}
}

// codebook returns what the 16 codes of a format stand for with a scale of 1: blocks are the scale and then nibbles.
func codebook(f *quant.Format, one ...byte) []int {
	block := make([]byte, f.BlockBytes)
	copy(block, one)
	for code := range 16 {
		block[len(one)+code] = byte(code)
	}
	var values [32]float32
	f.Dequantize(values[:], block)
	codes := make([]int, 16)
	for i := range codes {
		codes[i] = int(values[i])
	}
	return codes
}

// headBytes is the size of a pair's scales and minimums.
func (s shortFormat) headBytes() int {
	if s.minimums {
		return 128
	}
	return 64
}

// blockBytes is the size of a block's codes.
func (s shortFormat) blockBytes() int {
	if s.fifths {
		return 5 * 64
	}
	return 4 * 64
}

// linearShort writes the kernels of a format.
func linearShort(s *stubs, set isa, format shortFormat) *file {
	f := newFile("linear_"+strings.ToLower(format.name), set)
	c := shortConstants{}
	if !set.wide() && !set.expanded {
		c.mask = f.constant("nibbles", "low nibbles of bytes", 0x0f0f0f0f)
		if format.fifths {
			c.upper = f.constant("upper", "the bit above them", fifthBits)
		}
	}
	if !set.vnni {
		c.ones = f.constant("ones", "1 as int16", 0x00010001)
	}
	if format.values != nil && !set.expanded {
		shift := format.shift
		if format.large && !set.vnni {
			shift = 0
		}
		c.table = f.table16("values", fmt.Sprintf("what codes stand for, + %d", shift), format.values(), shift)
	}
	f.linears(s, set, format.name, func(n int) { shortRows(f, s, shortKernel{format, set, n}, c) })
	return f
}

// table16 defines 16 bytes, once for each quarter of the largest vectors, and returns the name.
func (f *file) table16(name, meaning string, values []int, shift int) string {
	fmt.Fprintf(&f.data, "\n// %s\n", meaning)
	for i := range 64 {
		fmt.Fprintf(&f.data, "DATA %s<>+%d(SB)/1, $0x%02x\n", name, i, uint8(values[i%16]+shift))
	}
	fmt.Fprintf(&f.data, "GLOBL %s<>(SB), RODATA|NOPTR, $64\n", name)
	return name + "<>(SB)"
}

// shortConstants are constants in memory.
type shortConstants struct {
	mask  string // low nibbles
	upper string // the bit above them
	ones  string // 1 as int16
	table string // values of codes
}

// shortKernel names one kernel.
type shortKernel struct {
	format shortFormat
	set    isa
	rows   int
}

// shorts is a kernel of such a format.
type shorts struct {
	*linear
	shortFormat
	shortConstants
	w    []int // weights by half, scales
	a, t int

	// In kernels of 64-byte vectors, which have the registers, constants.
	maskReg, upperReg, onesReg, tableReg, zeroReg int
}

func shortRows(f *file, s *stubs, which shortKernel, c shortConstants) {
	format, set, n := which.format, which.set, which.rows
	comment := []string{
		"dst[r][c] = sum over blocks of (scale of w * scale of x) * sum of 32 products, for 16 columns. blocks counts pairs",
		"of blocks, at least 1; there are no tails. Layouts: linear_short.go, and of tiles " + shortTiles(format, set) + ".",
	}
	if format.minimums {
		comment[0] = "dst[r][c] = sum over blocks of minimum * (scale of x * sum of x) + (scale of w * scale of x) * sum of 32 products, for"
		comment[1] = "16 columns. blocks counts pairs of blocks, at least 1, of which the minimums come first; there are no tails. Layouts:"
		comment = append(comment, "linear_short.go, and of tiles "+shortTiles(format, set)+".")
	}
	comment = append(comment, fmt.Sprintf("Registers: %s0 up sums of a block by row and half, in 64-byte vectors then float32 sums, then temporaries.", set.prefix))
	k := &shorts{
		linear:      beginLinear(f, s, set, linearHead{name: format.name, rows: n, inRegisters: set.wide(), comment: comment}),
		shortFormat: format, shortConstants: c,
	}
	k.w, k.a, k.t = []int{k.tmp, k.tmp + 1}, k.tmp+2, k.tmp+3
	k.constants()
	k.at(k.label + "pair")
	k.op("meet the scales before the bytes", "PREFETCHT0 (AX)")
	k.op("scales of two blocks", "MOVQ AX, R8")
	k.op("their codes", "ADDQ $%d, AX", k.headBytes())
	if k.minimums {
		k.addMinimums()
	}
	k.repeat("R13", k.label+"block", 2, func() {
		k.op("x of the block", "LEAQ %d(BX), CX", 8*n)
		k.prefetch(n, k.codesBytes())
		switch {
		case set.vnni:
			k.quadBlock()
		case k.large:
			k.signedBlock()
		default:
			k.byteBlock()
		}
		k.columnScales()
		k.scaleSums(k.w, k.t, k.a, 4*n)
		k.op("next codes", "ADDQ $%d, AX", k.codesBytes())
		k.op("next block of x", "ADDQ $%d, BX", 40*n)
		k.op("scales of the next block", "ADDQ $32, R8")
	})
	k.op("one pair less", "DECQ DX")
	k.op("until all are done", "JNZ %spair", k.label)
	k.finish()
}

// shortTiles is the file that draws a kernel's tiles.
func shortTiles(format shortFormat, set isa) string {
	if set.vnni || format.large {
		return "linear_quads.go"
	}
	return "linear_words_amd64.go"
}

// codesBytes is the size of a block's codes, or of what they stand for where weights are expanded: [8 words][16 columns][4]
// bytes.
func (k *shorts) codesBytes() int {
	if k.expanded {
		return 8 * 64
	}
	return k.blockBytes()
}

// constants fills registers of 64-byte vectors.
func (k *shorts) constants() {
	if !k.wide() {
		return
	}
	next := k.tmp + 4
	take := func() int { next++; return next - 1 }
	k.maskReg = take()
	k.nibbleMask(k.maskReg)
	if k.fifths {
		k.upperReg = take()
		k.op("bits above them", "MOVL $0x%08x, R8", fifthBits)
		k.op("in all bytes", "VPBROADCASTD R8, %s", k.v(k.upperReg))
	}
	if !k.vnni {
		k.onesReg = take()
		k.broadcastOnes(k.onesReg)
	}
	if k.table != "" {
		k.tableReg = take()
		k.load(k.tableReg, k.table, "values of codes")
	}
	if k.large && !k.vnni {
		k.zeroReg = take()
		k.zero(k.zeroReg, "0")
	}
}

// codes leaves the codes of step s of a block, from AX on, in w: elements 4s to 4s+3 of each column of half h.
func (k *shorts) codes(w, step, h int) {
	nibbles := k.blockBytes() - 256 + 64*(step%4) + h*k.bytes
	k.load(w, mem(nibbles, "AX"), "codes of each column")
	if step >= 4 {
		k.op("high nibbles", "VPSRLW $4, %s, %s", k.v(w), k.v(w))
	}
	if k.wide() {
		k.op("one nibble of a byte", "VPANDD %s, %s, %s", k.v(k.maskReg), k.v(w), k.v(w))
	} else {
		k.op("one nibble of a byte", "VPAND %s, %s, %s", k.mask, k.v(w), k.v(w))
	}
	if k.fifths {
		k.fifthBit(w, step, h)
	}
}

// fifthBit adds the fifth bits of a step.
func (k *shorts) fifthBit(w, step, h int) {
	t := k.v(k.t)
	k.load(k.t, mem(h*k.bytes, "AX"), "fifth bits of the column's codes")
	switch {
	case step < 4:
		k.op("these codes' to their place", "VPSLLW $%d, %s, %s", 4-step, t, t)
	case step > 4:
		k.op("these codes' to their place", "VPSRLW $%d, %s, %s", step-4, t, t)
	}
	if k.wide() {
		k.op("alone", "VPANDD %s, %s, %s", k.v(k.upperReg), t, t)
		k.op("together", "VPORD %s, %s, %s", t, k.v(w), k.v(w))
		return
	}
	k.op("alone", "VPAND %s, %s, %s", k.upper, t, t)
	k.op("together", "VPOR %s, %s, %s", t, k.v(w), k.v(w))
}

// weights leaves what the codes of a step stand for in w.
func (k *shorts) weights(w, step, h int) {
	switch {
	case k.expanded:
		k.load(w, mem(64*step+h*k.bytes, "AX"), "4 weights of each column")
	case k.table == "":
		k.codes(w, step, h)
	case k.wide():
		k.codes(w, step, h)
		k.op("what they stand for", "VPSHUFB %s, %s, %s", k.v(w), k.v(k.tableReg), k.v(w))
	default:
		k.codes(k.t, step, h)
		k.load(w, k.table, "values of codes")
		k.op("what these stand for", "VPSHUFB %s, %s, %s", k.v(k.t), k.v(w), k.v(w))
	}
}

// quadBlock multiplies a block with VNNI.
func (k *shorts) quadBlock() {
	if k.minimums {
		k.each(func(r, h int) { k.zero(k.sum(r, h), "no products yet") })
	} else {
		k.start()
	}
	for step := range 8 {
		for h := range k.halves() {
			k.weights(k.w[h], step, h)
		}
		k.quads(k.w, k.a, "CX", 4*k.rows*step)
	}
}

// byteBlock multiplies a block with 16-bit sums, which start such that they do not pass 2^15 in the end. Codes of
// minimums start from zero: those of 4 bits fit, as 16*15*127 < 2^15, and those of 5 bits are shifted by 16 meanwhile.
func (k *shorts) byteBlock() {
	for r := range k.rows {
		switch {
		case !k.minimums:
			for h := range k.halves() {
				k.op(fmt.Sprintf("row %d starts with its share of the shift", r), "VPBROADCASTD %s, %s", mem(4*r, "BX"), k.v(k.sum(r, h)))
			}
		case k.fifths:
			k.op(fmt.Sprintf("sums of row %d", r), "VPBROADCASTD %s, %s", mem(4*r, "BX"), k.v(k.t))
			k.op("* 16", "VPSLLW $4, %s, %s", k.v(k.t), k.v(k.t))
			for h := range k.halves() {
				k.zero(k.sum(r, h), "no products yet")
				k.op("less the shift", "VPSUBW %s, %s, %s", k.v(k.t), k.v(k.sum(r, h)), k.v(k.sum(r, h)))
			}
		}
	}
	first := k.minimums && !k.fifths
	for step := range 8 {
		for h := range k.halves() {
			k.weights(k.w[h], step, h)
		}
		k.byteProducts(k.w, k.a, k.t, 4*k.rows*step, first && step == 0)
	}
	for r := range k.rows {
		if k.minimums && k.fifths {
			k.op(fmt.Sprintf("sums of row %d", r), "VPBROADCASTD %s, %s", mem(4*r, "BX"), k.v(k.a))
			k.widen(k.a, k.onesReg, k.ones)
			k.op("* 16", "VPSLLD $4, %s, %s", k.v(k.a), k.v(k.a))
		}
		for h := range k.halves() {
			k.widen(k.sum(r, h), k.onesReg, k.ones)
			if k.minimums && k.fifths {
				k.op("with the shift again", "VPADDD %s, %s, %s", k.v(k.a), k.v(k.sum(r, h)), k.v(k.sum(r, h)))
			}
		}
	}
}

// signedBlock multiplies a block of values of up to ±127.
func (k *shorts) signedBlock() {
	reg := signedRegs{w: k.w[0], magnitudes: k.w[1], t: k.t, factor: k.a, zero: k.zeroReg}
	if k.wide() {
		reg.factor = k.onesReg
	} else {
		k.load(reg.factor, k.ones, "1 as int16")
	}
	for step := range 8 {
		for h := range k.halves() {
			k.weights(reg.w, step, h)
			k.signedProducts(reg, h, 4*k.rows*step, step == 0)
		}
	}
}

// signedRegs are the values of a step, and temporaries. The factor, 1 or a scale, is int16.
type signedRegs struct{ w, magnitudes, t, factor, zero int }

// signedProducts adds products of values of up to ±127 with the rows' words at an offset of CX, times a factor, to the 32-bit
// sums; the first of some begin these. A pair's products, 2*127*127 at most, fill 16 bits, so they are widened at once. The
// instruction takes one side unsigned, so the values give their signs to the elements.
func (k *linear) signedProducts(reg signedRegs, h, offset int, first bool) {
	w, t := k.v(reg.w), k.v(reg.t)
	k.op("without signs", "VPABSB %s, %s", w, k.v(reg.magnitudes))
	if k.wide() {
		k.op("which are negative", "VPMOVB2M %s, K1", w)
	}
	for r := range k.rows {
		k.op(fmt.Sprintf("4 elements of row %d", r), "VPBROADCASTD %s, %s", mem(offset+4*r, "CX"), t)
		if k.wide() {
			k.op("with the signs of the values", "VPSUBB %s, %s, K1, %s", t, k.v(reg.zero), t)
		} else {
			k.op("with the signs of the values", "VPSIGNB %s, %s, %s", w, t, t)
		}
		k.op("products, added in pairs", "VPMADDUBSW %s, %s, %s", t, k.v(reg.magnitudes), t)
		if first {
			k.op(fmt.Sprintf("row %d = products, in 32 bits", r), "VPMADDWD %s, %s, %s", k.v(reg.factor), t, k.v(k.sum(r, h)))
			continue
		}
		k.op("times the factor, in 32 bits", "VPMADDWD %s, %s, %s", k.v(reg.factor), t, t)
		k.op(fmt.Sprintf("row %d += products", r), "VPADDD %s, %s, %s", t, k.v(k.sum(r, h)), k.v(k.sum(r, h)))
	}
}

// columnScales reads the scales of a block's columns, at R8, into w.
func (k *shorts) columnScales() {
	for h := range k.halves() {
		address, w := mem(h*k.bytes/2, "R8"), k.v(k.w[h])
		if !k.bfloat {
			k.op("scales of the columns", "VCVTPH2PS %s, %s", address, w)
			continue
		}
		k.op("scales of the columns", "VPMOVZXWD %s, %s", address, w)
		k.op("to float32", "VPSLLD $16, %s, %s", w, w)
	}
}

// addMinimums adds minimum * (scale of x * sum of x) of both blocks of a pair. In kernels of 32-byte vectors no sums are
// live yet, and all registers are free.
func (k *shorts) addMinimums() {
	minimums, sums, y := 0, 4, 6
	if k.wide() {
		minimums, sums = k.w[0], k.a
	}
	for half := range 2 {
		for h := range k.halves() {
			k.op("minimums of the columns", "VCVTPH2PS %s, %s", mem(64+32*half+h*k.bytes/2, "R8"), k.v(minimums+half*k.halves()+h))
		}
	}
	for r := range k.rows {
		for half := range 2 {
			k.rowSum(r, 40*k.rows*half, sums+half, y)
		}
		for h := range k.halves() {
			if k.wide() {
				y = k.float(r, h)
			} else {
				k.op(fmt.Sprintf("row %d", r), "VMOVUPS %s, %s", dstRows.at(r, h*k.bytes), k.v(y))
			}
			for half := range 2 {
				k.op("row += minimum * sum", "VFMADD231PS %s, %s, %s", k.v(sums+half), k.v(minimums+half*k.halves()+h), k.v(y))
			}
			if !k.wide() {
				k.op("back", "VMOVUPS %s, %s", k.v(y), dstRows.at(r, h*k.bytes))
			}
		}
	}
}

// rowSum leaves scale of x * sum of x of the block at an offset of BX in a vector.
func (k *shorts) rowSum(r, block, sum, t int) {
	k.op(fmt.Sprintf("sum of row %d", r), "VPBROADCASTD %s, %s", mem(block+4*r, "BX"), k.v(sum))
	if !k.vnni {
		k.widen(sum, k.onesReg, k.ones)
	}
	k.op("to float32", "VCVTDQ2PS %s, %s", k.v(sum), k.v(sum))
	if k.wide() {
		k.op("* scale", "VMULPS.BCST %s, %s, %s", mem(block+4*(k.rows+r), "BX"), k.v(sum), k.v(sum))
		return
	}
	k.op("scale", "VBROADCASTSS %s, %s", mem(block+4*(k.rows+r), "BX"), k.v(t))
	k.op("* scale", "VMULPS %s, %s, %s", k.v(t), k.v(sum), k.v(sum))
}
