package tokenizer

import (
	"hash/maphash"
	"strings"
	"sync"
)

// The cache holds the pieces that were split last: words repeat, and merging is the dearest step.
const (
	cacheShards    = 16   // so that goroutines rarely wait for each other
	cacheEntries   = 2048 // per shard
	maxCachedBytes = 64   // longer pieces seldom repeat, and would let strangers fill the memory
)

// pieceCache maps pieces of text to their ids; when a shard is full, the piece that was not used for the longest time
// makes room. It is safe for concurrent use.
type pieceCache struct {
	seed   maphash.Seed // unknown outside, so that nobody can aim all pieces at one shard
	shards [cacheShards]cacheShard
}

// cacheShard is a map into a ring of entries, most recently used first; entry 0 is the ring's anchor. mu guards all of it.
type cacheShard struct {
	mu      sync.Mutex
	index   map[string]int32
	entries []cacheEntry
}

type cacheEntry struct {
	piece      string
	ids        []int32
	prev, next int32
}

func newPieceCache() *pieceCache {
	c := &pieceCache{seed: maphash.MakeSeed()}
	for i := range c.shards {
		c.shards[i].index = map[string]int32{}
		c.shards[i].entries = make([]cacheEntry, 1)
	}
	return c
}

// get appends the ids of a piece to dst; false when it is not there.
func (c *pieceCache) get(dst []int32, piece string) ([]int32, bool) {
	s := c.shard(piece)
	s.mu.Lock()
	defer s.mu.Unlock()
	i, ok := s.index[piece]
	if !ok {
		return dst, false
	}
	if s.entries[0].next != i {
		s.unlink(i)
		s.linkFirst(i)
	}
	return append(dst, s.entries[i].ids...), true
}

// put remembers a piece; both arguments are copied.
func (c *pieceCache) put(piece string, ids []int32) {
	s := c.shard(piece)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.index[piece]; ok {
		return
	}
	i := int32(len(s.entries))
	if len(s.entries) <= cacheEntries {
		s.entries = append(s.entries, cacheEntry{})
	} else {
		i = s.entries[0].prev
		s.unlink(i)
		delete(s.index, s.entries[i].piece)
	}
	e := &s.entries[i]
	e.piece = strings.Clone(piece)
	e.ids = append(e.ids[:0], ids...)
	s.index[e.piece] = i
	s.linkFirst(i)
}

func (c *pieceCache) shard(piece string) *cacheShard {
	return &c.shards[maphash.String(c.seed, piece)%cacheShards]
}

func (s *cacheShard) unlink(i int32) {
	e := &s.entries[i]
	s.entries[e.prev].next, s.entries[e.next].prev = e.next, e.prev
}

func (s *cacheShard) linkFirst(i int32) {
	first := s.entries[0].next
	s.entries[i].prev, s.entries[i].next = 0, first
	s.entries[first].prev, s.entries[0].next = i, i
}
