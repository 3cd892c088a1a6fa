package chat

import (
	"encoding/json"
	"strings"

	"hearth/engine/chat/jinja"
)

// toolSet is the tools of a request by their names, each with the JSON schema of its parameters.
type toolSet map[string]*jinja.Dict

// newToolSet reads what ParseTools returned. A tool without a schema has an empty one.
func newToolSet(v jinja.Value) toolSet {
	list, ok := v.(*jinja.List)
	if !ok {
		return nil
	}
	set := toolSet{}
	for i := range list.Len() {
		function := memberOf(list.At(i), "function")
		name, _ := memberOf(function, "name").(jinja.Text)
		schema, ok := memberOf(function, "parameters").(*jinja.Dict)
		if !ok {
			schema = jinja.NewDict()
		}
		set[name.String()] = schema
	}
	return set
}

func (s toolSet) has(name string) bool { _, ok := s[name]; return ok }

// memberOf returns a member of an object, nil of anything else.
func memberOf(v jinja.Value, name string) jinja.Value {
	if d, ok := v.(*jinja.Dict); ok {
		m, _ := d.Get(name)
		return m
	}
	return nil
}

// types is a set of JSON types.
type types uint8

const (
	stringType types = 1 << iota
	numberType
	booleanType
	nullType
	objectType
	arrayType
	anyType types = 1<<iota - 1
)

var typeNames = map[string]types{
	"string": stringType, "number": numberType, "integer": numberType, "boolean": booleanType, "null": nullType,
	"object": objectType, "array": arrayType,
}

// schema is a place in a JSON schema: references in it start from the root.
type schema struct{ root, at jinja.Value }

// parameters returns the schema of a tool's parameters; of an unknown tool it is empty, which allows anything.
func (s toolSet) parameters(tool string) schema {
	root, ok := s[tool]
	if !ok {
		return schema{}
	}
	return schema{root, root}
}

// maxSchemaDepth bounds references and combinations, which may be circular.
const maxSchemaDepth = 16

// property returns the schema of a property of an object.
func (s schema) property(name string) schema { return s.find(name, "properties", maxSchemaDepth) }

// element returns the schema of an array's elements.
func (s schema) element() schema { return s.find("items", "", maxSchemaDepth) }

// find looks for a keyword, or for a member of it, through references and combinations.
func (s schema) find(name, within string, depth int) schema {
	if depth == 0 {
		return schema{}
	}
	holder := s.at
	if within != "" {
		holder = memberOf(s.at, within)
	}
	if v := memberOf(holder, name); v != nil {
		return schema{s.root, v}
	}
	if to, ok := s.reference(); ok {
		return to.find(name, within, depth-1)
	}
	for _, option := range s.options("anyOf", "oneOf", "allOf") {
		if found := option.find(name, within, depth-1); found.at != nil {
			return found
		}
	}
	return schema{}
}

// reference follows "$ref": "#/$defs/x".
func (s schema) reference() (schema, bool) {
	ref, ok := memberOf(s.at, "$ref").(jinja.Text)
	if !ok {
		return schema{}, false
	}
	path, ok := strings.CutPrefix(ref.String(), "#/")
	if !ok {
		return schema{}, false
	}
	at := s.root
	for name := range strings.SplitSeq(path, "/") {
		at = memberOf(at, strings.NewReplacer("~1", "/", "~0", "~").Replace(name)) // RFC 6901
	}
	return schema{s.root, at}, at != nil
}

// options returns the schemas that keywords combine.
func (s schema) options(keywords ...string) []schema {
	var all []schema
	for _, keyword := range keywords {
		if list, ok := memberOf(s.at, keyword).(*jinja.List); ok {
			for i := range list.Len() {
				all = append(all, schema{s.root, list.At(i)})
			}
		}
	}
	return all
}

// types returns which types a value may have.
func (s schema) types() types { return s.typesWithin(maxSchemaDepth) }

func (s schema) typesWithin(depth int) types {
	if depth == 0 || s.at == nil {
		return anyType
	}
	allowed := anyType
	switch t := memberOf(s.at, "type").(type) {
	case jinja.Text:
		allowed &= typesOf(t)
	case *jinja.List:
		union := types(0)
		for i := range t.Len() {
			union |= typesOf(t.At(i))
		}
		allowed &= union
	default:
		if list, ok := memberOf(s.at, "enum").(*jinja.List); ok {
			allowed &= typesOfValues(list)
		}
	}
	if to, ok := s.reference(); ok {
		allowed &= to.typesWithin(depth - 1)
	}
	for _, keyword := range []string{"anyOf", "oneOf"} {
		union := types(0)
		for _, option := range s.options(keyword) {
			union |= option.typesWithin(depth - 1)
		}
		if union != 0 {
			allowed &= union
		}
	}
	for _, option := range s.options("allOf") {
		allowed &= option.typesWithin(depth - 1)
	}
	if allowed == 0 {
		return anyType // nothing satisfies this schema, which is not for us to say
	}
	return allowed
}

func typesOf(name jinja.Value) types {
	text, _ := name.(jinja.Text)
	if t, ok := typeNames[text.String()]; ok {
		return t
	}
	return anyType
}

func typesOfValues(list *jinja.List) types {
	union := types(0)
	for i := range list.Len() {
		text, err := jinja.FormatJSON(list.At(i))
		if err != nil {
			return anyType
		}
		union |= typeOfJSON(text)
	}
	return union
}

// typeOfJSON returns the type of a valid JSON text.
func typeOfJSON(text string) types {
	switch text[0] {
	case '"':
		return stringType
	case '{':
		return objectType
	case '[':
		return arrayType
	case 't', 'f':
		return booleanType
	case 'n':
		return nullType
	}
	return numberType
}

// jsonValue returns the JSON of a value that a model wrote as bare text: the most specific of the allowed types that the
// text has, else a string. Templates print values in Python's notation at times, and so do models that learned it.
func jsonValue(text string, allowed types) string {
	trimmed := strings.TrimSpace(text)
	if allowed == stringType || trimmed == "" {
		return quoteJSON(text)
	}
	for _, word := range []struct {
		text string
		of   types
		json string
	}{{"null", nullType, "null"}, {"none", nullType, "null"}, {"true", booleanType, "true"}, {"false", booleanType, "false"}} {
		if allowed&word.of != 0 && strings.EqualFold(trimmed, word.text) {
			return word.json
		}
	}
	if json.Valid([]byte(trimmed)) && allowed&typeOfJSON(trimmed)&^stringType != 0 {
		return trimmed
	}
	if python, ok := fromPython(trimmed); ok && allowed&typeOfJSON(python) != 0 {
		return python
	}
	return quoteJSON(text)
}

// quoteJSON returns a text as a JSON string.
func quoteJSON(text string) string {
	quoted := []byte{'"'}
	for i := range len(text) {
		quoted = appendEscaped(quoted, text[i])
	}
	return string(append(quoted, '"'))
}

// appendEscaped appends a byte of a text as it stands within a JSON string.
func appendEscaped(dst []byte, b byte) []byte {
	const hex = "0123456789abcdef"
	switch {
	case b == '"' || b == '\\':
		return append(dst, '\\', b)
	case b == '\n':
		return append(dst, `\n`...)
	case b == '\t':
		return append(dst, `\t`...)
	case b == '\r':
		return append(dst, `\r`...)
	case b < ' ':
		return append(dst, '\\', 'u', '0', '0', hex[b>>4], hex[b&15])
	}
	return append(dst, b)
}
