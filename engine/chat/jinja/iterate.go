package jinja

import (
	"fmt"
	"slices"
)

// iterator goes through a value once. A list that grows meanwhile is followed to its new end, as in Python.
type iterator struct {
	next func() (Value, bool)
	size func() int // nil when Python's len() does not know either
}

// iterate is Python's iter().
func iterate(v Value) (*iterator, error) {
	switch v := v.(type) {
	case *List:
		return indexed(func() int { return len(v.items) }, func(i int) Value { return v.items[i] }), nil
	case *tuple:
		return sequence(v.items), nil
	case *groupTuple:
		return sequence(tupleItems(v)), nil
	case *view:
		return sequence(v.items), nil
	case rangeValue:
		return indexed(v.len, v.at), nil
	case *Dict:
		return indexed(func() int { return len(v.entries) }, func(i int) Value { return v.entries[i].key }), nil
	case Text:
		at := 0
		next := func() (Value, bool) {
			for _, r := range v.s[at:] {
				size := runeLen(v.s[at:], r)
				c := v.slice(at, at+size)
				c.markup = false
				at += size
				return c, true
			}
			return nil, false
		}
		return &iterator{next: next, size: v.length}, nil
	case *generator:
		next := func() (Value, bool) {
			if v.next >= len(v.items) {
				return nil, false
			}
			v.next++
			return v.items[v.next-1], true
		}
		return &iterator{next: next}, nil
	case undefined:
		return sequence(nil), nil
	}
	return nil, fmt.Errorf("'%s' object is not iterable", v.typeName())
}

func sequence(items []Value) *iterator {
	return indexed(func() int { return len(items) }, func(i int) Value { return items[i] })
}

func indexed(size func() int, at func(int) Value) *iterator {
	i := 0
	next := func() (Value, bool) {
		if i >= size() {
			return nil, false
		}
		i++
		return at(i - 1), true
	}
	return &iterator{next: next, size: size}
}

// collect returns the elements of an iterable in a slice of its own.
func (m *meter) collect(v Value) ([]Value, error) {
	it, err := iterate(v)
	if err != nil {
		return nil, err
	}
	var items []Value
	for item, ok := it.next(); ok; item, ok = it.next() {
		if err := m.elements(1); err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	return items, nil
}

// order is how sortBy compares.
type order struct {
	reverse       bool
	caseSensitive bool
}

var ascending = order{caseSensitive: true}

// sortBy sorts stably by a key of each element, as Python's sorted() does; reverse keeps equal elements in place, too.
func sortBy[T any](m *meter, items []T, keyFor func(T) Value, o order) error {
	var failed error
	slices.SortStableFunc(items, func(a, b T) int {
		if failed != nil {
			return 0
		}
		x, y := keyFor(a), keyFor(b)
		if o.reverse {
			x, y = y, x
		}
		if !o.caseSensitive {
			x, y = m.foldCase(x), m.foldCase(y)
		}
		before, err := m.less(x, y)
		if err == nil && before {
			return -1
		}
		after := false
		if err == nil {
			after, err = m.less(y, x)
		}
		failed = err
		if after {
			return 1
		}
		return 0
	})
	return failed
}
