package jinja

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// formatText is Python's text.format(…): fields in braces, with attributes and subscripts of this language's values.
func (st *state) formatText(t Text, a *arguments) (Value, error) {
	out := textBuilder{meter: &st.meter}
	f := formatter{st: st, args: a, outside: len(t.outside) > 0}
	at := 0
	for {
		i := strings.IndexAny(t.s[at:], "{}")
		if i < 0 {
			break
		}
		out.write(t.slice(at, at+i))
		at += i
		if err := st.step(1); err != nil {
			return nil, err
		}
		if strings.HasPrefix(t.s[at:], "{{") || strings.HasPrefix(t.s[at:], "}}") {
			out.write(t.slice(at, at+1))
			at += 2
			continue
		}
		if t.s[at] == '}' {
			return nil, errors.New("single '}' encountered in format string")
		}
		end := matchBrace(t.s[at:])
		if end < 0 {
			return nil, errors.New("single '{' encountered in format string")
		}
		if err := f.field(&out, t.s[at+1:at+end]); err != nil {
			return nil, err
		}
		at += end + 1
	}
	out.write(t.slice(at, len(t.s)))
	return out.text()
}

// matchBrace returns where the field that begins s ends; braces may nest inside.
func matchBrace(s string) int {
	depth := 0
	for i := range len(s) {
		switch s[i] {
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}

type formatter struct {
	st      *state
	args    *arguments
	outside bool // the format, and with it the fill characters, came from outside
	next    int  // of the fields without a number; -1 once a field has one
}

// field writes name!conversion:spec.
func (f *formatter) field(out *textBuilder, field string) error {
	name, spec := field, ""
	if i := strings.IndexAny(field, "!:"); i >= 0 {
		name, spec = field[:i], field[i:]
	}
	v, err := f.value(name)
	if err != nil {
		return err
	}
	if conversion, ok := strings.CutPrefix(spec, "!"); ok {
		if conversion == "" {
			return errors.New("missing conversion after '!'")
		}
		print := f.st.repr
		if conversion[0] == 's' {
			print = f.st.str
		}
		text, err := print(v)
		if err != nil {
			return err
		}
		v, spec = text, conversion[1:]
	}
	spec = strings.TrimPrefix(spec, ":")
	for strings.Contains(spec, "{") { // a nested field supplies part of the spec
		from := strings.IndexByte(spec, '{')
		end := strings.IndexByte(spec[from:], '}')
		if end < 0 {
			return errors.New("unmatched '{' in format spec")
		}
		nested, err := f.value(spec[from+1 : from+end])
		if err != nil {
			return err
		}
		text, err := f.st.str(nested)
		if err != nil {
			return err
		}
		if strings.Contains(text.s, "{") {
			return errors.New("invalid format specifier")
		}
		spec = spec[:from] + text.s + spec[from+end+1:]
		if err := f.st.step(len(spec)/bytesPerStep + 1); err != nil {
			return err
		}
	}
	return f.write(out, v, spec)
}

// value finds what a field's name refers to: an argument, then its attributes and elements.
func (f *formatter) value(name string) (Value, error) {
	first := name
	if i := strings.IndexAny(name, ".["); i >= 0 {
		first = name[:i]
	}
	v, err := f.argument(first)
	if err != nil {
		return nil, err
	}
	for rest := name[len(first):]; rest != ""; {
		if attr, ok := strings.CutPrefix(rest, "."); ok {
			end := strings.IndexAny(attr, ".[")
			if end < 0 {
				end = len(attr)
			}
			if v, err = f.st.attribute(v, attr[:end]); err != nil {
				return nil, err
			}
			rest = attr[end:]
			continue
		}
		end := strings.IndexByte(rest, ']')
		if end < 0 || rest[0] != '[' {
			return nil, errors.New("expected '}' before end of string")
		}
		index := Value(Trusted(rest[1:end]))
		if n, err := strconv.Atoi(rest[1:end]); err == nil && n >= 0 {
			index = integer(n)
		}
		if v, err = f.st.item(v, index); err != nil {
			return nil, err
		}
		rest = rest[end+1:]
	}
	return v, nil
}

func (f *formatter) argument(name string) (Value, error) {
	i, err := strconv.Atoi(name)
	switch {
	case name == "" && f.next < 0 || name != "" && err == nil && f.next > 0:
		return nil, errors.New("cannot mix numbered and unnumbered fields")
	case name == "":
		i = f.next
		f.next++
	case err == nil:
		f.next = -1
	default:
		f.st.note(len(f.args.names) / namesPerStep)
		for j, keyword := range f.args.names {
			if keyword == name {
				return f.args.keywords[j], nil
			}
		}
		return nil, fmt.Errorf("no argument named '%s' for format string", name)
	}
	if i < 0 || i >= len(f.args.positional) {
		return nil, fmt.Errorf("replacement index %d out of range for positional arguments", i)
	}
	return f.args.positional[i], nil
}

// write is Python's format(v, spec).
func (f *formatter) write(out *textBuilder, v Value, text string) error {
	spec, err := parseSpec(text)
	if err != nil {
		return err
	}
	if f.outside {
		spec.fill = Untrusted(spec.fill.s)
	}
	var formatted Text
	switch {
	case isNumber(v) && !isBoolWithoutKind(v, &spec):
		if formatted, err = spec.number(v); err != nil {
			return err
		}
		if spec.align == 0 {
			spec.align = '>'
		}
	case text != "" && !isText(v):
		return fmt.Errorf("unsupported format string passed to %s.__format__", v.typeName())
	case spec.kind != 0 && spec.kind != 's':
		return fmt.Errorf("unknown format code '%c' for object of type '%s'", spec.kind, v.typeName())
	default:
		if formatted, err = f.st.str(v); err != nil {
			return err
		}
		formatted = spec.cut(formatted)
		spec.zero = false
	}
	if spec.align == 0 {
		spec.align = '<'
	}
	spec.pad(out, formatted)
	return out.err
}

func isText(v Value) bool { _, ok := v.(Text); return ok }

// isBoolWithoutKind picks out the bools that print as True and False.
func isBoolWithoutKind(v Value, spec *formatSpec) bool {
	_, ok := v.(Bool)
	return ok && spec.kind == 0
}

// parseSpec reads [[fill]align][sign][#][0][width][grouping][.precision][type].
func parseSpec(s string) (formatSpec, error) {
	spec := formatSpec{precision: -1}
	if s == "" {
		return spec, nil
	}
	if _, size := utf8.DecodeRuneInString(s); len(s) > size && strings.IndexByte("<>^=", s[size]) >= 0 {
		spec.fill, spec.align, s = Trusted(s[:size]), s[size], s[size+1:]
	} else if strings.IndexByte("<>^=", s[0]) >= 0 {
		spec.align, s = s[0], s[1:]
	}
	for s != "" && strings.IndexByte("+- #0", s[0]) >= 0 {
		if s[0] != '-' {
			spec.flag(s[0])
		}
		s = s[1:]
	}
	if spec.zero && spec.align != 0 {
		spec.zero = false
		if spec.fill.s == "" {
			spec.fill = Trusted("0")
		}
	}
	var err error
	if n := matchDigits(s, "0123456789"); n > 0 {
		if spec.width, err = strconv.Atoi(s[:n]); err != nil {
			return spec, err
		}
		s = s[n:]
	}
	if s != "" && (s[0] == ',' || s[0] == '_') {
		spec.grouping, s = s[0], s[1:]
	}
	if rest, ok := strings.CutPrefix(s, "."); ok {
		n := matchDigits(rest, "0123456789")
		if spec.precision, err = strconv.Atoi(rest[:n]); err != nil {
			return spec, errors.New("format specifier missing precision")
		}
		s = rest[n:]
	}
	if s != "" {
		spec.kind, s = s[0], s[1:]
	}
	if s != "" {
		return spec, errors.New("invalid format specifier")
	}
	return spec, nil
}

// number formats an integer or a float.
func (s *formatSpec) number(v Value) (Text, error) {
	if err := s.check(); err != nil {
		return Text{}, err
	}
	_, isFloat := v.(float)
	switch s.kind {
	case 0, 'n':
		if !isFloat {
			return Trusted(s.integer(v, 'd')), nil
		}
		f, _ := asFloat(v)
		if s.precision < 0 {
			return Trusted(s.signOf(f < 0) + s.group(floatString(max(f, -f)), 10)), nil
		}
		return Trusted(s.float(f, 'g')), nil
	case 'd', 'x', 'X', 'o', 'b':
		if isFloat {
			break
		}
		return Trusted(s.integer(v, s.kind)), nil
	case 'c':
		if n, ok := asInt(v); ok && n >= 0 && n <= 0x10ffff {
			return Trusted(string(rune(n))), nil
		}
	case 'e', 'E', 'f', 'F', 'g', 'G', '%':
		f, err := asFloat(v)
		if err != nil {
			return Text{}, err
		}
		if s.kind == '%' {
			return Trusted(s.float(100*f, 'f') + "%"), nil
		}
		return Trusted(s.float(f, s.kind)), nil
	}
	return Text{}, fmt.Errorf("unknown format code '%c' for object of type '%s'", s.kind, v.typeName())
}
