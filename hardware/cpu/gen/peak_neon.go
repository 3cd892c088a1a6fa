package main

import "fmt"

// Registers of arm64's peak kernels: sums from 0, then two factors and a temporary.
const (
	armSums   = 24 // four pipes, of instructions that take four cycles or fewer, and some more
	armX      = armSums
	armW      = armSums + 1
	armTmp    = armSums + 2
	armUnroll = 2
)

// armDots lists the sequences of an instruction set of arm64 beyond those of the one it builds on.
func armDots(set isa) []armDot {
	switch set.file {
	case dotprod.file:
		return []armDot{{"DotQuads", func(k *arm, sum int) {
			k.neon("sum += four products", "SDOT V%d.4S, V%d.16B, V%d.4B[0]", sum, armX, armW)
		}}}
	case i8mm.file:
		return []armDot{{"DotTiles", func(k *arm, sum int) {
			k.neon("sum += eight products", "SMMLA V%d.4S, V%d.16B, V%d.16B", sum, armX, armW)
		}}}
	}
	return []armDot{
		{"DotBytes", func(k *arm, sum int) {
			k.neon("products in 16 bits", "SMULL V%d.8H, V%d.8B, V%d.8B", armTmp, armX, armW)
			k.neon("sum += two of them", "SADALP V%d.4S, V%d.8H", sum, armTmp)
		}},
		{"FMA", func(k *arm, sum int) {
			k.neon("sum += product", "FMLA V%d.4S, V%d.4S, V%d.4S", sum, armX, armW)
		}},
	}
}

// armDot is a dot of arm64.
type armDot struct {
	name string // of the function, after "peak"
	emit func(k *arm, sum int)
}

// peaksARM writes what measures the limits of an instruction set of arm64.
func peaksARM(s *stubs, set isa) *file {
	f := newFile("peak", set)
	for _, d := range armDots(set) {
		name := "peak" + d.name + set.suffix
		k := beginARM(f, s, set, signature{name, "(rounds int)", 8, 0},
			fmt.Sprintf("Runs %d sequences a round, on %d independent sums in registers. rounds is at least 1.", armSums*armUnroll, armSums),
			fmt.Sprintf("Registers: V0 to V%d sums, the next two factors, then products; R0 rounds left.", armSums-1))
		k.op("rounds", "MOVD rounds+0(FP), R0")
		for i := range armTmp + 1 {
			k.clear(i, "0")
		}
		k.at(name + "round")
		for i := range armSums * armUnroll {
			d.emit(k, i%armSums)
		}
		k.op("one round less", "SUBS $1, R0, R0")
		k.op("until all are done", "BNE %sround", name)
		k.done()
	}
	if set.file == neon.file {
		readARM(f, s)
	}
	return f
}

// readARM writes the reading of memory.
func readARM(f *file, s *stubs) {
	name := "readNEON"
	k := beginARM(f, s, neon, signature{name, "(p *byte, n int)", 16, 0},
		"Reads n bytes in address order. n is a multiple of 256 and not 0.", "Registers: R0 place, R1 bytes left, V0 to V7 what is read.")
	k.op("memory", "MOVD p+0(FP), R0")
	k.op("bytes to read", "MOVD n+8(FP), R1")
	k.at(name + "next")
	for at := 0; at < 256; at += 32 {
		v := at / 16 % 8
		k.loadPair(v, v+1, at, "R0", "read")
	}
	k.op("next", "ADD $256, R0, R0")
	k.op("less to do", "SUBS $256, R1, R1")
	k.op("until all is read", "BNE %snext", name)
	k.done()
}
