package disk

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// segment is one file of records. The writer alone changes the files; the numbers and the list belong to the store's
// mutex, since readers and the counting of bytes need them.
type segment struct {
	number   uint64
	path     string
	id       [16]byte
	file     file
	index    *index // nil: lost, the next process scans the segment
	size     int64  // bytes that hold
	live     int64  // of those, bytes of the list's records
	holes    int64  // of those, bytes given back to the file system
	slots    int    // records that were ever written
	first    *entry // the records that are not erased, by offset
	last     *entry
	unsynced bool // it has records that are not durable; the writer's
	foreign  bool // it has records that no tenant can read
	readers  int  // that use file now
	gone     bool // the last reader closes file
}

func segmentPath(dir string, number uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%016x.segment", number))
}

// createSegment makes an empty segment.
func createSegment(files fileSystem, dir string, number uint64) (*segment, error) {
	s := &segment{number: number, path: segmentPath(dir, number), size: fileHeaderBytes}
	f, err := files.Open(s.path, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return nil, err
	}
	rand.Read(s.id[:])
	h := fileHeader(segmentMagic, s.id)
	if _, err := f.WriteAt(h[:], 0); err != nil {
		return nil, errors.Join(err, f.Close(), files.Remove(s.path))
	}
	s.file = f
	s.index = createIndex(files, s)
	return s, nil
}

// openSegment opens what an earlier process wrote; errFormat when it is no segment.
func openSegment(files fileSystem, dir string, number uint64) (*segment, error) {
	s := &segment{number: number, path: segmentPath(dir, number), size: fileHeaderBytes}
	f, err := files.Open(s.path, os.O_RDWR)
	if err != nil {
		return nil, err
	}
	var h [fileHeaderBytes]byte
	if _, err := f.ReadAt(h[:], 0); err != nil && err != io.EOF {
		return nil, errors.Join(err, f.Close())
	}
	copy(s.id[:], h[8:24])
	if h != fileHeader(segmentMagic, s.id) {
		return nil, errors.Join(errFormat, f.Close())
	}
	s.file = f
	return s, nil
}

// load calls visit with every record, erased ones included, in the order of their offsets: first what the index knows,
// then what is found behind that. It leaves an index that knows all.
func (s *segment) load(files fileSystem, visit func(sl *slot, number int)) error {
	info, err := s.file.Stat()
	if err != nil {
		return err
	}
	see := func(sl *slot) {
		s.size = sl.offset() + sl.header().recordBytes()
		visit(sl, s.slots)
		s.slots++
	}
	s.index = openIndex(files, s, info.Size(), see)
	fresh := s.index == nil
	if fresh {
		s.index = createIndex(files, s)
	}
	err = scan(s.file, s.size, info.Size(), func(h *header, offset int64) {
		sl := newSlot(offset, h, -1) // the sealed rank holds
		s.index = s.index.append(files, s.slots, sl)
		see(sl)
	})
	if err != nil {
		return err
	}
	if s.size < info.Size() {
		return s.file.Truncate(s.size) // a record that was cut off, or rubbish
	}
	return nil
}

// scan calls visit with the headers of whole records. Behind damage it looks for the next header.
func scan(f io.ReaderAt, offset, size int64, visit func(h *header, offset int64)) error {
	var h header
	for offset+overheadBytes <= size {
		if _, err := f.ReadAt(h[:], offset); err != nil {
			return err
		}
		if h.check() == nil && offset+h.recordBytes() <= size {
			visit(&h, offset)
			offset += h.recordBytes()
			continue
		}
		next, err := findHeader(f, offset+1, size)
		if err != nil {
			return err
		}
		offset = next
	}
	return nil
}

// findHeader returns where the next thing that looks like a header begins, size when there is none.
func findHeader(f io.ReaderAt, offset, size int64) (int64, error) {
	buffer := make([]byte, min(size-offset, 1<<20))
	for offset+overheadBytes <= size {
		b := buffer[:min(size-offset, int64(len(buffer)))]
		if _, err := f.ReadAt(b, offset); err != nil && err != io.EOF {
			return 0, err
		}
		for at := 0; ; at++ {
			i := bytes.Index(b[at:], recordMagic[:2]) // what all magic numbers begin with
			if i < 0 || at+i+headerBytes > len(b) {
				break
			}
			at += i
			if (*header)(b[at:]).check() == nil {
				return offset + int64(at), nil
			}
		}
		offset += max(int64(len(b)-headerBytes+1), 1) // a header may begin in the last bytes
	}
	return size, nil
}

// diskBytes is what the files take.
func (s *segment) diskBytes() int64 {
	return s.size - s.holes + fileHeaderBytes + int64(s.slots)*slotBytes
}

// garbage is what of the segment nobody needs.
func (s *segment) garbage() int64 { return s.size - fileHeaderBytes - s.holes - s.live }

// link adds an entry at the end.
func (s *segment) link(e *entry) {
	e.segment, e.previous, e.next = s, s.last, nil
	if s.last == nil {
		s.first = e
	} else {
		s.last.next = e
	}
	s.last = e
	s.live += e.recordBytes()
}

func (s *segment) unlink(e *entry) {
	if e.previous == nil {
		s.first = e.next
	} else {
		e.previous.next = e.next
	}
	if e.next == nil {
		s.last = e.previous
	} else {
		e.next.previous = e.previous
	}
	e.previous, e.next = nil, nil
	s.live -= e.recordBytes()
}

// around returns the bytes between the records before and behind an entry.
func (s *segment) around(e *entry) (from, to int64) {
	from, to = fileHeaderBytes, s.size
	if e.previous != nil {
		from = e.previous.end()
	}
	if e.next != nil {
		to = e.next.offset
	}
	return from, to
}

// holeBytes is the size of a file system's block, the least that can be given back.
const holeBytes = 4096

// hole returns what of a gap can be given back, its header not: to ≤ from when nothing.
func hole(from, to int64) (int64, int64) {
	return (from + headerBytes + holeBytes - 1) / holeBytes * holeBytes, to / holeBytes * holeBytes
}

// holeSize is the size of a gap's hole.
func holeSize(from, to int64) int64 {
	from, to = hole(from, to)
	return max(to-from, 0)
}

// countHoles finds out how much was given back by an earlier process.
func (s *segment) countHoles() error {
	allocated, err := s.file.Allocated()
	if err != nil {
		return err
	}
	holes, from := int64(0), int64(fileHeaderBytes)
	for e := s.first; e != nil; e = e.next {
		holes += holeSize(from, e.offset)
		from = e.end()
	}
	holes += holeSize(from, s.size)
	s.holes = min(holes, max(s.size-allocated, 0))
	return nil
}
