package jinja

import (
	"errors"
	"fmt"
)

// run executes statements until the end or a loop control.
func (st *state) run(sc *scope, body []statement, out *textBuilder) (flow, error) {
	if err := st.enter(); err != nil {
		return 0, err
	}
	defer func() { st.depth-- }()
	for _, s := range body {
		if err := st.step(1); err != nil {
			return 0, err
		}
		if f, err := s.exec(st, sc, out); err != nil || f != flowNext {
			return f, err
		}
	}
	return flowNext, nil
}

// catch executes statements in a scope of their own and returns what they write.
func (st *state) catch(sc *scope, body []statement) (Text, error) {
	out := textBuilder{meter: &st.meter}
	if _, err := st.run(sc, body, &out); err != nil {
		return Text{}, err
	}
	return out.text()
}

func (n *data) exec(_ *state, _ *scope, out *textBuilder) (flow, error) {
	out.write(n.text)
	return flowNext, out.err
}

func (n *output) exec(st *state, sc *scope, out *textBuilder) (flow, error) {
	v, err := st.eval(sc, n.value)
	if err != nil {
		return 0, located(n.line, err)
	}
	return flowNext, located(n.line, st.print(out, v))
}

// print writes a value as its text.
func (st *state) print(out *textBuilder, v Value) error {
	text, err := st.str(v)
	if err != nil {
		return err
	}
	out.write(text)
	return out.err
}

func (n *ifBlock) exec(st *state, sc *scope, out *textBuilder) (flow, error) {
	for i, condition := range n.conditions {
		v, err := st.eval(sc, condition)
		if err != nil {
			return 0, located(n.line, err)
		}
		if truth(v) {
			return st.run(sc, n.bodies[i], out)
		}
	}
	return st.run(sc, n.otherwise, out)
}

func (n *assignment) exec(st *state, sc *scope, _ *textBuilder) (flow, error) {
	v, err := st.eval(sc, n.value)
	if err == nil {
		err = n.target.assign(st, sc, v)
	}
	return flowNext, located(n.line, err)
}

func (n *blockAssignment) exec(st *state, sc *scope, _ *textBuilder) (flow, error) {
	text, err := st.catch(&scope{parent: sc}, n.body)
	if err != nil {
		return 0, err
	}
	v, err := st.filterText(sc, n.filter, text)
	if err == nil {
		err = n.target.assign(st, sc, v)
	}
	return flowNext, located(n.line, err)
}

// filterText runs a chain of filters that has a block's text as its input.
func (st *state) filterText(sc *scope, chain expression, text Text) (Value, error) {
	n, ok := chain.(*filterCall)
	if !ok {
		return text, nil
	}
	v, err := st.filterText(sc, n.input, text)
	if err != nil {
		return nil, err
	}
	return n.apply(st, sc, v)
}

func (n *filterBlock) exec(st *state, sc *scope, out *textBuilder) (flow, error) {
	text, err := st.catch(&scope{parent: sc}, n.body)
	if err != nil {
		return 0, err
	}
	v, err := st.filterText(sc, n.filter, text)
	if err != nil {
		return 0, err
	}
	return flowNext, located(n.line, st.print(out, v))
}

// with evaluates all values outside the new scope, as Jinja2 does.
func (n *withBlock) exec(st *state, sc *scope, out *textBuilder) (flow, error) {
	values, err := st.evalAll(sc, n.values)
	if err != nil {
		return 0, located(n.line, err)
	}
	inner := &scope{parent: sc}
	for i, to := range n.targets {
		if err := to.assign(st, inner, values[i]); err != nil {
			return 0, located(n.line, err)
		}
	}
	return st.run(inner, n.body, out)
}

func (n *scopeBlock) exec(st *state, sc *scope, out *textBuilder) (flow, error) {
	return st.run(&scope{parent: sc}, n.body, out)
}

func (n *loopControl) exec(*state, *scope, *textBuilder) (flow, error) { return n.flow, nil }

func (n *macroNode) exec(_ *state, sc *scope, _ *textBuilder) (flow, error) {
	sc.capture()
	sc.set(n.name, &macro{n, sc})
	return flowNext, nil
}

func (n *callBlock) exec(st *state, sc *scope, out *textBuilder) (flow, error) {
	callee, err := st.eval(sc, n.call.callee)
	if err != nil {
		return 0, err
	}
	a, err := st.arguments(sc, &n.call.args)
	if err != nil {
		return 0, located(n.line, err)
	}
	sc.capture()
	a.names = append(a.names, "caller")
	a.keywords = append(a.keywords, &macro{n.caller, sc})
	v, err := st.call(callee, a, n.line)
	if err != nil {
		return 0, located(n.line, err)
	}
	return flowNext, located(n.line, st.print(out, v))
}

func (t *nameTarget) assign(st *state, sc *scope, v Value) error {
	st.note(len(sc.names) / namesPerStep)
	sc.set(t.name, v)
	return nil
}

func (t *namespaceTarget) assign(st *state, sc *scope, v Value) error {
	ns, ok := st.lookup(sc, t.name).(*namespace)
	if !ok {
		return errors.New("cannot assign attribute on non-namespace object")
	}
	if err := st.elements(1); err != nil {
		return err
	}
	ns.attrs.put(key{'s', t.attribute}, Trusted(t.attribute), v)
	return nil
}

func (t *tupleTarget) assign(st *state, sc *scope, v Value) error {
	if err := usable(v); err != nil {
		return err
	}
	it, err := iterate(v)
	if err != nil {
		return fmt.Errorf("cannot unpack non-iterable %s object", v.typeName())
	}
	for i, to := range t.targets {
		item, ok := it.next()
		if !ok {
			return fmt.Errorf("not enough values to unpack (expected %d, got %d)", len(t.targets), i)
		}
		if err := to.assign(st, sc, item); err != nil {
			return err
		}
	}
	if _, more := it.next(); more {
		return fmt.Errorf("too many values to unpack (expected %d)", len(t.targets))
	}
	return nil
}
