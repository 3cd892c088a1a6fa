package cpu

import (
	"encoding/binary"
	"math"

	"hearth/hardware/quant"
)

// BF16 for machines that multiply bfloat16 with bfloat16. The rows are rounded too, to the nearest, ties to even: each
// element by at most 1/256 of itself, which is what the reference implementation does on all machines. A panel is, for
// each 8 elements of its rows:
//
//	w       bfloat16 [4 pairs][16 columns][2]     256 bytes
//
// and a tile of rows:
//
//	x       bfloat16 [4 pairs][rows][2]
//
// Both end with zeros where rows do not end with eight elements.
const (
	eight           = 8
	eightBytes      = 2 * eight * panelCols // of a panel
	panelPairStride = 4 * panelCols         // bytes from pair to pair in a panel
	smallestNormal  = 0x1p-126              // of float32
)

// newPairLinearBF16 describes weights and tiles in that layout.
func newPairLinearBF16(tileRows int, prepare prepareFunc, multiply func(*multiplyArgs)) *linear {
	return &linear{
		format:      quant.BF16,
		roundsFloat: true,
		tileRows:    tileRows,
		panelBytes:  func(in int) int { return eights(in) * eightBytes },
		pack:        packPairsBF16,
		row:         rowPairsBF16,
		tileBytes:   func(in, rows int) int { return roundUp(2*eight*eights(in)*rows, 64) },
		prepare:     prepare,
		multiply:    multiply,
	}
}

// eights returns how many times eight elements a row of in elements has, the last one perhaps not filled.
func eights(in int) int { return (in + eight - 1) / eight }

// packPairsBF16 goes along the rows in short pieces, so that what it writes stays near.
func packPairsBF16(dst, src []byte, numRows, in int) {
	if numRows < panelCols || in%eight != 0 {
		clear(dst)
	}
	const piece = 64 // pairs
	for first := 0; first < in/2; first += piece {
		n := min(piece, in/2-first)
		for r := range numRows {
			from, to := src[2*r*in+4*first:][:4*n], dst[panelPairStride*first+4*r:]
			for i := range n {
				binary.LittleEndian.PutUint32(to[panelPairStride*i:], binary.LittleEndian.Uint32(from[4*i:]))
			}
		}
	}
	if in%2 == 1 {
		for r := range numRows {
			copy(dst[panelPairStride*(in/2)+4*r:][:2], src[2*(r*in+in-1):])
		}
	}
}

func rowPairsBF16(dst []float32, panel []byte, col, in int) {
	for i := range dst[:in] {
		dst[i] = elementBF16.at(panel[panelPairStride*(i/2)+4*col:], i%2)
	}
}

func preparePairsBF16Generic(tile []byte, x []float32, stride, rows, in int) {
	for r := range rows {
		roundRow(tile[4*r:], x[r*stride:][:in], 0, rows)
	}
}

// roundRow writes the elements of a row of a tile from first on, which is even, and the zeros behind them.
func roundRow(tile []byte, x []float32, first, rows int) {
	for i := first; i < eight*eights(len(x)); i++ {
		var v uint16
		if i < len(x) {
			v = quant.F32ToBF16(x[i])
		}
		binary.LittleEndian.PutUint16(tile[4*rows*(i/2)+2*(i%2):], v)
	}
}

// multiplyPairsBF16Generic adds even and odd pairs of elements apart, and the two sums at the end.
func multiplyPairsBF16Generic(a *multiplyArgs) {
	size := eights(a.in) * eightBytes
	for p := range a.numPanels {
		panel := a.panels[p*size:][:size]
		for r := range a.rows {
			var sums [2][panelCols]float32
			for pair := range eight / 2 * eights(a.in) {
				x := a.tile[4*(pair*a.rows+r):][:4]
				w := panel[panelPairStride*pair:][:panelPairStride]
				for c := range panelCols {
					addPair(&sums[pair%2][c], w[4*c:][:4], x)
				}
			}
			for c := range panelCols {
				a.dst[r*a.dstStride+p*panelCols+c] = sums[0][c] + sums[1][c]
			}
		}
	}
}

// addPair is what VDPBF16PS does to one element (Intel's Software Developer's Manual, volume 2): the odd product, which
// float32 holds exactly, is added and rounded to nearest even, then the even one. Numbers below the normal ones of
// float32 are zeros before and after.
func addPair(sum *float32, w, x []byte) {
	for i := 1; i >= 0; i-- {
		product := float32(normalOrZero(elementBF16.at(w, i)) * normalOrZero(elementBF16.at(x, i)))
		*sum = normalOrZero(*sum + product)
	}
}

func normalOrZero(v float32) float32 {
	if math.Abs(float64(v)) < smallestNormal {
		return 0
	}
	return v
}
