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
	f.linears(s, set, "Q6_K", func(n int) { q6K(f, s, set, n, c) })
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
		k.repeat("R13", k.label+"runs", 16, func() { k.expandedRun(4, 2) })
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
	k.sixteenths(func(pair, h int) { k.signedScales(k.w[h], 32*pair, h) })
	k.startShifted("* 32", 5)
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
			k.scaleRun(run)
		}
	}
	if k.vnni {
		k.scaleRun(run)
	}
}

// scaleRun multiplies the sums with the scales of the run and adds them to those of 256.
func (k *sixes) scaleRun(run int) {
	for h := range k.halves() {
		k.signedScales(k.w[h], 0, h)
		if k.vnni {
			k.scaleWide(k.w[h], run)
		} else {
			k.scaleTwice(k.w[h], run)
		}
	}
	k.addScaled()
}
