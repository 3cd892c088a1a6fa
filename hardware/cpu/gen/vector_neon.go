package main

import (
	"fmt"
	"math"
	"slices"
)

// vectorsARM writes the kernels on rows of float32: four elements a round, the last ones one by one.
func vectorsARM(s *stubs) *file {
	v := &vectorFileARM{file: newFile("vector", neon), stubs: s}
	v.sumSquares()
	v.maxOf()
	v.elementwise(elementwiseARM{
		name: "scaleNEON", params: "(x []float32, s float32)", argSize: 28, meaning: "x[i] *= s.", slices: []string{"x"}, length: "x",
		setup: func(k *arm) { k.argument(8, "s", 24) },
		body:  func(k *arm) { k.neon("x * s", "FMUL V0.4S, V0.4S, V8.4S") },
	})
	v.elementwise(elementwiseARM{
		name: "addNEON", params: "(dst, x []float32)", argSize: 48, meaning: "dst[i] += x[i].", slices: []string{"dst", "x"}, length: "x",
		body: func(k *arm) { k.neon("dst + x", "FADD V0.4S, V0.4S, V1.4S") },
	})
	v.elementwise(elementwiseARM{
		name: "addScaledNEON", params: "(dst, x []float32, s float32)", argSize: 52, meaning: "dst[i] += s * x[i].", slices: []string{"dst", "x"}, length: "x",
		setup: func(k *arm) { k.argument(8, "s", 48) },
		body:  func(k *arm) { k.neon("dst + s * x", "FMLA V0.4S, V1.4S, V8.4S") },
	})
	v.elementwise(elementwiseARM{
		name: "mulAddNEON", params: "(dst, x, w []float32)", argSize: 72, meaning: "dst[i] += x[i] * w[i].", slices: []string{"dst", "x", "w"}, length: "x",
		body: func(k *arm) { k.neon("dst + x * w", "FMLA V0.4S, V1.4S, V2.4S") },
	})
	v.elementwise(elementwiseARM{
		name: "scaleMulNEON", params: "(dst, x, w []float32, scale float32)", argSize: 76, meaning: "dst[i] = x[i] * scale * w[i].", slices: []string{"dst", "x", "w"}, length: "x",
		onlyWritten: true,
		setup:       func(k *arm) { k.argument(8, "scale", 72) },
		body: func(k *arm) {
			k.neon("x * scale", "FMUL V0.4S, V1.4S, V8.4S")
			k.neon("* w", "FMUL V0.4S, V0.4S, V2.4S")
		},
	})
	v.expSum()
	v.siluMul()
	v.sigmoidMul()
	v.clippedMul()
	v.rotateHalves()
	v.rotatePairs()
	v.halves()
	v.scaleByHalves()
	return v.file
}

type vectorFileARM struct {
	*file
	stubs *stubs
}

func (v *vectorFileARM) function(name, params string, argSize int, comment ...string) *arm {
	return beginARM(v.file, v.stubs, neon, signature{name, params, argSize, 0}, comment...)
}

// argument fills a vector with a float32 parameter.
func (k *arm) argument(i int, name string, offset int) {
	k.op(name, "FMOVS %s+%d(FP), F%d", name, offset, i)
	k.op("in all lanes", "VDUP V%d.S[0], V%d.S4", i, i)
}

// slices reads the slices' addresses into R0 up, and the length of one into R3.
func (k *arm) slices(names []string, length string) {
	for i, name := range names {
		k.op(name, "MOVD %s_base+%d(FP), R%d", name, 24*i, i)
	}
	i := slices.Index(names, length)
	k.op("elements to do", "MOVD %s_len+%d(FP), R3", length, 24*i+8)
}

// fours goes through R3 elements, four at a time and then one by one: body gets them in both forms.
func (k *arm) fours(body func(single bool)) {
	k.op("four are left?", "SUBS $4, R3, R3")
	k.op("no", "BLT tail")
	k.at("loop")
	body(false)
	k.op("4 less", "SUBS $4, R3, R3")
	k.op("while there are 4", "BGE loop")
	k.at("tail")
	k.op("0 to 3 are left", "ADDS $4, R3, R3")
	k.op("none", "BEQ done")
	k.at("one")
	body(true)
	k.op("1 less", "SUBS $1, R3, R3")
	k.op("until all are done", "BNE one")
	k.at("done")
}

// read fills a vector with the next four elements, or its first lane with one and the others with 0.
func (k *arm) read(single bool, pointer string, i int, meaning string) {
	if single {
		k.op(meaning, "FMOVS.P 4(%s), F%d", pointer, i)
	} else {
		k.op(meaning, "FMOVQ.P 16(%s), F%d", pointer, i)
	}
}

// peek reads without going on.
func (k *arm) peek(single bool, pointer string, i int, meaning string) {
	if single {
		k.op(meaning, "FMOVS (%s), F%d", pointer, i)
	} else {
		k.op(meaning, "FMOVQ (%s), F%d", pointer, i)
	}
}

func (k *arm) write(single bool, i int, pointer, meaning string) {
	if single {
		k.op(meaning, "FMOVS.P F%d, 4(%s)", i, pointer)
	} else {
		k.op(meaning, "FMOVQ.P F%d, 16(%s)", i, pointer)
	}
}

const tailCommentARM = "R0 to R2 slices in order, R3 what is left of them. Tails: the last 1 to 3 one by one."

// elementwiseARM is a kernel whose results stand alone: the slices' elements come in V0, V1, V2 and the result, for the
// first slice, is left in V0.
type elementwiseARM struct {
	name, params string
	argSize      int
	meaning      string
	slices       []string
	length       string // the slice whose length counts
	onlyWritten  bool   // the first slice
	setup, body  func(k *arm)
}

func (v *vectorFileARM) elementwise(e elementwiseARM) {
	k := v.function(e.name, e.params, e.argSize, e.meaning, "Registers: V0 to V2 elements, V8 the factor. "+tailCommentARM)
	k.slices(e.slices, e.length)
	if e.setup != nil {
		e.setup(k)
	}
	k.fours(func(single bool) {
		for i, name := range e.slices {
			switch {
			case i > 0:
				k.read(single, fmt.Sprintf("R%d", i), i, name)
			case !e.onlyWritten:
				k.peek(single, "R0", 0, name)
			}
		}
		e.body(k)
		k.write(single, 0, "R0", e.slices[0])
	})
	k.done()
}

// sixteens goes through R3 elements at R0 while there are 16, as V4 to V7; then fours follow.
func (k *arm) sixteens(body func(i int)) {
	k.op("16 are left?", "SUBS $16, R3, R3")
	k.op("no", "BLT few")
	k.at("many")
	k.op("16 elements", "VLD1.P 64(R0), %s", four(4))
	for i := range 4 {
		body(i)
	}
	k.op("16 less", "SUBS $16, R3, R3")
	k.op("while there are 16", "BGE many")
	k.at("few")
	k.op("0 to 15 are left", "ADD $16, R3, R3")
}

// sum adds the lanes of V0 in pairs and returns the result.
func (k *arm) sum(result int) {
	k.neon("2 lanes", "FADDP V0.4S, V0.4S, V0.4S")
	k.neon("1 lane", "FADDP S0, V0.2S")
	k.op("result", "FMOVS F0, ret+%d(FP)", result)
}

func (v *vectorFileARM) sumSquares() {
	k := v.function("sumSquaresNEON", "(x []float32) float32", 28,
		"Sum of x[i]^2: 16 lanes over 16 elements a round, the 4s that are left go to the first 4 lanes and the last ones to the",
		"first of them, then a tree.",
		"Registers: V0 to V3 sums, V4 to V7 elements. "+tailCommentARM)
	k.slices([]string{"x"}, "x")
	for i := range 4 {
		k.clear(i, "no squares yet")
	}
	k.sixteens(func(i int) { k.neon("their squares", "FMLA V%d.4S, V%d.4S, V%d.4S", i, 4+i, 4+i) })
	k.fours(func(single bool) {
		k.read(single, "R0", 4, "elements")
		k.neon("their squares", "FMLA V0.4S, V4.4S, V4.4S")
	})
	k.neon("8 lanes", "FADD V0.4S, V0.4S, V2.4S")
	k.neon("8 lanes", "FADD V1.4S, V1.4S, V3.4S")
	k.neon("4 lanes", "FADD V0.4S, V0.4S, V1.4S")
	k.sum(24)
	k.done()
}

func (v *vectorFileARM) maxOf() {
	k := v.function("maxOfNEON", "(x []float32) float32", 28,
		"Largest element, NaN aside; -Inf for none.",
		"Registers: V0 to V3 largest, V4 to V7 elements, V8 largest of the last ones. "+tailCommentARM)
	k.slices([]string{"x"}, "x")
	k.broadcast(0, math.Float32bits(float32(math.Inf(-1))), "-Inf")
	for _, i := range []int{1, 2, 3, 8} {
		k.op("nothing yet", "VMOV V0.B16, V%d.B16", i)
	}
	k.sixteens(func(i int) {
		k.neon("larger ones; the old one if x is NaN", "FMAXNM V%d.4S, V%d.4S, V%d.4S", i, i, 4+i)
	})
	k.fours(func(single bool) {
		k.read(single, "R0", 4, "elements")
		if single {
			k.op("the larger one; the old one if x is NaN", "FMAXNMS F4, F8, F8")
		} else {
			k.neon("larger ones; the old one if x is NaN", "FMAXNM V0.4S, V0.4S, V4.4S")
		}
	})
	for _, i := range []int{1, 2, 3} {
		k.neon("4 lanes are left", "FMAXNM V0.4S, V0.4S, V%d.4S", i)
	}
	k.neon("1 is left", "FMAXNMV S0, V0.4S")
	k.op("or a last one", "FMAXNMS F8, F0, F0")
	k.op("result", "FMOVS F0, ret+24(FP)")
	k.done()
}

// expConstants loads the constants of exp.go into V16 to V27.
func (k *arm) expConstants() {
	for i, c := range []struct {
		value   float32
		meaning string
	}{
		{-104, "e^x is 0 below"}, {89, "e^x is infinite above"},
		{0x1.715476p+0, "1/ln 2"}, {0x1.62e4p-1, "ln 2, first 17 bits"}, {0x1.7f7d1cp-20, "ln 2, the rest"},
		{0x1.fffffcp-2, "c2"}, {0x1.55549p-3, "c3"}, {0x1.5558f4p-5, "c4"}, {0x1.123a6cp-7, "c5"}, {0x1.6a2352p-10, "c6"},
		{1, "1"},
	} {
		k.broadcast(16+i, math.Float32bits(c.value), c.meaning)
	}
	k.broadcast(27, 127, "bias of exponents")
}

// exp replaces V0 by e^V0, as exp.go has it. V1 to V3 are spent.
func (k *arm) exp() {
	k.neon("not below; NaN stays", "FMAX V0.4S, V0.4S, V16.4S")
	k.neon("not above; NaN stays", "FMIN V0.4S, V0.4S, V17.4S")
	k.neon("x / ln 2", "FMUL V1.4S, V0.4S, V18.4S")
	k.neon("n, the nearest integer", "FRINTN V1.4S, V1.4S")
	k.neon("r = x - n * first part of ln 2", "FMLS V0.4S, V1.4S, V19.4S")
	k.neon("r -= n * second part", "FMLS V0.4S, V1.4S, V20.4S")
	p := 25 // c6
	for i := 3; i >= 0; i-- {
		to := 2 + i%2
		k.op(fmt.Sprintf("c%d", i+2), "VMOV V%d.B16, V%d.B16", 21+i, to)
		k.neon("p = p * r + that", "FMLA V%d.4S, V%d.4S, V0.4S", to, p)
		p = to
	}
	k.neon("p * r", "FMUL V2.4S, V2.4S, V0.4S")
	k.op("r", "VMOV V0.B16, V3.B16")
	k.neon("p = p * r^2 + r", "FMLA V3.4S, V2.4S, V0.4S")
	k.neon("e^r", "FADD V0.4S, V3.4S, V26.4S")
	k.neon("n as integer", "FCVTNS V1.4S, V1.4S")
	k.neon("n / 2", "SSHR V3.4S, V1.4S, #1")
	k.op("the other half", "VSUB V3.S4, V1.S4, V1.S4")
	k.op("exponent", "VADD V27.S4, V3.S4, V3.S4")
	k.op("2^(n/2)", "VSHL $23, V3.S4, V3.S4")
	k.op("exponent", "VADD V27.S4, V1.S4, V1.S4")
	k.op("2^the other half", "VSHL $23, V1.S4, V1.S4")
	k.neon("e^r * 2^(n/2)", "FMUL V0.4S, V0.4S, V3.4S")
	k.neon("e^x", "FMUL V0.4S, V0.4S, V1.4S")
}

const expCommentARM = "V16 to V27 constants, R9 free. " + tailCommentARM

func (v *vectorFileARM) expSum() {
	k := v.function("expSumNEON", "(dst, x []float32, shift float32) float32", 60,
		"dst[i] = e^(x[i] - shift); returns their sum: 4 lanes and one for the last ones, then a tree.",
		"Registers: V0 to V3 exponential, V5 sum, V6 sum of the last ones, V8 shift, "+expCommentARM)
	k.slices([]string{"dst", "x"}, "x")
	k.argument(8, "shift", 48)
	k.expConstants()
	k.clear(5, "no sum yet")
	k.clear(6, "no sum yet")
	k.fours(func(single bool) {
		k.read(single, "R1", 0, "x")
		k.neon("x - shift", "FSUB V0.4S, V0.4S, V8.4S")
		k.exp()
		k.write(single, 0, "R0", "dst")
		if single {
			k.op("sum", "FADDS F0, F6, F6")
		} else {
			k.neon("sum", "FADD V5.4S, V5.4S, V0.4S")
		}
	})
	k.neon("4 lanes, the last ones in the first", "FADD V0.4S, V5.4S, V6.4S")
	k.sum(56)
	k.done()
}

func (v *vectorFileARM) siluMul() {
	k := v.function("siluMulNEON", "(dst, gate, up []float32)", 72,
		"dst[i] = gate[i] / (1 + e^-gate[i]) * up[i].",
		"Registers: V0 to V3 exponential, V4 gate, V5 up, "+expCommentARM)
	k.slices([]string{"dst", "gate", "up"}, "gate")
	k.expConstants()
	k.fours(func(single bool) {
		k.read(single, "R1", 4, "gate")
		k.read(single, "R2", 5, "up")
		k.neon("-gate", "FNEG V0.4S, V4.4S")
		k.exp()
		k.neon("1 + e^-gate", "FADD V0.4S, V0.4S, V26.4S")
		k.neon("gate / that", "FDIV V0.4S, V4.4S, V0.4S")
		k.neon("* up", "FMUL V0.4S, V0.4S, V5.4S")
		k.write(single, 0, "R0", "dst")
	})
	k.done()
}

func (v *vectorFileARM) sigmoidMul() {
	k := v.function("sigmoidMulNEON", "(dst, gate, up []float32)", 72,
		"dst[i] = up[i] / (1 + e^-gate[i]).",
		"Registers: V0 to V3 exponential, V5 up, "+expCommentARM)
	k.slices([]string{"dst", "gate", "up"}, "gate")
	k.expConstants()
	k.fours(func(single bool) {
		k.read(single, "R1", 4, "gate")
		k.read(single, "R2", 5, "up")
		k.neon("-gate", "FNEG V0.4S, V4.4S")
		k.exp()
		k.neon("1 + e^-gate", "FADD V0.4S, V0.4S, V26.4S")
		k.neon("up / that", "FDIV V0.4S, V5.4S, V0.4S")
		k.write(single, 0, "R0", "dst")
	})
	k.done()
}

func (v *vectorFileARM) clippedMul() {
	k := v.function("clippedMulNEON", clippedParams, 84, clippedMeaning,
		"Registers: V0 to V3 exponential, V4 g, V5 u, V8 slope, V9 limit, V10 -limit, V11 shift, "+expCommentARM)
	k.slices([]string{"dst", "gate", "up"}, "gate")
	k.argument(8, "slope", 72)
	k.argument(9, "limit", 76)
	k.neon("-limit", "FNEG V10.4S, V9.4S")
	k.argument(11, "shift", 80)
	k.expConstants()
	k.fours(func(single bool) {
		k.read(single, "R1", 4, "gate")
		k.read(single, "R2", 5, "up")
		k.neon("g", "FMIN V4.4S, V4.4S, V9.4S")
		k.neon("not above", "FMIN V5.4S, V5.4S, V9.4S")
		k.neon("u", "FMAX V5.4S, V5.4S, V10.4S")
		k.neon("slope * g", "FMUL V0.4S, V4.4S, V8.4S")
		k.neon("-slope * g", "FNEG V0.4S, V0.4S")
		k.exp()
		k.neon("1 + e^that", "FADD V0.4S, V0.4S, V26.4S")
		k.neon("g / that", "FDIV V0.4S, V4.4S, V0.4S")
		k.neon("u + shift", "FADD V5.4S, V5.4S, V11.4S")
		k.neon("product", "FMUL V0.4S, V0.4S, V5.4S")
		k.write(single, 0, "R0", "dst")
	})
	k.done()
}

// rotation reads the arguments of the rotations: R0 dst, R1 x, R2 cos, R4 sin, R3 pairs.
func (k *arm) rotation() {
	k.op("dst", "MOVD dst_base+0(FP), R0")
	k.op("x", "MOVD x_base+24(FP), R1")
	k.op("cos", "MOVD cos_base+48(FP), R2")
	k.op("sin", "MOVD sin_base+72(FP), R4")
	k.op("pairs to do", "MOVD cos_len+56(FP), R3")
}

// rotate turns V0 and V1 by the angles of V2 and V3, into V4 and V5.
func (k *arm) rotate() {
	k.neon("u cos", "FMUL V4.4S, V0.4S, V2.4S")
	k.neon("u cos - v sin", "FMLS V4.4S, V1.4S, V3.4S")
	k.neon("v cos", "FMUL V5.4S, V1.4S, V2.4S")
	k.neon("v cos + u sin", "FMLA V5.4S, V0.4S, V3.4S")
}

func (v *vectorFileARM) rotateHalves() {
	k := v.function("rotateHalvesNEON", rotateParams, 96,
		"u and v are the halves of x: dst = u cos - v sin, v cos + u sin.",
		"Registers: R0 dst, R1 x, R5 and R6 their second halves, R2 cos, R4 sin, R3 what is left; V0 u, V1 v, V2 cos, V3 sin,",
		"V4 and V5 results. Tails: the last 1 to 3 one by one.")
	k.rotation()
	k.op("second half of dst", "ADD R3<<2, R0, R5")
	k.op("second half of x", "ADD R3<<2, R1, R6")
	k.fours(func(single bool) {
		k.read(single, "R1", 0, "u")
		k.read(single, "R6", 1, "v")
		k.read(single, "R2", 2, "cos")
		k.read(single, "R4", 3, "sin")
		k.rotate()
		k.write(single, 4, "R0", "first half")
		k.write(single, 5, "R5", "second half")
	})
	k.done()
}

func (v *vectorFileARM) rotatePairs() {
	k := v.function("rotatePairsNEON", rotateParams, 96,
		"u and v are neighbours in x: dst = u cos - v sin, v cos + u sin.",
		"Registers: R0 dst, R1 x, R2 cos, R4 sin, R3 what is left; V0 u, V1 v, V2 cos, V3 sin, V4 and V5 results. Tails: the last 1",
		"to 3 one by one.")
	k.rotation()
	k.fours(func(single bool) {
		if single {
			k.read(true, "R1", 0, "u")
			k.read(true, "R1", 1, "v")
		} else {
			k.op("u, v", "VLD2.P 32(R1), [V0.S4, V1.S4]")
		}
		k.read(single, "R2", 2, "cos")
		k.read(single, "R4", 3, "sin")
		k.rotate()
		if single {
			k.write(true, 4, "R0", "u")
			k.write(true, 5, "R0", "v")
		} else {
			k.op("u, v", "VST2.P [V4.S4, V5.S4], 32(R0)")
		}
	})
	k.done()
}

func (v *vectorFileARM) halves() {
	k := v.function("halvesNEON", "(dst []byte, x []float32)", 48,
		"dst = x as half precision, to the nearest, ties to even.",
		"Registers: V0 elements, V1 halves. "+tailCommentARM)
	k.slices([]string{"dst", "x"}, "x")
	k.fours(func(single bool) {
		k.read(single, "R1", 0, "x")
		k.neon("as halves", "FCVTN V1.4H, V0.4S")
		if single {
			k.op("dst", "VST1.P V1.H[0], 2(R0)")
		} else {
			k.op("dst", "FMOVD.P F1, 8(R0)")
		}
	})
	k.done()
}

func (v *vectorFileARM) scaleByHalves() {
	k := v.function("scaleByHalvesNEON", "(dst, x []float32, halves []byte)", 72,
		"dst[i] = x[i] * halves[i], for a multiple of 8 elements.",
		"Registers: V0 and V1 elements, V2 and V3 halves; R0 to R2 slices in order, R3 what is left of them. There are no tails.")
	k.slices([]string{"dst", "x", "halves"}, "x")
	k.op("none", "CBZ R3, done")
	k.at("loop")
	k.op("8 elements", "FLDPQ.P 32(R1), (F0, F1)")
	k.op("8 halves", "FMOVQ.P 16(R2), F2")
	k.neon("upper 4 as float32", "FCVTL2 V3.4S, V2.8H")
	k.neon("lower 4", "FCVTL V2.4S, V2.4H")
	k.neon("x * halves", "FMUL V0.4S, V0.4S, V2.4S")
	k.neon("x * halves", "FMUL V1.4S, V1.4S, V3.4S")
	k.op("dst", "FSTPQ.P (F0, F1), 32(R0)")
	k.op("8 less", "SUBS $8, R3, R3")
	k.op("until all are done", "BNE loop")
	k.at("done")
	k.done()
}
