package main

// rowwise writes a kernel on rows that lie apart: between rows nothing waits for anything, so that the machine fetches
// several rows at once. body leaves the result in Y0, of dst in Y0 and x in Y1; without one, x is the result.
func (v *vectorFile) rowwise(name, meaning string, body func(k *function)) {
	k := v.function(name, "(dst []float32, dstStride int, x []float32, xStride, rows, cols int)", 80, meaning+" Strides are in elements.",
		"DI and SI a row's places, R9 and R10 strides in bytes, R11 rows left, DX columns, CX what is left of them, R12 and R13 the row's",
		"start, R8 address of the mask. Tails: the last 1 to 7 columns under it.")
	k.label = name
	k.op("dst", "MOVQ dst_base+0(FP), R12")
	k.op("its stride", "MOVQ dstStride+24(FP), R9")
	k.op("x", "MOVQ x_base+32(FP), R13")
	k.op("its stride", "MOVQ xStride+56(FP), R10")
	k.op("rows to do", "MOVQ rows+64(FP), R11")
	k.op("their columns", "MOVQ cols+72(FP), DX")
	k.op("in bytes", "SHLQ $2, R9")
	k.op("in bytes", "SHLQ $2, R10")
	k.op("the tail's columns", "MOVQ DX, CX")
	k.op("are less than 8", "ANDQ $7, CX")
	v.mask(k, "R8", "Y9")
	k.op("any rows?", "TESTQ R11, R11")
	k.op("none", "JEQ %sdone", k.label)
	one := func(masked bool) {
		to := "Y0"
		if body != nil {
			v.read(k, masked, "DI", "Y0", "dst")
			to = "Y1"
		}
		v.read(k, masked, "SI", to, "x")
		if body != nil {
			body(k)
		}
		v.write(k, masked, "Y0", "DI", "the row's next columns")
	}
	k.at(k.label + "row")
	k.op("a row", "MOVQ R12, DI")
	k.op("of both", "MOVQ R13, SI")
	k.op("all its columns", "MOVQ DX, CX")
	k.op("eight are left?", "SUBQ $8, CX")
	k.op("no", "JLT %stail", k.label)
	k.at(k.label + "eight")
	one(false)
	k.op("next 8", "ADDQ $32, DI")
	k.op("next 8", "ADDQ $32, SI")
	k.op("8 less", "SUBQ $8, CX")
	k.op("while there are 8", "JGE %seight", k.label)
	k.at(k.label + "tail")
	k.op("0 to 7 are left", "ADDQ $8, CX")
	k.op("none", "JEQ %snext", k.label)
	one(true)
	k.at(k.label + "next")
	k.op("next row", "ADDQ R9, R12")
	k.op("next row", "ADDQ R10, R13")
	k.op("one row less", "DECQ R11")
	k.op("until all are done", "JNZ %srow", k.label)
	k.at(k.label + "done")
	k.end()
}
