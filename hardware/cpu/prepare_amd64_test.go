//go:build !purego

package cpu

import (
	"encoding/binary"
	"testing"
)

// TestPrepareAgainstGeneric compares tiles byte by byte.
func TestPrepareAgainstGeneric(t *testing.T) {
	for _, c := range []struct {
		name           string
		run            int
		bytes          func(in, rows int) int
		generic, assem prepareFunc
	}{
		{"pairs", shortRun, pairTileBytes, prepareQ8_0Generic, preparePairs},
		{"quads", shortRun, quadTileBytes, prepareQuadsGeneric(shiftQ4_0), prepareQuads(shiftQ4_0)},
		{"words", shortRun, quadTileBytes, wordsOfQuads, prepareWords(-1)},
		{"shifted words", shortRun, quadTileBytes, wordsOfQuads16, prepareWords(16)},
		{"Q4_K", longRun, superTileBytes, prepareQ4_KGeneric, prepareQ4_K},
		{"Q6_K", longRun, sixteenthTileBytes, prepareQ6_KGeneric, prepareQ6_K},
		{"BF16", 19, newPairLinearBF16(1, nil, nil).tileBytes, preparePairsBF16Generic, preparePairsBF16},
	} {
		if len(assemblyHere()) == 0 {
			t.Skip("this machine has no AVX2")
		}
		for blocks := 1; blocks <= 5; blocks++ {
			for rows := 1; rows <= 12; rows++ {
				in := blocks * c.run
				stride := in + rows%4
				x := normals(newRand(uint64(blocks*100+rows)), rows*stride)
				extremes(x, blocks*rows)
				size := c.bytes(in, rows)
				want, got := newGuarded(size, 0), newGuarded(size, 0)
				clear(want.data) // the bytes that round the size up are nobody's
				clear(got.data)
				c.generic(want.data, x, stride, rows, in)
				c.assem(got.data, x, stride, rows, in)
				got.check(t, c.name)
				for i := range want.data {
					if want.data[i] != got.data[i] {
						t.Fatalf("%s, %d rows of %d: byte %d is %#x, want %#x", c.name, rows, in, i, got.data[i], want.data[i])
					}
				}
			}
		}
	}
}

// wordsOfQuads fills word tiles with shift -1.
func wordsOfQuads(tile []byte, x []float32, stride, rows, in int) {
	fillWords(tile, matrixRows{x, stride, rows, in}, -1)
}

// wordsOfQuads16 fills word tiles with shift 16.
func wordsOfQuads16(tile []byte, x []float32, stride, rows, in int) {
	fillWords(tile, matrixRows{x, stride, rows, in}, 16)
}

// fillWords fills quad tiles, and puts starts of words into them.
func fillWords(tile []byte, m matrixRows, shift int32) {
	prepareQuadsGeneric(int(shift))(tile, m.x, m.stride, m.rows, m.in)
	for b := range m.in / shortRun {
		block := tile[b*m.rows*quadBlockBytes:]
		for r := range m.rows {
			var sums [2]int32
			for i := range shortRun {
				sums[i/2%2] += int32(int8(block[8*m.rows+4*(i/4*m.rows+r)+i%4]))
			}
			for i, sum := range sums {
				binary.LittleEndian.PutUint16(block[4*r+2*i:], uint16(-shift*sum))
			}
		}
	}
}
