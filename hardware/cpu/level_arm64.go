//go:build !purego

package cpu

import (
	"slices"

	"golang.org/x/sys/cpu"
)

// assemblyLevels lists the levels written in assembly, best first. Go's own code needs Advanced SIMD, so that is always
// there.
func assemblyLevels() []level {
	dotProd, i8mm := "", ""
	if !cpu.ARM64.HasASIMDDP {
		dotProd, i8mm = "ASIMDDP", "ASIMDDP"
	}
	if !cpu.ARM64.HasI8MM {
		i8mm = "I8MM"
	}
	return []level{{"i8mm", i8mmKernels, i8mm}, {"dotprod", dotProdKernels, dotProd}, {name: "neon", open: neonKernels}}
}

// neonKernels have vectors of 16 bytes and no products of bytes that add more than one. What is not named here is done in plain
// Go.
func neonKernels() *kernels {
	k := goKernels()
	k.level = "neon"
	k.linears = armLinears(4, armKernels{linearQ8_0NEON(), linearQ4_0NEON(), linearQ4_KNEON(), linearQ5_KNEON(), linearQ6_KNEON(),
		prepareShort4NEON, prepareSums4NEON, prepareStarts4NEON})
	k.gemmF32 = floatGemm(gemmF32NEON())
	k.gemmF16 = floatGemm(gemmF16NEON())
	k.gemmBF16 = floatGemm(gemmBF16NEON())
	k.sumSquares = sumSquaresNEON
	k.scaleMul = scaleMulNEON
	k.maxOf = maxOfNEON
	k.expSum = expSumNEON
	k.scale = scaleNEON
	k.add = addNEON
	k.siluMul = siluMulNEON
	k.addScaled = addScaledNEON
	k.rotateHalves = rotateHalvesNEON
	k.rotatePairs = rotatePairsNEON
	k.halves = halvesNEON
	return k
}

// dotProdKernels multiply bytes in fours with one instruction.
func dotProdKernels() *kernels {
	k := neonKernels()
	k.level = "dotprod"
	k.linears = armLinears(4, armKernels{linearQ8_0DotProd(), linearQ4_0DotProd(), linearQ4_KDotProd(), linearQ5_KDotProd(), linearQ6_KDotProd(),
		prepareShort4NEON, prepareSums4NEON, prepareStarts4NEON})
	return k
}

// i8mmKernels multiply bytes in eights, of two rows with two columns.
func i8mmKernels() *kernels {
	k := neonKernels()
	k.level = "i8mm"
	k.linears = armLinears(8, armKernels{linearQ8_0I8MM(), linearQ4_0I8MM(), linearQ4_KI8MM(), linearQ5_KI8MM(), linearQ6_KI8MM(),
		prepareShort8NEON, prepareSums8NEON, prepareStarts8NEON})
	return k
}

// armKernels are what the linears of a level are made of.
type armKernels struct {
	q8_0, q4_0, q4_K, q5_K, q6_K []panelKernel
	short, sums, starts          prepareKernel
}

// armLinears are the linears of a level. The formats without kernels are multiplied in plain Go.
func armLinears(g group, k armKernels) []*linear {
	return slices.Concat(floatLinears(gemmF32NEON(), gemmF16NEON(), gemmBF16NEON()), []*linear{
		g.linearQ8_0(k.q8_0, k.short), g.linearQ4_0(k.q4_0, k.short), g.linearSuper(layoutQ4_K(), k.q4_K, k.sums),
		g.linearSuper(layoutQ5_K(), k.q5_K, k.sums), g.linearSuper(layoutQ6_K(), k.q6_K, k.starts),
	}, genericShortLinears(), genericRunsLinears())
}
