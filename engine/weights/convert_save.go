package weights

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

// layout is where everything lies in a GGUF file.
type layout struct {
	header  []byte  // with the zeros up to the first tensor
	offsets []int64 // [tensors], from the start of the file
	size    int64   // of the file
}

// newLayout lays the tensors out, and fills in their sizes.
func newLayout(md *Metadata, tensors []Converted) (layout, error) {
	alignment, err := ggufAlign(md)
	if err != nil {
		return layout{}, err
	}
	infos := make([]NewTensor, len(tensors))
	for i, t := range tensors {
		infos[i] = NewTensor{Name: t.Name, Type: t.Type, Shape: t.Shape}
	}
	header, sizes, err := ggufHeader(md, infos, alignment)
	if err != nil {
		return layout{}, err
	}
	l := layout{offsets: make([]int64, len(tensors))}
	l.header = append(header, make([]byte, alignUp(uint64(len(header)), alignment)-uint64(len(header)))...)
	l.size = int64(len(l.header))
	for i, size := range sizes {
		tensors[i].Bytes = size
		l.offsets[i] = l.size
		l.size = int64(alignUp(uint64(l.size+size), alignment))
	}
	return l, nil
}

// progress counts bytes of the source for a callback.
type progress struct {
	mu     sync.Mutex // guards done, and is held while report runs
	done   int64
	total  int64
	report func(done, total int64)
}

func (p *progress) add(n int64) {
	if p.report == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += n
	p.report(p.done, p.total)
}

// PartialPath returns the file that a conversion to path grows in.
func PartialPath(path string) string { return path + ".partial" }

// Save writes the file at path, whole or not at all: it grows beside it, see PartialPath, and is renamed when it is whole.
// When ctx or an error stops it, what is finished stays there, rows of a tensor too, and the same conversion goes on from
// it; kept is the number of tensors that an earlier one had finished. Errors name the tensor. ErrOccupied says that there
// is a file of another conversion, or of something else.
func (c *Conversion) Save(ctx context.Context, path string) (kept int, err error) {
	if folder, err := os.Stat(filepath.Dir(path)); err != nil {
		return 0, fmt.Errorf("weights: folder %s: %w", filepath.Dir(path), causeOf(err))
	} else if !folder.IsDir() {
		return 0, fmt.Errorf("weights: folder %s: this is a file", filepath.Dir(path))
	}
	if kept, err = c.save(ctx, path); err != nil {
		err = fmt.Errorf("weights: %s: %w", path, err)
	}
	return kept, err
}

func (c *Conversion) save(ctx context.Context, path string) (kept int, err error) {
	if c.src.reads(path) {
		return 0, errors.New("this is the file that is converted")
	}
	head, err := c.partialHead()
	if err != nil {
		return 0, err
	}
	p, err := openPartial(PartialPath(path), &c.layout, head, c.options.Replace)
	if err != nil {
		return 0, err
	}
	defer p.close() // a second time once it is renamed
	defer func() { c.finished = c.tally(p) }()
	if earlier := c.tally(p); earlier.Bytes > 0 && c.options.Resuming != nil {
		c.options.Resuming(earlier)
	}
	c.progress = progress{report: c.options.Progress}
	for _, t := range c.tensors {
		c.progress.total += t.SourceBytes
	}
	for i := range c.tensors {
		whole, err := c.convertTensor(ctx, i, p)
		if err != nil {
			return kept, c.tensorError(ctx, i, err)
		}
		if whole {
			kept++
		}
	}
	return kept, p.rename(path)
}

// tensorError says in which tensor an error was; that somebody stopped the conversion is about none.
func (c *Conversion) tensorError(ctx context.Context, i int, err error) error {
	if errors.Is(err, ctx.Err()) {
		return err
	}
	return fmt.Errorf("tensor %q: %w", c.tensors[i].Name, causeOf(err))
}

// Finished is how much of a conversion the file in the making holds.
type Finished struct {
	Tensors int   // whole ones
	Bytes   int64 // of the source, pieces of other tensors included
}

// Finished returns what was finished when Save returned, by it and by earlier runs.
func (c *Conversion) Finished() Finished { return c.finished }

// tally sums up what is recorded.
func (c *Conversion) tally(p *partial) (f Finished) {
	for i, count := range p.counts {
		in := &c.inputs[i]
		n, rows := in.pieces()
		if count >= n {
			f.Tensors++
			f.Bytes += c.tensors[i].SourceBytes
			continue
		}
		f.Bytes += c.tensors[i].SourceBytes / int64(in.rows) * int64(count*rows)
	}
	return f
}

// keep reports whether a piece of the i-th tensor was finished before, after reading it. Errors are left in it.
func (c *Conversion) keep(w *converter, i, number int, p *piece, file *partial) bool {
	if !p.recorded {
		return false
	}
	first, rows := w.in.piece(number)
	rowBytes := c.tensors[i].Bytes / int64(w.in.rows)
	w.data = grow(w.data, rows*int(rowBytes))
	same, err := file.holds(p.sum, c.layout.offsets[i]+int64(first)*rowBytes, w.data)
	if err != nil {
		p.err = err
		return true
	}
	p.moved.Elements = int64(rows) * int64(w.in.columns)
	p.source = c.tensors[i].SourceBytes / int64(w.in.rows) * int64(rows)
	return same
}

// convertPiece converts a piece of the i-th tensor and records it.
func (c *Conversion) convertPiece(w *converter, i, number int, p *piece, file *partial) {
	first, rows := w.in.piece(number)
	*p = w.convert(first, rows, offsetWriter{file.file, c.layout.offsets[i]})
	if p.err == nil {
		p.err = file.finish(record{tensor: uint32(i), piece: uint32(number), moved: p.moved, sum: p.sum})
	}
	if w.in.order == nil {
		c.release(w.in, first, rows)
	}
}

// reads reports whether path is one of the source's files.
func (s *source) reads(path string) bool {
	info, err := os.Stat(path)
	if err != nil {
		return false
	}
	for _, f := range s.files {
		if own, err := os.Stat(f.path); err == nil && os.SameFile(info, own) {
			return true
		}
	}
	return false
}
