//go:build !purego

package cpu

// Machines without an instruction that sums products of bytes in 32 bits sum pairs of them in 16. Values of 5 bits are
// too large for that when they are unsigned: 16 products of a word, 31*127 each, pass 2^15. But sums wrap around, so all
// that counts is the size of the result: when the words start from what the shift makes of the row, -shift times the sum
// of the same 16 elements, they end as sums of products of signed values, and those of ±16 or less fit: 16*16*127 < 2^15.
//
// A word tile is a quad tile with such starts:
//
//	start   int16 [rows][2]          -shift * sum of q over the elements 4s, 4s+1, and over 4s+2, 4s+3
//	scale   float32 [rows]
//	q       int8 [8 words][rows][4]

// prepareWords returns what fills word tiles with a shift.
func prepareWords(shift int) prepareFunc {
	return func(tile []byte, x []float32, stride, rows, in int) {
		blocks := in / shortRun
		for r := range rows {
			prepareWordsAVX2(&tile[4*(rows+r)], &tile[4*(2*rows+r)], &x[r*stride], blocks, rows, shift)
		}
		clear(tile[blocks*rows*quadBlockBytes : quadTileBytes(in, rows)])
	}
}
