package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
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
	segments    []*segment // by number; the last may be active
	failing     error
	retryAt     time.Time
	closed      bool
	stats       Stats // counters and speeds; the rest is computed

	scratch sync.Pool // of *[]byte, for records on their way in or out

	// The writer's.
	lock     io.Closer
	active   *segment // nil: the next record begins one
	number   uint64   // of the last segment
	buffer   []byte
	commands chan func() // never closed
	wake     chan struct{}
	quit     chan struct{} // closed by Close
	done     chan struct{} // closed by the writer
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

// load reads what is in the folder.
func (s *Store) load() error {
	dir := s.options.Dir
	if err := s.files.Mkdir(dir); err != nil {
		return fmt.Errorf("kvcache/disk: %w", err)
	}
	lock, err := s.files.Lock(filepath.Join(dir, "lock"))
	if err != nil {
		return fmt.Errorf("kvcache/disk: folder %s cannot be locked, perhaps it is in use: %w", dir, err)
	}
	s.lock = lock
	key, made, err := loadKey(s.files, s.options.KeyFile)
	if err != nil {
		return err
	}
	if s.table.keys, err = openKeyring(s.files, filepath.Join(dir, "tenants"), key); err != nil {
		return err
	}
	if foreign := s.table.keys.foreign; foreign > 0 {
		s.options.Logger.Warn("cached records cannot be decrypted and are lost",
			"folder", dir, "key_file", s.options.KeyFile, "key_is_new", made, "tenants", foreign)
	}
	return s.loadSegments()
}

func (s *Store) loadSegments() error {
	names, err := s.files.ReadDir(s.options.Dir)
	if err != nil {
		return fmt.Errorf("kvcache/disk: %w", err)
	}
	for _, name := range names {
		var number uint64
		if n, err := fmt.Sscanf(name, "%016x.segment", &number); n != 1 || err != nil || filepath.Base(segmentPath("", number)) != name {
			continue
		}
		s.number = max(s.number, number)
		seg, err := openSegment(s.files, s.options.Dir, number)
		if errors.Is(err, errFormat) {
			s.options.Logger.Warn("file holds no cached records and is removed", "folder", s.options.Dir, "file", name)
			err = s.files.Remove(segmentPath(s.options.Dir, number))
			if err == nil {
				continue
			}
		}
		if err != nil {
			return fmt.Errorf("kvcache/disk: %w", err)
		}
		s.segments = append(s.segments, seg)
		if seg.size, err = seg.scan(segmentHeaderBytes, func(h *header, offset int64) { s.adopt(seg, h, offset) }); err != nil {
			return fmt.Errorf("kvcache/disk: segment %s: %w", name, err)
		}
	}
	if n := len(s.segments); n > 0 && s.segments[n-1].size < s.options.SegmentBytes {
		s.active = s.segments[n-1]
		if err := s.active.file.Truncate(s.active.size); err != nil {
			s.active = nil
		}
	}
	return nil
}

// adopt takes a record that was found into the table. Of two with one key the later stays.
func (s *Store) adopt(seg *segment, h *header, offset int64) {
	slot := len(seg.entries)
	seg.entries = append(seg.entries, nil)
	t := s.table.keys.byID[h.tenant()]
	if h.erased() || t == nil {
		return
	}
	m, err := h.open(t)
	if err != nil {
		return
	}
	n := t.node(m.key)
	if old := n.entries[m.kind]; old != nil {
		s.drop(old)
		n = t.node(m.key)
	}
	e := newEntry(n, m, h.dataBytes())
	e.segment, e.offset, e.slot, e.rank = seg, offset, slot, m.rank
	seg.entries[slot] = e
	seg.live += e.recordBytes()
	s.table.insert(e, m.parent)
}

func newEntry(n *node, m meta, dataBytes int) *entry {
	return &entry{
		node: n, kind: m.kind, dataBytes: dataBytes, tokens: m.tokens, uses: 1, position: -1,
		value: max(m.recompute, 1).Seconds() / float64(dataBytes+overheadBytes),
	}
}

// Put takes a record to be written soon, without waiting. It returns false when it does not take it: the queue is full,
// the disk fails, the record is larger than a store can have. Then Data stays the caller's, and Release is not called.
// Otherwise Data must not change until Release is called, which for a record that is there already is at once.
func (s *Store) Put(r Record) bool {
	if len(r.Data) > maxDataBytes || r.Kind > State || r.Tokens < 0 || r.Tokens > 1<<31-1 || r.Recompute < 0 {
		return false
	}
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

// take queues a record that is not known yet.
func (s *Store) take(r Record) (known, ok bool) {
	if s.closed {
		return false, false
	}
	if e := s.entry(r.Tenant, r.Key, r.Kind); e != nil {
		s.table.ranking.use(e)
		return true, true
	}
	if s.failing != nil && s.options.Now().Before(s.retryAt) ||
		s.queuedBytes > 0 && s.queuedBytes+int64(len(r.Data)) > s.options.QueueBytes {
		return false, false
	}
	t := s.table.keys.add(r.Tenant)
	if t == nil {
		return false, false
	}
	e := newEntry(t.node(r.Key), meta{kind: r.Kind, tokens: r.Tokens, recompute: r.Recompute}, len(r.Data))
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
		place := place{e.segment, e.offset}
		place.segment.readers++
		s.mu.Unlock()

		began := time.Now()
		err := s.readAt(place, e, dst)
		took := time.Since(began)

		s.mu.Lock()
		s.leave(place.segment)
		same := e.node.entries[kind] == e && e.segment == place.segment && e.offset == place.offset
		s.mu.Unlock()
		switch {
		case err == nil:
			return s.found(e.dataBytes, took)
		case same:
			s.damaged(e)
			return 0, ErrMissing
		}
		// It was moved or removed meanwhile.
	}
}

// place is where a record was when a reader looked.
type place struct {
	segment *segment
	offset  int64
}

// readAt reads and authenticates the record at a place.
func (s *Store) readAt(at place, e *entry, dst []byte) error {
	buffer := s.borrow(int(e.recordBytes()))
	defer s.scratch.Put(buffer)
	record := (*buffer)[:e.recordBytes()]
	if _, err := at.segment.file.ReadAt(record, at.offset); err != nil {
		return err
	}
	m, err := openRecord(record, e.node.tenant, dst)
	if err == nil && (m.key != e.node.key || m.kind != e.kind) {
		err = errFormat
	}
	return err
}

// borrow returns a buffer of n bytes or more.
func (s *Store) borrow(n int) *[]byte {
	if b, ok := s.scratch.Get().(*[]byte); ok && cap(*b) >= n {
		return b
	}
	b := make([]byte, n)
	return &b
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

// damaged forgets a record that was found broken.
func (s *Store) damaged(e *entry) {
	s.mu.Lock()
	s.stats.Damaged++
	s.stats.Missed++
	s.drop(e)
	s.mu.Unlock()
}

// drop takes a written entry out of the table; its bytes are garbage.
func (s *Store) drop(e *entry) {
	if e.node.entries[e.kind] != e {
		return
	}
	s.table.remove(e)
	if e.segment != nil {
		e.segment.entries[e.slot] = nil
		e.segment.live -= e.recordBytes()
	}
}

// leave ends a reader's use of a segment.
func (s *Store) leave(seg *segment) {
	seg.readers--
	if seg.gone && seg.readers == 0 {
		seg.file.Close()
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
// file system where it can; an error says that the disk cannot be written: then they are forgotten only until the folder
// is opened again.
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
		s.mu.Unlock()
		return s.shred(entries)
	})
}

// RemoveTenant forgets all that a tenant has, like Remove, and what its keys were derived from.
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
		s.mu.Unlock()
		return errors.Join(s.table.keys.shred(t), s.shred(entries))
	})
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
	stats.Records, stats.Pinned, stats.Queued = s.table.records, s.table.pinned, len(s.queue)
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
