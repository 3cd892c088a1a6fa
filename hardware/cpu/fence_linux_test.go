package cpu

import (
	"fmt"
	"syscall"
	"testing"
)

// fenced returns n bytes between pages that nobody may touch: they end where the second one begins, or start where the
// first one ends. A kernel that reads or writes outside of its buffers dies there, where guard values would not tell.
func fenced(t *testing.T, n int, atStart bool) []byte {
	t.Helper()
	page := syscall.Getpagesize()
	inner := roundUp(max(n, 1), page)
	all, err := syscall.Mmap(-1, 0, inner+2*page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Munmap(all); err != nil {
			t.Error(err)
		}
	})
	for _, fence := range [][]byte{all[:page], all[page+inner:]} {
		if err := syscall.Mprotect(fence, syscall.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	if atStart {
		return all[page:][:n:n]
	}
	return all[page+inner-n:][:n:n]
}

// fencedFloats returns a copy of x between fences.
func fencedFloats(t *testing.T, x []float32, atStart bool) []float32 {
	t.Helper()
	f := floatsOf(fenced(t, 4*len(x), atStart))
	copy(f, x)
	return f
}

// TestLinearFences multiplies with every buffer between fences.
func TestLinearFences(t *testing.T) {
	forEachLinear(t, func(t *testing.T, l *linear) {
		for _, atStart := range []bool{false, true} {
			for _, in := range inputs(l.format)[:2] {
				r := newRand(uint64(in))
				const numPanels = 4 // as many as a kernel multiplies at once
				size := l.panelBytes(in)
				panels := fenced(t, numPanels*size, atStart)
				l.pack(panels[:size], weightBytes(r, l.format, panelCols, in), panelCols, in)
				for p := 1; p < numPanels; p++ {
					copy(panels[p*size:], panels[:size])
				}
				l.row(fencedFloats(t, make([]float32, in), atStart), panels, panelCols-1, in)
				for rows := 1; rows <= l.tileRows; rows++ {
					x, tile := fencedFloats(t, normals(r, rows*in), atStart), fenced(t, l.tileBytes(in, rows), atStart)
					l.prepare(tile, x, in, rows, in)
					dst := fencedFloats(t, make([]float32, rows*numPanels*panelCols), atStart)
					l.multiply(&multiplyArgs{dst: dst, dstStride: numPanels * panelCols, panels: panels, numPanels: numPanels, tile: tile, rows: rows, in: in, scratch: fencedFloats(t, make([]float32, l.scratch), atStart)})
				}
			}
		}
	})
}

// TestKernelFences does so with the kernels on float32.
func TestKernelFences(t *testing.T) {
	forEachLevel(t, func(t *testing.T, k *kernels) {
		for _, atStart := range []bool{false, true} {
			for n := 1; n <= 40; n++ {
				r := newRand(uint64(n))
				floats := func(n int) []float32 { return fencedFloats(t, normals(r, n), atStart) }
				x, y := floats(n), floats(n)
				k.sumSquares(x)
				k.maxOf(x)
				k.scale(x, 2)
				k.add(y, x)
				k.addScaled(y, x, 3)
				k.mulAdd(y, x, floats(n))
				k.scaleMul(y, x, floats(n), 2)
				k.siluMul(floats(n), x, y)
				k.sigmoidMul(floats(n), x, y)
				k.clippedMul(floats(n), x, y, 2, 3, 1)
				k.halves(fenced(t, 2*n, atStart), x)
				k.expSum(y, x, 1)
				k.rotateHalves(floats(2*n), floats(2*n), x, y)
				k.rotatePairs(floats(2*n), floats(2*n), x, y)
				k.copyRows(floats(3*n), n, floats(3*n), n, 3, n)
				k.addRows(floats(3*n), n, floats(3*n), n, 3, n)
			}
			for blocks := 1; blocks <= 3; blocks++ {
				x := fencedFloats(t, normals(newRand(1), blocks*shortRun), atStart)
				k.quantizeQ8_0(fenced(t, blocks*runBlockBytes, atStart), x)
				k.halvesOfE4M3(fenced(t, 2*len(x), atStart), fenced(t, len(x), atStart))
			}
			for _, e := range []element{elementF32, elementF16, elementBF16} {
				for n := 1; n <= 9; n++ {
					t.Run(fmt.Sprintf("%s/%d/%v", e.format(), n, atStart), func(t *testing.T) {
						for rows := 1; rows <= 13; rows++ {
							gemmOf(k, e)(&gemmArgs{
								dst: fencedFloats(t, make([]float32, rows*panelCols), atStart), dstStride: panelCols,
								x: fencedFloats(t, make([]float32, rows*n), atStart), xStride: n,
								panel: fenced(t, n*panelCols*e.bytes(), atStart), k: n, rows: rows,
							})
						}
					})
				}
			}
		}
	})
}

// TestTileFences multiplies 1 to 13 rows with tiles of the cache.
func TestTileFences(t *testing.T) {
	forEachTile(t, func(t *testing.T, k *kernels, c *tileCase) {
		for _, atStart := range []bool{false, true} {
			tile := fenced(t, len(c.tile.data), atStart)
			copy(tile, c.tile.data)
			for rows := 1; rows <= 13; rows++ {
				for _, positions := range []int{37, blockLen} {
					a := &tileArgs{tile: tile, rows: rows, room: fencedFloats(t, make([]float32, tileRoom(rows, c.stream.dim)), atStart)}
					multiply := k.tiles(c.stream.format).keys
					a.k, a.panels, a.xStride, a.dstStride = c.stream.dim, (positions+panelCols-1)/panelCols, c.stream.dim, blockLen
					if !c.stream.isKeys {
						multiply = k.tiles(c.stream.format).values
						a.k, a.panels, a.xStride = positions, (c.stream.dim+panelCols-1)/panelCols, blockLen
						a.dstStride = a.panels * panelCols
					}
					a.x = fencedFloats(t, make([]float32, rows*a.xStride), atStart)
					a.dst = fencedFloats(t, make([]float32, rows*a.dstStride), atStart)
					multiply(a)
				}
			}
		}
	})
}

// TestLatentsFences multiplies 1 to 13 rows with entries of such tiles.
func TestLatentsFences(t *testing.T) {
	forEachLatents(t, func(t *testing.T, k *kernels, c *tileCase) {
		for _, atStart := range []bool{false, true} {
			tile := fenced(t, len(c.tile.data), atStart)
			copy(tile, c.tile.data)
			for rows := 1; rows <= 13; rows++ {
				a := c.latentsArgs(rows, c.stream.slots)
				a.tile, a.xStride, a.dstStride = tile, a.k, a.entries
				a.x = fencedFloats(t, make([]float32, rows*a.xStride), atStart)
				a.dst = fencedFloats(t, make([]float32, rows*a.dstStride), atStart)
				a.room = fencedFloats(t, a.room, atStart)
				k.tiles(c.stream.format).latents(a)
			}
		}
	})
}

// TestExpandedFences unpacks weights and multiplies with them.
func TestExpandedFences(t *testing.T) {
	forEachLinear(t, func(t *testing.T, l *linear) {
		e := l.expanded
		if e == nil {
			return
		}
		in := inputs(l.format)[1]
		blocks := l.panelBytes(in) / e.panelBytes
		for _, atStart := range []bool{false, true} {
			r := newRand(1)
			panel, weights := fenced(t, l.panelBytes(in), atStart), fenced(t, blocks*e.bytes, atStart)
			l.pack(panel, weightBytes(r, l.format, panelCols, in), panelCols, in)
			e.expand(weights, panel, blocks)
			for rows := 1; rows <= l.tileRows; rows++ {
				tile := fenced(t, l.tileBytes(in, rows), atStart)
				l.prepare(tile, normals(r, rows*in), in, rows, in)
				dst := fencedFloats(t, make([]float32, rows*panelCols), atStart)
				e.multiply(&expandedArgs{dst: dst, dstStride: panelCols, weights: weights, tile: tile, rows: rows, blocks: blocks})
			}
		}
	})
}
