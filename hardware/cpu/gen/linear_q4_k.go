package main

import (
	"fmt"
	"strings"
)

const (
	minsOffset = 64  // of the minimums in a panel's bytes for 256 elements
	firstRuns  = 192 // of the first half of runs
	fifthBits  = 0x10101010
)

// superFormat is what Q4_K and Q5_K differ in.
type superFormat struct {
	name       string
	superBytes int // of a panel, for 256 elements of its rows
	runBytes   int // of a run of 32 elements
	run        func(k *superSums)
}

// Expanded, the minimums of Q5_K are followed by 8 runs, each of them [16 columns][2] int16 scales and 8 words of bytes.
const (
	runBytesQ5      = 320
	expandedRun     = 64 + 512
	expandedSuperQ5 = firstRuns + 8*expandedRun
)

// linearQ4K writes the kernels of Q4_K.
func linearQ4K(s *stubs, set isa) *file {
	return linearSuper(newFile("linear_q4_k", set), s, set, superFormat{"Q4_K", 2368, 256, (*superSums).runQ4})
}

// linearQ5K writes the kernels of Q5_K.
func linearQ5K(s *stubs, set isa) *file {
	return linearSuper(newFile("linear_q5_k", set), s, set, superFormat{"Q5_K", 2880, runBytesQ5, (*superSums).runQ5})
}

func linearSuper(f *file, s *stubs, set isa, format superFormat) *file {
	var c superConstants
	if !set.wide() {
		c.mask = f.constant("nibbles", "low nibbles of bytes", 0x0f0f0f0f)
		if !set.vnni {
			c.ones = f.constant("ones", "1 as int16", 0x00010001)
		}
		if format.name == "Q5_K" {
			c.upper = f.constant("upper", "the bit above them", fifthBits)
		}
	}
	f.linears(s, set, format.name, func(n int) { superRows(f, s, superKernel{format, set, n}, c) })
	return f
}

// superKernel names one kernel.
type superKernel struct {
	format superFormat
	set    isa
	rows   int
}

func superRows(f *file, s *stubs, which superKernel, c superConstants) {
	format, set, n := which.format, which.set, which.rows
	frame := 0
	if !set.wide() {
		frame = 64*n + 64 // and room to align it
	}
	linear := beginLinear(f, s, set, linearHead{name: format.name, rows: n, frame: frame, comment: []string{
		"dst[r][c] = sum over blocks of 256 of scale of x * (d * sum of scales * products - dmin * sum of minimums * sums of x),",
		"the minimums first, for 16 columns. blocks is at least 1; there are no tails. Layouts: linear_" + strings.ToLower(format.name) + ".go.",
		fmt.Sprintf("Registers: %s0 up sums of a run by row and half, in 64-byte vectors then those of 256, then temporaries.", set.prefix),
	}})
	k := newSuperSums(linear, c)
	if set.wide() {
		k.nibbleMask(k.maskReg)
		if !set.vnni {
			k.broadcastOnes(k.onesReg)
		}
		if format.name == "Q5_K" {
			k.upperMask(fifthBits)
		}
	} else {
		k.alignStack(frame)
	}
	k.at(k.label + "super")
	k.minimums()
	k.zeroSuper()
	k.op("x after scale and sums", "LEAQ %d(BX), CX", 20*n)
	k.op("runs", "ADDQ $%d, AX", firstRuns)
	superBytes := format.superBytes
	if set.expanded {
		superBytes = expandedSuperQ5
		k.repeat("R12", k.label+"run", 8, func() { k.expandedRun(8, 4) })
	} else {
		k.repeat("R13", k.label+"half", 2, func() {
			k.op("scales of 4 runs", "MOVQ AX, R8")
			k.op("their weights", "ADDQ $64, AX")
			k.repeat("R12", k.label+"run", 4, func() {
				k.prefetch(n, format.runBytes)
				format.run(k)
				k.op("next run", "ADDQ $%d, AX", format.runBytes)
				k.op("next elements", "ADDQ $%d, CX", 32*n)
				k.scaleProducts()
				k.op("scales of the next run", "ADDQ $16, R8")
			})
		})
	}
	k.scaleSuper(superBytes)
	k.op("next 256 of x", "MOVQ CX, BX")
	k.op("one block less", "DECQ DX")
	k.op("until all are done", "JNZ %ssuper", k.label)
	k.end()
}

// runQ4 multiplies the nibbles of a run.
func (k *superSums) runQ4() {
	reg := nibbleRegs{k.w, k.a, k.t, k.maskReg, k.mask}
	if !k.vnni {
		for step := range 8 {
			k.loadNibbles(64*(step/2), step%2, reg)
			k.products(4*k.rows*step, step == 0)
		}
		return
	}
	k.each(func(r, h int) { k.zero(k.sum(r, h), "no products yet") })
	for word := range 4 {
		k.nibbleQuads(64*word, "CX", 4*k.rows*(2*word), 4*k.rows*(2*word+1), reg)
	}
}

// runQ5 multiplies nibbles and fifth bits of a run. Without VNNI a pair's products, 2*31*127 at most, are added in 16 bits
// four times, so half of the run is scaled while it is multiplied.
func (k *superSums) runQ5() {
	if k.vnni {
		k.each(func(r, h int) { k.zero(k.sum(r, h), "no products yet") })
	}
	for step := range 8 {
		for h := range k.halves() {
			k.weights(h, 0, step, 4-step)
		}
		if k.vnni {
			k.quads(k.w, k.a, "CX", 4*k.rows*step)
			continue
		}
		k.products(4*k.rows*step, step%4 == 0)
		if step == 3 {
			k.scaleProducts()
		}
	}
}

// scaleProducts multiplies sums with the scales of the run, at R8, and adds them to those of 256.
func (k *superSums) scaleProducts() {
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
	k.addScaled()
}
