package weights

import (
	"encoding/binary"
	"fmt"
	"math"
)

// ggufType is the type of a metadata value.
type ggufType uint32

const (
	typeUint8 ggufType = iota
	typeInt8
	typeUint16
	typeInt16
	typeUint32
	typeInt32
	typeFloat32
	typeBool
	typeString
	typeArray
	typeUint64
	typeInt64
	typeFloat64
	numGGUFTypes
)

// String returns the type's name.
func (t ggufType) String() string {
	if t >= numGGUFTypes {
		return fmt.Sprintf("type %d", uint32(t))
	}
	return [...]string{"uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "bool", "string", "array",
		"uint64", "int64", "float64"}[t]
}

// bytes is the size of a value; of a string or an array the least.
func (t ggufType) bytes() uint64 {
	return [...]uint64{1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8}[t]
}

// valueType returns the type of a value; of a slice that of its elements.
func valueType(value any) (ggufType, bool) {
	switch value.(type) {
	case uint8, []uint8:
		return typeUint8, true
	case int8, []int8:
		return typeInt8, true
	case uint16, []uint16:
		return typeUint16, true
	case int16, []int16:
		return typeInt16, true
	case uint32, []uint32:
		return typeUint32, true
	case int32, []int32:
		return typeInt32, true
	case float32, []float32:
		return typeFloat32, true
	case bool, []bool:
		return typeBool, true
	case string, []string:
		return typeString, true
	case uint64, []uint64:
		return typeUint64, true
	case int64, []int64:
		return typeInt64, true
	case float64, []float64:
		return typeFloat64, true
	}
	return 0, false
}

// ggufReader reads the header of a GGUF file. Every read is checked against the end of the file.
type ggufReader struct {
	data []byte
	pos  int
}

// take returns the next n bytes.
func (r *ggufReader) take(n uint64) ([]byte, error) {
	if left := uint64(len(r.data) - r.pos); n > left {
		return nil, fmt.Errorf("%w: %d bytes wanted at %d, the file has %d more: it is cut off or a length is wrong", ErrCorrupt, n, r.pos, left)
	}
	b := r.data[r.pos : r.pos+int(n)]
	r.pos += int(n)
	return b, nil
}

func (r *ggufReader) uint32() (uint32, error) {
	b, err := r.take(4)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint32(b), nil
}

func (r *ggufReader) uint64() (uint64, error) {
	b, err := r.take(8)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(b), nil
}

// stringBytes reads a string without copying it.
func (r *ggufReader) stringBytes() ([]byte, error) {
	n, err := r.uint64()
	if err != nil {
		return nil, err
	}
	if n > maxString {
		return nil, fmt.Errorf("%w: a string of %d bytes", ErrCorrupt, n)
	}
	return r.take(n)
}

// value reads one value.
func (r *ggufReader) value(t ggufType) (any, error) {
	switch {
	case t >= numGGUFTypes:
		return nil, fmt.Errorf("%w: value of unknown %s", ErrCorrupt, t)
	case t == typeString:
		b, err := r.stringBytes()
		return string(b), err
	case t == typeArray:
		return r.array()
	}
	b, err := r.take(t.bytes())
	if err != nil {
		return nil, err
	}
	switch t {
	case typeUint8:
		return b[0], nil
	case typeInt8:
		return int8(b[0]), nil
	case typeUint16:
		return readUint16(b), nil
	case typeInt16:
		return readInt16(b), nil
	case typeUint32:
		return readUint32(b), nil
	case typeInt32:
		return readInt32(b), nil
	case typeFloat32:
		return readFloat32(b), nil
	case typeBool:
		return readBool(b[0])
	case typeUint64:
		return readUint64(b), nil
	case typeInt64:
		return readInt64(b), nil
	default:
		return readFloat64(b), nil
	}
}

// array reads an array. Its elements must fit into the rest of the file before memory is taken for them.
func (r *ggufReader) array() (any, error) {
	typ, err := r.uint32()
	if err != nil {
		return nil, err
	}
	t := ggufType(typ)
	n, err := r.uint64()
	switch {
	case err != nil:
		return nil, err
	case t == typeArray:
		return nil, fmt.Errorf("%w: an array of arrays", ErrCorrupt)
	case t >= numGGUFTypes:
		return nil, fmt.Errorf("%w: an array of unknown %s", ErrCorrupt, t)
	case n > maxArray || n > uint64(len(r.data)-r.pos)/t.bytes():
		return nil, fmt.Errorf("%w: an array of %d %s values, the file has %d bytes more", ErrCorrupt, n, t, len(r.data)-r.pos)
	case t == typeString:
		return r.strings(int(n))
	}
	b, err := r.take(n * t.bytes())
	if err != nil {
		return nil, err
	}
	switch t {
	case typeUint8:
		return append([]uint8{}, b...), nil
	case typeInt8:
		return elements(b, 1, func(b []byte) int8 { return int8(b[0]) }), nil
	case typeUint16:
		return elements(b, 2, readUint16), nil
	case typeInt16:
		return elements(b, 2, readInt16), nil
	case typeUint32:
		return elements(b, 4, readUint32), nil
	case typeInt32:
		return elements(b, 4, readInt32), nil
	case typeFloat32:
		return elements(b, 4, readFloat32), nil
	case typeBool:
		return readBools(b)
	case typeUint64:
		return elements(b, 8, readUint64), nil
	case typeInt64:
		return elements(b, 8, readInt64), nil
	default:
		return elements(b, 8, readFloat64), nil
	}
}

// strings reads n strings. They share one copy of the file's bytes: vocabularies have some hundred thousand.
func (r *ggufReader) strings(n int) ([]string, error) {
	start := r.pos
	for i := range n {
		if _, err := r.stringBytes(); err != nil {
			return nil, fmt.Errorf("element %d: %w", i, err)
		}
	}
	text := string(r.data[start:r.pos])
	values := make([]string, n)
	for i, pos := 0, 0; i < n; i++ {
		size := int(binary.LittleEndian.Uint64(r.data[start+pos:]))
		values[i] = text[pos+8:][:size]
		pos += 8 + size
	}
	return values, nil
}

func elements[T any](b []byte, size int, read func([]byte) T) []T {
	values := make([]T, len(b)/size)
	for i := range values {
		values[i] = read(b[i*size:])
	}
	return values
}

func readUint16(b []byte) uint16   { return binary.LittleEndian.Uint16(b) }
func readInt16(b []byte) int16     { return int16(binary.LittleEndian.Uint16(b)) }
func readUint32(b []byte) uint32   { return binary.LittleEndian.Uint32(b) }
func readInt32(b []byte) int32     { return int32(binary.LittleEndian.Uint32(b)) }
func readUint64(b []byte) uint64   { return binary.LittleEndian.Uint64(b) }
func readInt64(b []byte) int64     { return int64(binary.LittleEndian.Uint64(b)) }
func readFloat32(b []byte) float32 { return math.Float32frombits(binary.LittleEndian.Uint32(b)) }
func readFloat64(b []byte) float64 { return math.Float64frombits(binary.LittleEndian.Uint64(b)) }

func readBool(b byte) (bool, error) {
	if b > 1 {
		return false, fmt.Errorf("%w: a bool of value %d", ErrCorrupt, b)
	}
	return b == 1, nil
}

func readBools(b []byte) ([]bool, error) {
	values := make([]bool, len(b))
	for i := range b {
		v, err := readBool(b[i])
		if err != nil {
			return nil, fmt.Errorf("element %d: %w", i, err)
		}
		values[i] = v
	}
	return values, nil
}
