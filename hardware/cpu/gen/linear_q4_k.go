package main

import "fmt"

const (
	superBytes = 2368 // of a panel, for 256 elements of its rows
	minsOffset = 64   // of the minimums in them
	firstRuns  = 192  // of the first half of runs
	runsOfHalf = 4
	bytesOfRun = 256
)

// linearQ4K writes the kernels of Q4_K.
func linearQ4K(s *stubs, set isa) *file {
	f := newFile("linear_q4_k", set)
	mask, ones := "", ""
	if !set.wide() {
		mask = f.constant("nibbles", "low nibbles of bytes", 0x0f0f0f0f)
		ones = f.constant("ones", "1 as int16", 0x00010001)
	}
	var names []string
	for n := 1; n <= set.maxRows; n++ {
		q4K(f, s, set, n, mask, ones)
		names = append(names, fmt.Sprintf("linearQ4_K%sRows%d", set.suffix, n))
	}
	s.table("linearQ4_K"+set.suffix, "panelKernel", "the kernels of Q4_K", names)
	return f
}

// superSums is a kernel of Q4_K. A run's products are summed in 16 bits (or 32, with VNNI), multiplied by its scale and
// added to the 32-bit sums of the whole 256; those stand in registers, or where there are too few of them on the stack.
type superSums struct {
	*linear
	w                 []int // weights, scales
	a, t              int
	hi                int // VNNI: high nibbles
	maskReg, onesReg  int
	mask, ones, stack string
}

// newSuperSums distributes the registers.
func newSuperSums(linear *linear, mask, ones string) *superSums {
	k := &superSums{linear: linear, mask: mask, ones: ones, stack: "R11"}
	if k.wide() {
		k.floats = k.tmp // sums of 256, by row: dst holds the float32 sums
		k.tmp += k.rows
	}
	k.w, k.a, k.t = []int{k.tmp, k.tmp + 1}, k.tmp+2, k.tmp+3
	k.hi, k.maskReg, k.onesReg = k.w[1], k.tmp+4, k.tmp+5
	return k
}

// alignStack lets R11 point to cache lines of the frame; kernels of 32-byte vectors have no seventh row, whose it is.
func (k *superSums) alignStack(frame int) {
	k.op("sums of 256 on the stack", "LEAQ sums-%d(SP), R11", frame)
	k.op("which is aligned", "ADDQ $63, R11")
	k.op("to cache lines", "ANDQ $-64, R11")
}

func q4K(f *file, s *stubs, set isa, n int, mask, ones string) {
	frame := 0
	if !set.wide() {
		frame = 64*n + 64 // and room to align it
	}
	linear := beginLinear(f, s, set, "Q4_K", n, frame, false,
		"dst[r][c] = sum over blocks of 256 of scale of x * (d * sum of scales * products - dmin * sum of minimums * sums of x),",
		"the minimums first, for 16 columns. blocks is at least 1; there are no tails. Layouts: linear_q4_k.go.",
		fmt.Sprintf("Registers: %s0 up sums of a run by row and half, in 64-byte vectors then those of 256, then temporaries.", set.prefix))
	k := newSuperSums(linear, mask, ones)
	switch {
	case set.vnni:
		k.nibbleMask(k.maskReg)
	case set.wide():
		k.nibbleMask(k.maskReg)
		k.broadcastOnes(k.onesReg)
	default:
		k.alignStack(frame)
	}
	k.at(k.label + "super")
	k.minimums()
	k.zeroSuper()
	k.op("x after scale and sums", "LEAQ %d(BX), CX", 20*n)
	k.op("runs", "ADDQ $%d, AX", firstRuns)
	k.repeat("R13", k.label+"half", 2, func() {
		k.op("scales of 4 runs", "MOVQ AX, R8")
		k.op("their nibbles", "ADDQ $64, AX")
		k.repeat("R12", k.label+"run", runsOfHalf, k.run)
	})
	k.scaleSuper(superBytes)
	k.op("next 256 of x", "MOVQ CX, BX")
	k.op("one block less", "DECQ DX")
	k.op("until all are done", "JNZ %ssuper", k.label)
	k.end()
}

// superSum is where the sums of 256 of row r, half h are: a register or memory.
func (k *superSums) superSum(r, h int) string {
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
			k.minimumQuads(r, 0)
			k.op("* 128", "VPSLLD $7, %s, %s", k.v(u), k.v(u))
			k.minimumQuads(r, 1)
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

func (k *superSums) minimumQuads(r, low int) {
	for quad := range 2 {
		k.load(k.t, mem(minsOffset+64*quad, "AX"), "4 minimums of each column")
		k.op("* sums of x", "VPDPBUSD.BCST %s, %s, %s", mem(k.sumOffset(r, quad, low), "BX"), k.v(k.t), k.v(k.sum(r, 0)))
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

// run adds one run of 32 elements.
func (k *superSums) run() {
	k.each(func(r, h int) { k.zero(k.sum(r, h), "no products yet") })
	k.prefetch(k.rows, bytesOfRun)
	for word := range 4 {
		lo, hi := 4*k.rows*(2*word), 4*k.rows*(2*word+1)
		if k.vnni {
			k.load(k.hi, mem(64*word, "AX"), "8 weights of each column")
			k.splitNibbles(k.hi, k.w[0], k.maskReg)
			k.quadsAt(k.w[0], lo)
			k.quadsAt(k.hi, hi)
		} else {
			k.nibbleProducts(64*word, "AX", lo, hi, nibbleRegs{k.w, k.a, k.t, k.maskReg, k.mask})
		}
	}
	k.op("next nibbles", "ADDQ $%d, AX", bytesOfRun)
	k.op("next elements", "ADDQ $%d, CX", 32*k.rows)
	for h := range k.halves() {
		k.op("scales of the run", "VPMOVZXBD %s, %s", mem(8*h, "R8"), k.v(k.w[h]))
		if !k.vnni {
			k.op("as high words", "VPSLLD $16, %s, %s", k.v(k.w[h]), k.v(k.t))
			or := "VPOR"
			if k.wide() {
				or = "VPORD"
			}
			k.op("and as low ones", or+" %s, %s, %s", k.v(k.t), k.v(k.w[h]), k.v(k.w[h]))
		}
	}
	k.op("scales of the next run", "ADDQ $16, R8")
	k.each(func(r, h int) {
		u := k.v(k.sum(r, h))
		if k.vnni {
			k.op(fmt.Sprintf("row %d, scaled", r), "VPMULLD %s, %s, %s", k.v(k.w[0]), u, u)
		} else {
			k.op(fmt.Sprintf("row %d, scaled, to 32 bits", r), "VPMADDWD %s, %s, %s", k.v(k.w[h]), u, u)
		}
		k.addToSuper(r, h)
	})
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

// quadsAt adds the products of a vector of weights with the rows' words at an offset of CX.
func (k *superSums) quadsAt(w, offset int) {
	for r := range k.rows {
		k.op(fmt.Sprintf("row %d += 4 products", r), "VPDPBUSD.BCST %s, %s, %s", mem(offset+4*r, "CX"), k.v(w), k.v(k.sum(r, 0)))
	}
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
