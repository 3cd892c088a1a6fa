package jinja

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// str is Python's str(): the text of a text, nothing for an undefined value, repr of everything else.
func (m *meter) str(v Value) (Text, error) {
	switch v := v.(type) {
	case Text:
		v.markup = false
		return v, nil
	case undefined:
		return Text{}, nil
	}
	return m.repr(v)
}

// repr is Python's repr(). Text inside keeps its origin.
func (m *meter) repr(v Value) (Text, error) {
	b := textBuilder{meter: m}
	m.writeRepr(&b, v)
	return b.text()
}

func (m *meter) writeRepr(b *textBuilder, v Value) {
	if b.err != nil {
		return
	}
	if b.err = m.enter(); b.err != nil {
		return
	}
	defer func() { m.depth-- }()
	switch v := v.(type) {
	case Text:
		if v.markup {
			b.trusted("Markup(")
		}
		writeTextRepr(b, v)
		if v.markup {
			b.trusted(")")
		}
	case *List:
		m.writeItems(b, "[", v.items, "]")
	case *tuple:
		m.writeTuple(b, v.items)
	case *groupTuple:
		m.writeTuple(b, tupleItems(v))
	case *Dict:
		m.writeDict(b, v)
	case *view:
		b.trusted(v.name + "(")
		m.writeItems(b, "[", v.items, "]")
		b.trusted(")")
	case *namespace:
		b.trusted("<Namespace ")
		m.writeDict(b, v.attrs)
		b.trusted(">")
	default:
		b.trusted(scalarString(v))
	}
}

func (m *meter) writeItems(b *textBuilder, open string, items []Value, end string) {
	b.trusted(open)
	for i, item := range items {
		if i > 0 {
			b.trusted(", ")
		}
		m.writeRepr(b, item)
	}
	b.trusted(end)
}

func (m *meter) writeTuple(b *textBuilder, items []Value) {
	if len(items) == 1 {
		m.writeItems(b, "(", items, ",)")
		return
	}
	m.writeItems(b, "(", items, ")")
}

func (m *meter) writeDict(b *textBuilder, d *Dict) {
	b.trusted("{")
	for i, e := range d.entries {
		if i > 0 {
			b.trusted(", ")
		}
		m.writeRepr(b, e.key)
		b.trusted(": ")
		m.writeRepr(b, e.value)
	}
	b.trusted("}")
}

// scalarString prints a value that has no text inside.
func scalarString(v Value) string {
	switch v := v.(type) {
	case Bool:
		if v {
			return "True"
		}
		return "False"
	case None:
		return "None"
	case integer:
		return strconv.FormatInt(int64(v), 10)
	case bigInteger:
		return v.v.String()
	case float:
		return floatString(float64(v))
	case undefined:
		return "Undefined"
	case rangeValue:
		if v.step == 1 {
			return fmt.Sprintf("range(%d, %d)", v.start, v.stop)
		}
		return fmt.Sprintf("range(%d, %d, %d)", v.start, v.stop, v.step)
	case *function:
		return "<built-in function " + v.name + ">"
	case *macro:
		return "<Macro '" + v.node.name + "'>"
	}
	return "<" + v.typeName() + " object>"
}

// writeTextRepr quotes as Python does: single quotes unless the text has those and no double ones.
func writeTextRepr(b *textBuilder, t Text) {
	quote := '\''
	if strings.Contains(t.s, "'") && !strings.Contains(t.s, `"`) {
		quote = '"'
	}
	b.trusted(string(quote))
	for run, outside := range t.runs() {
		b.writeString(escapeRepr(run, quote), outside)
	}
	b.trusted(string(quote))
}

func escapeRepr(s string, quote rune) string {
	if strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r > '~' || r == quote || r == '\\' }) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == quote || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	return b.String()
}
