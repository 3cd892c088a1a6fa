package main

import "fmt"

// dot is a sequence of instructions with which sums of products can be made: what the fastest kernel could do if it
// did nothing else.
type dot struct {
	name string // of the function, after "peak"
	emit func(k *function, sum int)
}

// Registers of the peak kernels: sums from 0, then two factors, ones of 16 bits, and a temporary.
const (
	peakSums   = 12 // more than latency times throughput of any of the instructions
	peakX      = peakSums
	peakW      = peakSums + 1
	peakOnes   = peakSums + 2
	peakTmp    = peakSums + 3
	peakUnroll = 4
)

// dots lists the sequences of an instruction set beyond those of the one it builds on.
func dots(set isa) []dot {
	switch {
	case set.bfloat16:
		return []dot{{"DotHalves", func(k *function, sum int) {
			k.encoded("sum += two products", evexDotHalves(halves{register: peakX}, peakW, sum))
		}}}
	case set.vnni && set.wide():
		return []dot{{"DotQuads", func(k *function, sum int) {
			k.op("sum += four products", "VPDPBUSD %s, %s, %s", k.v(peakX), k.v(peakW), k.v(sum))
		}}}
	case set.vnni:
		return []dot{{"DotQuads", func(k *function, sum int) {
			k.encoded("sum += four products", vexDotBytes(peakX, peakW, sum))
		}}}
	}
	add := func(k *function, sum int) { k.op("sum += them", "VPADDD %s, %s, %s", k.v(peakTmp), k.v(sum), k.v(sum)) }
	return []dot{
		{"DotPairs", func(k *function, sum int) {
			k.op("two products of 16 bits", "VPMADDWD %s, %s, %s", k.v(peakX), k.v(peakW), k.v(peakTmp))
			add(k, sum)
		}},
		{"DotBytes", func(k *function, sum int) {
			k.op("two products of bytes", "VPMADDUBSW %s, %s, %s", k.v(peakX), k.v(peakW), k.v(peakTmp))
			k.op("two of these, in 32 bits", "VPMADDWD %s, %s, %s", k.v(peakOnes), k.v(peakTmp), k.v(peakTmp))
			add(k, sum)
		}},
		{"Products", func(k *function, sum int) {
			k.op("two products of bytes, in 16 bits", "VPMADDUBSW %s, %s, %s", k.v(peakX), k.v(peakW), k.v(sum))
		}},
		{"FMA", func(k *function, sum int) {
			k.op("sum += product", "VFMADD231PS %s, %s, %s", k.v(peakX), k.v(peakW), k.v(sum))
		}},
	}
}

// peaks writes what measures the limits of an instruction set: its dots, on registers alone, and the reading of memory.
func peaks(s *stubs, set isa) *file {
	f := newFile("peak", set)
	for _, d := range dots(set) {
		f.peak(s, set, d)
	}
	if !set.vnni && !set.bfloat16 {
		f.read(s, set, "read", "Reads n bytes in address order. n is a multiple of 256 and not 0.", false)
		f.readBeside(s, set)
		f.read(s, set, "readAhead", "Reads n bytes in address order, and asks for those of the next page. n is a multiple of 256 and not 0.", true)
	}
	return f
}

// peak writes one dot. All factors are 0, so that nothing overflows; how long an instruction takes does not depend on it.
func (f *file) peak(s *stubs, set isa, d dot) {
	name := "peak" + d.name + set.suffix
	k := f.begin(s, set, signature{name, "(rounds int)", 8, 0},
		fmt.Sprintf("Runs %d sequences a round, on %d independent sums in registers. rounds is at least 1.", peakSums*peakUnroll, peakSums),
		fmt.Sprintf("Registers: %s0 to %s%d sums, the next two factors, then ones and products; CX rounds left.", set.prefix, set.prefix, peakSums-1))
	k.op("rounds", "MOVQ rounds+0(FP), CX")
	for i := range peakOnes + 1 {
		k.zero(i, "0")
	}
	k.at(name + "round")
	for i := range peakSums * peakUnroll {
		d.emit(k, i%peakSums)
	}
	k.op("one round less", "DECQ CX")
	k.op("until all are done", "JNZ %sround", name)
	k.end()
}

// readBeside writes a reading of four parts of memory, a line of each in turn.
func (f *file) readBeside(s *stubs, set isa) {
	name := "readBeside" + set.suffix
	k := f.begin(s, set, signature{name, "(p *byte, n int)", 16, 0},
		"Reads the four quarters of n bytes side by side. n is a multiple of 256 and not 0.",
		fmt.Sprintf("Registers: AX, BX, DX, SI places, CX bytes of a quarter left, %s0 to %s3 what is read.", set.prefix, set.prefix))
	places := []string{"AX", "BX", "DX", "SI"}
	k.op("memory", "MOVQ p+0(FP), AX")
	k.op("bytes to read", "MOVQ n+8(FP), CX")
	k.op("in a quarter", "SHRQ $2, CX")
	for i, place := range places[1:] {
		k.op("the next quarter", "LEAQ (%s)(CX*1), %s", places[i], place)
	}
	k.at(name + "next")
	for _, place := range places {
		for at := 0; at < 64; at += set.bytes {
			k.load(at/set.bytes, mem(at, place), "read")
		}
	}
	for _, place := range places {
		k.op("next line", "ADDQ $64, %s", place)
	}
	k.op("less to do", "SUBQ $64, CX")
	k.op("until all is read", "JNZ %snext", name)
	k.end()
}

// read writes a reading of memory.
func (f *file) read(s *stubs, set isa, name, meaning string, ahead bool) {
	name += set.suffix
	k := f.begin(s, set, signature{name, "(p *byte, n int)", 16, 0}, meaning,
		fmt.Sprintf("Registers: AX place, CX bytes left, %s0 to %s3 what is read.", set.prefix, set.prefix))
	k.op("memory", "MOVQ p+0(FP), AX")
	k.op("bytes to read", "MOVQ n+8(FP), CX")
	k.at(name + "next")
	for at := 0; at < 256; at += set.bytes {
		if ahead && at%64 == 0 {
			k.op("line of the next page", "PREFETCHT1 %d(AX)", prefetchDistance+at)
		}
		k.load(at/set.bytes%4, mem(at, "AX"), "read")
	}
	k.op("next", "ADDQ $256, AX")
	k.op("less to do", "SUBQ $256, CX")
	k.op("until all is read", "JNZ %snext", name)
	k.end()
}
