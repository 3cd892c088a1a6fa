package weights

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"math"
	"os"
	"path/filepath"
)

// A GGUF file that is being converted is called NAME.partial. Its tensors lie where they will stay, and what is finished is
// recorded behind them, so that a conversion that was stopped goes on where it was. All numbers are little-endian.
//
//	0          zeros in place of the header: nobody takes this for a model
//	           tensors, finished ones and others, in any state
//	size       "HEARTHQ1" | fingerprint sha256 [32]
//	size+40    records of 64 bytes, one for each finished tensor, in any order:
//	           tensor u32 | zeros u32 | squares f64 | errors f64 | largest error f64 | sum sha256 [32]
//
// Here size is that of the whole file, which is known from the start. The fingerprint stands for the header of the result
// (keys, names, types, shapes), the options and the source. The sum of a tensor is that of the sums of its pieces; it is
// checked before a finished tensor is kept, so that it does not matter in which order a machine that lost its power had
// written the file.
//
// Invariants:
//  1. One process writes the file at a time: it is locked while it is open.
//  2. A record is written after its tensor. A record that is cut off is none.
//  3. The header is written when every tensor is, then the records are cut off, then the file is renamed.
const (
	partialMagic     = "HEARTHQ1"
	partialHeadBytes = len(partialMagic) + sha256.Size
	recordBytes      = 64
)

// quantizerVersion is part of every fingerprint. It is raised when the quantizers or the conversion give other bytes.
const quantizerVersion = 1

// partial is the file in the making.
type partial struct {
	path    string
	file    *os.File
	layout  *layout
	records map[uint32]record // of an earlier run
	end     int64             // where the next record goes
}

// record is what the file keeps of a finished tensor.
type record struct {
	tensor uint32
	moved  RoundingError // without the number of elements, which the shape says
	sum    [sha256.Size]byte
}

// openPartial opens the file of an earlier conversion with this fingerprint, or begins a new one.
func openPartial(path string, l *layout, fingerprint [sha256.Size]byte) (*partial, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Base(path), causeOf(err))
	}
	p := &partial{path: path, file: f, layout: l, records: map[uint32]record{}, end: l.size + int64(partialHeadBytes)}
	if err = p.lock(); err == nil {
		err = p.begin(append([]byte(partialMagic), fingerprint[:]...))
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", filepath.Base(path), causeOf(err))
	}
	return p, nil
}

// lock fails when another process writes the file, or has just renamed it.
func (p *partial) lock() error {
	if err := lockFile(p.file); err != nil {
		return fmt.Errorf("another conversion writes it: %w", err)
	}
	return p.inPlace()
}

// inPlace fails when the file is no longer at its path.
func (p *partial) inPlace() error {
	opened, err := p.file.Stat()
	if err != nil {
		return err
	}
	if now, err := os.Stat(p.path); err != nil || !os.SameFile(opened, now) {
		return fmt.Errorf("%s was renamed or removed meanwhile", filepath.Base(p.path))
	}
	return nil
}

// begin reads the records of an earlier conversion, if head says it was the same one, or else empties the file.
func (p *partial) begin(head []byte) error {
	have := make([]byte, len(head))
	if _, err := p.file.ReadAt(have, p.layout.size); err == nil && bytes.Equal(have, head) {
		return p.readRecords()
	}
	if err := p.file.Truncate(0); err != nil { // what an old file holds between tensors must be zeros
		return err
	}
	_, err := p.file.WriteAt(head, p.layout.size)
	return err
}

func (p *partial) readRecords() error {
	info, err := p.file.Stat()
	if err != nil {
		return err
	}
	b := make([]byte, recordBytes)
	for ; p.end+recordBytes <= info.Size(); p.end += recordBytes {
		if _, err := p.file.ReadAt(b, p.end); err != nil {
			return err
		}
		if r := decodeRecord(b); int(r.tensor) < len(p.layout.offsets) {
			p.records[r.tensor] = r
		}
	}
	return nil
}

func decodeRecord(b []byte) (r record) {
	number := func(at int) float64 { return math.Float64frombits(binary.LittleEndian.Uint64(b[at:])) }
	r.tensor = binary.LittleEndian.Uint32(b)
	r.moved = RoundingError{Squares: number(8), Errors: number(16), Max: number(24)}
	copy(r.sum[:], b[32:])
	return r
}

func (r *record) encode() []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(r.tensor))
	for _, v := range []float64{r.moved.Squares, r.moved.Errors, r.moved.Max} {
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
	}
	return append(b, r.sum[:]...)
}

// finish records a tensor that was written.
func (p *partial) finish(r record) error {
	_, err := p.file.WriteAt(r.encode(), p.end)
	p.end += recordBytes
	return err
}

// verify reports whether the bytes of a tensor, cut into pieces of a size, are those that were recorded.
func (p *partial) verify(ctx context.Context, r record, offset, size int64, pieceBytes int) (bool, error) {
	sums := sha256.New()
	buffer := make([]byte, min(int64(pieceBytes), size))
	for at := int64(0); at < size; at += int64(len(buffer)) {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		part := buffer[:min(int64(len(buffer)), size-at)]
		if _, err := p.file.ReadAt(part, offset+at); err != nil {
			if err == io.EOF {
				return false, nil
			}
			return false, err
		}
		sum := sha256.Sum256(part)
		sums.Write(sum[:])
	}
	return bytes.Equal(sums.Sum(nil), r.sum[:]), nil
}

// syncBytes is the size from which a file is worth waiting for the disk: it took long to make, and a machine that loses
// its power must not take it back once it was renamed.
const syncBytes = 64 << 20

// rename makes the file what it is to be, and puts it at its path.
func (p *partial) rename(path string) error {
	err := p.inPlace()
	if err == nil {
		_, err = p.file.WriteAt(p.layout.header, 0)
	}
	if err == nil {
		err = p.file.Truncate(p.layout.size)
	}
	if err == nil && p.layout.size >= syncBytes {
		err = p.file.Sync()
	}
	if closeErr := p.file.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(p.path, path)
	}
	if err != nil {
		return causeOf(err)
	}
	return nil
}

// close lets the file be; one without a finished tensor is removed.
func (p *partial) close() {
	nothing := p.end == p.layout.size+int64(partialHeadBytes)
	if p.file.Close() == nil && nothing {
		os.Remove(p.path)
	}
}

// fingerprint stands for everything that the bytes of the result depend on: the header, the options that it does not
// show, and the source. Of the source it takes the names, sizes and times of the files, and of every tensor a sample.
func (c *Conversion) fingerprint() (sum [sha256.Size]byte, err error) {
	h := sha256.New()
	write := func(values ...any) {
		for _, v := range values {
			fmt.Fprintf(h, "%v\n", v)
		}
	}
	write("hearth conversion", quantizerVersion, len(c.layout.header))
	h.Write(c.layout.header)
	for _, f := range c.src.files {
		info, err := os.Stat(f.path)
		if err != nil {
			return sum, err
		}
		write(info.Name(), info.Size(), info.ModTime().UnixNano())
	}
	for i := range c.inputs {
		if err := c.sample(h, i); err != nil {
			return sum, err
		}
	}
	h.Sum(sum[:0])
	return sum, nil
}

// sampleBytes is how much of a tensor is sampled at its beginning, in its middle and at its end.
const sampleBytes = 256

// sample hashes what the i-th tensor is made from.
func (c *Conversion) sample(h hash.Hash, i int) error {
	in := &c.inputs[i]
	fmt.Fprintf(h, "%s %s %v\n", in.tensor.Name, c.tensors[i].From, len(in.importance))
	for _, values := range [][]float32{in.importance, in.values} {
		if err := binary.Write(h, binary.LittleEndian, values); err != nil {
			return err
		}
	}
	if in.values != nil {
		return nil
	}
	own := *in
	var err error
	if own.tensor, err = c.src.Rows(in.tensor.Name); err != nil {
		return err
	}
	if own.tensor.Read != nil { // rows that the source makes
		own.tensor.Shape = in.tensor.Shape
		w := converter{in: &own}
		for _, row := range []int{0, own.rows / 2, own.rows - 1} {
			if err := w.fetch(row, 1); err != nil {
				return err
			}
			h.Write(w.fetched)
		}
		return nil
	}
	for _, part := range own.tensor.Parts() {
		for _, at := range []int{0, len(part) / 2, max(0, len(part)-sampleBytes)} {
			data := part[at:min(at+sampleBytes, len(part))]
			h.Write(data)
			c.src.Release(data)
		}
	}
	return nil
}
