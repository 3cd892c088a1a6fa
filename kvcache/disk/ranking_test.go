package disk

import (
	"testing"
	"time"
)

// fillable is a store with room for some twenty records of 4,000 bytes.
func fillable(t *testing.T) *Store {
	t.Helper()
	return open(t, Options{Dir: "cache", MaxBytes: 100 << 10, SegmentBytes: 16 << 10, files: newTestFiles()})
}

// add puts a record of a test of ranks.
func add(t *testing.T, s *Store, i int, parent Key, recompute time.Duration) {
	t.Helper()
	if !s.Put(Record{Tenant: "a", Key: key(i), Parent: parent, Tokens: i, Recompute: recompute, Data: data(i, 4000)}) {
		t.Fatalf("record %d was not taken", i)
	}
	flush(t, s)
}

func has(s *Store, i int) bool {
	_, ok := s.Has("a", key(i), Block)
	return ok
}

func TestDearRecordsStay(t *testing.T) {
	s := fillable(t)
	for i := range 60 {
		cost := time.Millisecond
		if i%10 == 0 {
			cost = time.Second
		}
		add(t, s, i, Key{}, cost)
	}
	for i := 0; i < 60; i += 10 {
		if !has(s, i) {
			t.Errorf("record %d, which is dear, gave way", i)
		}
	}
	if has(s, 1) {
		t.Error("record 1, which is cheap and old, is still there")
	}
	s.check(t)
}

func TestUsedRecordsStay(t *testing.T) {
	s := fillable(t)
	for i := range 60 {
		add(t, s, i, Key{}, time.Millisecond)
		wantRecord(t, s, "a", 3*min(i/3, 1), 4000) // 0, then 3 for ever
	}
	if !has(s, 3) || has(s, 5) {
		t.Errorf("record 3, in use, is there: %v; record 5, which is not: %v", has(s, 3), has(s, 5))
	}
	// What was used once does not stay for ever.
	for i := 60; i < 200; i++ {
		add(t, s, i, Key{}, time.Millisecond)
	}
	for i := 200; i < 1000 && has(s, 3); i++ {
		add(t, s, i, Key{}, time.Millisecond)
	}
	if has(s, 3) {
		t.Error("record 3 is there after it was not used for long")
	}
}

// TestPrefixesGiveWayFromTheirEnds lets later blocks of a prefix cost more, as attention makes them: still the earlier
// ones, without which they are of no use, are the last to go.
func TestPrefixesGiveWayFromTheirEnds(t *testing.T) {
	s := fillable(t)
	parent := Key{}
	for i := range 12 {
		add(t, s, i, parent, time.Duration(i+1)*time.Millisecond)
		parent = key(i)
	}
	for i := 100; i < 140; i++ {
		add(t, s, i, Key{}, 4*time.Millisecond)
		gone := false
		for j := range 12 {
			if gone && has(s, j) {
				t.Fatalf("block %d is there, one before it is not", j)
			}
			gone = gone || !has(s, j)
		}
	}
	if has(s, 11) {
		t.Error("nothing gave way: the test is too small")
	}
	s.check(t)
}

func TestPinnedRecordsStay(t *testing.T) {
	s := fillable(t)
	s.Pin("a", []Key{key(0), key(1), key(500)}, true)
	s.Pin("a", []Key{key(1)}, true)
	parent := Key{}
	for i := range 2 { // the first is pinned for the second, too
		add(t, s, i, parent, 1)
		parent = key(i)
	}
	for i := 2; i < 60; i++ {
		add(t, s, i, Key{}, time.Second)
	}
	if !has(s, 0) || !has(s, 1) || has(s, 2) || s.Stats().Pinned != 2 {
		t.Errorf("records 0, 1, 2 are there: %v, %v, %v; stats %+v", has(s, 0), has(s, 1), has(s, 2), s.Stats())
	}
	s.Pin("a", []Key{key(0), key(1), key(500)}, false)
	for i := 60; i < 100; i++ {
		add(t, s, i, Key{}, time.Second)
	}
	if !has(s, 0) || !has(s, 1) {
		t.Error("record 1 gave way although one of two pins holds it, or record 0, which comes before")
	}
	s.Pin("a", []Key{key(1), key(1)}, false) // once too often
	for i := 100; i < 140; i++ {
		add(t, s, i, Key{}, time.Second)
	}
	if has(s, 0) || has(s, 1) || s.Stats().Pinned != 0 {
		t.Errorf("records 0 and 1 are there without pins: %v, %v; stats %+v", has(s, 0), has(s, 1), s.Stats())
	}
	s.check(t)
}

// TestAllPinned fills a store with what must stay: what comes then is not written, and the disk does not fail by that.
func TestAllPinned(t *testing.T) {
	s := fillable(t)
	for i := range 60 {
		s.Pin("a", []Key{key(i)}, true)
		add(t, s, i, Key{}, time.Millisecond)
	}
	st := s.Stats()
	if st.Failing != nil || st.Dropped == 0 || st.Evicted != 0 || st.Records != st.Pinned || st.Records+int(st.Dropped) != 60 {
		t.Errorf("stats %+v", st)
	}
	for i := range st.Records {
		wantRecord(t, s, "a", i, 4000)
	}
	s.check(t)
}

// TestRanksOutliveTheStore opens a full store again: what was used most is still worth most.
func TestRanksOutliveTheStore(t *testing.T) {
	files := newTestFiles()
	o := Options{Dir: "cache", MaxBytes: 100 << 10, SegmentBytes: 16 << 10, files: files}
	s := open(t, o)
	for i := range 18 {
		add(t, s, i, Key{}, time.Millisecond)
	}
	for range 5 {
		wantRecord(t, s, "a", 2, 4000)
	}
	s.Close()
	s = open(t, o)
	for i := 100; i < 130; i++ {
		add(t, s, i, Key{}, time.Millisecond)
	}
	if !has(s, 2) || has(s, 3) {
		t.Errorf("record 2, used often, is there: %v; record 3, used once: %v", has(s, 2), has(s, 3))
	}
}
