package cpu

import (
	"encoding/binary"
	"fmt"
	"slices"

	"hearth/hardware"
	"hearth/hardware/quant"
)

// stream is the cache rows of one layer: in a block, a tile for each head.
type stream struct {
	info       hardware.StreamInfo
	format     *quant.Format
	isKeys     bool // the tiles are keys' panels, else values' (tile.go)
	heads, dim int
	slots      int // entries of a tile
	rowBytes   int // of one head's row in the format
	offset     int // of the first tile in a block
	tileBytes  int // of one head
}

const (
	blockLen     = hardware.BlockLen
	keyPanelMask = panelCols - 1
)

// streamFormats are the formats of cache rows.
func streamFormats() []*quant.Format {
	return []*quant.Format{quant.F32, quant.F16, quant.BF16, quant.Q8_0}
}

// newStream lays a stream out behind offset in the block.
func newStream(info hardware.StreamInfo, format *quant.Format, offset int) (*stream, error) {
	rowBytes, whole := format.RowBytes(info.Dim)
	if !whole {
		return nil, fmt.Errorf("%w: cpu: stream %q: heads of %d are not a multiple of %s's %d",
			hardware.ErrUnsupported, info.Name, info.Dim, format, format.BlockLen)
	}
	s := &stream{
		info: info, format: format, isKeys: info.Class == hardware.KeyStream && info.Ratio <= 1,
		heads: info.Heads, dim: info.Dim, slots: blockLen, rowBytes: rowBytes, offset: offset,
	}
	if info.Ratio > 1 {
		s.slots = info.Entries()
	}
	s.tileBytes = s.slots * rowBytes
	if format.BlockLen == 1 && !s.isKeys {
		s.tileBytes = s.slots * roundUp(info.Dim, panelCols) * format.BlockBytes
	}
	s.tileBytes = roundUp(s.tileBytes, align)
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
		w.kernels.quantizeQ8_0(w.short[:s.rowBytes], x)
		s.scatterRuns(tile, slot, w.short[:s.rowBytes])
	}
}

// scatter32 puts a row of 4-byte elements into a tile.
func (s *stream) scatter32(tile []float32, slot int, x []float32) {
	if s.isKeys {
		panel := tile[slot/panelCols*panelCols*s.dim+slot&keyPanelMask:]
		for i, v := range x {
			panel[i*panelCols] = v
		}
		return
	}
	for i := 0; i < len(x); i += panelCols {
		copy(tile[i*s.slots+slot*panelCols:], x[i:min(i+panelCols, len(x))])
	}
}

// scatter16 puts a row of 2-byte elements into a tile.
func (s *stream) scatter16(tile []byte, slot int, x []byte) {
	if s.isKeys {
		panel := tile[2*(slot/panelCols*panelCols*s.dim+slot&keyPanelMask):]
		for i := 0; i < len(x); i += 2 {
			panel[i*panelCols], panel[i*panelCols+1] = x[i], x[i+1]
		}
		return
	}
	for i := 0; i < len(x); i += 2 * panelCols {
		copy(tile[i*s.slots+2*slot*panelCols:], x[i:min(i+2*panelCols, len(x))])
	}
}

// scatterRuns puts a row of Q8_0's blocks, each a scale and 32 bytes, into a tile.
func (s *stream) scatterRuns(tile []byte, slot int, x []byte) {
	for runBytes := s.slots * runBlockBytes; len(x) > 0; tile, x = tile[runBytes:], x[runBlockBytes:] {
		copy(tile[2*slot:][:2], x)
		q := x[2:runBlockBytes]
		if s.isKeys {
			panel := tile[runScaleBytes+slot/panelCols*keyPanelBytes+slot&keyPanelMask:][:keyPanelBytes-keyPanelMask]
			for i, v := range q {
				panel[i*panelCols] = v
			}
			continue
		}
		for p := range runPanels {
			copy(tile[2*s.slots+(p*s.slots+slot)*panelCols:], q[p*panelCols:][:panelCols])
		}
	}
}

// gatheredBytes is the size of a tile of 64 entries that copyEntry fills.
func (s *stream) gatheredBytes() int { return roundUp(blockLen*(s.tileBytes/s.slots), align) }

// copyEntry copies an entry of one of the stream's tiles to a place in a tile of 64 entries.
func (s *stream) copyEntry(k *kernels, dst []byte, place int, tile []byte, slot int) {
	switch {
	case s.isKeys:
		s.copyKey(dst, place, tile, slot)
	case s.format == quant.Q8_0:
		for runs := s.dim / shortRun; runs > 0; runs-- {
			copy(dst[2*place:][:2], tile[2*slot:])
			for p := range runPanels {
				copy(dst[runScaleBytes+(p*blockLen+place)*panelCols:][:panelCols], tile[2*s.slots+(p*s.slots+slot)*panelCols:])
			}
			dst, tile = dst[blockLen*runBlockBytes:], tile[s.slots*runBlockBytes:]
		}
	default:
		cols := panelCols * s.format.BlockBytes / 4 // a panel's elements of an entry, as float32
		k.copyRows(floatsOf(dst)[place*cols:], blockLen*cols, floatsOf(tile)[slot*cols:], s.slots*cols, (s.dim+panelCols-1)/panelCols, cols)
	}
}

// copyKey does so with keys' panels, which have an entry as a column.
func (s *stream) copyKey(dst []byte, place int, tile []byte, slot int) {
	if s.format == quant.Q8_0 {
		for run := range s.dim / shortRun {
			to, from := dst[run*runBytesQ8_0:][:runBytesQ8_0], tile[run*runBytesQ8_0:][:runBytesQ8_0]
			copy(to[2*place:][:2], from[2*slot:])
			to, from = to[runScaleBytes+keyAt(place, shortRun):], from[runScaleBytes+keyAt(slot, shortRun):]
			for i := 0; i < shortRun*panelCols-keyPanelMask; i += panelCols {
				to[i] = from[i]
			}
		}
		return
	}
	n := s.format.BlockBytes
	to, from := dst[keyAt(place, s.dim)*n:], tile[keyAt(slot, s.dim)*n:]
	for i := range s.dim {
		copy(to[i*panelCols*n:][:n], from[i*panelCols*n:])
	}
}

// keyAt returns where the first element of an entry lies in keys' panels of dim elements a head.
func keyAt(entry, dim int) int { return entry/panelCols*panelCols*dim + entry&keyPanelMask }

// freshBlocks zeroes the blocks whose first position this step writes, so that the bytes behind a sequence's last
// position do not depend on what the block held before.
type freshBlocks struct{ streams []*stream }

// add has a stream's part of the blocks zeroed.
func (o *freshBlocks) add(s *stream) {
	if !slices.Contains(o.streams, s) {
		o.streams = append(o.streams, s)
	}
}

func (o *freshBlocks) items(s *step) int { return len(s.fresh) * len(o.streams) }

func (o *freshBlocks) run(w *worker, item int) {
	block, s := w.queue.block(int(w.step.fresh[item/len(o.streams)])), o.streams[item%len(o.streams)]
	clear(block[s.offset:][:s.bytes()])
}
