package weights

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"

	"hearth/hardware/quant"
)

// NewTensor is a tensor to be written to a GGUF file.
type NewTensor struct {
	Name  string
	Type  uint32 // GGUF tensor type
	Shape []int  // row-major
	// Write writes exactly the tensor's bytes. It is called once, when the tensor's turn comes, so that a file may be
	// larger than memory.
	Write func(w io.Writer) error
}

// Size returns the bytes that the tensor's type and shape ask for, or what is wrong with them.
func (t *NewTensor) Size() (int64, error) {
	blockLen, blockBytes, ok := quant.TypeSize(t.Type)
	if !ok {
		return 0, fmt.Errorf("tensor %q: %w: %s", t.Name, ErrUnsupported, quant.TypeName(t.Type))
	}
	size, err := tensorSize(t.Shape, blockLen, blockBytes)
	if err != nil {
		return 0, fmt.Errorf("tensor %q: %w", t.Name, err)
	}
	return int64(size), nil
}

// SaveGGUF writes a GGUF file at path, whole or not at all.
func SaveGGUF(path string, md *Metadata, tensors []NewTensor) error {
	return saveAside(path, func(w io.Writer) error { return writeGGUF(w, md, tensors) })
}

// WriteGGUF writes a GGUF file of version 3. The tensors follow each other in the given order, aligned as the key
// general.alignment says, or else to 32 bytes. Nothing is written when a name, a shape or a type is wrong.
func WriteGGUF(w io.Writer, md *Metadata, tensors []NewTensor) error {
	if err := writeGGUF(w, md, tensors); err != nil {
		return fmt.Errorf("weights: %w", err)
	}
	return nil
}

func writeGGUF(w io.Writer, md *Metadata, tensors []NewTensor) error {
	alignment, err := ggufAlign(md)
	if err != nil {
		return err
	}
	header, sizes, err := ggufHeader(md, tensors, alignment)
	if err != nil {
		return err
	}
	out := &countingWriter{w: bufio.NewWriterSize(w, 1<<20)}
	if _, err := out.Write(header); err != nil {
		return err
	}
	padding := make([]byte, alignment)
	for i := range tensors {
		pad := alignUp(out.n, alignment) - out.n
		if _, err := out.Write(padding[:pad]); err != nil {
			return err
		}
		start := out.n
		if err := tensors[i].Write(out); err != nil {
			return fmt.Errorf("tensor %q: %w", tensors[i].Name, err)
		}
		if out.n-start != uint64(sizes[i]) {
			return fmt.Errorf("tensor %q: %d bytes were written, its shape needs %d", tensors[i].Name, out.n-start, sizes[i])
		}
	}
	pad := alignUp(out.n, alignment) - out.n
	if _, err := out.Write(padding[:pad]); err != nil {
		return err
	}
	return out.w.Flush()
}

// ggufHeader encodes everything before the data, and returns the size of each tensor.
func ggufHeader(md *Metadata, tensors []NewTensor, alignment uint64) ([]byte, []int64, error) {
	b := binary.LittleEndian.AppendUint32([]byte(ggufMagic), ggufVersion)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(tensors)))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(md.Keys())))
	for _, key := range md.Keys() {
		if len(key) == 0 || len(key) > maxKeyBytes {
			return nil, nil, fmt.Errorf("a key of %d bytes, want 1 to %d", len(key), maxKeyBytes)
		}
		value, _ := md.Get(key)
		b = appendValue(appendString(b, key), value)
	}
	sizes := make([]int64, len(tensors))
	seen := map[string]bool{}
	offset := uint64(0)
	for i := range tensors {
		t := &tensors[i]
		if len(t.Name) == 0 || len(t.Name) > maxNameBytes || seen[t.Name] || len(t.Shape) == 0 || len(t.Shape) > maxDims || slices.Min(t.Shape) < 1 {
			return nil, nil, fmt.Errorf("tensor %q with the shape %v: want a name of its own of 1 to %d bytes, and 1 to %d dimensions of at least 1",
				t.Name, t.Shape, maxNameBytes, maxDims)
		}
		seen[t.Name] = true
		size, err := t.Size()
		if err != nil {
			return nil, nil, err
		}
		sizes[i] = size
		b = appendString(b, t.Name)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(t.Shape)))
		for j := len(t.Shape) - 1; j >= 0; j-- {
			b = binary.LittleEndian.AppendUint64(b, uint64(t.Shape[j]))
		}
		b = binary.LittleEndian.AppendUint32(b, t.Type)
		b = binary.LittleEndian.AppendUint64(b, offset)
		offset = alignUp(offset+uint64(size), alignment)
	}
	return b, sizes, nil
}

func appendString(b []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint64(b, uint64(len(s))), s...)
}

// appendValue encodes the type of a value and the value; Metadata.Set has seen to its type.
func appendValue(b []byte, value any) []byte {
	t, _ := valueType(value)
	scalar := func() []byte { return binary.LittleEndian.AppendUint32(b, uint32(t)) }
	array := func(n int) []byte {
		b := binary.LittleEndian.AppendUint32(b, uint32(typeArray))
		b = binary.LittleEndian.AppendUint32(b, uint32(t))
		return binary.LittleEndian.AppendUint64(b, uint64(n))
	}
	switch v := value.(type) {
	case string:
		return appendString(scalar(), v)
	case []string:
		b = array(len(v))
		for _, s := range v {
			b = appendString(b, s)
		}
		return b
	case []uint8:
		return appendAll(array(len(v)), v)
	case []int8:
		return appendAll(array(len(v)), v)
	case []uint16:
		return appendAll(array(len(v)), v)
	case []int16:
		return appendAll(array(len(v)), v)
	case []uint32:
		return appendAll(array(len(v)), v)
	case []int32:
		return appendAll(array(len(v)), v)
	case []float32:
		return appendAll(array(len(v)), v)
	case []bool:
		return appendAll(array(len(v)), v)
	case []uint64:
		return appendAll(array(len(v)), v)
	case []int64:
		return appendAll(array(len(v)), v)
	case []float64:
		return appendAll(array(len(v)), v)
	}
	return appendScalar(scalar(), value)
}

func appendAll[T any](b []byte, values []T) []byte {
	for _, v := range values {
		b = appendScalar(b, v)
	}
	return b
}

func appendScalar(b []byte, value any) []byte {
	switch v := value.(type) {
	case uint8:
		return append(b, v)
	case int8:
		return append(b, byte(v))
	case bool:
		if v {
			return append(b, 1)
		}
		return append(b, 0)
	case uint16:
		return binary.LittleEndian.AppendUint16(b, v)
	case int16:
		return binary.LittleEndian.AppendUint16(b, uint16(v))
	case uint32:
		return binary.LittleEndian.AppendUint32(b, v)
	case int32:
		return binary.LittleEndian.AppendUint32(b, uint32(v))
	case float32:
		return binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	case uint64:
		return binary.LittleEndian.AppendUint64(b, v)
	case int64:
		return binary.LittleEndian.AppendUint64(b, uint64(v))
	case float64:
		return binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
	}
	panic(fmt.Sprintf("weights: a value of type %T", value))
}

// countingWriter counts the bytes that went through.
type countingWriter struct {
	w *bufio.Writer
	n uint64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += uint64(n)
	return n, err
}
