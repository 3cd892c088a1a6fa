package main

// prepare writes the quantizers of activations: one row of a tile each, bit for bit what quantizeRun gives. They use
// 32-byte vectors at all levels: the work is a hundredth of the product's.
func prepare(s *stubs) *file {
	f := newFile("prepare", avx2)
	p := newQuantizer(f)
	p.pairs(f, s)
	p.quads(f, s)
	p.super(f, s, superTile{format: "Q4_K", rowBytes: 4 + 16 + 256, comment: "See linear_q4_k.go.", registers: "R13 and R14 a sum.", sums: p.byteSums})
	p.super(f, s, superTile{format: "Q6_K", rowBytes: 4 + 32 + 256, comment: "See linear_q6_k.go.", registers: "R13 and R14 a sum.", sums: p.wordSums})
	p.halves(f, s)
	return f
}

// orderConstant is the permutation that puts words into order after two packings, which work on 128 bits each.
func orderConstant(f *file) string {
	f.data.WriteString("\n// words in order after packing\n")
	for i, word := range []string{"0", "4", "1", "5", "2", "6", "3", "7"} {
		f.data.WriteString("DATA order<>+" + []string{"0", "4", "8", "12", "16", "20", "24", "28"}[i] + "(SB)/4, $" + word + "\n")
	}
	f.data.WriteString("GLOBL order<>(SB), RODATA|NOPTR, $32\n")
	return "order<>(SB)"
}

// quantizer holds the names of constants.
type quantizer struct{ magnitude, ones8, ones16, order string }

func newQuantizer(f *file) *quantizer {
	return &quantizer{
		magnitude: f.constant("magnitude", "all bits but the sign", 0x7fffffff),
		ones8:     f.constant("ones8", "1 as int8", 0x01010101),
		ones16:    f.constant("ones16", "1 as int16", 0x00010001),
		order:     orderConstant(f),
	}
}

const prepareParams = "(scale, q *byte, x *float32, blocks, rows int)"

// begin reads the arguments: DI scale, SI q, DX x, CX blocks, R8 bytes between a row's words, R9 three times that.
func (p *quantizer) begin(f *file, s *stubs, name string, comment ...string) *function {
	comment = append(comment,
		"Registers: DI scale, SI q, DX x, CX blocks left, R8 bytes between a row's words, R9 three times that, R10 bytes between",
		"blocks, R11 free; Y0 to Y3 elements, Y4 and Y5 free, Y6 the reciprocal. There are no tails.")
	k := f.begin(s, avx2, signature{name, prepareParams, 40, 0}, comment...)
	k.op("scale of the first block", "MOVQ scale+0(FP), DI")
	k.op("its bytes", "MOVQ q+8(FP), SI")
	k.op("elements", "MOVQ x+16(FP), DX")
	k.op("blocks to do", "MOVQ blocks+24(FP), CX")
	k.op("rows of the tile", "MOVQ rows+32(FP), R8")
	return k
}

// steps computes the distances, with the bytes that a block has per row.
func (p *quantizer) steps(k *function, blockBytes int) {
	k.op("bytes between blocks", "IMUL3Q $%d, R8, R10", blockBytes)
	k.op("bytes between words", "SHLQ $2, R8")
	k.op("three words", "LEAQ (R8)(R8*2), R9")
}

// loadRun reads 32 elements.
func (p *quantizer) loadRun(k *function) {
	for i := range 4 {
		k.op("8 elements", "VMOVUPS %s, Y%d", mem(32*i, "DX"), i)
	}
}

// largest leaves the largest magnitude of Y0 to Y3 in all of Y4. Without the sign, bits compare as the numbers do.
func (p *quantizer) largest(k *function) {
	k.op("magnitudes", "VPAND %s, Y0, Y4", p.magnitude)
	for i := 1; i < 4; i++ {
		k.op("magnitudes", "VPAND %s, Y%d, Y5", p.magnitude, i)
		k.op("the larger ones", "VPMAXSD Y5, Y4, Y4")
	}
}

// reduce leaves the largest word of Y4 in its first lane and in R11.
func (p *quantizer) reduce(k *function) {
	k.op("upper half", "VEXTRACTI128 $1, Y4, X5")
	k.op("4 are left", "VPMAXSD X5, X4, X4")
	k.op("2 against 2", "VPSHUFD $0x4e, X4, X5")
	k.op("2 are left", "VPMAXSD X5, X4, X4")
	k.op("1 against 1", "VPSHUFD $0xb1, X4, X5")
	k.op("the largest", "VPMAXSD X5, X4, X4")
	k.op("its bits", "VMOVD X4, R11")
}

// reciprocal turns the vector of largest magnitudes Y4 into 127/most in Y6 and stores the scale most/127. Runs of zeros
// get 0 for both. A run that is not finite gets NaN as scale, and jumps to broken.
func (p *quantizer) reciprocal(k *function, label string) {
	p.reduce(k)
	k.op("127", "MOVL $0x42fe0000, AX")
	k.op("as float32", "VMOVD AX, X5")
	k.op("scale", "VDIVSS X5, X4, X6")
	k.op("scale's bits", "VMOVD X6, AX")
	k.op("1/scale, with one rounding", "VDIVSS X4, X5, X6")
	k.op("largest finite", "CMPL R11, $0x7f7fffff")
	k.op("not finite", "JHI %sbroken", label)
	k.op("2^-120", "CMPL R11, $0x03800000")
	k.op("enough for a scale", "JCC %sscaled", label)
	k.op("scale 0", "XORL AX, AX")
	k.op("reciprocal 0", "VPXOR X6, X6, X6")
	k.at(label + "scaled")
	k.op("scale of the row's run", "MOVL AX, (DI)")
	k.op("in all lanes", "VBROADCASTSS X6, Y6")
}

// quantize turns Y0 to Y3 into integers.
func (p *quantizer) quantize(k *function) {
	for i := range 4 {
		k.op("x / scale", "VMULPS Y6, Y%d, Y%d", i, i)
		k.op("to the nearest integer, ties to even", "VCVTPS2DQ Y%d, Y%d", i, i)
	}
}

// pack8 makes 32 bytes in order of the integers, in Y0.
func (p *quantizer) pack8(k *function) {
	k.op("to 16 bits", "VPACKSSDW Y1, Y0, Y0")
	k.op("to 16 bits", "VPACKSSDW Y3, Y2, Y2")
	k.op("to 8 bits", "VPACKSSWB Y2, Y0, Y0")
	k.op("order of words", "VMOVDQU %s, Y5", p.order)
	k.op("32 bytes in order", "VPERMD Y0, Y5, Y0")
}

// store8 writes the 8 words of Y0 at R11, R8 bytes apart, and leaves R11 behind them. X5 is spent.
func (p *quantizer) store8(k *function) {
	k.op("upper half", "VEXTRACTI128 $1, Y0, X5")
	for half, x := range []string{"X0", "X5"} {
		k.op("word of the row", "VMOVD %s, (R11)", x)
		for i, index := range []string{"(R8*1)", "(R8*2)", "(R9*1)"} {
			k.op("next word", "VPEXTRD $%d, %s, (R11)%s", i+1, x, index)
		}
		_ = half
		k.op("behind 4 words", "LEAQ (R11)(R8*4), R11")
	}
}

// sum8 leaves the sum of the 32 bytes of Y0 in AX. Y4 and Y5 are spent.
func (p *quantizer) sum8(k *function) {
	k.op("1 as int8", "VMOVDQU %s, Y4", p.ones8)
	k.op("sums of 2", "VPMADDUBSW Y0, Y4, Y4")
	k.op("sums of 4", "VPMADDWD %s, Y4, Y4", p.ones16)
	k.op("upper half", "VEXTRACTI128 $1, Y4, X5")
	k.op("sums of 8", "VPADDD X5, X4, X4")
	k.op("2 against 2", "VPSHUFD $0x4e, X4, X5")
	k.op("sums of 16", "VPADDD X5, X4, X4")
	k.op("1 against 1", "VPSHUFD $0xb1, X4, X5")
	k.op("sum of 32", "VPADDD X5, X4, X4")
	k.op("as integer", "VMOVD X4, AX")
}

// broken clears the elements of a run that is not finite and goes on with the scale NaN.
func (p *quantizer) broken(k *function, label string) {
	k.at(label + "broken")
	for i := range 4 {
		k.op("no elements", "VPXOR Y%d, Y%d, Y%d", i, i, i)
	}
	k.op("reciprocal 0", "VPXOR X6, X6, X6")
	k.op("scale NaN", "MOVL $0x7fc00000, AX")
	k.op("go on", "JMP %sscaled", label)
}

// nextBlock closes the loop over blocks.
func (p *quantizer) nextBlock(k *function, label string) {
	k.op("next scale", "ADDQ R10, DI")
	k.op("next bytes", "ADDQ R10, SI")
	k.op("next elements", "ADDQ $128, DX")
	k.op("one block less", "DECQ CX")
	k.op("until all are done", "JNZ %sblock", label)
	k.end()
	p.broken(k, label)
}

// pairs fills rows of Q8_0's tiles of 16-bit integers.
func (p *quantizer) pairs(f *file, s *stubs) {
	k := p.begin(f, s, "preparePairsAVX2", "One row of a tile of int16 pairs, see linear_q8_0.go: scale and q are the row's in the first block.")
	p.steps(k, 4+2*32)
	k.at("pairsblock")
	p.loadRun(k)
	p.largest(k)
	p.reciprocal(k, "pairs")
	p.quantize(k)
	k.op("words of the run", "MOVQ SI, R11")
	for _, i := range []int{0, 2} {
		k.op("to 16 bits", "VPACKSSDW Y%d, Y%d, Y%d", i+1, i, i)
		k.op("in order", "VPERMQ $0xd8, Y%d, Y0", i)
		p.store8(k)
	}
	p.nextBlock(k, "pairs")
}

// quads fills rows of quad tiles.
func (p *quantizer) quads(f *file, s *stubs) {
	const params = "(scale, q *byte, x *float32, blocks, rows, shift int)"
	k := f.begin(s, avx2, signature{"prepareQuadsAVX2", params, 48, 0},
		"One row of a quad tile, see linear_quads.go: scale and q are the row's in the first block; rows before scale stands the",
		"row's start, -shift times the sum.",
		"Registers: as in preparePairsAVX2, R12 -shift, R13 start.")
	k.op("scale of the first block", "MOVQ scale+0(FP), DI")
	k.op("its bytes", "MOVQ q+8(FP), SI")
	k.op("elements", "MOVQ x+16(FP), DX")
	k.op("blocks to do", "MOVQ blocks+24(FP), CX")
	k.op("rows of the tile", "MOVQ rows+32(FP), R8")
	k.op("shift of the weights", "MOVQ shift+40(FP), R12")
	k.op("taken away", "NEGQ R12")
	p.steps(k, 8+32)
	k.op("start of the first block", "MOVQ DI, R13")
	k.op("stands before the scales", "SUBQ R8, R13")
	k.at("quadsblock")
	p.loadRun(k)
	p.largest(k)
	p.reciprocal(k, "quads")
	p.quantize(k)
	p.pack8(k)
	p.sum8(k)
	k.op("- shift * sum", "IMULL R12, AX")
	k.op("what the row's sums start from", "MOVL AX, (R13)")
	k.op("next start", "ADDQ R10, R13")
	k.op("words of the run", "MOVQ SI, R11")
	p.store8(k)
	p.nextBlock(k, "quads")
}

// superTile is what the tiles of Q4_K and Q6_K differ in.
type superTile struct {
	format             string
	rowBytes           int // of a block of 256
	comment, registers string
	sums               func(k *function, label string) // of elements, that the tile keeps
}

// super fills rows of tiles with one scale for 256 elements, found in a first pass over them.
func (p *quantizer) super(f *file, s *stubs, r superTile) {
	const params = "(scale, sums, q *byte, x *float32, blocks, rows int)"
	label := "super" + r.format
	k := f.begin(s, avx2, signature{"prepare" + r.format + "AVX2", params, 48, 0},
		"One row of a tile of "+r.format+": scale, sums and q are the row's in the first block. "+r.comment,
		"Registers: as in preparePairsAVX2, BX sums, R12 runs of 32 left, Y7 what a fault leaves of the elements: all or none,",
		r.registers)
	k.op("scale of the first block", "MOVQ scale+0(FP), DI")
	k.op("its sums", "MOVQ sums+8(FP), BX")
	k.op("its bytes", "MOVQ q+16(FP), SI")
	k.op("elements", "MOVQ x+24(FP), DX")
	k.op("blocks to do", "MOVQ blocks+32(FP), CX")
	k.op("rows of the tile", "MOVQ rows+40(FP), R8")
	p.steps(k, r.rowBytes)

	k.at(label + "block")
	k.op("magnitudes from 0", "VPXOR Y7, Y7, Y7")
	k.repeat("R12", label+"largest", 8, func() {
		p.loadRun(k)
		p.largest(k)
		k.op("the larger ones", "VPMAXSD Y4, Y7, Y7")
		k.op("next 32", "ADDQ $128, DX")
	})
	k.op("all 256 again", "SUBQ $1024, DX")
	k.op("largest ones", "VMOVDQA Y7, Y4")
	k.op("elements count", "VPCMPEQD Y7, Y7, Y7")
	p.reciprocal(k, label)
	k.op("words of the run", "MOVQ SI, R11")
	k.op("its sums", "MOVQ BX, R13")
	k.op("8 runs of 32", "MOVL $8, R12")

	k.at(label + "run")
	p.loadRun(k)
	for i := range 4 {
		k.op("nothing of a faulty run", "VPAND Y7, Y%d, Y%d", i, i)
	}
	p.quantize(k)
	p.pack8(k)
	r.sums(k, label)
	p.store8(k)
	k.op("next 32", "ADDQ $128, DX")
	k.op("all of them done?", "TESTL R12, R12")
	k.op("no", "JNE %srun", label)
	k.op("next scale", "ADDQ R10, DI")
	k.op("next sums", "ADDQ R10, BX")
	k.op("next bytes", "ADDQ R10, SI")
	k.op("one block less", "DECQ CX")
	k.op("until all are done", "JNZ %sblock", label)
	k.end()
	k.at(label + "broken")
	k.op("no elements", "VPXOR Y7, Y7, Y7")
	k.op("reciprocal 0", "VPXOR X6, X6, X6")
	k.op("scale NaN", "MOVL $0x7fc00000, AX")
	k.op("go on", "JMP %sscaled", label)
}

// byteSums keeps the sum of 32 as two bytes, for Q4_K.
func (p *quantizer) byteSums(k *function, label string) {
	p.sum8(k)
	k.op("sum", "MOVL AX, R14")
	k.op("/ 128, towards minus infinity", "SARL $7, R14")
	k.op("high byte", "MOVB R14, (R13)")
	k.op("the rest, not negative", "ANDL $127, AX")
	k.op("low byte, in the next part", "MOVB AX, (R13)(R8*1)")
	k.op("next run's sums", "INCQ R13")
	k.op("one run less", "DECL R12")
	k.op("half of them done?", "CMPL R12, $4")
	k.op("no", "JNE %ssame", label)
	k.op("sums of the other half stand two parts on", "LEAQ -4(R13)(R8*2), R13")
	k.at(label + "same")
}

// wordSums keeps minus the sums of the two 16 as 16-bit integers, for Q6_K.
func (p *quantizer) wordSums(k *function, label string) {
	k.op("1 as int8", "VMOVDQU %s, Y4", p.ones8)
	k.op("sums of 2", "VPMADDUBSW Y0, Y4, Y4")
	k.op("sums of 4", "VPMADDWD %s, Y4, Y4", p.ones16)
	k.op("2 against 2", "VPSHUFD $0x4e, Y4, Y5")
	k.op("sums of 8", "VPADDD Y5, Y4, Y4")
	k.op("1 against 1", "VPSHUFD $0xb1, Y4, Y5")
	k.op("sums of 16", "VPADDD Y5, Y4, Y4")
	k.op("of the second 16", "VEXTRACTI128 $1, Y4, X5")
	k.op("first sum", "VMOVD X4, AX")
	k.op("second sum", "VMOVD X5, R14")
	k.op("minus", "NEGL AX")
	k.op("minus", "NEGL R14")
	k.op("in one word", "MOVW AX, (R13)")
	k.op("with the other", "MOVW R14, 2(R13)")
	k.op("sums of the next 32", "ADDQ R8, R13")
	k.op("one run less", "DECL R12")
}

// halves fills rows of tiles of bfloat16, as quant.F32ToBF16 rounds.
func (p *quantizer) halves(f *file, s *stubs) {
	odd := f.constant("odd", "the last bit", 1)
	belowHalf := f.constant("belowHalf", "half of bfloat16's last place, less one", 0x7fff)
	quiet := f.constant("quiet", "what tells quiet NaN in the upper half", 0x40)
	k := f.begin(s, avx2, signature{"preparePairsBF16AVX2", "(q *byte, x *float32, blocks, rows int)", 32, 0},
		"One row of a tile of bfloat16, see linear_bf16_pairs.go: q are the row's first two elements. blocks counts 16 elements.",
		"Registers: SI q, DX x, CX blocks left, R8 bytes between a row's words, R9 three times that, R11 free; Y0 and Y1 elements,",
		"Y4 and Y5 free. There are no tails.")
	k.op("words of the row", "MOVQ q+0(FP), SI")
	k.op("elements", "MOVQ x+8(FP), DX")
	k.op("blocks to do", "MOVQ blocks+16(FP), CX")
	k.op("rows of the tile", "MOVQ rows+24(FP), R8")
	k.op("bytes between words", "SHLQ $2, R8")
	k.op("three words", "LEAQ (R8)(R8*2), R9")
	k.op("where words go", "MOVQ SI, R11")
	k.at("halvesblock")
	for i := range 2 {
		k.op("8 elements", "VMOVUPS %s, Y%d", mem(32*i, "DX"), i)
		k.op("upper halves", "VPSRLD $16, Y%d, Y4", i)
		k.op("upper halves of quiet NaN", "VPOR %s, Y4, Y5", quiet)
		k.op("their last bits", "VPAND %s, Y4, Y4", odd)
		k.op("ties go to even", "VPADDD %s, Y4, Y4", belowHalf)
		k.op("carried into the upper half", "VPADDD Y%d, Y4, Y4", i)
		k.op("rounded", "VPSRLD $16, Y4, Y4")
		k.op("which are NaN", "VCMPPS $3, Y%d, Y%d, Y%d", i, i, i)
		k.op("these stay NaN", "VBLENDVPS Y%d, Y5, Y4, Y%d", i, i)
	}
	k.op("16 halves, four and four", "VPACKUSDW Y1, Y0, Y0")
	k.op("in order", "VPERMQ $0xd8, Y0, Y0")
	p.store8(k)
	k.op("next 16", "ADDQ $64, DX")
	k.op("one block less", "DECQ CX")
	k.op("until all are done", "JNZ halvesblock")
	k.end()
}
