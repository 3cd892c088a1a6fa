package cpu

import "encoding/binary"

// Packing is a transposition: a panel has what its sixteen rows have at one place beside each other, in words of four
// bytes or in halves of two. It goes through the rows by twos or fours, so that each pair of loads fills a whole store
// of eight bytes, and through the row only as far at once as both sides stay in the first-level cache.

// wholePanel returns the bytes of panelCols rows: src itself, or a copy with rows of zeros behind it.
func wholePanel(src []byte, numRows, rowBytes int) []byte {
	if numRows == panelCols {
		return src
	}
	whole := make([]byte, panelCols*rowBytes)
	copy(whole, src[:numRows*rowBytes])
	return whole
}

// beside returns words 0 and words 1 of x and y, each pair as eight bytes.
func beside(x, y uint64) (first, second uint64) {
	const low = 1<<32 - 1
	return x&low | y<<32, x>>32 | y&^low
}

// evenHalves returns halves 0 and 2 of x, each followed by that of y; oddHalves does so with halves 1 and 3. Two of
// them make the words for beside that put the halves of four rows beside each other.
func evenHalves(x, y uint64) uint64 {
	const even = 0x0000ffff0000ffff
	return x&even | y&even<<16
}

func oddHalves(x, y uint64) uint64 {
	const even = 0x0000ffff0000ffff
	return x>>16&even | y&^even
}

func load64(b []byte) uint64     { return binary.LittleEndian.Uint64(b) }
func load32(b []byte) uint32     { return binary.LittleEndian.Uint32(b) }
func store64(b []byte, v uint64) { binary.LittleEndian.PutUint64(b, v) }

// putHalf2 writes the halves at the start of x and y beside each other.
func putHalf2(dst, x, y []byte) {
	binary.LittleEndian.PutUint32(dst, uint32(binary.LittleEndian.Uint16(x))|uint32(binary.LittleEndian.Uint16(y))<<16)
}
