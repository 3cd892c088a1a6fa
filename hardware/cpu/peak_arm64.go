//go:build !purego

package cpu

import "hearth/hardware"

// armRoundOf is the operations of one round of the generated peak kernels: 48 sequences on so many factors each.
func armRoundOf(factors int) int { return 48 * 2 * factors }

// peaksNEON are the sums of products that every processor has.
func peaksNEON() []peak {
	return []peak{
		{hardware.Int8, "SMULL SADALP", armRoundOf(8), peakDotBytesNEON},
		{hardware.Float32, "FMLA", armRoundOf(4), peakFMANEON},
	}
}

func peaksDotProd() []peak {
	return []peak{{hardware.Int8, "SDOT", armRoundOf(16), peakDotQuadsDotProd}}
}

func peaksI8MM() []peak {
	return []peak{{hardware.Int8, "SMMLA", armRoundOf(32), peakDotTilesI8MM}}
}

func readsNEON() []readKernel { return []readKernel{readNEON} }
