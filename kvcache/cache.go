package kvcache

import (
	"errors"
	"fmt"
	"math"
)

// ErrFull says that not enough blocks are free or idle. Releasing a sequence may help.
var ErrFull = errors.New("kvcache: no block left")

// Options sizes a cache. All fields are fixed for its life.
type Options struct {
	Blocks               int // blocks the queue has memory for
	BlockLen             int // positions per block; 0: 64
	MaxSequences         int // sequences that hold blocks at the same time; 0: Blocks
	MaxBlocksPerSequence int // blocks of the longest sequence; 0: Blocks

	// Slots is how many sequences may have state beside their blocks; 0: the program has none, and a prefix needs its
	// blocks alone. Every sequence that holds blocks needs a slot. Snapshots is how many states may be kept aside.
	Slots, Snapshots int

	// Durable says that blocks have keys, by which they are found on disk as well.
	Durable bool
}

const defaultBlockLen = 64

// withDefaults fills the fields that may be zero.
func (o Options) withDefaults() Options {
	if o.BlockLen == 0 {
		o.BlockLen = defaultBlockLen
	}
	if o.MaxSequences == 0 {
		o.MaxSequences = o.Blocks
		if o.Slots > 0 {
			o.MaxSequences = min(o.Blocks, o.Slots)
		}
	}
	if o.MaxBlocksPerSequence == 0 {
		o.MaxBlocksPerSequence = o.Blocks
	}
	return o
}

// Validate returns an error that names the first field out of range.
func (o Options) Validate() error {
	o = o.withDefaults()
	for _, field := range []struct {
		name  string
		value int
	}{
		{"Blocks", o.Blocks},
		{"BlockLen", o.BlockLen},
		{"MaxSequences", o.MaxSequences},
		{"MaxBlocksPerSequence", o.MaxBlocksPerSequence},
	} {
		if field.value < 1 || field.value > math.MaxInt32 {
			return fmt.Errorf("kvcache: option %s is %d, want 1 to %d", field.name, field.value, math.MaxInt32)
		}
	}
	switch {
	case o.Slots < 0 || o.Slots > 0 && o.Slots < o.MaxSequences:
		return fmt.Errorf("kvcache: option Slots is %d, want 0, or one for each of %d sequences", o.Slots, o.MaxSequences)
	case o.Snapshots < 0 || o.Snapshots > math.MaxInt32:
		return fmt.Errorf("kvcache: option Snapshots is %d, want 0 to %d", o.Snapshots, math.MaxInt32)
	case o.Snapshots > 0 && o.Slots == 0:
		return fmt.Errorf("kvcache: option Snapshots is %d without Slots", o.Snapshots)
	}
	return nil
}

// Cache owns the ids of all blocks, slots and snapshots. See the package comment for its invariants. One goroutine uses it.
type Cache struct {
	options Options
	pool    pool
	index   prefixIndex
	states  states
	durable durable
	active  []*Sequence // those that hold blocks; capacity MaxSequences

	hitTokens, missTokens, evictions uint64
}

// Stats describes a cache at one moment.
type Stats struct {
	Blocks     int // Free + Idle + Referenced
	Free       int // hold nothing
	Idle       int // cached, in no table: found by prefix until evicted
	Referenced int // in a table
	Cached     int // findable by prefix: Idle and some of Referenced

	HitTokens  uint64 // tokens that Acquire found
	MissTokens uint64 // tokens that Acquire was asked for and did not find
	Evictions  uint64 // idle blocks taken for other use

	Snapshots int    // of blocks
	Saved     uint64 // snapshots attached
	Loaded    uint64 // snapshots that sequences went on from
	Replaced  uint64 // snapshots given up for others; those of evicted blocks are not counted
}

// New returns an empty cache with all the memory it will ever use, about 4*BlockLen+80 bytes per block.
func New(options Options) (*Cache, error) {
	if err := options.Validate(); err != nil {
		return nil, err
	}
	options = options.withDefaults()
	return &Cache{
		options: options,
		pool:    newPool(options.Blocks),
		index:   newPrefixIndex(options.Blocks, options.BlockLen),
		states:  newStates(options.Slots, options.Snapshots),
		durable: newDurable(&options),
		active:  make([]*Sequence, 0, options.MaxSequences),
	}, nil
}

// prefix is what the cache has of a prompt.
type prefix struct {
	cached int   // blocks
	blocks int   // of these, the ones that a sequence can go on from: all, or with slots those up to the last snapshot
	held   int   // of blocks, those that tables hold
	last   int32 // of blocks, or none
	end    int32 // of cached, or none
}

// lookup finds at most limit blocks of tokens.
func (c *Cache) lookup(salt uint64, tokens []int32, limit int) prefix {
	p := prefix{last: none, end: none}
	held, id := 0, none
	for i := range limit {
		if id, _ = c.index.child(salt, id, c.blockTokens(tokens, i)); id == none {
			break
		}
		p.cached, p.end = p.cached+1, id
		if c.pool.refs[id] > 0 {
			held++
		}
		if c.options.Slots == 0 || c.index.nodes[id].snapshot != none {
			p.blocks, p.held, p.last = p.cached, held, id
		}
	}
	return p
}

// Match returns the length of the longest cached prefix of tokens that a sequence can go on from, a multiple of BlockLen;
// with slots it ends at a snapshot. It changes nothing, not even which block is evicted next.
func (c *Cache) Match(salt uint64, tokens []int32) int {
	return c.lookup(salt, tokens, len(tokens)/c.options.BlockLen).blocks * c.options.BlockLen
}

// Cost returns by how much Available would fall if a new sequence acquired the prefix of tokens and grew to length.
// Blocks that a table already holds are shared for nothing; idle ones count, since they can no longer be evicted. Like
// Match it changes nothing.
func (c *Cache) Cost(salt uint64, tokens []int32, length int) int {
	return max(c.blocksFor(length)-c.lookup(salt, tokens, c.reusable(tokens)).held, 0)
}

// Acquire fills an empty table with the cached blocks of the longest prefix of tokens that a sequence can go on from, and
// returns that prefix's length, a multiple of BlockLen. It never takes all tokens: at least the last one is left, since
// only computing it gives the logits that follow it. The blocks stay until Release.
//
// With slots, the prefix ends at Snapshot, which the caller loads into the sequence's slot before it computes anything;
// Loaded says so. Parted then says how far prompts before this one were the same, which may be further.
func (c *Cache) Acquire(s *Sequence, salt uint64, tokens []int32) int {
	if len(s.blocks) != 0 {
		panic(fmt.Sprintf("kvcache: Acquire: the sequence already holds %d blocks", len(s.blocks)))
	}
	p := c.lookup(salt, tokens, min(c.reusable(tokens), c.options.MaxBlocksPerSequence))
	if p.blocks > 0 {
		c.hold(s, p.blocks, p.last)
		c.pin(s, p.last)
	}
	s.parted = p.cached * c.options.BlockLen
	hit := p.blocks * c.options.BlockLen
	c.hitTokens += uint64(hit)
	c.missTokens += uint64(len(tokens) - hit)
	return hit
}

// hold fills an empty table with a cached block and all those before it, numBlocks together.
func (c *Cache) hold(s *Sequence, numBlocks int, last int32) {
	c.activate(s)
	s.blocks = s.blocks[:numBlocks]
	for i, id := numBlocks-1, last; i >= 0; i, id = i-1, c.index.nodes[id].parent {
		c.pool.ref(id)
		s.blocks[i] = id
	}
	s.published = numBlocks
}

// Grow adds blocks to a table until it covers length positions. It takes free blocks first, then evicts idle ones, least
// recently used first and the end of a prompt before its beginning. Too few blocks give ErrFull and change nothing.
// What a new block holds is undefined.
func (c *Cache) Grow(s *Sequence, length int) error {
	numBlocks := c.blocksFor(length)
	if numBlocks > c.options.MaxBlocksPerSequence {
		panic(fmt.Sprintf("kvcache: Grow: length %d needs %d blocks, the longest sequence has %d",
			length, numBlocks, c.options.MaxBlocksPerSequence))
	}
	if numBlocks-len(s.blocks) > c.pool.available() {
		return ErrFull
	}
	for len(s.blocks) < numBlocks {
		c.push(s, c.take())
	}
	return nil
}

// take returns a block with one reference, evicting the oldest idle one if none is free. There must be one.
func (c *Cache) take() int32 {
	if len(c.pool.free) == 0 {
		c.drop(c.pool.idle.oldest)
		c.evictions++
	}
	return c.pool.takeFree()
}

// drop forgets an idle block that no other one follows, with the state at its end.
func (c *Cache) drop(id int32) {
	if snapshot := c.index.nodes[id].snapshot; snapshot != none {
		c.detach(snapshot)
	}
	c.index.remove(id)
	c.durable.drop(id)
	c.pool.discard(id)
}

// Publish makes the full blocks of tokens findable by prefix. The sequence holds at least these tokens, in this order,
// all of them computed; salt is the same in every call for one sequence. The tokens are copied.
//
// Where another sequence published the same block meanwhile, the first one stays, and this sequence swaps to it: its own
// copy becomes free at once, so that a prefix computed twice is not kept twice. Both hold the same bytes, because
// on an exact device they depend on the prefix alone.
func (c *Cache) Publish(s *Sequence, salt uint64, tokens []int32) {
	full := len(tokens) / c.options.BlockLen
	if full > len(s.blocks) {
		panic(fmt.Sprintf("kvcache: Publish: %d tokens in %d blocks", len(tokens), len(s.blocks)))
	}
	for i := s.published; i < full; i++ {
		parent := none
		if i > 0 {
			parent = s.blocks[i-1]
			if c.index.nodes[parent].salt != salt {
				panic("kvcache: Publish: the sequence was published with another salt")
			}
		}
		own, block := s.blocks[i], c.blockTokens(tokens, i)
		first, hash := c.index.child(salt, parent, block)
		switch {
		case first == own: // by a sequence it was forked from, or one forked from it
		case c.index.nodes[own].cached:
			panic(fmt.Sprintf("kvcache: Publish: block %d is published with other tokens", own))
		case first == none:
			c.index.insert(own, salt, hash, parent, block)
			c.durable.publish(own, parent, block, s.origin, s.saved)
		default:
			c.swap(s, i, first)
		}
		s.published = i + 1
	}
}

// swap replaces the unpublished block i of a table by the cached block first, which holds the same. Forks that share the
// block follow, so that the blocks two tables share always have the same ones before them (invariant 5).
func (c *Cache) swap(s *Sequence, i int, first int32) {
	own := s.blocks[i]
	shared := c.pool.refs[own] > 1
	c.replace(s, i, first)
	if !shared {
		return
	}
	for _, fork := range c.active {
		if i < len(fork.blocks) && fork.blocks[i] == own {
			c.replace(fork, i, first)
		}
	}
}

func (c *Cache) replace(s *Sequence, i int, id int32) {
	c.pool.ref(id)
	c.pool.unref(s.blocks[i], false)
	s.blocks[i] = id
}

// Release empties a table. Blocks in no other table become idle if they were published, else free; a slot is free again.
func (c *Cache) Release(s *Sequence) {
	c.unpin(s)
	for i := len(s.blocks) - 1; i >= 0; i-- { // the end first: it is evicted before what more prompts share
		id := s.blocks[i]
		c.pool.unref(id, c.index.nodes[id].cached)
	}
	c.clear(s)
}

// Fork fills the empty table dst with the first length positions of src. Full blocks are shared; if the last block is
// only partly wanted, dst gets a new one, needsCopy is true, and the caller copies block copyFrom to copyTo before anything
// else runs. With ErrFull nothing has changed. A cache with slots has no forks: a state stands at one position.
func (c *Cache) Fork(dst, src *Sequence, length int) (copyFrom, copyTo int32, needsCopy bool, err error) {
	if len(dst.blocks) != 0 {
		panic(fmt.Sprintf("kvcache: Fork: the destination already holds %d blocks", len(dst.blocks)))
	}
	if c.options.Slots > 0 {
		panic("kvcache: Fork: sequences have state")
	}
	if length < 0 || c.blocksFor(length) > len(src.blocks) {
		panic(fmt.Sprintf("kvcache: Fork: %d positions of a sequence with %d blocks", length, len(src.blocks)))
	}
	full := length / c.options.BlockLen
	needsCopy = length%c.options.BlockLen != 0
	if needsCopy && c.pool.available() == 0 {
		return none, none, false, ErrFull
	}
	for _, id := range src.blocks[:full] {
		c.pool.ref(id)
		c.push(dst, id)
	}
	dst.published = min(src.published, full)
	if !needsCopy {
		return none, none, false, nil
	}
	c.push(dst, c.take())
	return src.blocks[full], dst.blocks[full], true, nil
}

// Options returns what the cache was made with, and what it chose for fields that were zero.
func (c *Cache) Options() Options { return c.options }

// Available is the number of blocks that Grow could hand out now: free and idle ones.
func (c *Cache) Available() int { return c.pool.available() }

// Stats returns the numbers of this moment.
func (c *Cache) Stats() Stats {
	s := Stats{
		Blocks: c.options.Blocks, Free: len(c.pool.free), Idle: c.pool.idle.len, Cached: c.index.numCached,
		HitTokens: c.hitTokens, MissTokens: c.missTokens, Evictions: c.evictions,
		Snapshots: c.states.held(), Saved: c.states.saved, Loaded: c.states.loaded, Replaced: c.states.replaced,
	}
	s.Referenced = s.Blocks - s.Free - s.Idle
	return s
}

// blocksFor is the number of blocks that hold length positions.
func (c *Cache) blocksFor(length int) int {
	return (max(length, 0) + c.options.BlockLen - 1) / c.options.BlockLen
}

// reusable is the number of blocks of tokens that may come from the cache: all but the one with the last token.
func (c *Cache) reusable(tokens []int32) int {
	return max(len(tokens)-1, 0) / c.options.BlockLen
}

// blockTokens is the i-th block of tokens.
func (c *Cache) blockTokens(tokens []int32, i int) []int32 {
	return tokens[i*c.options.BlockLen:][:c.options.BlockLen]
}
