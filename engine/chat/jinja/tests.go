package jinja

import (
	"fmt"
	"math/big"
)

// test decides "value is name(arguments)".
type test func(st *state, v Value, a *arguments) (bool, error)

// testNamed returns a test, nil when there is none of that name.
func testNamed(name string) test {
	switch name {
	case "defined":
		return kind(func(v Value) bool { return !isUndefined(v) })
	case "undefined":
		return kind(isUndefined)
	case "none":
		return kind(func(v Value) bool { _, ok := v.(None); return ok })
	case "boolean":
		return kind(func(v Value) bool { _, ok := v.(Bool); return ok })
	case "true":
		return kind(func(v Value) bool { return v == Value(Bool(true)) })
	case "false":
		return kind(func(v Value) bool { return v == Value(Bool(false)) })
	case "integer":
		return kind(isInteger)
	case "float":
		return kind(func(v Value) bool { _, ok := v.(float); return ok })
	case "number":
		return kind(isNumber)
	case "string":
		return kind(func(v Value) bool { _, ok := v.(Text); return ok })
	case "mapping":
		return kind(isMapping)
	case "sequence":
		return kind(isSequence)
	case "iterable":
		return kind(func(v Value) bool { _, err := iterate(v); return err == nil })
	case "callable":
		return kind(isCallable)
	case "escaped":
		return kind(func(v Value) bool { t, ok := v.(Text); return ok && t.markup })
	case "filter":
		return kind(func(v Value) bool { t, ok := v.(Text); return ok && filterNamed(t.s) != nil })
	case "test":
		return kind(func(v Value) bool { t, ok := v.(Text); return ok && testNamed(t.s) != nil })
	case "lower", "upper":
		return caseTest("is" + name)
	case "odd", "even", "divisibleby":
		return divisibility(name)
	case "sameas":
		return sameTest
	case "eq", "equalto", "==", "ne", "!=", "lt", "lessthan", "<", "le", "<=", "gt", "greaterthan", ">", "ge", ">=", "in":
		return comparing(name)
	}
	return nil
}

// kind makes a test without arguments.
func kind(is func(Value) bool) test {
	return func(_ *state, v Value, a *arguments) (bool, error) {
		_, err := a.bind("the test", 0)
		return is(v), err
	}
}

func isInteger(v Value) bool {
	switch v.(type) {
	case integer, bigInteger:
		return true
	}
	return false
}

// isSequence is what has a length and subscripts.
func isSequence(v Value) bool {
	switch v.(type) {
	case Text, *List, *tuple, *groupTuple, *Dict, rangeValue, undefined:
		return true
	}
	return false
}

func isCallable(v Value) bool {
	switch v.(type) {
	case *function, *macro, *raise, *joiner, *loopValue, undefined:
		return true
	}
	return false
}

func caseTest(method string) test {
	return func(st *state, v Value, a *arguments) (bool, error) {
		if _, err := a.bind("the test", 0); err != nil {
			return false, err
		}
		text, err := st.str(v)
		if err != nil {
			return false, err
		}
		return isClass(method, text.s), st.scan(len(text.s))
	}
}

func divisibility(name string) test {
	return func(st *state, v Value, a *arguments) (bool, error) {
		by, remainder := Value(integer(2)), integer(0)
		if name == "odd" {
			remainder = 1
		}
		if name == "divisibleby" {
			bound, err := a.bind(name, 1, "num")
			if err != nil {
				return false, err
			}
			by = bound[0]
		}
		if err := usable(v); err != nil {
			return false, err
		}
		if !isNumber(v) || !isNumber(by) {
			return false, fmt.Errorf("the test '%s' needs numbers, not '%s' and '%s'", name, v.typeName(), by.typeName())
		}
		rest, err := arithmetic("%", v, by)
		if err != nil {
			return false, err
		}
		return st.equal(rest, remainder)
	}
}

// sameTest is Python's "is": the same object, or equal scalars of one type, which Python does not promise but CPython
// mostly does.
func sameTest(st *state, v Value, a *arguments) (bool, error) {
	bound, err := a.bind("sameas", 1, "other")
	if err != nil {
		return false, err
	}
	other := bound[0]
	switch v := v.(type) {
	case Text:
		t, ok := other.(Text)
		return ok && t.s == v.s, st.scan(len(v.s))
	case bigInteger:
		o, ok := other.(bigInteger)
		return ok && (*big.Int)(o.v).Cmp(v.v) == 0, nil
	case undefined:
		return isUndefined(other), nil
	}
	if _, ok := other.(Text); ok || isUndefined(other) {
		return false, nil
	}
	return v == other, nil
}

func comparing(name string) test {
	operators := map[string]string{
		"eq": "==", "equalto": "==", "ne": "!=", "lt": "<", "lessthan": "<", "le": "<=", "gt": ">", "greaterthan": ">", "ge": ">=",
	}
	op, ok := operators[name]
	if !ok {
		op = name
	}
	return func(st *state, v Value, a *arguments) (bool, error) {
		bound, err := a.bind(name, 1, "other")
		if err != nil {
			return false, err
		}
		return st.compare(op, v, bound[0])
	}
}
