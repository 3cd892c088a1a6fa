package engine

import (
	"fmt"

	"hearth/hardware"
)

// fakeStates are the slots and snapshots of a fake device. A state is a hash of all tokens of its sequence, so that a
// state of another sequence or position shows.
type fakeStates struct {
	slots     []fakeSlot
	snapshots []fakeSnapshot
}

// fakeSlot stands at a multiple of BlockLen and remembers the hashes since, as a device that can take rows back.
type fakeSlot struct {
	base   int
	hashes []uint64 // after positions base-1, base, …; empty: nothing was computed
}

type fakeSnapshot struct {
	position int
	hash     uint64
}

// fakeStateSeed makes the hash of a state another than that of blocks.
const fakeStateSeed = 77

func newFakeStates(slots, snapshots int) *fakeStates {
	f := &fakeStates{slots: make([]fakeSlot, slots), snapshots: make([]fakeSnapshot, snapshots)}
	for i := range f.slots {
		f.slots[i].hashes = make([]uint64, 0, hardware.BlockLen+1)
	}
	return f
}

// write computes the tokens of positions from start on, and calls f with the state after each.
func (f *fakeStates) write(slot, start int, tokens []int32, each func(i int, hash uint64)) {
	s := &f.slots[slot]
	if start == 0 {
		s.base, s.hashes = 0, append(s.hashes[:0], fakeStateSeed)
	}
	if start < s.base || start-s.base >= len(s.hashes) {
		panic(fmt.Sprintf("fake: slot %d holds positions %d to %d, not %d", slot, s.base, s.base+len(s.hashes)-1, start))
	}
	s.hashes = s.hashes[:start-s.base+1]
	for i, token := range tokens {
		last := s.hashes[len(s.hashes)-1]
		if len(s.hashes) == hardware.BlockLen+1 { // what is before this block stays
			s.base, s.hashes = s.base+hardware.BlockLen, append(s.hashes[:0], last)
		}
		hash := fakeHash(last, token)
		s.hashes = append(s.hashes, hash)
		if each != nil {
			each(i, hash)
		}
	}
}

func (f *fakeStates) save(slot, position, snapshot int) {
	s := &f.slots[slot]
	end := s.base + len(s.hashes) - 1
	if len(s.hashes) == 0 || position != s.base && (position != end || position != s.base+hardware.BlockLen) {
		panic(fmt.Sprintf("fake: SaveState: slot %d holds positions %d to %d, not %d", slot, s.base, end, position))
	}
	f.snapshots[snapshot] = fakeSnapshot{position, s.hashes[position-s.base]}
}

func (f *fakeStates) load(slot, position, snapshot int) {
	x := f.snapshots[snapshot]
	if x.position != position {
		panic(fmt.Sprintf("fake: LoadState: snapshot %d is of position %d, not %d", snapshot, x.position, position))
	}
	s := &f.slots[slot]
	s.base, s.hashes = position, append(s.hashes[:0], x.hash)
}

// verify returns an error unless the slot has computed exactly these tokens.
func (f *fakeStates) verify(slot int, tokens []int32) error {
	want := uint64(fakeStateSeed)
	for _, token := range tokens {
		want = fakeHash(want, token)
	}
	s := &f.slots[slot]
	if i := len(tokens) - s.base; i < 0 || i >= len(s.hashes) || s.hashes[i] != want {
		return fmt.Errorf("slot %d holds positions %d to %d, not the state after %d tokens", slot, s.base, s.base+len(s.hashes)-1, len(tokens))
	}
	return nil
}

// do carries out the moves of a scheduler.
func (f *fakeStates) do(moves []stateMove) {
	for _, m := range moves {
		if m.load {
			f.load(m.slot, m.position, m.snapshot)
		} else {
			f.save(m.slot, m.position, m.snapshot)
		}
	}
}
