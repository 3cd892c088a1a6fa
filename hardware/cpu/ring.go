package cpu

import "hearth/hardware"

// ring is the latest rows of sequences.
//
//	slot:     row of position p mod length [length][stride] | rows before the base [keep][stride]
//	snapshot: rows before the base [keep][stride]
//
// Rows before position 0 are zeros.
type ring struct {
	history
	dim, keep   int
	stride      int // elements of a row, whole cache lines
	length      int // rows that readers reach back from a span's first one, and drafts that may have been written after it
	offset      int // in a slot, in bytes
	savedOffset int // in a snapshot
}

func newRing(info hardware.RingInfo, maxDraft int) *ring {
	return &ring{
		history: history{name: info.Name}, dim: info.Dim, keep: info.Keep, stride: roundUp(info.Dim, align/4),
		length: info.Reach + 1 + maxDraft,
	}
}

// bytes is the size of the ring's part of a slot.
func (r *ring) bytes() int { return 4 * r.stride * (r.length + r.keep) }

// savedBytes is the size of its part of a snapshot.
func (r *ring) savedBytes() int { return 4 * r.stride * r.keep }

// rows returns the ring's part of a slot.
func (r *ring) rows(slot []byte) []float32 { return floatsOf(slot[r.offset:][:r.bytes()]) }

// row returns the row of a position that is not negative.
func (r *ring) row(rows []float32, position int) []float32 {
	return rows[position%r.length*r.stride:][:r.dim]
}

// kept returns the rows before the base.
func (r *ring) kept(rows []float32) []float32 { return rows[r.length*r.stride:] }

// saved returns the ring's part of a snapshot.
func (r *ring) saved(snapshot []byte) []float32 {
	return floatsOf(snapshot[r.savedOffset:][:r.savedBytes()])
}

// keepRows copies the rows before a position together, as latest has them.
func (r *ring) keepRows(dst []float32, position int, latest func(position int) []float32) {
	for i := range r.keep {
		row, p := dst[i*r.stride:][:r.dim], position-r.keep+i
		if p < 0 {
			clear(row)
			continue
		}
		copy(row, latest(p))
	}
}

// save copies the rows before a position, which is the base or the end of what was computed.
func (r *ring) save(snapshot, slot []byte, position int, at progress) {
	rows := r.rows(slot)
	if position == int(at.base) {
		copy(r.saved(snapshot), r.kept(rows))
		return
	}
	r.keepRows(r.saved(snapshot), position, func(p int) []float32 { return r.row(rows, p) })
}

// load makes a slot go on from a position.
func (r *ring) load(slot, snapshot []byte, position int) {
	rows, saved := r.rows(slot), r.saved(snapshot)
	copy(r.kept(rows), saved)
	for i := range r.keep {
		if p := position - r.keep + i; p >= 0 {
			copy(r.row(rows, p), saved[i*r.stride:])
		}
	}
}

// remember writes the last rows of each span into a ring.
type remember struct {
	x    view
	ring *ring
}

func (o *remember) items(s *step) int { return len(s.batch.Spans) }

func (o *remember) run(w *worker, item int) {
	span, r := &w.step.batch.Spans[item], o.ring
	rows, next := r.rows(w.queue.slot(int(span.Slot))), after(span)
	if next.base > 0 && next.base >= span.Start {
		r.keepRows(r.kept(rows), int(next.base), func(p int) []float32 { return latestRow(&o.x, r, rows, span, p) })
	}
	for p := max(int(span.Start), int(next.end)-r.length); p < int(next.end); p++ {
		copy(r.row(rows, p), o.x.row(int(span.Row-span.Start)+p))
	}
}

// latestRow returns the row of a span's sequence at a position: of the step's rows x, or from the ring.
func latestRow(x *view, r *ring, rows []float32, span *hardware.Span, position int) []float32 {
	if position >= int(span.Start) {
		return x.row(int(span.Row-span.Start) + position)
	}
	return r.row(rows, position)
}
