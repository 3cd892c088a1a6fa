package kvcache

// Sequence is one running sequence's block table: block i holds positions [i*BlockLen, (i+1)*BlockLen). Its owner keeps
// it; only the cache that made it changes it. An empty one may be used again for another request.
type Sequence struct {
	blocks    []int32 // capacity for MaxBlocksPerSequence
	published int     // blocks[:published] are known to be cached
	active    int     // index in Cache.active, or -1 while it holds no block
}

// Blocks returns the ids in order of position. The slice is the table itself: do not change it, and read it again after
// Acquire, Grow, Publish, Release and Fork, of this sequence or of one that shares blocks with it.
func (s *Sequence) Blocks() []int32 { return s.blocks }

// Len returns the number of blocks.
func (s *Sequence) Len() int { return len(s.blocks) }

// NewSequence returns an empty table with room for the longest sequence. It may be called from any goroutine.
func (c *Cache) NewSequence() *Sequence {
	return &Sequence{blocks: make([]int32, 0, c.options.MaxBlocksPerSequence), active: -1}
}

// push appends a block to a table. The caller has counted the reference.
func (c *Cache) push(s *Sequence, id int32) {
	if s.active < 0 {
		if len(c.active) == cap(c.active) {
			panic("kvcache: more sequences hold blocks than MaxSequences")
		}
		s.active = len(c.active)
		c.active = append(c.active, s)
	}
	s.blocks = append(s.blocks, id)
}

// clear empties a table. The caller has dropped the references.
func (c *Cache) clear(s *Sequence) {
	s.blocks, s.published = s.blocks[:0], 0
	if s.active < 0 {
		return
	}
	last := len(c.active) - 1
	moved := c.active[last]
	c.active[s.active], moved.active = moved, s.active
	c.active[last] = nil
	c.active = c.active[:last]
	s.active = -1
}
