package disk

import (
	"slices"
	"testing"
)

// settle waits until the writer has nothing to do.
func (s *Store) settle(t testing.TB) {
	t.Helper()
	if err := s.command(func() error {
		for s.writeNext() || s.tidy() {
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// check fails the test when what the store has in memory contradicts itself.
func (s *Store) check(t testing.TB) {
	t.Helper()
	s.settle(t)
	s.mu.Lock()
	defer s.mu.Unlock()
	records, pinned, ranked, children := 0, 0, 0, map[*node]int{}
	for tag, tenant := range s.table.keys.byTag {
		if tenant.tag != tag || s.table.keys.byID[tenant.id] != tenant {
			t.Fatalf("tenant %x is not found by its id", tag)
		}
		for key, n := range tenant.nodes {
			if n.key != key || n.tenant != tenant || n.empty() && n.children == 0 && n.pins == 0 {
				t.Fatalf("node %x is wrong or useless: %+v", key[:4], n)
			}
			if n.parent != nil {
				children[n.parent]++
				if n.empty() || tenant.nodes[n.parent.key] != n.parent {
					t.Fatalf("node %x has a parent that it should not have", key[:4])
				}
			}
			for kind, e := range n.entries {
				if e == nil {
					continue
				}
				records++
				if n.pins > 0 {
					pinned++
				}
				if e.mayGo() {
					ranked++
				}
				if e.kind != Kind(kind) || e.node != n || (e.position >= 0) != e.mayGo() || e.mayGo() && s.table.ranking.entries[e.position] != e {
					t.Fatalf("entry %x is wrong: %+v", key[:4], e)
				}
				if e.queued == nil && !slices.Contains(s.segments, e.segment) {
					t.Fatalf("entry %x is nowhere", key[:4])
				}
			}
		}
		for _, n := range tenant.nodes {
			if n.children != children[n] {
				t.Fatalf("node %x has %d children, want %d", n.key[:4], n.children, children[n])
			}
		}
	}
	if records != s.table.records || pinned != s.table.pinned || ranked != s.table.ranking.Len() {
		t.Fatalf("%d records, %d pinned, %d ranked; the table says %d, %d, %d",
			records, pinned, ranked, s.table.records, s.table.pinned, s.table.ranking.Len())
	}
	for _, seg := range s.segments {
		s.checkSegment(t, seg)
	}
}

func (s *Store) checkSegment(t testing.TB, seg *segment) {
	t.Helper()
	live, end, slot := int64(0), int64(fileHeaderBytes), -1
	var last *entry
	for e := seg.first; e != nil; e = e.next {
		if e.previous != last || e.segment != seg || e.offset < end || e.slot <= slot || e.slot >= seg.slots {
			t.Fatalf("%s: entry at %d behind %d: %+v", seg.path, e.offset, end, e)
		}
		if (e.node == nil || !e.listed()) != slices.Contains(s.dead, e) {
			t.Fatalf("%s: entry at %d is neither listed nor dead, or both", seg.path, e.offset)
		}
		live, end, slot, last = live+e.recordBytes(), e.end(), e.slot, e
	}
	if last != seg.last || end > seg.size || live != seg.live || seg.holes < 0 || seg.garbage() < 0 || seg.readers < 0 {
		t.Fatalf("%s: %d live bytes up to %d, %d holes, %d garbage; the segment says %d of %d",
			seg.path, live, end, seg.holes, seg.garbage(), seg.live, seg.size)
	}
}
