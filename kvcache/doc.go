// Package kvcache decides which cache block holds which tokens. It hands out block ids, shares full blocks between
// sequences with a common prefix, keeps the blocks of finished sequences findable, and takes them back, least recently
// used first, when others need them. The bytes behind an id belong to a device's queue; this package never sees them.
//
// A block holds BlockLen positions of all layers. A sequence's table maps its positions to blocks:
//
//	position   0 ........ 63 | 64 ...... 127 | 128 ... 140
//	table      blocks[0]     | blocks[1]     | blocks[2]      the last block is partly filled
//	prefix     cached        | cached        | private        only full blocks are ever found by others
//
// A block is in exactly one of three states:
//
//	free        nobody knows it; its content means nothing
//	referenced  in the tables of one or more sequences; cached as well, once published
//	idle        cached, in no table; kept until its space is needed
//
// The way of a block: free → Grow → referenced → Publish → cached → Release → idle → Acquire → referenced …, and from
// idle back to free by eviction.
//
// # State
//
// Some programs remember more of a sequence than rows of its positions: the state of recurrent layers, the latest rows of
// windows. It stands at one position and cannot be cut back, so a cached prefix is of use only where the state at its end
// was kept. A running sequence of such a program holds a slot of the queue; a cached block may have a snapshot, the state
// after its last position. Both are ids here, and the caller copies between them:
//
//	position   0 ........ 63 | 64 ...... 127 | 128 ..... 191 | 192 ... 200
//	table      cached        | cached        | cached        | private
//	                  snapshot 3                     snapshot 0           slot 2
//
// The way of a snapshot: free → Attach, the caller saves slot 2 to it → kept → Acquire, the caller loads it into another
// slot, Loaded → kept …, and from kept back to free when its block is evicted or another snapshot replaces it. A block
// stays without its snapshot: it is still what other prompts are compared with.
//
// # Disk
//
// What a cache forgets may still be on disk. With Durable, each cached block of a sequence with an origin has a key that
// depends on the origin and on all tokens up to its end, and names a record there. New blocks are unsaved: the caller
// copies them to the disk when it has time, those of a prefix in order, and says that they are saved. One that is evicted
// before is not on disk, which costs speed only. The way back: free → Grow → referenced, the caller writes what it read
// from the disk → Publish → cached; a state comes with Install.
//
// Everything is owned by one goroutine, the engine's loop; there is no lock, and nothing allocates after New but
// NewSequence, which alone may be called from any goroutine.
//
// # Invariants
//
// Check verifies each of them.
//
//  1. Every block is free, referenced or idle, and in exactly one of them.
//  2. A block's reference count is the number of tables it is in; no table holds a block twice.
//  3. An idle block is cached; a free block is not.
//  4. A cached block's parent, the block of the BlockLen tokens before, is cached and has the same salt; only the first
//     block of a prompt has none.
//  5. The cached blocks of a table are its front, and each is the parent of the next. So whoever references a cached
//     block references all its ancestors, and every idle block can be evicted.
//  6. In the list of idle blocks, oldest first, children come before their parents. So the oldest is always a leaf, and
//     eviction never leaves an orphan. It follows from 5: a parent is released with its child or later, and Release goes
//     from the end of a table to its front.
//  7. No two cached blocks have the same salt, parent and tokens. A block is found by these three, compared in full; the
//     hash only says where to look.
//  8. Only sequences that hold blocks are active, at most MaxSequences of them.
//  9. With Slots, each active sequence holds a slot of its own, and the other slots are free.
//  10. A snapshot is free or belongs to one cached block; a block has at most one.
//  11. A snapshot is pinned once for each sequence that acquired it and has not loaded it. That sequence holds the
//     snapshot's block, so a pinned snapshot is not dropped with it.
//  12. The list of snapshots has those of blocks, each once.
//  13. With Durable, a cached block of a sequence with an origin has the key of all tokens up to its end.
//  14. Only cached blocks with a key are unsaved, and lasting snapshots of such.
package kvcache
