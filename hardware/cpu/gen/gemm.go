package main

import "fmt"

const gemmParams = "(dst, x *float32, panel *byte, k, dstStride, xStride, add int)"

// element is a float format of panels.
type element struct {
	name  string
	bytes int
}

var elements = []element{{"F32", 4}, {"F16", 2}, {"BF16", 2}}

// gemm writes the float kernels. They serve linears and attention.
func gemm(s *stubs, set isa) *file {
	f := newFile("gemm", set)
	for _, e := range elements {
		var names []string
		for n := 1; n <= set.maxRows; n++ {
			gemmRows(f, s, set, e, n)
			names = append(names, fmt.Sprintf("gemm%s%sRows%d", e.name, set.suffix, n))
		}
		s.table("gemm"+e.name+set.suffix, "floatKernel", "the kernels of "+e.name+" panels", names)
	}
	return f
}

// gemmRows is one chain of fused multiply-adds per result, over k ascending.
func gemmRows(f *file, s *stubs, set isa, e element, n int) {
	sig := signature{fmt.Sprintf("gemm%s%sRows%d", e.name, set.suffix, n), gemmParams, 56, 0}
	k := f.begin(s, set, sig,
		"dst[r][c] (+)= sum over i of x[r][i] * panel[i][c], for 16 columns, i ascending. Strides are in bytes. Four i are a",
		"round, the last one to three go one by one.",
		fmt.Sprintf("Registers: %s0 up results by row and half, then panel and x; DI dst, BX x, AX panel, DX what is left of k.", set.prefix))
	label := fmt.Sprintf("gemm%srows%d", e.name, n)
	xRows := rows{base: "BX", base6: "R8", stride: "CX", stride3: "R12", stride5: "R13"}
	sum := func(r, h int) string { return k.v(r*k.halves() + h) }
	w := n * k.halves()
	x := k.v(w + k.halves())
	each := func(do func(r, h int)) {
		for r := range n {
			for h := range k.halves() {
				do(r, h)
			}
		}
	}

	k.op("results", "MOVQ dst+0(FP), DI")
	k.op("rows", "MOVQ x+8(FP), BX")
	k.op("panel", "MOVQ panel+16(FP), AX")
	k.op("its rows", "MOVQ k+24(FP), DX")
	k.op("bytes between rows of dst", "MOVQ dstStride+32(FP), SI")
	k.op("bytes between rows of x", "MOVQ xStride+40(FP), CX")
	dstRows.setup(k, n)
	xRows.setup(k, n)
	each(func(r, h int) { k.zero(r*k.halves()+h, fmt.Sprintf("row %d = 0", r)) })
	k.op("add to dst?", "CMPQ add+48(FP), $0")
	k.op("no", "JEQ %sstart", label)
	each(func(r, h int) {
		k.op(fmt.Sprintf("row %d as it is", r), "VMOVUPS %s, %s", dstRows.at(r, h*k.bytes), sum(r, h))
	})
	step := func(u int) {
		for h := range k.halves() {
			k.loadElements(e, mem((u*16+h*k.bytes/4)*e.bytes, "AX"), w+h)
		}
		for r := range n {
			if k.wide() {
				k.op(fmt.Sprintf("row %d += x * panel", r), "VFMADD231PS.BCST %s, %s, %s", xRows.at(r, 4*u), k.v(w), sum(r, 0))
				continue
			}
			k.op(fmt.Sprintf("x of row %d", r), "VBROADCASTSS %s, %s", xRows.at(r, 4*u), x)
			for h := range k.halves() {
				k.op(fmt.Sprintf("row %d += x * panel", r), "VFMADD231PS %s, %s, %s", x, k.v(w+h), sum(r, h))
			}
		}
	}
	next := func(count int) {
		k.op("next of the panel", "ADDQ $%d, AX", 16*e.bytes*count)
		k.op("next of x", "ADDQ $%d, BX", 4*count)
		if n > 6 {
			k.op("and in rows from 6 on", "ADDQ $%d, R8", 4*count)
		}
	}
	k.at(label + "start")
	k.op("four are left?", "SUBQ $4, DX")
	k.op("no", "JLT %stail", label)
	k.at(label + "four")
	if e.bytes == 2 { // float32 goes by too fast to gain
		k.prefetch(n, 4*16*e.bytes)
	}
	for u := range 4 {
		step(u)
	}
	next(4)
	k.op("four less", "SUBQ $4, DX")
	k.op("while there are four", "JGE %sfour", label)
	k.at(label + "tail")
	k.op("0 to 3 are left", "ADDQ $4, DX")
	k.op("none", "JEQ %sdone", label)
	k.at(label + "one")
	step(0)
	next(1)
	k.op("one less", "DECQ DX")
	k.op("until all are done", "JNZ %sone", label)
	k.at(label + "done")
	each(func(r, h int) {
		k.op(fmt.Sprintf("row %d is done", r), "VMOVUPS %s, %s", sum(r, h), dstRows.at(r, h*k.bytes))
	})
	k.end()
}

// loadElements reads a vector's worth of elements as float32.
func (k *function) loadElements(e element, address string, to int) {
	switch e.name {
	case "F32":
		k.op("panel", "VMOVUPS %s, %s", address, k.v(to))
	case "F16":
		k.op("panel", "VCVTPH2PS %s, %s", address, k.v(to))
	case "I8":
		k.op("panel", "VPMOVSXBD %s, %s", address, k.v(to))
		k.op("as float32", "VCVTDQ2PS %s, %s", k.v(to), k.v(to))
	default:
		k.op("panel", "VPMOVZXWD %s, %s", address, k.v(to))
		k.op("upper halves of float32", "VPSLLD $16, %s, %s", k.v(to), k.v(to))
	}
}
