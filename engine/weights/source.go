// Package weights opens model files and hands out their tensors by name.
//
// GGUF files (one or split), safetensors files (one or sharded) and Hugging Face folders all look the same from
// outside: metadata under GGUF keys, tensors under GGUF names, shapes written row by row. The bytes of most tensors are the
// mapped file's; nothing is copied. Hugging Face checkpoints store each expert's matrix as a tensor of its own: the stack
// that models multiply with has its matrices in several places (Tensor.Stack). Some of their tensors have another form than
// GGUF's, such as norms less one and FP8 with scales beside: these are made when they are read.
//
// Model files come from strangers. Every count, length, size and offset is checked against the file before it is used,
// in arithmetic that cannot wrap, and nothing is allocated that the bytes present do not justify. What is wrong comes
// back as an error that names the key or the tensor.
package weights

import (
	"bytes"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"hearth/hardware/quant"
)

// ErrCorrupt says that a file breaks its format, or that its parts contradict each other.
var ErrCorrupt = errors.New("corrupt model file")

// ErrNotFound says that there is no tensor of that name.
var ErrNotFound = errors.New("no such tensor")

// ErrUnsupported says that a file is whole, as far as one can tell, but of a kind or version that is not read.
var ErrUnsupported = errors.New("unsupported model file")

// ErrRequantize says that weights are quantized already, so that quantizing them once more would add up errors.
var ErrRequantize = errors.New("the weights would be quantized a second time")

// Origin says which kind of file weights come from. Some architectures store the same weights in a different order.
type Origin uint8

// The kinds of model files.
const (
	GGUF        Origin = iota // one GGUF file, or a split one
	HuggingFace               // safetensors with config.json
)

// String returns the kind's name.
func (o Origin) String() string { return [...]string{"GGUF", "safetensors"}[o] }

// Source is an open model. Its methods, Close excepted, are safe for concurrent use.
type Source interface {
	// Metadata returns the model's metadata under GGUF keys, whatever the file. It is read-only.
	Metadata() *Metadata
	// Names lists the tensors in the order of the file. The caller does not modify it.
	Names() []string
	// Has reports whether there is a tensor of that name.
	Has(name string) bool
	// Describe returns a tensor without its Data, or ErrNotFound. It reads nothing.
	Describe(name string) (Tensor, error)
	// Tensor returns a tensor with its Data or Stack: the mapped bytes of the file, read-only and valid until Close. Of a
	// tensor that the file keeps in another form, the Data are made for the call.
	Tensor(name string) (Tensor, error)
	// Rows is Tensor for who reads a tensor piece by piece: one that the file keeps in another form comes with Read
	// instead of Data, and no more of it is in memory than is read.
	Rows(name string) (Tensor, error)
	// Release gives the memory behind bytes of a tensor back to the system, after they were read. They stay valid: who
	// reads them again waits for the file.
	Release(read []byte)
	// Origin says which kind of file this is.
	Origin() Origin
	// Path returns the file or folder that was opened.
	Path() string
	// Close unmaps the files; the Data of all tensors becomes invalid.
	Close() error
}

// Tensor is one named tensor.
type Tensor struct {
	Name   string        // GGUF name, as "blk.0.attn_q.weight"; the file's own where there is no such name
	Type   uint32        // GGUF tensor type; NoType for those that only safetensors has
	Format *quant.Format // nil for types that are known by name alone
	Shape  []int         // row-major: [out, in], stacked experts [experts, out, in]
	Data   []byte        // rows in order, read-only; not aligned to more than a byte
	Stack  [][]byte      // instead of Data: the rows of each expert, where the file keeps them apart
	// Read, instead of both, writes rows [first, last) of a matrix, 0 of a plain tensor, to dst. It may be called
	// concurrently, until Close. It fails when the file can no longer be read.
	Read func(dst []byte, matrix, first, last int) error

	dtype string // safetensors type, empty in GGUF files
	size  int64
}

// NoType is the Type of tensors that GGUF has no type for, such as FP8 ones.
const NoType = quant.NoID

// TypeName returns the name of the tensor's type, such as "Q4_K" or "F8_E4M3".
func (t Tensor) TypeName() string {
	switch {
	case t.Format != nil:
		return t.Format.Name
	case t.Type == NoType:
		return t.dtype
	}
	return quant.TypeName(t.Type)
}

// Parts returns the bytes of the tensor in order: Data, or the matrices of Stack.
func (t *Tensor) Parts() [][]byte {
	if t.Stack != nil {
		return t.Stack
	}
	return [][]byte{t.Data}
}

// Size returns the bytes of the tensor, whether they are there or not.
func (t Tensor) Size() int64 { return t.size }

// Elements returns the number of elements.
func (t Tensor) Elements() int64 {
	n := int64(1)
	for _, d := range t.Shape {
		n *= int64(d)
	}
	return n
}

// Open opens a model: a GGUF file (of a split one the first), a safetensors file, the index of a sharded one, a
// config.json, or a folder that holds one model. Errors wrap ErrCorrupt, ErrUnsupported or the file system's.
func Open(path string) (Source, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("weights: %w", err)
	}
	var s *source
	switch ext := strings.ToLower(filepath.Ext(path)); {
	case info.IsDir():
		s, err = openFolder(path)
	case ext == ".safetensors":
		s, err = openSafetensors(path)
	case ext == ".json":
		s, err = openJSON(path)
	default:
		s, err = openGGUF(path)
	}
	if err != nil {
		return nil, fmt.Errorf("weights: %s: %w", path, err)
	}
	s.path = path
	return s, nil
}

// OpenBytes opens a model that lies in memory: a whole GGUF or safetensors file. The source keeps data, which must not
// be modified. The name stands for the path in errors.
func OpenBytes(name string, data []byte) (Source, error) {
	var s *source
	var err error
	if bytes.HasPrefix(data, []byte(ggufMagic)) || strings.HasSuffix(name, ".gguf") {
		s, err = parseGGUF(data)
		if err == nil && s.md.splitCount() > 1 {
			err = fmt.Errorf("%w: a part of a split file cannot be opened from memory", ErrUnsupported)
		}
	} else {
		s, err = safetensorsSource(data)
	}
	if err != nil {
		return nil, fmt.Errorf("weights: %s: %w", name, err)
	}
	s.path = name
	return s, nil
}

// source is the one implementation of Source; the formats fill it.
type source struct {
	path    string
	origin  Origin
	md      *Metadata
	names   []string
	tensors map[string]*entry
	files   []*mapping
}

// entry is a tensor whose bytes may lie in several places, or are to be made.
type entry struct {
	Tensor                // without Data and Stack
	parts  [][]byte       // in order; all but stacks of experts have one
	grids  []grid         // instead of parts: the matrices
	read   []atomic.Int64 // rows of each grid that were read so far
}

func newSource(origin Origin) *source {
	return &source{origin: origin, md: NewMetadata(), tensors: map[string]*entry{}}
}

// add enters a tensor; a name may not come twice.
func (s *source) add(t Tensor, parts ...[]byte) error {
	if s.tensors[t.Name] != nil {
		return fmt.Errorf("%w: tensor %q is there twice", ErrCorrupt, t.Name)
	}
	s.names = append(s.names, t.Name)
	s.tensors[t.Name] = &entry{Tensor: t, parts: parts}
	return nil
}

// addMade enters a tensor whose rows are made from those of grids.
func (s *source) addMade(t Tensor, grids []grid) error {
	if err := s.add(t); err != nil {
		return err
	}
	e := s.tensors[t.Name]
	e.grids, e.read = grids, make([]atomic.Int64, len(grids))
	return nil
}

func (s *source) Metadata() *Metadata  { return s.md }
func (s *source) Names() []string      { return s.names }
func (s *source) Has(name string) bool { return s.tensors[name] != nil }
func (s *source) Origin() Origin       { return s.origin }
func (s *source) Path() string         { return s.path }

func (s *source) Describe(name string) (Tensor, error) {
	e := s.tensors[name]
	if e == nil {
		return Tensor{}, fmt.Errorf("%w: %q in %s", ErrNotFound, name, s.path)
	}
	return e.Tensor, nil
}

func (s *source) Tensor(name string) (Tensor, error) {
	t, err := s.Rows(name)
	if err != nil || t.Read == nil {
		return t, err
	}
	e := s.tensors[name]
	t.Data = make([]byte, 0, t.size)
	for i := range e.grids {
		n := e.grids[i].rows * e.grids[i].rowBytes()
		if err := t.Read(t.Data[len(t.Data):][:n], i, 0, e.grids[i].rows); err != nil {
			return t, fmt.Errorf("tensor %q: %w", name, err)
		}
		t.Data = t.Data[:len(t.Data)+n]
	}
	t.Read = nil
	return t, nil
}

func (s *source) Rows(name string) (Tensor, error) {
	t, err := s.Describe(name)
	if err != nil {
		return t, err
	}
	switch e := s.tensors[name]; {
	case e.grids != nil:
		t.Read = func(dst []byte, matrix, first, last int) error { return s.make(e, dst, matrix, [2]int{first, last}) }
	case len(e.parts) == 1:
		t.Data = e.parts[0]
	default:
		t.Stack = e.parts
	}
	return t, nil
}

// make writes some rows of a grid to dst. When as many were read as there are, it gives the memory behind the bytes that
// they were made of back to the system.
func (s *source) make(e *entry, dst []byte, matrix int, rows [2]int) (err error) {
	defer func() {
		if fault := recover(); fault != nil {
			if !s.hasFault(fault) {
				panic(fault)
			}
			err = errors.New("its bytes can no longer be read from the file")
		}
	}()
	g := &e.grids[matrix]
	g.put(dst, rows[0], rows[1])
	if read := e.read[matrix].Add(int64(rows[1] - rows[0])); read%int64(g.rows) == 0 {
		for _, bytes := range g.from {
			s.Release(bytes)
		}
	}
	return nil
}

// hasFault reports whether a panic is a fault of memory in one of the files: it was cut off, or its disk is broken.
func (s *source) hasFault(fault any) bool {
	at, ok := fault.(interface{ Addr() uintptr })
	return ok && slices.ContainsFunc(s.files, func(f *mapping) bool { return f.contains(at.Addr()) })
}

func (s *source) Release(read []byte) {
	for _, f := range s.files {
		f.releaseBytes(read)
	}
}

func (s *source) Close() error {
	var errs []error
	for _, f := range s.files {
		errs = append(errs, f.close())
	}
	s.files, s.tensors, s.names = nil, map[string]*entry{}, nil
	return errors.Join(errs...)
}

// tensorSize returns the bytes of a tensor whose innermost dimension holds whole blocks.
func tensorSize(shape []int, blockLen, blockBytes int) (bytes uint64, err error) {
	rowLen := 1
	if len(shape) > 0 {
		rowLen = shape[len(shape)-1]
	}
	if rowLen%blockLen != 0 {
		return 0, fmt.Errorf("%w: rows of %d elements are not whole blocks of %d", ErrCorrupt, rowLen, blockLen)
	}
	bytes = uint64(blockBytes)
	for i, d := range shape {
		n := uint64(d)
		if i == len(shape)-1 {
			n /= uint64(blockLen)
		}
		hi, lo := bits.Mul64(bytes, n)
		if hi != 0 || lo > 1<<62 {
			return 0, fmt.Errorf("%w: the shape %v overflows", ErrCorrupt, shape)
		}
		bytes = lo
	}
	return bytes, nil
}
