package engine

import (
	"hearth/hardware"
	"hearth/kvcache"
)

// Where sequences have state, a prefix is of use to others only if the state at its end was kept. The scheduler has it
// kept where somebody is likely to go on: at the end of a prompt, for other answers to it and for a next turn that leaves
// out the reasoning of this one; at the end of an answer, for the next turn; where two prompts part; and now and then on
// the way, for a sequence that is preempted. A slot has the state at the end of its last full block, so a step that
// passes such a point ends before the block behind it does.

// keepEvery is how far apart states are kept on the way. A state of a hybrid model takes as much memory as the blocks of
// about so many tokens.
const keepEvery = 2048

// answerMargin is how far before the end of a prompt its state is kept: templates end prompts with a few tokens that
// begin the answer, of which the next turn's prompt has others when reasoning is left out or switched off.
const answerMargin = 8

// leastParted is how many tokens more than what it went on from a prompt must share with earlier ones, for the state to be
// kept where they part.
const leastParted = 2 * hardware.BlockLen

// stateMove is a copy between the slot of a running sequence and a snapshot.
type stateMove struct {
	seq            *sequence
	load           bool // from the snapshot to the slot
	slot, position int
	snapshot       int
}

// keepPoint is a position, a multiple of BlockLen, where the state of a sequence is to be kept.
type keepPoint struct {
	position int
	worth    kvcache.Worth
}

// goOn lets an admitted sequence begin with the state at the end of the prefix that it acquired.
func (s *scheduler) goOn(seq *sequence) {
	seq.kept, seq.parted, seq.asked = seq.computed, 0, 0
	if snapshot, ok := seq.table.Snapshot(); ok {
		s.moves = append(s.moves, stateMove{seq, true, seq.table.Slot(), seq.computed, snapshot})
	}
	if parted := seq.table.Parted(); !seq.admitted && parted >= seq.computed+leastParted {
		seq.parted = parted
	}
	if s.keeps {
		s.cache.Renew(seq.table, seq.anchorEnd())
	}
}

// anchorEnd is where the state is kept for later prompts that leave out some of this one, or 0.
func (s *sequence) anchorEnd() int { return wholeBlocks(max(s.anchor-answerMargin, 0)) }

// moved records that all moves were done.
func (s *scheduler) moved() {
	for _, m := range s.moves {
		if m.load {
			s.cache.Loaded(m.seq.table)
		}
	}
	clear(s.moves)
	s.moves = s.moves[:0]
}

// keepPoint returns where the state of a sequence is to be kept next; position 0 where sequences have none.
func (s *scheduler) keepPoint(seq *sequence) keepPoint {
	if !s.keeps {
		return keepPoint{}
	}
	promptEnd := 0
	if seq.maxTokens > 0 { // else there is no answer, and nobody goes on
		promptEnd = wholeBlocks(max(seq.promptLen-answerMargin, 0))
	}
	after := max(seq.kept, wholeBlocks(seq.computed))
	next := keepPoint{max(seq.kept+keepEvery, after+hardware.BlockLen), kvcache.Passing}
	for _, position := range [...]int{seq.asked, seq.parted, seq.anchorEnd(), promptEnd} {
		if position > after && position <= next.position {
			next = keepPoint{position, kvcache.Lasting}
		}
	}
	return next
}

// untilKept cuts the rows of a step so that they do not fill the block behind the next point.
func (s *scheduler) untilKept(seq *sequence, rows int) int {
	point := s.keepPoint(seq).position
	if point == 0 {
		return rows
	}
	return min(rows, point+hardware.BlockLen-1-seq.computed)
}

// ask makes a running sequence keep its state at a position that it has not computed yet, for another that waits. It
// returns false where nothing can be kept, and true where sequences have no state.
func (s *scheduler) ask(r *sequence, position int) bool {
	if s.keeps && (r.asked == 0 || position < r.asked) {
		r.asked = position
	}
	return s.keeps || !s.stateful
}

// keepLast keeps the state of a sequence that ends or gives way.
func (s *scheduler) keepLast(seq *sequence) {
	if s.keeps && wholeBlocks(seq.computed) > seq.kept {
		s.keep(seq, kvcache.Lasting)
	}
}

// keep has the state at the end of a sequence's last full block kept.
func (s *scheduler) keep(seq *sequence, worth kvcache.Worth) {
	seq.kept = wholeBlocks(seq.computed)
	if snapshot, ok := s.cache.Attach(seq.table, seq.kept, worth); ok {
		s.moves = append(s.moves, stateMove{seq, false, seq.table.Slot(), seq.kept, int(snapshot)})
	}
}
