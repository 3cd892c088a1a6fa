//go:build !purego

package cpu

import (
	"slices"

	"github.com/klauspost/cpuid/v2"
)

//go:generate go run ./gen

// assemblyLevels lists the levels written in assembly that this machine runs, best first.
func assemblyLevels() []level {
	cpu := cpuid.CPU
	var levels []level
	if !cpu.Supports(cpuid.AVX2, cpuid.FMA3, cpuid.F16C) {
		return nil
	}
	if cpu.Supports(cpuid.AVX512F, cpuid.AVX512BW, cpuid.AVX512VL, cpuid.AVX512DQ) {
		if cpu.Supports(cpuid.AVX512VNNI) {
			levels = append(levels, level{"avx512vnni", vnniKernels})
		}
		levels = append(levels, level{"avx512", avx512Kernels})
	}
	if cpu.Supports(cpuid.AVXVNNI) {
		levels = append(levels, level{"avxvnni", avxVNNIKernels})
	}
	return append(levels, level{"avx2", avx2Kernels})
}

// avx2Kernels are for machines with vectors of 32 bytes; AVX2, FMA3 and F16C came together.
func avx2Kernels() *kernels {
	k := &kernels{
		level: "avx2",
		linears: slices.Concat(floatLinears(gemmF32AVX2(), gemmF16AVX2(), gemmBF16AVX2()), []*linear{
			pairLinearQ8_0(linearQ8_0AVX2()), quadLinearQ4_0(linearQ4_0AVX2()), superLinearQ4_K(linearQ4_KAVX2()),
			superLinearQ5_K(linearQ5_KAVX2()), superLinearQ6_K(linearQ6_KAVX2())}, shortLinearsAVX2(), runsLinearsAVX2()),
		gemmF32:      floatGemm(gemmF32AVX2()),
		gemmF16:      floatGemm(gemmF16AVX2()),
		gemmBF16:     floatGemm(gemmBF16AVX2()),
		sumSquares:   sumSquaresAVX2,
		scaleMul:     scaleMulAVX2,
		maxOf:        maxOfAVX2,
		expSum:       expSumAVX2,
		scale:        scaleAVX2,
		add:          addAVX2,
		siluMul:      siluMulAVX2,
		addScaled:    addScaledAVX2,
		rotateHalves: rotateHalvesAVX2,
		rotatePairs:  rotatePairsAVX2,
		halves:       halvesAVX2,
		peaks:        peaksAVX2(),
		reads:        readsAVX2(),
	}
	k.cacheAVX2()
	return k
}

// avxVNNIKernels multiply bytes in fours with one instruction, on vectors of 32 bytes.
func avxVNNIKernels() *kernels {
	k := avx2Kernels()
	k.level = "avxvnni"
	k.linears = slices.Concat(floatLinears(gemmF32AVX2(), gemmF16AVX2(), gemmBF16AVX2()), []*linear{
		quadLinearQ8_0(linearQ8_0AVXVNNI()), quadLinearQ4_0(linearQ4_0AVXVNNI()), superLinearQ4_K(linearQ4_KAVXVNNI()),
		superLinearQ5_K(linearQ5_KAVXVNNI()), superLinearQ6_K(linearQ6_KAVXVNNI())}, shortLinearsAVXVNNI(), runsLinearsAVXVNNI())
	k.peaks = append(k.peaks, peaksAVXVNNI()...)
	return k
}

// avx512Kernels have vectors of 64 bytes where arithmetic is what takes the time.
func avx512Kernels() *kernels {
	k := avx2Kernels()
	k.level = "avx512"
	k.linears = slices.Concat(floatLinears(gemmF32AVX512(), gemmF16AVX512(), gemmBF16AVX512()), []*linear{
		pairLinearQ8_0(linearQ8_0AVX512()), quadLinearQ4_0(linearQ4_0AVX512()), superLinearQ4_K(linearQ4_KAVX512()),
		superLinearQ5_K(linearQ5_KAVX512()), superLinearQ6_K(linearQ6_KAVX512())}, shortLinearsAVX512(), runsLinearsAVX512())
	k.gemmF32 = floatGemm(gemmF32AVX512())
	k.gemmF16 = floatGemm(gemmF16AVX512())
	k.gemmBF16 = floatGemm(gemmBF16AVX512())
	k.cacheAVX512()
	k.peaks, k.reads = peaksAVX512(), readsAVX512()
	return k
}

// vnniKernels do so on vectors of 64 bytes.
func vnniKernels() *kernels {
	k := avx512Kernels()
	k.level = "avx512vnni"
	k.linears = slices.Concat(floatLinears(gemmF32AVX512(), gemmF16AVX512(), gemmBF16AVX512()), []*linear{
		quadLinearQ8_0(linearQ8_0VNNI()), quadLinearQ4_0(linearQ4_0VNNI()), superLinearQ4_K(linearQ4_KVNNI()),
		superLinearQ5_K(linearQ5_KVNNI()), superLinearQ6_K(linearQ6_KVNNI())}, shortLinearsVNNI(), runsLinearsVNNI())
	k.peaks = append(k.peaks, peaksVNNI()...)
	return k
}
