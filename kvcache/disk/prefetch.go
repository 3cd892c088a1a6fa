package disk

// Prefetch tells the operating system that records, both kinds of each key, will be read soon. It returns before they are
// there, and changes nothing else.
func (s *Store) Prefetch(tenant string, keys []Key) {
	type span struct {
		segment   *segment
		offset, n int64
	}
	var spans []span
	s.mu.Lock()
	if !s.closed {
		for _, key := range keys {
			for kind := Block; kind <= State; kind++ {
				if e := s.entry(tenant, key, kind); e != nil && e.queued == nil {
					e.segment.readers++
					spans = append(spans, span{e.segment, e.offset, e.recordBytes()})
				}
			}
		}
	}
	s.mu.Unlock()
	for _, x := range spans {
		x.segment.file.Advise(x.offset, x.n)
	}
	s.mu.Lock()
	for _, x := range spans {
		s.leave(x.segment)
	}
	s.mu.Unlock()
}
