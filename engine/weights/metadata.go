package weights

import (
	"fmt"
	"math"
	"slices"
)

// Metadata is an ordered set of keys and values. A value has one of the types of GGUF: uint8 to uint64, int8 to int64,
// float32, float64, bool, string, or a slice of one of these. After a source is open its metadata is read-only, and
// safe for concurrent use.
type Metadata struct {
	keys   []string
	values map[string]any
}

// NewMetadata returns an empty set.
func NewMetadata() *Metadata { return &Metadata{values: map[string]any{}} }

// Set adds a key or replaces its value. It panics on a value that GGUF has no type for.
func (m *Metadata) Set(key string, value any) {
	if _, ok := valueType(value); !ok {
		panic(fmt.Sprintf("weights: Metadata.Set: key %q: a value of type %T", key, value))
	}
	if _, ok := m.values[key]; !ok {
		m.keys = append(m.keys, key)
	}
	m.values[key] = value
}

// Delete removes a key; it does nothing when the key is not there.
func (m *Metadata) Delete(key string) {
	if _, ok := m.values[key]; ok {
		delete(m.values, key)
		m.keys = slices.DeleteFunc(m.keys, func(k string) bool { return k == key })
	}
}

// Clone returns a copy that shares the slices among the values.
func (m *Metadata) Clone() *Metadata {
	c := NewMetadata()
	for _, key := range m.keys {
		c.Set(key, m.values[key])
	}
	return c
}

// Keys lists the keys in the order of the file. The caller does not modify it.
func (m *Metadata) Keys() []string { return m.keys }

// Get returns a value as it is stored. The caller does not modify it.
func (m *Metadata) Get(key string) (any, bool) {
	v, ok := m.values[key]
	return v, ok
}

// String returns a string; false when the key is missing or holds something else.
func (m *Metadata) String(key string) (string, bool) { return as[string](m, key) }

// Bool returns a boolean; false when the key is missing or holds something else.
func (m *Metadata) Bool(key string) (value, ok bool) { return as[bool](m, key) }

// Strings returns an array of strings; false when the key is missing or holds something else. The caller does not
// modify it.
func (m *Metadata) Strings(key string) ([]string, bool) { return as[[]string](m, key) }

func as[T any](m *Metadata, key string) (T, bool) {
	v, ok := m.values[key].(T)
	return v, ok
}

// Int returns an integer of any width that fits int64; false when the key is missing or holds something else.
func (m *Metadata) Int(key string) (int64, bool) { return toInt(m.values[key]) }

// Uint returns an integer of any width that is not negative; false when the key is missing or holds something else.
func (m *Metadata) Uint(key string) (uint64, bool) {
	if v, ok := m.values[key].(uint64); ok {
		return v, true
	}
	v, ok := toInt(m.values[key])
	return uint64(v), ok && v >= 0
}

// Float returns a number of any type; false when the key is missing or holds something else.
func (m *Metadata) Float(key string) (float64, bool) {
	switch v := m.values[key].(type) {
	case float32:
		return float64(v), true
	case float64:
		return v, true
	case uint64:
		return float64(v), true
	default:
		n, ok := toInt(v)
		return float64(n), ok
	}
}

// Ints returns an array of integers of any width, as a copy; false when the key is missing, holds something else, or an
// element does not fit.
func (m *Metadata) Ints(key string) ([]int, bool) {
	switch v := m.values[key].(type) {
	case []uint8:
		return toInts(v)
	case []int8:
		return toInts(v)
	case []uint16:
		return toInts(v)
	case []int16:
		return toInts(v)
	case []uint32:
		return toInts(v)
	case []int32:
		return toInts(v)
	case []uint64:
		return toInts(v)
	case []int64:
		return toInts(v)
	}
	return nil, false
}

// Floats returns an array of numbers as a copy of float32; false when the key is missing or holds something else.
func (m *Metadata) Floats(key string) ([]float32, bool) {
	switch v := m.values[key].(type) {
	case []float32:
		return slices.Clone(v), true
	case []float64:
		floats := make([]float32, len(v))
		for i, x := range v {
			floats[i] = float32(x)
		}
		return floats, true
	}
	ints, ok := m.Ints(key)
	if !ok {
		return nil, false
	}
	floats := make([]float32, len(ints))
	for i, x := range ints {
		floats[i] = float32(x)
	}
	return floats, true
}

func toInt(value any) (int64, bool) {
	switch v := value.(type) {
	case uint8:
		return int64(v), true
	case int8:
		return int64(v), true
	case uint16:
		return int64(v), true
	case int16:
		return int64(v), true
	case uint32:
		return int64(v), true
	case int32:
		return int64(v), true
	case int64:
		return v, true
	case uint64:
		return int64(v), v <= math.MaxInt64
	}
	return 0, false
}

type integer interface {
	~uint8 | ~int8 | ~uint16 | ~int16 | ~uint32 | ~int32 | ~uint64 | ~int64
}

func toInts[T integer](values []T) ([]int, bool) {
	ints := make([]int, len(values))
	for i, v := range values {
		ints[i] = int(v)
		if T(ints[i]) != v || (ints[i] < 0) != (v < 0) {
			return nil, false
		}
	}
	return ints, true
}

// splitCount is the number of parts of a split GGUF file, 0 or 1 for a file that is whole.
func (m *Metadata) splitCount() uint64 {
	n, _ := m.Uint("split.count")
	return n
}
