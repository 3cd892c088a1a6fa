//go:build !purego

package cpu

// assemblyLevels lists the levels written in assembly that this machine runs, best first. Go's own code needs Advanced
// SIMD, so that is always there.
func assemblyLevels() []level { return []level{{"neon", neonKernels}} }

// neonKernels have vectors of 16 bytes. Weights that are integers are multiplied in plain Go.
func neonKernels() *kernels {
	k := goKernels()
	k.level = "neon"
	copy(k.linears, floatLinears(gemmF32NEON(), gemmF16NEON(), gemmBF16NEON()))
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
