package main

import (
	"fmt"
	"strings"

	"hearth/hardware/quant"
)

// runsFormat is what formats with blocks of 256 codes in runs, whose tiles are those of Q6_K, differ in. See
// linear_runs.go.
type runsFormat struct {
	name        string
	runLen      int
	codeBytes   int // of 32 elements
	bits        int // of a code
	hasMinimums bool
	shift       int // makes the values of codes unsigned
	values      func() []int
}

func runsFormats() []runsFormat {
	return []runsFormat{
		{name: "IQ4_XS", runLen: 32, codeBytes: 256, bits: 4, shift: 128, values: func() []int { return codebook(quant.IQ4_NL, 0x00, 0x3c) }},
		{name: "Q2_K", runLen: 16, codeBytes: 128, bits: 2, hasMinimums: true},
		{name: "Q3_K", runLen: 16, codeBytes: 192, bits: 3, shift: 4},
	}
}

// codesOffset is where codes start in a panel's bytes for 256 elements, behind scales; superBytes is all of them.
func (f runsFormat) codesOffset() int { return 64 + 256/f.runLen*16 }
func (f runsFormat) superBytes() int  { return f.codesOffset() + 8*f.codeBytes }

// linearRuns writes the kernels of a format.
func linearRuns(s *stubs, set isa, format runsFormat) *file {
	f := newFile("linear_"+strings.ToLower(format.name), set)
	c := runsConstants{}
	if !set.wide() && !set.expanded {
		c.mask = f.constant("lower", "lower bits of bytes", lowerBits(format))
		if format.bits == 3 {
			c.upper = f.constant("upper", "the bit above them", thirdBits)
		}
	}
	if format.values != nil {
		shift := 0
		if set.vnni {
			shift = format.shift
		}
		c.table = f.table16("values", fmt.Sprintf("what codes stand for, + %d", shift), format.values(), shift)
	}
	f.linears(s, set, format.name, func(n int) { runsRows(f, s, runsKernel{format, set, n}, c) })
	return f
}

const thirdBits = 0x04040404

// lowerBits is the mask of the bits of a code that stand together.
func lowerBits(f runsFormat) uint32 {
	if f.bits == 4 {
		return 0x0f0f0f0f
	}
	return 0x03030303
}

// runsConstants are constants in memory.
type runsConstants struct {
	superConstants
	table string // values of codes
}

// runsKernel names one kernel.
type runsKernel struct {
	format runsFormat
	set    isa
	rows   int
}

// runs is a kernel of such a format. Without VNNI, values of a table are multiplied with their signs, and their products
// are scaled and added to the sums of 256 at once; the sums of others are those of a run first.
type runs struct {
	*superSums
	runsFormat
	table             string
	tableReg, zeroReg int
}

func runsRows(f *file, s *stubs, which runsKernel, c runsConstants) {
	format, set, n := which.format, which.set, which.rows
	signed := format.values != nil && !set.vnni
	frame := 0
	if !set.wide() && !signed {
		frame = 64*n + 64 // and room to align it
	}
	comment := []string{"dst[r][c] = sum over blocks of 256 of scale of x * d * sum of scales * products, for 16 columns. blocks is at least 1;"}
	if format.hasMinimums {
		comment = []string{
			"dst[r][c] = sum over blocks of 256 of scale of x * (d * sum of scales * products - dmin * sum of minimums * sums of x),",
			"the minimums first, for 16 columns. blocks is at least 1;",
		}
	}
	linear := beginLinear(f, s, set, linearHead{name: format.name, rows: n, frame: frame, comment: append(comment,
		"there are no tails. Layouts: linear_runs.go, and of tiles linear_q6_k.go.",
		fmt.Sprintf("Registers: %s0 up sums of a run by row and half, in 64-byte vectors then those of 256, then temporaries.", set.prefix))})
	k := &runs{superSums: newSuperSums(linear, c.superConstants), runsFormat: format, table: c.table}
	k.inSums = signed
	k.tableReg, k.zeroReg = k.onesReg, k.upperReg // which formats with a table do without
	k.constants(frame)

	k.at(k.label + "super")
	k.op("scales of runs", "LEAQ 64(AX), R8")
	k.startSupers()
	k.op("codes", "ADDQ $%d, AX", k.codesOffset())
	k.op("x after scale and sums", "LEAQ %d(BX), CX", 36*n)
	superBytes := k.superBytes()
	if set.expanded {
		superBytes = k.codesOffset() + 16*expandedRunQ6
		k.repeat("R13", k.label+"run", 16, func() { k.expandedRun(4, 4) })
	} else {
		k.pairsOfRuns(signed)
	}
	k.scaleSuper(superBytes)
	k.op("next 256 of x", "MOVQ CX, BX")
	k.op("one block less", "DECQ DX")
	k.op("until all are done", "JNZ %ssuper", k.label)
	k.end()
}

// pairsOfRuns goes through all pairs of runs of 256.
func (k *runs) pairsOfRuns(signed bool) {
	k.repeat("R13", k.label+"pair", 128/k.runLen, func() {
		for run := range 2 {
			k.prefetch(k.rows, k.runBytes())
			switch {
			case signed:
				k.signedRun(run)
			case k.runLen == 32:
				k.longRun(run)
			default:
				k.shortRun(run)
			}
			if k.runLen == 32 {
				k.op("next run", "ADDQ $%d, AX", k.codeBytes)
				k.op("next elements", "ADDQ $%d, CX", 32*k.rows)
			}
		}
		if k.runLen == 16 {
			k.op("next runs", "ADDQ $%d, AX", k.codeBytes)
			k.op("next elements", "ADDQ $%d, CX", 32*k.rows)
		}
		k.op("next scales", "ADDQ $32, R8")
	})
}

// runBytes is the size of a run in a panel.
func (k *runs) runBytes() int { return k.codeBytes * k.runLen / 32 }

// constants fills registers of 64-byte vectors, or makes room on the stack.
func (k *runs) constants(frame int) {
	if !k.wide() {
		if frame > 0 {
			k.alignStack(frame)
		}
		return
	}
	k.op("lower bits", "MOVL $0x%08x, R8", lowerBits(k.runsFormat))
	k.op("in all bytes", "VPBROADCASTD R8, %s", k.v(k.maskReg))
	if k.bits == 3 {
		k.upperMask(thirdBits)
	}
	if k.values != nil {
		k.load(k.tableReg, k.table, "values of codes")
		if !k.vnni {
			k.zero(k.zeroReg, "0")
		}
	}
}

// startSupers starts the sums of 256: with what the shift makes of the row, or zero and minimums in dst.
func (k *runs) startSupers() {
	switch {
	case k.inSums:
		k.each(func(r, h int) { k.zero(k.sum(r, h), "no products yet") })
	case k.hasMinimums:
		k.sixteenths(func(pair, h int) {
			k.op("scales and minimums of two runs", "VPMOVZXBW %s, %s", mem(32*pair+16*h, "R8"), k.v(k.w[h]))
			k.op("minimums", "VPSRLW $4, %s, %s", k.v(k.w[h]), k.v(k.w[h]))
		})
		for h := range k.halves() {
			k.op("dmin of the columns", "VCVTPH2PS %s, %s", mem(32+16*h, "AX"), k.v(k.w[h]))
		}
		k.each(func(r, h int) {
			u := k.v(k.sum(r, h))
			k.op("to float32", "VCVTDQ2PS %s, %s", u, u)
			k.op("* dmin", "VMULPS %s, %s, %s", k.v(k.w[h]), u, u)
			k.addToRow(r, h, k.sum(r, h), "VFMADD231PS", "+")
		})
		k.zeroSuper()
	default:
		k.sixteenths(func(pair, h int) {
			if k.runLen == 32 {
				k.runScale(k.w[h], 32*(pair/2), pair%2, h)
			} else {
				k.signedScales(k.w[h], 32*pair, h)
			}
		})
		k.startShifted("* shift", map[int]int{4: 2, 128: 7}[k.shift])
	}
}

// runScale leaves the scale of one of two runs in both words of columns, as the pair's scales are at an offset of R8.
func (k *runs) runScale(reg, offset, run, h int) {
	k.pairScales(reg, offset, h)
	k.scaleTwice(reg, run)
}

// pairScales leaves the scales of two runs in the two words of columns.
func (k *runs) pairScales(reg, offset, h int) {
	if !k.hasMinimums {
		k.signedScales(reg, offset, h)
		return
	}
	w := k.v(reg)
	k.op("scales and minimums of two runs", "VPMOVZXBW %s, %s", mem(offset+16*h, "R8"), w)
	k.op("minimums away", "VPSLLW $12, %s, %s", w, w)
	k.op("scales", "VPSRLW $12, %s, %s", w, w)
}

// nibbles leaves the values of codes of 4 bits of a step in w.
func (k *runs) nibbles(w, step, h int) {
	codes := w
	if !k.wide() {
		codes = k.t
	}
	k.load(codes, mem(64*(step%4)+h*k.bytes, "AX"), "codes of each column")
	if step >= 4 {
		k.op("high nibbles", "VPSRLW $4, %s, %s", k.v(codes), k.v(codes))
	}
	if k.wide() {
		k.op("one nibble of a byte", "VPANDD %s, %s, %s", k.v(k.maskReg), k.v(codes), k.v(codes))
		k.op("what they stand for", "VPSHUFB %s, %s, %s", k.v(codes), k.v(k.tableReg), k.v(w))
		return
	}
	k.op("one nibble of a byte", "VPAND %s, %s, %s", k.mask, k.v(codes), k.v(codes))
	k.load(w, k.table, "values of codes")
	k.op("what these stand for", "VPSHUFB %s, %s, %s", k.v(codes), k.v(w), k.v(w))
}

// signedRun adds a run of values of up to ±127, whose products are scaled at once.
func (k *runs) signedRun(run int) {
	reg := signedRegs{w: k.w[0], magnitudes: k.w[1], t: k.t, factor: k.a, zero: k.zeroReg}
	for h := range k.halves() {
		k.runScale(reg.factor, 0, run, h)
		for step := range 8 {
			k.nibbles(reg.w, step, h)
			k.signedProducts(reg, h, 4*k.rows*step, false)
		}
	}
}

// longRun adds a run of 32 with VNNI.
func (k *runs) longRun(run int) {
	k.each(func(r, h int) { k.zero(k.sum(r, h), "no products yet") })
	for step := range 8 {
		for h := range k.halves() {
			k.nibbles(k.w[h], step, h)
		}
		k.quads(k.w, k.a, "CX", 4*k.rows*step)
	}
	for h := range k.halves() {
		k.pairScales(k.w[h], 0, h)
		k.scaleWide(k.w[h], run)
	}
	k.addScaled()
}

// shortRun adds a run of 16, of two that share their scales' place. Sums of it fit in 16 bits: 16*7*127 < 2^15.
func (k *runs) shortRun(run int) {
	if k.vnni {
		k.each(func(r, h int) { k.zero(k.sum(r, h), "no products yet") })
	}
	for step := range 4 {
		for h := range k.halves() {
			k.bitsOf(run, step, h)
		}
		x := 4 * k.rows * (4*run + step)
		if k.vnni {
			k.quads(k.w, k.a, "CX", x)
		} else {
			k.products(x, step == 0)
		}
	}
	for h := range k.halves() {
		w := k.v(k.w[h])
		switch {
		case !k.vnni:
			k.runScale(k.w[h], 0, run, h)
			continue
		case run == 0:
			k.pairScales(k.w[h], 0, h)
			k.op("the first one's", "VPSLLD $16, %s, %s", w, w)
		default:
			k.pairScales(k.w[h], 0, h)
		}
		k.op("beside 0", "VPSRLD $16, %s, %s", w, w)
	}
	k.each(func(r, h int) {
		u := k.v(k.sum(r, h))
		k.op(fmt.Sprintf("row %d, scaled, to 32 bits", r), "VPMADDWD %s, %s, %s", k.v(k.w[h]), u, u)
		k.addToSuper(r, h)
	})
}

// bitsOf puts four codes of each column together in w[h], of step s of one of two runs.
func (k *runs) bitsOf(run, step, h int) {
	w, t := k.v(k.w[h]), k.v(k.t)
	and, or := "VPAND", "VPOR"
	mask, upper := k.mask, k.upper
	if k.wide() {
		and, or, mask, upper = "VPANDD", "VPORD", k.v(k.maskReg), k.v(k.upperReg)
	}
	k.load(k.w[h], mem(k.codeBytes-128+64*run+h*k.bytes, "AX"), "2 bits of 16 codes of each column")
	if step > 0 {
		k.op("these codes' to their place", "VPSRLW $%d, %s, %s", 2*step, w, w)
	}
	k.op("alone", and+" %s, %s, %s", mask, w, w)
	if k.bits < 3 {
		return
	}
	k.load(k.t, mem(h*k.bytes, "AX"), "third bits of the column's codes")
	switch bit := 4*run + step; {
	case bit < 2:
		k.op("these codes' to their place", "VPSLLW $%d, %s, %s", 2-bit, t, t)
	case bit > 2:
		k.op("these codes' to their place", "VPSRLW $%d, %s, %s", bit-2, t, t)
	}
	k.op("alone", and+" %s, %s, %s", upper, t, t)
	k.op("together", or+" %s, %s, %s", t, w, w)
}
