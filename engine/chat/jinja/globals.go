package jinja

import (
	"errors"
	"fmt"
)

// global returns a function of the language, nil when it has none of that name.
func global(name string) Value {
	switch name {
	case "namespace":
		return &function{name, func(st *state, a *arguments) (Value, error) {
			ns := &namespace{&Dict{}}
			return ns, st.updateDict(ns.attrs, a)
		}}
	case "dict":
		return &function{name, func(st *state, a *arguments) (Value, error) {
			d := &Dict{}
			return d, st.updateDict(d, a)
		}}
	case "range":
		return &function{name, makeRange}
	case "raise_exception":
		return &raise{}
	case "strftime_now":
		return &function{name, strftimeNow}
	case "cycler":
		return &function{name, func(_ *state, a *arguments) (Value, error) {
			if len(a.positional) == 0 {
				return nil, errors.New("at least one item has to be provided")
			}
			return &cycler{items: a.positional}, nil
		}}
	case "joiner":
		return &function{name, func(_ *state, a *arguments) (Value, error) {
			v, err := a.bind("joiner", 0, "sep")
			if err != nil {
				return nil, err
			}
			separator, err := textArgument(v[0], "sep", Trusted(", "))
			return &joiner{separator: separator}, err
		}}
	}
	return nil
}

func makeRange(_ *state, a *arguments) (Value, error) {
	v, err := a.bind("range", 1, "start", "stop", "step")
	if err != nil {
		return nil, err
	}
	r := rangeValue{step: 1}
	if r.stop, err = intArgument(v[0], "stop", 0); err != nil {
		return nil, err
	}
	if v[1] != nil {
		r.start = r.stop
		if r.stop, err = intArgument(v[1], "stop", 0); err != nil {
			return nil, err
		}
	}
	if r.step, err = intArgument(v[2], "step", 1); err != nil {
		return nil, err
	}
	if r.step == 0 {
		return nil, errors.New("range() arg 3 must not be zero")
	}
	const most = 1 << 60 // keeps the arithmetic of indices from overflowing
	for _, bound := range []int{r.start, r.stop, r.step} {
		if bound > most || bound < -most {
			return nil, fmt.Errorf("%w: a range bound of %d", ErrLimit, bound)
		}
	}
	return r, nil
}

// raise is raise_exception, which ends the rendering with the template's message.
type raise struct{}

func (*raise) typeName() string { return "function" }

func (*raise) call(a *arguments, line int) error {
	v, err := a.bind("raise_exception", 1, "message")
	if err != nil {
		return err
	}
	if text, ok := v[0].(Text); ok {
		return &Raised{line, text.s}
	}
	return &Raised{line, scalarString(v[0])}
}

// cycler goes through its values again and again.
type cycler struct {
	items []Value
	at    int
}

func (c *cycler) attribute(name string) Value {
	switch name {
	case "current":
		return c.items[c.at]
	case "next":
		return &function{name, func(*state, *arguments) (Value, error) {
			v := c.items[c.at]
			c.at = (c.at + 1) % len(c.items)
			return v, nil
		}}
	case "reset":
		return &function{name, func(*state, *arguments) (Value, error) {
			c.at = 0
			return None{}, nil
		}}
	}
	return nil
}

// joiner returns its separator on every call but the first.
type joiner struct {
	separator Text
	used      bool
}

func (j *joiner) call() Value {
	if !j.used {
		j.used = true
		return Text{}
	}
	return j.separator
}
