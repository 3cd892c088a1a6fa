package kvcache

import (
	"crypto/sha256"
	"encoding/binary"

	"hearth/kvcache/disk"
)

// Origin is where a tenant's prefixes begin on disk. It is read-only.
type Origin struct {
	Tenant string
	Root   disk.Key // the key of the prefix without tokens
}

// NextKey returns the key of a prefix that goes on by one block of tokens: the hash of the key before and of the tokens.
//
//	key     SHA-256(key of the prefix before [32] | tokens, little endian [blockLen * 4])
func NextKey(before disk.Key, tokens []int32) disk.Key {
	var room [sha256.Size + 4*defaultBlockLen]byte
	text := append(room[:0], before[:]...)
	for _, token := range tokens {
		text = binary.LittleEndian.AppendUint32(text, uint32(token))
	}
	return sha256.Sum256(text)
}

// durable is what a cache knows of its blocks and snapshots as records on disk; it is empty unless Options.Durable is set.
// What is unsaved is listed in the order in which it was published, so that a prefix is saved from its beginning.
type durable struct {
	keys    []disk.Key // [blocks] of cached blocks with an origin
	origins []*Origin  // [blocks] or nil: no key
	lengths []int32    // [blocks] tokens up to the end of a cached block

	blocks    list // ids of unsaved blocks
	snapshots list // ids of snapshots that are unsaved
}

func newDurable(o *Options) durable {
	if !o.Durable {
		return durable{}
	}
	return durable{
		keys: make([]disk.Key, o.Blocks), origins: make([]*Origin, o.Blocks), lengths: make([]int32, o.Blocks),
		blocks: newList(o.Blocks), snapshots: newList(o.Snapshots),
	}
}

// publish gives a block its key.
func (d *durable) publish(id, parent int32, tokens []int32, origin *Origin, saved bool) {
	if d.keys == nil {
		return
	}
	before, length := disk.Key{}, int32(0)
	if parent != none {
		if d.origins[parent] == nil {
			origin = nil
		}
		before, length = d.keys[parent], d.lengths[parent]
	} else if origin != nil {
		before = origin.Root
	}
	d.origins[id], d.lengths[id] = origin, length+int32(len(tokens))
	if origin == nil {
		return
	}
	d.keys[id] = NextKey(before, tokens)
	if saved {
		d.blocks.push(id)
	}
}

// drop forgets a block.
func (d *durable) drop(id int32) {
	if d.keys == nil {
		return
	}
	if d.blocks.has(id) {
		d.blocks.remove(id)
	}
	d.origins[id] = nil
}

// dropSnapshot forgets a snapshot.
func (d *durable) dropSnapshot(id int32) {
	if d.keys != nil && d.snapshots.has(id) {
		d.snapshots.remove(id)
	}
}

// SetOrigin says where the prefixes of a sequence begin on disk, before it acquires or grows; until it is released. With
// save, what it publishes and attaches is to be saved there. All sequences of one salt have origins with equal contents, or
// none has one.
func (s *Sequence) SetOrigin(origin *Origin, save bool) {
	s.origin, s.saved = origin, save && origin != nil
}

// Unsaved names a cached block, or the state at its end, that is to be saved.
type Unsaved struct {
	Kind   disk.Kind
	ID     int32 // of the block, or of the snapshot
	Tenant string
	Key    disk.Key
	Parent disk.Key // of the block before; zero for the first
	Length int      // tokens up to its end
}

// NextUnsaved returns what became unsaved first: blocks before states, which are of use only with them. It stays listed
// until Saved is called, or its block is evicted.
func (c *Cache) NextUnsaved() (u Unsaved, ok bool) {
	d := &c.durable
	block := none
	switch {
	case d.blocks.len > 0:
		u.ID, u.Kind = d.blocks.oldest, disk.Block
		block = u.ID
	case d.snapshots.len > 0:
		u.ID, u.Kind = d.snapshots.oldest, disk.State
		block = c.states.snapshots[u.ID].block
	default:
		return Unsaved{}, false
	}
	u.Tenant, u.Key, u.Length = d.origins[block].Tenant, d.keys[block], int(d.lengths[block])
	if parent := c.index.nodes[block].parent; parent != none {
		u.Parent = d.keys[parent]
	}
	return u, true
}

// Saved says that what NextUnsaved named need not be saved any more.
func (c *Cache) Saved(u Unsaved) {
	if u.Kind == disk.State {
		c.durable.snapshots.remove(u.ID)
	} else {
		c.durable.blocks.remove(u.ID)
	}
}

// NumUnsaved returns how many blocks and states are to be saved.
func (c *Cache) NumUnsaved() int { return c.durable.blocks.len + c.durable.snapshots.len }

// Unsaved reports whether a cached block, or the state at its end, is to be saved.
func (c *Cache) Unsaved(block Cached) bool {
	d := &c.durable
	return d.keys != nil && (d.blocks.has(block.ID) || block.Snapshot != none && d.snapshots.has(block.Snapshot))
}

// Save lists a cached block, and the state at its end, as unsaved unless has knows their records.
func (c *Cache) Save(block int32, has func(tenant string, key disk.Key, kind disk.Kind) bool) {
	d := &c.durable
	if d.keys == nil || d.origins[block] == nil || !c.index.nodes[block].cached {
		return
	}
	tenant, key := d.origins[block].Tenant, d.keys[block]
	if !d.blocks.has(block) && !has(tenant, key, disk.Block) {
		d.blocks.push(block)
	}
	c.saveSnapshot(c.index.nodes[block].snapshot, func() bool { return has(tenant, key, disk.State) })
}

// saveSnapshot lists a lasting snapshot as unsaved; one that only serves its own sequence is not worth the bytes.
func (c *Cache) saveSnapshot(id int32, has func() bool) {
	if d := &c.durable; id != none && c.states.snapshots[id].worth == Lasting && !d.snapshots.has(id) && !has() {
		d.snapshots.push(id)
	}
}

// attached lists the snapshot that a sequence gave its block, or that a block has of more worth than before.
func (c *Cache) attached(s *Sequence, id int32) {
	d := &c.durable
	if d.keys == nil || !s.saved || d.origins[c.states.snapshots[id].block] == nil {
		return
	}
	c.saveSnapshot(id, func() bool { return false })
}
