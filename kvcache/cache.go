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
}

const defaultBlockLen = 64

// withDefaults fills the fields that may be zero.
func (o Options) withDefaults() Options {
	if o.BlockLen == 0 {
		o.BlockLen = defaultBlockLen
	}
	if o.MaxSequences == 0 {
		o.MaxSequences = o.Blocks
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
	return nil
}

// Cache owns the ids of all blocks. See the package comment for its invariants. One goroutine uses it.
type Cache struct {
	options Options
	pool    pool
	index   prefixIndex
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
		active:  make([]*Sequence, 0, options.MaxSequences),
	}, nil
}

// Match returns the length of the longest cached prefix of tokens, a multiple of BlockLen. It changes nothing, not even
// which block is evicted next.
func (c *Cache) Match(salt uint64, tokens []int32) int {
	n := 0
	for parent := none; len(tokens) >= c.options.BlockLen; tokens = tokens[c.options.BlockLen:] {
		if parent, _ = c.index.child(salt, parent, tokens[:c.options.BlockLen]); parent == none {
			break
		}
		n += c.options.BlockLen
	}
	return n
}

// Cost returns by how much Available would fall if a new sequence acquired the prefix of tokens and grew to length.
// Blocks that a table already holds are shared for nothing; idle ones count, since they can no longer be evicted. Like
// Match it changes nothing.
func (c *Cache) Cost(salt uint64, tokens []int32, length int) int {
	cost := c.blocksFor(length)
	parent := none
	for i := range c.reusable(tokens) {
		if parent, _ = c.index.child(salt, parent, c.blockTokens(tokens, i)); parent == none {
			break
		}
		if c.pool.refs[parent] > 0 {
			cost--
		}
	}
	return max(cost, 0)
}

// Acquire fills an empty table with the cached blocks of the longest prefix of tokens and returns that prefix's length,
// a multiple of BlockLen. It never takes all tokens: at least the last one is left, since only computing it gives the
// logits that follow it. The blocks stay until Release.
func (c *Cache) Acquire(s *Sequence, salt uint64, tokens []int32) int {
	if len(s.blocks) != 0 {
		panic(fmt.Sprintf("kvcache: Acquire: the sequence already holds %d blocks", len(s.blocks)))
	}
	parent := none
	for i := range min(c.reusable(tokens), c.options.MaxBlocksPerSequence) {
		if parent, _ = c.index.child(salt, parent, c.blockTokens(tokens, i)); parent == none {
			break
		}
		c.pool.ref(parent)
		c.push(s, parent)
	}
	s.published = len(s.blocks)
	hit := len(s.blocks) * c.options.BlockLen
	c.hitTokens += uint64(hit)
	c.missTokens += uint64(len(tokens) - hit)
	return hit
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
		c.index.remove(c.pool.freeOldest())
		c.evictions++
	}
	return c.pool.takeFree()
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

// Release empties a table. Blocks in no other table become idle if they were published, else free.
func (c *Cache) Release(s *Sequence) {
	for i := len(s.blocks) - 1; i >= 0; i-- { // the end first: it is evicted before what more prompts share
		id := s.blocks[i]
		c.pool.unref(id, c.index.nodes[id].cached)
	}
	c.clear(s)
}

// Fork fills the empty table dst with the first length positions of src. Full blocks are shared; if the last block is
// only partly wanted, dst gets a new one, needsCopy is true, and the caller copies block copyFrom to copyTo before anything
// else runs. With ErrFull nothing has changed.
func (c *Cache) Fork(dst, src *Sequence, length int) (copyFrom, copyTo int32, needsCopy bool, err error) {
	if len(dst.blocks) != 0 {
		panic(fmt.Sprintf("kvcache: Fork: the destination already holds %d blocks", len(dst.blocks)))
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

// Available is the number of blocks that Grow could hand out now: free and idle ones.
func (c *Cache) Available() int { return c.pool.available() }

// Stats returns the numbers of this moment.
func (c *Cache) Stats() Stats {
	s := Stats{
		Blocks: c.options.Blocks, Free: len(c.pool.free), Idle: c.pool.numIdle, Cached: c.index.numCached,
		HitTokens: c.hitTokens, MissTokens: c.missTokens, Evictions: c.evictions,
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
