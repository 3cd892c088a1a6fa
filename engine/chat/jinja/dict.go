package jinja

import (
	"fmt"
	"iter"
	"math"
	"strconv"
	"strings"
)

// Dict is Python's dict: it keeps the order in which keys were first set.
type Dict struct {
	entries []entry
	index   map[key]int // position in entries
	frozen  bool        // as in List
}

type entry struct{ key, value Value }

// key identifies a hashable value: equal values have equal keys, as 1, 1.0 and True do.
type key struct {
	kind byte
	text string
}

// NewDict returns an empty dict, which templates cannot change.
func NewDict() *Dict { return &Dict{frozen: true} }

// Len returns the number of entries.
func (d *Dict) Len() int { return len(d.entries) }

// Get returns the value of a text key.
func (d *Dict) Get(name string) (Value, bool) {
	i, ok := d.index[key{'s', name}]
	if !ok {
		return nil, false
	}
	return d.entries[i].value, true
}

// Set adds or replaces the value of a text key written by the program itself. It is for building values and must not be
// called once d is being rendered.
func (d *Dict) Set(name string, v Value) { d.put(key{'s', name}, Trusted(name), v) }

// Delete removes a text key. It must not be called once d is being rendered.
func (d *Dict) Delete(name string) { d.remove(key{'s', name}) }

// All yields keys and values in order.
func (d *Dict) All() iter.Seq2[Value, Value] {
	return func(yield func(Value, Value) bool) {
		for _, e := range d.entries {
			if !yield(e.key, e.value) {
				return
			}
		}
	}
}

// Clone returns a shallow copy.
func (d *Dict) Clone() *Dict {
	c := &Dict{frozen: d.frozen}
	for _, e := range d.entries {
		k, _ := keyOf(e.key) // a key of a dict is hashable
		c.put(k, e.key, e.value)
	}
	return c
}

func (d *Dict) put(k key, name, v Value) {
	if i, ok := d.index[k]; ok {
		d.entries[i].value = v
		return
	}
	if d.index == nil {
		d.index = map[key]int{}
	}
	d.index[k] = len(d.entries)
	d.entries = append(d.entries, entry{name, v})
}

func (d *Dict) get(k key) (Value, bool) {
	i, ok := d.index[k]
	if !ok {
		return nil, false
	}
	return d.entries[i].value, true
}

// remove deletes a key; the later entries move up, which costs time linear in their number.
func (d *Dict) remove(k key) {
	at, ok := d.index[k]
	if !ok {
		return
	}
	d.entries = append(d.entries[:at], d.entries[at+1:]...)
	delete(d.index, k)
	for other, i := range d.index {
		if i > at {
			d.index[other] = i - 1
		}
	}
}

// key returns the key of a hashable value; finding it in a map reads all of it.
func (m *meter) key(v Value) (key, error) {
	k, err := keyOf(v)
	if err != nil {
		return key{}, err
	}
	return k, m.scan(len(k.text))
}

// keyOf returns the key of a hashable value.
func keyOf(v Value) (key, error) { return nestedKey(v, 0) }

func nestedKey(v Value, depth int) (key, error) {
	switch v := v.(type) {
	case Text:
		return key{'s', v.s}, nil
	case Bool:
		if v {
			return key{'n', "1"}, nil
		}
		return key{'n', "0"}, nil
	case integer:
		return key{'n', strconv.FormatInt(int64(v), 10)}, nil
	case bigInteger:
		return key{'n', v.v.String()}, nil
	case float:
		if f := float64(v); f == math.Trunc(f) && !math.IsInf(f, 0) {
			return key{'n', strconv.FormatFloat(f+0, 'f', 0, 64)}, nil // +0 turns -0 into 0
		}
		return key{'f', strconv.FormatFloat(float64(v), 'g', -1, 64)}, nil
	case None:
		return key{'0', ""}, nil
	case *tuple:
		return tupleKey(v, depth+1)
	case undefined:
		return key{'u', ""}, nil
	case rangeValue:
		return key{'r', fmt.Sprintf("%d:%d:%d", v.start, v.stop, v.step)}, nil
	case *List, *Dict, *namespace:
		return key{}, fmt.Errorf("unhashable type: '%s'", v.typeName())
	}
	return key{'p', fmt.Sprintf("%p", v)}, nil
}

// tupleKey writes each element with its length, so that no two tuples share a key. Depth and length are cut, since a
// loop can nest tuples without end.
func tupleKey(t *tuple, depth int) (key, error) {
	const maxDepth, maxBytes = 32, 1 << 16
	if depth > maxDepth {
		return key{}, fmt.Errorf("%w: a tuple key nested more than %d deep", ErrLimit, maxDepth)
	}
	var b strings.Builder
	for _, item := range t.items {
		k, err := nestedKey(item, depth)
		if err != nil {
			return key{}, err
		}
		if b.Len()+len(k.text) > maxBytes {
			return key{}, fmt.Errorf("%w: a tuple key longer than %d bytes", ErrLimit, maxBytes)
		}
		fmt.Fprintf(&b, "%c%d:%s", k.kind, len(k.text), k.text)
	}
	return key{'t', b.String()}, nil
}
