package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
)

// mend looks whether the folder is still the one that was opened, and begins anew in it when somebody has removed it or
// what was in it: without, records would go to files that have no name any more.
func (s *Store) mend() error {
	keys := filepath.Join(s.options.Dir, tenantsName)
	intact := s.files.Same(s.table.keys.file, keys)
	if intact && (s.active == nil || s.files.Same(s.active.file, s.active.path)) {
		return nil
	}
	s.moving, s.active = nil, nil
	for _, seg := range slices.Clone(s.segments) {
		if !s.files.Same(seg.file, seg.path) {
			s.disown(seg)
		}
	}
	if !intact {
		if err := s.beginAnew(keys); err != nil {
			return err
		}
	}
	s.options.Logger.Warn("cached records were removed by somebody else, they are computed again", "folder", s.options.Dir)
	return nil
}

// disown forgets a segment whose file has no name any more.
func (s *Store) disown(seg *segment) {
	s.mu.Lock()
	s.segments = slices.DeleteFunc(s.segments, func(other *segment) bool { return other == seg })
	s.dead = slices.DeleteFunc(s.dead, func(e *entry) bool { return e.segment == seg })
	for e := seg.first; e != nil; e = e.next {
		if e.node != nil && e.listed() {
			s.table.remove(e)
			s.stats.Lost++
		}
	}
	s.mu.Unlock()
	seg.index.lose(s.files)
	s.release(seg) // whatever it says, the file is gone
}

// beginAnew makes the folder and what belongs to it, but for the segments.
func (s *Store) beginAnew(keys string) error {
	dir := s.options.Dir
	if err := s.files.Mkdir(dir); err != nil {
		return fmt.Errorf("kvcache/disk: the folder was removed: %w", err)
	}
	if path := filepath.Join(dir, lockName); !s.files.Same(s.lock, path) {
		lock, err := s.files.Lock(path)
		if err != nil {
			return fmt.Errorf("kvcache/disk: folder %s was removed, and cannot be locked anew: %w", dir, err)
		}
		s.lock.Close() // it has no name any more
		s.lock = lock
	}
	if err := secretFile(s.options.KeyFile).write(s.files, s.table.keys.secret); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("kvcache/disk: key file: %w", err)
	}
	s.mu.Lock()
	tenants := make([]*tenant, 0, len(s.table.keys.byTag))
	for _, t := range s.table.keys.byTag {
		tenants = append(tenants, t)
	}
	s.mu.Unlock()
	s.table.keys.doomed = nil // they went with the file
	return s.table.keys.reopen(s.files, keys, tenants)
}
