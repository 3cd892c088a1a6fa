package main

// cache writes the kernels on rows of the cache that are no products. They use 32-byte vectors at all levels.
func cache(s *stubs) *file {
	f := newFile("cache", avx2)
	quantizeBlocks(f, s)
	return f
}

// quantizeBlocks quantizes whole blocks as files have them: a half, the scale, and 32 bytes. Quotients are rounded as
// quant.Q8_0 does it, ties away from zero.
func quantizeBlocks(f *file, s *stubs) {
	p := newQuantizer(f)
	sign := f.constant("sign", "the sign bit", 0x80000000)
	one := f.constant("one", "1", 0x3f800000)
	half := f.constant("half", "1/2", 0x3f000000)
	k := f.begin(s, avx2, signature{"quantizeQ8_0AVX2", "(dst *byte, x *float32, blocks int)", 24, 0},
		"A row as blocks of Q8_0.",
		"Registers: DI dst, DX x, CX blocks left, R11 and AX free; Y0 to Y3 elements, Y4, Y5, Y7 and Y8 free, Y6 the reciprocal.",
		"There are no tails.")
	k.op("blocks", "MOVQ dst+0(FP), DI")
	k.op("elements", "MOVQ x+8(FP), DX")
	k.op("blocks to do", "MOVQ blocks+16(FP), CX")
	k.at("block")
	p.loadRun(k)
	p.largest(k)
	p.reduce(k)
	k.op("largest finite", "CMPL R11, $0x7f7fffff")
	k.op("not finite", "JHI broken")
	k.op("127", "MOVL $0x42fe0000, AX")
	k.op("as float32", "VMOVD AX, X5")
	k.op("scale", "VDIVSS X5, X4, X6")
	k.op("as a half, to the nearest", "VCVTPS2PH $0, X6, X7")
	k.op("stored", "VPEXTRW $0, X7, (DI)")
	k.op("1", "VMOVSS %s, X5", one)
	k.op("1/scale", "VDIVSS X6, X5, X6")
	k.op("its bits", "VMOVD X6, AX")
	k.op("finite?", "CMPL AX, $0x7f7fffff")
	k.op("yes", "JLS quantize")
	k.op("0 for a scale so small", "VPXOR X6, X6, X6")
	k.at("quantize")
	k.op("in all lanes", "VBROADCASTSS X6, Y6")
	for i := range 4 {
		k.op("x / scale", "VMULPS Y6, Y%d, Y%d", i, i)
		k.op("towards zero", "VROUNDPS $3, Y%d, Y4", i)
		k.op("the fraction", "VSUBPS Y4, Y%d, Y5", i)
		k.op("its magnitude", "VANDPS %s, Y5, Y5", p.magnitude)
		k.op("half or more", "VCMPPS $13, %s, Y5, Y5", half)
		k.op("sign", "VANDPS %s, Y%d, Y7", sign, i)
		k.op("1 with that sign", "VORPS %s, Y7, Y7", one)
		k.op("where the fraction says so", "VANDPS Y5, Y7, Y7")
		k.op("to the nearest, ties away from zero", "VADDPS Y7, Y4, Y4")
		k.op("as integers", "VCVTTPS2DQ Y4, Y%d", i)
	}
	p.pack8(k)
	k.at("store")
	k.op("32 bytes", "VMOVDQU Y0, 2(DI)")
	k.op("next block", "ADDQ $34, DI")
	k.op("next elements", "ADDQ $128, DX")
	k.op("one block less", "DECQ CX")
	k.op("until all are done", "JNZ block")
	k.end()
	k.at("broken")
	k.op("scale NaN", "MOVW $0x7e00, (DI)")
	k.op("no elements", "VPXOR Y0, Y0, Y0")
	k.op("go on", "JMP store")
}
