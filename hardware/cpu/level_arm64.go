//go:build !purego

package cpu

import (
	"golang.org/x/sys/cpu"

	"hearth/hardware/quant"
)

// assemblyLevels lists the levels written in assembly, best first. Go's own code needs Advanced SIMD, so that is always
// there.
func assemblyLevels() []level {
	return []level{
		{"i8mm", i8mmKernels, lacking(cpu.ARM64.HasI8MM, "I8MM")},
		{"dotprod", dotProdKernels, lacking(cpu.ARM64.HasASIMDDP, "ASIMDDP")},
		{name: "neon", open: neonKernels},
	}
}

// lacking names a feature that the processor lacks.
func lacking(has bool, feature string) string {
	if has {
		return ""
	}
	return feature
}

// neonKernels have vectors of 16 bytes and no instruction for sums of products of bytes. What is not named here is done in
// plain Go.
func neonKernels() *kernels {
	k := goKernels()
	k.level = "neon"
	k.linears = armLinears(preparesInFours(), integerKernels{
		q8_0: linearQ8_0NEON(), q4_0: linearQ4_0NEON(), q4_1: linearQ4_1NEON(), q5_0: linearQ5_0NEON(), q5_1: linearQ5_1NEON(),
		iq4_nl: linearIQ4_NLNEON(), mxfp4: linearMXFP4NEON(), q4_K: linearQ4_KNEON(), q5_K: linearQ5_KNEON(), q6_K: linearQ6_KNEON(),
		iq4_xs: linearIQ4_XSNEON(), q2_K: linearQ2_KNEON(), q3_K: linearQ3_KNEON(),
	})
	k.gemmF32 = floatGemm(gemmF32NEON())
	k.gemmF16 = floatGemm(gemmF16NEON())
	k.gemmBF16 = floatGemm(gemmBF16NEON())
	k.sumSquares = sumSquaresNEON
	k.scaleMul = scaleMulNEON
	k.maxOf = maxOfNEON
	k.expSum = expSumNEON
	k.scale = scaleNEON
	k.add = addNEON
	k.addRows = addRows(addNEON)
	k.siluMul = siluMulNEON
	k.sigmoidMul = sigmoidMulNEON
	k.clippedMul = clippedMulNEON
	k.addScaled = addScaledNEON
	k.mulAdd = mulAddNEON
	k.rotateHalves = rotateHalvesNEON
	k.rotatePairs = rotatePairsNEON
	k.halves = halvesNEON
	k.scaleByHalves = scaleByHalvesNEON
	k.peaks, k.reads = peaksNEON(), readsNEON()
	return k
}

// dotProdKernels multiply bytes in fours with one instruction.
func dotProdKernels() *kernels {
	k := neonKernels()
	k.level = "dotprod"
	k.peaks = append(k.peaks, peaksDotProd()...)
	k.linears = armLinears(preparesInFours(), integerKernels{
		q8_0: linearQ8_0DotProd(), q4_0: linearQ4_0DotProd(), q4_1: linearQ4_1DotProd(), q5_0: linearQ5_0DotProd(), q5_1: linearQ5_1DotProd(),
		iq4_nl: linearIQ4_NLDotProd(), mxfp4: linearMXFP4DotProd(), q4_K: linearQ4_KDotProd(), q5_K: linearQ5_KDotProd(), q6_K: linearQ6_KDotProd(),
		iq4_xs: linearIQ4_XSDotProd(), q2_K: linearQ2_KDotProd(), q3_K: linearQ3_KDotProd(),
	})
	return k
}

// i8mmKernels multiply bytes in eights, of two rows with two columns.
func i8mmKernels() *kernels {
	k := neonKernels()
	k.level = "i8mm"
	k.peaks = append(k.peaks, peaksI8MM()...)
	k.linears = armLinears(preparesInEights(), integerKernels{
		q8_0: linearQ8_0I8MM(), q4_0: linearQ4_0I8MM(), q4_1: linearQ4_1I8MM(), q5_0: linearQ5_0I8MM(), q5_1: linearQ5_1I8MM(),
		iq4_nl: linearIQ4_NLI8MM(), mxfp4: linearMXFP4I8MM(), q4_K: linearQ4_KI8MM(), q5_K: linearQ5_KI8MM(), q6_K: linearQ6_KI8MM(),
		iq4_xs: linearIQ4_XSI8MM(), q2_K: linearQ2_KI8MM(), q3_K: linearQ3_KI8MM(),
	})
	return k
}

// armKernels are the kernels of a level's formats, armPrepares what fills their tiles.
type armKernels struct {
	q8_0, q4_0, q4_1, q5_0, q5_1, iq4_nl, mxfp4, q4_K, q5_K, q6_K, iq4_xs, q2_K, q3_K []panelKernel
}

type armPrepares struct {
	group                                          group
	short, shortSums, long, sums32, sums16, starts prepareKernel
}

func preparesInFours() armPrepares {
	return armPrepares{4, prepareShortInFoursNEON, prepareShortSumsInFoursNEON, prepareLongInFoursNEON, prepareSums32InFoursNEON, prepareSums16InFoursNEON, prepareStartsInFoursNEON}
}

func preparesInEights() armPrepares {
	return armPrepares{8, prepareShortInEightsNEON, prepareShortSumsInEightsNEON, prepareLongInEightsNEON, prepareSums32InEightsNEON, prepareSums16InEightsNEON, prepareStartsInEightsNEON}
}

// armLinears are the linears of a level.
func armLinears(p armPrepares, k integerKernels) []*linear {
	g := p.group
	linears := append(floatLinears(gemmF32NEON(), gemmF16NEON(), gemmBF16NEON()),
		g.linearQ8_0(k.q8_0, p.short),
		g.linearShort(newShortFormat(shortFormat{format: quant.Q4_0}), k.q4_0, p.short),
		g.linearSuper(layoutQ4_K(), 16, k.q4_K, p.sums32),
		g.linearSuper(layoutQ5_K(), 16, k.q5_K, p.sums32),
		g.linearSuper(layoutQ6_K(), 16*int(g), k.q6_K, p.starts))
	short := k.short()
	for i, s := range shortFormats() {
		prepare := p.short
		if s.minimums {
			prepare = p.shortSums
		}
		linears = append(linears, g.linearShort(s, short[i], prepare))
	}
	return append(linears,
		g.linearSuper(layoutIQ4_XS(), 0, k.iq4_xs, p.long),
		g.linearSuper(layoutQ2_K(), 32, k.q2_K, p.sums16),
		g.linearSuper(layoutQ3_K(), 0, k.q3_K, p.long))
}
