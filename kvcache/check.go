package kvcache

import (
	"errors"
	"fmt"
	"slices"
)

// Check verifies the invariants of the package comment and returns an error for the first that is broken, by number. It
// reads everything and is meant for tests and for the dump after a failure.
func (c *Cache) Check() error {
	idle, err := c.checkPool()
	if err != nil {
		return err
	}
	if err := c.checkTables(); err != nil {
		return err
	}
	if err := c.checkIndex(idle); err != nil {
		return err
	}
	if err := c.checkStates(); err != nil {
		return err
	}
	return c.checkDurable()
}

func broken(invariant int, format string, args ...any) error {
	return fmt.Errorf("kvcache: invariant %d: %w", invariant, fmt.Errorf(format, args...))
}

// checkPool verifies invariants 1 and 3 and returns each idle block's place in the list, oldest 0.
func (c *Cache) checkPool() (idle map[int32]int, err error) {
	p := &c.pool
	states := make([]int, c.options.Blocks)
	for _, id := range p.free {
		states[id]++
		if p.refs[id] != 0 || c.index.nodes[id].cached {
			return nil, broken(3, "free block %d has %d references, cached: %t", id, p.refs[id], c.index.nodes[id].cached)
		}
	}
	idle = make(map[int32]int)
	older := none
	for id := p.idle.oldest; id != none; id = p.idle.links[id].newer {
		if _, seen := idle[id]; seen {
			return nil, broken(1, "the idle list has a cycle at block %d", id)
		}
		if !p.idle.has(id) || p.idle.links[id].older != older {
			return nil, broken(1, "idle block %d is linked to %d, comes after %d", id, p.idle.links[id].older, older)
		}
		idle[id], older = len(idle), id
		states[id]++
		if p.refs[id] != 0 || !c.index.nodes[id].cached {
			return nil, broken(3, "idle block %d has %d references, cached: %t", id, p.refs[id], c.index.nodes[id].cached)
		}
	}
	if older != p.idle.newest || len(idle) != p.idle.len {
		return nil, broken(1, "the idle list has %d blocks and ends at %d, want %d and %d", len(idle), older, p.idle.len, p.idle.newest)
	}
	for id, n := range states {
		if p.refs[id] > 0 {
			n++
		}
		if n != 1 || p.refs[id] < 0 {
			return nil, broken(1, "block %d is in %d states, with %d references", id, n, p.refs[id])
		}
	}
	return idle, nil
}

// checkTables verifies invariants 2, 5, 8 and 9.
func (c *Cache) checkTables() error {
	if len(c.active) > c.options.MaxSequences {
		return broken(8, "%d sequences of %d", len(c.active), c.options.MaxSequences)
	}
	refs := make([]int32, c.options.Blocks)
	slots := append([]int32(nil), c.states.slots...)
	for i, s := range c.active {
		if c.options.Slots > 0 {
			slots = append(slots, s.slot)
		}
		if s.active != i || len(s.blocks) == 0 {
			return broken(8, "active sequence %d has %d blocks and index %d", i, len(s.blocks), s.active)
		}
		parent, private := none, none
		for j, id := range s.blocks {
			if slices.Contains(s.blocks[:j], id) {
				return broken(2, "sequence %d holds block %d twice: %v", i, id, s.blocks)
			}
			refs[id]++
			n := &c.index.nodes[id]
			switch {
			case !n.cached && j < s.published:
				return broken(5, "sequence %d published %d blocks, block %d at %d is not cached", i, s.published, id, j)
			case !n.cached:
				private = id
			case private != none:
				return broken(5, "sequence %d: cached block %d comes after block %d, which is not", i, id, private)
			case n.parent != parent:
				return broken(5, "sequence %d: block %d comes after %d, its parent is %d", i, id, parent, n.parent)
			}
			parent = id
		}
	}
	if !slices.Equal(refs, c.pool.refs) {
		return broken(2, "references are %v, tables say %v", c.pool.refs, refs)
	}
	slices.Sort(slots)
	for i := range c.options.Slots {
		if len(slots) != c.options.Slots || int(slots[i]) != i {
			return broken(9, "free and held slots are %v, want each of %d once", slots, c.options.Slots)
		}
	}
	return nil
}

// checkStates verifies invariants 10 to 12.
func (c *Cache) checkStates() error {
	t := &c.states
	pins := make([]int32, len(t.snapshots))
	for i, s := range c.active {
		if s.loading == none {
			continue
		}
		pins[s.loading]++
		if !slices.Contains(s.blocks, t.snapshots[s.loading].block) {
			return broken(11, "sequence %d is to load snapshot %d of block %d, its blocks are %v", i, s.loading, t.snapshots[s.loading].block, s.blocks)
		}
	}
	kept, older := make([]int, len(t.snapshots)), none
	for id := t.kept.oldest; id != none; id = t.kept.links[id].newer {
		if kept[id]++; kept[id] > 1 || t.kept.links[id].older != older {
			return broken(12, "snapshot %d is linked to %d, comes after %d", id, t.kept.links[id].older, older)
		}
		older = id
	}
	if older != t.kept.newest {
		return broken(12, "the list of snapshots ends at %d, want %d", older, t.kept.newest)
	}
	for _, id := range t.free {
		kept[id]--
	}
	blocks := 0
	for i := range t.snapshots {
		x := &t.snapshots[i]
		switch {
		case x.pins != pins[i]:
			return broken(11, "snapshot %d is to be loaded by %d sequences, counted %d", i, pins[i], x.pins)
		case x.block == none:
			if kept[i] != -1 {
				return broken(12, "snapshot %d has no block; listed, less free: %d", i, kept[i])
			}
		case kept[i] != 1:
			return broken(12, "snapshot %d is of block %d; listed, less free: %d", i, x.block, kept[i])
		case !c.index.nodes[x.block].cached || c.index.nodes[x.block].snapshot != int32(i):
			return broken(10, "snapshot %d is of block %d, which is cached: %t, with snapshot %d",
				i, x.block, c.index.nodes[x.block].cached, c.index.nodes[x.block].snapshot)
		default:
			blocks++
		}
	}
	for id := range c.index.nodes {
		if n := &c.index.nodes[id]; n.cached && n.snapshot != none {
			blocks--
		}
	}
	if blocks != 0 {
		return broken(10, "%d blocks have snapshots of other blocks", -blocks)
	}
	return nil
}

// checkIndex verifies invariants 4, 6 and 7, and that the hash table finds every cached block.
func (c *Cache) checkIndex(idle map[int32]int) error {
	x := &c.index
	children := make([]int32, len(x.nodes))
	cached := 0
	for i := range x.nodes {
		id, n := int32(i), &x.nodes[i]
		if !n.cached {
			continue
		}
		cached++
		if n.parent != none {
			p := &x.nodes[n.parent]
			if !p.cached || p.salt != n.salt {
				return broken(4, "block %d (salt %d): parent %d is cached: %t, salt %d", id, n.salt, n.parent, p.cached, p.salt)
			}
			children[n.parent]++
			at, isIdle := idle[id]
			parentAt, parentIdle := idle[n.parent]
			if parentIdle && (!isIdle || parentAt < at) {
				return broken(6, "block %d is evicted before its child %d", n.parent, id)
			}
		}
		if found, _ := x.child(n.salt, n.parent, x.tokensOf(id)); found != id {
			return broken(7, "looking for block %d finds %d", id, found)
		}
	}
	if cached != x.numCached {
		return errors.New("kvcache: the count of cached blocks is wrong")
	}
	for i := range x.nodes {
		if x.nodes[i].children != children[i] {
			return broken(4, "block %d has %d children, counted %d", i, children[i], x.nodes[i].children)
		}
	}
	return nil
}

// checkDurable verifies invariants 13 and 14.
func (c *Cache) checkDurable() error {
	d := &c.durable
	if d.keys == nil {
		return nil
	}
	for i := range d.keys {
		id, n := int32(i), &c.index.nodes[i]
		switch {
		case d.blocks.has(id) && (!n.cached || d.origins[id] == nil):
			return broken(14, "block %d is unsaved, cached: %t, with origin: %t", id, n.cached, d.origins[id] != nil)
		case !n.cached || d.origins[id] == nil:
			continue
		}
		before, length := d.origins[id].Root, 0
		if n.parent != none {
			if d.origins[n.parent] == nil || d.origins[n.parent].Tenant != d.origins[id].Tenant {
				return broken(13, "block %d has another origin than its parent %d", id, n.parent)
			}
			before, length = d.keys[n.parent], int(d.lengths[n.parent])
		}
		if tokens := c.index.tokensOf(id); d.keys[id] != NextKey(before, tokens) || int(d.lengths[id]) != length+len(tokens) {
			return broken(13, "block %d of %d tokens has key %x", id, d.lengths[id], d.keys[id])
		}
	}
	for i := range c.states.snapshots {
		if x := &c.states.snapshots[i]; d.snapshots.has(int32(i)) && (x.block == none || x.worth != Lasting || d.origins[x.block] == nil) {
			return broken(14, "snapshot %d is unsaved, of block %d, worth %d", i, x.block, x.worth)
		}
	}
	return nil
}
