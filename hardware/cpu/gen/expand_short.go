package main

import "slices"

// expandedShorts are the formats of short codes that are expanded, expandedRuns those with runs: the ones whose codes take
// more than an instruction or two to unpack.
func expandedShorts() []shortFormat {
	return slices.DeleteFunc(shortFormats(), func(f shortFormat) bool { return !f.fifths })
}

func expandedRuns() []runsFormat {
	return slices.DeleteFunc(runsFormats(), func(f runsFormat) bool { return f.values != nil })
}

// shortExpanders writes the functions that unpack them.
func shortExpanders(s *stubs) *file {
	f := newFile("expand_short", avx2)
	c := shortConstants{
		mask:  f.constant("nibbles", "low nibbles of bytes", 0x0f0f0f0f),
		upper: f.constant("fifths", "the bit above them", fifthBits),
	}
	for _, format := range expandedShorts() {
		expandShort(f, s, format, c)
	}
	r := superConstants{
		mask:  f.constant("pairs", "pairs of bits", 0x03030303),
		upper: f.constant("thirds", "the bit above them", thirdBits),
	}
	for _, format := range expandedRuns() {
		expandRuns(f, s, format, r)
	}
	return f
}

// expandShort writes the function that unpacks blocks of a format with values of 16-bit sums.
func expandShort(f *file, s *stubs, format shortFormat, c shortConstants) {
	fn := f.begin(s, avx2, signature{"expand" + format.name + "AVX2", expandParams, 24, 0},
		"Pairs of blocks with scales as they are, and for each block what the codes stand for, [8 words][16 columns][4] bytes.",
		"Registers: DI dst, AX panel, DX pairs left, R12 a counter; Y0 weights, Y3 codes or other bits. There are no tails.")
	k := &shorts{linear: &linear{function: fn}, shortFormat: format, shortConstants: c, t: 3}
	k.label = format.name
	k.op("unpacked weights", "MOVQ dst+0(FP), DI")
	k.op("packed ones", "MOVQ panel+8(FP), AX")
	k.op("pairs of blocks to do", "MOVQ blocks+16(FP), DX")
	k.at(k.label + "pair")
	k.prefetchExpanded(k.headBytes())
	for i := 0; i < k.headBytes(); i += 32 {
		k.op("scales", "VMOVDQU %s, Y0", mem(i, "AX"))
		k.op("as they are", "VMOVDQU Y0, %s", mem(i, "DI"))
	}
	k.op("their codes", "ADDQ $%d, AX", k.headBytes())
	k.op("and weights", "ADDQ $%d, DI", k.headBytes())
	k.repeat("R12", k.label+"block", 2, func() {
		k.prefetchExpanded(k.blockBytes())
		for step := range 8 {
			for h := range 2 {
				k.weights(0, step, h)
				k.op("as bytes", "VMOVDQU Y0, %s", mem(64*step+32*h, "DI"))
			}
		}
		k.op("next codes", "ADDQ $%d, AX", k.blockBytes())
		k.op("next weights", "ADDQ $%d, DI", 8*64)
	})
	k.op("one pair less", "DECQ DX")
	k.op("until all are done", "JNZ %spair", k.label)
	k.end()
}

// expandRuns writes the function that unpacks blocks of a format with runs of 16.
func expandRuns(f *file, s *stubs, format runsFormat, c superConstants) {
	fn := f.begin(s, avx2, signature{"expand" + format.name + "AVX2", expandParams, 24, 0},
		"Blocks of 256 with scales as they are, and then with runs of scales as [16 columns][2] int16 and of weights as bytes.",
		"Registers: DI dst, AX panel, R8 scales, DX blocks left, R12 a counter; Y0 and Y1 weights, Y3 other bits. There are no",
		"tails.")
	k := &runs{superSums: &superSums{linear: &linear{function: fn}, w: []int{0, 1}, t: 3, superConstants: c}, runsFormat: format}
	k.label = format.name
	k.op("unpacked weights", "MOVQ dst+0(FP), DI")
	k.op("packed ones", "MOVQ panel+8(FP), AX")
	k.op("blocks to do", "MOVQ blocks+16(FP), DX")
	k.at(k.label + "block")
	k.op("scales of runs", "LEAQ 64(AX), R8")
	for i := 0; i < k.codesOffset(); i += 32 {
		k.op("scales", "VMOVDQU %s, Y0", mem(i, "AX"))
		k.op("as they are", "VMOVDQU Y0, %s", mem(i, "DI"))
	}
	k.op("codes", "ADDQ $%d, AX", k.codesOffset())
	k.op("and weights", "ADDQ $%d, DI", k.codesOffset())
	k.repeat("R12", k.label+"pair", 8, func() {
		k.prefetchExpanded(k.codeBytes)
		for run := range 2 {
			for h := range 2 {
				k.runScale(0, 0, run, h)
				k.op("scales in pairs", "VMOVDQU Y0, %s", mem(expandedRunQ6*run+32*h, "DI"))
			}
			for step := range 4 {
				for h := range 2 {
					k.bitsOf(run, step, h)
					k.op("as bytes", "VMOVDQU Y%d, %s", h, mem(expandedRunQ6*run+64+64*step+32*h, "DI"))
				}
			}
		}
		k.op("next codes", "ADDQ $%d, AX", k.codeBytes)
		k.op("next weights", "ADDQ $%d, DI", 2*expandedRunQ6)
		k.op("next scales", "ADDQ $32, R8")
	})
	k.op("one block less", "DECQ DX")
	k.op("until all are done", "JNZ %sblock", k.label)
	k.end()
}
