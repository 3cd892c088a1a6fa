package jinja

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
)

// maxJSONDepth bounds the nesting of JSON that is read.
const maxJSONDepth = 500

// ParseJSON reads one JSON value. Objects keep the order of their keys (of a repeated key the first place and the last
// value), numbers with a fraction or an exponent are floats, all others integers of any size. Every string, keys
// included, is untrusted.
func ParseJSON(data []byte) (Value, error) {
	if !json.Valid(data) {
		var v any
		if err := json.Unmarshal(data, &v); err != nil {
			return nil, err
		}
		return nil, errors.New("invalid JSON")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	return readJSON(dec, 0)
}

func readJSON(dec *json.Decoder, depth int) (Value, error) {
	if depth > maxJSONDepth {
		return nil, fmt.Errorf("JSON nested more than %d deep", maxJSONDepth)
	}
	token, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch token := token.(type) {
	case json.Delim:
		if token == '[' {
			return readArray(dec, depth)
		}
		return readObject(dec, depth)
	case string:
		return Untrusted(token), nil
	case json.Number:
		return jsonNumber(string(token))
	case bool:
		return Bool(token), nil
	}
	return None{}, nil
}

func readArray(dec *json.Decoder, depth int) (Value, error) {
	list := NewList()
	for dec.More() {
		v, err := readJSON(dec, depth+1)
		if err != nil {
			return nil, err
		}
		list.Append(v)
	}
	_, err := dec.Token()
	return list, err
}

func readObject(dec *json.Decoder, depth int) (Value, error) {
	dict := NewDict()
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil, err
		}
		v, err := readJSON(dec, depth+1)
		if err != nil {
			return nil, err
		}
		text, _ := name.(string)
		dict.put(key{'s', text}, Untrusted(text), v)
	}
	_, err := dec.Token()
	return dict, err
}

func jsonNumber(s string) (Value, error) {
	if strings.ContainsAny(s, ".eE") {
		f, err := strconv.ParseFloat(s, 64)
		if err != nil && !errors.Is(err, strconv.ErrRange) {
			return nil, err
		}
		return float(f), nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return integer(n), nil
	}
	if len(s) > maxIntBits {
		return nil, fmt.Errorf("an integer of %d digits", len(s))
	}
	n, _ := new(big.Int).SetString(s, 10)
	return newInteger(n)
}

// jsonStyle is how tojson writes.
type jsonStyle struct {
	ascii    bool
	pretty   bool
	indent   Text // one level, when pretty
	item     Text // between elements
	colon    Text // between key and value
	sortKeys bool
}

// FormatJSON writes a value as Python's json.dumps(v, ensure_ascii=False) does: ", " and ": " between elements.
func FormatJSON(v Value) (string, error) {
	m := &meter{limits: Options{}.withDefaults()}
	t, err := m.json(v, jsonStyle{item: Trusted(", "), colon: Trusted(": ")})
	return t.s, err
}

// json writes a value; strings inside keep their origin.
func (m *meter) json(v Value, style jsonStyle) (Text, error) {
	b := textBuilder{meter: m}
	m.writeJSON(&b, v, style, 0)
	return b.text()
}

func (m *meter) writeJSON(b *textBuilder, v Value, style jsonStyle, level int) {
	if b.err != nil {
		return
	}
	if b.err = m.enter(); b.err != nil {
		return
	}
	defer func() { m.depth-- }()
	switch v := v.(type) {
	case Text:
		writeJSONString(b, v, style)
	case None:
		b.trusted("null")
	case Bool, integer, bigInteger, float:
		b.trusted(jsonScalar(v))
	case *List:
		m.writeJSONArray(b, v.items, style, level)
	case *tuple, *groupTuple:
		m.writeJSONArray(b, tupleItems(v), style, level)
	case *Dict:
		m.writeJSONObject(b, v, style, level)
	default:
		b.err = fmt.Errorf("object of type %s is not JSON serializable", v.typeName())
	}
}

func jsonScalar(v Value) string {
	switch v := v.(type) {
	case Bool:
		return strconv.FormatBool(bool(v))
	case None:
		return "null"
	case float:
		switch f := float64(v); {
		case math.IsNaN(f):
			return "NaN"
		case math.IsInf(f, 1):
			return "Infinity"
		case math.IsInf(f, -1):
			return "-Infinity"
		}
	}
	return scalarString(v)
}

func (m *meter) writeJSONArray(b *textBuilder, items []Value, style jsonStyle, level int) {
	if len(items) == 0 {
		b.trusted("[]")
		return
	}
	b.trusted("[")
	for i, item := range items {
		writeJSONBreak(b, style, i, level+1)
		m.writeJSON(b, item, style, level+1)
	}
	writeJSONBreak(b, style, 0, level)
	b.trusted("]")
}

func (m *meter) writeJSONObject(b *textBuilder, d *Dict, style jsonStyle, level int) {
	if d.Len() == 0 {
		b.trusted("{}")
		return
	}
	entries := d.entries
	if style.sortKeys {
		entries = slices.Clone(entries)
		if b.err = sortBy(m, entries, func(e entry) Value { return e.key }, ascending); b.err != nil {
			return
		}
	}
	b.trusted("{")
	for i, e := range entries {
		writeJSONBreak(b, style, i, level+1)
		switch name := e.key.(type) {
		case Text:
			writeJSONString(b, name, style)
		case None, Bool, integer, bigInteger, float:
			b.trusted(`"` + jsonScalar(name) + `"`)
		default:
			b.err = fmt.Errorf("keys must be str, int, float, bool or None, not %s", name.typeName())
		}
		b.write(style.colon)
		m.writeJSON(b, e.value, style, level+1)
	}
	writeJSONBreak(b, style, 0, level)
	b.trusted("}")
}

// writeJSONBreak separates element i from the one before it, and starts its line when printing prettily.
func writeJSONBreak(b *textBuilder, style jsonStyle, i, level int) {
	if i > 0 {
		b.write(style.item)
	}
	if style.pretty {
		b.trusted("\n")
		b.pad(style.indent, level)
	}
}

func writeJSONString(b *textBuilder, t Text, style jsonStyle) {
	b.trusted(`"`)
	for run, outside := range t.runs() {
		b.writeString(escapeJSON(run, style.ascii), outside)
	}
	b.trusted(`"`)
}

// escapeJSON escapes what json.dumps escapes, which leaves DEL and the Unicode line separators alone.
func escapeJSON(s string, ascii bool) string {
	plain := func(c byte) bool { return c >= 0x20 && c != '"' && c != '\\' && (!ascii || c < 0x7f) }
	at := 0
	for at < len(s) && plain(s[at]) {
		at++
	}
	if at == len(s) {
		return s
	}
	var b strings.Builder
	b.WriteString(s[:at])
	for _, r := range s[at:] {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\b':
			b.WriteString(`\b`)
		case r == '\f':
			b.WriteString(`\f`)
		case r < 0x20 || ascii && r > 0x7e && r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		case ascii && r >= 0x10000:
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+(r-0x10000)>>10, 0xdc00+(r-0x10000)&0x3ff)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
