package disk

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// story is what happened to a store, and when, in changes of files.
type story struct {
	log     []change
	data    map[modelKey][]byte
	written map[modelKey]int // when a record was in its file for sure
	removed map[modelKey]int // when it was removed for sure
	gone    map[modelKey]int // when it began to give way or to be removed
}

// tell runs a store with everything that happens to one.
func tell(t *testing.T) *story {
	t.Helper()
	files := newTestFiles()
	files.record = true
	y := &story{data: map[modelKey][]byte{}, written: map[modelKey]int{}, removed: map[modelKey]int{}, gone: map[modelKey]int{}}
	o := Options{Dir: "cache", MaxBytes: 80 << 10, SegmentBytes: 16 << 10, files: files}
	s := open(t, o)
	r := rand.New(rand.NewPCG(5, 5))
	step := func(i int) {
		k := modelKey{string(rune('a' + i%2)), key(i), Block}
		y.data[k] = data(i, r.IntN(6000))
		at := files.length()
		s.Put(Record{Tenant: k.tenant, Key: k.key, Recompute: time.Millisecond, Data: y.data[k]})
		flush(t, s)
		y.written[k] = files.length()
		for other := range y.data {
			if _, ok := s.Has(other.tenant, other.key, Block); !ok && y.gone[other] == 0 {
				y.gone[other] = at
			}
		}
	}
	remove := func(of string, keys ...Key) {
		at := files.length()
		var err error
		if keys == nil {
			err = s.RemoveTenant(of)
		} else {
			err = s.Remove(of, keys)
		}
		if err != nil {
			t.Fatal(err)
		}
		for k := range y.data {
			if _, ok := s.Has(k.tenant, k.key, Block); !ok && y.gone[k] == 0 {
				y.gone[k], y.removed[k] = at, files.length()
			}
		}
	}
	for i := range 30 {
		step(i)
		if i%5 == 4 {
			remove(string(rune('a'+i%2)), key(i), key(i-2), key(i-4))
		}
	}
	s.Close()
	s = open(t, o)
	for i := 30; i < 60; i++ {
		step(i)
		if i == 45 {
			remove("a")
		}
	}
	s.Close()
	y.log = files.log
	return y
}

// stride leaves instants out, to save time.
const stride = 3

// TestCrashAtAnyInstant cuts what a process did to its files off after each change, in the middle of the last, and looks
// at what the next process finds: all that was written, nothing that was removed.
func TestCrashAtAnyInstant(t *testing.T) {
	y := tell(t)
	if len(y.removed) < 10 || len(y.gone) < len(y.removed)+5 {
		t.Fatalf("%d records were removed, %d went: the test is too small", len(y.removed), len(y.gone))
	}
	for n := 0; n <= len(y.log); n += stride {
		s := y.reopen(t, y.log[:n], n)
		y.wantWritten(t, s, n)
		y.look(t, s, n)
	}
}

// TestPowerFailsAtAnyInstant lets the disk forget any writes that were not synced: what was is there, and what was removed
// stays so.
func TestPowerFailsAtAnyInstant(t *testing.T) {
	y := tell(t)
	r := rand.New(rand.NewPCG(9, 9))
	for n := 1; n <= len(y.log); n += 1 + r.IntN(2*stride) {
		s := y.reopen(t, losePower(y.log[:n], r), n)
		y.wantWritten(t, s, n)
		y.look(t, s, n)
	}
}

// reopen opens a store on what a log leaves.
func (y *story) reopen(t *testing.T, log []change, n int) *Store {
	t.Helper()
	files, err := replay(log)
	if err != nil {
		t.Fatalf("after %d changes: %v", n, err)
	}
	if n%2 == 1 {
		files.removeAll("cache/*.index")
	}
	s, err := Open(Options{Dir: "cache", MaxBytes: 80 << 10, SegmentBytes: 16 << 10, files: files})
	if err != nil {
		t.Fatalf("after %d changes: %v", n, err)
	}
	return s
}

// wantWritten wants those records that were durable after n changes, and had not begun to go.
func (y *story) wantWritten(t *testing.T, s *Store, n int) {
	t.Helper()
	for k, data := range y.data {
		if y.written[k] >= n || y.gone[k] != 0 && y.gone[k] < n {
			continue
		}
		if _, err := s.Read(k.tenant, k.key, k.kind, make([]byte, len(data))); err != nil {
			t.Fatalf("after %d changes: record %s %x, written at %d: %v", n, k.tenant, k.key[:4], y.written[k], err)
		}
	}
}

// look reads all records and closes the store.
func (y *story) look(t *testing.T, s *Store, n int) {
	t.Helper()
	dst := make([]byte, 6000)
	for k, want := range y.data {
		got, err := s.Read(k.tenant, k.key, k.kind, dst)
		switch {
		case err == nil && y.removed[k] > 0 && y.removed[k] < n:
			t.Fatalf("after %d changes: record %s %x was removed and is there", n, k.tenant, k.key[:4])
		case err == nil && !bytes.Equal(dst[:got], want):
			t.Fatalf("after %d changes: record %s %x is not what was written", n, k.tenant, k.key[:4])
		case err != nil && !errors.Is(err, ErrMissing):
			t.Fatalf("after %d changes: %v", n, err)
		}
	}
	put(t, s, "c", 1, 100)
	flush(t, s)
	wantRecord(t, s, "c", 1, 100)
	s.check(t)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestRemovalIsFinished ends the process when it has only said that it is going to overwrite a record.
func TestRemovalIsFinished(t *testing.T) {
	files := newTestFiles()
	files.record = true
	o := Options{Dir: "cache", files: files}
	s := open(t, o)
	for i := range 3 {
		put(t, s, "a", i, 9000)
	}
	flush(t, s)
	if err := s.Remove("a", []Key{key(1)}); err != nil {
		t.Fatal(err)
	}
	n := 1 + slices.IndexFunc(files.log, func(c change) bool {
		return c.path == segmentPath("cache", 1) && bytes.HasPrefix(c.data, erasingMagic[:])
	})
	for _, index := range []bool{true, false} {
		half, err := replay(append(files.log[:n:n], change{call: "sync"}))
		if err != nil {
			t.Fatal(err)
		}
		if !index {
			half.removeAll("cache/*.index")
		}
		o.files = half
		s := open(t, o)
		s.check(t)
		wantRecord(t, s, "a", 0, 9000)
		wantMissing(t, s, "a", 1, 9000)
		wantRecord(t, s, "a", 2, 9000)
		at := fileHeaderBytes + 9000 + overheadBytes + headerBytes
		if record := half.read(segmentPath("cache", 1))[at : at+9000]; !bytes.Equal(record, make([]byte, 9000)) {
			t.Errorf("index %v: the bytes of the record are still there", index)
		}
	}
}
