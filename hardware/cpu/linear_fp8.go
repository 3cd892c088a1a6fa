package cpu

import (
	"math"

	"hearth/hardware/quant"
)

// A panel of FP8 weights is, block by block,
//
//	scales float32 [panelCols]
//	codes  uint8   [block][panelCols]   E4M3
//
// A kernel unpacks the codes of a block to halves, which hold them exactly, multiplies with these, and adds the products
// times the scales to the sums. It is made of other kernels, at all levels.
//
//	tile:    [rows][in] float32, as for other floats
//	scratch: halves [block][panelCols] | products [rows][panelCols] | scales [panelCols]

const (
	// fp8TileRows is large enough that unpacking is little beside multiplying.
	fp8TileRows = 64
	// scaleOfHalves is by how much too small a code is that becomes a half by shifting: the exponent's bias grows from 7
	// to 15.
	scaleOfHalves = 1 << (15 - 7)
)

// fp8Format is how a file's block has its scale.
type fp8Format struct {
	format     *quant.Format
	scaleBytes int
	scale      func(block []byte) float32
}

// fp8Linears are the linears of the formats of E4M3.
func fp8Linears(k *kernels) []*linear {
	return []*linear{
		newFP8Linear(k, fp8Format{quant.F8_E4M3, 4, floatAt}),
		newFP8Linear(k, fp8Format{quant.MXFP8, 1, func(block []byte) float32 { return quant.E8M0ToF32(block[0]) }}),
	}
}

func newFP8Linear(k *kernels, f fp8Format) *linear {
	return &linear{
		format:     f.format,
		tileRows:   fp8TileRows,
		panelBytes: func(in int) int { return in / f.format.BlockLen * f.blockBytes() },
		pack:       f.pack,
		row:        f.row,
		tileBytes:  func(in, rows int) int { return 4 * floatTileStride(in) * rows },
		prepare:    prepareFloat,
		scratch:    f.format.BlockLen*panelCols/2 + fp8TileRows*panelCols + panelCols,
		multiply:   func(a *multiplyArgs) { f.multiply(k, a) },
	}
}

// blockBytes is the size of a block in a panel.
func (f *fp8Format) blockBytes() int { return (4 + f.format.BlockLen) * panelCols }

// pack writes one panel. Halves cannot say that a code is not a number: the scale of its block does.
func (f *fp8Format) pack(dst, src []byte, numRows, in int) {
	n := f.format.BlockLen
	rowBytes, _ := f.format.RowBytes(in)
	for b := range in / n {
		block := dst[b*f.blockBytes():][:f.blockBytes()]
		codes := block[4*panelCols:]
		if numRows < panelCols {
			clear(block)
		}
		for c := range numRows {
			from := src[c*rowBytes+b*f.format.BlockBytes:][:f.format.BlockBytes]
			scale := f.scale(from)
			for i, code := range from[f.scaleBytes:] {
				codes[i*panelCols+c] = code
				if code&0x7f == 0x7f {
					scale = float32(math.NaN())
				}
			}
			putFloat(block[4*c:], scale)
		}
	}
}

// row dequantizes one row of a panel.
func (f *fp8Format) row(dst []float32, panel []byte, col, in int) {
	n := f.format.BlockLen
	for b := range in / n {
		block := panel[b*f.blockBytes():][:f.blockBytes()]
		scale := floatAt(block[4*col:])
		for i := range n {
			dst[b*n+i] = scale * quant.E4M3ToF32(block[4*panelCols+i*panelCols+col])
		}
	}
}

func (f *fp8Format) multiply(k *kernels, a *multiplyArgs) {
	n, blockBytes := f.format.BlockLen, f.blockBytes()
	halves, rest := floatBytes(a.scratch[:n*panelCols/2]), a.scratch[n*panelCols/2:]
	scales, products := rest[:panelCols], rest[panelCols:]
	blocks := a.in / n
	for p := range a.numPanels {
		for r := range a.rows {
			clear(a.dst[r*a.dstStride+p*panelCols:][:panelCols])
		}
		for b := range blocks {
			block := a.panels[(p*blocks+b)*blockBytes:][:blockBytes]
			for c := range scales {
				scales[c] = floatAt(block[4*c:]) * scaleOfHalves
			}
			k.halvesOfE4M3(halves, block[4*panelCols:])
			a.gemm = gemmArgs{
				dst: products, dstStride: panelCols, x: floatsOf(a.tile)[b*n:], xStride: floatTileStride(a.in), panel: halves, k: n, rows: a.rows,
			}
			k.gemmF16(&a.gemm)
			for r := range a.rows {
				k.mulAdd(a.dst[r*a.dstStride+p*panelCols:][:panelCols], products[r*panelCols:][:panelCols], scales)
			}
		}
	}
}

func halvesOfE4M3Generic(dst, codes []byte) {
	for i := 0; i+8 <= len(codes); i += 8 {
		v := load64(codes[i:])
		to := dst[2*i:][:16]
		store64(to, fourHalves(v&math.MaxUint32))
		store64(to[8:], fourHalves(v>>32))
	}
}

// fourHalves does so with the four lower bytes.
func fourHalves(v uint64) uint64 {
	v = (v | v<<16) & 0x0000ffff0000ffff
	v = (v | v<<8) & 0x00ff00ff00ff00ff
	return v&0x0080008000800080<<8 | v&0x007f007f007f007f<<7
}
