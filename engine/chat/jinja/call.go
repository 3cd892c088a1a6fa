package jinja

import (
	"fmt"
	"slices"
)

// arguments are the values of one call.
type arguments struct {
	positional []Value
	names      []string
	keywords   []Value
}

// arguments evaluates what stands between the parentheses of a call.
func (st *state) arguments(sc *scope, list *argumentList) (*arguments, error) {
	a := &arguments{names: slices.Clone(list.names)}
	var err error
	if a.positional, err = st.evalAll(sc, list.positional); err != nil {
		return nil, err
	}
	if a.keywords, err = st.evalAll(sc, list.keywords); err != nil {
		return nil, err
	}
	if list.extra != nil {
		v, err := st.eval(sc, list.extra)
		if err != nil {
			return nil, err
		}
		extra, err := st.collect(v)
		if err != nil {
			return nil, err
		}
		a.positional = append(a.positional, extra...)
	}
	if list.extraByName != nil {
		v, err := st.eval(sc, list.extraByName)
		if err != nil {
			return nil, err
		}
		if err := st.addDict(a, v); err != nil {
			return nil, err
		}
	}
	return a, nil
}

func (st *state) addDict(a *arguments, v Value) error {
	d, ok := v.(*Dict)
	if !ok {
		return fmt.Errorf("argument after ** must be a mapping, not %s", v.typeName())
	}
	for _, e := range d.entries {
		text, ok := e.key.(Text)
		if !ok {
			return fmt.Errorf("keywords must be strings, not %s", e.key.typeName())
		}
		if err := st.step(len(a.names)/namesPerStep + 1); err != nil {
			return err
		}
		if slices.Contains(a.names, text.s) {
			return fmt.Errorf("got multiple values for keyword argument '%s'", text.s)
		}
		a.names = append(a.names, text.s)
		a.keywords = append(a.keywords, e.value)
	}
	return nil
}

// takeKeyword removes a keyword argument and returns it.
func (a *arguments) takeKeyword(name string) (Value, bool) {
	i := slices.Index(a.names, name)
	if i < 0 {
		return nil, false
	}
	v := a.keywords[i]
	a.names = slices.Delete(slices.Clone(a.names), i, i+1)
	a.keywords = slices.Delete(slices.Clone(a.keywords), i, i+1)
	return v, true
}

// bind orders the arguments by parameter; the first required ones must be given, the others are nil when they are not.
func (a *arguments) bind(function string, required int, parameters ...string) ([]Value, error) {
	if len(a.positional) > len(parameters) {
		return nil, fmt.Errorf("%s() takes at most %d arguments (%d given)", function, len(parameters), len(a.positional))
	}
	values := make([]Value, len(parameters))
	copy(values, a.positional)
	for i, name := range a.names {
		at := slices.Index(parameters, name)
		switch {
		case at < 0:
			return nil, fmt.Errorf("%s() got an unexpected keyword argument '%s'", function, name)
		case values[at] != nil:
			return nil, fmt.Errorf("%s() got multiple values for argument '%s'", function, name)
		}
		values[at] = a.keywords[i]
	}
	for i := range required {
		if values[i] == nil {
			return nil, fmt.Errorf("%s() missing required argument '%s'", function, parameters[i])
		}
	}
	return values, nil
}

// The helpers below read one bound argument; a missing one takes the default.

func intArgument(v Value, name string, otherwise int) (int, error) {
	if v == nil {
		return otherwise, nil
	}
	n, ok := asInt(v)
	if !ok {
		return 0, fmt.Errorf("argument '%s' must be an integer, not %s", name, v.typeName())
	}
	return n, nil
}

func textArgument(v Value, name string, otherwise Text) (Text, error) {
	if v == nil {
		return otherwise, nil
	}
	t, ok := v.(Text)
	if !ok {
		return Text{}, fmt.Errorf("argument '%s' must be str, not %s", name, v.typeName())
	}
	return t, nil
}

func boolArgument(v Value) bool { return v != nil && truth(v) }

// absent reports whether an optional argument is missing or None.
func absent(v Value) bool {
	_, none := v.(None)
	return v == nil || none
}

// call calls a value.
func (st *state) call(callee Value, a *arguments, line int) (Value, error) {
	switch c := callee.(type) {
	case *function:
		return c.call(st, a)
	case *macro:
		return st.callMacro(c, a)
	case *loopValue:
		return c.call(a)
	case *joiner:
		return c.call(), nil
	case *raise:
		return nil, c.call(a, line)
	}
	if err := usable(callee); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("'%s' object is not callable", callee.typeName())
}

// macro is a macro with the scope it was defined in, whose names its body sees as they are when it is called.
type macro struct {
	node  *macroNode
	scope *scope
}

// callMacro binds the arguments and returns what the body writes.
func (st *state) callMacro(m *macro, a *arguments) (Value, error) {
	n := m.node
	if err := st.step(len(n.parameters) * len(a.names) / namesPerStep); err != nil {
		return nil, err
	}
	inner := &scope{parent: m.scope}
	rest := &arguments{positional: a.positional, names: a.names, keywords: a.keywords}
	for _, parameter := range n.parameters { // a default does not see what a later parameter's name means outside
		inner.set(parameter, undefined{name: parameter})
	}
	for i, parameter := range n.parameters {
		v, err := st.macroArgument(n, inner, rest, i)
		if err != nil {
			return nil, err
		}
		inner.set(parameter, v)
	}
	if len(rest.positional) > len(n.parameters) {
		extra := rest.positional[len(n.parameters):]
		if !n.usesVarargs {
			return nil, fmt.Errorf("macro '%s' takes not more than %d argument(s)", n.name, len(n.parameters))
		}
		inner.set("varargs", &tuple{extra})
	} else if n.usesVarargs {
		inner.set("varargs", &tuple{})
	}
	if err := bindCaller(n, inner, rest); err != nil {
		return nil, err
	}
	if n.usesKwargs {
		kwargs := &Dict{}
		for i, name := range rest.names {
			kwargs.put(key{'s', name}, Trusted(name), rest.keywords[i])
		}
		inner.set("kwargs", kwargs)
	} else if len(rest.names) > 0 {
		return nil, fmt.Errorf("macro '%s' takes no keyword argument '%s'", n.name, rest.names[0])
	}
	return st.catchMacro(inner, n)
}

func (st *state) catchMacro(sc *scope, n *macroNode) (Value, error) {
	text, err := st.catch(sc, n.body)
	if err != nil {
		return nil, err
	}
	return text, nil
}

// macroArgument is the value of parameter i: given by position, by name, or its default, evaluated now and inside the
// macro, so that it may mention the parameters before it.
func (st *state) macroArgument(n *macroNode, inner *scope, rest *arguments, i int) (Value, error) {
	parameter := n.parameters[i]
	if i < len(rest.positional) {
		if slices.Contains(rest.names, parameter) {
			return nil, fmt.Errorf("macro '%s' got multiple values for argument '%s'", n.name, parameter)
		}
		return rest.positional[i], nil
	}
	if v, ok := rest.takeKeyword(parameter); ok {
		return v, nil
	}
	if at := i - (len(n.parameters) - len(n.defaults)); at >= 0 {
		return st.eval(inner, n.defaults[at])
	}
	return undefined{hint: fmt.Sprintf("parameter '%s' was not provided", parameter)}, nil
}

// bindCaller sets the variable caller of a macro that mentions it.
func bindCaller(n *macroNode, inner *scope, rest *arguments) error {
	if slices.Contains(n.parameters, "caller") {
		return nil
	}
	if !n.usesCaller {
		if slices.Contains(rest.names, "caller") {
			return fmt.Errorf("macro '%s' was invoked by a call block but does not use 'caller'", n.name)
		}
		return nil
	}
	v, ok := rest.takeKeyword("caller")
	if !ok {
		v = undefined{hint: "no caller defined"}
	}
	inner.set("caller", v)
	return nil
}
