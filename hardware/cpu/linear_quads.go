package cpu

import "encoding/binary"

// Machines multiply unsigned with signed bytes in groups of four: a word of four consecutive elements of one column
// times the same four of the row. Weights that are not unsigned are stored shifted, w + shift, and the row's sum times
// -shift is what each result starts from: it costs nothing, and the sums stay exact.
//
// A quad tile has for each block of 32 elements:
//
//	start   int32 [rows]             -shift * sum of q
//	scale   float32 [rows]
//	q       int8 [8 words][rows][4]
//
// The blocks are padded to an even number with zeros, as the panels are.

const quadBlockBytes = 8 + shortRun // of one row

// quadTileBytes is the size of such a tile.
func quadTileBytes(in, rows int) int { return roundUp(2*blockPairs(in)*rows*quadBlockBytes, 64) }

// prepareQuadsGeneric returns what fills quad tiles with a shift.
func prepareQuadsGeneric(shift int) prepareFunc {
	return func(tile []byte, x []float32, stride, rows, in int) {
		clear(tile[:quadTileBytes(in, rows)])
		var q [shortRun]byte
		for b := range in / shortRun {
			block := tile[b*rows*quadBlockBytes:]
			for r := range rows {
				scale, sum := quantizeRun(q[:], x[r*stride+b*shortRun:][:shortRun])
				binary.LittleEndian.PutUint32(block[4*r:], uint32(-int32(shift)*sum))
				putFloat(block[4*(rows+r):], scale)
				for word := range shortRun / 4 {
					copy(block[8*rows+4*(word*rows+r):][:4], q[4*word:])
				}
			}
		}
	}
}
