package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// The instruction sets of arm64. All have 32 vectors of 16 bytes, and all float kernels are those of the first.
var (
	neon    = isa{suffix: "NEON", file: "neon", arch: "arm64", features: "Advanced SIMD", bytes: 16, numRegs: 32, maxRows: 3}
	dotprod = isa{suffix: "DotProd", file: "dotprod", arch: "arm64", features: "Advanced SIMD, dot products", bytes: 16, numRegs: 32, maxRows: 4}
	i8mm    = isa{suffix: "I8MM", file: "i8mm", arch: "arm64", features: "Advanced SIMD, matrix products of int8", bytes: 16, numRegs: 32, maxRows: 4}
)

// encoding is an instruction's word without its operands, which have their places: the first register at bit 0, the
// others at 5 and 16, the number of a lane in bits 11 and 21. An immediate is taken from a number, that is counted down from
// it, and stands at bit 16.
type encoding struct {
	word     uint32
	immValue uint32
}

// encodings are the instructions that Go's assembler does not know (Arm Architecture Reference Manual, C7.2), by their
// texts without numbers.
var encodings = map[string]encoding{
	"FADD V.4S, V.4S, V.4S":   {word: 0x4e20d400},
	"FSUB V.4S, V.4S, V.4S":   {word: 0x4ea0d400},
	"FMUL V.4S, V.4S, V.4S":   {word: 0x6e20dc00},
	"FDIV V.4S, V.4S, V.4S":   {word: 0x6e20fc00},
	"FMAX V.4S, V.4S, V.4S":   {word: 0x4e20f400},
	"FMIN V.4S, V.4S, V.4S":   {word: 0x4ea0f400},
	"FMAXNM V.4S, V.4S, V.4S": {word: 0x4e20c400},
	"FMLA V.4S, V.4S, V.4S":   {word: 0x4e20cc00},
	"FMLS V.4S, V.4S, V.4S":   {word: 0x4ea0cc00},
	"FADDP V.4S, V.4S, V.4S":  {word: 0x6e20d400},

	"FMLA V.4S, V.4S, V.S[]": {word: 0x4f801000},
	"FMLS V.4S, V.4S, V.S[]": {word: 0x4f805000},
	"FMUL V.4S, V.4S, V.S[]": {word: 0x4f809000},

	"FABS V.4S, V.4S":     {word: 0x4ea0f800},
	"FNEG V.4S, V.4S":     {word: 0x6ea0f800},
	"FRINTN V.4S, V.4S":   {word: 0x4e218800},
	"FCVTNS V.4S, V.4S":   {word: 0x4e21a800},
	"FCVTL V.4S, V.4H":    {word: 0x0e217800},
	"FCVTL2 V.4S, V.8H":   {word: 0x4e217800},
	"FCVTN V.4H, V.4S":    {word: 0x0e216800},
	"FCVTN2 V.8H, V.4S":   {word: 0x4e216800},
	"FADDP S, V.2S":       {word: 0x7e30d800},
	"FMAXNMV S, V.4S":     {word: 0x6e30c800},
	"SCVTF V.4S, V.4S":    {word: 0x4e21d800},
	"SCVTF V.4S, V.4S, #": {word: 0x4f00e400, immValue: 64},

	"MUL V.4S, V.4S, V.4S":      {word: 0x4ea09c00},
	"MLA V.4S, V.4S, V.4S":      {word: 0x4ea09400},
	"SMULL V.8H, V.8B, V.8B":    {word: 0x0e20c000},
	"SMULL2 V.8H, V.16B, V.16B": {word: 0x4e20c000},
	"SADALP V.4S, V.8H":         {word: 0x4e606800},
	"SADDLV H, V.16B":           {word: 0x4e303800},
	"UMAXV S, V.4S":             {word: 0x6eb0a800},
	"SHLL V.4S, V.4H, #":        {word: 0x2e613800, immValue: 16},
	"SHLL2 V.4S, V.8H, #":       {word: 0x6e613800, immValue: 16},
	"USHLL V.8H, V.8B, #":       {word: 0x2f08a400},
	"USHLL2 V.8H, V.16B, #":     {word: 0x6f08a400},
	"USHLL V.4S, V.4H, #":       {word: 0x2f10a400},
	"USHLL2 V.4S, V.8H, #":      {word: 0x6f10a400},
	"SSHLL V.8H, V.8B, #":       {word: 0x0f08a400},
	"SSHLL2 V.8H, V.16B, #":     {word: 0x4f08a400},
	"SSHLL V.4S, V.4H, #":       {word: 0x0f10a400},
	"SSHLL2 V.4S, V.8H, #":      {word: 0x4f10a400},
	"SSHR V.4S, V.4S, #":        {word: 0x4f000400, immValue: 64},
	"SQXTN V.4H, V.4S":          {word: 0x0e614800},
	"SQXTN2 V.8H, V.4S":         {word: 0x4e614800},
	"SQXTN V.8B, V.8H":          {word: 0x0e214800},
	"SQXTN2 V.16B, V.8H":        {word: 0x4e214800},

	"SDOT V.4S, V.16B, V.4B[]": {word: 0x4f80e000},
	"SMMLA V.4S, V.16B, V.16B": {word: 0x4e80a400},
}

var armOperand = regexp.MustCompile(`([VSH#\[])([0-9]+)`)

// encode returns the word of an instruction in Arm's notation.
func encode(text string) uint32 {
	shape := armOperand.ReplaceAllString(text, "$1")
	e, ok := encodings[shape]
	if !ok {
		panic("gen: no encoding of " + shape)
	}
	word := e.word
	registers := 0
	for _, operand := range armOperand.FindAllStringSubmatch(text, -1) {
		n, err := strconv.ParseUint(operand[2], 10, 32)
		if err != nil {
			panic("gen: " + text)
		}
		value, most := uint32(n), uint32(31)
		switch operand[1] {
		case "[":
			word |= value&1<<21 | value>>1<<11
			most = 3
		case "#":
			word |= (e.immValue - value) << 16
			most = e.immValue
		default:
			word |= value << [...]int{0, 5, 16}[registers]
			registers++
		}
		if value > most {
			panic(fmt.Sprintf("gen: %d in %s", value, text))
		}
	}
	return word
}

// arm is a function of arm64. Its instructions are op's, in Go's notation, or neon's.
type arm struct{ *function }

// neon writes an instruction that Go's assembler does not know, in Arm's notation.
func (k *arm) neon(meaning, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	k.op(fmt.Sprintf("%-32s %s", text, meaning), "WORD $0x%08x", encode(text))
}

// done returns to Go, which expects nothing of vectors.
func (k *arm) done() { k.op("done", "RET") }

// clear sets a vector to 0.
func (k *arm) clear(i int, meaning string) { k.op(meaning, "VMOVI $0, V%d.B16", i) }

// load and store move a whole vector at an offset.
func (k *arm) load(i, offset int, base, meaning string) {
	k.op(meaning, "FMOVQ %s, F%d", mem(offset, base), i)
}

func (k *arm) store(i, offset int, base, meaning string) {
	k.op(meaning, "FMOVQ F%d, %s", i, mem(offset, base))
}

// loadPair reads two vectors that are neighbours.
func (k *arm) loadPair(i, j, offset int, base, meaning string) {
	k.op(meaning, "FLDPQ %s, (F%d, F%d)", mem(offset, base), i, j)
}

// four names four vectors of float32, for instructions that move 64 bytes.
func four(first int) string {
	var names []string
	for i := range 4 {
		names = append(names, fmt.Sprintf("V%d.S4", first+i))
	}
	return "[" + strings.Join(names, ", ") + "]"
}

// broadcast fills the words of a vector with a constant.
func (k *arm) broadcast(i int, bits uint32, meaning string) {
	k.op(meaning, "MOVW $0x%08x, R9", bits)
	k.op("in all words", "VDUP R9, V%d.S4", i)
}

// beginARM starts a function.
func beginARM(f *file, s *stubs, set isa, sig signature, comment ...string) *arm {
	return &arm{f.begin(s, set, sig, comment...)}
}

// generateARM64 returns the files of arm64.
func generateARM64() map[string]string {
	var s stubs
	files := []*file{gemmARM(&s), vectorsARM(&s), preparesARM(&s)}
	for _, set := range []isa{neon, dotprod, i8mm} {
		files = append(files, peaksARM(&s, set))
		for _, format := range blockFormats() {
			files = append(files, linearBlocksARM(&s, set, format))
		}
		for _, format := range superFormatsARM() {
			files = append(files, linearSuperARM(&s, set, format))
		}
	}
	texts := map[string]string{"kernels_arm64.go": s.text()}
	for _, f := range files {
		texts[f.name] = f.text()
	}
	return texts
}
