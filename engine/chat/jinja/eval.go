package jinja

import (
	"errors"
	"fmt"
)

// eval evaluates an expression, one level deeper.
func (st *state) eval(sc *scope, e expression) (Value, error) {
	if err := st.enter(); err != nil {
		return nil, err
	}
	v, err := e.eval(st, sc)
	st.depth--
	return v, err
}

func (st *state) evalAll(sc *scope, list []expression) ([]Value, error) {
	values := make([]Value, len(list))
	for i, e := range list {
		v, err := st.eval(sc, e)
		if err != nil {
			return nil, err
		}
		values[i] = v
	}
	return values, st.elements(len(values))
}

func (n *constant) eval(*state, *scope) (Value, error) { return n.value, nil }

func (n *name) eval(st *state, sc *scope) (Value, error) {
	st.note(len(n.name) / bytesPerStep)
	return st.lookup(sc, n.name), nil
}

func (n *listLiteral) eval(st *state, sc *scope) (Value, error) {
	items, err := st.evalAll(sc, n.items)
	return &List{items: items}, err
}

func (n *tupleLiteral) eval(st *state, sc *scope) (Value, error) {
	items, err := st.evalAll(sc, n.items)
	return &tuple{items}, err
}

func (n *dictLiteral) eval(st *state, sc *scope) (Value, error) {
	d := &Dict{}
	for i := range n.keys {
		pair, err := st.evalAll(sc, []expression{n.keys[i], n.values[i]})
		if err != nil {
			return nil, err
		}
		k, err := st.key(pair[0])
		if err != nil {
			return nil, located(n.line, err)
		}
		d.put(k, pair[0], pair[1])
	}
	return d, nil
}

func (n *attribute) eval(st *state, sc *scope) (Value, error) {
	object, err := st.eval(sc, n.object)
	if err != nil {
		return nil, err
	}
	st.note(len(n.name) / bytesPerStep)
	v, err := st.attribute(object, n.name)
	return v, located(n.line, err)
}

func (n *subscript) eval(st *state, sc *scope) (Value, error) {
	object, err := st.eval(sc, n.object)
	if err != nil {
		return nil, err
	}
	index, err := st.eval(sc, n.index)
	if err != nil {
		return nil, err
	}
	v, err := st.item(object, index)
	return v, located(n.line, err)
}

func (n *slicing) eval(st *state, sc *scope) (Value, error) {
	object, err := st.eval(sc, n.object)
	if err != nil {
		return nil, err
	}
	var bounds [3]Value
	for i, e := range []expression{n.start, n.stop, n.step} {
		bounds[i] = None{}
		if e == nil {
			continue
		}
		if bounds[i], err = st.eval(sc, e); err != nil {
			return nil, err
		}
	}
	v, err := st.slice(object, bounds)
	return v, located(n.line, err)
}

func (n *unary) eval(st *state, sc *scope) (Value, error) {
	v, err := st.eval(sc, n.operand)
	if err != nil {
		return nil, err
	}
	if n.op == "not" {
		return Bool(!truth(v)), nil
	}
	if err := usable(v); err != nil {
		return nil, located(n.line, err)
	}
	if !isNumber(v) {
		return nil, located(n.line, fmt.Errorf("bad operand type for unary %s: '%s'", n.op, v.typeName()))
	}
	if n.op == "-" {
		v, err = negate(v)
	} else {
		v, err = arithmetic("+", integer(0), v)
	}
	return v, located(n.line, err)
}

func (n *binary) eval(st *state, sc *scope) (Value, error) {
	left, err := st.eval(sc, n.left)
	if err != nil {
		return nil, err
	}
	right, err := st.eval(sc, n.right)
	if err != nil {
		return nil, err
	}
	v, err := st.operate(n.op, left, right)
	return v, located(n.line, err)
}

func (n *logical) eval(st *state, sc *scope) (Value, error) {
	left, err := st.eval(sc, n.left)
	if err != nil || truth(left) == (n.op == "or") {
		return left, err
	}
	return st.eval(sc, n.right)
}

func (n *concatenation) eval(st *state, sc *scope) (Value, error) {
	b := textBuilder{meter: &st.meter}
	for _, part := range n.parts {
		v, err := st.eval(sc, part)
		if err != nil {
			return nil, err
		}
		text, err := st.str(v)
		if err != nil {
			return nil, located(n.line, err)
		}
		b.write(text)
	}
	text, err := b.text()
	return text, located(n.line, err)
}

func (n *comparison) eval(st *state, sc *scope) (Value, error) {
	left, err := st.eval(sc, n.first)
	if err != nil {
		return nil, err
	}
	for i, op := range n.ops {
		right, err := st.eval(sc, n.rest[i])
		if err != nil {
			return nil, err
		}
		ok, err := st.compare(op, left, right)
		if err != nil {
			return nil, located(n.line, err)
		}
		if !ok {
			return Bool(false), nil
		}
		left = right
	}
	return Bool(true), nil
}

func (st *state) compare(op string, left, right Value) (bool, error) {
	switch op {
	case "==":
		return st.equal(left, right)
	case "!=":
		same, err := st.equal(left, right)
		return !same, err
	case "in":
		return st.contains(right, left)
	case "not in":
		in, err := st.contains(right, left)
		return !in, err
	}
	return st.ordered(op, left, right)
}

func (n *conditional) eval(st *state, sc *scope) (Value, error) {
	condition, err := st.eval(sc, n.condition)
	switch {
	case err != nil:
		return nil, err
	case truth(condition):
		return st.eval(sc, n.then)
	case n.otherwise != nil:
		return st.eval(sc, n.otherwise)
	}
	return undefined{hint: fmt.Sprintf("the inline if-expression on line %d evaluated to false and no else section was defined", n.line)}, nil
}

func (n *call) eval(st *state, sc *scope) (Value, error) {
	callee, err := st.eval(sc, n.callee)
	if err != nil {
		return nil, err
	}
	a, err := st.arguments(sc, &n.args)
	if err != nil {
		return nil, located(n.line, err)
	}
	v, err := st.call(callee, a, n.line)
	return v, located(n.line, err)
}

func (n *filterCall) eval(st *state, sc *scope) (Value, error) {
	input, err := st.eval(sc, n.input)
	if err != nil {
		return nil, err
	}
	return n.apply(st, sc, input)
}

// apply runs the filter on an input. A chain that begins with a block's text has no input of its own.
func (n *filterCall) apply(st *state, sc *scope, input Value) (Value, error) {
	if n.filter == nil {
		return nil, located(n.line, unknownError{"filter", n.name})
	}
	a, err := st.arguments(sc, &n.args)
	if err != nil {
		return nil, located(n.line, err)
	}
	v, err := n.filter(st, input, a)
	return v, located(n.line, err)
}

func (n *testCall) eval(st *state, sc *scope) (Value, error) {
	if n.test == nil {
		return nil, located(n.line, unknownError{"test", n.name})
	}
	input, err := st.eval(sc, n.input)
	if err != nil {
		return nil, err
	}
	a, err := st.arguments(sc, &n.args)
	if err != nil {
		return nil, located(n.line, err)
	}
	ok, err := n.test(st, input, a)
	return Bool(ok), located(n.line, err)
}

// operate computes a binary operator.
func (st *state) operate(op string, left, right Value) (Value, error) {
	if text, ok := left.(Text); ok && op == "%" {
		return st.printf(text, right)
	}
	for _, v := range []Value{left, right} {
		if err := usable(v); err != nil {
			return nil, err
		}
	}
	if isNumber(left) && isNumber(right) {
		return arithmetic(op, left, right)
	}
	switch op {
	case "+":
		if v, err := st.add(left, right); v != nil || err != nil {
			return v, err
		}
	case "*":
		count, ok := asInt(right)
		what := left
		if !ok {
			count, ok = asInt(left)
			what = right
		}
		if ok {
			if v, err := st.repeat(what, count); v != nil || err != nil {
				return v, err
			}
		}
	}
	if _, isText := left.(Text); isText && op == "+" {
		return nil, fmt.Errorf(`can only concatenate str (not "%s") to str`, right.typeName())
	}
	return nil, fmt.Errorf("unsupported operand type(s) for %s: '%s' and '%s'", op, left.typeName(), right.typeName())
}

// add joins two values of one sequence type; it returns nil for others.
func (st *state) add(left, right Value) (Value, error) {
	switch l := left.(type) {
	case Text:
		r, ok := right.(Text)
		if !ok {
			return nil, nil
		}
		if l.markup != r.markup { // what is not markup is escaped when joined with markup
			var err error
			if l, err = st.escapeHTML(l); err != nil {
				return nil, err
			}
			if r, err = st.escapeHTML(r); err != nil {
				return nil, err
			}
		}
		joined, err := st.concat(l, r)
		joined.markup = l.markup
		return joined, err
	case *List:
		if r, ok := right.(*List); ok {
			items, err := st.join(l.items, r.items)
			return &List{items: items}, err
		}
	case *tuple:
		if r, ok := right.(*tuple); ok {
			items, err := st.join(l.items, r.items)
			return &tuple{items}, err
		}
	}
	return nil, nil
}

// join returns the elements of both in a new slice.
func (st *state) join(a, b []Value) ([]Value, error) {
	if err := st.elements(len(a) + len(b)); err != nil {
		return nil, err
	}
	return append(append(make([]Value, 0, len(a)+len(b)), a...), b...), nil
}

// repeat is a sequence times a count; it returns nil for values of another kind.
func (st *state) repeat(what Value, count int) (Value, error) {
	count = max(count, 0)
	switch w := what.(type) {
	case Text:
		b := textBuilder{meter: &st.meter}
		b.pad(w, count)
		return b.text()
	case *List:
		items, err := st.repeatItems(w.items, count)
		return &List{items: items}, err
	case *tuple:
		items, err := st.repeatItems(w.items, count)
		return &tuple{items}, err
	}
	return nil, nil
}

func (st *state) repeatItems(items []Value, count int) ([]Value, error) {
	if err := st.elements(mulSaturate(len(items), count)); err != nil {
		return nil, err
	}
	var all []Value
	if len(items) > 0 {
		for range count {
			all = append(all, items...)
		}
	}
	return all, nil
}

// slice is Python's object[start:stop:step], None standing for what is left out.
func (st *state) slice(object Value, bounds [3]Value) (Value, error) {
	if err := usable(object); err != nil {
		return nil, err
	}
	var size int
	switch o := object.(type) {
	case Text:
		size = o.length()
	case *List, *tuple, *groupTuple, rangeValue:
		size, _ = length(o)
	default:
		return nil, fmt.Errorf("'%s' object is not subscriptable", object.typeName())
	}
	start, step, count, err := sliceIndices(bounds, size)
	if err != nil {
		return nil, err
	}
	if text, ok := object.(Text); ok {
		return st.sliceText(text, start, step, count)
	}
	if r, ok := object.(rangeValue); ok {
		begin := r.start + start*r.step
		return rangeValue{begin, begin + count*step*r.step, step * r.step}, nil
	}
	if err := st.elements(count); err != nil {
		return nil, err
	}
	items := make([]Value, count)
	from := tupleItems(object)
	if list, ok := object.(*List); ok {
		from = list.items
	}
	for i := range items {
		items[i] = from[start+i*step]
	}
	if _, ok := object.(*List); ok {
		return &List{items: items}, nil
	}
	return &tuple{items}, nil
}

// sliceIndices turns the bounds of a slice into its first index, its step and the number of elements.
func sliceIndices(bounds [3]Value, size int) (start, step, count int, err error) {
	step = 1
	var at [3]int
	for i, b := range bounds {
		if _, none := b.(None); none {
			continue
		}
		n, ok := asInt(b)
		if !ok {
			return 0, 0, 0, errors.New("slice indices must be integers or None")
		}
		at[i] = n
	}
	if _, none := bounds[2].(None); !none {
		if step = at[2]; step == 0 {
			return 0, 0, 0, errors.New("slice step cannot be zero")
		}
	}
	low, high := 0, size // where an index may lie
	if step < 0 {
		low, high = -1, size-1
	}
	clamp := func(b Value, at, otherwise int) int {
		if _, none := b.(None); none {
			return otherwise
		}
		if at < 0 {
			at += size
		}
		return min(max(at, low), high)
	}
	var stop int
	if step > 0 {
		start, stop = clamp(bounds[0], at[0], 0), clamp(bounds[1], at[1], size)
	} else {
		start, stop = clamp(bounds[0], at[0], size-1), clamp(bounds[1], at[1], -1)
	}
	return start, step, rangeValue{start, stop, step}.len(), nil
}

func (st *state) sliceText(t Text, start, step, count int) (Value, error) {
	if count == 0 {
		return Text{markup: t.markup}, nil
	}
	if step == 1 {
		if err := st.text(0, len(t.s)); err != nil {
			return nil, err
		}
		from := t.byteOffset(start)
		return t.slice(from, from+t.slice(from, len(t.s)).byteOffset(count)), nil
	}
	if err := st.elements(len(t.s)); err != nil {
		return nil, err
	}
	var characters []Text
	for c := range t.characters() {
		characters = append(characters, c)
	}
	b := textBuilder{meter: &st.meter}
	for i := range count {
		b.write(characters[start+i*step])
	}
	return b.text()
}
