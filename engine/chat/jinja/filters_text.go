package jinja

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"unicode"
)

// textFilter returns a filter on the text of a value, nil when there is none of that name.
func textFilter(name string) filter {
	switch name {
	case "upper", "lower", "capitalize":
		return onText(name, func(st *state, t Text) (Value, error) { return st.changeCase(name, t) })
	case "title":
		return onText(name, func(st *state, t Text) (Value, error) { return st.titleWords(t) })
	case "trim":
		return func(st *state, v Value, a *arguments) (Value, error) {
			t, err := st.soft(v)
			if err != nil {
				return nil, err
			}
			return st.stripMethod("strip", t, a)
		}
	case "replace":
		return filterReplace
	case "indent":
		return filterIndent
	case "truncate":
		return filterTruncate
	case "center":
		return filterCenter
	case "wordcount":
		return onText(name, func(st *state, t Text) (Value, error) {
			words := countRuns(t.s, func(r rune) bool {
				return r == '_' || unicode.IsLetter(r) || unicode.IsNumber(r) || unicode.IsMark(r)
			})
			return integer(words), st.scan(len(t.s))
		})
	case "format":
		return filterFormat
	case "safe":
		return onText(name, func(_ *state, t Text) (Value, error) {
			t.markup = true
			return t, nil
		})
	case "escape", "e":
		return onText(name, func(st *state, t Text) (Value, error) {
			t, err := st.escapeHTML(t)
			t.markup = true
			return t, err
		})
	case "forceescape":
		return onText(name, func(st *state, t Text) (Value, error) {
			t.markup = false
			t, err := st.escapeHTML(t)
			t.markup = true
			return t, err
		})
	case "urlencode":
		return filterURLEncode
	}
	return nil
}

// onText makes a filter without arguments that works on the text of its value.
func onText(name string, f func(*state, Text) (Value, error)) filter {
	return func(st *state, v Value, a *arguments) (Value, error) {
		if _, err := a.bind(name, 0); err != nil {
			return nil, err
		}
		t, err := st.soft(v)
		if err != nil {
			return nil, err
		}
		return f(st, t)
	}
}

// soft is the text of a value; markup stays markup.
func (st *state) soft(v Value) (Text, error) {
	if t, ok := v.(Text); ok {
		return t, nil
	}
	return st.str(v)
}

// titleWords capitalizes words, which spaces, hyphens and opening brackets separate.
func (st *state) titleWords(t Text) (Value, error) {
	begins := true
	return st.mapRuns(t, func(run string) string {
		return strings.Map(func(r rune) rune {
			if isSpace(r) || strings.ContainsRune("-({[<", r) {
				begins = true
				return r
			}
			if begins {
				begins = false
				return unicode.ToUpper(r)
			}
			return unicode.ToLower(r)
		}, run)
	})
}

func filterReplace(st *state, v Value, a *arguments) (Value, error) {
	bound, err := a.bind("replace", 2, "old", "new", "count")
	if err != nil {
		return nil, err
	}
	var texts [3]Text
	for i, value := range []Value{v, bound[0], bound[1]} {
		if texts[i], err = st.str(value); err != nil {
			return nil, err
		}
	}
	count := -1
	if !absent(bound[2]) {
		if count, err = intArgument(bound[2], "count", -1); err != nil {
			return nil, err
		}
	}
	return st.replace(texts[0], texts[1].s, texts[2], count)
}

// filterIndent puts an indentation before every line but the first and the empty ones, unless told otherwise.
func filterIndent(st *state, v Value, a *arguments) (Value, error) {
	bound, err := a.bind("indent", 0, "width", "first", "blank")
	if err != nil {
		return nil, err
	}
	if bound[0] == nil {
		bound[0] = integer(4)
	}
	indent, err := st.indentation(bound[0])
	if err != nil {
		return nil, err
	}
	t, ok := v.(Text)
	if !ok {
		return nil, fmt.Errorf("indent needs a str, not %s", v.typeName())
	}
	// A last line break ends a line and does not begin one, but for the one that the added line feed turns into a line.
	if t, err = st.concat(t, Trusted("\n")); err != nil {
		return nil, err
	}
	split, err := textSplitLines(st, t, &arguments{})
	if err != nil {
		return nil, err
	}
	lines := split.(*List).items
	b := textBuilder{meter: &st.meter}
	for i, item := range lines {
		line := item.(Text)
		if i > 0 {
			b.trusted("\n")
		}
		if i == 0 && boolArgument(bound[1]) || i > 0 && (line.s != "" || boolArgument(bound[2])) {
			b.write(indent)
		}
		b.write(line)
	}
	return b.text()
}

// filterTruncate cuts a text that exceeds a length by more than a leeway, at a word unless told otherwise.
func filterTruncate(st *state, v Value, a *arguments) (Value, error) {
	bound, err := a.bind("truncate", 0, "length", "killwords", "end", "leeway")
	if err != nil {
		return nil, err
	}
	most, err := intArgument(bound[0], "length", 255)
	if err != nil {
		return nil, err
	}
	end, err := textArgument(bound[2], "end", Trusted("..."))
	if err != nil {
		return nil, err
	}
	if absent(bound[3]) {
		bound[3] = nil
	}
	leeway, err := intArgument(bound[3], "leeway", 5)
	if err != nil {
		return nil, err
	}
	t, ok := v.(Text)
	if !ok {
		return nil, fmt.Errorf("truncate needs a str, not %s", v.typeName())
	}
	if most < end.length() || leeway < 0 {
		return nil, fmt.Errorf("cannot truncate to length %d with leeway %d", most, leeway)
	}
	if err := st.scan(len(t.s)); err != nil {
		return nil, err
	}
	if t.length()-leeway <= most {
		return t, nil
	}
	kept := t.slice(0, t.byteOffset(most-end.length()))
	if !boolArgument(bound[1]) {
		if i := strings.LastIndexByte(kept.s, ' '); i >= 0 {
			kept = kept.slice(0, i)
		}
	}
	return st.concat(kept, end)
}

func filterCenter(st *state, v Value, a *arguments) (Value, error) {
	bound, err := a.bind("center", 0, "width")
	if err != nil {
		return nil, err
	}
	if bound[0] == nil {
		bound[0] = integer(80)
	}
	t, err := st.soft(v)
	if err != nil {
		return nil, err
	}
	return st.padMethod("center", t, &arguments{positional: bound})
}

func filterFormat(st *state, v Value, a *arguments) (Value, error) {
	t, err := st.soft(v)
	if err != nil {
		return nil, err
	}
	if len(a.names) == 0 {
		return st.printf(t, &tuple{a.positional})
	}
	if len(a.positional) > 0 {
		return nil, errors.New("format cannot take positional and keyword arguments at the same time")
	}
	d := &Dict{}
	if err := st.updateDict(d, a); err != nil {
		return nil, err
	}
	return st.printf(t, d)
}

// filterURLEncode escapes a text. Of a mapping or of pairs Jinja2 makes a query; no prompt needs one.
func filterURLEncode(st *state, v Value, a *arguments) (Value, error) {
	if _, err := a.bind("urlencode", 0); err != nil {
		return nil, err
	}
	if _, err := iterate(v); err == nil && !isText(v) {
		return nil, fmt.Errorf("urlencode of '%s' is not supported", v.typeName())
	}
	t, err := st.str(v)
	if err != nil {
		return nil, err
	}
	unescaped := strings.NewReplacer("+", "%20", "%2F", "/", "%7E", "~")
	return st.mapRuns(t, func(run string) string { return unescaped.Replace(url.QueryEscape(run)) })
}

var htmlEscapes = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "'", "&#39;", `"`, "&#34;")

// escapeHTML escapes a text that is not markup yet.
func (st *state) escapeHTML(t Text) (Text, error) {
	if t.markup {
		return t, nil
	}
	t, err := st.mapRuns(t, htmlEscapes.Replace)
	t.markup = true
	return t, err
}
