package main

// prepareShort writes the quantizer that fills word tiles.
func prepareShort(s *stubs) *file {
	f := newFile("prepare_short", avx2)
	p := newQuantizer(f)
	const params = "(scale, q *byte, x *float32, blocks, rows, shift int)"
	k := f.begin(s, avx2, signature{"prepareWordsAVX2", params, 48, 0},
		"One row of a word tile, see linear_words_amd64.go: scale and q are the row's in the first block; rows before scale",
		"stands the row's start, -shift times the sums.",
		"Registers: as in preparePairsAVX2, R13 start; Y7 -shift.")
	k.op("scale of the first block", "MOVQ scale+0(FP), DI")
	k.op("its bytes", "MOVQ q+8(FP), SI")
	k.op("elements", "MOVQ x+16(FP), DX")
	k.op("blocks to do", "MOVQ blocks+24(FP), CX")
	k.op("rows of the tile", "MOVQ rows+32(FP), R8")
	k.op("shift of the weights", "MOVQ shift+40(FP), AX")
	k.op("taken away", "NEGQ AX")
	k.op("as int16", "VMOVD AX, X7")
	k.op("in all words", "VPBROADCASTW X7, Y7")
	p.steps(k, 8+32)
	k.op("start of the first block", "MOVQ DI, R13")
	k.op("stands before the scales", "SUBQ R8, R13")
	k.at("wordsblock")
	p.loadRun(k)
	p.largest(k)
	p.reciprocal(k, "words")
	p.quantize(k)
	p.pack8(k)
	k.op("1 as int8", "VMOVDQU %s, Y4", p.ones8)
	k.op("sums of 2", "VPMADDUBSW Y0, Y4, Y4")
	k.op("upper half", "VEXTRACTI128 $1, Y4, X5")
	k.op("sums of 4", "VPADDW X5, X4, X4")
	k.op("2 pairs of words against 2", "VPSHUFD $0x4e, X4, X5")
	k.op("sums of 8", "VPADDW X5, X4, X4")
	k.op("1 against 1", "VPSHUFD $0xb1, X4, X5")
	k.op("sums of 16", "VPADDW X5, X4, X4")
	k.op("- shift * sums", "VPMULLW X7, X4, X4")
	k.op("what the row's sums start from", "VMOVD X4, (R13)")
	k.op("next start", "ADDQ R10, R13")
	k.op("words of the run", "MOVQ SI, R11")
	p.store8(k)
	p.nextBlock(k, "words")
	return f
}
