package cpu

import (
	"bytes"
	"fmt"
	"math"
	"testing"

	"hearth/hardware"
	"hearth/hardware/quant"
)

// tileCase is a head's keys or values of one block, and what they were rounded to.
type tileCase struct {
	stream *stream
	tile   guarded
	rows   [blockLen][]float32
}

// newTileCase stores as many rows of a head as a tile has, with the conversions of plain Go: only the products are in question here.
func newTileCase(t *testing.T, f *quant.Format, info hardware.StreamInfo) *tileCase {
	t.Helper()
	s, err := newStream(info, f, 0)
	if err != nil {
		t.Fatal(err)
	}
	c := &tileCase{stream: s, tile: newGuarded(s.tileBytes, 0)}
	clear(c.tile.data)
	w := &worker{kernels: goKernels(), short: make([]byte, s.rowBytes)}
	r := newRand(uint64(s.dim))
	for slot := range s.slots {
		x := normals(r, s.dim)
		s.write(w, c.tile.data, slot, x)
		f.Quantize(w.short, x)
		c.rows[slot] = make([]float32, s.dim)
		f.Dequantize(c.rows[slot], w.short)
	}
	c.tile.check(t, "store")
	return c
}

// element returns column c of row i of the product's right side.
func (c *tileCase) element(i, column int) float64 {
	if c.stream.isKeys {
		return float64(c.rows[column][i])
	}
	if column >= c.stream.dim {
		return 0
	}
	return float64(c.rows[i][column])
}

// forEachTile runs a test for every level, format and class, and heads of several sizes.
func forEachTile(t *testing.T, f func(t *testing.T, k *kernels, c *tileCase)) {
	forEachLevel(t, func(t *testing.T, k *kernels) {
		for _, format := range streamFormats() {
			for _, dim := range []int{24, 32, 40, 64, 96, 128, 256} {
				if dim%format.BlockLen != 0 || testing.Short() && (dim == 24 || dim > 96) {
					continue
				}
				for _, class := range []hardware.StreamClass{hardware.KeyStream, hardware.ValueStream} {
					t.Run(fmt.Sprintf("%s/class=%d/dim=%d", format, class, dim), func(t *testing.T) {
						f(t, k, newTileCase(t, format, hardware.StreamInfo{Name: "s", Heads: 1, Dim: dim, Class: class}))
					})
				}
			}
		}
	})
}

// TestTile tries all numbers of rows that kernels have, and many of positions.
func TestTile(t *testing.T) {
	forEachTile(t, func(t *testing.T, k *kernels, c *tileCase) {
		for rows := 1; rows <= 14; rows++ {
			c.try(t, k, rows, blockLen)
			c.try(t, k, rows, 1+(rows*11+c.stream.dim)%blockLen)
		}
		c.try(t, k, 48, 37)
	})
}

// try multiplies rows with the first positions of the tile, with others and each alone.
func (c *tileCase) try(t *testing.T, k *kernels, rows, positions int) {
	t.Helper()
	what := fmt.Sprintf("%d rows, %d positions", rows, positions)
	r := newRand(uint64(rows*100 + positions))
	isKey := c.stream.isKeys
	n, columns := c.stream.dim, roundUp(positions, panelCols)
	multiply, written := k.tiles(c.stream.format).keys, blockLen
	if !isKey {
		n, columns = positions, roundUp(c.stream.dim, panelCols)
		multiply, written = k.tiles(c.stream.format).values, columns
	}
	xStride, dstStride := max(n, blockLen)+r.IntN(3), written+r.IntN(5)
	x := normals(r, rows*xStride)
	g, dst := newGuardedFloats((rows-1)*dstStride+written, 0)
	old := normals(r, len(dst))
	copy(dst, old)
	room, roomFloats := newGuardedFloats(tileRoom(rows, c.stream.dim), 0)
	a := &tileArgs{
		dst: dst, dstStride: dstStride, x: x, xStride: xStride, tile: c.tile.data, k: n, panels: columns / panelCols,
		rows: rows, ahead: c.tile.data[:len(c.tile.data)/2], room: roomFloats,
	}
	multiply(a)
	g.check(t, what)
	room.check(t, what)
	c.tile.check(t, what)

	alone := make([]float32, written)
	for row := range rows {
		copy(alone, old[row*dstStride:][:written])
		one := *a
		one.dst, one.x, one.rows, one.ahead = alone, x[row*xStride:], 1, nil
		multiply(&one)
		got := dst[row*dstStride:]
		sameBits(t, fmt.Sprintf("%s: row %d with others and alone", what, row), got[:columns], alone[:columns])
		sameBits(t, fmt.Sprintf("%s: behind row %d", what, row), got[written:min(dstStride, len(got))], old[row*dstStride+written:][:min(dstStride, len(got))-written])
		for column := range columns {
			var want, magnitude float64
			if !isKey {
				want = float64(old[row*dstStride+column])
				magnitude = math.Abs(want)
			}
			for i := range n {
				p := float64(x[row*xStride+i]) * c.element(i, column)
				want += p
				magnitude += math.Abs(p)
			}
			// One rounding per addition and two of the scale.
			if bound := magnitude * float64(n+3) * 0x1p-24; math.Abs(float64(got[column])-want) > bound {
				t.Fatalf("%s: row %d, column %d is %v, want %v ± %v", what, row, column, got[column], want, bound)
			}
		}
	}
}

// TestTileLevelsAgree checks that the levels in assembly give the same bits, which is more than they promise.
func TestTileLevelsAgree(t *testing.T) {
	levels := assemblyHere()
	forEachTile(t, func(t *testing.T, k *kernels, c *tileCase) {
		if len(levels) == 0 || k.level == "go" {
			return
		}
		columns := roundUp(max(c.stream.dim, blockLen), panelCols)
		product := func(k *kernels) []float32 {
			a := &tileArgs{
				dst: make([]float32, 5*columns), dstStride: columns, x: normals(newRand(1), 5*columns), xStride: columns,
				tile: c.tile.data, k: c.stream.dim, panels: keyPanels, rows: 5, room: make([]float32, tileRoom(5, c.stream.dim)),
			}
			if c.stream.isKeys {
				k.tiles(c.stream.format).keys(a)
			} else {
				a.k, a.panels = blockLen, roundUp(c.stream.dim, panelCols)/panelCols
				k.tiles(c.stream.format).values(a)
			}
			return a.dst
		}
		sameBits(t, k.level, product(k), product(levels[len(levels)-1].open().complete()))
	})
}

// TestTileAllocatesNothing covers what attention runs per tile.
func TestTileAllocatesNothing(t *testing.T) {
	forEachTile(t, func(t *testing.T, k *kernels, c *tileCase) {
		multiply, n, columns := k.tiles(c.stream.format).keys, c.stream.dim, blockLen
		if !c.stream.isKeys {
			multiply, n, columns = k.tiles(c.stream.format).values, blockLen, roundUp(c.stream.dim, panelCols)
		}
		stride := max(n, columns)
		a := &tileArgs{
			dst: make([]float32, 8*stride), dstStride: stride, x: make([]float32, 8*stride), xStride: stride,
			tile: c.tile.data, k: n, panels: columns / panelCols, rows: 8, room: make([]float32, tileRoom(8, c.stream.dim)),
		}
		if n := testing.AllocsPerRun(2, func() { multiply(a) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}

// TestQuantizeQ8_0 compares with the format's own quantizer, byte by byte.
func TestQuantizeQ8_0(t *testing.T) {
	forEachLevel(t, func(t *testing.T, k *kernels) {
		for blocks := range 5 {
			for seed := range 200 {
				x := normals(newRand(uint64(seed)), blocks*shortRun)
				extremes(x, seed)
				for i := range x {
					x[i] *= float32(math.Pow(10, float64(seed%90-45)))
				}
				want := make([]byte, blocks*runBlockBytes)
				quant.Q8_0.Quantize(want, x)
				got := newGuarded(len(want), seed%7)
				k.quantizeQ8_0(got.data, x)
				got.check(t, "quantizeQ8_0")
				if !bytes.Equal(got.data, want) {
					t.Fatalf("%v became %x, want %x", x, got.data, want)
				}
			}
		}
	})
}

// TestScaleByHalves covers the levels whose tiles are made of gemm.
func TestScaleByHalves(t *testing.T) {
	forEachLevel(t, func(t *testing.T, k *kernels) {
		if k.scaleByHalves == nil {
			t.Skip("not needed")
		}
		for n := 0; n <= longest; n += 8 {
			x := normals(newRand(uint64(n)), n)
			halves := make([]byte, 2*n)
			quant.F16.Quantize(halves, normals(newRand(1), n))
			g, dst := newGuardedFloats(n, n%5)
			k.scaleByHalves(dst, x, halves)
			g.check(t, fmt.Sprintf("length %d", n))
			for i := range x {
				x[i] *= halfAt(halves[2*i:])
			}
			sameBits(t, fmt.Sprintf("length %d", n), dst, x)
		}
	})
}
