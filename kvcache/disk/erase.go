package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
)

// How space is found for new records: records that are worth least are erased, and the file system takes their bytes
// back; what it cannot take, since it takes whole blocks or nothing at all, compaction gathers: it copies what is left of a
// segment to the end of the newest one, and removes the file.

// makeRoom lets records give way until n more bytes fit. Compaction has the last SegmentBytes of the budget for itself,
// so that there is always room for its copies.
func (s *Store) makeRoom(n int64) error {
	n += slotBytes
	for {
		s.mu.Lock()
		fits := s.diskBytes()+n+2*fileHeaderBytes <= s.options.MaxBytes-s.options.SegmentBytes
		desperate := s.table.ranking.first() == nil
		s.mu.Unlock()
		if fits {
			return nil
		}
		if s.moving == nil {
			s.moving = s.wasteful(desperate)
		}
		var err error
		switch {
		case s.moving != nil:
			err = s.move()
		case !s.dropFirst():
			return errFull
		default:
			err = s.eraseDead()
		}
		if err != nil {
			return err
		}
	}
}

// dropFirst lets the record go that is worth least; false when none may.
func (s *Store) dropFirst() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := s.table.ranking.first()
	if first == nil {
		return false
	}
	s.table.ranking.age = max(s.table.ranking.age, first.rank)
	s.drop(first)
	s.stats.Evicted++
	return true
}

// wasteful returns the segment with the most garbage when compaction of it is worth it, which it is from a quarter on:
// then a byte copied frees a third of a byte at least. When there is no other way less will do, and the active segment too.
func (s *Store) wasteful(desperate bool) *segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	var worst *segment
	for _, seg := range s.segments {
		if (seg != s.active || desperate) && (worst == nil || seg.garbage() > worst.garbage()) {
			worst = seg
		}
	}
	if worst == nil || worst.garbage() <= 0 || worst.garbage() < (worst.size-worst.holes)/4 && !desperate {
		return nil
	}
	if worst == s.active {
		s.active = nil
	}
	return worst
}

// sparse returns a full segment of which little is left: many of them would be many open files. One with records that
// nobody can read now is left alone until room is needed: perhaps somebody named the wrong key file.
func (s *Store) sparse() *segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, seg := range s.segments {
		if seg != s.active && !seg.foreign && seg.live < s.options.SegmentBytes/4 {
			return seg
		}
	}
	return nil
}

// tidy does a little of what makes room later; false when there is nothing to do.
func (s *Store) tidy() bool {
	s.mu.Lock()
	dead, failing := len(s.dead) > 0, s.failing != nil
	s.mu.Unlock()
	if failing {
		return false // the next record finds out when that has passed
	}
	var err error
	switch {
	case dead:
		err = s.eraseDead()
	case s.moving == nil:
		s.moving = s.sparse()
		return s.moving != nil
	default:
		err = s.move()
	}
	if err != nil {
		s.fail(err)
	}
	return err == nil
}

// moveBytes is about how much is copied at once, while records wait.
const moveBytes = 8 << 20

// move copies some records out of the segment that is compacted, or removes the segment when it has none. The copies are
// durable before the originals are erased.
func (s *Store) move() error {
	old := s.moving
	if err := s.eraseDead(); err != nil {
		return err
	}
	if old.first == nil {
		s.moving = nil
		return s.removeSegment(old)
	}
	var from, to []*entry
	var err error
	bytes := int64(0)
	for e := old.first; e != nil && bytes < moveBytes && err == nil; e = e.next {
		var copied *entry
		if copied, err = s.copyRecord(e); copied != nil {
			from, to, bytes = append(from, e), append(to, copied), bytes+e.recordBytes()
		}
	}
	if err == nil {
		err = s.syncSegments()
	}
	s.mu.Lock()
	for i, e := range from {
		if err != nil || !e.listed() { // a reader found it broken
			s.dead = append(s.dead, to[i])
			continue
		}
		to[i].rank, to[i].uses, to[i].position = e.rank, e.uses, e.position
		e.node.entries[e.kind] = to[i]
		s.table.ranking.replace(e, to[i])
		s.dead = append(s.dead, e)
	}
	s.mu.Unlock()
	if err != nil {
		return err
	}
	return s.eraseDead()
}

// copyRecord writes a record to the end of the active segment. The table does not have the copy yet; nil when there is
// nothing worth it.
func (s *Store) copyRecord(e *entry) (*entry, error) {
	if err := s.roll(e.recordBytes()); err != nil {
		return nil, err
	}
	scratch := s.borrow(e.recordBytes())
	defer s.giveBack(scratch)
	_, err := e.segment.file.ReadAt(scratch.record, e.offset)
	h := (*header)(scratch.record)
	whole := err == nil && h.check() == nil && h.magic() == recordMagic && h.recordBytes() == e.recordBytes()
	s.mu.Lock()
	listed, rank := e.listed(), e.rank
	if listed && !whole {
		s.stats.Damaged++
		s.drop(e)
	}
	s.mu.Unlock()
	if !listed || !whole {
		return nil, nil
	}
	copied := &entry{node: e.node, kind: e.kind, dataBytes: e.dataBytes, tokens: e.tokens, value: e.value, position: -1}
	if copied.offset, copied.slot, err = s.appendBytes(scratch.record, rank); err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.active.link(copied)
	s.mu.Unlock()
	return copied, nil
}

// removeSegment removes a segment's files.
func (s *Store) removeSegment(seg *segment) error {
	s.mu.Lock()
	s.segments = slices.DeleteFunc(s.segments, func(other *segment) bool { return other == seg })
	s.mu.Unlock()
	seg.index.lose(s.files)
	s.leftovers = append(s.leftovers, seg.path)
	err := s.release(seg) // first, since not every system removes open files
	s.removeLeftovers()
	return err
}

// removeLeftovers removes files, as far as they can be removed now.
func (s *Store) removeLeftovers() {
	s.leftovers = slices.DeleteFunc(s.leftovers, func(path string) bool {
		err := s.files.Remove(path)
		return err == nil || errors.Is(err, fs.ErrNotExist)
	})
}

// shred erases entries that the table has no longer, so that their bytes can be read by nobody, and waits until that is
// durable. What cannot be erased now is tried again later.
func (s *Store) shred(entries []*entry) error {
	for _, e := range entries {
		e.overwrite = true
	}
	s.mu.Lock()
	s.dead = append(s.dead, entries...)
	s.mu.Unlock()
	if err := s.eraseDead(); err != nil {
		s.fail(err)
		return err
	}
	return nil
}

// eraseDead erases what the table has no longer, salts first. It stops at the first error.
func (s *Store) eraseDead() error {
	if err := s.table.keys.shredDoomed(); err != nil {
		return err
	}
	s.mu.Lock()
	dead := s.dead
	s.dead = nil
	s.mu.Unlock()
	if len(dead) == 0 {
		return nil
	}
	err := s.overwrite(dead)
	done := 0
	for err == nil && done < len(dead) {
		if err = s.erase(dead[done]); err == nil {
			done++
		}
	}
	if err != nil {
		s.mu.Lock()
		s.dead = append(s.dead, dead[done:]...)
		s.mu.Unlock()
	}
	return err
}

// zeros overwrites.
var zeros [64 << 10]byte

// overwrite makes the bytes of those dead entries unreadable that were removed, not only displaced. The files say first
// what is going to happen, so that the next process finishes what this one began. The bytes must be on the disk before the
// file system takes them back, else it would never write them.
func (s *Store) overwrite(dead []*entry) error {
	touched := map[*segment]bool{}
	for _, e := range dead {
		if !e.overwrite {
			continue
		}
		var h header
		h.mark(erasingMagic, e.recordBytes())
		e.segment.index = e.segment.index.mark(s.files, e.slot, erasingMagic)
		if _, err := e.segment.file.WriteAt(h[:], e.offset); err != nil {
			return fmt.Errorf("kvcache/disk: %w", err)
		}
		for at := e.offset + headerBytes; at < e.end(); at += int64(len(zeros)) {
			if _, err := e.segment.file.WriteAt(zeros[:min(e.end()-at, int64(len(zeros)))], at); err != nil {
				return fmt.Errorf("kvcache/disk: %w", err)
			}
		}
		touched[e.segment] = true
	}
	for seg := range touched {
		if err := seg.file.Sync(); err != nil {
			return fmt.Errorf("kvcache/disk: %w", err)
		}
	}
	return nil
}

// erase takes an entry out of its segment: one header spans all that is nobody's now, and its space is given back.
func (s *Store) erase(e *entry) error {
	seg := e.segment
	seg.index = seg.index.mark(s.files, e.slot, erasedMagic)
	s.mu.Lock()
	from, to := seg.around(e)
	s.mu.Unlock()
	var h header
	h.mark(erasedMagic, to-from)
	if _, err := seg.file.WriteAt(h[:], from); err != nil {
		return fmt.Errorf("kvcache/disk: %w", err)
	}
	holes := int64(0)
	if start, end := hole(from, to); start < end && seg.file.Punch(start, end-start) == nil {
		holes = end - start - holeSize(from, e.offset) - holeSize(e.end(), to)
	}
	s.mu.Lock()
	seg.unlink(e)
	seg.holes += holes
	s.mu.Unlock()
	return nil
}
