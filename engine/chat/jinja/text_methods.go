package jinja

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/language"
)

func textMethod(name string) method[Text] {
	switch name {
	case "strip", "lstrip", "rstrip":
		return func(st *state, t Text, a *arguments) (Value, error) { return st.stripMethod(name, t, a) }
	case "split", "rsplit":
		return func(st *state, t Text, a *arguments) (Value, error) { return st.splitMethod(name, t, a) }
	case "splitlines":
		return textSplitLines
	case "partition", "rpartition":
		return func(st *state, t Text, a *arguments) (Value, error) { return st.partition(name, t, a) }
	case "startswith", "endswith":
		return func(st *state, t Text, a *arguments) (Value, error) { return st.affix(name, t, a) }
	case "removeprefix", "removesuffix":
		return func(st *state, t Text, a *arguments) (Value, error) { return st.removeAffix(name, t, a) }
	case "replace":
		return textReplace
	case "join":
		return textJoin
	case "find", "rfind", "index", "rindex", "count":
		return func(st *state, t Text, a *arguments) (Value, error) { return st.search(name, t, a) }
	case "upper", "lower", "title", "capitalize", "casefold", "swapcase":
		return func(st *state, t Text, a *arguments) (Value, error) {
			if _, err := a.bind(name, 0); err != nil {
				return nil, err
			}
			return st.changeCase(name, t)
		}
	case "center", "ljust", "rjust", "zfill", "expandtabs":
		return func(st *state, t Text, a *arguments) (Value, error) { return st.padMethod(name, t, a) }
	case "format":
		return func(st *state, t Text, a *arguments) (Value, error) { return st.formatText(t, a) }
	case "isalpha", "isdigit", "isdecimal", "isnumeric", "isalnum", "isspace", "isupper", "islower", "istitle", "isascii", "isidentifier", "isprintable":
		return func(st *state, t Text, _ *arguments) (Value, error) {
			return Bool(isClass(name, t.s)), st.scan(len(t.s))
		}
	case "encode", "translate", "format_map", "maketrans":
		return func(*state, Text, *arguments) (Value, error) { return nil, fmt.Errorf("str.%s is not supported", name) }
	}
	return nil
}

// strip removes characters that drop picks from the ends of a text.
func strip(t Text, drop func(rune) bool, left, right bool) Text {
	from, to := 0, len(t.s)
	if left {
		from = to - len(strings.TrimLeftFunc(t.s, drop))
	}
	if right {
		to = from + len(strings.TrimRightFunc(t.s[from:], drop))
	}
	return t.slice(from, to)
}

func (st *state) stripMethod(name string, t Text, a *arguments) (Value, error) {
	v, err := a.bind(name, 0, "chars")
	if err != nil {
		return nil, err
	}
	drop := isSpace
	if !absent(v[0]) {
		chars, err := textArgument(v[0], "chars", Text{})
		if err != nil {
			return nil, err
		}
		if err := st.elements(len(chars.s)); err != nil {
			return nil, err
		}
		set := map[rune]bool{}
		for _, r := range chars.s {
			set[r] = true
		}
		drop = func(r rune) bool { return set[r] }
	}
	return strip(t, drop, name != "rstrip", name != "lstrip"), st.scan(len(t.s))
}

func (st *state) splitMethod(name string, t Text, a *arguments) (Value, error) {
	v, err := a.bind(name, 0, "sep", "maxsplit")
	if err != nil {
		return nil, err
	}
	most, err := intArgument(v[1], "maxsplit", -1)
	if err != nil {
		return nil, err
	}
	if err := st.text(0, len(t.s)); err != nil {
		return nil, err
	}
	charge := func(places int) error { // before the parts are made
		if most >= 0 {
			places = min(places, most)
		}
		return st.elements(places + 1)
	}
	var cuts []span // the parts
	if absent(v[0]) {
		if err := charge(countRuns(t.s, isSpace)); err != nil {
			return nil, err
		}
		cuts = splitSpace(t.s, most, name == "rsplit")
	} else {
		separator, err := textArgument(v[0], "sep", Text{})
		if err != nil {
			return nil, err
		}
		if separator.s == "" {
			return nil, errors.New("empty separator")
		}
		if err := charge(strings.Count(t.s, separator.s)); err != nil {
			return nil, err
		}
		cuts = splitAt(t.s, separator.s, most, name == "rsplit")
	}
	list := &List{}
	for _, c := range cuts {
		list.items = append(list.items, t.slice(c.from, c.to))
	}
	return list, nil
}

// countRuns is the number of runs of characters of a kind.
func countRuns(s string, is func(rune) bool) int {
	runs, inside := 0, false
	for _, r := range s {
		before := inside
		if inside = is(r); inside && !before {
			runs++
		}
	}
	return runs
}

// splitAt returns the parts between separators: at most most cuts, counted from the end when reverse; negative is all.
func splitAt(s, separator string, most int, reverse bool) []span {
	var parts []span
	if !reverse {
		at := 0
		for ; most != 0; most-- {
			i := strings.Index(s[at:], separator)
			if i < 0 {
				break
			}
			parts = append(parts, span{at, at + i})
			at += i + len(separator)
		}
		return append(parts, span{at, len(s)})
	}
	end := len(s)
	for ; most != 0; most-- {
		i := strings.LastIndex(s[:end], separator)
		if i < 0 {
			break
		}
		parts = append(parts, span{i + len(separator), end})
		end = i
	}
	return reversed(append(parts, span{0, end}))
}

// splitSpace splits at runs of whitespace and drops empty parts.
func splitSpace(s string, most int, reverse bool) []span {
	var parts []span
	from, to := 0, len(s)
	for {
		from = to - len(strings.TrimLeftFunc(s[from:to], isSpace))
		to = from + len(strings.TrimRightFunc(s[from:to], isSpace))
		switch {
		case from == to:
		case most == 0 && !reverse: // what is left keeps the whitespace at its end
			return append(parts, span{from, len(s)})
		case most == 0:
			return reversed(append(parts, span{0, to}))
		case reverse:
			cut := 0
			if i := strings.LastIndexFunc(s[:to], isSpace); i >= 0 {
				_, size := utf8.DecodeRuneInString(s[i:])
				cut = i + size
			}
			parts = append(parts, span{cut, to})
			to = max(cut, from)
		default:
			cut := to
			if i := strings.IndexFunc(s[from:to], isSpace); i >= 0 {
				cut = from + i
			}
			parts = append(parts, span{from, cut})
			from = cut
		}
		if from == to {
			if reverse {
				return reversed(parts)
			}
			return parts
		}
		most--
	}
}

func reversed(parts []span) []span {
	for i, j := 0, len(parts)-1; i < j; i, j = i+1, j-1 {
		parts[i], parts[j] = parts[j], parts[i]
	}
	return parts
}

// lineBreaks are the characters at which Python splits lines.
const lineBreaks = "\n\r\v\f\x1c\x1d\x1e\u0085\u2028\u2029"

func textSplitLines(st *state, t Text, a *arguments) (Value, error) {
	v, err := a.bind("splitlines", 0, "keepends")
	if err != nil {
		return nil, err
	}
	breaks := 0
	for _, r := range t.s {
		if strings.ContainsRune(lineBreaks, r) {
			breaks++
		}
	}
	if err := st.elements(breaks + 1); err != nil {
		return nil, err
	}
	if err := st.text(0, len(t.s)); err != nil {
		return nil, err
	}
	list := &List{}
	for at := 0; at < len(t.s); {
		end := len(t.s)
		if i := strings.IndexAny(t.s[at:], lineBreaks); i >= 0 {
			end = at + i
		}
		next := end
		if strings.HasPrefix(t.s[end:], "\r\n") {
			next += 2
		} else if end < len(t.s) {
			_, size := utf8.DecodeRuneInString(t.s[end:])
			next += size
		}
		if boolArgument(v[0]) {
			end = next
		}
		list.items = append(list.items, t.slice(at, end))
		at = next
	}
	return list, nil
}

func (st *state) partition(name string, t Text, a *arguments) (Value, error) {
	v, err := a.bind(name, 1, "sep")
	if err != nil {
		return nil, err
	}
	separator, err := textArgument(v[0], "sep", Text{})
	if err != nil {
		return nil, err
	}
	if separator.s == "" {
		return nil, errors.New("empty separator")
	}
	if err := st.text(0, len(t.s)); err != nil {
		return nil, err
	}
	at := strings.Index(t.s, separator.s)
	if name == "rpartition" {
		at = strings.LastIndex(t.s, separator.s)
	}
	switch {
	case at >= 0:
		end := at + len(separator.s)
		return &tuple{[]Value{t.slice(0, at), t.slice(at, end), t.slice(end, len(t.s))}}, nil
	case name == "partition":
		return &tuple{[]Value{t, Text{}, Text{}}}, nil
	}
	return &tuple{[]Value{Text{}, Text{}, t}}, nil
}

// affix is startswith and endswith, of one text or a tuple of them, within optional bounds.
func (st *state) affix(name string, t Text, a *arguments) (Value, error) {
	v, err := a.bind(name, 1, "affix", "start", "end")
	if err != nil {
		return nil, err
	}
	if !absent(v[1]) || !absent(v[2]) {
		if err := st.scan(2 * len(t.s)); err != nil {
			return nil, err
		}
	}
	window, _, ok, err := textWindow(t, v[1], v[2])
	if err != nil || !ok {
		return Bool(false), err
	}
	choices := []Value{v[0]}
	if items := tupleItems(v[0]); items != nil {
		choices = items
	}
	if err := st.step(len(choices)); err != nil {
		return nil, err
	}
	for _, c := range choices {
		text, ok := c.(Text)
		if !ok {
			return nil, fmt.Errorf("%s first arg must be str or a tuple of str, not %s", name, c.typeName())
		}
		if err := st.scan(len(text.s)); err != nil {
			return nil, err
		}
		if name == "startswith" && strings.HasPrefix(window, text.s) || name == "endswith" && strings.HasSuffix(window, text.s) {
			return Bool(true), nil
		}
	}
	return Bool(false), nil
}

// textWindow is t[start:end] with its byte offset; ok is false when start lies beyond the end of the text.
func textWindow(t Text, start, end Value) (window string, offset int, ok bool, err error) {
	if absent(start) && absent(end) {
		return t.s, 0, true, nil
	}
	bounds := [3]Value{None{}, None{}, None{}}
	for i, v := range []Value{start, end} {
		if !absent(v) {
			bounds[i] = v
		}
	}
	size := t.length()
	from, _, count, err := sliceIndices(bounds, size)
	if err != nil {
		return "", 0, false, err
	}
	if at, isInt := asInt(bounds[0]); isInt && at > size {
		return "", 0, false, nil
	}
	offset = t.byteOffset(from)
	rest := t.slice(offset, len(t.s))
	return rest.s[:rest.byteOffset(count)], offset, true, nil
}

func (st *state) removeAffix(name string, t Text, a *arguments) (Value, error) {
	v, err := a.bind(name, 1, "affix")
	if err != nil {
		return nil, err
	}
	affix, err := textArgument(v[0], "affix", Text{})
	if err != nil {
		return nil, err
	}
	if err := st.scan(len(affix.s)); err != nil {
		return nil, err
	}
	if name == "removeprefix" && strings.HasPrefix(t.s, affix.s) {
		return t.slice(len(affix.s), len(t.s)), nil
	}
	if name == "removesuffix" && strings.HasSuffix(t.s, affix.s) {
		return t.slice(0, len(t.s)-len(affix.s)), nil
	}
	return t, nil
}

func textReplace(st *state, t Text, a *arguments) (Value, error) {
	v, err := a.bind("replace", 2, "old", "new", "count")
	if err != nil {
		return nil, err
	}
	from, err := textArgument(v[0], "old", Text{})
	if err != nil {
		return nil, err
	}
	to, err := textArgument(v[1], "new", Text{})
	if err != nil {
		return nil, err
	}
	count, err := intArgument(v[2], "count", -1)
	if err != nil {
		return nil, err
	}
	return st.replace(t, from.s, to, count)
}

// replace replaces the first count places, all when negative; an empty old text is found before every character and at
// the end.
func (st *state) replace(t Text, old string, with Text, count int) (Value, error) {
	b := textBuilder{meter: &st.meter}
	at := 0
	for ; count != 0 && b.err == nil; count-- {
		i := strings.Index(t.s[at:], old)
		if i < 0 {
			break
		}
		b.write(t.slice(at, at+i))
		b.write(with)
		at += i + len(old)
		if old == "" {
			if at == len(t.s) {
				break
			}
			_, size := utf8.DecodeRuneInString(t.s[at:])
			b.write(t.slice(at, at+size))
			at += size
		}
		if err := st.step(1); err != nil {
			return nil, err
		}
	}
	b.write(t.slice(at, len(t.s)))
	out, err := b.text()
	out.markup = t.markup
	return out, err
}

func textJoin(st *state, t Text, a *arguments) (Value, error) {
	v, err := a.bind("join", 1, "iterable")
	if err != nil {
		return nil, err
	}
	items, err := st.collect(v[0])
	if err != nil {
		return nil, err
	}
	b := textBuilder{meter: &st.meter}
	for i, item := range items {
		text, ok := item.(Text)
		if !ok {
			return nil, fmt.Errorf("sequence item %d: expected str instance, %s found", i, item.typeName())
		}
		if i > 0 {
			b.write(t)
		}
		b.write(text)
	}
	return b.text()
}

// search is find and its relatives; positions are code points.
func (st *state) search(name string, t Text, a *arguments) (Value, error) {
	v, err := a.bind(name, 1, "sub", "start", "end")
	if err != nil {
		return nil, err
	}
	sub, err := textArgument(v[0], "sub", Text{})
	if err != nil {
		return nil, err
	}
	if err := st.scan(2 * len(t.s)); err != nil {
		return nil, err
	}
	window, offset, ok, err := textWindow(t, v[1], v[2])
	if err != nil {
		return nil, err
	}
	if name == "count" {
		if !ok {
			return integer(0), nil
		}
		return integer(strings.Count(window, sub.s)), nil
	}
	at := -1
	if ok && strings.HasPrefix(name, "r") {
		at = strings.LastIndex(window, sub.s)
	} else if ok {
		at = indexText(window, sub.s)
	}
	if at < 0 {
		if strings.HasSuffix(name, "index") {
			return nil, errors.New("substring not found")
		}
		return integer(-1), nil
	}
	return integer(utf8.RuneCountInString(t.s[:offset+at])), nil
}

func indexText(s, sub string) int { return strings.Index(s, sub) }

// changeCase maps each run with what Python's method of that name does. Casing looks at neighbouring letters, which a
// border between runs does not hide: the letter before is remembered.
func (st *state) changeCase(name string, t Text) (Text, error) {
	if err := st.step(len(t.s) / 8); err != nil { // the full Unicode mappings are slow
		return Text{}, err
	}
	switch name {
	case "upper":
		return st.mapRuns(t, upperCase)
	case "lower":
		return st.mapRuns(t, lowerCase)
	case "casefold":
		return st.mapRuns(t, cases.Fold().String)
	}
	inWord := false // the character before is a letter
	first := true
	return st.mapRuns(t, func(run string) string {
		return strings.Map(func(r rune) rune {
			begins := !inWord
			if name == "capitalize" {
				begins = first
			}
			inWord, first = unicode.IsLetter(r), false
			switch {
			case name == "swapcase" && unicode.IsUpper(r):
				return unicode.ToLower(r)
			case name == "swapcase":
				return unicode.ToUpper(r)
			case begins:
				return unicode.ToTitle(r)
			}
			return unicode.ToLower(r)
		}, run)
	})
}

// upperCase and lowerCase map as Unicode does in full ("ß" becomes "SS"), and ASCII the quick way.
func upperCase(s string) string {
	if isClass("isascii", s) {
		return strings.ToUpper(s)
	}
	return cases.Upper(language.Und).String(s)
}

func lowerCase(s string) string {
	if isClass("isascii", s) {
		return strings.ToLower(s)
	}
	return cases.Lower(language.Und).String(s)
}

func (st *state) padMethod(name string, t Text, a *arguments) (Value, error) {
	v, err := a.bind(name, 0, "width", "fillchar")
	if err != nil {
		return nil, err
	}
	width, err := intArgument(v[0], "width", 8)
	if err != nil {
		return nil, err
	}
	if err := st.scan(2 * len(t.s)); err != nil {
		return nil, err
	}
	if name == "expandtabs" {
		return st.expandTabs(t, width)
	}
	fill, err := textArgument(v[1], "fillchar", Trusted(" "))
	if err != nil {
		return nil, err
	}
	if v[0] == nil || fill.length() != 1 {
		return nil, fmt.Errorf("%s() needs a width and one fill character", name)
	}
	missing := max(0, width-t.length())
	b := textBuilder{meter: &st.meter}
	switch name {
	case "ljust":
		b.write(t)
		b.pad(fill, missing)
	case "rjust":
		b.pad(fill, missing)
		b.write(t)
	case "center":
		left := missing/2 + (missing & width & 1)
		b.pad(fill, left)
		b.write(t)
		b.pad(fill, missing-left)
	case "zfill":
		if t.s != "" && (t.s[0] == '+' || t.s[0] == '-') {
			b.write(t.slice(0, 1))
			t = t.slice(1, len(t.s))
		}
		b.pad(Trusted("0"), missing)
		b.write(t)
	}
	return b.text()
}

func (st *state) expandTabs(t Text, width int) (Value, error) {
	b := textBuilder{meter: &st.meter}
	column := 0
	for c := range t.characters() {
		switch c.s {
		case "\t":
			if width > 0 {
				b.pad(Trusted(" "), width-column%width)
				column += width - column%width
			}
			continue
		case "\n", "\r":
			column = -1
		}
		column++
		b.write(c)
	}
	return b.text()
}

// isClass is Python's isalpha() and its relatives: all characters are of the class, and there is at least one.
func isClass(name, s string) bool {
	switch name {
	case "isascii":
		return strings.IndexFunc(s, func(r rune) bool { return r >= utf8.RuneSelf }) < 0
	case "isupper":
		return strings.ToUpper(s) == s && strings.ToLower(s) != s
	case "islower":
		return strings.ToLower(s) == s && strings.ToUpper(s) != s
	case "istitle":
		return strings.IndexFunc(s, unicode.IsLetter) >= 0 && titleCase(s) == s
	case "isidentifier":
		return s != "" && matchName(s) == len(s)
	case "isprintable":
		return strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
	}
	is := classes[name]
	return s != "" && strings.IndexFunc(s, func(r rune) bool { return !is(r) }) < 0
}

var classes = map[string]func(rune) bool{
	"isalpha": unicode.IsLetter, "isdigit": unicode.IsDigit, "isdecimal": unicode.IsDigit, "isnumeric": unicode.IsNumber,
	"isalnum": func(r rune) bool { return unicode.IsLetter(r) || unicode.IsNumber(r) }, "isspace": isSpace,
}

func titleCase(s string) string {
	inWord := false
	return strings.Map(func(r rune) rune {
		begins := !inWord
		inWord = unicode.IsLetter(r)
		if begins {
			return unicode.ToTitle(r)
		}
		return unicode.ToLower(r)
	}, s)
}
