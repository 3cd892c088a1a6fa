package main

// halvesOfE4M3 unpacks FP8 codes: see hardware/cpu/linear_fp8.go.
func (v *vectorFile) halvesOfE4M3() {
	kept := v.constant("keptE4M3", "the bits of a half that come from a code", 0xbfffbfff)
	k := v.function("halvesOfE4M3AVX2", "(dst, codes []byte)", 48,
		"dst = codes as halves of 1/256 of their value.",
		"Registers: DI dst, SI codes, CX what is left; Y0 and Y1 codes, Y2 the mask. There are no tails: codes come by 32.")
	v.slices(k, []string{"dst", "codes"}, "codes")
	k.op("all bits but the one behind the sign", "VMOVDQU %s, Y2", kept)
	k.at("loop")
	for i := range 2 {
		k.op("16 codes, the sign in front", "VPMOVSXBW %s, Y%d", mem(16*i, "SI"), i)
	}
	for i := range 2 {
		k.op("exponent and mantissa to their place", "VPSLLW $7, Y%d, Y%d", i, i)
	}
	for i := range 2 {
		k.op("the sign once", "VPAND Y2, Y%d, Y%d", i, i)
	}
	for i := range 2 {
		k.op("16 halves", "VMOVDQU Y%d, %s", i, mem(32*i, "DI"))
	}
	k.op("next 32", "ADDQ $32, SI")
	k.op("next 32", "ADDQ $64, DI")
	k.op("32 less", "SUBQ $32, CX")
	k.op("until none is left", "JNZ loop")
	k.end()
}
