package main

import "fmt"

// superSums is a kernel of a format with blocks of 256. A run's products are summed in 16 bits (or 32, with VNNI),
// multiplied by its scale and added to the 32-bit sums of the whole 256; those stand in registers, or where there are
// too few of them on the stack.
type superSums struct {
	*linear
	w                []int // weights, scales
	a, t             int
	maskReg, onesReg int // constants in registers of 64 bytes
	upperReg         int
	stack            string
	inSums           bool // the sums of 256 are where those of a run else are
	superConstants
}

// superConstants are constants in memory, for vectors of 32 bytes.
type superConstants struct {
	mask  string // low nibbles
	upper string // bits above them
	ones  string // 1 as int16
}

// newSuperSums distributes the registers.
func newSuperSums(linear *linear, c superConstants) *superSums {
	k := &superSums{linear: linear, superConstants: c, stack: "R11"}
	if k.wide() {
		k.floats = k.tmp // sums of 256, by row: dst holds the float32 sums
		k.tmp += k.rows
	}
	k.w, k.a, k.t = []int{k.tmp, k.tmp + 1}, k.tmp+2, k.tmp+3
	k.maskReg, k.onesReg, k.upperReg = k.tmp+4, k.tmp+5, k.tmp+6
	return k
}

// alignStack lets R11 point to cache lines of the frame; kernels of 32-byte vectors have no seventh row, whose it is.
func (k *superSums) alignStack(frame int) {
	k.op("sums of 256 on the stack", "LEAQ sums-%d(SP), R11", frame)
	k.op("which is aligned", "ADDQ $63, R11")
	k.op("to cache lines", "ANDQ $-64, R11")
}

// superSum is where the sums of 256 of row r, half h are: a register or memory.
func (k *superSums) superSum(r, h int) string {
	if k.inSums {
		return k.v(k.sum(r, h))
	}
	if k.wide() {
		return k.v(k.floats + r)
	}
	return mem(64*r+32*h, k.stack)
}

// minimums subtracts scale of x * (dmin * minimums times sums of x). The sums are bytes: 128 times high ones and low ones.
func (k *superSums) minimums() {
	for h := range k.halves() {
		k.op("dmin of the columns", "VCVTPH2PS %s, %s", mem(32+16*h, "AX"), k.v(k.w[h]))
	}
	k.each(func(r, h int) {
		u := k.sum(r, h)
		if k.vnni {
			k.zero(u, "no sums yet")
			k.minimumQuads(r, h, 0)
			k.op("* 128", "VPSLLD $7, %s, %s", k.v(u), k.v(u))
			k.minimumQuads(r, h, 1)
		} else {
			k.minimumBytes(r, h, 0)
			k.op("* 128", "VPSLLD $7, %s, %s", k.v(u), k.v(u))
			k.minimumBytes(r, h, 1)
		}
		k.op("to float32", "VCVTDQ2PS %s, %s", k.v(u), k.v(u))
		k.op("* dmin", "VMULPS %s, %s, %s", k.v(k.w[h]), k.v(u), k.v(u))
		k.addToRow(r, h, u, "VFNMADD231PS", "-")
	})
}

// sumOffset is where the four sums of row r are in the tile: quad 0 or 1, high or low bytes.
func (k *superSums) sumOffset(r, quad, low int) int { return 4*k.rows + 4*((2*quad+low)*k.rows+r) }

func (k *superSums) minimumQuads(r, h, low int) {
	for quad := range 2 {
		k.load(k.t, mem(minsOffset+64*quad+h*k.bytes, "AX"), "4 minimums of each column")
		sums := mem(k.sumOffset(r, quad, low), "BX")
		if k.wide() {
			k.op("* sums of x", "VPDPBUSD.BCST %s, %s, %s", sums, k.v(k.t), k.v(k.sum(r, h)))
			continue
		}
		k.op(fmt.Sprintf("4 sums of row %d", r), "VPBROADCASTD %s, %s", sums, k.v(k.a))
		k.encoded("minimums * sums of x", vexDotBytes(k.a, k.t, k.sum(r, h)))
	}
}

// minimumBytes multiplies as bytes: a pair's products, 2*63*127 at most, fit in 16 bits.
func (k *superSums) minimumBytes(r, h, low int) {
	u := k.sum(r, h)
	for quad := range 2 {
		k.load(k.t, mem(minsOffset+64*quad+h*k.bytes, "AX"), "4 minimums of each column")
		k.op(fmt.Sprintf("4 sums of row %d", r), "VPBROADCASTD %s, %s", mem(k.sumOffset(r, quad, low), "BX"), k.v(k.a))
		k.op("products, added in pairs", "VPMADDUBSW %s, %s, %s", k.v(k.a), k.v(k.t), k.v(k.t))
		k.widen(k.t, k.onesReg, k.ones)
		if quad == 0 && low == 0 {
			k.move(k.t, u, "the first sums")
		} else {
			k.op("added", "VPADDD %s, %s, %s", k.v(k.t), k.v(u), k.v(u))
		}
	}
}

func (k *superSums) move(from, to int, meaning string) {
	if k.wide() {
		k.op(meaning, "VMOVDQA64 %s, %s", k.v(from), k.v(to))
	} else {
		k.op(meaning, "VMOVDQA %s, %s", k.v(from), k.v(to))
	}
}

// addToRow adds scale of x * u to dst, or subtracts it.
func (k *superSums) addToRow(r, h, u int, fma, sign string) {
	address := dstRows.at(r, h*k.bytes)
	k.op(fmt.Sprintf("row %d", r), "VMOVUPS %s, %s", address, k.v(k.t))
	if k.wide() {
		k.op("row "+sign+"= scale of x * that", fma+".BCST %s, %s, %s", mem(4*r, "BX"), k.v(u), k.v(k.t))
	} else {
		k.op("scale of x", "VBROADCASTSS %s, %s", mem(4*r, "BX"), k.v(k.a))
		k.op("row "+sign+"= scale of x * that", fma+" %s, %s, %s", k.v(k.a), k.v(u), k.v(k.t))
	}
	k.op("back", "VMOVUPS %s, %s", k.v(k.t), address)
}

func (k *superSums) zeroSuper() {
	if k.wide() {
		k.each(func(r, h int) { k.zero(k.floats+r, "no runs yet") })
		return
	}
	k.zero(k.t, "0")
	k.each(func(r, h int) { k.op("no runs yet", "VMOVDQA %s, %s", k.v(k.t), k.superSum(r, h)) })
}

// addToSuper adds scaled sums of a run to those of 256.
func (k *superSums) addToSuper(r, h int) {
	u := k.v(k.sum(r, h))
	if k.wide() {
		k.op("added to those of 256", "VPADDD %s, %s, %s", u, k.superSum(r, h), k.superSum(r, h))
		return
	}
	k.op("added to those of 256", "VPADDD %s, %s, %s", k.superSum(r, h), u, u)
	k.op("back", "VMOVDQA %s, %s", u, k.superSum(r, h))
}

// scaleSuper adds scale of x * (d * sums of 256). d is at the start of the panel's bytes for them, which AX has left behind.
func (k *superSums) scaleSuper(superBytes int) {
	for h := range k.halves() {
		k.op("d of the columns", "VCVTPH2PS %s, %s", mem(16*h-superBytes, "AX"), k.v(k.w[h]))
	}
	k.each(func(r, h int) {
		u := k.sum(r, h)
		k.op(fmt.Sprintf("row %d to float32", r), "VCVTDQ2PS %s, %s", k.superSum(r, h), k.v(u))
		k.op("* d", "VMULPS %s, %s, %s", k.v(k.w[h]), k.v(u), k.v(u))
		k.addToRow(r, h, u, "VFMADD231PS", "+")
	})
}

// upperMask fills a vector with the mask of the bits above nibbles.
func (k *superSums) upperMask(mask uint32) {
	k.op("bits above them", "MOVL $0x%08x, R8", mask)
	k.op("in all bytes", "VPBROADCASTD R8, %s", k.v(k.upperReg))
}

// weights puts four weights of each column together in w[h], of step s of a run: nibbles of the words that follow the 64
// bytes at an offset of AX, and above them bits of these bytes, which stand so many places too far right, or left if that
// is negative.
func (k *superSums) weights(h, offset, step, shift int) {
	w, t := k.w[h], k.t
	k.load(w, mem(offset+64+64*(step/2)+h*k.bytes, "AX"), "lower bits of 8 weights of each column")
	if step%2 == 1 {
		k.op("high nibbles", "VPSRLW $4, %s, %s", k.v(w), k.v(w))
	}
	k.load(t, mem(offset+h*k.bytes, "AX"), "upper bits of the column's weights")
	switch {
	case shift > 0:
		k.op("these weights' to their place", "VPSLLW $%d, %s, %s", shift, k.v(t), k.v(t))
	case shift < 0:
		k.op("these weights' to their place", "VPSRLW $%d, %s, %s", -shift, k.v(t), k.v(t))
	}
	if k.wide() {
		k.op("one nibble of a byte", "VPANDD %s, %s, %s", k.v(k.maskReg), k.v(w), k.v(w))
		k.op("their upper bits", "VPANDD %s, %s, %s", k.v(k.upperReg), k.v(t), k.v(t))
		k.op("together", "VPORD %s, %s, %s", k.v(t), k.v(w), k.v(w))
		return
	}
	k.op("one nibble of a byte", "VPAND %s, %s, %s", k.mask, k.v(w), k.v(w))
	k.op("their upper bits", "VPAND %s, %s, %s", k.upper, k.v(t), k.v(t))
	k.op("together", "VPOR %s, %s, %s", k.v(t), k.v(w), k.v(w))
}

// products multiplies w with the rows' words at an offset of CX, in pairs, into the 16-bit sums: the first of some as they
// are, the others added.
func (k *superSums) products(offset int, first bool) { k.byteProducts(k.w, k.a, k.t, offset, first) }

// addScaled multiplies the sums of a run with the columns' scales in w and adds them to those of 256. With VNNI sums and
// scales have 32 bits, else sums have 16, two a column, and scales are there twice.
func (k *superSums) addScaled() {
	k.each(func(r, h int) {
		u := k.v(k.sum(r, h))
		if k.vnni {
			k.op(fmt.Sprintf("row %d, scaled", r), "VPMULLD %s, %s, %s", k.v(k.w[h]), u, u)
		} else {
			k.op(fmt.Sprintf("row %d, scaled, to 32 bits", r), "VPMADDWD %s, %s, %s", k.v(k.w[h]), u, u)
		}
		k.addToSuper(r, h)
	})
}

// expandedRun adds a run whose scales are [16 columns][2] int16 and whose weights are bytes, four of each column in a
// step. Products of so many steps fill 16 bits, so scales are due after them.
func (k *superSums) expandedRun(steps, due int) {
	for step := range steps {
		k.loadBytes(k.w, 64+64*step)
		k.products(4*k.rows*step, step%due == 0)
		if step%due == due-1 {
			for h := range k.halves() {
				k.load(k.w[h], mem(k.bytes*h, "AX"), "scales of the run")
			}
			k.addScaled()
		}
	}
	k.op("next run", "ADDQ $%d, AX", 64+64*steps)
	k.op("next elements", "ADDQ $%d, CX", 4*k.rows*steps)
}

// signedScales leaves the scales of two runs, int8 at an offset of R8, in the two words of columns.
func (k *superSums) signedScales(reg, offset, h int) {
	k.op("scales of two runs", "VPMOVSXBW %s, %s", mem(offset+16*h, "R8"), k.v(reg))
}

// scaleTwice leaves the scale of one of two runs, as they are in the words of columns, in both words.
func (k *superSums) scaleTwice(reg, run int) {
	w, order := k.v(reg), []int{0xa0, 0xf5}[run]
	k.op("this one's twice", "VPSHUFLW $%#x, %s, %s", order, w, w)
	k.op("in the upper words too", "VPSHUFHW $%#x, %s, %s", order, w, w)
}

// scaleWide leaves that scale in 32 bits.
func (k *superSums) scaleWide(reg, run int) {
	w := k.v(reg)
	if run == 0 {
		k.op("the first one's", "VPSLLD $16, %s, %s", w, w)
	}
	k.op("to 32 bits", "VPSRAD $16, %s, %s", w, w)
}

// sixteenths leaves minus the sums of x over 16 elements, times words that read has left in w for a pair of runs.
func (k *superSums) sixteenths(read func(pair, h int)) {
	k.each(func(r, h int) { k.zero(k.sum(r, h), "no sums yet") })
	for pair := range 8 {
		for h := range k.halves() {
			read(pair, h)
		}
		for r := range k.rows {
			k.op(fmt.Sprintf("minus the sums of row %d", r), "VPBROADCASTD %s, %s", mem(4*k.rows+4*(pair*k.rows+r), "BX"), k.v(k.a))
			for h := range k.halves() {
				k.op("products, added in pairs", "VPMADDWD %s, %s, %s", k.v(k.a), k.v(k.w[h]), k.v(k.t))
				k.op(fmt.Sprintf("row %d += products", r), "VPADDD %s, %s, %s", k.v(k.t), k.v(k.sum(r, h)), k.v(k.sum(r, h)))
			}
		}
	}
}

// startShifted begins the sums of 256 with these, times a power of two.
func (k *superSums) startShifted(meaning string, bits int) {
	k.each(func(r, h int) {
		u := k.v(k.sum(r, h))
		if k.wide() {
			k.op(meaning+", the sums of 256 begin", "VPSLLD $%d, %s, %s", bits, u, k.superSum(r, h))
			return
		}
		k.op(meaning, "VPSLLD $%d, %s, %s", bits, u, u)
		k.op("the sums of 256 begin", "VMOVDQA %s, %s", u, k.superSum(r, h))
	})
}
