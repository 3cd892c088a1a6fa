package jinja

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
)

// filter computes "value | name(arguments)".
type filter func(st *state, v Value, a *arguments) (Value, error)

// filterNamed returns a filter, nil when there is none of that name.
func filterNamed(name string) filter {
	switch name {
	case "tojson":
		return filterToJSON
	case "from_json", "fromjson":
		return filterFromJSON
	case "default", "d":
		return filterDefault
	case "length", "count":
		return func(st *state, v Value, a *arguments) (Value, error) {
			if _, err := a.bind("length", 0); err != nil {
				return nil, err
			}
			if text, ok := v.(Text); ok {
				if err := st.scan(len(text.s)); err != nil {
					return nil, err
				}
			}
			n, err := length(v)
			return integer(n), err
		}
	case "int":
		return filterInt
	case "float":
		return filterFloat
	case "abs":
		return filterAbs
	case "round":
		return filterRound
	case "attr":
		return filterAttr
	case "string":
		return func(st *state, v Value, _ *arguments) (Value, error) {
			if t, ok := v.(Text); ok {
				return t, nil
			}
			return st.str(v)
		}
	}
	if f := textFilter(name); f != nil {
		return f
	}
	return sequenceFilter(name)
}

// filterToJSON writes as json.dumps does with ensure_ascii false, which is how Hugging Face defines this filter.
func filterToJSON(st *state, v Value, a *arguments) (Value, error) {
	bound, err := a.bind("tojson", 0, "ensure_ascii", "indent", "separators", "sort_keys")
	if err != nil {
		return nil, err
	}
	style := jsonStyle{ascii: boolArgument(bound[0]), item: Trusted(", "), colon: Trusted(": "), sortKeys: boolArgument(bound[3])}
	if !absent(bound[1]) {
		style.pretty, style.item = true, Trusted(",")
		if style.indent, err = st.indentation(bound[1]); err != nil {
			return nil, err
		}
	}
	if !absent(bound[2]) {
		pair, err := st.collect(bound[2])
		if err != nil {
			return nil, err
		}
		if len(pair) != 2 {
			return nil, fmt.Errorf("tojson needs 2 separators, not %d", len(pair))
		}
		if style.item, err = textArgument(pair[0], "separators", Text{}); err != nil {
			return nil, err
		}
		if style.colon, err = textArgument(pair[1], "separators", Text{}); err != nil {
			return nil, err
		}
	}
	return st.json(v, style)
}

// indentation is one level of indentation: a number of spaces, or the text itself.
func (st *state) indentation(v Value) (Text, error) {
	if t, ok := v.(Text); ok {
		return t, nil
	}
	n, err := intArgument(v, "indent", 0)
	if err != nil {
		return Text{}, err
	}
	b := textBuilder{meter: &st.meter}
	b.pad(Trusted(" "), n)
	return b.text()
}

// filterFromJSON reads JSON; what it yields has the least trust of the text it came from.
func filterFromJSON(st *state, v Value, a *arguments) (Value, error) {
	if _, err := a.bind("from_json", 0); err != nil {
		return nil, err
	}
	text, ok := v.(Text)
	if !ok {
		return nil, fmt.Errorf("the JSON object must be str, not %s", v.typeName())
	}
	if err := st.elements(len(text.s) / 2); err != nil { // no value of n bytes has more elements
		return nil, err
	}
	value, err := ParseJSON([]byte(text.s))
	if err != nil {
		return nil, fmt.Errorf("from_json: %w", err)
	}
	return value, nil
}

func filterDefault(_ *state, v Value, a *arguments) (Value, error) {
	bound, err := a.bind("default", 0, "default_value", "boolean")
	if err != nil {
		return nil, err
	}
	if !isUndefined(v) && (!boolArgument(bound[1]) || truth(v)) {
		return v, nil
	}
	if bound[0] == nil {
		return Text{}, nil
	}
	return bound[0], nil
}

func filterInt(st *state, v Value, a *arguments) (Value, error) {
	bound, err := a.bind("int", 0, "default", "base")
	if err != nil {
		return nil, err
	}
	base, err := intArgument(bound[1], "base", 10)
	if err != nil {
		return nil, err
	}
	if err := usable(v); err != nil {
		return nil, err
	}
	if t, ok := v.(Text); ok {
		if err := st.scan(len(t.s)); err != nil {
			return nil, err
		}
		if n, ok := parseInt(t.s, base); ok {
			return n, nil
		}
		if f, ok := parseFloat(t.s); ok {
			v = float(f)
		}
	}
	if n, ok := truncated(v); ok {
		return n, nil
	}
	if bound[0] == nil {
		return integer(0), nil
	}
	return bound[0], nil
}

// truncated is a number without its fraction.
func truncated(v Value) (Value, bool) {
	f, isFloat := v.(float)
	if !isFloat {
		n, ok := asBig(v)
		if !ok {
			return nil, false
		}
		i, err := newInteger(n)
		return i, err == nil
	}
	if math.IsNaN(float64(f)) || math.IsInf(float64(f), 0) {
		return nil, false
	}
	n, _ := big.NewFloat(float64(f)).Int(nil)
	i, err := newInteger(n)
	return i, err == nil
}

func filterFloat(st *state, v Value, a *arguments) (Value, error) {
	bound, err := a.bind("float", 0, "default")
	if err != nil {
		return nil, err
	}
	if err := usable(v); err != nil {
		return nil, err
	}
	if t, ok := v.(Text); ok {
		if err := st.scan(len(t.s)); err != nil {
			return nil, err
		}
		if f, ok := parseFloat(t.s); ok {
			return float(f), nil
		}
	} else if isNumber(v) {
		f, err := asFloat(v)
		return float(f), err
	}
	if bound[0] == nil {
		return float(0), nil
	}
	return bound[0], nil
}

func filterAbs(_ *state, v Value, a *arguments) (Value, error) {
	if _, err := a.bind("abs", 0); err != nil {
		return nil, err
	}
	if err := usable(v); err != nil {
		return nil, err
	}
	if !isNumber(v) {
		return nil, fmt.Errorf("bad operand type for abs(): '%s'", v.typeName())
	}
	if f, ok := v.(float); ok {
		return float(math.Abs(float64(f))), nil
	}
	n, _ := asBig(v)
	return newInteger(new(big.Int).Abs(n))
}

// filterRound rounds half to even on the exact value, as Python does; ceil and floor work on the scaled value.
func filterRound(_ *state, v Value, a *arguments) (Value, error) {
	bound, err := a.bind("round", 0, "precision", "method")
	if err != nil {
		return nil, err
	}
	precision, err := intArgument(bound[0], "precision", 0)
	if err != nil {
		return nil, err
	}
	method, err := textArgument(bound[1], "method", Trusted("common"))
	if err != nil {
		return nil, err
	}
	if err := usable(v); err != nil {
		return nil, err
	}
	if !isNumber(v) {
		return nil, fmt.Errorf("type %s cannot be rounded", v.typeName())
	}
	if precision > 400 || precision < -400 { // beyond the digits of any float
		return nil, fmt.Errorf("a precision of %d", precision)
	}
	if n, isInteger := asBig(v); isInteger && method.s == "common" {
		return newInteger(roundInteger(n, precision))
	}
	f, err := asFloat(v)
	if err != nil {
		return nil, err
	}
	switch method.s {
	case "common":
		return float(roundFloat(f, precision)), nil
	case "ceil", "floor":
		scale := math.Pow(10, float64(precision))
		if method.s == "ceil" {
			return float(math.Ceil(f*scale) / scale), nil
		}
		return float(math.Floor(f*scale) / scale), nil
	}
	return nil, errors.New("method must be common, ceil or floor")
}

func roundFloat(f float64, precision int) float64 {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return f
	}
	if precision < 0 {
		scale := math.Pow(10, float64(-precision))
		if math.IsInf(scale, 0) {
			return math.Copysign(0, f)
		}
		return math.RoundToEven(f/scale) * scale
	}
	rounded, _ := strconv.ParseFloat(strconv.FormatFloat(f, 'f', precision, 64), 64) // reads back what was just written
	return rounded
}

// roundInteger rounds to a multiple of 10^-precision, ties to the even one.
func roundInteger(n *big.Int, precision int) *big.Int {
	if precision >= 0 {
		return n
	}
	scale := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(-precision)), nil)
	multiple, rest := new(big.Int).DivMod(n, scale, new(big.Int)) // 0 <= rest < scale
	switch sign := new(big.Int).Lsh(rest, 1).Cmp(scale); {
	case sign > 0, sign == 0 && multiple.Bit(0) == 1:
		multiple.Add(multiple, big.NewInt(1))
	}
	return multiple.Mul(multiple, scale)
}

// filterAttr is object.name without the elements of that key.
func filterAttr(_ *state, v Value, a *arguments) (Value, error) {
	bound, err := a.bind("attr", 1, "name")
	if err != nil {
		return nil, err
	}
	name, err := textArgument(bound[0], "name", Text{})
	if err != nil {
		return nil, err
	}
	if err := usable(v); err != nil {
		return nil, err
	}
	if found, err := ownAttribute(v, name.s); found != nil || err != nil {
		return found, err
	}
	return undefined{owner: objectName(v), name: name.s}, nil
}

// getter reads an attribute path such as "function.name" or "0.id", where numbers are indices. A default replaces what is
// not there.
func (st *state) getter(path Value, otherwise Value) func(Value) (Value, error) {
	var parts []Value
	switch p := path.(type) {
	case nil, None:
	case Text:
		const longest = 4096
		if len(p.s) > longest {
			return func(Value) (Value, error) {
				return nil, fmt.Errorf("%w: an attribute path longer than %d bytes", ErrLimit, longest)
			}
		}
		for part := range strings.SplitSeq(p.s, ".") {
			if n, err := strconv.Atoi(part); err == nil && n >= 0 {
				parts = append(parts, integer(n))
			} else {
				parts = append(parts, Trusted(part))
			}
		}
	default:
		parts = []Value{p}
	}
	return func(v Value) (Value, error) {
		for _, part := range parts {
			if err := st.step(1); err != nil {
				return nil, err
			}
			var err error
			if v, err = st.item(v, part); err != nil {
				return nil, err
			}
			if isUndefined(v) && otherwise != nil {
				v = otherwise
			}
		}
		return v, nil
	}
}

// foldCase is what sorting and grouping compare where case does not matter.
func (m *meter) foldCase(v Value) Value {
	if t, ok := v.(Text); ok {
		m.note(len(t.s) / bytesPerStep)
		return Trusted(strings.ToLower(t.s))
	}
	return v
}
