package main

import "fmt"

// instruction is one that Go's assembler lacks, by its bytes and as it would read in Go's order of operands.
type instruction struct {
	text string
	code []byte
}

// vexDotBytes is the short form of VPDPBUSD for 32-byte vectors, which came with AVX-VNNI; the assembler knows the one of
// AVX-512 alone. To each 32-bit element of dst it adds the products of four unsigned bytes of u with four signed ones of
// x. VEX.256.66.0F38.W0 50 /r (Intel's Software Developer's Manual, volume 2, "VPDPBUSD").
func vexDotBytes(x, u, dst int) instruction {
	return instruction{
		text: fmt.Sprintf("VPDPBUSD Y%d, Y%d, Y%d", x, u, dst),
		code: []byte{
			0xc4,
			inverted(dst, 3)<<7 | 1<<6 | inverted(x, 3)<<5 | map0F38,
			^byte(u)&15<<3 | 1<<2 | prefix66,
			0x50,
			modRegister | byte(dst&7)<<3 | byte(x&7),
		},
	}
}

// halves are an operand of bfloat16: a register, or a word in memory that all elements share.
type halves struct {
	base     string // register of the address; "": none
	offset   int
	register int
}

// evexDotHalves is VDPBF16PS of AVX512-BF16 on 64-byte vectors: to each float32 of dst it adds the products of two bfloat16
// of w with two of x. EVEX.512.F3.0F38.W0 52 /r, with the broadcast bit for memory (the same volume, "VDPBF16PS").
func evexDotHalves(x halves, w, dst int) instruction {
	const broadcast, length512 = 1 << 4, 2 << 5
	code := []byte{
		0x62,
		inverted(dst, 3)<<7 | inverted(x.register, 4)<<6 | inverted(x.register, 3)<<5 | inverted(dst, 4)<<4 | map0F38,
		^byte(w)&15<<3 | 1<<2 | prefixF3,
		length512 | inverted(w, 4)<<3,
		0x52,
	}
	if x.base == "" {
		code = append(code, modRegister|byte(dst&7)<<3|byte(x.register&7))
		return instruction{fmt.Sprintf("VDPBF16PS Z%d, Z%d, Z%d", x.register, w, dst), code}
	}
	number, ok := map[string]int{"AX": 0, "CX": 1, "DX": 2, "BX": 3, "SI": 6, "DI": 7}[x.base]
	if !ok {
		panic("gen: no encoding for base " + x.base)
	}
	code[3] |= broadcast
	reg := byte(dst&7)<<3 | byte(number)
	// Offsets in one byte count in words.
	switch words := x.offset / 4; {
	case x.offset == 0:
		code = append(code, modNoOffset|reg)
	case x.offset%4 == 0 && words == int(int8(words)):
		code = append(code, modByteOffset|reg, byte(words))
	default:
		code = append(code, modWordOffset|reg, byte(x.offset), byte(x.offset>>8), byte(x.offset>>16), byte(x.offset>>24))
	}
	return instruction{fmt.Sprintf("VDPBF16PS.BCST %s, Z%d, Z%d", mem(x.offset, x.base), w, dst), code}
}

// Fields of the prefixes and of the byte that names operands (the same volume, section 2.3 and 2.7).
const (
	map0F38  = 2
	prefix66 = 1
	prefixF3 = 2

	modNoOffset   = 0 << 6
	modByteOffset = 1 << 6
	modWordOffset = 2 << 6
	modRegister   = 3 << 6
)

// inverted is a bit of a register's number as prefixes store it.
func inverted(register, bit int) byte { return byte(register>>bit)&1 ^ 1 }
