package jinja

import (
	"fmt"
	"math/big"
)

// Value is a value of the template language. The types of this package are the only ones, so that a template cannot
// reach anything else.
type Value interface {
	// typeName is Python's name of the type, for messages.
	typeName() string
}

// Bool is True or False.
type Bool bool

// None is Python's None.
type None struct{}

// integer and bigInteger are Python's int; bigInteger holds only what does not fit int64.
type (
	integer    int64
	bigInteger struct{ v *big.Int }
	float      float64
)

// undefined is the value of a name, attribute or element that does not exist. It prints as nothing and is false; using
// it in any other way is an error that says what was missing.
type undefined struct {
	owner string // what the attribute was looked up on, empty for a variable
	name  string
	hint  string // replaces the message made of owner and name
}

func (u undefined) message() string {
	switch {
	case u.hint != "":
		return u.hint
	case u.owner != "":
		return fmt.Sprintf("'%s' has no attribute '%s'", u.owner, u.name)
	}
	return fmt.Sprintf("'%s' is undefined", u.name)
}

// List is Python's list.
type List struct {
	items  []Value
	frozen bool // came from outside: may be shared between renderings, so templates must not change it
}

// NewList returns a list of values, which templates cannot change.
func NewList(items ...Value) *List { return &List{items: items, frozen: true} }

// Len returns the number of elements.
func (l *List) Len() int { return len(l.items) }

// At returns element i, which must exist.
func (l *List) At(i int) Value { return l.items[i] }

// Append adds an element at the end. It is for building values and must not be called once l is being rendered.
func (l *List) Append(v Value) { l.items = append(l.items, v) }

// tuple is Python's tuple.
type tuple struct{ items []Value }

// generator is what Python's lazy functions return: it can be gone through once, and has no length.
type generator struct {
	items []Value
	next  int
}

// view is a dict's keys(), values() or items(): iterable, sized, without subscripts.
type view struct {
	name  string
	items []Value
}

// rangeValue is Python's range, kept as its bounds.
type rangeValue struct{ start, stop, step int }

func (r rangeValue) len() int {
	switch {
	case r.step > 0 && r.start < r.stop:
		return int((uint64(r.stop)-uint64(r.start)-1)/uint64(r.step) + 1)
	case r.step < 0 && r.start > r.stop:
		return int((uint64(r.start)-uint64(r.stop)-1)/(-uint64(r.step)) + 1)
	}
	return 0
}

func (r rangeValue) at(i int) Value { return integer(r.start + i*r.step) }

// namespace is the object whose attributes outlive the scope they are set in.
type namespace struct{ attrs *Dict }

// function is a callable of the language itself or a method bound to its receiver.
type function struct {
	name string
	call func(st *state, a *arguments) (Value, error)
}

func (Bool) typeName() string        { return "bool" }
func (None) typeName() string        { return "NoneType" }
func (integer) typeName() string     { return "int" }
func (bigInteger) typeName() string  { return "int" }
func (float) typeName() string       { return "float" }
func (undefined) typeName() string   { return "Undefined" }
func (*List) typeName() string       { return "list" }
func (*tuple) typeName() string      { return "tuple" }
func (*Dict) typeName() string       { return "dict" }
func (*generator) typeName() string  { return "generator" }
func (v *view) typeName() string     { return v.name }
func (rangeValue) typeName() string  { return "range" }
func (*namespace) typeName() string  { return "Namespace" }
func (*function) typeName() string   { return "builtin_function_or_method" }
func (*macro) typeName() string      { return "Macro" }
func (*loopValue) typeName() string  { return "LoopContext" }
func (*cycler) typeName() string     { return "Cycler" }
func (*joiner) typeName() string     { return "Joiner" }
func (*groupTuple) typeName() string { return "_GroupTuple" }

// objectName is how Jinja names the owner of a missing attribute.
func objectName(v Value) string {
	if _, ok := v.(None); ok {
		return "None"
	}
	return v.typeName() + " object"
}

// truth is Python's bool().
func truth(v Value) bool {
	switch v := v.(type) {
	case Bool:
		return bool(v)
	case None, undefined:
		return false
	case integer:
		return v != 0
	case float:
		return v != 0
	case Text:
		return v.s != ""
	case *List:
		return len(v.items) > 0
	case *tuple:
		return len(v.items) > 0
	case *Dict:
		return v.Len() > 0
	case *view:
		return len(v.items) > 0
	case rangeValue:
		return v.len() > 0
	}
	return true
}

// length is Python's len().
func length(v Value) (int, error) {
	switch v := v.(type) {
	case undefined:
		return 0, nil
	case Text:
		return v.length(), nil
	case *List:
		return len(v.items), nil
	case *tuple:
		return len(v.items), nil
	case *groupTuple:
		return 2, nil
	case *Dict:
		return v.Len(), nil
	case *view:
		return len(v.items), nil
	case rangeValue:
		return v.len(), nil
	case *loopValue:
		return v.length()
	}
	return 0, fmt.Errorf("object of type '%s' has no len()", v.typeName())
}

func isUndefined(v Value) bool { _, ok := v.(undefined); return ok }

func isMapping(v Value) bool { _, ok := v.(*Dict); return ok }

// usable refuses undefined values where an operation needs one.
func usable(v Value) error {
	if u, ok := v.(undefined); ok {
		return undefinedError{u}
	}
	return nil
}

// undefinedError is the use of an undefined value.
type undefinedError struct{ u undefined }

func (e undefinedError) Error() string { return e.u.message() }
