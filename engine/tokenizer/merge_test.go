package tokenizer

import (
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
)

// mergeSlowly is the specification of merging: join the first of the best pairs until there is none.
func mergeSlowly(symbols []int32, pairs *pairTable) []int32 {
	symbols = slices.Clone(symbols)
	for {
		best, at, merged := noRank, -1, int32(0)
		for i := 0; i+1 < len(symbols); i++ {
			if symbols[i] < 0 || symbols[i+1] < 0 {
				continue
			}
			if rank, id := pairs.get(symbols[i], symbols[i+1]); rank < best {
				best, at, merged = rank, i, id
			}
		}
		if at < 0 {
			return symbols
		}
		symbols[at] = merged
		symbols = slices.Delete(symbols, at+1, at+2)
	}
}

// randomPairs makes a table of merges over a few symbols; with shared, several merges have the same rank, as
// SentencePiece tokens of equal score have.
func randomPairs(random *rand.Rand, symbols, merges int, shared bool) *pairTable {
	pairs := newPairTable(merges)
	for rank := range merges {
		left, right := int32(random.IntN(symbols+rank)), int32(random.IntN(symbols+rank))
		if shared {
			rank /= 3
		}
		pairs.set(left, right, uint32(rank), int32(symbols+rank))
	}
	return pairs
}

func (m *merger) result() []int32 {
	var ids []int32
	for i := int32(0); int(i) < len(m.symbols); i = m.next[i] {
		ids = append(ids, m.symbols[i])
	}
	return ids
}

func TestMergeAgainstSlow(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	var m merger
	for round := range 2000 {
		pairs := randomPairs(random, 4, 1+random.IntN(40), round%2 == 0)
		symbols := make([]int32, random.IntN(40))
		for i := range symbols {
			symbols[i] = int32(random.IntN(5)) - 1
		}
		m.symbols = append(m.symbols[:0], symbols...)
		m.merge(pairs)
		if got, want := m.result(), mergeSlowly(symbols, pairs); !slices.Equal(got, want) {
			t.Fatalf("round %d: %d merge into %d, want %d", round, symbols, got, want)
		}
	}
}

// TestMergeLinear counts the work on long pieces: n symbols may take n log n steps.
func TestMergeLinear(t *testing.T) {
	const n = 1 << 16
	random := rand.New(rand.NewPCG(5, 6))
	doubling := newPairTable(20)
	for i := range int32(20) {
		doubling.set(i, i, uint32(i), i+1)
	}
	chain := newPairTable(n) // one merge after the other from the left, as a vocabulary made against us may have
	for i := range int32(n) {
		chain.set(max(i, 1), 0, uint32(n-i), i+2)
	}
	chain.set(0, 0, 0, 1)
	for name, pairs := range map[string]*pairTable{"doubling": doubling, "chain": chain, "random": randomPairs(random, 2, 500, false)} {
		m := merger{symbols: make([]int32, n)}
		if name == "random" {
			for i := range m.symbols {
				m.symbols[i] = int32(random.IntN(2))
			}
		}
		m.merge(pairs)
		if most := 8 * n * bits.Len(n); m.steps > most {
			t.Errorf("%s: %d steps for %d symbols, want at most %d", name, m.steps, n, most)
		}
	}
}

func TestPairTable(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	want := map[[2]int32]uint32{}
	pairs := newPairTable(1000)
	for rank := range uint32(1000) {
		pair := [2]int32{int32(random.IntN(30)), int32(random.IntN(30))}
		if _, ok := want[pair]; !ok {
			want[pair] = rank
		}
		pairs.set(pair[0], pair[1], rank, int32(rank))
	}
	for left := range int32(31) {
		for right := range int32(31) {
			wantRank, ok := want[[2]int32{left, right}]
			if !ok {
				wantRank = noRank
			}
			if rank, _ := pairs.get(left, right); rank != wantRank {
				t.Fatalf("get(%d, %d) = %d, want %d", left, right, rank, wantRank)
			}
		}
	}
}

func TestPieceCache(t *testing.T) {
	c := newPieceCache()
	shard := &c.shards[0]
	var own []string
	for i := 0; len(own) < cacheEntries+10; i++ {
		if piece := fmt.Sprint("piece", i); c.shard(piece) == shard {
			own = append(own, piece)
		}
	}
	for i, piece := range own[:cacheEntries] {
		c.put(piece, []int32{int32(i)})
	}
	if ids, ok := c.get([]int32{7}, own[0]); !ok || !slices.Equal(ids, []int32{7, 0}) {
		t.Fatalf("get = %d, %t; want 7 and the id of the piece", ids, ok)
	}
	for i, piece := range own[cacheEntries:] {
		c.put(piece, []int32{int32(cacheEntries + i), -1})
	}
	if _, ok := c.get(nil, own[0]); !ok {
		t.Error("the piece that was used last is gone")
	}
	for i, piece := range own[1:11] {
		if _, ok := c.get(nil, piece); ok {
			t.Errorf("piece %d is there, though it was not used for the longest time", i+1)
		}
	}
	for i, piece := range own[11:] {
		if ids, ok := c.get(nil, piece); !ok || ids[0] != int32(11+i) {
			t.Errorf("piece %d has ids %d, %t", 11+i, ids, ok)
		}
	}
	if len(shard.entries) != cacheEntries+1 || len(shard.index) != cacheEntries {
		t.Errorf("the shard holds %d entries and %d keys, want %d", len(shard.entries), len(shard.index), cacheEntries)
	}
}

func TestPieceCacheConcurrent(t *testing.T) {
	c := newPieceCache()
	var wait sync.WaitGroup
	for g := range 4 {
		wait.Go(func() {
			random := rand.New(rand.NewPCG(uint64(g), 9))
			for range 20000 {
				n := random.IntN(50000)
				piece := fmt.Sprint(n)
				if ids, ok := c.get(nil, piece); ok && !slices.Equal(ids, []int32{int32(n)}) {
					t.Errorf("piece %s has ids %d", piece, ids)
				}
				c.put(piece, []int32{int32(n)})
			}
		})
	}
	wait.Wait()
}

// TestLongPieceIsNotCached keeps strangers from filling the memory with pieces that do not repeat.
func TestLongPieceIsNotCached(t *testing.T) {
	tok := synthetic(t)
	tok.Encode(strings.Repeat("a", maxCachedBytes+1), EncodeOptions{})
	for i := range tok.cache.shards {
		for piece := range tok.cache.shards[i].index {
			if len(piece) > maxCachedBytes {
				t.Errorf("a piece of %d bytes is in the cache", len(piece))
			}
		}
	}
}
