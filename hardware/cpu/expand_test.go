package cpu

import (
	"fmt"
	"testing"
)

// TestExpanded checks that products of expanded weights have the bits of the others, in one piece and in several.
func TestExpanded(t *testing.T) {
	forEachLinear(t, func(t *testing.T, l *linear) {
		e := l.expanded
		if e == nil {
			t.Skip("weights are multiplied as they are packed")
		}
		for _, in := range inputs(l.format) {
			const out = 32
			r := newRand(uint64(in))
			panels := packAll(t, l, weightBytes(r, l.format, out, in), out, in)
			for rows := 1; rows <= l.tileRows; rows++ {
				m := matrixRows{normals(r, rows*in), in, rows, in}
				want := multiplied(t, l, panels, m)
				for _, piece := range []int{1, 2, 100} {
					name := fmt.Sprintf("in %d, %d rows, pieces of %d blocks", in, rows, piece)
					sameBits(t, name, expandedProduct(t, l, panels, m, piece), want)
				}
			}
		}
	})
}

// expandedProduct is multiplied with pieces of so many expanded blocks.
func expandedProduct(t *testing.T, l *linear, panels []byte, m matrixRows, piece int) []float32 {
	t.Helper()
	e, size := l.expanded, l.panelBytes(m.in)
	numPanels, blocks := len(panels)/size, size/e.panelBytes
	tile := heapAllocate(l.tileBytes(m.in, m.rows))
	l.prepare(tile, m.x, m.stride, m.rows, m.in)
	width := numPanels * panelCols
	dstStride := width + 5
	g, dst := newGuardedFloats((m.rows-1)*dstStride+width, 3)
	clear(dst)
	for p := range numPanels {
		for first := 0; first < blocks; first += piece {
			n := min(piece, blocks-first)
			weights := newGuarded(n*e.bytes, 0)
			e.expand(weights.data, panels[p*size+first*e.panelBytes:][:n*e.panelBytes], n)
			weights.check(t, "expand")
			e.multiply(&expandedArgs{
				dst: dst[p*panelCols:], dstStride: dstStride, weights: weights.data,
				tile: tile[first*e.tileBytes*m.rows:], rows: m.rows, blocks: n,
			})
			g.check(t, "multiply")
		}
	}
	var y []float32
	for r := range m.rows {
		y = append(y, dst[r*dstStride:][:width]...)
	}
	return y
}
