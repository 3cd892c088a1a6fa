package cpu

import (
	"encoding/binary"
	"fmt"

	"hearth/hardware"
	"hearth/hardware/quant"
)

// stream is the cache rows of one layer. In a block it has a tile for each head, laid out as panels for the float
// kernels, so that attention multiplies what is stored:
//
//	keys:   4 panels of 16 positions     [dim][16]      columns are positions
//	values: dim/16 panels of 16 elements [64][16]       columns are elements; the last panel may be part empty
//	Q8_0:   [64][dim/32 blocks of 34 bytes], either class; attention makes panels of it
type stream struct {
	info       hardware.StreamInfo
	format     *quant.Format
	class      hardware.StreamClass
	heads, dim int
	offset     int // of the first tile in a block
	tileBytes  int // of one head
}

const (
	blockLen     = hardware.BlockLen
	keyPanels    = blockLen / panelCols
	keyPanelMask = panelCols - 1
)

// streamFormats are the formats of cache rows.
func streamFormats() []*quant.Format {
	return []*quant.Format{quant.F32, quant.F16, quant.BF16, quant.Q8_0}
}

// newStream lays a stream out behind offset in the block.
func newStream(info hardware.StreamInfo, format *quant.Format, offset int) (*stream, error) {
	s := &stream{info: info, format: format, class: info.Class, heads: info.Heads, dim: info.Dim, offset: offset}
	rowBytes, whole := format.RowBytes(info.Dim)
	if !whole {
		return nil, fmt.Errorf("%w: cpu: stream %q: heads of %d are not a multiple of %s's %d",
			hardware.ErrUnsupported, info.Name, info.Dim, format, format.BlockLen)
	}
	if format.BlockLen == 1 && info.Class == hardware.ValueStream {
		rowBytes = roundUp(info.Dim, panelCols) * format.BlockBytes
	}
	s.tileBytes = roundUp(blockLen*rowBytes, align)
	return s, nil
}

// bytes is the size of the stream's part of a block.
func (s *stream) bytes() int { return s.heads * s.tileBytes }

// tile returns the tile of a head in a block.
func (s *stream) tile(block []byte, head int) []byte {
	return block[s.offset+head*s.tileBytes:][:s.tileBytes]
}

// store writes rows into a stream.
type store struct {
	x   view
	dst *stream
}

func (o *store) shape() (hardware.Rows, int) { return hardware.Tokens, o.x.heads }

func (o *store) block(w *worker, b rowBlock) {
	lo, hi := b.heads(o.x.heads)
	for r := b.first; r < b.last; r++ {
		block, slot := w.queue.block(int(w.step.blocks[r])), int(w.step.positions[r])%blockLen
		for h := lo; h < hi; h++ {
			o.dst.write(w, o.dst.tile(block, h), slot, o.x.head(r, h))
		}
	}
}

// write converts one row and puts it into a tile.
func (s *stream) write(w *worker, tile []byte, slot int, x []float32) {
	switch s.format {
	case quant.F32:
		s.scatter32(floatsOf(tile), slot, x)
	case quant.F16:
		w.kernels.halves(w.short, x)
		s.scatter16(tile, slot, w.short[:2*len(x)])
	case quant.BF16:
		for i, v := range x {
			binary.LittleEndian.PutUint16(w.short[2*i:], quant.F32ToBF16(v))
		}
		s.scatter16(tile, slot, w.short[:2*len(x)])
	default:
		rowBytes, _ := s.format.RowBytes(s.dim)
		s.format.Quantize(tile[slot*rowBytes:][:rowBytes], x)
	}
}

// scatter32 puts a row of 4-byte elements into a tile.
func (s *stream) scatter32(tile []float32, slot int, x []float32) {
	if s.class == hardware.KeyStream {
		panel := tile[slot/panelCols*panelCols*s.dim+slot&keyPanelMask:]
		for i, v := range x {
			panel[i*panelCols] = v
		}
		return
	}
	for i := 0; i < len(x); i += panelCols {
		copy(tile[(i*blockLen+slot*panelCols):], x[i:min(i+panelCols, len(x))])
	}
}

// scatter16 puts a row of 2-byte elements into a tile.
func (s *stream) scatter16(tile []byte, slot int, x []byte) {
	if s.class == hardware.KeyStream {
		panel := tile[2*(slot/panelCols*panelCols*s.dim+slot&keyPanelMask):]
		for i := 0; i < len(x); i += 2 {
			panel[i*panelCols], panel[i*panelCols+1] = x[i], x[i+1]
		}
		return
	}
	for i := 0; i < len(x); i += 2 * panelCols {
		copy(tile[i*blockLen+2*slot*panelCols:], x[i:min(i+2*panelCols, len(x))])
	}
}

// panels returns a tile as panels for the float kernels: the tile itself, or a float32 copy in room, for the first n
// positions at least.
func (s *stream) panels(w *worker, tile []byte, n int, room []float32) []byte {
	if s.format.BlockLen == 1 {
		return tile
	}
	rowBytes, _ := s.format.RowBytes(s.dim)
	for slot := range n {
		s.format.Dequantize(w.row[:s.dim], tile[slot*rowBytes:])
		s.scatter32(room, slot, w.row[:s.dim])
	}
	if s.class == hardware.KeyStream {
		// The rest of the last panel is multiplied and not used; it must not hold what slows the kernel down.
		clear(w.row[:s.dim])
		for slot := n; slot < roundUp(n, panelCols); slot++ {
			s.scatter32(room, slot, w.row[:s.dim])
		}
	}
	return floatBytes(room)
}

// gemm returns the kernel that multiplies the panels of a stream.
func (s *stream) gemm(k *kernels) func(*gemmArgs) {
	switch s.format {
	case quant.F16:
		return k.gemmF16
	case quant.BF16:
		return k.gemmBF16
	default:
		return k.gemmF32
	}
}

// elementBytes is the size of an element in the stream's panels.
func (s *stream) elementBytes() int {
	if s.format.BlockLen == 1 {
		return s.format.BlockBytes
	}
	return 4
}

// freshBlocks zeroes the blocks whose first position this step writes, so that the bytes behind a sequence's last
// position do not depend on what the block held before.
type freshBlocks struct{ streams []*stream }

func (o *freshBlocks) items(s *step) int { return len(s.fresh) * len(o.streams) }

func (o *freshBlocks) run(w *worker, item int) {
	block, s := w.queue.block(int(w.step.fresh[item/len(o.streams)])), o.streams[item%len(o.streams)]
	clear(block[s.offset:][:s.bytes()])
}
