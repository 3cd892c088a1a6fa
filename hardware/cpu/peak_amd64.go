//go:build !purego

package cpu

import "hearth/hardware"

// roundOf is the operations of one round of the generated peak kernels: 48 sequences on so many factors each.
func roundOf(factors int) int { return 48 * 2 * factors }

// peaksAVX2 are the sums of products on vectors of 32 bytes. Sums of bytes in 16 bits are exact where one factor is short
// or none is -128, and then take fewer instructions.
func peaksAVX2() []peak {
	return []peak{
		{hardware.Int8, "VPMADDWD VPADDD", roundOf(16), peakDotPairsAVX2},
		{hardware.Int8, "VPMADDUBSW VPMADDWD VPADDD", roundOf(32), peakDotBytesAVX2},
		{hardware.Int8Products, "VPMADDUBSW", roundOf(32), peakProductsAVX2},
		{hardware.Float32, "VFMADD231PS", roundOf(8), peakFMAAVX2},
	}
}

func peaksAVXVNNI() []peak {
	return []peak{{hardware.Int8, "VPDPBUSD", roundOf(32), peakDotQuadsAVXVNNI}}
}

// peaksAVX512 are those on vectors of 64 bytes.
func peaksAVX512() []peak {
	return []peak{
		{hardware.Int8, "VPMADDWD VPADDD", roundOf(32), peakDotPairsAVX512},
		{hardware.Int8, "VPMADDUBSW VPMADDWD VPADDD", roundOf(64), peakDotBytesAVX512},
		{hardware.Int8Products, "VPMADDUBSW", roundOf(64), peakProductsAVX512},
		{hardware.Float32, "VFMADD231PS", roundOf(16), peakFMAAVX512},
	}
}

func peaksVNNI() []peak {
	return []peak{{hardware.Int8, "VPDPBUSD", roundOf(64), peakDotQuadsVNNI}}
}

// peaksBF16 are those of bfloat16.
func peaksBF16() []peak {
	return []peak{{hardware.BFloat16, "VDPBF16PS", roundOf(32), peakDotHalvesAVX512BF16}}
}

func readsAVX2() []readKernel   { return []readKernel{readAVX2, readAheadAVX2, readBesideAVX2} }
func readsAVX512() []readKernel { return []readKernel{readAVX512, readAheadAVX512, readBesideAVX512} }
