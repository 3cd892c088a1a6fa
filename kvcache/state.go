package kvcache

import "fmt"

// Worth says for how long a snapshot matters.
type Worth uint8

// The worths of a snapshot.
const (
	Lasting Worth = iota // a prompt or an answer ends there, or prompts part there
	Passing              // it lies on the way, and serves until its sequence has a later one
)

// states hands out slots and snapshots, and chooses the snapshot that a new one replaces. The list of kept snapshots is in
// order of attaching. A conversation that goes on leaves its earlier snapshots behind as it makes new ones, so the oldest
// are those of conversations that stopped, and of earlier turns. What many conversations begin from is seldom attached and
// often acquired: it counts as new each time, and goes round the list again.
type states struct {
	slots     []int32 // stack of those that no sequence holds
	snapshots []snapshot
	free      []int32 // stack of snapshots of no block

	kept list // snapshots of blocks

	saved, loaded, replaced uint64
}

// snapshot is what is known of one kept state.
type snapshot struct {
	block  int32 // the one at whose end the state stands; none: the snapshot is free
	pins   int32 // sequences that acquired it and have not loaded it yet
	starts uint8 // acquired so often while the prefix went on otherwise as well, up to maxStarts
	worth  Worth
}

// maxStarts bounds how often a snapshot goes round the list: one that nobody needs any more leaves it after that.
const maxStarts = 3

// common is how many starts make a snapshot a common beginning. One alone is a prompt that left out the last answer's
// reasoning: the conversation goes on, and nobody will come back.
const common = 2

func newStates(numSlots, numSnapshots int) states {
	s := states{
		slots: make([]int32, numSlots), snapshots: make([]snapshot, numSnapshots), free: make([]int32, numSnapshots),
		kept: newList(numSnapshots),
	}
	for i := range s.slots {
		s.slots[i] = int32(numSlots - 1 - i) // popped in ascending order
	}
	for i := range s.free {
		s.free[i] = int32(numSnapshots - 1 - i)
		s.snapshots[i].block = none
	}
	return s
}

// held is the number of snapshots of blocks.
func (s *states) held() int { return len(s.snapshots) - len(s.free) }

// Attach gives a snapshot to a sequence's block that ends at a position, a multiple of BlockLen up to which the sequence
// was published. The caller saves the state of the sequence's slot there before anything else is attached or acquired.
// There is nothing to save when ok is false: the block has a snapshot already, or all are about to be loaded.
//
// When no snapshot is free, the oldest one goes that nobody is about to load; common beginnings go last.
func (c *Cache) Attach(s *Sequence, position int, worth Worth) (id int32, ok bool) {
	block := s.blocks[c.lastBlock("Attach", s, position)]
	c.served(s)
	n := &c.index.nodes[block]
	if id = n.snapshot; id != none { // the state is the same, whoever computed it
		c.states.kept.renew(id)
		c.states.snapshots[id].worth = min(c.states.snapshots[id].worth, worth)
		c.attached(s, id)
		return none, false
	}
	if id = c.takeSnapshot(); id == none {
		return none, false
	}
	c.give(id, block, worth)
	c.attached(s, id)
	c.states.saved++
	if worth == Passing {
		s.passing = block
	}
	return id, true
}

// Renew makes the snapshot at a position of a sequence the last to be replaced, as if it were new, where there is one among
// its published blocks.
func (c *Cache) Renew(s *Sequence, position int) {
	last := position/c.options.BlockLen - 1
	if position%c.options.BlockLen != 0 || last < 0 || last >= s.published {
		return
	}
	if id := c.index.nodes[s.blocks[last]].snapshot; id != none {
		c.states.kept.renew(id)
		c.states.snapshots[id].worth = Lasting
		c.attached(s, id)
	}
}

// lastBlock returns the place in a table of the published block that ends at a position.
func (c *Cache) lastBlock(op string, s *Sequence, position int) int {
	last := position/c.options.BlockLen - 1
	if position%c.options.BlockLen != 0 || last < 0 || last >= s.published {
		panic(fmt.Sprintf("kvcache: %s: position %d of a sequence with %d blocks published", op, position, s.published))
	}
	return last
}

// give makes a free snapshot that of a block.
func (c *Cache) give(id, block int32, worth Worth) {
	x := &c.states.snapshots[id]
	*x = snapshot{block: block, worth: worth}
	c.begin(x)
	c.index.nodes[block].snapshot = id
	c.states.kept.push(id)
}

// served makes a sequence's last passing snapshot the next to be replaced.
func (c *Cache) served(s *Sequence) {
	if s.passing == none {
		return
	}
	id := c.index.nodes[s.passing].snapshot
	s.passing = none
	if id == none || c.states.snapshots[id].worth != Passing || c.states.snapshots[id].starts > 0 {
		return
	}
	c.states.kept.remove(id)
	c.states.kept.pushOldest(id)
}

// takeSnapshot returns a snapshot of no block, or none.
func (c *Cache) takeSnapshot() int32 {
	t := &c.states
	for id := t.kept.oldest; len(t.free) == 0 && id != none; {
		x := &t.snapshots[id]
		next := t.kept.links[id].newer
		switch {
		case x.pins > 0:
		case x.starts >= common:
			x.starts--
			t.kept.renew(id)
			if next == none {
				next = id // it was the last already
			}
		default:
			c.detach(id)
			t.replaced++
		}
		id = next
	}
	if len(t.free) == 0 {
		return none
	}
	id := t.free[len(t.free)-1]
	t.free = t.free[:len(t.free)-1]
	return id
}

// detach frees a snapshot that nobody is about to load.
func (c *Cache) detach(id int32) {
	x := &c.states.snapshots[id]
	if x.pins > 0 {
		panic("kvcache: a snapshot that is about to be loaded is dropped")
	}
	c.states.kept.remove(id)
	c.durable.dropSnapshot(id)
	c.index.nodes[x.block].snapshot = none
	x.block = none
	c.states.free = append(c.states.free, id)
}

// begin counts a start from a snapshot, or at one, where another sequence goes on from there too, or went on before.
func (c *Cache) begin(x *snapshot) {
	if c.index.nodes[x.block].children > 0 || c.pool.refs[x.block] > 1 {
		x.starts = min(x.starts+1, maxStarts)
	}
}

// pin keeps the snapshot of the last block that a sequence acquired, where sequences have state.
func (c *Cache) pin(s *Sequence, last int32) {
	if c.options.Slots == 0 {
		return
	}
	n := &c.index.nodes[last]
	x := &c.states.snapshots[n.snapshot]
	x.pins++
	if c.begin(x); x.starts >= common {
		c.states.kept.renew(n.snapshot)
	}
	s.loading = n.snapshot
}

// Loaded says that the state of the snapshot that Acquire found is in the sequence's slot. Until then it is kept.
func (c *Cache) Loaded(s *Sequence) {
	if s.loading == none {
		panic("kvcache: Loaded: the sequence acquired no snapshot")
	}
	c.states.loaded++
	c.unpin(s)
}

func (c *Cache) unpin(s *Sequence) {
	if s.loading != none {
		c.states.snapshots[s.loading].pins--
		s.loading = none
	}
}
