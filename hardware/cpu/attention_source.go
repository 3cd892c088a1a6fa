package cpu

import (
	"hearth/hardware"
	"hearth/hardware/quant"
)

// source is a set of entries that attention reads, in tiles of 64. Where the cache's blocks hold these tiles as they are,
// attention reads them there; entries that lie elsewhere are gathered, by each worker into tiles of its own.
type source struct {
	key, value *stream // the same for latents; of a ring, how gathered tiles are laid out
	chosen     *selection
	ring       *ring // rows before the step, nil for streams
	recent     view  // rows of the step

	keyFormat, valueFormat *quant.Format // of the tiles
	keyPanels              bool          // the tiles of keys are keys' panels
	heads, share           int           // heads, and how many of attention's key heads read each
	ratio                  int           // positions of an entry
	reach                  int           // positions before its own that a row sees

	// Of sources that are not direct:
	id                  int // by which workers know what they have gathered
	place, offset       int // of its gathered tiles among those of one attention, counted and in bytes
	tileBytes, keyBytes int // of a gathered tile, keys and values; of its keys
}

// sourceTile is 64 entries of one head; the same bytes twice for latents.
type sourceTile struct{ keys, values []byte }

// isDirect says whether all tiles are those of blocks.
func (s *source) isDirect() bool { return s.chosen == nil && s.ring == nil && s.ratio == 1 }

// entries returns the entries [lo, hi) that a position sees, of a selection places in it; row is the position's row of the
// batch.
func (s *source) entries(position, row, keyHead int) (lo, hi int) {
	if s.chosen != nil {
		return 0, s.chosen.count(row, s.groupOf(keyHead))
	}
	return max(0, position-s.reach), (position + 1) / s.ratio
}

// positions returns the positions [first, last) that see any of the entries [begin, end), without a selection.
func (s *source) positions(begin, end int) (first, last int) {
	return (begin+1)*s.ratio - 1, end + s.reach
}

// seenBy returns how many entries the last position of a span sees, without a selection.
func (s *source) seenBy(span *hardware.Span) int { return int(span.Start+span.Len) / s.ratio }

// groupOf returns the group of the selection that one of attention's key heads reads.
func (s *source) groupOf(keyHead int) int { return keyHead / s.share * s.chosen.groups / s.heads }

// direct returns the tile of the entries from base on where blocks have it.
func (s *source) direct(w *worker, table, base, keyHead int) sourceTile {
	block := w.queue.block(int(w.step.batch.Tables[table+base/blockLen]))
	return sourceTile{s.key.tile(block, keyHead/s.share), s.value.tile(block, keyHead/s.share)}
}

// tile returns the tile of the entries from base on.
func (s *source) tile(t *attentionTile, base int) sourceTile {
	if s.isDirect() {
		return s.direct(t.w, t.unit.table, base, t.keyHead)
	}
	if s.chosen != nil && s.ratio == 1 {
		if first, ok := s.chosen.aligned(t.unit.row, s.groupOf(t.keyHead), base); ok {
			return s.direct(t.w, t.unit.table, first, t.keyHead)
		}
	}
	return s.gather(t, base)
}

// gathered says what lies in a tile that a worker has gathered.
type gathered struct {
	source     int
	step       uint64
	span, head int
	row        int // of a selection
	base       int
}

// gather returns the tile of the entries from base on, gathered by the worker unless it lies there from before: a
// partition reads each tile twice, and the rows of a span many of the same ones.
func (s *source) gather(t *attentionTile, base int) sourceTile {
	place := base / blockLen % partitionTiles
	mem := t.w.attention.gathered[s.offset+place*s.tileBytes:][:s.tileBytes]
	tile := sourceTile{mem[:s.keyBytes], mem[s.keyBytes:]}
	if s.key == s.value {
		tile.values = tile.keys
	}
	is := gathered{source: s.id, step: t.w.step.number, span: t.unit.span, head: t.keyHead / s.share, base: base}
	end := base + blockLen
	if s.chosen != nil {
		is.row = t.unit.row
		end = min(end, s.chosen.count(is.row, s.groupOf(t.keyHead)))
	} else {
		end = min(end, s.seenBy(&t.w.step.batch.Spans[is.span]))
	}
	if has := &t.w.attention.has[s.place+place]; *has != is {
		*has = is
		if s.ring != nil {
			s.fillRows(t, tile.keys, base, end)
		} else {
			s.fill(t, tile, base, end)
		}
	}
	return tile
}

// fillRows copies the rows that a span sees into a tile, and zeros for others and beyond rows: what lies there is multiplied
// with zeros.
func (s *source) fillRows(t *attentionTile, tile []byte, base, end int) {
	span := &t.w.step.batch.Spans[t.unit.span]
	rows, x := s.ring.rows(t.w.queue.slot(int(span.Slot))), floatsOf(tile)
	clear(x)
	for p := max(base, int(span.Start)-s.reach); p < end; p++ {
		s.key.scatter32(x, p-base, latestRow(&s.recent, s.ring, rows, span, p))
	}
}

// fill copies entries into a tile.
func (s *source) fill(t *attentionTile, tile sourceTile, base, end int) {
	head := t.keyHead / s.share
	for e := base; e < end; e++ {
		entry := e
		if s.chosen != nil {
			entry = s.chosen.entry(t.unit.row, s.groupOf(t.keyHead), e)
		}
		index, slot := s.key.info.Place(entry)
		block := t.w.queue.block(int(t.w.step.batch.Tables[t.unit.table+index]))
		s.key.copyEntry(t.w.kernels, tile.keys, e-base, s.key.tile(block, head), slot)
		if s.value != s.key {
			s.value.copyEntry(t.w.kernels, tile.values, e-base, s.value.tile(block, head), slot)
		}
	}
}
