package main

import "fmt"

// linearBF16 writes the kernels of BF16 that multiply bfloat16 with bfloat16, two products an element.
func linearBF16(s *stubs, set isa) *file {
	f := newFile("linear_bf16", set)
	f.linears(s, set, "BF16", func(n int) { bf16Pairs(f, s, set, n) })
	return f
}

// bf16Pairs keeps two sums a row, of even and of odd pairs: one alone would wait for itself when there are few rows.
func bf16Pairs(f *file, s *stubs, set isa, n int) {
	k := beginLinear(f, s, set, linearHead{name: "BF16", rows: n, inRegisters: true, comment: []string{
		"dst[r][c] = sum over even pairs of elements + sum over odd ones, each in order, for 16 columns. blocks counts eights of",
		"elements, at least 1; there are no tails. Layouts: linear_bf16_pairs.go.",
		"Registers: Z0 up sums of even pairs by row, then of odd pairs, weights (2).",
	}})
	k.each(func(r, h int) { k.zero(k.sum(r, h), fmt.Sprintf("row %d = 0", r)) })
	k.at(k.label + "eight")
	k.prefetch(n, 256)
	for pair := range 4 {
		w := k.tmp + pair%2
		k.load(w, mem(64*pair, "AX"), "2 weights of each column")
		for r := range n {
			sum := []int{k.sum(r, 0), k.float(r, 0)}[pair%2]
			k.encoded(fmt.Sprintf("row %d += 2 products", r), evexDotHalves(halves{base: "BX", offset: 4 * (pair*n + r)}, w, sum))
		}
	}
	k.op("next weights", "ADDQ $256, AX")
	k.op("next eight of x", "ADDQ $%d, BX", 16*n)
	k.op("one eight less", "DECQ DX")
	k.op("until all are done", "JNZ %seight", k.label)
	k.each(func(r, h int) {
		k.op(fmt.Sprintf("both sums of row %d", r), "VADDPS %s, %s, %s", k.v(k.float(r, h)), k.v(k.sum(r, h)), k.v(k.float(r, h)))
	})
	k.finish()
}
