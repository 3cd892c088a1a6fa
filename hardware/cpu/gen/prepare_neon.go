package main

import "fmt"

// preparesARM writes the quantizers of activations: one row of a tile each, bit for bit what quantizeRun gives.
func preparesARM(s *stubs) *file {
	f := newFile("prepare", neon)
	for _, group := range []int{4, 8} {
		q := &quantizerARM{target: f, stubs: s, group: group}
		q.short("Short", "Blocks of 32. See linear_groups_arm64.go.", 1)
		q.short("ShortSums", "Blocks of 32, with their scaled sums. See linear_groups_arm64.go.", 2)
		q.long("Long", "Blocks of 256. See linear_super_arm64.go.", 256, q.countRun)
		q.long("Sums32", "Blocks of 256, with the sums of runs of 32 as two bytes. See linear_super_arm64.go.", 256+16, q.byteSums32)
		q.long("Sums16", "Blocks of 256, with the sums of runs of 16 as two bytes. See linear_super_arm64.go.", 256+32, q.byteSums16)
		q.long("Starts", "Blocks of 256, with -32 times the sums of runs of 16, for Q6_K. See linear_super_arm64.go.", 256+16*group, q.starts)
	}
	return f
}

// quantizerARM writes for rows whose words have so many elements.
type quantizerARM struct {
	*arm
	target *file
	stubs  *stubs
	group  int
}

const prepareParamsARM = "(scale, q *byte, x *float32, blocks, step int)"

// begin reads the arguments. A block has so many bytes per row.
func (q *quantizerARM) begin(name, comment string, blockBytes int) {
	name = fmt.Sprintf("prepare%s%sNEON", name, map[int]string{4: "InFours", 8: "InEights"}[q.group])
	q.arm = beginARM(q.target, q.stubs, neon, signature{name, prepareParamsARM, 40, 0},
		"One row of a tile, in words of "+fmt.Sprint(q.group)+": scale and q are the row's in the first block, step is the distance of its words and of its",
		"scales. "+comment,
		"Registers: R0 scale, R1 q, R2 x, R3 blocks left, R4 step, R5 bytes between blocks, R6 and R9 free, R7 and R8 bounds of the",
		"largest magnitude, R11 words, R12 sums, R13 bytes between high and low sums, R14 runs left; V0 to V7 elements, V8 largest,",
		"V10 reciprocal, V16 127, others free. There are no tails.")
	q.label = name
	q.op("scale of the first block", "MOVD scale+0(FP), R0")
	q.op("its bytes", "MOVD q+8(FP), R1")
	q.op("elements", "MOVD x+16(FP), R2")
	q.op("blocks to do", "MOVD blocks+24(FP), R3")
	q.op("bytes between words", "MOVD step+32(FP), R4")
	q.op("words of a block", "MOVD $%d, R5", blockBytes/q.group)
	q.op("bytes between blocks", "MUL R4, R5, R5")
	q.op("127", "MOVW $0x42fe0000, R6")
	q.op("as float32", "FMOVS R6, F16")
	q.op("largest finite magnitude", "MOVW $0x7f7fffff, R7")
	q.op("2^-120", "MOVW $0x03800000, R8")
	q.at(q.label + "block")
}

// loadRun reads 32 elements.
func (q *quantizerARM) loadRun() {
	q.op("16 elements", "VLD1.P 64(R2), %s", four(0))
	q.op("16 more", "VLD1.P 64(R2), %s", four(4))
}

// largest leaves the largest magnitudes of V0 to V7 in the lanes of V8. Without the sign, bits compare as the numbers do.
func (q *quantizerARM) largest() {
	for i := range 8 {
		q.neon("magnitudes", "FABS V%d.4S, V%d.4S", 20+i, i)
	}
	for distance := 4; distance > 0; distance /= 2 {
		for i := range distance {
			q.op("the larger ones", "VUMAX V%d.S4, V%d.S4, V%d.S4", 20+i+distance, 20+i, 20+i)
		}
	}
	q.op("of the run", "VMOV V20.B16, V8.B16")
}

// reciprocal stores the scale most/127 and leaves 127/most in the first lane of V10. Runs of zeros get 0 for both. A run
// that is not finite gets NaN as scale, and 0 makes zeros of its elements.
func (q *quantizerARM) reciprocal() {
	q.neon("the largest", "UMAXV S8, V8.4S")
	q.op("its bits", "FMOVS F8, R6")
	q.op("scale", "FDIVS F16, F8, F9")
	q.op("1/scale, with one rounding", "FDIVS F8, F16, F10")
	q.op("scale's bits", "FMOVS F9, R9")
	q.op("not finite?", "CMPW R7, R6")
	q.op("yes", "BHI %sbroken", q.label)
	q.op("enough for a scale?", "CMPW R8, R6")
	q.op("yes", "BHS %sscaled", q.label)
	q.op("scale 0", "MOVW $0, R9")
	q.op("reciprocal 0", "VMOVI $0, V10.B16")
	q.at(q.label + "scaled")
	q.op("scale of the row's run", "MOVW R9, (R0)")
	if q.group == 8 {
		q.op("twice", "MOVW R9, 4(R0)")
	}
}

// quantize turns V0 to V7 into bytes in V0 and V4.
func (q *quantizerARM) quantize() {
	for i := range 8 {
		q.neon("x / scale", "FMUL V%d.4S, V%d.4S, V10.S[0]", i, i)
		q.neon("to the nearest integer, ties to even", "FCVTNS V%d.4S, V%d.4S", i, i)
	}
	for i := 0; i < 8; i += 2 {
		q.neon("to 16 bits", "SQXTN V%d.4H, V%d.4S", i, i)
		q.neon("and the next", "SQXTN2 V%d.8H, V%d.4S", i, i+1)
	}
	for i := 0; i < 8; i += 4 {
		q.neon("to 8 bits", "SQXTN V%d.8B, V%d.8H", i, i)
		q.neon("and the next", "SQXTN2 V%d.16B, V%d.8H", i, i+2)
	}
}

// storeWords writes the words of V0 and V4 at R11 and leaves that behind them.
func (q *quantizerARM) storeWords() {
	lane := map[int]string{4: "S", 8: "D"}[q.group]
	for _, v := range []int{0, 4} {
		for i := range 16 / q.group {
			q.op("word of the row", "VST1.P V%d.%s[%d], (R11)(R4)", v, lane, i)
		}
	}
}

// nextBlock closes the loop over blocks.
func (q *quantizerARM) nextBlock() {
	q.op("next scale", "ADD R4, R0, R0")
	q.op("next bytes", "ADD R5, R1, R1")
	q.op("one block less", "SUBS $1, R3, R3")
	q.op("until all are done", "BNE %sblock", q.label)
	q.done()
	q.at(q.label + "broken")
	q.op("reciprocal 0", "VMOVI $0, V10.B16")
	q.op("scale NaN", "MOVW $0x7fc00000, R9")
	q.op("go on", "B %sscaled", q.label)
}

// short fills rows of tiles with blocks of 32, which have one factor a row, the scale, or a second one, the scaled sum.
func (q *quantizerARM) short(name, comment string, factors int) {
	q.begin(name, comment, 32)
	q.loadRun()
	q.largest()
	q.reciprocal()
	q.quantize()
	q.op("words of the run", "MOVD R1, R11")
	q.storeWords()
	if factors == 2 {
		q.runSum()
		q.op("as float32", "SCVTFWS R6, F20")
		q.op("scale", "FMOVS R9, F9")
		q.op("scaled sum", "FMULS F9, F20, F20")
		q.op("stands behind the scales", "ADD R4, R0, R0")
		q.op("of the row's run", "FMOVS F20, (R0)")
		if q.group == 8 {
			q.op("twice", "FMOVS F20, 4(R0)")
		}
	}
	q.nextBlock()
}

// runSum leaves the sum of V0 and V4 in R6.
func (q *quantizerARM) runSum() {
	q.neon("sum of 16", "SADDLV H20, V0.16B")
	q.neon("sum of 16", "SADDLV H21, V4.16B")
	q.op("sum of 32", "VADD V20.H4, V21.H4, V20.H4")
	q.integer()
}

// halfSum leaves the sum of a vector in R6.
func (q *quantizerARM) halfSum(v int) {
	q.neon("sum of 16", "SADDLV H20, V%d.16B", v)
	q.integer()
}

func (q *quantizerARM) integer() {
	q.op("as integer", "VMOV V20.H[0], R6")
	q.op("with its sign", "MOVH R6, R6")
}

// long fills rows of tiles with one scale for 256 elements, found in a first pass over them, and what sums makes of each 32.
func (q *quantizerARM) long(name, comment string, blockBytes int, sums func()) {
	q.begin(name, comment, blockBytes)
	q.op("magnitudes from 0", "VMOVI $0, V11.B16")
	q.op("8 runs of 32", "MOVD $8, R14")
	q.at(q.label + "largest")
	q.loadRun()
	q.largest()
	q.op("the larger ones", "VUMAX V8.S4, V11.S4, V11.S4")
	q.op("one run less", "SUBS $1, R14, R14")
	q.op("until all are done", "BNE %slargest", q.label)
	q.op("all 256 again", "SUB $1024, R2, R2")
	q.op("largest ones", "VMOV V11.B16, V8.B16")
	q.reciprocal()
	q.op("words of the block", "MOVD R1, R11")
	q.op("words before the sums", "MOVD $%d, R12", 256/q.group)
	q.op("sums", "MADD R4, R1, R12, R12")
	q.op("words between high and low sums", "MOVD $%d, R13", (blockBytes-256)/2/q.group)
	q.op("bytes between them", "MUL R4, R13, R13")
	q.op("8 runs of 32", "MOVD $8, R14")
	q.at(q.label + "run")
	q.loadRun()
	q.quantize()
	q.storeWords()
	sums()
	q.op("all of them done?", "CBNZ R14, %srun", q.label)
	q.nextBlock()
}

// countRun ends a run that leaves nothing but its elements.
func (q *quantizerARM) countRun() { q.op("one run less", "SUB $1, R14, R14") }

// byteSums32 keeps the sum of 32 as two bytes.
func (q *quantizerARM) byteSums32() {
	q.runSum()
	q.byteSum()
	q.countRun()
	if q.group == 4 {
		q.op("half of them done?", "CMP $4, R14")
		q.op("no", "BNE %ssame", q.label)
		q.nextSums()
	}
}

// byteSums16 keeps the sums of two 16 so.
func (q *quantizerARM) byteSums16() {
	for _, v := range []int{0, 4} {
		q.halfSum(v)
		q.byteSum()
	}
	q.countRun()
	if q.group == 4 {
		q.op("word of sums full?", "TBNZ $0, R14, %ssame", q.label)
	} else {
		q.op("word of sums full?", "CMP $4, R14")
		q.op("no", "BNE %ssame", q.label)
	}
	q.nextSums()
}

// byteSum keeps R6 as two bytes.
func (q *quantizerARM) byteSum() {
	q.op("/ 128, towards minus infinity", "ASR $7, R6, R9")
	q.op("high byte", "MOVB R9, (R12)")
	q.op("the rest, not negative", "AND $127, R6, R6")
	q.op("low byte", "MOVB R6, (R12)(R13)")
	q.op("next sums", "ADD $1, R12, R12")
}

// nextSums goes on with the next word of sums.
func (q *quantizerARM) nextSums() {
	q.op("the next word of sums", "ADD R4, R12, R12")
	q.op("from its first byte", "SUB $%d, R12, R12", q.group)
	q.at(q.label + "same")
}

// starts keeps -32 times the sums of 16.
func (q *quantizerARM) starts() {
	for _, v := range []int{0, 4} {
		q.halfSum(v)
		q.op("minus", "NEG R6, R6")
		q.op("* 32", "LSL $5, R6, R6")
		q.op("start of the run", "MOVW R6, (R12)")
		if q.group == 8 {
			q.op("twice", "MOVW R6, 4(R12)")
		}
		q.op("next run's", "ADD R4, R12, R12")
	}
	q.countRun()
}
