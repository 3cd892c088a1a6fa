package disk

import (
	"errors"
	"fmt"
)

// makeRoom lets records give way until n more bytes fit; false when they never do.
func (s *Store) makeRoom(n int64) bool {
	for {
		s.mu.Lock()
		fits := s.diskBytes()+n <= s.options.MaxBytes
		victim := s.table.ranking.first()
		if !fits && victim != nil {
			s.table.ranking.age = max(s.table.ranking.age, victim.rank)
		}
		s.mu.Unlock()
		switch {
		case fits:
			return true
		case victim == nil:
			return false
		}
		if s.erase(victim, false) != nil {
			return false
		}
		s.mu.Lock()
		s.stats.Evicted++
		s.mu.Unlock()
	}
}

// shred erases entries, so that their bytes can be read by nobody, and waits until that is durable.
func (s *Store) shred(entries []*entry) error {
	var err error
	touched := map[*segment]bool{}
	for _, e := range entries {
		if e == nil {
			continue
		}
		s.mu.Lock()
		q := e.queued
		if q != nil {
			q.entry, e.queued = nil, nil
			s.table.remove(e)
		}
		s.mu.Unlock()
		if q == nil {
			touched[e.segment] = true
			err = errors.Join(err, s.erase(e, true))
		}
	}
	for seg := range touched {
		err = errors.Join(err, seg.file.Sync())
	}
	return err
}

// zeros overwrites.
var zeros [64 << 10]byte

// holeBytes is the size of a file system's block, the least that can be given back.
const holeBytes = 4096

// erase takes an entry out of the table and out of its file: the header says so, the space is given back.
func (s *Store) erase(e *entry, overwrite bool) error {
	s.mu.Lock()
	s.drop(e)
	s.mu.Unlock()
	seg := e.segment
	var h header
	if _, err := seg.file.ReadAt(h[:], e.offset); err != nil {
		return fmt.Errorf("kvcache/disk: %w", err)
	}
	if h.check() != nil || h.dataBytes() != e.dataBytes {
		h = header{} // a damaged header: only its length is known to us
		h[12], h[13], h[14], h[15] = byte(e.dataBytes), byte(e.dataBytes>>8), byte(e.dataBytes>>16), byte(e.dataBytes>>24)
	}
	h.erase()
	if _, err := seg.file.WriteAt(h[:], e.offset); err != nil {
		return fmt.Errorf("kvcache/disk: %w", err)
	}
	from, to := e.offset+headerBytes, e.offset+e.recordBytes()
	if overwrite {
		for at := from; at < to; at += int64(len(zeros)) {
			if _, err := seg.file.WriteAt(zeros[:min(to-at, int64(len(zeros)))], at); err != nil {
				return fmt.Errorf("kvcache/disk: %w", err)
			}
		}
	}
	from, to = (from+holeBytes-1)/holeBytes*holeBytes, to/holeBytes*holeBytes
	if from < to && seg.file.Punch(from, to-from) == nil {
		s.mu.Lock()
		seg.holes += to - from
		s.mu.Unlock()
	}
	return nil
}
