package disk

import "container/heap"

// Which record gives way when room is needed.
//
// A record is worth what it saves: the time to compute it again, times the chance that somebody asks, per byte. The
// chance is taken from the past as GreedyDual-Size-Frequency takes it (Cherkasova, "Improving WWW Proxies Performance
// with Greedy-Dual-Size-Frequency Caching Policy", HP Laboratories 1998): a record's rank is
//
//	age + uses × recompute / bytes
//
// at the time of its last use, where age is the highest rank that ever gave way, and uses are counted to maxUses. So what
// was not used for long falls behind what is used now, however often it was used once, without a look at a clock, which
// may jump.
//
// A prefix is only of use whole, from its beginning. So a block gives way only when no later block of its prefix and no
// state at its end are left, whatever their ranks; and a pinned record never does, nor what comes before it.

const maxUses = 16

// node is everything that is stored about one key of a tenant.
type node struct {
	tenant   *tenant
	key      Key
	parent   *node // of the block before; nil for the first
	children int   // nodes with entries whose parent this is
	pins     int
	entries  [2]*entry // by kind
}

// entry is one record.
type entry struct {
	node      *node
	kind      Kind
	queued    *queued  // what waits to be written; nil once it is
	segment   *segment // where it is then
	offset    int64
	slot      int    // in the segment's index
	overwrite bool   // when it is erased: its owner removed it
	previous  *entry // in the segment
	next      *entry
	dataBytes int
	tokens    int
	value     float64 // what it saves, in seconds per byte
	rank      float64
	uses      int
	position  int // in the ranking, -1: not there
}

func (e *entry) recordBytes() int64 { return int64(e.dataBytes) + overheadBytes }
func (e *entry) end() int64         { return e.offset + e.recordBytes() }

// listed reports whether the table has the entry still.
func (e *entry) listed() bool { return e.node.entries[e.kind] == e }

// mayGo reports whether the entry can give way.
func (e *entry) mayGo() bool {
	n := e.node
	return e.queued == nil && n.pins == 0 && (e.kind == State || n.children == 0 && n.entries[State] == nil)
}

// ranking is a heap of the entries that may give way, the first to go on top.
type ranking struct {
	entries []*entry
	age     float64
}

// use raises an entry that was asked for.
func (r *ranking) use(e *entry) {
	e.uses = min(e.uses+1, maxUses)
	e.rank = max(e.rank, r.age+float64(e.uses)*e.value)
	r.update(e)
}

// update puts an entry to where it belongs after something about it changed.
func (r *ranking) update(e *entry) {
	switch {
	case e == nil:
	case e.mayGo() && e.position < 0:
		heap.Push(r, e)
	case e.mayGo():
		heap.Fix(r, e.position)
	default:
		r.drop(e)
	}
}

// drop takes an entry out.
func (r *ranking) drop(e *entry) {
	if e.position >= 0 {
		heap.Remove(r, e.position)
	}
}

// replace puts an entry into the place of its copy.
func (r *ranking) replace(old, copied *entry) {
	if old.position >= 0 {
		r.entries[old.position] = copied
	}
	old.position = -1
}

// first returns the entry that gives way next, nil when none may.
func (r *ranking) first() *entry {
	if len(r.entries) == 0 {
		return nil
	}
	return r.entries[0]
}

func (r *ranking) Len() int { return len(r.entries) }

// Less prefers, among equals, the record that ends the longer prefix.
func (r *ranking) Less(i, j int) bool {
	a, b := r.entries[i], r.entries[j]
	if a.rank != b.rank {
		return a.rank < b.rank
	}
	return a.tokens > b.tokens
}

func (r *ranking) Swap(i, j int) {
	r.entries[i], r.entries[j] = r.entries[j], r.entries[i]
	r.entries[i].position, r.entries[j].position = i, j
}

func (r *ranking) Push(x any) {
	e := x.(*entry)
	e.position = len(r.entries)
	r.entries = append(r.entries, e)
}

func (r *ranking) Pop() any {
	last := len(r.entries) - 1
	e := r.entries[last]
	r.entries[last] = nil
	r.entries = r.entries[:last]
	e.position = -1
	return e
}

// table is the records that the store knows, in memory. It belongs to the store's mutex.
type table struct {
	keys    *keyring
	ranking ranking
	records int
	pinned  int
}

// node returns what there is about a key, made when add asks.
func (t *tenant) node(key Key) *node {
	n := t.nodes[key]
	if n == nil {
		n = &node{tenant: t, key: key}
		t.nodes[key] = n
	}
	return n
}

// insert adds an entry that its node does not have.
func (t *table) insert(e *entry, parent Key) {
	n := e.node
	if n.entries[e.kind] != nil {
		panic("kvcache/disk: a record is inserted twice")
	}
	if n.empty() && parent != (Key{}) && parent != n.key {
		n.parent = n.tenant.node(parent)
		n.parent.children++
		t.update(n.parent)
	}
	n.entries[e.kind] = e
	t.records++
	if n.pins > 0 {
		t.pinned++
	}
	t.update(n)
}

// remove takes an entry out, and its node when nothing is left of it.
func (t *table) remove(e *entry) {
	n := e.node
	t.ranking.drop(e)
	n.entries[e.kind] = nil
	t.records--
	if n.pins > 0 {
		t.pinned--
	}
	t.update(n)
	if n.empty() && n.parent != nil {
		p := n.parent
		n.parent = nil
		p.children--
		t.update(p)
		p.prune()
	}
	n.prune()
}

// pin counts a key's pins up or down.
func (t *table) pin(n *node, by int) {
	before := n.pins > 0
	n.pins = max(n.pins+by, 0)
	if after := n.pins > 0; after != before {
		for _, e := range n.entries {
			switch {
			case e != nil && after:
				t.pinned++
			case e != nil:
				t.pinned--
			}
		}
		t.update(n)
	}
	n.prune()
}

func (t *table) update(n *node) {
	for _, e := range n.entries {
		t.ranking.update(e)
	}
}

func (n *node) empty() bool { return n.entries[Block] == nil && n.entries[State] == nil }

// prune forgets a node that nothing needs.
func (n *node) prune() {
	if n.empty() && n.children == 0 && n.pins == 0 {
		delete(n.tenant.nodes, n.key)
	}
}
