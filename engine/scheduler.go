package engine

import (
	"slices"

	"hearth/hardware"
	"hearth/kvcache"
	"hearth/kvcache/disk"
)

// scheduler chooses the rows of each step. It is plain data: no goroutine, no lock, no device, no clock; the same
// requests in the same order give the same choices.
//
// Invariants:
//  1. waiting and running are ordered by sequence.before; a sequence is in at most one of them.
//  2. A running sequence has a table, with blocks for its computed positions at least; a waiting one has none.
//  3. While anything waits or runs, next returns at least one row, since a request that cannot fit alone is refused
//     by Submit; unless all that runs is held until the disk has answered.
//  4. The caller does the moves of next, in order, before it computes the step, and those of done and remove before the
//     step after it.
type scheduler struct {
	cache        *kvcache.Cache
	maxSequences int  // sequences that run at once
	maxOutputs   int  // rows with logits in a step, at least maxSequences
	stateful     bool // sequences have state beside their blocks
	keeps        bool // states may be kept

	waiting []*sequence
	running []*sequence
	step    []stepItem          // of the last call of next
	tables  []*kvcache.Sequence // empty ones, for sequences that begin to run
	moves   []stateMove         // of states, not done yet

	restores []*restore                                             // of running sequences, in order of admission
	ended    []*restore                                             // of them, those that ended; the caller empties it
	onDisk   func(seq *sequence) *restore                           // what is worth restoring for a sequence that starts to run, or nil; nil: there is no disk
	has      func(tenant string, key disk.Key, kind disk.Kind) bool // likewise, whether a record is there

	preemptions uint64
}

// stepItem is the part of a step that belongs to one sequence.
type stepItem struct {
	seq    *sequence
	rows   int // tokens[computed : computed+rows]
	drafts int // guesses checked behind them, the first of the sequence's draft
	right  int // of these, after the step
}

// reaches reports whether the step brings the sequence to its end, so that its next token can be drawn.
func (it stepItem) reaches() bool { return it.rows == it.seq.pending() }

// outputs is the number of rows whose logits the step needs.
func (it stepItem) outputs() int {
	n := 0
	if it.reaches() {
		n = 1 + it.drafts
	}
	if it.seq.scoring() && it.seq.computed < it.seq.promptLen {
		n = it.rows
	}
	return n
}

// minChunk is the smallest share of a prompt in a mixed step, unless the whole step is smaller: fewer rows waste the
// pass over the weights.
const minChunk = 16

// lookahead is how many waiting sequences a step looks past because their prefix is just being computed.
const lookahead = 64

// newScheduler returns an empty scheduler that allocates nothing later. The cache is its own from now on.
func newScheduler(cache *kvcache.Cache, maxSequences, maxOutputs, maxWaiting int) *scheduler {
	s := &scheduler{
		cache: cache, maxSequences: maxSequences, maxOutputs: maxOutputs,
		stateful: cache.Options().Slots > 0, keeps: cache.Options().Snapshots > 0,
		waiting: make([]*sequence, 0, maxWaiting+maxSequences),
		running: make([]*sequence, 0, maxSequences),
		step:    make([]stepItem, 0, maxSequences),
		tables:  make([]*kvcache.Sequence, maxSequences),
		moves:   make([]stateMove, 0, 4*maxSequences),
	}
	for i := range s.tables {
		s.tables[i] = cache.NewSequence()
	}
	return s
}

// idle reports whether there is nothing to do.
func (s *scheduler) idle() bool { return len(s.waiting) == 0 && len(s.running) == 0 }

// add queues a sequence.
func (s *scheduler) add(seq *sequence) { s.waiting = insertOrdered(s.waiting, seq) }

// remove forgets a sequence and frees its blocks; full blocks stay in the cache, with the state at the end of an answer.
func (s *scheduler) remove(seq *sequence) {
	s.waiting = deleteSequence(s.waiting, seq)
	s.running = deleteSequence(s.running, seq)
	if seq.maxTokens > 0 {
		s.keepLast(seq)
	}
	s.release(seq)
}

// release takes a sequence's table back, empty.
func (s *scheduler) release(seq *sequence) {
	if seq.table == nil {
		return
	}
	s.moves = slices.DeleteFunc(s.moves, func(m stateMove) bool { return m.load && m.seq == seq })
	s.endRestore(seq)
	s.cache.Release(seq.table)
	s.tables = append(s.tables, seq.table)
	seq.table = nil
}

// next chooses the rows of one step: one token of every running sequence first, then chunks of prompts while the
// budget of rows lasts, then the guesses of sequences that have some. Prompts always move, so a step has at most budget
// rows, or minChunk more than there are running sequences. The result is valid until the next call.
func (s *scheduler) next(budget int) []stepItem {
	s.step = s.step[:0]
	for _, seq := range s.running {
		seq.asked = 0
	}
	s.admit()
	s.chooseDecodes()
	s.choosePrefills(max(budget-len(s.step), min(minChunk, budget)))
	s.chooseDrafts(budget)
	return s.step
}

// chooseDecodes takes one row of every sequence that has exactly one token to compute.
func (s *scheduler) chooseDecodes() {
	for i := 0; i < len(s.running); i++ {
		seq := s.running[i]
		if seq.pending() != 1 || seq.held {
			continue
		}
		if !s.grow(seq, len(seq.tokens)) { // preempted itself: it was the last of running
			continue
		}
		s.step = append(s.step, stepItem{seq: seq, rows: 1})
	}
}

// grow gets blocks for a running sequence, preempting others that come after it. It returns false when the sequence
// itself had to give way.
func (s *scheduler) grow(seq *sequence, length int) bool {
	for s.cache.Grow(seq.table, length) != nil {
		victim := s.running[len(s.running)-1]
		s.preempt(victim)
		if victim == seq {
			return false
		}
	}
	return true
}

// preempt takes a running sequence's blocks and queues it again. What it computed stays in the cache until others
// need the space; the rest is computed again, with the same bits.
func (s *scheduler) preempt(victim *sequence) {
	s.running = deleteSequence(s.running, victim)
	s.step = slices.DeleteFunc(s.step, func(it stepItem) bool { return it.seq == victim })
	s.keepLast(victim)
	s.release(victim)
	victim.computed, victim.counting = 0, false
	victim.preempted++
	s.preemptions++
	s.waiting = insertOrdered(s.waiting, victim)
}

// admit moves waiting sequences to running while their prompts fit beside what the running ones still need. A
// sequence whose prompt another one is just computing waits for it, so that many requests with one long prefix
// compute it once; this holds up nobody behind it.
func (s *scheduler) admit() {
	for i := 0; i < min(len(s.waiting), lookahead) && len(s.running) < s.maxSequences; {
		seq := s.waiting[i]
		if s.sharesUnfinishedPrefix(seq) {
			i++
			continue
		}
		if !s.fits(seq) {
			return // first come first served: nobody overtakes
		}
		s.waiting = slices.Delete(s.waiting, i, i+1)
		last := len(s.tables) - 1
		seq.table, s.tables = s.tables[last], s.tables[:last]
		seq.computed = s.begin(seq)
		s.goOn(seq)
		if seq.counting = !seq.admitted; seq.counting {
			seq.admitted, seq.cached = true, seq.computed
		}
		s.running = insertOrdered(s.running, seq)
	}
}

// fits reports whether the sequence's tokens fit the cache beside what the running sequences will still take for
// theirs, and one block each to go on with. Alone it fits, or Submit would have refused it.
func (s *scheduler) fits(seq *sequence) bool {
	if len(s.running) == 0 {
		return true
	}
	needed := blocksFor(len(seq.tokens) + 1)
	if !seq.scoring() {
		needed = s.cache.Cost(seq.salt, seq.tokens, len(seq.tokens)+1)
	}
	for _, r := range s.running {
		needed += max(blocksFor(len(r.tokens)+1)-r.table.Len(), 0)
	}
	return needed+len(s.running) <= s.cache.Available()
}

// sharesUnfinishedPrefix reports whether a running sequence is computing at least one more block of this prompt than
// the cache has. Where sequences have state, that one is asked to keep it where the two prompts part.
func (s *scheduler) sharesUnfinishedPrefix(seq *sequence) bool {
	if seq.scoring() {
		return false
	}
	cached := -1
	for _, r := range s.running {
		if r.salt != seq.salt || r.pending() <= 1 {
			continue
		}
		shared := wholeBlocks(min(CommonPrefix(r.tokens, seq.tokens), len(seq.tokens)-1))
		if cached < 0 {
			cached = s.cache.Match(seq.salt, seq.tokens)
		}
		if shared > max(cached, wholeBlocks(r.computed)) && s.ask(r, shared) {
			return true
		}
		if s.keeps && shared == wholeBlocks(r.computed) && shared > cached { // it stands where the prompts part
			s.keep(r, kvcache.Lasting)
			cached = -1
		}
	}
	return false
}

// choosePrefills takes the rows of prompts that share decided on, as far as blocks and outputs allow.
func (s *scheduler) choosePrefills(budget int) {
	s.share(budget)
	// Every running sequence has an output of its own; scoring prompts share the spare ones.
	spare := s.maxOutputs - len(s.running)
	for i := 0; i < len(s.running); i++ {
		seq := s.running[i]
		rows := seq.share
		if rows == 0 {
			continue
		}
		if seq.scoring() && seq.computed < seq.promptLen {
			rows = min(rows, 1+spare)
		}
		rows = s.untilRestored(seq, s.untilKept(seq, rows))
		if !s.grow(seq, seq.computed+rows) {
			continue
		}
		item := stepItem{seq: seq, rows: rows}
		s.step = append(s.step, item)
		spare -= max(item.outputs()-1, 0)
	}
}

// share divides the budget among the prompts being computed. Half of it is for the one that came first, so that it
// always gets on; the rest is for those that have least left. So a short prompt does not wait for a long one, and equal
// prompts are finished one after the other, which takes the last no longer and the others less than taking turns.
func (s *scheduler) share(budget int) {
	var first *sequence
	for _, seq := range s.running {
		seq.share = 0
		if first == nil && seq.pending() > 1 && !seq.held { // others have their row already
			first = seq
		}
	}
	if first == nil {
		return
	}
	first.share = min(first.pending(), (budget+1)/2)
	for budget -= first.share; budget > 0; {
		var next *sequence
		for _, seq := range s.running {
			if seq.pending() > 1 && !seq.held && seq.unshared() > 0 && (next == nil || seq.priority == next.priority && seq.unshared() < next.unshared()) {
				next = seq
			}
		}
		if next == nil {
			return
		}
		rows := min(next.unshared(), budget)
		next.share += rows
		budget -= rows
	}
}

// chooseDrafts gives what is left of the budget, and of the outputs, to the sequences' guesses. They take free blocks and
// idle ones, but nobody is preempted for them.
func (s *scheduler) chooseDrafts(budget int) {
	spare := s.maxOutputs
	for _, it := range s.step {
		budget -= it.rows
		spare -= it.outputs()
	}
	for i := range s.step {
		it := &s.step[i]
		seq := it.seq
		n := min(len(seq.lane.Draft), budget, spare)
		if n <= 0 || it.rows != 1 || !it.reaches() {
			continue
		}
		if s.cache.Grow(seq.table, len(seq.tokens)+n) != nil {
			n = min(n, seq.table.Len()*hardware.BlockLen-len(seq.tokens))
		}
		it.drafts = n
		budget -= n
		spare -= n
	}
}

// reserve gets blocks for positions that guesses may have, if there are some to spare.
func (s *scheduler) reserve(seq *sequence, length int) {
	_ = s.cache.Grow(seq.table, length) // without them less is guessed
}

// done records that a step was computed, and that so many of its guesses were right and are tokens now: full blocks become
// findable for others, and the state is kept where that is wanted. What wrong guesses left behind is overwritten by the
// step that computes their positions.
func (s *scheduler) done(it stepItem, right int) {
	before, point := it.seq.computed, s.keepPoint(it.seq)
	it.seq.computed += it.rows + right
	it.seq.reached = max(it.seq.reached, it.seq.computed)
	if it.seq.computed/hardware.BlockLen > before/hardware.BlockLen {
		s.cache.Publish(it.seq.table, it.seq.salt, it.seq.tokens[:it.seq.computed])
		if point.position > 0 && wholeBlocks(it.seq.computed) >= point.position { // above it when guesses filled a block
			s.keep(it.seq, point.worth)
		}
	}
}

// wholeBlocks is the length of the full blocks of so many tokens.
func wholeBlocks(tokens int) int { return tokens / hardware.BlockLen * hardware.BlockLen }

func blocksFor(tokens int) int { return (tokens + hardware.BlockLen - 1) / hardware.BlockLen }

// CommonPrefix returns how many tokens two sequences have alike at their beginning.
func CommonPrefix(a, b []int32) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// insertOrdered inserts seq behind everything that comes before it.
func insertOrdered(list []*sequence, seq *sequence) []*sequence {
	i := len(list)
	for i > 0 && seq.before(list[i-1]) {
		i--
	}
	return slices.Insert(list, i, seq)
}

func deleteSequence(list []*sequence, seq *sequence) []*sequence {
	if i := slices.Index(list, seq); i >= 0 {
		return slices.Delete(list, i, i+1)
	}
	return list
}
