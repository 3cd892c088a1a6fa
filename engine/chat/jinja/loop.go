package jinja

import (
	"errors"
	"fmt"
)

// loopValue is the variable loop inside a for block. It looks ahead only as far as it is asked to, as in Jinja2, so that
// a filter with side effects sees the same order of events.
type loopValue struct {
	st     *state
	source *iterator
	filter func(Value) (bool, error) // nil keeps every element

	index    int // of the current element, from 0; -1 before the first
	previous Value
	current  Value
	ahead    []Value // elements already taken from source
	size     int     // -1 while unknown
	depth    int     // of recursive loops, from 0
	changed  []Value // arguments of the last call of changed, nil before the first

	// recurse renders the body for the elements of another value; nil unless the loop is recursive.
	recurse func(v Value, depth int) (Text, error)
}

// pull takes the next element that the filter keeps from the source.
func (l *loopValue) pull() (Value, bool, error) {
	for {
		v, ok := l.source.next()
		if !ok {
			return nil, false, nil
		}
		if err := l.st.step(1); err != nil {
			return nil, false, err
		}
		if l.filter == nil {
			return v, true, nil
		}
		if keep, err := l.filter(v); err != nil || keep {
			return v, err == nil, err
		}
	}
}

// advance moves to the next element.
func (l *loopValue) advance() (bool, error) {
	var next Value
	if len(l.ahead) > 0 {
		next, l.ahead = l.ahead[0], l.ahead[1:]
	} else {
		v, ok, err := l.pull()
		if err != nil || !ok {
			return false, err
		}
		next = v
	}
	l.index++
	l.previous, l.current = l.current, next
	return true, nil
}

// peek returns the element after the current one.
func (l *loopValue) peek() (Value, bool, error) {
	if len(l.ahead) == 0 {
		v, ok, err := l.pull()
		if err != nil || !ok {
			return nil, false, err
		}
		l.ahead = append(l.ahead, v)
	}
	return l.ahead[0], true, nil
}

// length asks the source, or takes all its elements when it does not know.
func (l *loopValue) length() (int, error) {
	if l.size >= 0 {
		return l.size, nil
	}
	if l.source.size != nil && l.filter == nil {
		l.size = l.source.size()
		return l.size, nil
	}
	for {
		v, ok, err := l.pull()
		if err != nil {
			return 0, err
		}
		if !ok {
			break
		}
		if err := l.st.elements(1); err != nil {
			return 0, err
		}
		l.ahead = append(l.ahead, v)
	}
	l.size = l.index + 1 + len(l.ahead)
	return l.size, nil
}

// attribute returns an attribute of loop, nil if it has none of that name.
func (l *loopValue) attribute(name string) (Value, error) {
	switch name {
	case "index":
		return integer(l.index + 1), nil
	case "index0":
		return integer(l.index), nil
	case "first":
		return Bool(l.index == 0), nil
	case "depth":
		return integer(l.depth + 1), nil
	case "depth0":
		return integer(l.depth), nil
	case "length", "revindex", "revindex0":
		n, err := l.length()
		switch name {
		case "revindex":
			n -= l.index
		case "revindex0":
			n -= l.index + 1
		}
		return integer(n), err
	case "last":
		_, more, err := l.peek()
		return Bool(!more), err
	case "nextitem":
		v, more, err := l.peek()
		if !more {
			v = undefined{hint: "there is no next item"}
		}
		return v, err
	case "previtem":
		if l.index == 0 {
			return undefined{hint: "there is no previous item"}, nil
		}
		return l.previous, nil
	case "cycle":
		return &function{"cycle", l.cycle}, nil
	case "changed":
		return &function{"changed", l.hasChanged}, nil
	}
	return nil, nil
}

func (l *loopValue) cycle(_ *state, a *arguments) (Value, error) {
	if len(a.positional) == 0 {
		return nil, errors.New("no items for cycling given")
	}
	return a.positional[l.index%len(a.positional)], nil
}

// hasChanged reports whether its arguments differ from those of the call before.
func (l *loopValue) hasChanged(st *state, a *arguments) (Value, error) {
	if l.changed != nil {
		same, err := st.equalItems(l.changed, a.positional)
		if err != nil || same {
			return Bool(false), err
		}
	}
	l.changed = append([]Value{}, a.positional...)
	return Bool(true), nil
}

func (n *forLoop) exec(st *state, sc *scope, out *textBuilder) (flow, error) {
	v, err := st.eval(sc, n.iterable)
	if err != nil {
		return 0, located(n.line, err)
	}
	return flowNext, located(n.line, n.each(st, sc, out, v, 0))
}

// each runs the body for the elements of a value, or the else part when there are none.
func (n *forLoop) each(st *state, sc *scope, out *textBuilder, v Value, depth int) error {
	source, err := iterate(v)
	if err != nil {
		return err
	}
	loop := &loopValue{st: st, source: source, index: -1, size: -1, depth: depth}
	if n.filter != nil {
		loop.filter = func(item Value) (bool, error) {
			inner := &scope{parent: sc}
			if err := n.target.assign(st, inner, item); err != nil {
				return false, err
			}
			keep, err := st.eval(inner, n.filter)
			return err == nil && truth(keep), err
		}
	}
	if n.recursive {
		loop.recurse = func(v Value, depth int) (Text, error) {
			text := textBuilder{meter: &st.meter}
			if err := n.each(st, sc, &text, v, depth); err != nil {
				return Text{}, err
			}
			return text.text()
		}
	}
	inner := &scope{parent: sc}
	for {
		ok, err := loop.advance()
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		if inner.captured { // a macro of the last iteration may still use it
			inner = &scope{parent: sc}
		}
		inner.names, inner.values = inner.names[:0], inner.values[:0]
		if err := n.target.assign(st, inner, loop.current); err != nil {
			return err
		}
		inner.set("loop", loop)
		f, err := st.run(inner, n.body, out)
		if err != nil {
			return err
		}
		if f == flowBreak {
			break
		}
	}
	if loop.index < 0 {
		_, err = st.run(&scope{parent: sc}, n.otherwise, out)
	}
	return err
}

// callLoop is loop(v) in a recursive loop.
func (l *loopValue) call(a *arguments) (Value, error) {
	if l.recurse == nil {
		return nil, errors.New("the loop must have the 'recursive' marker to be called recursively")
	}
	v, err := a.bind("loop", 1, "iterable")
	if err != nil {
		return nil, err
	}
	if err := l.st.enter(); err != nil {
		return nil, err
	}
	defer func() { l.st.depth-- }()
	text, err := l.recurse(v[0], l.depth+1)
	if err != nil {
		return nil, fmt.Errorf("loop: %w", err)
	}
	return text, nil
}
