package disk

import (
	"errors"
	"fmt"
	"time"
)

// write is the writer. Commands go before records, so that whoever waits does not wait for the whole queue; what only
// tidies up comes last, a record at a time.
func (s *Store) write() {
	defer close(s.done)
	for {
		select {
		case command := <-s.commands:
			command()
			continue
		default:
		}
		if s.writeNext() || s.tidy() {
			continue
		}
		select {
		case command := <-s.commands:
			command()
		case <-s.wake:
		case <-s.quit:
			s.finish()
			return
		}
	}
}

// finish leaves the folder as the next process wants it.
func (s *Store) finish() {
	for s.writeNext() {
	}
	s.eraseDead()
	s.removeLeftovers()
	for _, seg := range s.segments {
		ranks := map[int]float64{}
		for e := seg.first; e != nil; e = e.next {
			ranks[e.slot] = e.rank
		}
		seg.index = seg.index.rank(s.files, ranks)
	}
	s.syncNow()
}

// writeNext writes the first record of the queue; false when there is none.
func (s *Store) writeNext() bool {
	s.mu.Lock()
	if len(s.queue) == 0 {
		s.queue = nil
		s.mu.Unlock()
		return false
	}
	q := s.queue[0]
	s.queue[0] = nil
	s.queue = s.queue[1:]
	s.writing++
	s.queuedBytes -= int64(len(q.record.Data))
	e, resting := q.entry, s.resting()
	s.mu.Unlock()

	if e != nil {
		err := errResting
		if !resting {
			err = s.writeRecord(e, q.record)
		}
		if err != nil {
			s.mu.Lock()
			s.stats.Dropped++
			s.table.remove(e)
			s.mu.Unlock()
		}
		if err != nil && err != errFull && err != errResting {
			s.fail(err)
		}
	}
	s.mu.Lock()
	s.writing--
	s.mu.Unlock()
	s.abandon(q)
	return true
}

var (
	errFull    = errors.New("kvcache/disk: no room")                  // everything else is pinned
	errResting = errors.New("kvcache/disk: the disk failed just now") // and is left alone for a while
)

// resting reports whether the disk failed so recently that it is not worth asking again.
func (s *Store) resting() bool { return s.failing != nil && s.options.Now().Before(s.retryAt) }

// writeRecord writes a queued record at the end of the active segment.
func (s *Store) writeRecord(e *entry, r Record) error {
	if err := s.mend(); err != nil {
		return err
	}
	if err := s.eraseDead(); err != nil {
		return err
	}
	if err := s.makeRoom(e.recordBytes()); err != nil {
		return err
	}
	t := e.node.tenant
	if t.slot < 0 {
		if err := s.table.keys.save(t); err != nil {
			return err
		}
	}
	if err := s.roll(e.recordBytes()); err != nil {
		return err
	}
	began := time.Now()
	s.mu.Lock()
	m := meta{key: r.Key, parent: r.Parent, kind: r.Kind, tokens: r.Tokens, recompute: r.Recompute, rank: e.rank}
	s.mu.Unlock()
	s.buffer = sealRecord(s.buffer[:0], t, m, r.Data)
	offset, slot, err := s.appendBytes(s.buffer, m.rank)
	if err != nil {
		return err
	}
	took := time.Since(began)

	s.mu.Lock()
	e.offset, e.slot, e.queued = offset, slot, nil
	s.active.link(e)
	s.table.update(e.node)
	s.stats.Written++
	s.stats.WrittenBytes += uint64(len(r.Data))
	s.stats.WriteSpeed = blend(s.stats.WriteSpeed, len(r.Data), took)
	failing := s.failing != nil
	s.mu.Unlock()
	if failing {
		s.revive()
	}
	if cap(s.buffer) > maxKeptBytes {
		s.buffer = nil
	}
	return nil
}

// maxKeptBytes bounds a buffer that is kept for the next record.
const maxKeptBytes = 32 << 20

// appendBytes writes a sealed record behind all others, and into the index.
func (s *Store) appendBytes(record []byte, rank float64) (offset int64, number int, err error) {
	seg := s.active
	offset, number = seg.size, seg.slots
	if _, err := seg.file.WriteAt(record, offset); err != nil {
		if seg.file.Truncate(offset) != nil {
			s.active = nil // what the file has behind its records is unknown
		}
		return 0, 0, fmt.Errorf("kvcache/disk: %w", err)
	}
	seg.unsynced = true
	seg.index = seg.index.append(s.files, number, newSlot(offset, (*header)(record), rank))
	s.mu.Lock()
	seg.size += int64(len(record))
	seg.slots++
	s.mu.Unlock()
	return offset, number, nil
}

// roll makes the active segment one that has room for n bytes, or none yet.
func (s *Store) roll(n int64) error {
	if s.active != nil && (s.active.size+n <= s.options.SegmentBytes || s.active.slots == 0) {
		return nil
	}
	s.active = nil
	s.number++ // even when that fails: a file of this name may be somebody else's
	seg, err := createSegment(s.files, s.options.Dir, s.number)
	if err != nil {
		return fmt.Errorf("kvcache/disk: %w", err)
	}
	s.active = seg
	s.mu.Lock()
	s.segments = append(s.segments, seg)
	s.mu.Unlock()
	s.removeLeftovers()
	return nil
}

// quietTime is how long the operator is told nothing more: a disk that is nearly full may fail and work by turns.
const quietTime = time.Minute

// fail notes that the disk cannot be written, and tells the operator once.
func (s *Store) fail(err error) {
	now := s.options.Now()
	s.mu.Lock()
	first := s.failing == nil
	s.failing, s.retryAt = err, now.Add(s.options.RetryAfter)
	s.mu.Unlock()
	if first && (s.toldAt.IsZero() || now.Sub(s.toldAt) >= quietTime) {
		s.told, s.toldAt = true, now
		s.options.Logger.Warn("the cache folder cannot be written: requests go on without it", "folder", s.options.Dir, "error", err)
	}
}

// revive notes that the disk can be written, and tells the operator who was told that it could not.
func (s *Store) revive() {
	s.mu.Lock()
	s.failing = nil
	s.mu.Unlock()
	if s.told {
		s.told = false
		s.options.Logger.Info("the cache folder can be written again", "folder", s.options.Dir)
	}
}

// syncNow writes what is queued now, not what others queue meanwhile, which might never end, and makes it durable.
func (s *Store) syncNow() error {
	s.mu.Lock()
	waiting := len(s.queue)
	s.mu.Unlock()
	for range waiting {
		s.writeNext()
	}
	s.mu.Lock()
	failing := s.failing
	s.mu.Unlock()
	if failing != nil {
		return failing
	}
	err := s.mend()
	if err == nil {
		err = s.syncSegments()
	}
	if err != nil {
		s.fail(err)
	}
	return err
}

// syncSegments makes durable what was written.
func (s *Store) syncSegments() error {
	for _, seg := range s.segments {
		if !seg.unsynced {
			continue
		}
		if err := seg.file.Sync(); err != nil {
			return fmt.Errorf("kvcache/disk: %w", err)
		}
		seg.unsynced = false
	}
	if err := s.files.SyncDir(s.options.Dir); err != nil {
		return fmt.Errorf("kvcache/disk: %w", err)
	}
	return nil
}
