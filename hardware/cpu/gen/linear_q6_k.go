package main

import "fmt"

const (
	superBytesQ6 = 3392 // of a panel, for 256 elements of its rows
	scalesQ6     = 64   // of the scales in them
	runsQ6       = 320  // of the first run
	bytesOfRunQ6 = 192
	sixthBits    = 0x30303030

	// Expanded, scales are followed by 16 runs, each of them [16 columns][2] int16 scales and 4 words of bytes.
	expandedRunQ6   = 64 + 256
	expandedSuperQ6 = runsQ6 + 16*expandedRunQ6
)

// linearQ6K writes the kernels of Q6_K.
func linearQ6K(s *stubs, set isa) *file {
	f := newFile("linear_q6_k", set)
	var c superConstants
	if !set.wide() {
		c.mask = f.constant("nibbles", "low nibbles of bytes", 0x0f0f0f0f)
		c.upper = f.constant("upper", "the two bits above them", sixthBits)
	}
	var names []string
	for n := 1; n <= set.maxRows; n++ {
		q6K(f, s, set, n, c)
		names = append(names, fmt.Sprintf("linearQ6_K%sRows%d", set.suffix, n))
	}
	s.table("linearQ6_K"+set.suffix, "panelKernel", "the kernels of Q6_K", names)
	return f
}

// sixes is a kernel of Q6_K.
type sixes struct{ *superSums }

func q6K(f *file, s *stubs, set isa, n int, c superConstants) {
	frame := 0
	if !set.wide() {
		frame = 64*n + 64 // and room to align it
	}
	linear := beginLinear(f, s, set, linearHead{name: "Q6_K", rows: n, frame: frame, comment: []string{
		"dst[r][c] = sum over blocks of 256 of scale of x * d * sum of scales * (products - 32 * sums of x), for 16 columns.",
		"blocks is at least 1; there are no tails. Layouts: linear_q6_k.go.",
		fmt.Sprintf("Registers: %s0 up sums of a run by row and half, in 64-byte vectors then those of 256, then temporaries.", set.prefix),
	}})
	k := &sixes{newSuperSums(linear, c)}
	if set.wide() {
		k.nibbleMask(k.maskReg)
		k.upperMask(sixthBits)
	} else {
		k.alignStack(frame)
	}
	k.at(k.label + "super")
	k.op("scales of runs", "LEAQ %d(AX), R8", scalesQ6)
	k.shift()
	k.op("runs", "ADDQ $%d, AX", runsQ6)
	k.op("x after scale and sums", "LEAQ %d(BX), CX", 36*n)
	superBytes := superBytesQ6
	if set.expanded {
		superBytes = expandedSuperQ6
		k.repeat("R13", k.label+"runs", 16, func() { k.runExpanded() })
	} else {
		k.repeat("R13", k.label+"runs", 8, func() {
			k.prefetch(n, 2*bytesOfRunQ6)
			for run := range 2 {
				k.run(run)
			}
			k.op("next runs", "ADDQ $%d, AX", 2*bytesOfRunQ6)
			k.op("next elements", "ADDQ $%d, CX", 32*n)
			k.op("next scales", "ADDQ $32, R8")
		})
	}
	k.scaleSuper(superBytes)
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
			k.weights(h, bytesOfRunQ6*run, step, 4-2*step)
		}
		x := 4 * k.rows * (4*run + step)
		if k.vnni {
			k.quads(k.w, k.a, "CX", x)
			continue
		}
		k.products(x, step%2 == 0)
		if step%2 == 1 {
			k.scaleWords(run)
		}
	}
	if k.vnni {
		k.scaleDwords(run)
	}
}

// runExpanded adds a run of 16 whose weights are bytes.
func (k *sixes) runExpanded() {
	for step := range 4 {
		k.loadBytes(k.w, 64+64*step)
		k.products(4*k.rows*step, step%2 == 0)
		if step%2 == 1 {
			k.scaleExpanded()
		}
	}
	k.op("next run", "ADDQ $%d, AX", expandedRunQ6)
	k.op("next elements", "ADDQ $%d, CX", 16*k.rows)
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
	for h := range k.halves() {
		w := k.v(k.w[h])
		k.op("scales of two runs", "VPMOVSXBW %s, %s", mem(16*h, "R8"), w)
		if run == 0 {
			k.op("the first one's", "VPSLLD $16, %s, %s", w, w)
		}
		k.op("to 32 bits", "VPSRAD $16, %s, %s", w, w)
	}
	k.each(func(r, h int) {
		u := k.v(k.sum(r, h))
		k.op(fmt.Sprintf("row %d, scaled", r), "VPMULLD %s, %s, %s", k.v(k.w[h]), u, u)
		k.addToSuper(r, h)
	})
}
