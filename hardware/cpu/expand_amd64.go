//go:build !purego

package cpu

import "hearth/hardware/quant"

// expander is an unpacking function of consecutive blocks.
type expander = func(dst, panel *byte, blocks int)

// The unpacked forms of a panel's blocks are, with parts that are as in the panel:
//
//	Q5_K   d, dmin, mins         192 bytes, and for each of 8 runs scale int16 [16 columns][2], q uint8 [8 words][16 columns][4]
//	Q6_K   d, nothing, scales    320 bytes, and for each of 16 runs scale int16 [16 columns][2], q uint8 [4 words][16 columns][4]
//	Q3_K   the same, and Q2_K with dmin in place of nothing
//	Q5_0   scales                 64 bytes, and for each of 2 blocks q uint8 [8 words][16 columns][4]
//	Q5_1   scales, mins          128 bytes, and for each of 2 blocks q uint8 [8 words][16 columns][4]
const (
	expandedQ5_K = 192 + 8*(64+8*4*panelCols)
	expandedQ6_K = 320 + 16*(64+4*4*panelCols)
	expandedQ5_0 = 64 + 2*8*4*panelCols
	expandedQ5_1 = 128 + 2*8*4*panelCols
)

// withExpansionsAVX2 adds expansions to the linears whose weights take more than an instruction or two to unpack.
func withExpansionsAVX2(linears []*linear) []*linear {
	for _, l := range linears {
		switch l.format {
		case quant.Q5_K:
			l.expanded = newExpansion(expansion{panelBytes: superBytesQ5_K, bytes: expandedQ5_K, tileBytes: superRowQ4_K},
				expandQ5_KAVX2, linearQ5_KAVX2Expanded())
		case quant.Q6_K:
			l.expanded = newExpansion(expansion{panelBytes: superBytesQ6_K, bytes: expandedQ6_K, tileBytes: superRowQ6_K},
				expandQ6_KAVX2, linearQ6_KAVX2Expanded())
		case quant.Q3_K:
			l.expanded = newExpansion(expansion{panelBytes: l.panelBytes(longRun), bytes: expandedQ6_K, tileBytes: superRowQ6_K},
				expandQ3_KAVX2, linearQ3_KAVX2Expanded())
		case quant.Q2_K:
			l.expanded = newExpansion(expansion{panelBytes: l.panelBytes(longRun), bytes: expandedQ6_K, tileBytes: superRowQ6_K},
				expandQ2_KAVX2, linearQ2_KAVX2Expanded())
		case quant.Q5_0:
			l.expanded = newExpansion(expansion{panelBytes: l.panelBytes(2 * shortRun), bytes: expandedQ5_0, tileBytes: 2 * quadBlockBytes},
				expandQ5_0AVX2, linearQ5_0AVX2Expanded())
		case quant.Q5_1:
			l.expanded = newExpansion(expansion{panelBytes: l.panelBytes(2 * shortRun), bytes: expandedQ5_1, tileBytes: 2 * quadBlockBytes},
				expandQ5_1AVX2, linearQ5_1AVX2Expanded())
		}
	}
	return linears
}

// newExpansion completes an expansion of such sizes.
func newExpansion(e expansion, expand expander, kernels []panelKernel) *expansion {
	e.expand = func(dst, panel []byte, blocks int) { expand(&dst[0], &panel[0], blocks) }
	e.multiply = func(a *expandedArgs) {
		kernels[a.rows-1](&a.dst[0], &a.weights[0], &a.tile[0], a.blocks, 4*a.dstStride)
	}
	return &e
}
