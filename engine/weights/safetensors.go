package weights

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"slices"
	"strconv"
	"unicode/utf8"

	"hearth/hardware/quant"
)

// A safetensors file (huggingface/safetensors, README "Format"):
//
//	header length u64, little-endian | header, JSON | data
//	header: {"NAME": {"dtype": "F32", "shape": [out, in], "data_offsets": [begin, end]}, ..., "__metadata__": {"k": "v"}}
//
// The header starts with a brace and may end in spaces. Offsets count from the end of the header, and the tensors cover
// the data without holes or overlaps.

const (
	maxHeaderBytes = 100 << 20 // the limit of the reference implementation
	maxNumbers     = 64        // dimensions of a tensor: no framework has more
	metadataName   = "__metadata__"
)

// dataType is a type of safetensors: the size of an element, and the GGUF type of the same bytes.
type dataType struct {
	bits uint64
	id   uint32
}

var dataTypes = map[string]dataType{
	"F64": {64, 28}, "F32": {32, 0}, "F16": {16, 1}, "BF16": {16, 30},
	"I64": {64, 27}, "I32": {32, 26}, "I16": {16, 25}, "I8": {8, 24},
	"U64": {64, NoType}, "U32": {32, NoType}, "U16": {16, NoType}, "U8": {8, NoType}, "BOOL": {8, NoType},
	"F8_E4M3": {8, NoType}, "F8_E5M2": {8, NoType}, "F8_E8M0": {8, NoType}, "F8_E4M3FNUZ": {8, NoType}, "F8_E5M2FNUZ": {8, NoType},
	"F6_E2M3": {6, NoType}, "F6_E3M2": {6, NoType}, "F4": {4, NoType}, "C64": {64, NoType},
}

// rawTensor is a tensor of a safetensors file, under the file's own name.
type rawTensor struct {
	file       string // its name, "" in memory
	name       string
	dtype      string
	shape      []int
	begin, end uint64 // in the data
	data       []byte
}

// String says in an error which tensor it is.
func (t *rawTensor) String() string {
	file := ""
	if t.file != "" {
		file = t.file + ": "
	}
	return fmt.Sprintf("%stensor %q of %s %v", file, t.name, t.dtype, t.shape)
}

// tensor returns the description under another name.
func (t *rawTensor) tensor(name string) Tensor {
	id := dataTypes[t.dtype].id
	format, _ := quant.ByID(id)
	return Tensor{Name: name, Type: id, Format: format, Shape: t.shape, dtype: t.dtype, size: int64(len(t.data))}
}

// elements is their number, where each has a size of its own.
func (t *rawTensor) elements() uint64 { return uint64(len(t.data)) * 8 / dataTypes[t.dtype].bits }

// grid returns the bytes as a matrix, of which the caller knows that it has as many elements.
func (t *rawTensor) grid(rows, cols int) grid {
	d := dataTypes[t.dtype]
	format, _ := quant.ByID(d.id)
	return storedGrid(encoding{d.id, format, t.dtype, 1, int(d.bits / 8)}, rows, cols, t.data)
}

// part returns one of the tensors that a tensor stacks along its first dimension, which is not empty.
func (t *rawTensor) part(i int) *rawTensor {
	if t == nil {
		return nil
	}
	size := len(t.data) / t.shape[0]
	return &rawTensor{file: t.file, name: t.name, dtype: t.dtype, shape: t.shape[1:], data: t.data[i*size:][:size:size]}
}

// parseSafetensors reads the header of one file. The tensors come in the order of their data, which are slices of the
// argument; the second result holds the pairs of __metadata__.
func parseSafetensors(file []byte) ([]rawTensor, *Metadata, error) {
	if len(file) < 8 {
		return nil, nil, fmt.Errorf("%w: a file of %d bytes holds no safetensors header", ErrCorrupt, len(file))
	}
	n := binary.LittleEndian.Uint64(file)
	if n > maxHeaderBytes || n > uint64(len(file)-8) {
		return nil, nil, fmt.Errorf("%w: a header of %d bytes in a file of %d, the most is %d", ErrCorrupt, n, len(file), maxHeaderBytes)
	}
	header, data := file[8:8+n], file[8+n:]
	switch {
	case len(header) == 0 || header[0] != '{':
		return nil, nil, fmt.Errorf("%w: the header does not start with a brace", ErrCorrupt)
	case !utf8.Valid(header):
		return nil, nil, fmt.Errorf("%w: the header is not UTF-8", ErrCorrupt)
	}
	p := newHeaderParser(header)
	if err := p.parse(); err != nil {
		return nil, nil, fmt.Errorf("%w: header: %w", ErrCorrupt, err)
	}
	return p.tensors, p.md, checkCover(p.tensors, data)
}

// checkCover verifies that the tensors cover the data exactly, gives them their bytes and orders them.
func checkCover(tensors []rawTensor, data []byte) error {
	slices.SortStableFunc(tensors, func(a, b rawTensor) int {
		return cmp.Or(cmp.Compare(a.begin, b.begin), cmp.Compare(a.end, b.end))
	})
	end := uint64(0)
	for i := range tensors {
		t := &tensors[i]
		switch {
		case t.begin != end:
			return fmt.Errorf("%w: tensor %q begins at %d, the one before ends at %d", ErrCorrupt, t.name, t.begin, end)
		case t.end < t.begin || t.end > uint64(len(data)):
			return fmt.Errorf("%w: tensor %q has the bytes %d to %d of %d", ErrCorrupt, t.name, t.begin, t.end, len(data))
		}
		size, err := t.bytes()
		if err != nil {
			return fmt.Errorf("tensor %q: %w", t.name, err)
		}
		if size != t.end-t.begin {
			return fmt.Errorf("%w: tensor %q: %s %v needs %d bytes, it has %d", ErrCorrupt, t.name, t.dtype, t.shape, size, t.end-t.begin)
		}
		t.data = data[t.begin:t.end:t.end]
		end = t.end
	}
	if end != uint64(len(data)) {
		return fmt.Errorf("%w: %d bytes follow the last tensor", ErrCorrupt, uint64(len(data))-end)
	}
	return nil
}

// bytes is the size that type and shape ask for.
func (t *rawTensor) bytes() (uint64, error) {
	n := dataTypes[t.dtype].bits
	for _, d := range t.shape {
		hi, lo := bits.Mul64(n, uint64(d))
		if hi != 0 || lo > 1<<62 {
			return 0, fmt.Errorf("%w: the shape %v overflows", ErrCorrupt, t.shape)
		}
		n = lo
	}
	if n%8 != 0 {
		return 0, fmt.Errorf("%w: %s %v does not fill whole bytes", ErrCorrupt, t.dtype, t.shape)
	}
	return n / 8, nil
}

// headerParser reads the JSON of a header token by token, since duplicate names must be noticed and nothing deeper than
// the format is followed.
type headerParser struct {
	json    *json.Decoder
	md      *Metadata
	tensors []rawTensor
}

func newHeaderParser(header []byte) *headerParser {
	p := &headerParser{json: json.NewDecoder(bytes.NewReader(header)), md: NewMetadata()}
	p.json.UseNumber()
	return p
}

func (p *headerParser) parse() error {
	seen := map[string]bool{}
	err := p.object(func(name string) error {
		switch {
		case len(name) > maxKeyBytes:
			return fmt.Errorf("a name of %d bytes, the most is %d", len(name), maxKeyBytes)
		case seen[name]:
			return fmt.Errorf("tensor %q is there twice", name)
		}
		seen[name] = true
		if name == metadataName {
			return p.metadata()
		}
		t := rawTensor{name: name}
		if err := p.tensor(&t); err != nil {
			return fmt.Errorf("tensor %q: %w", name, err)
		}
		p.tensors = append(p.tensors, t)
		return nil
	})
	if err != nil {
		return err
	}
	if _, err := p.json.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("something follows the object")
	}
	return nil
}

func (p *headerParser) metadata() error {
	return p.object(func(key string) error {
		value, err := p.text()
		if err != nil {
			return fmt.Errorf("%s: %s: %w", metadataName, quote(key), err)
		}
		p.md.Set("safetensors."+key, value)
		return nil
	})
}

func (p *headerParser) tensor(t *rawTensor) error {
	var offsets []uint64
	fields := 0
	err := p.object(func(field string) (err error) {
		fields++
		switch {
		case field == "dtype" && t.dtype == "":
			t.dtype, err = p.text()
			if _, known := dataTypes[t.dtype]; err == nil && !known {
				err = fmt.Errorf("dtype %s is unknown", quote(t.dtype))
			}
		case field == "shape" && t.shape == nil:
			var dims []uint64
			if dims, err = p.numbers(); err != nil {
				return fmt.Errorf("shape: %w", err)
			}
			t.shape = make([]int, len(dims))
			for i, d := range dims {
				if d > maxDimension {
					return fmt.Errorf("shape: dimension %d has %d elements", i, d)
				}
				t.shape[i] = int(d)
			}
		case field == "data_offsets" && offsets == nil:
			if offsets, err = p.numbers(); err != nil {
				return fmt.Errorf("data_offsets: %w", err)
			}
			if len(offsets) != 2 {
				return fmt.Errorf("data_offsets: %d numbers, want 2", len(offsets))
			}
			t.begin, t.end = offsets[0], offsets[1]
		default:
			err = fmt.Errorf("field %s is unknown or there twice", quote(field))
		}
		return err
	})
	if err == nil && fields != 3 {
		err = fmt.Errorf("%d of the fields dtype, shape and data_offsets", fields)
	}
	return err
}

// object reads an object and calls member for each key; member reads the value.
func (p *headerParser) object(member func(key string) error) error {
	if err := p.delim('{', "an object"); err != nil {
		return err
	}
	for p.json.More() {
		token, err := p.json.Token()
		if err != nil {
			return err
		}
		if err := member(token.(string)); err != nil { // keys are strings; the decoder sees to it
			return err
		}
	}
	return p.delim('}', "the end of an object")
}

func (p *headerParser) delim(want json.Delim, what string) error {
	token, err := p.json.Token()
	if err != nil {
		return err
	}
	if token != want {
		return fmt.Errorf("%s, want %s", quote(token), what)
	}
	return nil
}

func (p *headerParser) text() (string, error) {
	token, err := p.json.Token()
	if err != nil {
		return "", err
	}
	s, ok := token.(string)
	if !ok {
		return "", fmt.Errorf("%s, want a string", quote(token))
	}
	return s, nil
}

// numbers reads a short array of whole numbers, never nil.
func (p *headerParser) numbers() ([]uint64, error) {
	if err := p.delim('[', "an array"); err != nil {
		return nil, err
	}
	values := []uint64{}
	for p.json.More() {
		token, err := p.json.Token()
		if err != nil {
			return nil, err
		}
		number, _ := token.(json.Number)
		v, err := strconv.ParseUint(number.String(), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%s, want a whole number", quote(token))
		}
		if len(values) == maxNumbers {
			return nil, fmt.Errorf("more than %d numbers", maxNumbers)
		}
		values = append(values, v)
	}
	return values, p.delim(']', "the end of an array")
}

// OutTensor is a tensor to be written to a safetensors file.
type OutTensor struct {
	Name  string
	DType string // "F32", "I32", ...
	Shape []int  // row-major
	Data  []byte // little-endian, rows in order
}

// SaveSafetensors writes a safetensors file at path, whole or not at all.
func SaveSafetensors(path string, tensors []OutTensor) error {
	return saveAside(path, func(w io.Writer) error { return writeSafetensors(w, tensors) })
}

// WriteSafetensors writes a safetensors file with the tensors in the given order. It fails on a tensor whose data do not
// fit its shape, before anything is written.
func WriteSafetensors(w io.Writer, tensors []OutTensor) error {
	if err := writeSafetensors(w, tensors); err != nil {
		return fmt.Errorf("weights: %w", err)
	}
	return nil
}

func writeSafetensors(w io.Writer, tensors []OutTensor) error {
	header := []byte{'{'}
	begin := uint64(0)
	seen := map[string]bool{}
	for i, t := range tensors {
		raw := rawTensor{name: t.Name, dtype: t.DType, shape: t.Shape}
		size, err := raw.bytes()
		switch {
		case err != nil:
			return fmt.Errorf("tensor %q: %w", t.Name, err)
		case dataTypes[t.DType].bits == 0 || size != uint64(len(t.Data)) || seen[t.Name]:
			return fmt.Errorf("tensor %q: type %q, shape %v and %d bytes do not fit, or the name is there twice", t.Name, t.DType, t.Shape, len(t.Data))
		}
		seen[t.Name] = true
		entry, err := json.Marshal(map[string]any{
			"dtype": t.DType, "shape": append([]int{}, t.Shape...), "data_offsets": []uint64{begin, begin + size},
		})
		if err != nil {
			return err
		}
		name, err := json.Marshal(t.Name)
		if err != nil {
			return err
		}
		if i > 0 {
			header = append(header, ',')
		}
		header = append(append(append(header, name...), ':'), entry...)
		begin += size
	}
	header = append(header, '}')
	for len(header)%8 != 0 {
		header = append(header, ' ')
	}
	if _, err := w.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(header)))); err != nil {
		return err
	}
	if _, err := w.Write(header); err != nil {
		return err
	}
	for _, t := range tensors {
		if _, err := w.Write(t.Data); err != nil {
			return err
		}
	}
	return nil
}
