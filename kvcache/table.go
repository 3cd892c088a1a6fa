package kvcache

// Sequence is one running sequence's block table: block i holds positions [i*BlockLen, (i+1)*BlockLen). Its owner keeps
// it; only the cache that made it changes it. An empty one may be used again for another request.
type Sequence struct {
	blocks    []int32 // capacity for MaxBlocksPerSequence
	published int     // blocks[:published] are known to be cached
	active    int     // index in Cache.active, or -1 while it holds no block

	slot    int32 // held with the blocks, or none
	loading int32 // snapshot of the last acquired block, until it is loaded; or none
	passing int32 // block that got its last passing snapshot, or none
	parted  int   // see Parted

	origin *Origin // of its prefix on disk, or nil
	saved  bool    // what it publishes is to be saved there
}

// Blocks returns the ids in order of position. The slice is the table itself: do not change it, and read it again after
// Acquire, Grow, Publish, Release and Fork, of this sequence or of one that shares blocks with it.
func (s *Sequence) Blocks() []int32 { return s.blocks }

// Len returns the number of blocks.
func (s *Sequence) Len() int { return len(s.blocks) }

// Slot returns the slot of a sequence that holds blocks, where sequences have state; else -1.
func (s *Sequence) Slot() int { return int(s.slot) }

// Snapshot returns the snapshot at the end of the acquired prefix, until it is loaded.
func (s *Sequence) Snapshot() (id int, ok bool) { return int(s.loading), s.loading != none }

// Parted returns how many tokens of the prompt, of whole blocks and without its last token, were cached when it was
// acquired. Where they are more than Acquire gave, the state at their end is missing: prompts before this one went another
// way from there, and others may begin alike.
func (s *Sequence) Parted() int { return s.parted }

// NewSequence returns an empty table with room for the longest sequence. It may be called from any goroutine.
func (c *Cache) NewSequence() *Sequence {
	return &Sequence{
		blocks: make([]int32, 0, c.options.MaxBlocksPerSequence), active: -1, slot: none, loading: none, passing: none,
	}
}

// activate counts a sequence among those that hold blocks, with a slot where sequences have state.
func (c *Cache) activate(s *Sequence) {
	if len(c.active) == cap(c.active) {
		panic("kvcache: more sequences hold blocks than MaxSequences")
	}
	s.active = len(c.active)
	c.active = append(c.active, s)
	if free := c.states.slots; len(free) > 0 {
		s.slot, c.states.slots = free[len(free)-1], free[:len(free)-1]
	}
}

// push appends a block to a table. The caller has counted the reference.
func (c *Cache) push(s *Sequence, id int32) {
	if s.active < 0 {
		c.activate(s)
	}
	s.blocks = append(s.blocks, id)
}

// clear empties a table. The caller has dropped the references.
func (c *Cache) clear(s *Sequence) {
	s.blocks, s.published, s.passing, s.parted = s.blocks[:0], 0, none, 0
	s.origin, s.saved = nil, false
	if s.active < 0 {
		return
	}
	if s.slot != none {
		c.states.slots = append(c.states.slots, s.slot)
		s.slot = none
	}
	last := len(c.active) - 1
	moved := c.active[last]
	c.active[s.active], moved.active = moved, s.active
	c.active[last] = nil
	c.active = c.active[:last]
	s.active = -1
}
