package main

import (
	"fmt"
	"math"
	"slices"
)

// vectors writes the kernels on rows of float32. They use 32-byte vectors at all levels: memory, not arithmetic, is what
// they wait for.
func vectors(s *stubs) *file {
	v := &vectorFile{file: newFile("vector", avx2), stubs: s}
	v.tailMask()
	v.sumSquares()
	v.maxOf()
	v.elementwise(elementwise{
		name: "scaleAVX2", params: "(x []float32, s float32)", argSize: 28, meaning: "x[i] *= s.", slices: []string{"x"}, length: "x",
		setup: func(k *function) { k.op("s", "VBROADCASTSS s+24(FP), Y8") },
		body:  func(k *function) { k.op("x * s", "VMULPS Y8, Y0, Y0") },
	})
	v.elementwise(elementwise{
		name: "addAVX2", params: "(dst, x []float32)", argSize: 48, meaning: "dst[i] += x[i].", slices: []string{"dst", "x"}, length: "x",
		body: func(k *function) { k.op("dst + x", "VADDPS Y1, Y0, Y0") },
	})
	v.elementwise(elementwise{
		name: "addScaledAVX2", params: "(dst, x []float32, s float32)", argSize: 52, meaning: "dst[i] += s * x[i].", slices: []string{"dst", "x"}, length: "x",
		setup: func(k *function) { k.op("s", "VBROADCASTSS s+48(FP), Y8") },
		body:  func(k *function) { k.op("dst + s * x", "VFMADD231PS Y8, Y1, Y0") },
	})
	v.elementwise(elementwise{
		name: "mulAddAVX2", params: "(dst, x, w []float32)", argSize: 72, meaning: "dst[i] += x[i] * w[i].", slices: []string{"dst", "x", "w"}, length: "x",
		body: func(k *function) { k.op("dst + x * w", "VFMADD231PS Y2, Y1, Y0") },
	})
	v.elementwise(elementwise{
		name: "addPositiveAVX2", params: "(dst, x []float32, s float32)", argSize: 52, meaning: "dst[i] += s * max(0, x[i]).", slices: []string{"dst", "x"}, length: "x",
		setup: func(k *function) {
			k.op("s", "VBROADCASTSS s+48(FP), Y8")
			k.op("0", "VPXOR Y10, Y10, Y10")
		},
		body: func(k *function) {
			k.op("x, or 0 if that is more", "VMAXPS Y1, Y10, Y1")
			k.op("dst + s * that", "VFMADD231PS Y8, Y1, Y0")
		},
	})
	v.elementwise(elementwise{
		name: "scaleMulAVX2", params: "(dst, x, w []float32, scale float32)", argSize: 76, meaning: "dst[i] = x[i] * scale * w[i].", slices: []string{"dst:", "x", "w"}, length: "x",
		setup: func(k *function) { k.op("scale", "VBROADCASTSS scale+72(FP), Y8") },
		body: func(k *function) {
			k.op("x * scale", "VMULPS Y8, Y1, Y0")
			k.op("* w", "VMULPS Y2, Y0, Y0")
		},
	})
	v.rowwise("copyRowsAVX2", "dst[r][c] = x[r][c].", nil)
	v.rowwise("addRowsAVX2", "dst[r][c] += x[r][c].", func(k *function) { k.op("dst + x", "VADDPS Y1, Y0, Y0") })
	v.exponential()
	v.siluMul()
	v.sigmoidMul()
	v.clippedMul()
	v.expSum()
	v.rotateHalves()
	v.rotatePairs()
	v.halves()
	v.halvesOfE4M3()
	return v.file
}

type vectorFile struct {
	*file
	stubs *stubs

	least, most, log2e, ln2Hi, ln2Lo, one, bias, sign string
	coefficients                                      [5]string // c2 to c6
}

// tailMask defines the masks of the last elements: 8 words of ones, then 8 of zeros. n lanes are on from 4*(8-n) on.
func (v *vectorFile) tailMask() {
	v.data.WriteString("\n// 8 lanes that are on, 8 that are off\n")
	for i := range 16 {
		word := "0xffffffff"
		if i >= 8 {
			word = "0"
		}
		fmt.Fprintf(&v.data, "DATA lanes<>+%d(SB)/4, $%s\n", 4*i, word)
	}
	v.data.WriteString("GLOBL lanes<>(SB), RODATA|NOPTR, $64\n")
}

// pointers are the registers of slices, in the order of a kernel's parameters.
var pointers = []string{"DI", "SI", "DX"}

// slices reads the slices' addresses and puts the length of one into CX.
func (v *vectorFile) slices(k *function, names []string, length string) {
	for i, name := range names {
		k.op(name, "MOVQ %s_base+%d(FP), %s", name, 24*i, pointers[i])
	}
	for i, name := range names {
		if name == length {
			k.op("elements to do", "MOVQ %s_len+%d(FP), CX", name, 24*i+8)
		}
	}
}

// eight goes through CX elements, 8 at a time, and the last ones under a mask: body gets them in both forms. Y9 is the
// mask, R8 its address.
func (v *vectorFile) eight(k *function, pointers []string, body func(masked bool)) {
	k.op("eight are left?", "SUBQ $8, CX")
	k.op("no", "JLT tail")
	k.at("loop")
	body(false)
	for _, p := range pointers {
		k.op("next 8", "ADDQ $32, %s", p)
	}
	k.op("8 less", "SUBQ $8, CX")
	k.op("while there are 8", "JGE loop")
	k.at("tail")
	k.op("0 to 7 are left", "ADDQ $8, CX")
	k.op("none", "JEQ done")
	v.mask(k, "R8", "Y9")
	body(true)
	k.at("done")
}

// mask turns on the first CX lanes.
func (v *vectorFile) mask(k *function, address, mask string) {
	k.op("masks", "LEAQ lanes<>+32(SB), %s", address)
	k.op("CX is spent", "SHLQ $2, CX")
	k.op("as many lanes before the zeros", "SUBQ CX, %s", address)
	k.op("lanes that are left", "VMOVDQU (%s), %s", address, mask)
}

func (v *vectorFile) read(k *function, masked bool, pointer, to, meaning string) {
	if masked {
		k.op(meaning+", 0 beyond", "VMASKMOVPS (%s), Y9, %s", pointer, to)
	} else {
		k.op(meaning, "VMOVUPS (%s), %s", pointer, to)
	}
}

func (v *vectorFile) write(k *function, masked bool, from, pointer, meaning string) {
	if masked {
		k.op(meaning, "VMASKMOVPS %s, Y9, (%s)", from, pointer)
	} else {
		k.op(meaning, "VMOVUPS %s, (%s)", from, pointer)
	}
}

const tailComment = "DI, SI, DX slices in order, CX what is left of them, R8 address of the mask. Tails: the last 1 to 7 under it."

func (v *vectorFile) function(name, params string, argSize int, comment ...string) *function {
	return v.begin(v.stubs, avx2, signature{name, params, argSize, 0}, comment...)
}

// elementwise is a kernel whose results stand alone: the slices' elements come in Y0, Y1, Y2 and the result, for the
// first slice, is left in Y0. A slice marked ":" is only written.
type elementwise struct {
	name, params string
	argSize      int
	meaning      string
	slices       []string
	length       string // the slice whose length counts
	setup, body  func(k *function)
}

// elementwise writes the kernel.
func (v *vectorFile) elementwise(e elementwise) {
	k := v.function(e.name, e.params, e.argSize, e.meaning, "Registers: Y0 to Y2 elements, Y8 the factor, Y9 mask. "+tailComment)
	names := slices.Clone(e.slices)
	onlyWritten := names[0][len(names[0])-1] == ':'
	if onlyWritten {
		names[0] = names[0][:len(names[0])-1]
	}
	v.slices(k, names, e.length)
	if e.setup != nil {
		e.setup(k)
	}
	v.eight(k, pointers[:len(names)], func(masked bool) {
		for i, name := range names {
			if i > 0 || !onlyWritten {
				v.read(k, masked, pointers[i], fmt.Sprintf("Y%d", i), name)
			}
		}
		e.body(k)
		v.write(k, masked, "Y0", pointers[0], names[0])
	})
	k.end()
}

// reduce combines the 8 lanes of Y0 into the result.
func (v *vectorFile) reduce(k *function, op string, result int) {
	k.op("lanes 4 to 7", "VEXTRACTF128 $1, Y0, X1")
	k.op("4 are left", "%sPS X1, X0, X0", op)
	k.op("lanes 2 and 3", "VPERMILPS $0x4e, X0, X1")
	k.op("2 are left", "%sPS X1, X0, X0", op)
	k.op("lane 1", "VPERMILPS $0xb1, X0, X1")
	k.op("1 is left", "%sSS X1, X0, X0", op)
	k.op("result", "VMOVSS X0, ret+%d(FP)", result)
}

func (v *vectorFile) sumSquares() {
	k := v.function("sumSquaresAVX2", "(x []float32) float32", 28,
		"Sum of x[i]^2: 32 lanes over 32 elements a round, the 8s that are left go to the first 8 lanes, then a tree.",
		"Registers: Y0 to Y3 sums, Y4 to Y7 elements, Y9 mask. "+tailComment)
	k.op("x", "MOVQ x_base+0(FP), DI")
	k.op("elements to do", "MOVQ x_len+8(FP), CX")
	for i := range 4 {
		k.zero(i, "no squares yet")
	}
	k.op("32 are left?", "SUBQ $32, CX")
	k.op("no", "JLT few")
	k.at("many")
	for i := range 4 {
		k.op("8 elements", "VMOVUPS %s, Y%d", mem(32*i, "DI"), 4+i)
		k.op("their squares", "VFMADD231PS Y%d, Y%d, Y%d", 4+i, 4+i, i)
	}
	k.op("next 32", "ADDQ $128, DI")
	k.op("32 less", "SUBQ $32, CX")
	k.op("while there are 32", "JGE many")
	k.at("few")
	k.op("0 to 31 are left", "ADDQ $32, CX")
	v.eight(k, []string{"DI"}, func(masked bool) {
		v.read(k, masked, "DI", "Y4", "elements")
		k.op("their squares", "VFMADD231PS Y4, Y4, Y0")
	})
	k.op("16 lanes", "VADDPS Y2, Y0, Y0")
	k.op("16 lanes", "VADDPS Y3, Y1, Y1")
	k.op("8 lanes", "VADDPS Y1, Y0, Y0")
	v.reduce(k, "VADD", 24)
	k.end()
}

func (v *vectorFile) maxOf() {
	v.least = v.constant("minusInfinity", "-Inf", math.Float32bits(float32(math.Inf(-1))))
	k := v.function("maxOfAVX2", "(x []float32) float32", 28,
		"Largest element, NaN aside; -Inf for none.",
		"Registers: Y0 largest, Y1 elements, Y2 -Inf, Y9 mask. "+tailComment)
	k.op("x", "MOVQ x_base+0(FP), DI")
	k.op("elements to do", "MOVQ x_len+8(FP), CX")
	k.op("-Inf", "VMOVUPS %s, Y2", v.least)
	k.op("nothing yet", "VMOVAPS Y2, Y0")
	v.eight(k, []string{"DI"}, func(masked bool) {
		v.read(k, masked, "DI", "Y1", "elements")
		if masked {
			k.op("-Inf beyond", "VBLENDVPS Y9, Y1, Y2, Y1")
		}
		k.op("larger ones; the old one if x is NaN", "VMAXPS Y0, Y1, Y0")
	})
	v.reduce(k, "VMAX", 24)
	k.end()
}

// exponential defines the constants of exp.go.
func (v *vectorFile) exponential() {
	float := func(name, meaning string, value float32) string {
		return v.constant(name, meaning, math.Float32bits(value))
	}
	v.least = float("least", "e^x is 0 below", -104)
	v.most = float("most", "e^x is infinite above", 89)
	v.log2e = float("log2e", "1/ln 2", 0x1.715476p+0)
	v.ln2Hi = float("ln2hi", "ln 2, first 17 bits", 0x1.62e4p-1)
	v.ln2Lo = float("ln2lo", "ln 2, the rest", 0x1.7f7d1cp-20)
	for i, c := range []float32{0x1.fffffcp-2, 0x1.55549p-3, 0x1.5558f4p-5, 0x1.123a6cp-7, 0x1.6a2352p-10} {
		v.coefficients[i] = float(fmt.Sprintf("c%d", i+2), fmt.Sprintf("coefficient of r^%d", i+2), c)
	}
	v.one = float("one", "1", 1)
	v.bias = v.constant("bias", "bias of exponents", 127)
	v.sign = v.constant("sign", "sign bit", 1<<31)
}

// exp replaces Y0 by e^Y0, as exp.go has it. Y1 to Y3 are spent; Y14 and Y15 hold the bounds.
func (v *vectorFile) exp(k *function) {
	k.op("not below; NaN stays", "VMAXPS Y0, Y14, Y0")
	k.op("not above; NaN stays", "VMINPS Y0, Y15, Y0")
	k.op("x / ln 2", "VMULPS %s, Y0, Y1", v.log2e)
	k.op("n, the nearest integer", "VROUNDPS $0, Y1, Y1")
	k.op("r = x - n * first part of ln 2", "VFNMADD231PS %s, Y1, Y0", v.ln2Hi)
	k.op("r -= n * second part", "VFNMADD231PS %s, Y1, Y0", v.ln2Lo)
	k.op("p = c6", "VMOVUPS %s, Y2", v.coefficients[4])
	for i := 3; i >= 0; i-- {
		k.op(fmt.Sprintf("p = p * r + c%d", i+2), "VFMADD213PS %s, Y0, Y2", v.coefficients[i])
	}
	k.op("p * r", "VMULPS Y0, Y2, Y2")
	k.op("p = p * r^2 + r", "VFMADD213PS Y0, Y0, Y2")
	k.op("e^r", "VADDPS %s, Y2, Y0", v.one)
	k.op("n as integer", "VCVTPS2DQ Y1, Y1")
	k.op("n / 2", "VPSRAD $1, Y1, Y3")
	k.op("the other half", "VPSUBD Y3, Y1, Y1")
	k.op("exponent", "VPADDD %s, Y3, Y3", v.bias)
	k.op("2^(n/2)", "VPSLLD $23, Y3, Y3")
	k.op("exponent", "VPADDD %s, Y1, Y1", v.bias)
	k.op("2^the other half", "VPSLLD $23, Y1, Y1")
	k.op("e^r * 2^(n/2)", "VMULPS Y3, Y0, Y0")
	k.op("e^x", "VMULPS Y1, Y0, Y0")
}

func (v *vectorFile) expBounds(k *function) {
	k.op("bounds of x", "VMOVUPS %s, Y14", v.least)
	k.op("bounds of x", "VMOVUPS %s, Y15", v.most)
}

func (v *vectorFile) expSum() {
	k := v.function("expSumAVX2", "(dst, x []float32, shift float32) float32", 60,
		"dst[i] = e^(x[i] - shift); returns their sum: 8 lanes, then a tree.",
		"Registers: Y0 to Y3 exponential, Y5 sum, Y8 shift, Y9 mask, Y14 and Y15 bounds. "+tailComment)
	v.slices(k, []string{"dst", "x"}, "x")
	k.op("shift", "VBROADCASTSS shift+48(FP), Y8")
	v.expBounds(k)
	k.zero(5, "no sum yet")
	v.eight(k, pointers[:2], func(masked bool) {
		v.read(k, masked, "SI", "Y0", "x")
		k.op("x - shift", "VSUBPS Y8, Y0, Y0")
		v.exp(k)
		v.write(k, masked, "Y0", "DI", "dst")
		if masked {
			k.op("0 beyond", "VANDPS Y9, Y0, Y0")
		}
		k.op("sum", "VADDPS Y0, Y5, Y5")
	})
	k.op("8 lanes", "VMOVAPS Y5, Y0")
	v.reduce(k, "VADD", 56)
	k.end()
}

func (v *vectorFile) siluMul() {
	k := v.function("siluMulAVX2", "(dst, gate, up []float32)", 72,
		"dst[i] = gate[i] / (1 + e^-gate[i]) * up[i].",
		"Registers: Y0 to Y3 exponential, Y4 gate, Y5 up, Y9 mask, Y14 and Y15 bounds. "+tailComment)
	v.slices(k, []string{"dst", "gate", "up"}, "gate")
	v.expBounds(k)
	v.eight(k, pointers[:3], func(masked bool) {
		v.read(k, masked, "SI", "Y4", "gate")
		v.read(k, masked, "DX", "Y5", "up")
		k.op("-gate", "VXORPS %s, Y4, Y0", v.sign)
		v.exp(k)
		k.op("1 + e^-gate", "VADDPS %s, Y0, Y0", v.one)
		k.op("gate / that", "VDIVPS Y0, Y4, Y0")
		k.op("* up", "VMULPS Y5, Y0, Y0")
		v.write(k, masked, "Y0", "DI", "dst")
	})
	k.end()
}

func (v *vectorFile) sigmoidMul() {
	k := v.function("sigmoidMulAVX2", "(dst, gate, up []float32)", 72,
		"dst[i] = up[i] / (1 + e^-gate[i]).",
		"Registers: Y0 to Y3 exponential, Y5 up, Y9 mask, Y14 and Y15 bounds. "+tailComment)
	v.slices(k, []string{"dst", "gate", "up"}, "gate")
	v.expBounds(k)
	v.eight(k, pointers[:3], func(masked bool) {
		v.read(k, masked, "SI", "Y0", "gate")
		v.read(k, masked, "DX", "Y5", "up")
		k.op("-gate", "VXORPS %s, Y0, Y0", v.sign)
		v.exp(k)
		k.op("1 + e^-gate", "VADDPS %s, Y0, Y0", v.one)
		k.op("up / that", "VDIVPS Y0, Y5, Y0")
		v.write(k, masked, "Y0", "DI", "dst")
	})
	k.end()
}

const (
	clippedParams  = "(dst, gate, up []float32, slope, limit, shift float32)"
	clippedMeaning = "dst[i] = g / (1 + e^(-slope * g)) * (u + shift), g = min(gate[i], limit), u = up[i] within ±limit."
)

func (v *vectorFile) clippedMul() {
	k := v.function("clippedMulAVX2", clippedParams, 84, clippedMeaning,
		"Registers: Y0 to Y3 exponential, Y4 g, Y5 u, Y8 slope, Y9 mask, Y10 limit, Y11 -limit, Y12 shift, Y14 and Y15 bounds. "+tailComment)
	v.slices(k, []string{"dst", "gate", "up"}, "gate")
	k.op("slope", "VBROADCASTSS slope+72(FP), Y8")
	k.op("limit", "VBROADCASTSS limit+76(FP), Y10")
	k.op("-limit", "VXORPS %s, Y10, Y11", v.sign)
	k.op("shift", "VBROADCASTSS shift+80(FP), Y12")
	v.expBounds(k)
	v.eight(k, pointers[:3], func(masked bool) {
		v.read(k, masked, "SI", "Y4", "gate")
		v.read(k, masked, "DX", "Y5", "up")
		k.op("g; NaN stays", "VMINPS Y4, Y10, Y4")
		k.op("not above; NaN stays", "VMINPS Y5, Y10, Y5")
		k.op("u; NaN stays", "VMAXPS Y5, Y11, Y5")
		k.op("slope * g", "VMULPS Y4, Y8, Y0")
		k.op("-slope * g", "VXORPS %s, Y0, Y0", v.sign)
		v.exp(k)
		k.op("1 + e^that", "VADDPS %s, Y0, Y0", v.one)
		k.op("g / that", "VDIVPS Y0, Y4, Y0")
		k.op("u + shift", "VADDPS Y12, Y5, Y5")
		k.op("product", "VMULPS Y5, Y0, Y0")
		v.write(k, masked, "Y0", "DI", "dst")
	})
	k.end()
}

const rotateParams = "(dst, x, cos, sin []float32)"

func (v *vectorFile) rotateHalves() {
	k := v.function("rotateHalvesAVX2", rotateParams, 96,
		"u and v are the halves of x: dst = u cos - v sin, v cos + u sin.",
		"Registers: DI dst, SI x, R9 and R10 their second halves, DX cos, R11 sin; Y0 u, Y1 v, Y2 cos, Y3 sin, Y9 mask.",
		"CX what is left of them, R8 address of the mask. Tails: the last 1 to 7 under it.")
	k.op("dst", "MOVQ dst_base+0(FP), DI")
	k.op("x", "MOVQ x_base+24(FP), SI")
	k.op("cos", "MOVQ cos_base+48(FP), DX")
	k.op("sin", "MOVQ sin_base+72(FP), R11")
	k.op("pairs to do", "MOVQ cos_len+56(FP), CX")
	k.op("second half of dst", "LEAQ (DI)(CX*4), R9")
	k.op("second half of x", "LEAQ (SI)(CX*4), R10")
	v.eight(k, []string{"DI", "SI", "DX", "R11", "R9", "R10"}, func(masked bool) {
		v.read(k, masked, "SI", "Y0", "u")
		v.read(k, masked, "R10", "Y1", "v")
		v.read(k, masked, "DX", "Y2", "cos")
		v.read(k, masked, "R11", "Y3", "sin")
		k.op("v sin", "VMULPS Y3, Y1, Y4")
		k.op("u cos - v sin", "VFMSUB231PS Y2, Y0, Y4")
		k.op("u sin", "VMULPS Y3, Y0, Y5")
		k.op("v cos + u sin", "VFMADD231PS Y2, Y1, Y5")
		v.write(k, masked, "Y4", "DI", "first half")
		v.write(k, masked, "Y5", "R9", "second half")
	})
	k.end()
}

func (v *vectorFile) rotatePairs() {
	k := v.function("rotatePairsAVX2", rotateParams, 96,
		"u and v are neighbours in x: dst = u cos - v sin, v cos + u sin. Four pairs are a round, the last ones under masks.",
		"Registers: DI dst, SI x, DX cos, R11 sin; Y0 pairs, Y2 cos, Y3 sin, each twice; Y9 and X8 masks, CX what is left,",
		"R8 address of masks.")
	k.op("dst", "MOVQ dst_base+0(FP), DI")
	k.op("x", "MOVQ x_base+24(FP), SI")
	k.op("cos", "MOVQ cos_base+48(FP), DX")
	k.op("sin", "MOVQ sin_base+72(FP), R11")
	k.op("pairs to do", "MOVQ cos_len+56(FP), CX")
	body := func(masked bool) {
		v.read(k, masked, "SI", "Y0", "4 pairs")
		for i, p := range []string{"DX", "R11"} {
			name := []string{"cos", "sin"}[i]
			if masked {
				k.op(name, "VMASKMOVPS (%s), X8, X%d", p, 2+i)
				k.op("to even lanes", "VPMOVZXDQ X%d, Y%d", 2+i, 2+i)
			} else {
				k.op(name+" to even lanes", "VPMOVZXDQ (%s), Y%d", p, 2+i)
			}
			k.op("and to odd ones", "VMOVSLDUP Y%d, Y%d", 2+i, 2+i)
		}
		k.op("v, u", "VPERMILPS $0xb1, Y0, Y1")
		k.op("v sin, u sin", "VMULPS Y3, Y1, Y1")
		k.op("u cos - v sin, v cos + u sin", "VFMADDSUB213PS Y1, Y2, Y0")
		v.write(k, masked, "Y0", "DI", "4 pairs")
	}
	k.op("four are left?", "SUBQ $4, CX")
	k.op("no", "JLT tail")
	k.at("loop")
	body(false)
	k.op("next 4", "ADDQ $32, DI")
	k.op("next 4", "ADDQ $32, SI")
	k.op("next 4", "ADDQ $16, DX")
	k.op("next 4", "ADDQ $16, R11")
	k.op("4 less", "SUBQ $4, CX")
	k.op("while there are 4", "JGE loop")
	k.at("tail")
	k.op("0 to 3 are left", "ADDQ $4, CX")
	k.op("none", "JEQ done")
	k.op("masks", "LEAQ lanes<>+32(SB), R8")
	k.op("bytes of cos", "SHLQ $2, CX")
	k.op("as many lanes before the zeros", "SUBQ CX, R8")
	k.op("lanes of cos", "VMOVDQU (R8), X8")
	k.op("twice as many", "SUBQ CX, R8")
	k.op("lanes of x", "VMOVDQU (R8), Y9")
	body(true)
	k.at("done")
	k.end()
}

func (v *vectorFile) halves() {
	k := v.function("halvesAVX2", "(dst []byte, x []float32)", 48,
		"dst = x as half precision, to the nearest, ties to even.",
		"Registers: DI dst, SI x, CX what is left, R8 address of the mask; Y0 elements, X0 halves, Y9 mask. Tails: 4, 2 and 1 elements as the count's bits say.")
	v.slices(k, []string{"dst", "x"}, "x")
	k.op("eight are left?", "SUBQ $8, CX")
	k.op("no", "JLT tail")
	k.at("loop")
	k.op("8 elements", "VMOVUPS (SI), Y0")
	k.op("as halves", "VCVTPS2PH $0, Y0, (DI)")
	k.op("next 8", "ADDQ $32, SI")
	k.op("next 8", "ADDQ $16, DI")
	k.op("8 less", "SUBQ $8, CX")
	k.op("while there are 8", "JGE loop")
	k.at("tail")
	k.op("0 to 7 are left", "ADDQ $8, CX")
	k.op("none", "JEQ done")
	k.op("for its bits", "MOVQ CX, R10")
	v.mask(k, "R8", "Y9")
	k.op("x, 0 beyond", "VMASKMOVPS (SI), Y9, Y0")
	k.op("as halves", "VCVTPS2PH $0, Y0, X0")
	k.op("4 or more?", "TESTQ $4, R10")
	k.op("no", "JEQ two")
	k.op("4 halves", "VMOVQ X0, (DI)")
	k.op("the others", "VPSRLDQ $8, X0, X0")
	k.op("next", "ADDQ $8, DI")
	k.at("two")
	k.op("2 or more?", "TESTQ $2, R10")
	k.op("no", "JEQ onehalf")
	k.op("2 halves", "VMOVD X0, (DI)")
	k.op("the other", "VPSRLDQ $4, X0, X0")
	k.op("next", "ADDQ $4, DI")
	k.at("onehalf")
	k.op("one more?", "TESTQ $1, R10")
	k.op("no", "JEQ done")
	k.op("1 half", "VPEXTRW $0, X0, (DI)")
	k.at("done")
	k.end()
}
