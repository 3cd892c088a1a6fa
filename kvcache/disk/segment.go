package disk

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// segment is one file of records. The writer alone writes it; size, live, holes and entries belong to the store's mutex,
// since readers and the counting of bytes need them.
type segment struct {
	number  uint64
	path    string
	file    file
	id      [16]byte
	size    int64    // bytes that hold
	live    int64    // of those, bytes of records in the table
	holes   int64    // of those, bytes given back to the file system
	entries []*entry // by slot; nil: erased
	readers int      // that use file now
	gone    bool     // the last reader closes file
}

func segmentPath(dir string, number uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%016x.segment", number))
}

// createSegment makes an empty segment.
func createSegment(files fileSystem, dir string, number uint64) (*segment, error) {
	s := &segment{number: number, path: segmentPath(dir, number), size: segmentHeaderBytes}
	f, err := files.Open(s.path, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return nil, err
	}
	rand.Read(s.id[:])
	var h [segmentHeaderBytes]byte
	copy(h[0:8], segmentMagic[:])
	copy(h[8:24], s.id[:])
	binary.LittleEndian.PutUint32(h[28:32], checksum(h[:28]))
	if _, err := f.WriteAt(h[:], 0); err != nil {
		return nil, errors.Join(err, f.Close(), files.Remove(s.path))
	}
	s.file = f
	return s, nil
}

// openSegment opens what an earlier process wrote; errFormat when it is no segment.
func openSegment(files fileSystem, dir string, number uint64) (*segment, error) {
	s := &segment{number: number, path: segmentPath(dir, number), size: segmentHeaderBytes}
	f, err := files.Open(s.path, os.O_RDWR)
	if err != nil {
		return nil, err
	}
	var h [segmentHeaderBytes]byte
	if _, err := f.ReadAt(h[:], 0); err != nil && err != io.EOF {
		return nil, errors.Join(err, f.Close())
	}
	if !bytes.Equal(h[0:8], segmentMagic[:]) || binary.LittleEndian.Uint32(h[28:32]) != checksum(h[:28]) {
		return nil, errors.Join(errFormat, f.Close())
	}
	copy(s.id[:], h[8:24])
	s.file = f
	return s, nil
}

// scan calls visit with the headers from offset on, and returns where the last whole record ends.
func (s *segment) scan(offset int64, visit func(h *header, offset int64)) (int64, error) {
	info, err := s.file.Stat()
	if err != nil {
		return 0, err
	}
	size := info.Size()
	var h header
	for offset+overheadBytes <= size {
		if _, err := s.file.ReadAt(h[:], offset); err != nil {
			return 0, err
		}
		if h.check() != nil || offset+h.recordBytes() > size {
			break
		}
		visit(&h, offset)
		offset += h.recordBytes()
	}
	return offset, nil
}

// diskBytes is what the file takes.
func (s *segment) diskBytes() int64 { return s.size - s.holes }

// garbage is what of it nobody needs.
func (s *segment) garbage() int64 { return s.diskBytes() - s.live - segmentHeaderBytes }
