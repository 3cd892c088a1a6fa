package jinja

import "unicode/utf8"

// attribute is object.name: a method, or else the element of that key. A missing one is undefined.
func (st *state) attribute(object Value, name string) (Value, error) {
	if err := usable(object); err != nil {
		return nil, err
	}
	if v, err := ownAttribute(object, name); v != nil || err != nil {
		return v, err
	}
	if d, ok := object.(*Dict); ok {
		if v, ok := d.Get(name); ok {
			return v, nil
		}
	}
	return undefined{owner: objectName(object), name: name}, nil
}

// item is object[index]: the element, or else the attribute of that name. A missing one is undefined.
func (st *state) item(object, index Value) (Value, error) {
	if err := usable(object); err != nil {
		return nil, err
	}
	if text, ok := object.(Text); ok { // finding a character means counting them
		if err := st.scan(2 * len(text.s)); err != nil {
			return nil, err
		}
	}
	if text, ok := index.(Text); ok { // finding a key means reading it
		if err := st.scan(len(text.s)); err != nil {
			return nil, err
		}
	}
	if v := element(object, index); v != nil {
		return v, nil
	}
	if text, ok := index.(Text); ok {
		if v, err := ownAttribute(object, text.s); v != nil || err != nil {
			return v, err
		}
		return undefined{owner: objectName(object), name: text.s}, nil
	}
	return undefined{hint: objectName(object) + " has no such element"}, nil
}

// element returns an element of a container, nil when there is none.
func element(object, index Value) Value {
	if d, ok := object.(*Dict); ok {
		k, err := keyOf(index)
		if err != nil {
			return nil
		}
		v, _ := d.get(k)
		return v
	}
	i, ok := asInt(index)
	if !ok {
		return nil
	}
	switch o := object.(type) {
	case *List:
		if i, ok = wrapIndex(i, len(o.items)); ok {
			return o.items[i]
		}
	case *tuple, *groupTuple:
		items := tupleItems(o)
		if i, ok = wrapIndex(i, len(items)); ok {
			return items[i]
		}
	case rangeValue:
		if i, ok = wrapIndex(i, o.len()); ok {
			return o.at(i)
		}
	case Text:
		if i, ok = wrapIndex(i, o.length()); ok {
			from := o.byteOffset(i)
			_, size := utf8.DecodeRuneInString(o.s[from:])
			return o.slice(from, from+size)
		}
	}
	return nil
}

// wrapIndex counts negative indices from the end.
func wrapIndex(i, size int) (int, bool) {
	if i < 0 {
		i += size
	}
	return i, i >= 0 && i < size
}

// ownAttribute returns what a value has of its own, not as an element: the methods of Python's types and the attributes
// of the language's objects. It returns nil when there is no such name. Names that begin with an underscore do not exist.
func ownAttribute(object Value, name string) (Value, error) {
	switch o := object.(type) {
	case Text:
		return boundMethod(o, name, textMethod(name)), nil
	case *List:
		return boundMethod(o, name, listMethod(name)), nil
	case *tuple:
		return boundMethod(o, name, tupleMethod(name)), nil
	case *Dict:
		return boundMethod(o, name, dictMethod(name)), nil
	case *groupTuple:
		switch name {
		case "grouper":
			return o.grouper, nil
		case "list":
			return o.list, nil
		}
	case *namespace:
		if v, ok := o.attrs.Get(name); ok {
			return v, nil
		}
	case *loopValue:
		return o.attribute(name)
	case *macro:
		return o.attribute(name), nil
	case *cycler:
		return o.attribute(name), nil
	case rangeValue:
		switch name {
		case "start":
			return integer(o.start), nil
		case "stop":
			return integer(o.stop), nil
		case "step":
			return integer(o.step), nil
		}
	}
	return nil, nil
}

// method implements a method of one of Python's types; self has that type.
type method[T Value] func(st *state, self T, a *arguments) (Value, error)

func boundMethod[T Value](self T, name string, m method[T]) Value {
	if m == nil {
		return nil
	}
	return &function{name, func(st *state, a *arguments) (Value, error) { return m(st, self, a) }}
}

func (m *macro) attribute(name string) Value {
	switch name {
	case "name":
		return Trusted(m.node.name)
	case "arguments":
		t := &tuple{}
		for _, p := range m.node.parameters {
			t.items = append(t.items, Trusted(p))
		}
		return t
	}
	return nil
}
