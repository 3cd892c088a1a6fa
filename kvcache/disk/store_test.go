package disk

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

func key(i int) (k Key) {
	binary.LittleEndian.PutUint64(k[:], uint64(i)+1)
	return k
}

// data is what the record i of a test holds.
func data(i, n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(uint64(i), 7))
	for j := range b {
		b[j] = byte(r.Uint32())
	}
	return b
}

func open(t *testing.T, o Options) *Store {
	t.Helper()
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func put(t *testing.T, s *Store, tenant string, i, n int) {
	t.Helper()
	r := Record{Tenant: tenant, Key: key(i), Tokens: 32 * (i + 1), Recompute: time.Millisecond, Data: data(i, n)}
	if !s.Put(r) {
		t.Fatalf("record %d of %q was not taken", i, tenant)
	}
}

func wantRecord(t *testing.T, s *Store, tenant string, i, n int) {
	t.Helper()
	if size, ok := s.Has(tenant, key(i), Block); !ok || size != n {
		t.Fatalf("Has record %d of %q: %d bytes, %v, want %d", i, tenant, size, ok, n)
	}
	dst := make([]byte, n)
	if got, err := s.Read(tenant, key(i), Block, dst); err != nil || got != n || !bytes.Equal(dst, data(i, n)) {
		t.Fatalf("Read record %d of %q: %d bytes, error %v, equal %v", i, tenant, got, err, bytes.Equal(dst, data(i, n)))
	}
}

func wantMissing(t *testing.T, s *Store, tenant string, i, n int) {
	t.Helper()
	if got, err := s.Read(tenant, key(i), Block, make([]byte, n)); !errors.Is(err, ErrMissing) {
		t.Fatalf("Read record %d of %q: %d bytes, error %v, want ErrMissing", i, tenant, got, err)
	}
}

func flush(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Sync(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func TestRecordsOutliveTheStore(t *testing.T) {
	o := Options{Dir: filepath.Join(t.TempDir(), "cache"), SegmentBytes: 64 << 10}
	s := open(t, o)
	for i := range 40 {
		put(t, s, "a", i, 1000*i)
		wantRecord(t, s, "a", i, 1000*i)
	}
	flush(t, s)
	for i := range 40 {
		wantRecord(t, s, "a", i, 1000*i)
		wantMissing(t, s, "b", i, 1000*i)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wantMissing(t, s, "a", 1, 1000)
	s = open(t, o)
	for i := range 40 {
		wantRecord(t, s, "a", i, 1000*i)
		wantMissing(t, s, "b", i, 1000*i)
	}
	if st := s.Stats(); st.Records != 40 || st.Read != 40 || st.Missed != 40 || st.Damaged != 0 {
		t.Errorf("stats %+v", st)
	}
}

func TestReleaseIsCalledOnce(t *testing.T) {
	s := open(t, Options{Dir: "cache", files: newTestFiles()})
	var mu sync.Mutex
	released := map[int]int{}
	for i := range 20 {
		for range 2 {
			r := Record{Tenant: "a", Key: key(i), Data: data(i, 5000), Release: func() { mu.Lock(); released[i]++; mu.Unlock() }}
			if !s.Put(r) {
				t.Fatal("not taken")
			}
		}
	}
	flush(t, s)
	for i := range 20 {
		if released[i] != 2 {
			t.Errorf("record %d was released %d times, want 2", i, released[i])
		}
	}
}

func TestRemoveShreds(t *testing.T) {
	o := Options{Dir: t.TempDir()}
	s := open(t, o)
	for i := range 10 {
		put(t, s, "a", i, 20000)
		put(t, s, "b", i, 20000)
	}
	flush(t, s)
	before, _ := os.ReadFile(segmentPath(o.Dir, 1))
	e := s.entry("a", key(3), Block)
	if err := s.Remove("a", []Key{key(3), key(77), key(3)}); err != nil {
		t.Fatal(err)
	}
	put(t, s, "a", 99, 100)
	if err := s.Remove("a", []Key{key(99)}); err != nil {
		t.Fatal(err)
	}
	wantMissing(t, s, "a", 3, 20000)
	wantMissing(t, s, "a", 99, 100)
	wantRecord(t, s, "b", 3, 20000)
	after, _ := os.ReadFile(segmentPath(o.Dir, 1))
	if record := after[e.offset+headerBytes : e.offset+e.recordBytes()]; !bytes.Equal(record, make([]byte, len(record))) {
		t.Error("the bytes of a removed record are still there")
	}
	if len(after) < len(before) {
		t.Errorf("the file has %d bytes, had %d", len(after), len(before))
	}
	if err := s.RemoveTenant("b"); err != nil {
		t.Fatal(err)
	}
	put(t, s, "b", 5, 100)
	s.Close()
	s = open(t, o)
	for i := range 10 {
		switch i {
		case 3:
			wantMissing(t, s, "a", i, 20000)
		default:
			wantRecord(t, s, "a", i, 20000)
		}
		if i != 5 {
			wantMissing(t, s, "b", i, 20000)
		}
	}
	wantRecord(t, s, "b", 5, 100)
}

func TestShortDestination(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir()})
	put(t, s, "a", 1, 100)
	if _, err := s.Read("a", key(1), Block, make([]byte, 99)); !errors.Is(err, io.ErrShortBuffer) {
		t.Errorf("error %v, want io.ErrShortBuffer", err)
	}
}

func TestBudgetHolds(t *testing.T) {
	o := Options{Dir: "cache", MaxBytes: 1 << 20, SegmentBytes: 64 << 10, files: newTestFiles()}
	s := open(t, o)
	for i := range 200 {
		put(t, s, "a", i, 20000)
		flush(t, s)
		if st := s.Stats(); st.Bytes > o.MaxBytes {
			t.Fatalf("after record %d: %d bytes of %d", i, st.Bytes, o.MaxBytes)
		}
	}
	wantRecord(t, s, "a", 199, 20000)
	wantMissing(t, s, "a", 0, 20000)
}

// dropIndexes removes the files that only help to start.
func dropIndexes(t testing.TB, dir string) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.index"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no index in %s: %v", dir, err)
	}
	for _, path := range paths {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// TestEverythingAtOnce uses one store from many goroutines.
func TestEverythingAtOnce(t *testing.T) {
	s := open(t, Options{Dir: "cache", MaxBytes: 256 << 10, SegmentBytes: 16 << 10, QueueBytes: 64 << 10, files: newTestFiles()})
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 3))
			tenant := string(rune('a' + g%3))
			dst := make([]byte, 4000)
			for range 400 {
				i := r.IntN(80)
				switch r.IntN(12) {
				default:
					s.Put(Record{Tenant: tenant, Key: key(i), Recompute: time.Millisecond, Data: data(i, 50*i)})
				case 0, 1, 2, 3, 4:
					n, err := s.Read(tenant, key(i), Block, dst)
					if err != nil && !errors.Is(err, ErrMissing) || err == nil && !bytes.Equal(dst[:n], data(i, 50*i)) {
						t.Errorf("record %d: %d bytes, error %v", i, n, err)
					}
				case 5:
					if err := s.Remove(tenant, []Key{key(i)}); err != nil {
						t.Error(err)
					}
				case 6:
					s.Pin(tenant, []Key{key(i)}, r.IntN(2) == 0)
				case 7:
					s.Stats()
					if r.IntN(20) == 0 {
						if err := s.RemoveTenant(tenant); err != nil {
							t.Error(err)
						}
					}
				case 8:
					if err := s.Sync(context.Background()); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	all.Wait()
	flush(t, s)
	s.check(t)
	if st := s.Stats(); st.Damaged != 0 || st.Failing != nil || st.Queued != 0 {
		t.Errorf("stats %+v", st)
	}
}

// TestCloseWhileReading closes a store while a reader waits for the file system: the reader gets what it asked for, and
// the file is closed behind it.
func TestCloseWhileReading(t *testing.T) {
	files := newTestFiles()
	s := open(t, Options{Dir: "cache", files: files})
	put(t, s, "a", 1, 5000)
	flush(t, s)
	reading, goOn, result := make(chan struct{}), make(chan struct{}), make(chan error)
	files.set(func(call, path string) error {
		if call == "read" && path == segmentPath("cache", 1) {
			close(reading)
			<-goOn
		}
		return nil
	})
	dst := make([]byte, 5000)
	go func() {
		_, err := s.Read("a", key(1), Block, dst)
		result <- err
	}()
	<-reading
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if files.opened != 1 {
		t.Errorf("%d files are open, want 1", files.opened)
	}
	close(goOn)
	if err := <-result; err != nil || !bytes.Equal(dst, data(1, 5000)) {
		t.Errorf("error %v, equal %v", err, bytes.Equal(dst, data(1, 5000)))
	}
	if files.opened != 0 {
		t.Errorf("%d files are open, want none", files.opened)
	}
}

// TestReleaseWaitsForReaders writes a record that is being read from the queue.
func TestReleaseWaitsForReaders(t *testing.T) {
	s := open(t, Options{Dir: "cache", files: newTestFiles()})
	release, waiting := make(chan struct{}), make(chan struct{})
	go s.command(func() error { close(waiting); <-release; return nil })
	<-waiting
	released := make(chan struct{})
	if !s.Put(Record{Tenant: "a", Key: key(1), Data: data(1, 100), Release: func() { close(released) }}) {
		t.Fatal("not taken")
	}
	s.mu.Lock()
	q := s.queue[0]
	q.readers++
	s.mu.Unlock()
	close(release)
	flush(t, s)
	select {
	case <-released:
		t.Error("the record is released while it is read")
	default:
	}
	s.releaseQueued(q)
	<-released
}

// TestQueuedUntilWritten counts a record as queued as long as it is being written.
func TestQueuedUntilWritten(t *testing.T) {
	files := newTestFiles()
	s := open(t, Options{Dir: "cache", files: files})
	writing, written := make(chan struct{}), make(chan struct{})
	files.set(func(call, path string) error {
		if call == "write" && path == segmentPath("cache", 1) {
			files.set(nil)
			close(writing)
			<-written
		}
		return nil
	})
	put(t, s, "a", 1, 5000)
	<-writing
	if n := s.Stats().Queued; n != 1 {
		t.Errorf("%d records are queued while one is written", n)
	}
	close(written)
	flush(t, s)
	if n := s.Stats().Queued; n != 0 {
		t.Errorf("%d records are queued in the end", n)
	}
}

// TestFullQueueRefuses fills the queue while the writer waits.
func TestFullQueueRefuses(t *testing.T) {
	s := open(t, Options{Dir: "cache", QueueBytes: 10000, files: newTestFiles()})
	release, waiting := make(chan struct{}), make(chan struct{})
	go s.command(func() error { close(waiting); <-release; return nil })
	<-waiting
	for i := range 2 {
		put(t, s, "a", i, 5000)
		wantRecord(t, s, "a", i, 5000) // from the queue
	}
	released := false
	if s.Put(Record{Tenant: "a", Key: key(3), Data: data(3, 1), Release: func() { released = true }}) || released {
		t.Error("a full queue takes a record, or releases it")
	}
	if st := s.Stats(); st.Queued != 2 || st.Dropped != 1 || st.Records != 2 {
		t.Errorf("stats %+v", st)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Sync(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Sync: %v, want context.Canceled", err)
	}
	close(release)
	flush(t, s)
	put(t, s, "a", 3, 5000)
}

func TestRecordsThatNeverFit(t *testing.T) {
	s := open(t, Options{Dir: "cache", MaxBytes: 64 << 10, files: newTestFiles()})
	put(t, s, "a", 1, 1000)
	for _, r := range []Record{
		{Data: make([]byte, 64<<10)}, {Data: make([]byte, 48<<10)}, {Kind: 2}, {Tokens: -1}, {Recompute: -1},
	} {
		r.Tenant, r.Key = "a", key(2)
		if s.Put(r) {
			t.Errorf("a record of %d bytes, kind %d, %d tokens, %v is taken", len(r.Data), r.Kind, r.Tokens, r.Recompute)
		}
	}
	put(t, s, "a", 3, 47<<10)
	flush(t, s)
	if st := s.Stats(); st.Dropped != 5 || st.Bytes > st.Budget {
		t.Errorf("stats %+v", st)
	}
	wantRecord(t, s, "a", 3, 47<<10)
}

func TestReadDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes pools forget")
	}
	s := open(t, Options{Dir: t.TempDir()})
	put(t, s, "a", 1, 100_000)
	flush(t, s)
	dst := make([]byte, 100_000)
	if n := testing.AllocsPerRun(100, func() { s.Read("a", key(1), Block, dst) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestOptionsNameTheField(t *testing.T) {
	for field, o := range map[string]Options{
		"Dir":          {},
		"MaxBytes":     {Dir: "x", MaxBytes: -1},
		"SegmentBytes": {Dir: "x", MaxBytes: 1 << 20, SegmentBytes: 1 << 20},
		"QueueBytes":   {Dir: "x", QueueBytes: -1},
		"RetryAfter":   {Dir: "x", RetryAfter: -1},
	} {
		if _, err := Open(o); err == nil || !bytes.Contains([]byte(err.Error()), []byte("option "+field)) {
			t.Errorf("error %v, want one that names %s", err, field)
		}
	}
}

// TestSyncEnds has a record put for every one that is written: Sync waits for those that were put before it, no others.
func TestSyncEnds(t *testing.T) {
	s := open(t, Options{Dir: "/cache", MaxBytes: 64 << 20, files: newTestFiles()})
	const most = 1000
	written := 0
	var again func()
	again = func() {
		if written++; written < most {
			s.Put(Record{Key: key(written), Data: data(written, 100), Release: again})
		}
	}
	var synced int
	if err := s.command(func() error { // the writer's own goroutine: nothing is written before
		again()
		err := s.syncNow()
		synced = written
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if synced >= most {
		t.Errorf("Sync waited for %d records, of which one was put before", synced)
	}
}
