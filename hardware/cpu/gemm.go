package cpu

import (
	"encoding/binary"
	"math"

	"hearth/hardware/quant"
)

// element is a float format in which panels keep their elements.
type element uint8

const (
	elementF32 element = iota
	elementF16
	elementBF16
)

// bytes is the size of an element.
func (e element) bytes() int {
	if e == elementF32 {
		return 4
	}
	return 2
}

// format is the element's format in files.
func (e element) format() *quant.Format {
	return [...]*quant.Format{quant.F32, quant.F16, quant.BF16}[e]
}

// at returns element i of b.
func (e element) at(b []byte, i int) float32 {
	switch e {
	case elementF32:
		return math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	case elementF16:
		return quant.F16ToF32(binary.LittleEndian.Uint16(b[2*i:]))
	default:
		return quant.BF16ToF32(binary.LittleEndian.Uint16(b[2*i:]))
	}
}

// panelRow decodes row i of a panel.
func (e element) panelRow(w *[panelCols]float32, panel []byte, i int) {
	row := panel[i*panelCols*e.bytes():][:panelCols*e.bytes()]
	switch e {
	case elementF32:
		for c := range w {
			w[c] = math.Float32frombits(binary.LittleEndian.Uint32(row[4*c:]))
		}
	case elementF16:
		for c := range w {
			w[c] = quant.F16ToF32(binary.LittleEndian.Uint16(row[2*c:]))
		}
	default:
		for c := range w {
			w[c] = quant.BF16ToF32(binary.LittleEndian.Uint16(row[2*c:]))
		}
	}
}

func gemmF32Generic(a *gemmArgs)  { gemmGeneric(a, elementF32) }
func gemmF16Generic(a *gemmArgs)  { gemmGeneric(a, elementF16) }
func gemmBF16Generic(a *gemmArgs) { gemmGeneric(a, elementBF16) }

// gemmGeneric is one chain of additions per result, k ascending, starting from dst or from zero. The rows of the panel
// are decoded once for genericTileRows rows of x.
func gemmGeneric(a *gemmArgs, e element) {
	for first := 0; first < a.rows; first += genericTileRows {
		rows := min(genericTileRows, a.rows-first)
		var sums [genericTileRows][panelCols]float32
		if a.add {
			for r := range rows {
				copy(sums[r][:], a.dst[(first+r)*a.dstStride:])
			}
		}
		var w [panelCols]float32
		for i := range a.k {
			e.panelRow(&w, a.panel, i)
			for r := range rows {
				x, sum := a.x[(first+r)*a.xStride+i], &sums[r]
				for c := range w {
					sum[c] += x * w[c]
				}
			}
		}
		for r := range rows {
			copy(a.dst[(first+r)*a.dstStride:][:panelCols], sums[r][:])
		}
	}
}
