package jinja

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
)

// printf is Python's text % values.
func (st *state) printf(format Text, values Value) (Value, error) {
	f := printer{st: st, format: format, out: textBuilder{meter: &st.meter}}
	f.mapping, _ = values.(*Dict)
	if items := tupleItems(values); items != nil {
		f.values = items
	} else {
		f.values = []Value{values}
	}
	at := 0
	for {
		i := strings.IndexByte(format.s[at:], '%')
		if i < 0 {
			break
		}
		f.out.write(format.slice(at, at+i))
		next, err := f.directive(at + i + 1)
		if err != nil {
			return nil, err
		}
		if err := st.step(1); err != nil {
			return nil, err
		}
		at = next
	}
	f.out.write(format.slice(at, len(format.s)))
	_, isList := values.(*List)
	if f.mapping == nil && !isList && f.used < len(f.values) { // Python lets values with subscripts go unused
		return nil, errors.New("not all arguments converted during string formatting")
	}
	return f.out.text()
}

// printer expands the directives of one % format.
type printer struct {
	st      *state
	format  Text
	values  []Value
	mapping *Dict // for %(name)s; nil when the values are no mapping
	used    int
	out     textBuilder
}

// next takes the next positional value.
func (f *printer) next() (Value, error) {
	if f.used >= len(f.values) {
		return nil, errors.New("not enough arguments for format string")
	}
	f.used++
	return f.values[f.used-1], nil
}

// directive expands what follows a percent sign: (name), flags, width, precision, conversion. It returns where it ends.
func (f *printer) directive(at int) (int, error) {
	s := f.format.s
	var v Value
	if at < len(s) && s[at] == '(' {
		end := strings.IndexByte(s[at:], ')')
		if end < 0 || f.mapping == nil {
			return 0, errors.New("format requires a mapping")
		}
		f.st.note(end / bytesPerStep)
		found, ok := f.mapping.Get(s[at+1 : at+end])
		if !ok {
			return 0, fmt.Errorf("no value for '%s' in format string", s[at+1:at+end])
		}
		v, at = found, at+end+1
	}
	spec := formatSpec{align: '>', precision: -1}
	for ; at < len(s) && strings.IndexByte("#0- +", s[at]) >= 0; at++ {
		spec.flag(s[at])
	}
	var err error
	if at, err = f.number(at, &spec.width); err != nil {
		return 0, err
	}
	if spec.width < 0 {
		spec.align, spec.width = '<', -spec.width
	}
	if at < len(s) && s[at] == '.' {
		spec.precision = 0
		if at, err = f.number(at+1, &spec.precision); err != nil {
			return 0, err
		}
	}
	for at < len(s) && strings.IndexByte("hlL", s[at]) >= 0 {
		at++
	}
	if at == len(s) {
		return 0, errors.New("incomplete format")
	}
	if s[at] == '%' {
		f.out.write(f.format.slice(at, at+1))
		return at + 1, nil
	}
	if v == nil {
		if v, err = f.next(); err != nil {
			return 0, err
		}
	}
	text, err := f.convert(s[at], v, &spec)
	if err != nil {
		return 0, err
	}
	spec.pad(&f.out, text)
	return at + 1, nil
}

// number reads a width or precision: digits, or a star for the next value.
func (f *printer) number(at int, n *int) (int, error) {
	s := f.format.s
	if at < len(s) && s[at] == '*' {
		v, err := f.next()
		if err != nil {
			return 0, err
		}
		value, ok := asInt(v)
		if !ok {
			return 0, errors.New("* wants int")
		}
		*n = value
		return at + 1, nil
	}
	end := at + matchDigits(s[at:], "0123456789")
	if end == at {
		return at, nil
	}
	value, err := strconv.Atoi(s[at:end])
	*n = value
	return end, err
}

func (f *printer) convert(conversion byte, v Value, spec *formatSpec) (Text, error) {
	switch conversion {
	case 's', 'r', 'a':
		print := f.st.repr
		if conversion == 's' {
			print = f.st.str
		}
		text, err := print(v)
		spec.zero = false
		return spec.cut(text), err
	case 'c':
		if t, ok := v.(Text); ok && t.length() == 1 {
			return t, nil
		}
		n, ok := asInt(v)
		if !ok || n < 0 || n > 0x10ffff {
			return Text{}, errors.New("%c requires int or char")
		}
		return Trusted(string(rune(n))), nil
	case 'd', 'i', 'u', 'x', 'X', 'o':
		if err := errors.Join(usable(v), spec.check()); err != nil {
			return Text{}, err
		}
		n, ok := truncated(v)
		if _, isFloat := v.(float); !ok || isFloat && strings.IndexByte("xXo", conversion) >= 0 {
			return Text{}, fmt.Errorf("%%%c format: a real number is required, not %s", conversion, v.typeName())
		}
		if conversion == 'i' || conversion == 'u' {
			conversion = 'd'
		}
		return Trusted(spec.integer(n, conversion)), nil
	case 'e', 'E', 'f', 'F', 'g', 'G':
		if err := errors.Join(usable(v), spec.check()); err != nil {
			return Text{}, err
		}
		if !isNumber(v) {
			return Text{}, fmt.Errorf("%%%c format: must be real number, not %s", conversion, v.typeName())
		}
		n, err := asFloat(v)
		if err != nil {
			return Text{}, err
		}
		return Trusted(spec.float(n, conversion)), nil
	}
	return Text{}, fmt.Errorf("unsupported format character '%c'", conversion)
}

// formatSpec is how one value is laid out.
type formatSpec struct {
	fill      Text // default a space
	align     byte // '<', '>', '^', or '=' for padding after the sign
	sign      byte // '+', ' ' or 0 for negative numbers only
	alternate bool // prefixes such as 0x
	zero      bool // zeros after the sign
	width     int
	grouping  byte // ',' or '_' between thousands
	precision int  // -1 when not given
	kind      byte // conversion of str.format, 0 when not given
}

func (s *formatSpec) flag(c byte) {
	switch c {
	case '#':
		s.alternate = true
	case '0':
		s.zero = true
	case '-':
		s.align = '<'
	case '+':
		s.sign = '+'
	case ' ':
		if s.sign == 0 {
			s.sign = ' '
		}
	}
}

// check refuses a precision that would make a number of any length; texts are cut by theirs.
func (s *formatSpec) check() error {
	const most = 1000
	if s.precision > most {
		return fmt.Errorf("%w: a precision of %d digits", ErrLimit, s.precision)
	}
	return nil
}

// cut shortens a text to the precision.
func (s *formatSpec) cut(t Text) Text {
	if s.precision >= 0 && t.length() > s.precision {
		return t.slice(0, t.byteOffset(s.precision))
	}
	return t
}

// integer writes an integer in base 10, 16, 8 or 2.
func (s *formatSpec) integer(v Value, conversion byte) string {
	n, _ := asBig(v)
	base := map[byte]int{'x': 16, 'X': 16, 'o': 8, 'b': 2}[conversion]
	if base == 0 {
		base = 10
	}
	digits := new(big.Int).Abs(n).Text(base)
	if conversion == 'X' {
		digits = strings.ToUpper(digits)
	}
	if missing := s.precision - len(digits); missing > 0 {
		digits = strings.Repeat("0", missing) + digits
	}
	prefix := ""
	if s.alternate && base != 10 {
		prefix = "0" + string(conversion)
	}
	return s.signOf(n.Sign() < 0) + prefix + s.group(digits, base)
}

func (s *formatSpec) float(f float64, conversion byte) string {
	precision := s.precision
	if precision < 0 {
		precision = 6
	}
	negative := math.Signbit(f) && !math.IsNaN(f)
	var digits string
	switch {
	case math.IsNaN(f):
		digits = "nan"
	case math.IsInf(f, 0):
		digits = "inf"
	case conversion == 'g' || conversion == 'G':
		digits = generalFloat(math.Abs(f), max(precision, 1), s.alternate)
	default:
		digits = strconv.FormatFloat(math.Abs(f), conversion|0x20, precision, 64)
	}
	if conversion < 'a' {
		digits = strings.ToUpper(digits)
	}
	return s.signOf(negative) + s.group(digits, 10)
}

// generalFloat is C's %g: significant digits, an exponent where it is below -4 or not below the precision.
func generalFloat(f float64, precision int, keepZeros bool) string {
	digits := strconv.FormatFloat(f, 'e', precision-1, 64)
	mantissa, exponentText, _ := strings.Cut(digits, "e")
	exponent, _ := strconv.Atoi(exponentText)
	if exponent >= -4 && exponent < precision {
		mantissa, exponentText = strconv.FormatFloat(f, 'f', precision-1-exponent, 64), ""
	}
	if !keepZeros && strings.Contains(mantissa, ".") {
		mantissa = strings.TrimRight(strings.TrimRight(mantissa, "0"), ".")
	}
	if exponentText != "" {
		return mantissa + "e" + exponentText
	}
	return mantissa
}

func (s *formatSpec) signOf(negative bool) string {
	switch {
	case negative:
		return "-"
	case s.sign != 0:
		return string(s.sign)
	}
	return ""
}

// group puts separators into the digits before the point: every three, of other bases every four.
func (s *formatSpec) group(digits string, base int) string {
	if s.grouping == 0 {
		return digits
	}
	every := 3
	if base != 10 {
		every = 4
	}
	whole := matchDigits(digits, "0123456789abcdefABCDEF")
	if base == 10 {
		whole = matchDigits(digits, "0123456789")
	}
	var groups []string
	rest := digits[:whole]
	for len(rest) > every {
		groups = append(groups, rest[len(rest)-every:])
		rest = rest[:len(rest)-every]
	}
	groups = append(groups, rest)
	slices.Reverse(groups)
	return strings.Join(groups, string(s.grouping)) + digits[whole:]
}

// pad writes a text within the width.
func (s *formatSpec) pad(out *textBuilder, t Text) {
	missing := s.width - t.length()
	fill := s.fill
	align := s.align
	if s.zero && align != '<' {
		fill, align = Trusted("0"), '='
	}
	if fill.s == "" {
		fill = Trusted(" ")
	}
	left := 0
	switch align {
	case '>':
		left = missing
	case '^':
		left = missing / 2
	case '=':
		head := 0
		if len(t.s) > 0 && strings.IndexByte("+- ", t.s[0]) >= 0 {
			head = 1
		}
		if len(t.s) > head+1 && t.s[head] == '0' && strings.IndexByte("xXob", t.s[head+1]) >= 0 {
			head += 2
		}
		out.write(t.slice(0, head))
		t, left = t.slice(head, len(t.s)), missing
	}
	out.pad(fill, left)
	out.write(t)
	out.pad(fill, missing-left)
}
