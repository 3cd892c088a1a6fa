package disk

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// load reads what is in the folder.
func (s *Store) load() error {
	dir := s.options.Dir
	if err := s.files.Mkdir(dir); err != nil {
		return fmt.Errorf("kvcache/disk: %w", err)
	}
	lock, err := s.files.Lock(filepath.Join(dir, lockName))
	if err != nil {
		return fmt.Errorf("kvcache/disk: folder %s cannot be locked, perhaps it is in use: %w", dir, err)
	}
	s.lock = lock
	key, made, err := secretFile(s.options.KeyFile).load(s.files)
	if err != nil {
		return fmt.Errorf("kvcache/disk: key file: %w", err)
	}
	if s.table.keys, err = openKeyring(s.files, filepath.Join(dir, tenantsName), key); err != nil {
		return err
	}
	lost, err := s.loadSegments()
	if err != nil {
		return err
	}
	if lost > 0 && (made || s.table.keys.foreign > 0) {
		s.options.Logger.Warn("cached records cannot be decrypted: they are lost, and make room for new ones",
			"folder", dir, "records", lost, "key_file", s.options.KeyFile, "key_is_new", made)
	}
	if first := s.table.ranking.first(); first != nil {
		s.table.ranking.age = first.rank
	}
	return nil
}

// The other names in the folder.
const (
	lockName    = "lock"
	tenantsName = "tenants"
)

// loadSegments returns how many records are of no tenant that is known.
func (s *Store) loadSegments() (lost int, err error) {
	names, err := s.files.ReadDir(s.options.Dir)
	if err != nil {
		return 0, fmt.Errorf("kvcache/disk: %w", err)
	}
	present := map[string]bool{}
	for _, name := range names {
		present[name] = true
	}
	for _, name := range names {
		base, isIndex := strings.CutSuffix(name, ".index")
		if isIndex && !present[base+".segment"] {
			if err := s.files.Remove(filepath.Join(s.options.Dir, name)); err != nil {
				return 0, fmt.Errorf("kvcache/disk: %w", err)
			}
		}
		var number uint64
		if n, err := fmt.Sscanf(name, "%016x.segment", &number); n != 1 || err != nil || segmentPath("", number) != name {
			continue
		}
		n, err := s.loadSegment(name, number)
		if err != nil {
			return 0, fmt.Errorf("kvcache/disk: %s: %w", name, err)
		}
		lost += n
	}
	if n := len(s.segments); n > 0 {
		s.active = s.segments[n-1] // roll begins another when it is full
	}
	return lost, nil
}

func (s *Store) loadSegment(name string, number uint64) (lost int, err error) {
	s.number = max(s.number, number)
	seg, err := openSegment(s.files, s.options.Dir, number)
	if errors.Is(err, errFormat) {
		s.options.Logger.Warn("a file holds no cached records and is removed", "folder", s.options.Dir, "file", name)
		return 0, s.files.Remove(segmentPath(s.options.Dir, number))
	}
	if err != nil {
		return 0, err
	}
	s.segments = append(s.segments, seg)
	err = seg.load(s.files, func(sl *slot, number int) {
		if !s.adopt(seg, sl, number) {
			lost++
			seg.foreign = true
		}
	})
	if err != nil {
		return 0, err
	}
	return lost, seg.countHoles()
}

// adopt takes a record that was found into the table; false when nobody can read it. Of two with one key, which
// a process leaves that ends while it copies one, the later stays if it is whole: the power may have failed before it was.
func (s *Store) adopt(seg *segment, sl *slot, number int) bool {
	h := sl.header()
	if h.magic() == erasedMagic {
		return true
	}
	e := &entry{dataBytes: h.dataBytes(), offset: sl.offset(), slot: number, position: -1}
	if h.magic() == erasingMagic { // the process ended in the middle of it
		e.overwrite = true
		seg.link(e)
		s.dead = append(s.dead, e)
		return true
	}
	t := s.table.keys.byID[h.tenant()]
	if t == nil {
		return false
	}
	m, err := h.open(t, new([metaBytes]byte))
	if err != nil {
		return false
	}
	e.describe(t.node(m.key), m)
	e.rank = m.rank
	if rank := sl.rank(); sensible(rank) {
		e.rank = rank
	}
	seg.link(e)
	if old := e.node.entries[e.kind]; old != nil {
		if s.readAt(seg, e, make([]byte, e.dataBytes)) != nil {
			s.dead = append(s.dead, e)
			return true
		}
		s.drop(old)
		e.node = t.node(m.key) // it was forgotten when that was all it had
	}
	s.table.insert(e, m.parent)
	return true
}

// describe says what the entry is a record of.
func (e *entry) describe(n *node, m meta) {
	e.node, e.kind, e.tokens, e.uses = n, m.kind, m.tokens, 1
	e.value = max(m.recompute, 1).Seconds() / float64(e.recordBytes())
}
