package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"
	"time"
)

// Invariants of a store:
//
//  1. The writer, one goroutine, is the only one that changes files. Others read segments.
//  2. mu guards everything in memory, and is never held over a call to the file system or to a caller's function.
//  3. A record is in the table from the moment that Put takes it. Until it is in a file, it is read from the caller's bytes.
//  4. What Read returns was authenticated under the key that was asked for, whatever the table says.
//  5. A segment's file is closed by whoever needs it last: the writer, or a reader that was under way.

// Store is records in files. Its methods are safe for concurrent use.
type Store struct {
	options Options
	files   fileSystem

	mu          sync.Mutex
	table       table
	queue       []*queued
	queuedBytes int64
	writing     int        // records out of the queue that are not written yet
	segments    []*segment // by number; the writer reads them without the mutex, since it alone changes them
	failing     error
	retryAt     time.Time
	closed      bool
	dead        []*entry // out of the table, to be erased
	stats       Stats    // counters and speeds; the rest is computed

	scratches sync.Pool // of *scratch

	// The writer's.
	lock      file
	active    *segment // nil: the next record begins one
	moving    *segment // is being compacted
	number    uint64   // of the last segment
	buffer    []byte
	leftovers []string // files that could not be removed yet
	told      bool     // the operator knows that the disk fails
	toldAt    time.Time
	commands  chan func()   // never closed
	wake      chan struct{} // never closed
	quit      chan struct{} // closed by Close
	done      chan struct{} // closed by the writer
}

// queued is a record that waits. Its counts belong to the store's mutex.
type queued struct {
	entry     *entry // nil: nobody wants it any more
	record    Record
	readers   int
	abandoned bool // the last reader calls Release
}

var errClosed = errors.New("kvcache/disk: the store is closed")

// Open opens a folder, which it makes when it is not there, and starts the writer. It fails when another process has the
// folder open, or when the key file is there but is no key. Records that cannot be used are none.
func Open(options Options) (*Store, error) {
	if err := options.Validate(); err != nil {
		return nil, err
	}
	options.setDefaults()
	s := &Store{
		options: options, files: options.files,
		commands: make(chan func()), wake: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{}),
	}
	if err := s.load(); err != nil {
		s.closeFiles()
		return nil, err
	}
	go s.write()
	return s, nil
}

// Put takes a record to be written soon, without waiting. It returns false when it does not take it: the queue is full,
// the disk fails, the record is one that no store could have room for. Then Data stays the caller's, and Release is not called.
// Otherwise Data must not change until Release is called, which for a record that is there already is at once.
func (s *Store) Put(r Record) bool {
	s.mu.Lock()
	known, ok := s.take(r)
	if !known && !ok {
		s.stats.Dropped++
	}
	s.mu.Unlock()
	switch {
	case known:
		if r.Release != nil {
			r.Release()
		}
	case ok:
		s.signal()
	}
	return ok
}

// maxData is the most that a record may have for there ever to be room for it.
func (s *Store) maxData() int64 {
	return min(maxDataBytes, s.options.MaxBytes-s.options.SegmentBytes-overheadBytes-slotBytes-4*fileHeaderBytes)
}

// take queues a record that is not known yet.
func (s *Store) take(r Record) (known, ok bool) {
	if s.closed || int64(len(r.Data)) > s.maxData() || r.Kind > State || r.Tokens < 0 || r.Tokens > math.MaxInt32 || r.Recompute < 0 {
		return false, false
	}
	if e := s.entry(r.Tenant, r.Key, r.Kind); e != nil {
		s.table.ranking.use(e)
		return true, true
	}
	if s.resting() || s.queuedBytes > 0 && s.queuedBytes+int64(len(r.Data)) > s.options.QueueBytes {
		return false, false
	}
	t := s.table.keys.add(r.Tenant)
	if t == nil {
		return false, false
	}
	e := &entry{dataBytes: len(r.Data), position: -1}
	e.describe(t.node(r.Key), meta{kind: r.Kind, tokens: r.Tokens, recompute: r.Recompute})
	e.rank = s.table.ranking.age + e.value
	e.queued = &queued{entry: e, record: r}
	s.queue = append(s.queue, e.queued)
	s.queuedBytes += int64(len(r.Data))
	s.table.insert(e, r.Parent)
	return false, true
}

// signal wakes the writer.
func (s *Store) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// entry finds a record; nil when it is not there.
func (s *Store) entry(tenant string, key Key, kind Kind) *entry {
	t := s.table.keys.find(tenant)
	if t == nil || kind > State {
		return nil
	}
	n := t.nodes[key]
	if n == nil {
		return nil
	}
	return n.entries[kind]
}

// Has reports whether a record is there, written or about to be, and how many bytes its data has. It looks into memory only.
func (s *Store) Has(tenant string, key Key, kind Kind) (size int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, false
	}
	e := s.entry(tenant, key, kind)
	if e == nil {
		return 0, false
	}
	return e.dataBytes, true
}

// Read copies a record's data to dst and returns its length. ErrMissing says that the record is not there whole and
// authentic; what dst holds then is undefined. dst shorter than the data is io.ErrShortBuffer.
func (s *Store) Read(tenant string, key Key, kind Kind, dst []byte) (int, error) {
	for {
		s.mu.Lock()
		e := s.entry(tenant, key, kind)
		if e == nil || s.closed {
			s.stats.Missed++
			s.mu.Unlock()
			return 0, ErrMissing
		}
		if len(dst) < e.dataBytes {
			s.mu.Unlock()
			return 0, fmt.Errorf("kvcache/disk: a record of %d bytes: %w", e.dataBytes, io.ErrShortBuffer)
		}
		s.table.ranking.use(e)
		if q := e.queued; q != nil {
			q.readers++
			s.mu.Unlock()
			copy(dst, q.record.Data)
			s.releaseQueued(q)
			return s.found(e.dataBytes, 0)
		}
		seg := e.segment
		seg.readers++
		s.mu.Unlock()

		began := time.Now()
		err := s.readAt(seg, e, dst)
		took := time.Since(began)

		s.mu.Lock()
		s.leave(seg)
		same := e.listed()
		if err != nil && same {
			s.stats.Damaged++
			s.stats.Missed++
			s.drop(e)
		}
		s.mu.Unlock()
		switch {
		case err == nil:
			return s.found(e.dataBytes, took)
		case same:
			s.signal()
			return 0, ErrMissing
		}
		// It was moved or removed meanwhile.
	}
}

// readAt reads and authenticates a record.
func (s *Store) readAt(seg *segment, e *entry, dst []byte) error {
	scratch := s.borrow(e.recordBytes())
	defer s.giveBack(scratch)
	if _, err := seg.file.ReadAt(scratch.record, e.offset); err != nil {
		return err
	}
	m, err := openRecord(scratch.record, e.node.tenant, &scratch.meta, dst)
	if err == nil && (m.key != e.node.key || m.kind != e.kind) {
		err = errFormat
	}
	return err
}

// scratch is the memory for a record that is read or copied.
type scratch struct {
	record []byte
	meta   [metaBytes]byte // opened
}

// borrow returns a scratch with a record of n bytes.
func (s *Store) borrow(n int64) *scratch {
	b, ok := s.scratches.Get().(*scratch)
	if !ok {
		b = &scratch{}
	}
	if int64(cap(b.record)) < n {
		b.record = make([]byte, n)
	}
	b.record = b.record[:n]
	return b
}

func (s *Store) giveBack(b *scratch) {
	if cap(b.record) <= maxKeptBytes {
		s.scratches.Put(b)
	}
}

// found counts a read, and how fast it was when it came from a file.
func (s *Store) found(n int, took time.Duration) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Read++
	s.stats.ReadBytes += uint64(n)
	if took > 0 {
		s.stats.ReadSpeed = blend(s.stats.ReadSpeed, n, took)
	}
	return n, nil
}

// blend is a moving average of bytes per second.
func blend(speed float64, n int, took time.Duration) float64 {
	now := float64(n) / took.Seconds()
	if speed == 0 {
		return now
	}
	return speed + (now-speed)/16
}

// drop takes a written entry out of the table, and lets the writer erase it.
func (s *Store) drop(e *entry) {
	s.table.remove(e)
	s.dead = append(s.dead, e)
}

// leave ends a reader's use of a segment.
func (s *Store) leave(seg *segment) {
	seg.readers--
	if seg.gone && seg.readers == 0 {
		seg.file.Close() // there is nothing left to lose
	}
}

// releaseQueued ends a reader's use of a queued record.
func (s *Store) releaseQueued(q *queued) {
	s.mu.Lock()
	q.readers--
	free := q.abandoned && q.readers == 0
	s.mu.Unlock()
	if free && q.record.Release != nil {
		q.record.Release()
	}
}

// abandon gives a queued record's bytes back to the caller, at once or when its last reader is done.
func (s *Store) abandon(q *queued) {
	s.mu.Lock()
	q.abandoned = true
	free := q.readers == 0
	s.mu.Unlock()
	if free && q.record.Release != nil {
		q.record.Release()
	}
}

// Pin keeps the records of keys, those that will be put later included, from giving way to others, or ends that. Pins
// are counted, so that two owners may pin what they share: each call with on takes one without. They end with the store.
func (s *Store) Pin(tenant string, keys []Key, on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.table.keys.find(tenant)
	if on {
		t = s.table.keys.add(tenant)
	}
	if t == nil || s.closed {
		return
	}
	for _, key := range keys {
		if on {
			s.table.pin(t.node(key), 1)
		} else if n := t.nodes[key]; n != nil {
			s.table.pin(n, -1)
		}
	}
}

// Remove forgets records, both kinds of each key. When it returns nil their bytes are overwritten, and given back to the
// file system where it can. An error says that the disk cannot be written: then the store tries again later, but only until
// it is closed.
func (s *Store) Remove(tenant string, keys []Key) error {
	return s.command(func() error {
		s.mu.Lock()
		var entries []*entry
		if t := s.table.keys.find(tenant); t != nil {
			for _, key := range keys {
				if n := t.nodes[key]; n != nil {
					entries = append(entries, n.entries[:]...)
				}
			}
		}
		entries = s.forget(entries)
		s.mu.Unlock()
		return s.shred(entries)
	})
}

// RemoveTenant forgets, like Remove, all that a tenant has, its pins, and what its keys were derived from.
func (s *Store) RemoveTenant(tenant string) error {
	return s.command(func() error {
		s.mu.Lock()
		t := s.table.keys.find(tenant)
		if t == nil {
			s.mu.Unlock()
			return nil
		}
		s.table.keys.forget(tenant, t) // whatever comes from now on is a new tenant's
		var entries []*entry
		for _, n := range t.nodes {
			entries = append(entries, n.entries[:]...)
		}
		entries = s.forget(entries)
		s.mu.Unlock()
		s.table.keys.doomed = append(s.table.keys.doomed, t)
		return s.shred(entries)
	})
}

// forget takes entries out of the table, and returns those that are in files.
func (s *Store) forget(entries []*entry) (written []*entry) {
	for _, e := range entries {
		if e == nil || !e.listed() { // a key that was named twice
			continue
		}
		s.table.remove(e)
		if e.queued != nil {
			e.queued.entry = nil
		} else {
			written = append(written, e)
		}
	}
	return written
}

// Sync waits until all records that were put before are written and durable.
func (s *Store) Sync(ctx context.Context) error {
	result := make(chan error, 1)
	command := func() { result <- s.syncNow() }
	select {
	case s.commands <- command:
	case <-s.done:
		return errClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// command runs a function on the writer and waits for it.
func (s *Store) command(run func() error) error {
	result := make(chan error, 1)
	select {
	case s.commands <- func() { result <- run() }:
		return <-result
	case <-s.done:
		return errClosed
	}
}

// Stats returns what the store holds and has done.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	stats := s.stats
	stats.Records, stats.Pinned, stats.Queued = s.table.records, s.table.pinned, len(s.queue)+s.writing
	stats.Bytes, stats.Budget, stats.Failing = s.diskBytes(), s.options.MaxBytes, s.failing
	for _, seg := range s.segments {
		stats.Garbage += seg.garbage()
	}
	return stats
}

// diskBytes is what all files take.
func (s *Store) diskBytes() int64 {
	n := int64(0)
	for _, seg := range s.segments {
		n += seg.diskBytes()
	}
	return n
}

// Close writes what is queued, makes it durable, and closes the files. The methods of a closed store find and take nothing.
func (s *Store) Close() error {
	s.mu.Lock()
	closed := s.closed
	s.closed = true
	s.mu.Unlock()
	if closed {
		<-s.done
		return nil
	}
	close(s.quit)
	<-s.done
	return s.closeFiles()
}

// closeFiles closes everything but segments that are being read.
func (s *Store) closeFiles() error {
	var err error
	s.mu.Lock()
	segments := slices.Clone(s.segments)
	s.mu.Unlock()
	for _, seg := range segments {
		if seg.index != nil {
			err = errors.Join(err, seg.index.file.Close())
		}
		err = errors.Join(err, s.release(seg))
	}
	if s.table.keys != nil {
		err = errors.Join(err, s.table.keys.file.Close())
	}
	if s.lock != nil {
		err = errors.Join(err, s.lock.Close())
	}
	return err
}

// release closes a segment's file, unless a reader does.
func (s *Store) release(seg *segment) error {
	s.mu.Lock()
	seg.gone = true
	free := seg.readers == 0
	s.mu.Unlock()
	if free {
		return seg.file.Close()
	}
	return nil
}
