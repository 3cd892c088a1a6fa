package weights

import (
	"encoding/binary"
	"fmt"
	"math"

	"hearth/hardware/quant"
)

// Checkpoints in 8 and 4 bits keep the scales of a weight in a tensor beside it. A weight [out, in] is cut into tiles, and
// the scale of a tile multiplies its elements:
//
//	DeepSeek-V3, MiniMax-M2   F8_E4M3 [out, in]    X.weight_scale_inv  F32      128 by 128
//	DeepSeek-V4               F8_E4M3 [out, in]    X.scale             F8_E8M0  128 by 128
//	DeepSeek-V4, experts      I8 [out, in/2]       X.scale             F8_E8M0  1 by 32: two codes of E2M1 a byte, the lower first
//	MiniMax-M3                F8_E4M3 [out, in]    X.weight_scale_inv  U8       1 by 32, codes of E8M0
//	others                    F8_E4M3 [out, in]    X.weight_scale      F32      [], [out, 1]: the tensor, a row
//
// The last tiles of rows and columns may be cut off. Nothing is rounded: the rows become blocks that repeat the scales.

// scales are the scales of a weight's tiles.
type scales struct {
	tensor             *rawTensor
	perRow             int // tiles of a row
	tileRows, tileCols int
}

// at returns the scale of the tile of an element.
func (s *scales) at(row, col int) float32 {
	i := row/s.tileRows*s.perRow + col/s.tileCols
	data := s.tensor.data
	switch s.tensor.dtype {
	case "F32":
		return math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
	case "BF16":
		return quant.BF16ToF32(binary.LittleEndian.Uint16(data[2*i:]))
	case "F16":
		return quant.F16ToF32(binary.LittleEndian.Uint16(data[2*i:]))
	}
	return quant.E8M0ToF32(data[i])
}

// isE8M0 reports whether the scales are powers of two, a byte each.
func (s *scales) isE8M0() bool { return s.tensor.dtype == "F8_E8M0" || s.tensor.dtype == "U8" }

// tiling is the size of the tiles that a configuration announces, zeros where it does not.
type tiling struct{ rows, cols int }

// scaledGrid returns the matrix of a tensor [out, in] and the scales beside it, or says what does not fit.
func scaledGrid(t, scale *rawTensor, announced tiling) (grid, error) {
	bad := func(format string, args ...any) (grid, error) {
		return grid{}, fmt.Errorf("%w: %s: %s", ErrCorrupt, t, fmt.Sprintf(format, args...))
	}
	if len(t.shape) != 2 {
		return bad("it has scales, but is no matrix")
	}
	rows, cols, packed := t.shape[0], t.shape[1], false
	switch t.dtype {
	case "F8_E4M3":
	case "I8", "U8":
		cols, packed = 2*cols, true
	case "F4":
		packed = true
	default:
		return bad("its scales are in %s, but it is no weight of 8 or 4 bits", scale)
	}
	if rows == 0 || cols == 0 {
		return bad("it has scales, but is empty")
	}
	tilings := []tiling{{128, 128}, {1, 32}}
	if announced.rows > 0 {
		tilings = []tiling{announced}
	}
	if packed { // which is announced nowhere
		tilings = []tiling{{1, 32}}
	}
	s, ok := fitScales(scale, rows, cols, tilings)
	switch {
	case !ok:
		return bad("its scales are %s, which does not fit it", scale)
	case packed && (!s.isE8M0() || s.tileRows != 1 || s.tileCols != 32 || cols%32 != 0):
		return bad("4 bits an element, with the scales %s; only powers of two for 32 elements of a row are known", scale)
	case packed:
		return gridFP4(t.data, s, rows, cols), nil
	}
	return gridFP8(t.data, s, rows, cols), nil
}

// fitScales finds out what the elements of a tensor of scales belong to: one of some kinds of tiles, rows, or all.
func fitScales(scale *rawTensor, rows, cols int, tilings []tiling) (*scales, bool) {
	switch scale.dtype {
	case "F32", "BF16", "F16", "F8_E8M0", "U8":
	default:
		return nil, false
	}
	count := 1
	for _, d := range scale.shape { // their product is the file's, which has as many bytes
		count *= d
	}
	if len(scale.shape) == 2 {
		for _, c := range tilings {
			if perRow := ceilDiv(cols, c.cols); scale.shape[0] == ceilDiv(rows, c.rows) && scale.shape[1] == perRow {
				return &scales{scale, perRow, c.rows, c.cols}, true
			}
		}
	}
	switch {
	case count == 1:
		return &scales{scale, 1, rows, cols}, true
	case count == rows && scale.shape[0] == rows:
		return &scales{scale, 1, 1, cols}, true
	}
	return nil, false
}

func ceilDiv(n, d int) int { return (n-1)/d + 1 }

// gridFP8 chooses the blocks that a matrix of E4M3 is presented in: F8_E4M3 where a block has one scale, MXFP8 for shorter
// tiles, and numbers in F32 where rows are not whole blocks.
func gridFP8(codes []byte, s *scales, rows, cols int) grid {
	whole := func(f *quant.Format) bool {
		return cols%f.BlockLen == 0 && (s.tileCols%f.BlockLen == 0 || s.tileCols >= cols)
	}
	g := grid{rows: rows, cols: cols, from: [][]byte{codes}}
	switch {
	case whole(quant.F8_E4M3):
		g.encoding = encodingOf(quant.F8_E4M3)
		if g.scaleRows = s.tileRows; s.tileRows >= rows {
			g.scaleRows = quant.F8_E4M3.BlockLen // any number is right
		}
	case whole(quant.MXFP8) && s.isE8M0():
		g.encoding = encodingOf(quant.MXFP8)
	default:
		g.encoding = encodingOf(quant.F32)
	}
	g.write = func(dst []byte, first, last int) {
		for row := first; row < last; row++ {
			line := codes[row*cols:][:cols]
			switch g.format {
			case quant.F8_E4M3:
				for col := 0; col < cols; col += g.blockLen {
					binary.LittleEndian.PutUint32(dst, math.Float32bits(s.at(row, col)))
					copy(dst[4:][:g.blockLen], line[col:])
					dst = dst[g.blockBytes:]
				}
			case quant.MXFP8:
				for col := 0; col < cols; col += g.blockLen {
					dst[0] = s.tensor.data[row/s.tileRows*s.perRow+col/s.tileCols]
					copy(dst[1:][:g.blockLen], line[col:])
					dst = dst[g.blockBytes:]
				}
			default:
				for col, code := range line {
					binary.LittleEndian.PutUint32(dst, math.Float32bits(s.at(row, col)*quant.E4M3ToF32(code)))
					dst = dst[4:]
				}
			}
		}
	}
	return g
}

// gridFP4 is a matrix of E2M1 as MXFP4: its block is the scale and the codes, of which element i and i+16 share a byte,
// while the file has elements 2i and 2i+1 in one.
func gridFP4(codes []byte, s *scales, rows, cols int) grid {
	g := grid{encoding: encodingOf(quant.MXFP4), rows: rows, cols: cols, from: [][]byte{codes}}
	g.write = func(dst []byte, first, last int) {
		for block := first * cols / 32; block < last*cols/32; block++ {
			src := codes[16*block:][:16]
			dst[0] = s.tensor.data[block]
			for i, pair := range src[:8] {
				low, high := pair, src[8+i]
				dst[1+2*i] = low&15 | high<<4
				dst[2+2*i] = low>>4 | high&0xf0
			}
			dst = dst[17:]
		}
	}
	return g
}
