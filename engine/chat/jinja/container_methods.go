package jinja

import (
	"errors"
	"fmt"
	"slices"
)

var errFrozen = errors.New("lists and dicts that came from outside cannot be changed")

func listMethod(name string) method[*List] {
	switch name {
	case "append":
		return changing(listAppend)
	case "extend":
		return changing(listExtend)
	case "insert":
		return changing(listInsert)
	case "pop":
		return changing(listPop)
	case "remove":
		return changing(listRemove)
	case "clear":
		return changing(func(_ *state, l *List, a *arguments) (Value, error) {
			l.items = nil
			_, err := a.bind("clear", 0)
			return None{}, err
		})
	case "reverse":
		return changing(func(st *state, l *List, a *arguments) (Value, error) {
			slices.Reverse(l.items)
			_, err := a.bind("reverse", 0)
			return None{}, errors.Join(err, st.step(len(l.items)))
		})
	case "sort":
		return changing(listSort)
	case "copy":
		return func(st *state, l *List, a *arguments) (Value, error) {
			items, err := st.join(l.items, nil)
			return &List{items: items}, err
		}
	case "index":
		return func(st *state, l *List, a *arguments) (Value, error) { return st.indexOf(l.items, a) }
	case "count":
		return func(st *state, l *List, a *arguments) (Value, error) { return st.countOf(l.items, a) }
	}
	return nil
}

// changing wraps a method that changes its list.
func changing(m method[*List]) method[*List] {
	return func(st *state, l *List, a *arguments) (Value, error) {
		if l.frozen {
			return nil, errFrozen
		}
		return m(st, l, a)
	}
}

func listAppend(st *state, l *List, a *arguments) (Value, error) {
	v, err := a.bind("append", 1, "object")
	if err != nil {
		return nil, err
	}
	l.items = append(l.items, v[0])
	return None{}, st.elements(1)
}

func listExtend(st *state, l *List, a *arguments) (Value, error) {
	v, err := a.bind("extend", 1, "iterable")
	if err != nil {
		return nil, err
	}
	items, err := st.collect(v[0])
	l.items = append(l.items, items...)
	return None{}, err
}

func listInsert(st *state, l *List, a *arguments) (Value, error) {
	v, err := a.bind("insert", 2, "index", "object")
	if err != nil {
		return nil, err
	}
	i, err := intArgument(v[0], "index", 0)
	if err != nil {
		return nil, err
	}
	if i < 0 {
		i += len(l.items)
	}
	l.items = slices.Insert(l.items, min(max(i, 0), len(l.items)), v[1])
	return None{}, errors.Join(st.elements(1), st.scan(len(l.items)*elementBytes))
}

func listPop(st *state, l *List, a *arguments) (Value, error) {
	v, err := a.bind("pop", 0, "index")
	if err != nil {
		return nil, err
	}
	i, err := intArgument(v[0], "index", -1)
	if err != nil {
		return nil, err
	}
	i, ok := wrapIndex(i, len(l.items))
	if !ok {
		return nil, errors.New("pop index out of range")
	}
	item := l.items[i]
	l.items = slices.Delete(l.items, i, i+1)
	return item, st.scan(len(l.items) * elementBytes)
}

func listRemove(st *state, l *List, a *arguments) (Value, error) {
	at, err := st.indexOf(l.items, a)
	if err != nil {
		return nil, err
	}
	i, _ := asInt(at)
	l.items = slices.Delete(l.items, i, i+1)
	return None{}, nil
}

func listSort(st *state, l *List, a *arguments) (Value, error) {
	v, err := a.bind("sort", 0, "reverse")
	if err != nil {
		return nil, err
	}
	return None{}, sortBy(&st.meter, l.items, func(v Value) Value { return v }, order{boolArgument(v[0]), true})
}

func tupleMethod(name string) method[*tuple] {
	switch name {
	case "index":
		return func(st *state, t *tuple, a *arguments) (Value, error) { return st.indexOf(t.items, a) }
	case "count":
		return func(st *state, t *tuple, a *arguments) (Value, error) { return st.countOf(t.items, a) }
	}
	return nil
}

func (st *state) indexOf(items []Value, a *arguments) (Value, error) {
	v, err := a.bind("index", 1, "value")
	if err != nil {
		return nil, err
	}
	for i, item := range items {
		if same, err := st.equal(item, v[0]); err != nil {
			return nil, err
		} else if same {
			return integer(i), nil
		}
	}
	return nil, errors.New("the value is not in the list")
}

func (st *state) countOf(items []Value, a *arguments) (Value, error) {
	v, err := a.bind("count", 1, "value")
	if err != nil {
		return nil, err
	}
	n := 0
	for _, item := range items {
		same, err := st.equal(item, v[0])
		if err != nil {
			return nil, err
		}
		if same {
			n++
		}
	}
	return integer(n), nil
}

func dictMethod(name string) method[*Dict] {
	switch name {
	case "items", "keys", "values":
		return func(st *state, d *Dict, a *arguments) (Value, error) {
			if _, err := a.bind(name, 0); err != nil {
				return nil, err
			}
			return st.dictView(d, name)
		}
	case "get":
		return dictGet
	case "copy":
		return func(st *state, d *Dict, _ *arguments) (Value, error) {
			c := d.Clone()
			c.frozen = false
			return c, st.elements(2 * d.Len())
		}
	case "update", "setdefault", "pop", "popitem", "clear":
		return func(st *state, d *Dict, a *arguments) (Value, error) {
			if d.frozen {
				return nil, errFrozen
			}
			return st.changeDict(name, d, a)
		}
	case "fromkeys": // exists, so that it hides an element of that name as it does in Python
		return func(*state, *Dict, *arguments) (Value, error) {
			return nil, errors.New("dict.fromkeys is not supported")
		}
	}
	return nil
}

func (st *state) dictView(d *Dict, which string) (Value, error) {
	if err := st.elements(2 * d.Len()); err != nil {
		return nil, err
	}
	v := &view{name: "dict_" + which, items: make([]Value, 0, d.Len())}
	for _, e := range d.entries {
		switch which {
		case "keys":
			v.items = append(v.items, e.key)
		case "values":
			v.items = append(v.items, e.value)
		default:
			v.items = append(v.items, &tuple{[]Value{e.key, e.value}})
		}
	}
	return v, nil
}

func dictGet(st *state, d *Dict, a *arguments) (Value, error) {
	v, err := a.bind("get", 1, "key", "default")
	if err != nil {
		return nil, err
	}
	k, err := st.key(v[0])
	if err != nil {
		return nil, err
	}
	if found, ok := d.get(k); ok {
		return found, nil
	}
	if v[1] == nil {
		return None{}, nil
	}
	return v[1], nil
}

func (st *state) changeDict(name string, d *Dict, a *arguments) (Value, error) {
	switch name {
	case "update":
		return None{}, st.updateDict(d, a)
	case "clear":
		d.entries, d.index = nil, nil
		return None{}, nil
	case "popitem":
		if d.Len() == 0 {
			return nil, errors.New("popitem(): dictionary is empty")
		}
		last := d.entries[d.Len()-1]
		k, _ := keyOf(last.key) // a key of a dict is hashable
		d.remove(k)
		return &tuple{[]Value{last.key, last.value}}, st.step(d.Len())
	}
	v, err := a.bind(name, 1, "key", "default")
	if err != nil {
		return nil, err
	}
	k, err := st.key(v[0])
	if err != nil {
		return nil, err
	}
	found, ok := d.get(k)
	if name == "pop" {
		switch {
		case ok:
			d.remove(k)
			return found, st.step(d.Len())
		case v[1] != nil:
			return v[1], nil
		}
		return nil, errors.New("pop(): the key is not in the dictionary")
	}
	if ok {
		return found, nil
	}
	if v[1] == nil {
		v[1] = None{}
	}
	d.put(k, v[0], v[1])
	return v[1], st.elements(2)
}

// updateDict merges a mapping, or pairs, and keyword arguments into d.
func (st *state) updateDict(d *Dict, a *arguments) error {
	if len(a.positional) > 1 {
		return fmt.Errorf("update() takes at most 1 positional argument (%d given)", len(a.positional))
	}
	for _, from := range a.positional {
		if err := st.mergeInto(d, from); err != nil {
			return err
		}
	}
	for i, name := range a.names {
		d.put(key{'s', name}, Trusted(name), a.keywords[i])
	}
	return st.elements(2 * len(a.names))
}

func (st *state) mergeInto(d *Dict, from Value) error {
	if other, ok := from.(*Dict); ok {
		for _, e := range slices.Clone(other.entries) {
			k, _ := keyOf(e.key) // a key of a dict is hashable
			d.put(k, e.key, e.value)
		}
		return st.elements(2 * other.Len())
	}
	pairs, err := st.collect(from)
	if err != nil {
		return err
	}
	for _, p := range pairs {
		pair, err := st.collect(p)
		if err != nil {
			return err
		}
		if len(pair) != 2 {
			return fmt.Errorf("a dict is made of pairs, not of %d elements", len(pair))
		}
		k, err := st.key(pair[0])
		if err != nil {
			return err
		}
		d.put(k, pair[0], pair[1])
	}
	return st.elements(2 * len(pairs))
}
