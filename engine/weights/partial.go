package weights

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"os"
	"path/filepath"
	"sync"
)

// A GGUF file that is being converted is called NAME.partial. Its tensors lie where they will stay, and what is finished is
// recorded behind them, so that a conversion that was stopped goes on where it was. All numbers are little-endian.
//
//	0          in place of the header, so that nobody takes this for a model:
//	           "HEARTHQ2" | fingerprint sha256 [32] | size u64 | type [16], padded with zeros
//	           tensors, finished pieces and others, in any state
//	size       records of 64 bytes, one for each finished piece of a tensor, in any order:
//	           tensor u32 | piece u32 | squares f64 | errors f64 | largest error f64 | sum sha256 [32]
//
// Here size is that of the whole file, which is known from the start. The fingerprint stands for the header of the result
// (keys, names, types, shapes), the options and the source; the type tells people which command it was. The sum of a piece
// is checked before it is kept, so that it does not matter in which order a machine that lost its power had written the
// file.
//
// Invariants:
//  1. One process writes the file at a time: it is locked while it is open.
//  2. A record is written after its piece. A record that is cut off is none. Of several of a piece the last counts.
//  3. The header is written when every tensor is, then the records are cut off, then the file is renamed.
//  4. A file of something else is only replaced when that was asked for.
const (
	partialMagic     = "HEARTHQ2"
	partialTypeAt    = len(partialMagic) + sha256.Size + 8
	partialHeadBytes = partialTypeAt + 16 // less than every header that conversionMetadata begins
	recordBytes      = 64
)

// ErrOccupied is returned when the file that a conversion would grow in is one of something else.
var ErrOccupied = errors.New("something else is there already")

// quantizerVersion is part of every fingerprint. It is raised when the quantizers or the conversion give other bytes.
const quantizerVersion = 1

// partial is the file in the making. Workers finish pieces at the same time; all else is done by one goroutine.
type partial struct {
	path    string
	file    *os.File
	layout  *layout
	earlier map[uint32][]recordRun // by tensor, of an earlier run

	mu     sync.Mutex // guards the rest
	end    int64      // where the next record goes
	counts []int      // [tensors], recorded pieces
}

// record is what the file keeps of a finished piece.
type record struct {
	tensor, piece uint32
	moved         RoundingError // without the number of elements, which the shape says
	sum           [sha256.Size]byte
}

// recordRun is a number of records of one tensor that lie together: few runs stand for many records.
type recordRun struct {
	at     int64
	number int
}

// openPartial opens the file of an earlier conversion with this head, or begins a new one. A file of something else is
// an error unless it is to be replaced.
func openPartial(path string, l *layout, head []byte, replace bool) (*partial, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Base(path), causeOf(err))
	}
	p := &partial{path: path, file: f, layout: l, earlier: map[uint32][]recordRun{}, end: l.size, counts: make([]int, len(l.offsets))}
	if err = p.lock(); err == nil {
		err = p.begin(head, replace)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", filepath.Base(path), causeOf(err))
	}
	return p, nil
}

// partialHead is what the file of a conversion begins with.
func (c *Conversion) partialHead() ([]byte, error) {
	fingerprint, err := c.fingerprint()
	if err != nil {
		return nil, err
	}
	head := append([]byte(partialMagic), fingerprint[:]...)
	head = binary.LittleEndian.AppendUint64(head, uint64(c.layout.size))
	head = append(head, make([]byte, partialHeadBytes-len(head))...)
	copy(head[partialTypeAt:], c.options.Recipe.Name)
	return head, nil
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

// begin reads the records of an earlier conversion, if it was the one of this head, or else begins an empty file.
func (p *partial) begin(head []byte, replace bool) error {
	have := make([]byte, len(head))
	n, err := p.file.ReadAt(have, 0)
	switch {
	case err != nil && err != io.EOF:
		return err
	case bytes.Equal(have, head):
		return p.readRecords()
	case n > 0 && !replace:
		return fmt.Errorf("%w: %s", ErrOccupied, describeHead(have, head))
	}
	if err := p.file.Truncate(0); err != nil { // what an old file holds between tensors must be zeros
		return err
	}
	_, err = p.file.WriteAt(head, 0)
	return err
}

// describeHead says what a file is that begins otherwise than one of the conversion does.
func describeHead(have, head []byte) string {
	typeOf := func(head []byte) string { return string(bytes.TrimRight(head[partialTypeAt:], "\x00")) }
	name := typeOf(have)
	_, known := RecipeByName(name)
	switch {
	case !bytes.HasPrefix(have, []byte(partialMagic)) || !known:
		return "no conversion that was stopped"
	case name != typeOf(head):
		return "a conversion to " + name + " that was stopped"
	}
	return "a conversion to " + name + ", of another source or with other options, that was stopped"
}

func (p *partial) readRecords() error {
	info, err := p.file.Stat()
	if err != nil {
		return err
	}
	records := bufio.NewReader(io.NewSectionReader(p.file, p.end, max(0, info.Size()-p.end)))
	b := make([]byte, recordBytes)
	last := uint32(math.MaxUint32) // tensor of the record before
	for ; p.end+recordBytes <= info.Size(); p.end += recordBytes {
		if _, err := io.ReadFull(records, b); err != nil {
			return err
		}
		tensor := binary.LittleEndian.Uint32(b)
		if int64(tensor) >= int64(len(p.counts)) {
			last = math.MaxUint32
			continue
		}
		runs := p.earlier[tensor]
		if tensor != last {
			runs = append(runs, recordRun{at: p.end})
		}
		runs[len(runs)-1].number++
		p.earlier[tensor], last = runs, tensor
		p.counts[tensor]++
	}
	return nil
}

// recorded fills in what an earlier run recorded of the pieces of a tensor.
func (p *partial) recorded(tensor int, pieces []piece) error {
	b := make([]byte, recordBytes)
	for _, run := range p.earlier[uint32(tensor)] {
		records := bufio.NewReader(io.NewSectionReader(p.file, run.at, int64(run.number)*recordBytes))
		for range run.number {
			if _, err := io.ReadFull(records, b); err != nil {
				return err
			}
			if r := decodeRecord(b); int64(r.piece) < int64(len(pieces)) {
				pieces[r.piece] = piece{moved: r.moved, sum: r.sum, recorded: true}
			}
		}
	}
	return nil
}

func decodeRecord(b []byte) (r record) {
	number := func(at int) float64 { return math.Float64frombits(binary.LittleEndian.Uint64(b[at:])) }
	r.tensor, r.piece = binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
	r.moved = RoundingError{Squares: number(8), Errors: number(16), Max: number(24)}
	copy(r.sum[:], b[32:])
	return r
}

func (r *record) encode() []byte {
	b := binary.LittleEndian.AppendUint32(nil, r.tensor)
	b = binary.LittleEndian.AppendUint32(b, r.piece)
	for _, v := range []float64{r.moved.Squares, r.moved.Errors, r.moved.Max} {
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
	}
	return append(b, r.sum[:]...)
}

// finish records a piece that was written. It may be called concurrently.
func (p *partial) finish(r record) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := p.file.WriteAt(r.encode(), p.end); err != nil {
		return err
	}
	p.end += recordBytes
	p.counts[r.tensor]++
	return nil
}

// holds reports whether the file has bytes of this sum at an offset; buffer has their number.
func (p *partial) holds(sum [sha256.Size]byte, offset int64, buffer []byte) (bool, error) {
	if _, err := p.file.ReadAt(buffer, offset); err != nil {
		if err == io.EOF {
			return false, nil
		}
		return false, err
	}
	return sha256.Sum256(buffer) == sum, nil
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

// close lets the file be; one without a finished piece is removed.
func (p *partial) close() {
	nothing := p.end == p.layout.size
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
