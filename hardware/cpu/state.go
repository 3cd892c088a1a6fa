package cpu

import (
	"fmt"

	"hearth/hardware"
)

// What a sequence remembers beside cache blocks lies in its slot: the latest rows of each ring, and each delta rule's
// state with the rows of the chunk of blockLen positions that goes on.
//
//	slot:     ring 0 | ring 1 | ... | delta 0 | delta 1 | ...
//	snapshot: the rows that ring 0 keeps | ... | the state of delta 0 | ...
//
// Invariants, for each ring and delta rule of a slot:
//
//  1. Its base is the multiple of blockLen at or below the last position that was computed, 0 for the first ones.
//  2. A slot holds the snapshot of its base at any time: the rows before it that a ring keeps, and the state that enters
//     it. Both were written when a position from the base on was computed, so that nothing below the base is taken back.
//  3. What belongs to positions from the base on is found by position, and written again when a position is.

// history is how far the sequences of all slots have come, in one ring or delta rule.
type history struct {
	name  string
	slots []progress // by slot
}

// progress is how far a sequence has come: its base, the position behind the last one that was computed, and how many of
// the last ones may be taken back. All are 0 for an empty slot.
type progress struct{ base, end, drafts int32 }

// from returns the progress from which a span goes on, that of an empty slot where it begins a sequence.
func (h *history) from(s *hardware.Span) progress {
	if s.Start == 0 {
		return progress{}
	}
	return h.slots[s.Slot]
}

// after is the progress behind a span.
func after(s *hardware.Span) progress {
	end := s.Start + s.Len
	return progress{base: (end - 1) / blockLen * blockLen, end: end, drafts: s.Draft}
}

// check panics when a span does not go on where its slot stands, or where drafts may have been taken back to.
func (h *history) check(i int, s *hardware.Span) {
	at := h.from(s)
	if s.Start > at.end || s.Start < at.end-at.drafts {
		panic(fmt.Sprintf("cpu: Run: span %d starts at %d, %q of slot %d has come to %d with %d drafts", i, s.Start, h.name, s.Slot, at.end, at.drafts))
	}
}

// ready panics when a position is neither the base of a slot, nor the end of its full block.
func (h *history) ready(op string, slot, position int) {
	at := h.slots[slot]
	if position != int(at.base) && (position != int(at.end) || position != int(at.base)+blockLen) || position == 0 {
		panic(fmt.Sprintf("cpu: %s: position %d, %q of slot %d has come to %d from %d on", op, position, h.name, slot, at.end, at.base))
	}
}

// states lays out what slots and snapshots hold.
func (c *compiler) states() {
	for _, info := range c.program.Rings() {
		r := newRing(info, c.limits.MaxDraft)
		r.offset, r.savedOffset = c.slotBytes, c.snapshotBytes
		c.slotBytes += r.bytes()
		c.snapshotBytes += r.savedBytes()
		c.rings = append(c.rings, r)
		c.histories = append(c.histories, &r.history)
	}
	for _, info := range c.program.Deltas() {
		d := newDelta(info)
		d.offset, d.savedOffset = c.slotBytes, c.snapshotBytes
		c.slotBytes += d.bytes()
		c.snapshotBytes += d.savedBytes()
		c.deltas = append(c.deltas, d)
		c.histories = append(c.histories, &d.history)
	}
}

// advanced returns the histories that a section's operations move.
func (c *compiler) advanced(ops []hardware.Op) []*history {
	var moved []*history
	for _, op := range ops {
		switch a := op.Args.(type) {
		case *hardware.RememberArgs:
			moved = append(moved, &c.rings[a.Ring.Index()].history)
		case *hardware.DeltaRuleArgs:
			moved = append(moved, &c.deltas[a.State.Index()].history)
		}
	}
	return moved
}

// slot returns the memory of a slot.
func (q *queue) slot(id int) []byte { return q.stateMem.mem[id*q.slotBytes:][:q.slotBytes] }

// snapshot returns the memory of a snapshot; they lie behind the slots.
func (q *queue) snapshot(id int) []byte {
	return q.stateMem.mem[q.limits.Slots*q.slotBytes+id*q.snapshotBytes:][:q.snapshotBytes]
}

// SaveState implements hardware.Queue.
func (q *queue) SaveState(slot, position, snapshot int) {
	const op = "SaveState"
	q.checkState(op, slot, snapshot)
	for _, h := range q.histories {
		h.ready(op, slot, position)
	}
	from, to := q.slot(slot), q.snapshot(snapshot)
	for _, r := range q.rings {
		r.save(to, from, position, r.slots[slot])
	}
	for _, d := range q.deltas {
		d.save(q.workers[0], to, from, position, d.slots[slot])
	}
}

// LoadState implements hardware.Queue.
func (q *queue) LoadState(slot, position, snapshot int) {
	const op = "LoadState"
	q.checkState(op, slot, snapshot)
	if position <= 0 || position%blockLen != 0 || position > q.limits.MaxLen {
		panic(fmt.Sprintf("cpu: %s: position %d, want a multiple of %d up to %d", op, position, blockLen, q.limits.MaxLen))
	}
	from, to := q.snapshot(snapshot), q.slot(slot)
	for _, r := range q.rings {
		r.load(to, from, position)
	}
	for _, d := range q.deltas {
		d.load(to, from)
	}
	for _, h := range q.histories {
		h.slots[slot] = progress{base: int32(position), end: int32(position)}
	}
}

// ReadState implements hardware.Queue.
func (q *queue) ReadState(snapshot int, dst []byte) {
	q.checkSnapshot("ReadState", "dst", snapshot, len(dst))
	copy(dst, q.snapshot(snapshot))
}

// WriteState implements hardware.Queue.
func (q *queue) WriteState(snapshot int, src []byte) {
	q.checkSnapshot("WriteState", "src", snapshot, len(src))
	q.copyTogether(q.snapshot(snapshot), src[:q.snapshotBytes])
}

func (q *queue) checkState(op string, slot, snapshot int) {
	if slot < 0 || slot >= q.limits.Slots || snapshot < 0 || snapshot >= q.limits.Snapshots {
		panic(fmt.Sprintf("cpu: %s: slot %d of %d, snapshot %d of %d", op, slot, q.limits.Slots, snapshot, q.limits.Snapshots))
	}
}

func (q *queue) checkSnapshot(op, name string, snapshot, n int) {
	if snapshot < 0 || snapshot >= q.limits.Snapshots {
		panic(fmt.Sprintf("cpu: %s: snapshot %d of %d", op, snapshot, q.limits.Snapshots))
	}
	if n < q.snapshotBytes {
		panic(fmt.Sprintf("cpu: %s: %s has %d bytes, a snapshot %d", op, name, n, q.snapshotBytes))
	}
}
