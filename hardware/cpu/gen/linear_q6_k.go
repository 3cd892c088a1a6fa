package main

import "fmt"

const (
	superBytesQ6 = 3392 // of a panel, for 256 elements of its rows
	scalesQ6     = 64   // of the scales in them
	runsQ6       = 320  // of the first run
	bytesOfRunQ6 = 192
)

// linearQ6K writes the kernels of Q6_K.
func linearQ6K(s *stubs, set isa) *file {
	f := newFile("linear_q6_k", set)
	mask, upper := "", ""
	if !set.wide() {
		mask = f.constant("nibbles", "low nibbles of bytes", 0x0f0f0f0f)
		upper = f.constant("upper", "the two bits above them", 0x30303030)
	}
	var names []string
	for n := 1; n <= set.maxRows; n++ {
		q6K(f, s, set, n, mask, upper)
		names = append(names, fmt.Sprintf("linearQ6_K%sRows%d", set.suffix, n))
	}
	s.table("linearQ6_K"+set.suffix, "panelKernel", "the kernels of Q6_K", names)
	return f
}

// sixes is a kernel of Q6_K: the sums are those of Q4_K's, the weights are put together from two places.
type sixes struct {
	*superSums
	upper    string // mask of the upper bits, in memory
	upperReg int    // or in a register
}

func q6K(f *file, s *stubs, set isa, n int, mask, upper string) {
	frame := 0
	if !set.wide() {
		frame = 64*n + 64 // and room to align it
	}
	linear := beginLinear(f, s, set, "Q6_K", n, frame, false,
		"dst[r][c] = sum over blocks of 256 of scale of x * d * sum of scales * (products - 32 * sums of x), for 16 columns.",
		"blocks is at least 1; there are no tails. Layouts: linear_q6_k.go.",
		fmt.Sprintf("Registers: %s0 up sums of a run by row and half, in 64-byte vectors then those of 256, then temporaries.", set.prefix))
	k := &sixes{superSums: newSuperSums(linear, mask, ""), upper: upper}
	k.upperReg = k.onesReg
	if set.wide() {
		k.nibbleMask(k.maskReg)
		k.op("the two bits above them", "MOVL $0x30303030, R8")
		k.op("in all bytes", "VPBROADCASTD R8, %s", k.v(k.upperReg))
	} else {
		k.alignStack(frame)
	}
	k.at(k.label + "super")
	k.op("scales of runs", "LEAQ %d(AX), R8", scalesQ6)
	k.shift()
	k.op("runs", "ADDQ $%d, AX", runsQ6)
	k.op("x after scale and sums", "LEAQ %d(BX), CX", 36*n)
	k.repeat("R13", k.label+"runs", 8, func() {
		k.prefetch(n, 2*bytesOfRunQ6)
		for run := range 2 {
			k.run(run)
		}
		k.op("next runs", "ADDQ $%d, AX", 2*bytesOfRunQ6)
		k.op("next elements", "ADDQ $%d, CX", 32*n)
		k.op("next scales", "ADDQ $32, R8")
	})
	k.scaleSuper(superBytesQ6)
	k.op("next 256 of x", "MOVQ CX, BX")
	k.op("one block less", "DECQ DX")
	k.op("until all are done", "JNZ %ssuper", k.label)
	k.end()
}

// shift starts the sums of 256 with scales * 32 * (minus the sums of x).
func (k *sixes) shift() {
	k.each(func(r, h int) { k.zero(k.sum(r, h), "no sums yet") })
	for pair := range 8 {
		for h := range k.halves() {
			k.op("scales of two runs", "VPMOVSXBW %s, %s", mem(32*pair+16*h, "R8"), k.v(k.w[h]))
		}
		for r := range k.rows {
			k.op(fmt.Sprintf("minus the sums of row %d", r), "VPBROADCASTD %s, %s", mem(4*k.rows+4*(pair*k.rows+r), "BX"), k.v(k.a))
			for h := range k.halves() {
				k.op("products, added in pairs", "VPMADDWD %s, %s, %s", k.v(k.a), k.v(k.w[h]), k.v(k.t))
				k.op(fmt.Sprintf("row %d += products", r), "VPADDD %s, %s, %s", k.v(k.t), k.v(k.sum(r, h)), k.v(k.sum(r, h)))
			}
		}
	}
	k.each(func(r, h int) {
		if k.wide() {
			k.op("* 32, the sums of 256 begin", "VPSLLD $5, %s, %s", k.v(k.sum(r, h)), k.superSum(r, h))
			return
		}
		k.op("* 32", "VPSLLD $5, %s, %s", k.v(k.sum(r, h)), k.v(k.sum(r, h)))
		k.op("the sums of 256 begin", "VMOVDQA %s, %s", k.v(k.sum(r, h)), k.superSum(r, h))
	})
}

// run adds one of two runs of 16. Without VNNI the products of 8 elements, 4*63*127 at most in a pair's sum, fill 16 bits, so
// the scale is due after each half of the run.
func (k *sixes) run(run int) {
	if k.vnni {
		k.each(func(r, h int) { k.zero(k.sum(r, h), "no products yet") })
	}
	for step := range 4 {
		for h := range k.halves() {
			k.weights(bytesOfRunQ6*run, step, h)
		}
		x := 4 * k.rows * (4*run + step)
		if k.vnni {
			k.quadsAt(k.w[0], x)
			continue
		}
		for r := range k.rows {
			k.op(fmt.Sprintf("4 elements of row %d", r), "VPBROADCASTD %s, %s", mem(x+4*r, "CX"), k.v(k.a))
			for h := range k.halves() {
				if step%2 == 0 {
					k.op(fmt.Sprintf("row %d = products, added in pairs", r), "VPMADDUBSW %s, %s, %s", k.v(k.a), k.v(k.w[h]), k.v(k.sum(r, h)))
					continue
				}
				k.op("products, added in pairs", "VPMADDUBSW %s, %s, %s", k.v(k.a), k.v(k.w[h]), k.v(k.t))
				k.op(fmt.Sprintf("row %d += products", r), "VPADDW %s, %s, %s", k.v(k.t), k.v(k.sum(r, h)), k.v(k.sum(r, h)))
			}
		}
		if step%2 == 1 {
			k.scaleWords(run)
		}
	}
	if k.vnni {
		k.scaleDwords(run)
	}
}

// weights puts four weights of each column together in w[h]: step s of the run whose bytes are at an offset of AX.
func (k *sixes) weights(offset, step, h int) {
	w, t := k.w[h], k.t
	k.load(w, mem(offset+64+64*(step/2)+h*k.bytes, "AX"), "lower bits of 8 weights of each column")
	if step%2 == 1 {
		k.op("high nibbles", "VPSRLW $4, %s, %s", k.v(w), k.v(w))
	}
	k.load(t, mem(offset+h*k.bytes, "AX"), "upper bits of 16 weights of each column")
	switch step {
	case 0, 1:
		k.op("these weights' to their place", "VPSLLW $%d, %s, %s", 4-2*step, k.v(t), k.v(t))
	case 3:
		k.op("these weights' to their place", "VPSRLW $2, %s, %s", k.v(t), k.v(t))
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

// scaleWords multiplies 16-bit sums with the scale of the run and adds them to those of 256.
func (k *sixes) scaleWords(run int) {
	order := []int{0xa0, 0xf5}[run]
	for h := range k.halves() {
		w := k.v(k.w[h])
		k.op("scales of two runs", "VPMOVSXBW %s, %s", mem(16*h, "R8"), w)
		k.op("this one's twice", "VPSHUFLW $%#x, %s, %s", order, w, w)
		k.op("in the upper words too", "VPSHUFHW $%#x, %s, %s", order, w, w)
	}
	k.each(func(r, h int) {
		u := k.v(k.sum(r, h))
		k.op(fmt.Sprintf("row %d, scaled, to 32 bits", r), "VPMADDWD %s, %s, %s", k.v(k.w[h]), u, u)
		k.addToSuper(r, h)
	})
}

// scaleDwords multiplies 32-bit sums with the scale of the run and adds them to those of 256.
func (k *sixes) scaleDwords(run int) {
	w := k.v(k.w[0])
	k.op("scales of two runs", "VPMOVSXBW (R8), %s", w)
	if run == 0 {
		k.op("the first one's", "VPSLLD $16, %s, %s", w, w)
	}
	k.op("to 32 bits", "VPSRAD $16, %s, %s", w, w)
	k.each(func(r, h int) {
		u := k.v(k.sum(r, h))
		k.op(fmt.Sprintf("row %d, scaled", r), "VPMULLD %s, %s, %s", w, u, u)
		k.addToSuper(r, h)
	})
}
