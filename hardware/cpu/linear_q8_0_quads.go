package cpu

import "hearth/hardware/quant"

// Q8_0 for machines that multiply unsigned with signed bytes in fours. A panel is, for each 64 elements of its rows, two
// blocks' scales and then their bytes, as large as in the other layout:
//
//	scales  half [2 blocks][16 columns]                64 bytes, for both blocks
//	q       uint8 [2 blocks][8 words][16 columns][4]  1024 bytes, each the weight + 128
//
// Tiles are quad tiles with shift 128.
const shiftQ8_0 = 128

// newQuadLinearQ8_0 describes weights and tiles in that layout.
func newQuadLinearQ8_0(tileRows int, prepare prepareFunc, multiply func(*multiplyArgs)) *linear {
	return &linear{
		format:     quant.Q8_0,
		tileRows:   tileRows,
		panelBytes: func(in int) int { return blockPairs(in) * pairBytesQ8_0 },
		pack:       packQuadsQ8_0,
		row:        rowQuadsQ8_0,
		tileBytes:  quadTileBytes,
		prepare:    prepare,
		multiply:   multiply,
	}
}

func packQuadsQ8_0(dst, src []byte, numRows, in int) {
	blocks, rowBytes := in/shortRun, in/shortRun*34
	src = wholePanel(src, numRows, rowBytes)
	if blocks%2 == 1 {
		clear(dst[blocks/2*pairBytesQ8_0:])
	}
	for b := range blocks {
		pair := dst[b/2*pairBytesQ8_0:][:pairBytesQ8_0]
		for r := 0; r < panelCols; r += 2 {
			x, y := (*[34]byte)(src[r*rowBytes+34*b:]), (*[34]byte)(src[(r+1)*rowBytes+34*b:])
			putHalf2(pair[32*(b%2)+2*r:], x[:], y[:])
			q := (*[456]byte)(pair[64+512*(b%2)+4*r:])
			for i := 0; i < shortRun; i += 8 {
				// Adding 128 to each byte, without carries between them, flips its top bit.
				const flip = 0x8080808080808080
				first, second := beside(load64(x[2+i:])^flip, load64(y[2+i:])^flip)
				store64(q[16*i:], first)
				store64(q[16*i+64:], second)
			}
		}
	}
}

func rowQuadsQ8_0(dst []float32, panel []byte, col, in int) {
	for b := range in / shortRun {
		pair := panel[b/2*pairBytesQ8_0:][:pairBytesQ8_0]
		d := halfAt(pair[32*(b%2)+2*col:])
		q := pair[64+512*(b%2)+4*col:]
		for i := range shortRun {
			dst[b*shortRun+i] = d * float32(int32(q[4*panelCols*(i/4)+i%4])-shiftQ8_0)
		}
	}
}
