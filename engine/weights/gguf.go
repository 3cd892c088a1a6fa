package weights

import (
	"cmp"
	"fmt"
	"slices"
	"unicode/utf8"

	"hearth/hardware/quant"
)

// A GGUF file (ggml-org/ggml docs/gguf.md), all numbers little-endian:
//
//	"GGUF" | version u32 | tensors u64 | keys u64
//	keys times:    key string | value type u32 | value
//	tensors times: name string | dimensions u32 | that many u64, the innermost first | tensor type u32 | offset u64
//	zeros up to a multiple of the alignment
//	data: each tensor at its offset, a multiple of the alignment, counted from here
//
//	string: length u64 | bytes            array: element type u32 | length u64 | elements
//
// The alignment is the key general.alignment, 32 without it. Tensors follow each other without gaps wider than that.

const (
	ggufMagic       = "GGUF"
	ggufVersion     = 3
	ggufHeaderBytes = 4 + 4 + 8 + 8
	ggufAlignment   = 32

	alignmentKey = "general.alignment"
)

// Limits of the reference implementation (ggml/src/gguf.cpp); no real file comes near them.
const (
	maxDims      = 4
	maxNameBytes = 63
	maxKeyBytes  = 1<<16 - 1
	maxString    = 1 << 30
	maxArray     = 1 << 30
	minKeyBytes  = 8 + 1 + 4 + 1         // key of one byte, value of one byte
	minInfoBytes = 8 + 1 + 4 + 8 + 4 + 8 // name of one byte, one dimension
	maxDimension = 1 << 48               // elements along one dimension
	swappedV2    = 2 << 24               // versions as a big-endian machine writes them
	swappedV3    = 3 << 24
)

// openGGUF maps a GGUF file, and the other parts of a split one.
func openGGUF(path string) (*source, error) {
	m, err := openMapping(path)
	if err != nil {
		return nil, err
	}
	s, err := parseGGUF(m.data)
	if err != nil {
		m.close()
		return nil, err
	}
	s.files = append(s.files, m)
	if err := s.openParts(path); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// parseGGUF reads the header of one GGUF file; the tensors' data are slices of the argument.
func parseGGUF(data []byte) (*source, error) {
	r := &ggufReader{data: data}
	numTensors, numKeys, err := r.header()
	if err != nil {
		return nil, err
	}
	s := newSource(GGUF)
	for i := range numKeys {
		if err := r.keyValue(s.md, i); err != nil {
			return nil, err
		}
	}
	alignment, err := ggufAlign(s.md)
	if err != nil {
		return nil, err
	}
	places := make([]place, 0, numTensors)
	for i := range numTensors {
		t, offset, err := r.tensorInfo(i)
		if err != nil {
			return nil, err
		}
		if offset%alignment != 0 {
			return nil, fmt.Errorf("%w: tensor %q: offset %d is not a multiple of the alignment %d", ErrCorrupt, t.Name, offset, alignment)
		}
		if err := s.add(t, nil); err != nil {
			return nil, err
		}
		places = append(places, place{s.tensors[t.Name], offset})
	}
	if numTensors == 0 { // a vocabulary alone; nothing follows
		return s, nil
	}
	start := alignUp(uint64(r.pos), alignment)
	if start > uint64(len(data)) {
		return nil, fmt.Errorf("%w: the data of %d tensors start at %d, the file ends at %d", ErrCorrupt, numTensors, start, len(data))
	}
	return s, layOut(places, data[start:], alignment)
}

// place is where a tensor lies in the data section.
type place struct {
	tensor *entry
	offset uint64
}

// layOut gives each tensor its bytes, after checking that they lie in the section, next to each other.
func layOut(places []place, section []byte, alignment uint64) error {
	slices.SortStableFunc(places, func(a, b place) int { return cmp.Compare(a.offset, b.offset) })
	end := uint64(0) // of the tensors before
	for _, p := range places {
		size, have := uint64(p.tensor.size), uint64(len(section))
		switch {
		case p.offset < end:
			return fmt.Errorf("%w: tensor %q: offset %d lies within the tensor before, which ends at %d", ErrCorrupt, p.tensor.Name, p.offset, end)
		case p.offset > alignUp(end, alignment):
			return fmt.Errorf("%w: tensor %q: offset %d leaves a hole after the tensor before, which ends at %d", ErrCorrupt, p.tensor.Name, p.offset, end)
		case p.offset > have || size > have-p.offset:
			return fmt.Errorf("%w: tensor %q needs %d bytes at offset %d, the data section has %d: the file is cut off", ErrCorrupt, p.tensor.Name, size, p.offset, have)
		}
		end = p.offset + size
		p.tensor.parts = [][]byte{section[p.offset:end:end]}
	}
	return nil
}

// ggufAlign returns the alignment of the data section.
func ggufAlign(md *Metadata) (uint64, error) {
	v, ok := md.Get(alignmentKey)
	if !ok {
		return ggufAlignment, nil
	}
	a, ok := v.(uint32)
	if !ok || a == 0 || a&(a-1) != 0 {
		return 0, fmt.Errorf("%w: key %s is %v (%T), want a uint32 that is a power of two", ErrCorrupt, alignmentKey, v, v)
	}
	return uint64(a), nil
}

func alignUp(n, alignment uint64) uint64 { return (n + alignment - 1) &^ (alignment - 1) }

// header reads the fixed part, and bounds both counts by what the file has room for.
func (r *ggufReader) header() (numTensors, numKeys int, err error) {
	if len(r.data) < ggufHeaderBytes {
		return 0, 0, fmt.Errorf("%w: a file of %d bytes holds no GGUF header", ErrCorrupt, len(r.data))
	}
	if magic := r.data[:4]; string(magic) != ggufMagic {
		return 0, 0, fmt.Errorf("%w: not a GGUF file: it starts with %q", ErrUnsupported, magic)
	}
	r.pos = 4
	version, _ := r.uint32()
	tensors, _ := r.uint64()
	keys, _ := r.uint64()
	switch version {
	case 2, ggufVersion:
	case 1:
		return 0, 0, fmt.Errorf("%w: GGUF version 1, which nothing has written since 2023; convert the model again", ErrUnsupported)
	case swappedV2, swappedV3:
		return 0, 0, fmt.Errorf("%w: a GGUF file for big-endian machines", ErrUnsupported)
	default:
		return 0, 0, fmt.Errorf("%w: GGUF version %d; versions 2 and 3 are read", ErrUnsupported, version)
	}
	room := uint64(len(r.data) - r.pos)
	if keys > room/minKeyBytes {
		return 0, 0, fmt.Errorf("%w: the header announces %d keys, %d bytes have no room for them", ErrCorrupt, keys, room)
	}
	if tensors > room/minInfoBytes {
		return 0, 0, fmt.Errorf("%w: the header announces %d tensors, %d bytes have no room for them", ErrCorrupt, tensors, room)
	}
	return int(tensors), int(keys), nil
}

// keyValue reads the i-th key with its value.
func (r *ggufReader) keyValue(md *Metadata, i int) error {
	key, err := r.name(maxKeyBytes)
	if err != nil {
		return fmt.Errorf("key %d: %w", i, err)
	}
	if _, twice := md.Get(key); twice {
		return fmt.Errorf("%w: key %q is there twice", ErrCorrupt, key)
	}
	typ, err := r.uint32()
	if err == nil {
		var value any
		if value, err = r.value(ggufType(typ)); err == nil {
			md.Set(key, value)
			return nil
		}
	}
	return fmt.Errorf("key %q: %w", key, err)
}

// tensorInfo reads the description of the i-th tensor and its offset.
func (r *ggufReader) tensorInfo(i int) (Tensor, uint64, error) {
	name, err := r.name(maxNameBytes)
	if err != nil {
		return Tensor{}, 0, fmt.Errorf("tensor %d: %w", i, err)
	}
	t, offset, err := r.tensorShape()
	if err != nil {
		return Tensor{}, 0, fmt.Errorf("tensor %q: %w", name, err)
	}
	t.Name = name
	return t, offset, nil
}

func (r *ggufReader) tensorShape() (t Tensor, offset uint64, err error) {
	dims, err := r.uint32()
	if err != nil {
		return t, 0, err
	}
	if dims < 1 || dims > maxDims {
		return t, 0, fmt.Errorf("%w: %d dimensions, want 1 to %d", ErrCorrupt, dims, maxDims)
	}
	t.Shape = make([]int, dims)
	for i := range dims {
		d, err := r.uint64()
		if err != nil {
			return t, 0, err
		}
		if d == 0 || d > maxDimension {
			return t, 0, fmt.Errorf("%w: dimension %d has %d elements", ErrCorrupt, i, d)
		}
		t.Shape[dims-1-i] = int(d)
	}
	if t.Type, err = r.uint32(); err != nil {
		return t, 0, err
	}
	blockLen, blockBytes, ok := quant.TypeSize(t.Type)
	if !ok {
		return t, 0, fmt.Errorf("%w: tensor type %d: %s", ErrUnsupported, t.Type, quant.TypeName(t.Type))
	}
	t.Format, _ = quant.ByID(t.Type)
	size, err := tensorSize(t.Shape, blockLen, blockBytes)
	if err != nil {
		return t, 0, fmt.Errorf("type %s: %w", quant.TypeName(t.Type), err)
	}
	t.size = int64(size)
	offset, err = r.uint64()
	return t, offset, err
}

// name reads a key or a tensor's name: text of 1 to limit bytes.
func (r *ggufReader) name(limit int) (string, error) {
	b, err := r.stringBytes()
	switch {
	case err != nil:
		return "", err
	case len(b) == 0:
		return "", fmt.Errorf("%w: the name is empty", ErrCorrupt)
	case len(b) > limit:
		return "", fmt.Errorf("%w: a name of %d bytes, the most is %d", ErrCorrupt, len(b), limit)
	case !utf8.Valid(b):
		return "", fmt.Errorf("%w: the name %q is not UTF-8", ErrCorrupt, b)
	}
	return string(b), nil
}
