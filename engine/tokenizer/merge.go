package tokenizer

import "math/bits"

// noRank marks two neighbours that no merge joins.
const noRank = ^uint32(0)

// pairTable says which neighbours merge, how early, and into what: an open hash table, because it is asked once for
// every two neighbours of every new piece of text. Its size is fixed when it is made.
type pairTable struct {
	keys   []uint64 // left<<32|right, plus 1; 0 is an empty place
	values []uint64 // rank<<32|merged
	shift  uint
}

// newPairTable returns a table for up to n pairs.
func newPairTable(n int) *pairTable {
	log := max(bits.Len(uint(n))+1, 3) // at most half full
	return &pairTable{keys: make([]uint64, 1<<log), values: make([]uint64, 1<<log), shift: uint(64 - log)}
}

// set adds a pair; the first of two ranks for the same pair stays.
func (p *pairTable) set(left, right int32, rank uint32, merged int32) {
	key, at := p.find(left, right)
	if p.keys[at] == 0 {
		p.keys[at], p.values[at] = key, uint64(rank)<<32|uint64(uint32(merged))
	}
}

// get returns the rank of a pair, noRank when it does not merge, and the symbol it merges into.
func (p *pairTable) get(left, right int32) (rank uint32, merged int32) {
	_, at := p.find(left, right)
	if p.keys[at] == 0 {
		return noRank, -1
	}
	return uint32(p.values[at] >> 32), int32(uint32(p.values[at]))
}

// find returns the key of a pair, and its place or the empty place where it belongs.
func (p *pairTable) find(left, right int32) (key uint64, at int) {
	key = uint64(uint32(left))<<32 | uint64(uint32(right))
	key++
	at = int(key * 0x9E3779B97F4A7C15 >> p.shift)
	for p.keys[at] != 0 && p.keys[at] != key {
		at = (at + 1) & (len(p.keys) - 1)
	}
	return key, at
}

// merger joins the symbols of one piece. The order is a heap of rank<<32|left, so the lowest rank comes first and of two
// equal ranks the leftmost; a pair is pushed when it comes into being, and an entry counts only while ranks[left] still
// is its rank. Each merge removes a symbol and pushes at most two entries, so n symbols take O(n log n).
type merger struct {
	symbols []int32  // [n], -1 for a character or byte without a token
	starts  []int32  // [n+1], where each symbol begins in the piece; SentencePiece only
	next    []int32  // [n], the symbol on the right, n at the end
	prev    []int32  // [n], the symbol on the left, -1 at the beginning
	ranks   []uint32 // [n], of the pair that begins here
	heap    []uint64
	steps   int // comparisons and look-ups since the merger was made, for tests of complexity
}

// merge joins m.symbols until no pair merges. The symbols that are left are 0, next[0], next[next[0]] and so on.
func (m *merger) merge(pairs *pairTable) {
	n := len(m.symbols)
	m.next, m.prev, m.ranks = resize(m.next, n), resize(m.prev, n), resize(m.ranks, n)
	m.heap = m.heap[:0]
	for i := range n {
		m.next[i], m.prev[i] = int32(i+1), int32(i-1)
	}
	for i := range n {
		m.ranks[i] = m.rank(pairs, int32(i))
		if m.ranks[i] != noRank {
			m.heap = append(m.heap, uint64(m.ranks[i])<<32|uint64(i))
		}
	}
	for i := len(m.heap)/2 - 1; i >= 0; i-- {
		m.down(i)
	}
	for len(m.heap) > 0 {
		top := m.pop()
		left := int32(uint32(top))
		if m.ranks[left] == uint32(top>>32) {
			m.join(pairs, left)
		}
	}
}

// join merges the symbol at left with the one on its right.
func (m *merger) join(pairs *pairTable, left int32) {
	right := m.next[left]
	_, m.symbols[left] = pairs.get(m.symbols[left], m.symbols[right])
	m.ranks[right] = noRank
	after := m.next[right]
	m.next[left] = after
	if int(after) < len(m.symbols) {
		m.prev[after] = left
	}
	m.renew(pairs, left)
	if before := m.prev[left]; before >= 0 {
		m.renew(pairs, before)
	}
}

// renew finds the rank of the pair that begins at i, and queues it.
func (m *merger) renew(pairs *pairTable, i int32) {
	m.ranks[i] = m.rank(pairs, i)
	if m.ranks[i] != noRank {
		m.push(uint64(m.ranks[i])<<32 | uint64(uint32(i)))
	}
}

func (m *merger) rank(pairs *pairTable, i int32) uint32 {
	m.steps++
	right := m.next[i]
	if int(right) == len(m.symbols) || m.symbols[i] < 0 || m.symbols[right] < 0 {
		return noRank
	}
	rank, _ := pairs.get(m.symbols[i], m.symbols[right])
	return rank
}

func (m *merger) push(entry uint64) {
	m.heap = append(m.heap, entry)
	i := len(m.heap) - 1
	for i > 0 {
		m.steps++
		parent := (i - 1) / 2
		if m.heap[parent] <= entry {
			break
		}
		m.heap[i] = m.heap[parent]
		i = parent
	}
	m.heap[i] = entry
}

func (m *merger) pop() uint64 {
	top, last := m.heap[0], len(m.heap)-1
	m.heap[0] = m.heap[last]
	m.heap = m.heap[:last]
	if last > 0 {
		m.down(0)
	}
	return top
}

// down moves the entry at i to its place below.
func (m *merger) down(i int) {
	entry := m.heap[i]
	for {
		m.steps++
		child := 2*i + 1
		if child >= len(m.heap) {
			break
		}
		if child+1 < len(m.heap) && m.heap[child+1] < m.heap[child] {
			child++
		}
		if entry <= m.heap[child] {
			break
		}
		m.heap[i] = m.heap[child]
		i = child
	}
	m.heap[i] = entry
}

// resize returns a slice of n elements of any content, in place of s.
func resize[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n, max(n, 2*cap(s)))
	}
	return s[:n]
}
