package disk

import (
	"errors"
	"fmt"
	"time"
)

// write is the writer. Commands go before records, so that whoever waits does not wait for the whole queue.
func (s *Store) write() {
	defer close(s.done)
	for {
		select {
		case command := <-s.commands:
			command()
			continue
		default:
		}
		if s.writeNext() {
			continue
		}
		select {
		case command := <-s.commands:
			command()
		case <-s.wake:
		case <-s.quit:
			s.syncNow()
			return
		}
	}
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
	s.queuedBytes -= int64(len(q.record.Data))
	e, rank := q.entry, 0.0
	if e != nil {
		rank = e.rank
	}
	s.mu.Unlock()

	if e != nil {
		if err := s.append(e, q.record, rank); err != nil {
			s.mu.Lock()
			s.stats.Dropped++
			s.table.remove(e)
			s.mu.Unlock()
			if err != errFull {
				s.fail(err)
			}
		}
	}
	s.abandon(q)
	return true
}

// errFull says that everything else is worth more, or pinned.
var errFull = errors.New("kvcache/disk: no room")

// append writes a record at the end of the active segment.
func (s *Store) append(e *entry, r Record, rank float64) error {
	if !s.makeRoom(e.recordBytes()) {
		return errFull
	}
	t := e.node.tenant
	if t.slot < 0 {
		if err := s.table.keys.save(t); err != nil {
			return err
		}
	}
	if err := s.roll(); err != nil {
		return err
	}
	began := time.Now()
	m := meta{key: r.Key, parent: r.Parent, kind: r.Kind, tokens: r.Tokens, recompute: r.Recompute, rank: rank}
	s.buffer = sealRecord(s.buffer[:0], t, m, r.Data)
	seg := s.active
	if _, err := seg.file.WriteAt(s.buffer, seg.size); err != nil {
		if seg.file.Truncate(seg.size) != nil {
			s.active = nil // what follows the hold bytes is unknown
		}
		return fmt.Errorf("kvcache/disk: %w", err)
	}
	took := time.Since(began)

	s.mu.Lock()
	e.segment, e.offset, e.slot, e.queued = seg, seg.size, len(seg.entries), nil
	seg.entries = append(seg.entries, e)
	seg.size += e.recordBytes()
	seg.live += e.recordBytes()
	s.table.update(e.node)
	s.stats.Written++
	s.stats.WrittenBytes += uint64(len(r.Data))
	s.stats.WriteSpeed = blend(s.stats.WriteSpeed, len(r.Data), took)
	recovered := s.failing != nil
	s.failing = nil
	s.mu.Unlock()
	if recovered {
		s.options.Logger.Info("the cache folder can be written again", "folder", s.options.Dir)
	}
	return nil
}

// roll begins a segment when there is none that has room.
func (s *Store) roll() error {
	if s.active != nil && s.active.size < s.options.SegmentBytes {
		return nil
	}
	if s.active != nil {
		if err := s.active.file.Sync(); err != nil {
			return fmt.Errorf("kvcache/disk: %w", err)
		}
		s.active = nil
	}
	seg, err := createSegment(s.files, s.options.Dir, s.number+1)
	if err != nil {
		return fmt.Errorf("kvcache/disk: %w", err)
	}
	s.number++
	s.active = seg
	s.mu.Lock()
	s.segments = append(s.segments, seg)
	s.mu.Unlock()
	return nil
}

// fail notes that the disk cannot be written, and tells the operator once.
func (s *Store) fail(err error) {
	s.mu.Lock()
	first := s.failing == nil
	s.failing, s.retryAt = err, s.options.Now().Add(s.options.RetryAfter)
	s.mu.Unlock()
	if first {
		s.options.Logger.Warn("the cache folder cannot be written: requests go on without it", "folder", s.options.Dir, "error", err)
	}
}

// syncNow writes the queue and makes all of it durable.
func (s *Store) syncNow() error {
	for s.writeNext() {
	}
	s.mu.Lock()
	failing := s.failing
	s.mu.Unlock()
	if failing != nil || s.active == nil {
		return failing
	}
	if err := s.active.file.Sync(); err != nil {
		s.fail(fmt.Errorf("kvcache/disk: %w", err))
		return err
	}
	return s.files.SyncDir(s.options.Dir)
}
