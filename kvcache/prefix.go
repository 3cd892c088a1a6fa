package kvcache

import (
	"math/bits"
	"math/rand/v2"
	"slices"
)

// prefixIndex finds cached blocks by what they hold. It is a radix tree whose edges are the tokens of one block: a node
// is a block, the path from the root to it spells a prompt's first tokens. Children are found through one hash table
// over all nodes, so that a node needs no list of them and following an edge costs one probe.
//
//	salt a ── [t0…t63] block 7 ── [t64…t127] block 2
//	                            └─ [u64…u127] block 9
//	salt b ── [t0…t63] block 4                          equal tokens, another tenant: never found from a
type prefixIndex struct {
	blockLen int
	nodes    []node  // [blocks]
	tokens   []int32 // [blocks, blockLen] of cached blocks
	buckets  []int32 // [power of two] first node of each chain, or none

	numCached int
	// hash mixes a block's tokens into the hash of what precedes it; tests replace it with a weak one.
	hash func(before uint64, tokens []int32) uint64
	// seed makes chains unpredictable from outside, so that no client can craft prompts that share one.
	seed uint64
}

// node is what the index knows about one block.
type node struct {
	salt     uint64
	hash     uint64 // of salt and all tokens up to the end of this block
	parent   int32  // none: first block of a prompt
	next     int32  // in the same bucket
	children int32
	snapshot int32 // the state at the end of the block, or none; means nothing unless cached
	cached   bool
}

func newPrefixIndex(numBlocks, blockLen int) prefixIndex {
	x := prefixIndex{
		blockLen: blockLen,
		nodes:    make([]node, numBlocks),
		tokens:   make([]int32, numBlocks*blockLen),
		buckets:  make([]int32, 1<<bits.Len(uint(numBlocks))), // more than there are blocks
		hash:     hashTokens,
		seed:     rand.Uint64(),
	}
	for i := range x.buckets {
		x.buckets[i] = none
	}
	return x
}

// tokensOf returns the tokens of a cached block.
func (x *prefixIndex) tokensOf(id int32) []int32 {
	return x.tokens[int(id)*x.blockLen:][:x.blockLen]
}

// key hashes the block of tokens that follows parent.
func (x *prefixIndex) key(salt uint64, parent int32, tokens []int32) uint64 {
	before := x.seed ^ salt
	if parent != none {
		before = x.nodes[parent].hash
	}
	return x.hash(before, tokens)
}

func (x *prefixIndex) bucket(hash uint64) *int32 {
	return &x.buckets[hash&uint64(len(x.buckets)-1)]
}

// child returns the block that holds exactly these blockLen tokens after parent, or none, and the hash it looked for.
// Salt, parent and tokens are compared, whatever the hash says: a collision costs time, never a wrong block.
func (x *prefixIndex) child(salt uint64, parent int32, tokens []int32) (id int32, hash uint64) {
	hash = x.key(salt, parent, tokens)
	for id = *x.bucket(hash); id != none; id = x.nodes[id].next {
		n := &x.nodes[id]
		if n.hash == hash && n.parent == parent && n.salt == salt && slices.Equal(x.tokensOf(id), tokens) {
			break
		}
	}
	return id, hash
}

// insert makes a block findable as parent's child; child said that there is none like it, and gave the hash.
func (x *prefixIndex) insert(id int32, salt, hash uint64, parent int32, tokens []int32) {
	head := x.bucket(hash)
	x.nodes[id] = node{salt: salt, hash: hash, parent: parent, next: *head, snapshot: none, cached: true}
	*head = id
	copy(x.tokensOf(id), tokens)
	x.numCached++
	if parent != none {
		x.nodes[parent].children++
	}
}

// remove forgets a block without children.
func (x *prefixIndex) remove(id int32) {
	n := &x.nodes[id]
	if !n.cached || n.children != 0 {
		panic("kvcache: evicting a block that is not a leaf of the prefix index")
	}
	at := x.bucket(n.hash)
	for *at != id {
		at = &x.nodes[*at].next
	}
	*at = n.next
	if n.parent != none {
		x.nodes[n.parent].children--
	}
	*n = node{}
	x.numCached--
}

// hashTokens folds tokens, two at a time, by multiplying to 128 bits and adding the halves' bits together (the mixing
// step of wyhash, https://github.com/wangyi-fudan/wyhash). The constants are any odd numbers with mixed bits.
func hashTokens(before uint64, tokens []int32) uint64 {
	const k0, k1 = 0xa0761d6478bd642f, 0xe7037ed1a0b428db
	h := fold(before^k0, k1)
	for ; len(tokens) >= 2; tokens = tokens[2:] {
		h = fold(h^k0, uint64(uint32(tokens[0]))|uint64(uint32(tokens[1]))<<32^k1)
	}
	if len(tokens) == 1 {
		h = fold(h^k0, uint64(uint32(tokens[0]))^k1)
	}
	return fold(h, k0)
}

func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}
