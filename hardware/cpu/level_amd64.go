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
		linears: withBesideAVX2(withExpansionsAVX2(append(floatLinears(gemmF32AVX2(), gemmF16AVX2(), gemmBF16AVX2()), wordLinears(integerKernels{
			q8_0: linearQ8_0AVX2(), q4_0: linearQ4_0AVX2(), q4_1: linearQ4_1AVX2(), q5_0: linearQ5_0AVX2(), q5_1: linearQ5_1AVX2(),
			iq4_nl: linearIQ4_NLAVX2(), mxfp4: linearMXFP4AVX2(), q4_K: linearQ4_KAVX2(), q5_K: linearQ5_KAVX2(), q6_K: linearQ6_KAVX2(),
			iq4_xs: linearIQ4_XSAVX2(), q2_K: linearQ2_KAVX2(), q3_K: linearQ3_KAVX2(),
		})...))),
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
		sigmoidMul:   sigmoidMulAVX2,
		clippedMul:   clippedMulAVX2,
		addScaled:    addScaledAVX2,
		addPositive:  addPositiveAVX2,
		mulAdd:       mulAddAVX2,
		rotateHalves: rotateHalvesAVX2,
		rotatePairs:  rotatePairsAVX2,
		halves:       halvesAVX2,
		halvesOfE4M3: halvesOfE4M3AVX2,
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
	k.linears = append(floatLinears(gemmF32AVX2(), gemmF16AVX2(), gemmBF16AVX2()), quadLinears(integerKernels{
		q8_0: linearQ8_0AVXVNNI(), q4_0: linearQ4_0AVXVNNI(), q4_1: linearQ4_1AVXVNNI(), q5_0: linearQ5_0AVXVNNI(), q5_1: linearQ5_1AVXVNNI(),
		iq4_nl: linearIQ4_NLAVXVNNI(), mxfp4: linearMXFP4AVXVNNI(), q4_K: linearQ4_KAVXVNNI(), q5_K: linearQ5_KAVXVNNI(), q6_K: linearQ6_KAVXVNNI(),
		iq4_xs: linearIQ4_XSAVXVNNI(), q2_K: linearQ2_KAVXVNNI(), q3_K: linearQ3_KAVXVNNI(),
	})...)
	k.peaks = append(k.peaks, peaksAVXVNNI()...)
	return k
}

// avx512Kernels have vectors of 64 bytes where arithmetic is what takes the time.
func avx512Kernels() *kernels {
	k := avx2Kernels()
	k.level = "avx512"
	k.linears = append(floatLinears(gemmF32AVX512(), gemmF16AVX512(), gemmBF16AVX512()), wordLinears(integerKernels{
		q8_0: linearQ8_0AVX512(), q4_0: linearQ4_0AVX512(), q4_1: linearQ4_1AVX512(), q5_0: linearQ5_0AVX512(), q5_1: linearQ5_1AVX512(),
		iq4_nl: linearIQ4_NLAVX512(), mxfp4: linearMXFP4AVX512(), q4_K: linearQ4_KAVX512(), q5_K: linearQ5_KAVX512(), q6_K: linearQ6_KAVX512(),
		iq4_xs: linearIQ4_XSAVX512(), q2_K: linearQ2_KAVX512(), q3_K: linearQ3_KAVX512(),
	})...)
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
	k.linears = append(floatLinears(gemmF32AVX512(), gemmF16AVX512(), gemmBF16AVX512()), quadLinears(integerKernels{
		q8_0: linearQ8_0VNNI(), q4_0: linearQ4_0VNNI(), q4_1: linearQ4_1VNNI(), q5_0: linearQ5_0VNNI(), q5_1: linearQ5_1VNNI(),
		iq4_nl: linearIQ4_NLVNNI(), mxfp4: linearMXFP4VNNI(), q4_K: linearQ4_KVNNI(), q5_K: linearQ5_KVNNI(), q6_K: linearQ6_KVNNI(),
		iq4_xs: linearIQ4_XSVNNI(), q2_K: linearQ2_KVNNI(), q3_K: linearQ3_KVNNI(),
	})...)
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
