package main

// expanders writes the functions that unpack pieces of panels for kernels of expanded weights: what the other kernels do
// with weights whenever they read them is done once for many tiles.
func expanders(s *stubs) *file {
	f := newFile("expand", avx2)
	e := &expander{
		nibble: f.constant("nibbles", "low nibbles of bytes", 0x0f0f0f0f),
		fifth:  f.constant("fifths", "the bit above them", fifthBits),
		sixth:  f.constant("sixths", "the two bits above them", sixthBits),
	}
	e.fives(f, s)
	e.sixes(f, s)
	return f
}

// expander holds the names of constants.
type expander struct{ nibble, fifth, sixth string }

const expandParams = "(dst, panel *byte, blocks int)"

// begin reads the arguments: DI dst, AX panel, DX blocks.
func (e *expander) begin(f *file, s *stubs, format string, comment ...string) *function {
	comment = append(comment, "Registers: DI dst, AX panel, DX blocks left, R12 and R13 counters, R8 scales; Y0 and Y1 weights, Y2 the mask, Y3 and Y4",
		"other bits and their mask. There are no tails.")
	k := f.begin(s, avx2, signature{"expand" + format + "AVX2", expandParams, 24, 0}, comment...)
	k.label = format
	k.op("unpacked weights", "MOVQ dst+0(FP), DI")
	k.op("packed ones", "MOVQ panel+8(FP), AX")
	k.op("blocks to do", "MOVQ blocks+16(FP), DX")
	k.op("low nibbles of bytes", "VMOVDQU %s, Y2", e.nibble)
	return k
}

// next closes the loop over blocks.
func (e *expander) next(k *function) {
	k.op("one block less", "DECQ DX")
	k.op("until all are done", "JNZ %sblock", k.label)
	k.end()
}

// copy moves bytes as they are, in vectors.
func (e *expander) copy(k *function, bytes int, meaning string) {
	for i := 0; i < bytes; i += 32 {
		k.op(meaning, "VMOVDQU %s, Y0", mem(i, "AX"))
		k.op("as they are", "VMOVDQU Y0, %s", mem(i, "DI"))
	}
	k.op("behind them", "ADDQ $%d, AX", bytes)
	k.op("here too", "ADDQ $%d, DI", bytes)
}

// prefetchExpanded asks for the packed bytes of a page further on.
func (k *function) prefetchExpanded(bytes int) {
	for i := 0; i < bytes; i += 64 {
		k.op("weights of the next page", "PREFETCHT1 %d(AX)", prefetchDistance+i)
	}
}

// fives unpacks Q5_K.
func (e *expander) fives(f *file, s *stubs) {
	k := e.begin(f, s, "Q5_K", "Blocks of 256 with runs of scales as pairs of int16, and of weights as bytes.")
	k.op("the bit above nibbles", "VMOVDQU %s, Y4", e.fifth)
	k.at("Q5_Kblock")
	e.copy(k, firstRuns, "scales and minimums of 256")
	k.repeat("R13", "Q5_Khalf", 2, func() {
		k.op("scales of 4 runs", "MOVQ AX, R8")
		k.op("their weights", "ADDQ $64, AX")
		k.repeat("R12", "Q5_Krun", 4, func() {
			k.prefetchExpanded(runBytesQ5)
			for h := range 2 {
				k.op("scales of the run", "VPMOVZXBD %s, Y0", mem(8*h, "R8"))
				k.op("as high words", "VPSLLD $16, Y0, Y1")
				k.op("and as low ones", "VPOR Y1, Y0, Y0")
				k.op("as pairs", "VMOVDQU Y0, %s", mem(32*h, "DI"))
			}
			for step := range 8 {
				k.join(64+64*(step/2), 0, 64+64*step, joining{high: step%2 == 1, shift: 4 - step})
			}
			k.op("scales of the next run", "ADDQ $16, R8")
			k.op("next run", "ADDQ $%d, AX", runBytesQ5)
			k.op("here too", "ADDQ $%d, DI", expandedRun)
		})
	})
	e.next(k)
}

// joining says which nibbles are joined with bits that stand so many places too far right, or left if that is negative.
type joining struct {
	high  bool
	shift int
}

// join writes nibbles of 64 bytes at an offset of AX together with the bits of Y4 above them, of 64 bytes at another, at an
// offset of DI.
func (k *function) join(nibbles, bits, to int, j joining) {
	for i := 0; i < 64; i += 32 {
		k.op("lower bits of 8 weights of a column", "VMOVDQU %s, Y0", mem(nibbles+i, "AX"))
		if j.high {
			k.op("high nibbles", "VPSRLW $4, Y0, Y0")
		}
		k.op("upper bits of the column's weights", "VMOVDQU %s, Y3", mem(bits+i, "AX"))
		switch {
		case j.shift > 0:
			k.op("these weights' to their place", "VPSLLW $%d, Y3, Y3", j.shift)
		case j.shift < 0:
			k.op("these weights' to their place", "VPSRLW $%d, Y3, Y3", -j.shift)
		}
		k.op("one nibble of a byte", "VPAND Y2, Y0, Y0")
		k.op("their upper bits", "VPAND Y4, Y3, Y3")
		k.op("together", "VPOR Y3, Y0, Y0")
		k.op("as bytes", "VMOVDQU Y0, %s", mem(to+i, "DI"))
	}
}

// sixes unpacks Q6_K.
func (e *expander) sixes(f *file, s *stubs) {
	k := e.begin(f, s, "Q6_K", "Blocks of 256 with runs of scales as pairs of int16, and of weights as bytes.")
	k.op("the bits above nibbles", "VMOVDQU %s, Y4", e.sixth)
	k.at("Q6_Kblock")
	k.op("scales of two runs", "LEAQ %d(AX), R8", scalesQ6)
	e.copy(k, runsQ6, "scales of 256")
	k.repeat("R12", "Q6_Kruns", 8, func() {
		k.prefetchExpanded(2 * bytesOfRunQ6)
		for run, order := range []int{0xa0, 0xf5} {
			for h := range 2 {
				k.op("scales of two runs", "VPMOVSXBW %s, Y0", mem(16*h, "R8"))
				k.op("this one's twice", "VPSHUFLW $%#x, Y0, Y0", order)
				k.op("in the upper words too", "VPSHUFHW $%#x, Y0, Y0", order)
				k.op("as pairs", "VMOVDQU Y0, %s", mem(expandedRunQ6*run+32*h, "DI"))
			}
			for step := range 4 {
				from := bytesOfRunQ6 * run
				k.join(from+64+64*(step/2), from, expandedRunQ6*run+64+64*step, joining{high: step%2 == 1, shift: 4 - 2*step})
			}
		}
		k.op("scales of the next runs", "ADDQ $32, R8")
		k.op("next runs", "ADDQ $%d, AX", 2*bytesOfRunQ6)
		k.op("here too", "ADDQ $%d, DI", 2*expandedRunQ6)
	})
	e.next(k)
}
