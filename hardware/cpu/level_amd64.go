//go:build !purego

package cpu

import (
	"slices"
	"strings"

	"github.com/klauspost/cpuid/v2"

	"hearth/hardware/quant"
)

//go:generate go run ./gen

// assemblyLevels lists the levels written in assembly, best first.
func assemblyLevels() []level {
	short := []cpuid.FeatureID{cpuid.AVX2, cpuid.FMA3, cpuid.F16C}
	long := append(slices.Clip(short), cpuid.AVX512F, cpuid.AVX512BW, cpuid.AVX512VL, cpuid.AVX512DQ)
	bytes := append(slices.Clip(long), cpuid.AVX512VNNI)
	return []level{
		{"avx512bf16", bf16Kernels, lacking(append(slices.Clip(bytes), cpuid.AVX512BF16))},
		{"avx512vnni", vnniKernels, lacking(bytes)},
		{"avx512", avx512Kernels, lacking(long)},
		{"avxvnni", avxVNNIKernels, lacking(append(slices.Clip(short), cpuid.AVXVNNI))},
		{"avx2", avx2Kernels, lacking(short)},
	}
}

// lacking names the features that the processor lacks, or the operating system does not keep the registers of.
func lacking(features []cpuid.FeatureID) string {
	var names []string
	for _, f := range features {
		if !cpuid.CPU.Supports(f) {
			names = append(names, f.String())
		}
	}
	return strings.Join(names, ", ")
}

// avx2Kernels are for machines with vectors of 32 bytes; AVX2, FMA3 and F16C came together.
func avx2Kernels() *kernels {
	k := &kernels{
		level: "avx2",
		linears: withExpansionsAVX2(slices.Concat(floatLinears(gemmF32AVX2(), gemmF16AVX2(), gemmBF16AVX2()), []*linear{
			pairLinearQ8_0(linearQ8_0AVX2()), quadLinearQ4_0(linearQ4_0AVX2()), superLinearQ4_K(linearQ4_KAVX2()),
			superLinearQ5_K(linearQ5_KAVX2()), superLinearQ6_K(linearQ6_KAVX2())}, shortLinearsAVX2(), runsLinearsAVX2())),
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
		copyRows:     copyRowsAVX2,
		addRows:      addRowsAVX2,
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

// vnniKernels multiply bytes in fours with one instruction, on vectors of 64 bytes.
func vnniKernels() *kernels {
	k := avx512Kernels()
	k.level = "avx512vnni"
	k.linears = slices.Concat(floatLinears(gemmF32AVX512(), gemmF16AVX512(), gemmBF16AVX512()), []*linear{
		quadLinearQ8_0(linearQ8_0VNNI()), quadLinearQ4_0(linearQ4_0VNNI()), superLinearQ4_K(linearQ4_KVNNI()),
		superLinearQ5_K(linearQ5_KVNNI()), superLinearQ6_K(linearQ6_KVNNI())}, shortLinearsVNNI(), runsLinearsVNNI())
	k.peaks = append(k.peaks, peaksVNNI()...)
	return k
}

// bf16Kernels multiply bfloat16 in pairs with one instruction.
func bf16Kernels() *kernels {
	k := vnniKernels()
	k.level = "avx512bf16"
	k.peaks = append(k.peaks, peaksBF16()...)
	i := slices.IndexFunc(k.linears, func(l *linear) bool { return l.format == quant.BF16 })
	k.linears[i] = pairLinearBF16(linearBF16AVX512BF16())
	return k
}
