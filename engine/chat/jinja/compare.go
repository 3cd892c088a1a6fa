package jinja

import "fmt"

// equal is Python's ==. It counts against the limits, because values can share parts without end.
func (m *meter) equal(a, b Value) (bool, error) {
	if err := m.enter(); err != nil {
		return false, err
	}
	defer func() { m.depth-- }()
	if isNumber(a) && isNumber(b) {
		sign, ok := compareNumbers(a, b)
		return ok && sign == 0, nil
	}
	switch a := a.(type) {
	case Text:
		b, ok := b.(Text)
		if !ok || len(a.s) != len(b.s) {
			return false, nil
		}
		return a.s == b.s, m.scan(len(a.s))
	case None:
		_, ok := b.(None)
		return ok, nil
	case undefined:
		return isUndefined(b), nil
	case *List:
		if b, ok := b.(*List); ok {
			return m.equalItems(a.items, b.items)
		}
	case *tuple, *groupTuple:
		x, y := tupleItems(a), tupleItems(b)
		if x != nil && y != nil {
			return m.equalItems(x, y)
		}
	case *Dict:
		if b, ok := b.(*Dict); ok {
			return m.equalDicts(a, b)
		}
	case rangeValue:
		b, ok := b.(rangeValue)
		return ok && a == b, nil
	case *view:
		b, ok := b.(*view)
		return ok && a == b, nil
	case *namespace, *generator, *function, *macro, *loopValue, *cycler, *joiner:
		return a == b, nil
	}
	return false, nil
}

// tupleItems returns the elements of a tuple, nil of anything else.
func tupleItems(v Value) []Value {
	switch v := v.(type) {
	case *tuple:
		if v.items == nil {
			return []Value{}
		}
		return v.items
	case *groupTuple:
		return []Value{v.grouper, v.list}
	}
	return nil
}

func (m *meter) equalItems(a, b []Value) (bool, error) {
	if len(a) != len(b) {
		return false, nil
	}
	for i := range a {
		if same, err := m.equal(a[i], b[i]); err != nil || !same {
			return false, err
		}
	}
	return true, nil
}

func (m *meter) equalDicts(a, b *Dict) (bool, error) {
	if a.Len() != b.Len() {
		return false, nil
	}
	for _, e := range a.entries {
		k, _ := keyOf(e.key) // a key of a dict is hashable
		other, ok := b.get(k)
		if !ok {
			return false, nil
		}
		if same, err := m.equal(e.value, other); err != nil || !same {
			return false, err
		}
	}
	return true, nil
}

// less is Python's a < b, for numbers, texts, lists and tuples.
func (m *meter) less(a, b Value) (bool, error) { return m.ordered("<", a, b) }

// ordered evaluates <, <=, > or >=.
func (m *meter) ordered(op string, a, b Value) (bool, error) {
	if err := m.enter(); err != nil {
		return false, err
	}
	defer func() { m.depth-- }()
	if isNumber(a) && isNumber(b) {
		sign, ok := compareNumbers(a, b)
		return ok && holds(op, sign), nil
	}
	for _, v := range []Value{a, b} {
		if err := usable(v); err != nil {
			return false, err
		}
	}
	if x, ok := a.(Text); ok {
		if y, ok := b.(Text); ok { // UTF-8 sorts as code points do
			return holds(op, compareOrdered(x.s, y.s)), m.scan(min(len(x.s), len(y.s)))
		}
	}
	if x, ok := a.(*List); ok {
		if y, ok := b.(*List); ok {
			return m.orderedItems(op, x.items, y.items)
		}
	}
	if x, y := tupleItems(a), tupleItems(b); x != nil && y != nil {
		return m.orderedItems(op, x, y)
	}
	return false, fmt.Errorf("'%s' not supported between instances of '%s' and '%s'", op, a.typeName(), b.typeName())
}

// orderedItems compares by the first elements that differ, then by length.
func (m *meter) orderedItems(op string, a, b []Value) (bool, error) {
	for i := range min(len(a), len(b)) {
		same, err := m.equal(a[i], b[i])
		if err != nil {
			return false, err
		}
		if !same {
			return m.ordered(op, a[i], b[i])
		}
	}
	return holds(op, compareOrdered(len(a), len(b))), nil
}

func holds(op string, sign int) bool {
	switch op {
	case "<":
		return sign < 0
	case "<=":
		return sign <= 0
	case ">":
		return sign > 0
	}
	return sign >= 0
}

// contains is Python's "item in container".
func (st *state) contains(container, item Value) (bool, error) {
	switch c := container.(type) {
	case Text:
		sub, ok := item.(Text)
		if !ok {
			return false, fmt.Errorf("'in <string>' requires string as left operand, not %s", item.typeName())
		}
		return indexText(c.s, sub.s) >= 0, st.scan(len(c.s))
	case *Dict:
		k, err := st.key(item)
		if err != nil {
			return false, err
		}
		_, ok := c.get(k)
		return ok, nil
	}
	it, err := iterate(container)
	if err != nil {
		return false, fmt.Errorf("argument of type '%s' is not iterable", container.typeName())
	}
	for v, ok := it.next(); ok; v, ok = it.next() {
		if same, err := st.equal(v, item); err != nil || same {
			return same, err
		}
	}
	return false, nil
}
