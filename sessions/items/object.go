package items

import (
	"bytes"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// object is a JSON object with the order of its members.
type object struct {
	path    string
	members []member
}

type member struct {
	name string
	raw  json.RawMessage
}

// field is one line of the table of an object's fields.
type field struct {
	name     string
	required bool
	// read checks a value that is not null and returns it in the form that is stored.
	read func(path string, raw json.RawMessage) (json.RawMessage, error)
}

// readObject reads the members of an object. A member that is null counts as absent; one that is given twice is an error,
// because readers disagree on which of them counts.
func readObject(path string, raw json.RawMessage) (object, error) {
	o := object{path: path}
	if raw[0] != '{' {
		return o, wrongType(path, "an object", raw)
	}
	seen := map[string]bool{}
	d := json.NewDecoder(bytes.NewReader(raw))
	if _, err := d.Token(); err != nil {
		return o, invalid(path, "is not well-formed JSON")
	}
	for d.More() {
		key, err := d.Token()
		name, ok := key.(string)
		var value json.RawMessage
		if err != nil || !ok || d.Decode(&value) != nil {
			return o, invalid(path, "is not well-formed JSON")
		}
		if seen[name] {
			return o, invalid(join(path, name), "is given twice")
		}
		seen[name] = true
		if value[0] != 'n' {
			o.members = append(o.members, member{name, value})
		}
	}
	return o, nil
}

// join names a member of what is at the path.
func join(path, name string) string { return path + "." + shorten(name) }

// elements calls read with each element of an array, and stops at the first error.
func elements(path string, raw json.RawMessage, read func(path string, raw json.RawMessage) error) error {
	if raw[0] != '[' {
		return wrongType(path, "an array", raw)
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	if _, err := d.Token(); err != nil {
		return invalid(path, "is not well-formed JSON")
	}
	for i := 0; d.More(); i++ {
		var e json.RawMessage
		if err := d.Decode(&e); err != nil {
			return invalid(path, "is not well-formed JSON")
		}
		if err := read(path+"["+strconv.Itoa(i)+"]", e); err != nil {
			return err
		}
	}
	return nil
}

// check reads the object by its table.
func (o *object) check(table []field) error {
	for i := range o.members {
		m := &o.members[i]
		at := slices.IndexFunc(table, func(f field) bool { return f.name == m.name })
		if at < 0 {
			return &Error{join(o.path, m.name), Unknown, "is no field of this object"}
		}
		value, err := table[at].read(join(o.path, m.name), m.raw)
		if err != nil {
			return err
		}
		m.raw = value
	}
	for _, f := range table {
		if f.required && o.get(f.name) == nil {
			return missing(join(o.path, f.name))
		}
	}
	return nil
}

// get returns a member, nil if there is none.
func (o *object) get(name string) json.RawMessage {
	for _, m := range o.members {
		if m.name == name {
			return m.raw
		}
	}
	return nil
}

// text returns a member that is a string, and nothing if there is none.
func (o *object) text(name string) string {
	var s string
	if raw := o.get(name); raw == nil || json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

func (o *object) set(name string, raw json.RawMessage) {
	for i := range o.members {
		if o.members[i].name == name {
			o.members[i].raw = raw
			return
		}
	}
	o.members = append(o.members, member{name, raw})
}

// fill sets members that are absent to null, where readers expect them to be there.
func (o *object) fill(names ...string) {
	for _, name := range names {
		if o.get(name) == nil {
			o.set(name, json.RawMessage("null"))
		}
	}
}

// typeName returns the type of an item. A message and a reference may leave it out.
func (o *object) typeName() (string, error) {
	raw := o.get("type")
	switch {
	case raw != nil && raw[0] != '"':
		return "", wrongType(o.path+".type", "a string", raw)
	case raw != nil:
		return o.text("type"), nil
	case o.get("role") != nil:
		return typeMessage, nil
	case len(o.members) == 1 && o.members[0].name == "id":
		return typeReference, nil
	}
	return "", missing(o.path + ".type")
}

// encode writes an item: its type, its id if it has one, and its other members in their order.
func (o *object) encode(name, id string) json.RawMessage {
	members := []member{{"type", encodeText(name)}}
	if id != "" {
		members = append(members, member{"id", encodeText(id)})
	}
	for _, m := range o.members {
		if m.name != "type" && m.name != "id" {
			members = append(members, m)
		}
	}
	return encodeMembers(members)
}

func encodeMembers(members []member) json.RawMessage {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range members {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(encodeText(m.name))
		b.WriteByte(':')
		b.Write(m.raw)
	}
	b.WriteByte('}')
	return b.Bytes()
}

// encode returns a value as JSON, with text as it is: escaping <, > and & is for JSON inside HTML.
func encode(v any) json.RawMessage {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic("items: encode: " + err.Error()) // of strings and structs of strings
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

func encodeText(s string) json.RawMessage { return encode(s) }

func wrongType(path, want string, raw json.RawMessage) error {
	got := "an integer"
	switch c := raw[0]; {
	case c == '{':
		got = "an object"
	case c == '[':
		got = "an array"
	case c == '"':
		got = "a string"
	case c == 't' || c == 'f':
		got = "a boolean"
	case c == 'n':
		got = "null"
	case bytes.ContainsAny(raw, ".eE"):
		got = "a decimal number"
	}
	return &Error{path, WrongType, "must be " + want + ", got " + got}
}

// reader is the type of a field's read function.
type reader = func(path string, raw json.RawMessage) (json.RawMessage, error)

// text reads a string of some number of characters; a most of 0 is no limit.
func text(least, most int) reader {
	return func(path string, raw json.RawMessage) (json.RawMessage, error) {
		if raw[0] != '"' {
			return nil, wrongType(path, "a string", raw)
		}
		if least == 0 && (most == 0 || len(raw)-2 <= most) {
			return raw, nil
		}
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return nil, invalid(path, "is not well-formed JSON")
		}
		switch n := utf8.RuneCountInString(s); {
		case n < least:
			return nil, invalid(path, "is empty")
		case most > 0 && n > most:
			return nil, invalid(path, "may have %d characters, has %d", most, n)
		}
		return raw, nil
	}
}

// oneOf reads a string of a list.
func oneOf(allowed ...string) reader {
	return func(path string, raw json.RawMessage) (json.RawMessage, error) {
		var s string
		if raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
			return nil, wrongType(path, "a string", raw)
		}
		if !slices.Contains(allowed, s) {
			quoted := make([]string, len(allowed))
			for i, a := range allowed {
				quoted[i] = strconv.Quote(a)
			}
			return nil, invalid(path, "must be one of %s, got %q", strings.Join(quoted, ", "), shorten(s))
		}
		return raw, nil
	}
}

func exactly(s string) reader { return oneOf(s) }

// integer reads a number without decimals, 0 or more; signedInteger one of either sign.
var integer, signedInteger = between(0, math.MaxInt32), between(math.MinInt32, math.MaxInt32)

func between(low, high int) reader {
	return func(path string, raw json.RawMessage) (json.RawMessage, error) {
		n, err := strconv.ParseFloat(string(raw), 64)
		if err != nil || n != math.Trunc(n) {
			return nil, wrongType(path, "an integer", raw)
		}
		if n < float64(low) || n > float64(high) {
			return nil, invalid(path, "must be between %d and %d, got %s", low, high, shorten(string(raw)))
		}
		return json.RawMessage(strconv.Itoa(int(n))), nil
	}
}

func number(path string, raw json.RawMessage) (json.RawMessage, error) {
	if f, err := strconv.ParseFloat(string(raw), 64); err != nil || math.IsInf(f, 0) {
		return nil, wrongType(path, "a number", raw)
	}
	return raw, nil
}

// list reads an array whose elements are all read in the same way.
func list(read reader) reader {
	return func(path string, raw json.RawMessage) (json.RawMessage, error) {
		b := []byte{'['}
		err := elements(path, raw, func(path string, raw json.RawMessage) error {
			value, err := read(path, raw)
			if err != nil {
				return err
			}
			if len(b) > 1 {
				b = append(b, ',')
			}
			b = append(b, value...)
			return nil
		})
		return append(b, ']'), err
	}
}

// structure reads an object by its table; finish, unless nil, completes it.
func structure(table []field, finish func(*object) error) reader {
	return func(path string, raw json.RawMessage) (json.RawMessage, error) {
		o, err := readObject(path, raw)
		if err != nil {
			return nil, err
		}
		if err := o.check(table); err != nil {
			return nil, err
		}
		if finish != nil {
			if err := finish(&o); err != nil {
				return nil, err
			}
		}
		return encodeMembers(o.members), nil
	}
}

// stringMap reads an object whose members are all strings.
func stringMap(path string, raw json.RawMessage) (json.RawMessage, error) {
	o, err := readObject(path, raw)
	if err != nil {
		return nil, err
	}
	for _, m := range o.members {
		if m.raw[0] != '"' {
			return nil, wrongType(join(path, m.name), "a string", m.raw)
		}
	}
	return encodeMembers(o.members), nil
}

// anyObject reads an object that nothing is done with.
func anyObject(path string, raw json.RawMessage) (json.RawMessage, error) {
	if raw[0] != '{' {
		return nil, wrongType(path, "an object", raw)
	}
	return raw, nil
}
