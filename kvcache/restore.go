package kvcache

import "fmt"

// Lookup returns how many blocks of a prompt a new sequence could go on from, as Acquire counts them, and how many are
// cached: more where sequences have state and it is missing. It changes nothing.
func (c *Cache) Lookup(salt uint64, tokens []int32) (usable, cached int) {
	p := c.lookup(salt, tokens, min(c.reusable(tokens), c.options.MaxBlocksPerSequence))
	return p.blocks, p.cached
}

// Hold fills an empty table with the cached blocks of a prompt, at most limit, whether or not there is a state to go on
// from. It returns their number. The caller brings the state with Install, or releases the sequence.
func (c *Cache) Hold(s *Sequence, salt uint64, tokens []int32, limit int) int {
	if len(s.blocks) != 0 {
		panic(fmt.Sprintf("kvcache: Hold: the sequence already holds %d blocks", len(s.blocks)))
	}
	p := c.lookup(salt, tokens, min(limit, len(tokens)/c.options.BlockLen, c.options.MaxBlocksPerSequence))
	if p.cached > 0 {
		c.hold(s, p.cached, p.end)
	}
	s.parted = p.cached * c.options.BlockLen
	return p.cached
}

// Install gives the block that ends at a position, up to which the sequence was published, a snapshot that the sequence is
// about to load, as if it had acquired it. With write the caller writes the state there first; otherwise another sequence
// has brought it meanwhile. There is no snapshot to be had when ok is false.
func (c *Cache) Install(s *Sequence, position int) (id int32, write, ok bool) {
	block := s.blocks[c.lastBlock("Install", s, position)]
	if s.loading != none {
		panic("kvcache: Install: the sequence is about to load another snapshot")
	}
	if id = c.index.nodes[block].snapshot; id == none {
		if id = c.takeSnapshot(); id == none {
			return none, false, false
		}
		c.give(id, block, Lasting)
		write = true
	}
	c.pin(s, block)
	return id, write, true
}

// Cached is a cached block as Walk finds it.
type Cached struct {
	ID       int32
	Snapshot int32 // the state at its end, or -1
	Length   int   // tokens up to its end
}

// Walk calls f for each cached block of a prefix, from its beginning, until f returns false. It changes nothing.
func (c *Cache) Walk(salt uint64, tokens []int32, f func(Cached) bool) {
	id := none
	for i := range len(tokens) / c.options.BlockLen {
		if id, _ = c.index.child(salt, id, c.blockTokens(tokens, i)); id == none {
			return
		}
		if !f(Cached{id, c.index.nodes[id].snapshot, (i + 1) * c.options.BlockLen}) {
			return
		}
	}
}

// Forget drops the cached blocks of a prefix that hold tokens behind the first keep ones, as far as no table holds them and
// no other prefix goes on from them. It returns how many blocks stay that hold such tokens.
func (c *Cache) Forget(salt uint64, tokens []int32, keep int) (stay int) {
	p := c.lookup(salt, tokens, len(tokens)/c.options.BlockLen)
	first := max(keep, 0) / c.options.BlockLen
	for i, id := p.cached-1, p.end; i >= first; i-- {
		n := &c.index.nodes[id]
		if n.children > 0 || c.pool.refs[id] > 0 {
			return i - first + 1
		}
		parent := n.parent
		c.drop(id)
		id = parent
	}
	return 0
}
