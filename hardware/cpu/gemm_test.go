package cpu

import (
	"encoding/binary"
	"fmt"
	"math"
	"testing"

	"hearth/hardware/quant"
)

// gemmOf returns a level's kernel for an element.
func gemmOf(k *kernels, e element) func(*gemmArgs) {
	return [...]func(*gemmArgs){k.gemmF32, k.gemmF16, k.gemmBF16}[e]
}

// putElement rounds v to the element's format and returns what it became.
func putElement(e element, b []byte, i int, v float32) float32 {
	switch e {
	case elementF32:
		binary.LittleEndian.PutUint32(b[4*i:], math.Float32bits(v))
	case elementF16:
		binary.LittleEndian.PutUint16(b[2*i:], quant.F32ToF16(v))
	default:
		binary.LittleEndian.PutUint16(b[2*i:], quant.F32ToBF16(v))
	}
	return e.at(b, i)
}

// TestGemm tries every k up to longest with changing numbers of rows and odd strides, adding and overwriting. Every row is
// also computed alone, and must have the same bits.
func TestGemm(t *testing.T) {
	forEachLevel(t, func(t *testing.T, k *kernels) {
		for _, e := range []element{elementF32, elementF16, elementBF16} {
			t.Run(e.format().Name, func(t *testing.T) {
				for n := 0; n <= longest; n++ {
					tryGemm(t, gemmOf(k, e), e, n, 1+n%29, n%2 == 1)
				}
				for rows := 1; rows <= 40; rows++ {
					tryGemm(t, gemmOf(k, e), e, 64, rows, rows%2 == 1)
				}
			})
		}
	})
}

func tryGemm(t *testing.T, gemm func(*gemmArgs), e element, n, rows int, add bool) {
	t.Helper()
	r := newRand(uint64(n*100 + rows))
	xStride, dstStride := n+1+r.IntN(5), panelCols+r.IntN(5)
	x := normals(r, rows*xStride)
	panel := newGuarded(n*panelCols*e.bytes(), 2*r.IntN(8)*e.bytes())
	w := make([]float32, n*panelCols)
	for i := range w {
		w[i] = putElement(e, panel.data, i, float32(r.NormFloat64()))
	}
	size := (rows-1)*dstStride + panelCols
	g, dst := newGuardedFloats(size, 3)
	old := normals(r, size)
	if add {
		copy(dst, old)
	}
	gemm(&gemmArgs{dst: dst, dstStride: dstStride, x: x, xStride: xStride, panel: panel.data, k: n, rows: rows, add: add})
	what := fmt.Sprintf("k %d, %d rows, add %v", n, rows, add)
	g.check(t, what)

	alone := make([]float32, panelCols)
	for row := range rows {
		got := dst[row*dstStride:]
		copy(alone, old[row*dstStride:][:panelCols])
		gemm(&gemmArgs{dst: alone, dstStride: panelCols, x: x[row*xStride:], xStride: xStride, panel: panel.data, k: n, rows: 1, add: add})
		sameBits(t, fmt.Sprintf("%s, row %d with others and alone", what, row), got[:panelCols], alone)
		for c := range panelCols {
			var want, magnitude float64
			if add {
				want = float64(old[row*dstStride+c])
				magnitude = math.Abs(want)
			}
			for i := range n {
				p := float64(x[row*xStride+i]) * float64(w[i*panelCols+c])
				want += p
				magnitude += math.Abs(p)
			}
			if bound := magnitude * float64(n+1) * 0x1p-24; math.Abs(float64(got[c])-want) > bound {
				t.Fatalf("%s: row %d, column %d is %v, want %v ± %v", what, row, c, got[c], want, bound)
			}
		}
		for i := panelCols; i < dstStride && row < rows-1; i++ {
			if v := got[i]; v == v && !add {
				t.Fatalf("%s: wrote %v behind row %d", what, v, row)
			}
		}
	}
}

// TestGemmAllocatesNothing covers what attention runs per tile.
func TestGemmAllocatesNothing(t *testing.T) {
	forEachLevel(t, func(t *testing.T, k *kernels) {
		a := &gemmArgs{dst: make([]float32, 8*panelCols), dstStride: panelCols, x: make([]float32, 8*64), xStride: 64, panel: make([]byte, 64*4*panelCols), k: 64, rows: 8}
		if n := testing.AllocsPerRun(5, func() {
			k.gemmF32(a)
			k.gemmF16(a)
			k.gemmBF16(a)
		}); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}
