package disk

import (
	"bufio"
	"io"
	"math"
	"os"
)

// index is a file beside a segment that has the headers of its records, so that they need not be searched for. It is
// never trusted with more than that: what it says wrongly is a record that is not found.
type index struct {
	file file
	path string
}

func indexPath(s *segment) string { return s.path[:len(s.path)-len(".segment")] + ".index" }

// createIndex makes an empty index; nil when that fails, since a segment does without.
func createIndex(files fileSystem, s *segment) *index {
	path := indexPath(s)
	f, err := files.Open(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return nil
	}
	x := &index{file: f, path: path}
	h := fileHeader(indexMagic, s.id)
	if _, err := f.WriteAt(h[:], 0); err != nil {
		x.lose(files)
		return nil
	}
	return x
}

// openIndex calls visit with the records that an index knows, up to the first that cannot be, and cuts the rest
// off; nil when there is no index.
func openIndex(files fileSystem, s *segment, size int64, visit func(sl *slot)) *index {
	path := indexPath(s)
	f, err := files.Open(path, os.O_RDWR)
	if err != nil {
		return nil
	}
	x := &index{file: f, path: path}
	r := bufio.NewReaderSize(io.NewSectionReader(f, 0, math.MaxInt64), 256<<10)
	var h [fileHeaderBytes]byte
	if _, err := io.ReadFull(r, h[:]); err != nil || h != fileHeader(indexMagic, s.id) {
		x.lose(files)
		return nil
	}
	end, number := int64(fileHeaderBytes), 0
	var sl slot
	for {
		if _, err := io.ReadFull(r, sl[:]); err != nil || sl.check() != nil || sl.offset() < end ||
			sl.offset() > size-overheadBytes || sl.offset()+sl.header().recordBytes() > size {
			break
		}
		end = sl.offset() + sl.header().recordBytes()
		visit(&sl)
		number++
	}
	if f.Truncate(slotOffset(number)) != nil {
		x.lose(files)
		return nil
	}
	return x
}

// lose gives an index up.
func (x *index) lose(files fileSystem) {
	if x != nil {
		x.file.Close()
		files.Remove(x.path)
	}
}

// append writes a record's slot and returns the index, nil when it had to be given up. A nil index stays nil.
func (x *index) append(files fileSystem, number int, sl *slot) *index {
	if x == nil {
		return nil
	}
	if _, err := x.file.WriteAt(sl[:], slotOffset(number)); err != nil {
		x.lose(files)
		return nil
	}
	return x
}

// mark says what became of a record, and returns the index like append.
func (x *index) mark(files fileSystem, number int, magic [4]byte) *index {
	if x == nil {
		return nil
	}
	var sl slot
	if _, err := x.file.ReadAt(sl[:], slotOffset(number)); err != nil {
		x.lose(files)
		return nil
	}
	h := sl.header()
	h.mark(magic, h.recordBytes())
	sl.sum()
	return x.append(files, number, &sl)
}

// rank writes the ranks that records have now.
func (x *index) rank(files fileSystem, ranks map[int]float64) *index {
	if x == nil || len(ranks) == 0 {
		return x
	}
	info, err := x.file.Stat()
	if err != nil {
		x.lose(files)
		return nil
	}
	all := make([]byte, info.Size())
	if _, err := x.file.ReadAt(all, 0); err != nil && err != io.EOF {
		x.lose(files)
		return nil
	}
	for number, rank := range ranks {
		if at := slotOffset(number); at+slotBytes <= int64(len(all)) {
			(*slot)(all[at:]).setRank(rank)
		}
	}
	if _, err := x.file.WriteAt(all, 0); err != nil {
		x.lose(files)
		return nil
	}
	return x
}

func slotOffset(number int) int64 { return fileHeaderBytes + int64(number)*slotBytes }
