package engine

import (
	"slices"
	"time"

	"hearth/hardware"
	"hearth/kvcache/disk"
)

// A running sequence may begin with blocks from disk. While they are read it is restored: it has blocks for them, and rows
// in steps only where that pays.
//
// Where sequences have no state, the blocks are read from the last to the first, and the sequence may compute from the
// first to the last meanwhile. Where both meet, it goes on behind what was read: that takes no longer than either alone, and
// a block that is missing costs its own computation and no more.
//
//	blocks   cached | computed → | computing |  ?  |  ?  | ← read | read | read | to be computed
//	                             computed                                       end
//
// Where they have state, the one at the end is read, and the blocks before it from the first to the last. The sequence waits
// for all of it, or begins anew without what is missing.

// restore is what a running sequence gets from disk.
type restore struct {
	seq        *sequence
	keys       []disk.Key // of the prompt's blocks
	first, end int        // blocks [first, end) are not in memory
	wanted     []bool     // [end-first] on disk, and not known to be missing
	here       []bool     // [end-first] in the sequence's blocks
	stateful   bool       // the state at the end is wanted as well
	state      []byte     // that state, once it was read
	usable     int        // blocks that the sequence could go on from without

	stateAsked bool // a reader has the state
	next       int  // block that is read next
	unread     int  // records that are wanted and not here
	blockBytes int
	unreadSize int64 // their bytes
	gotSize    int64
	began      time.Time // when the first was asked for
	last       time.Time // when the last came; before, when the restore began
	over       bool      // nobody waits for it any more
}

// at returns the place of a block in wanted and here, -1 where it is none of them.
func (r *restore) at(block int) int {
	if block < r.first || block >= r.end {
		return -1
	}
	return block - r.first
}

// isHere reports whether a block was restored.
func (r *restore) isHere(block int) bool {
	i := r.at(block)
	return i >= 0 && r.here[i]
}

// settle says that a wanted block came, or will not come.
func (r *restore) settle(block int, here bool) {
	i := r.at(block)
	if !r.wanted[i] {
		return
	}
	r.wanted[i], r.here[i] = false, here
	r.unread--
	r.unreadSize -= int64(r.blockBytes)
	if here {
		r.gotSize += int64(r.blockBytes)
	}
}

// begin gives a sequence that starts to run the prefix that is cached, and has what is on disk restored. It returns how
// many positions are there.
func (s *scheduler) begin(seq *sequence) int {
	if s.onDisk != nil && seq.keys != nil {
		if r := s.onDisk(seq); r != nil && s.beginRestore(seq, r) {
			return seq.computed
		}
	}
	seq.table.SetOrigin(seq.origin, seq.saved)
	if seq.scoring() { // which needs the logits of every prompt position
		return 0
	}
	computed := s.cache.Acquire(seq.table, seq.salt, seq.tokens)
	if seq.saved && s.has != nil {
		for _, block := range seq.table.Blocks() { // what the disk has lost, or never got
			s.cache.Save(block, s.has)
		}
	}
	return computed
}

// beginRestore takes blocks for what is to be restored; it returns false when there are not enough.
func (s *scheduler) beginRestore(seq *sequence, r *restore) bool {
	seq.table.SetOrigin(seq.origin, seq.saved)
	seq.computed = 0
	if r.stateful {
		s.cache.Hold(seq.table, seq.salt, seq.tokens, r.end)
	} else {
		seq.computed = s.cache.Acquire(seq.table, seq.salt, seq.tokens)
	}
	if s.cache.Grow(seq.table, r.end*hardware.BlockLen) != nil {
		s.cache.Release(seq.table)
		return false
	}
	seq.restore, seq.held = r, true
	s.restores = append(s.restores, r)
	return true
}

// endRestore forgets what a sequence still waits for from disk.
func (s *scheduler) endRestore(seq *sequence) {
	r := seq.restore
	if r == nil {
		return
	}
	r.over = true
	seq.restore, seq.held = nil, false
	for i, other := range s.restores {
		if other == r {
			s.restores = slices.Delete(s.restores, i, i+1)
			break
		}
	}
	s.ended = append(s.ended, r)
}

// skip lets the sequences that are restored go on behind the blocks that came.
func (s *scheduler) skip() {
	for i := 0; i < len(s.restores); i++ {
		r := s.restores[i]
		if r.stateful {
			continue // install ends it
		}
		seq, from := r.seq, r.seq.computed
		for seq.computed%hardware.BlockLen == 0 && r.isHere(seq.computed/hardware.BlockLen) {
			seq.computed += hardware.BlockLen
		}
		if n := seq.computed - from; n > 0 {
			s.cache.Publish(seq.table, seq.salt, seq.tokens[:seq.computed])
			if seq.counting {
				seq.cached += n
				seq.restored += n
			}
		}
		for block := r.first; block < min(blocksFor(seq.computed), r.end); block++ {
			r.settle(block, false) // it was computed meanwhile, or is just being computed
		}
		if r.unread == 0 && !r.anyHere(seq.computed/hardware.BlockLen) {
			s.endRestore(seq)
			i--
		}
	}
}

// anyHere reports whether a block from one on was restored.
func (r *restore) anyHere(block int) bool {
	for i := max(block, r.first); i < r.end; i++ {
		if r.isHere(i) {
			return true
		}
	}
	return false
}

// untilRestored cuts the rows of a step so that they end before a block that was restored.
func (s *scheduler) untilRestored(seq *sequence, rows int) int {
	r := seq.restore
	if r == nil {
		return rows
	}
	for block := seq.computed/hardware.BlockLen + 1; block*hardware.BlockLen < seq.computed+rows; block++ {
		if r.isHere(block) {
			return block*hardware.BlockLen - seq.computed
		}
	}
	return rows
}

// arrived publishes the first blocks of a sequence with state as far as they came. It returns true when all of them are
// there.
func (s *scheduler) arrived(seq *sequence) bool {
	r := seq.restore
	block := r.first
	for block < r.end && r.isHere(block) {
		block++
	}
	s.cache.Publish(seq.table, seq.salt, seq.tokens[:block*hardware.BlockLen])
	return block == r.end
}

// install lets a sequence go on from the state that it got, once its blocks are there. Before the moves of the next step are
// done, the caller writes the state to the snapshot, with write. It returns false when there is no snapshot to be had.
func (s *scheduler) install(seq *sequence) (snapshot int32, write, ok bool) {
	r := seq.restore
	end := r.end * hardware.BlockLen
	if snapshot, write, ok = s.cache.Install(seq.table, end); !ok {
		return snapshot, false, false
	}
	seq.computed = end
	if seq.counting {
		seq.cached, seq.restored = end, end-r.usable*hardware.BlockLen
	}
	s.endRestore(seq)
	s.goOn(seq)
	return snapshot, write, true
}

// restart lets a sequence that is restored begin anew with what there is by now.
func (s *scheduler) restart(seq *sequence) {
	s.endRestore(seq)
	s.cache.Release(seq.table)
	if seq.attempts++; seq.attempts >= maxAttempts {
		seq.keys = nil
	}
	seq.computed = s.begin(seq)
	s.goOn(seq)
	if seq.counting {
		seq.cached, seq.restored = seq.computed, 0
	}
}

// maxAttempts is how often a sequence is restored from what is on disk, of which records turned out to be damaged.
const maxAttempts = 3
