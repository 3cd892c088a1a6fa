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
// When ctx or an error stops it, what is finished stays there, and the same conversion goes on from it; kept is the number
// of tensors that an earlier one had finished. Errors name the tensor.
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
	fingerprint, err := c.fingerprint()
	if err != nil {
		return 0, err
	}
	p, err := openPartial(PartialPath(path), &c.layout, fingerprint)
	if err != nil {
		return 0, err
	}
	defer p.close() // a second time once it is renamed
	c.progress = progress{report: c.options.Progress}
	for _, t := range c.tensors {
		c.progress.total += t.SourceBytes
	}
	for i := range c.tensors {
		done, err := c.keep(ctx, p, i)
		if err != nil {
			return kept, err
		}
		if done {
			kept++
			continue
		}
		r, err := c.convertTensor(ctx, i, p.file)
		if err == nil {
			err = p.finish(r)
		}
		if err != nil {
			return kept, fmt.Errorf("tensor %q: %w", c.tensors[i].Name, causeOf(err))
		}
		c.tensors[i].Error = r.moved
	}
	return kept, p.rename(path)
}

// keep reports whether a tensor was finished before, after reading it.
func (c *Conversion) keep(ctx context.Context, p *partial, i int) (bool, error) {
	r, ok := p.records[uint32(i)]
	if !ok {
		return false, ctx.Err()
	}
	rowBytes := c.tensors[i].Bytes / int64(max(c.inputs[i].rows, 1))
	_, rows := c.inputs[i].pieces()
	same, err := p.verify(ctx, r, c.layout.offsets[i], c.tensors[i].Bytes, int(rowBytes)*rows)
	if err != nil || !same {
		return false, err
	}
	r.moved.Elements = int64(c.inputs[i].rows) * int64(c.inputs[i].columns)
	c.tensors[i].Error = r.moved
	c.progress.add(c.tensors[i].SourceBytes)
	return true, nil
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
