package cpu

import (
	"fmt"
	"math"
	"testing"

	"hearth/hardware"
)

// forEachLatents runs a test for every level and format, and tiles of several sizes: heads of whole panels and not, and
// blocks with fewer entries.
func forEachLatents(t *testing.T, f func(t *testing.T, k *kernels, c *tileCase)) {
	forEachLevel(t, func(t *testing.T, k *kernels) {
		for _, format := range streamFormats() {
			for _, size := range []struct{ dim, ratio int }{{32, 1}, {40, 4}, {64, 128}, {96, 4}, {41, 1}, {128, 2}} {
				if size.dim%format.BlockLen != 0 {
					continue
				}
				t.Run(fmt.Sprintf("%s/dim=%d/ratio=%d", format, size.dim, size.ratio), func(t *testing.T) {
					info := hardware.StreamInfo{Name: "s", Heads: 1, Dim: size.dim, Class: hardware.LatentStream, Ratio: size.ratio}
					f(t, k, newTileCase(t, format, info))
				})
			}
		}
	})
}

// latentsArgs multiplies rows with the first entries of the tile.
func (c *tileCase) latentsArgs(rows, entries int) *tileArgs {
	n := roundUp(c.stream.dim, panelCols)
	x := normals(newRand(uint64(rows*100+entries)), rows*(n+3))
	for i := range x {
		if i%(n+3) >= c.stream.dim {
			x[i] = 0
		}
	}
	return &tileArgs{
		dst: make([]float32, rows*(blockLen+1)), dstStride: blockLen + 1, x: x, xStride: n + 3, tile: c.tile.data, k: n,
		slots: c.stream.slots, entries: entries, rows: rows, room: make([]float32, tileRoom(rows, n)),
	}
}

// TestLatents tries all numbers of rows that kernels have, and many of entries. Every product has the bits that it has
// alone.
func TestLatents(t *testing.T) {
	forEachLatents(t, func(t *testing.T, k *kernels, c *tileCase) {
		for rows := 1; rows <= 14; rows++ {
			for _, entries := range []int{c.stream.slots, 1 + (rows*11+c.stream.dim)%c.stream.slots} {
				c.tryLatents(t, k, rows, entries)
			}
		}
	})
}

func (c *tileCase) tryLatents(t *testing.T, k *kernels, rows, entries int) {
	t.Helper()
	a := c.latentsArgs(rows, entries)
	g, dst := newGuardedFloats(len(a.dst), 0)
	clear(dst)
	a.dst = dst
	multiply := k.tiles(c.stream.format).latents
	multiply(a)
	g.check(t, "latents")
	c.tile.check(t, "latents")
	for row := range rows {
		one := *a
		one.dst, one.x, one.rows = make([]float32, blockLen), a.x[row*a.xStride:], 1
		if one.entries = 1 + row%entries; row > 0 {
			multiply(&one)
			what := fmt.Sprintf("row %d of %d, %d entries of %d", row, rows, one.entries, entries)
			sameBits(t, what, dst[row*a.dstStride:][:one.entries], one.dst[:one.entries])
		}
		for e := range blockLen {
			got := dst[row*a.dstStride+e]
			if e >= entries {
				if got != 0 {
					t.Fatalf("%d rows, %d entries: row %d, entry %d was written", rows, entries, row, e)
				}
				continue
			}
			var want, magnitude float64
			for i, v := range c.rows[e] {
				p := float64(a.x[row*a.xStride+i]) * float64(v)
				want += p
				magnitude += math.Abs(p)
			}
			if bound := magnitude * float64(c.stream.dim+3) * 0x1p-24; math.Abs(float64(got)-want) > bound {
				t.Fatalf("%d rows, %d entries: row %d, entry %d is %v, want %v ± %v", rows, entries, row, e, got, want, bound)
			}
		}
	}
}

// TestLatentsAllocateNothing covers what attention and Select run per tile.
func TestLatentsAllocateNothing(t *testing.T) {
	forEachLatents(t, func(t *testing.T, k *kernels, c *tileCase) {
		a, multiply := c.latentsArgs(13, c.stream.slots), k.tiles(c.stream.format).latents
		if n := testing.AllocsPerRun(2, func() { multiply(a) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}
