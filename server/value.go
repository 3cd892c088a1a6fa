package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// value is one JSON value of a request body and where it was found, so that a complaint can name it:
// "messages[1].content[0].type". The bytes are valid JSON without space around it.
type value struct {
	path string
	raw  []byte
}

// member is one entry of an object.
type member struct {
	name string
	value
}

// parseValue checks a whole body: UTF-8, JSON, and no object with the same key twice, which parsers read differently.
func parseValue(body []byte) (value, error) {
	if !utf8.Valid(body) {
		return value{}, invalidRequest("", "the body is not valid UTF-8")
	}
	var raw json.RawMessage
	if err := json.Unmarshal(body, &raw); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return value{}, invalidRequest("", "the body is not valid JSON: %v at byte %d", err, syntax.Offset)
		}
		return value{}, invalidRequest("", "the body is not valid JSON: %v", err)
	}
	raw = bytes.TrimSpace(raw)
	if path := duplicateKey(raw); path != "" {
		return value{}, invalidRequest(path, "%s is given twice", path)
	}
	return value{raw: raw}, nil
}

// frame is an object or array around the place where duplicateKey reads.
type frame struct {
	keys  map[string]struct{} // nil for an array
	key   string              // of the member being read
	index int                 // of the element being read
	named bool                // the member's key has been read
}

// duplicateKey returns the path of the first key that an object has twice, empty if there is none. It reads valid
// JSON once, whatever its depth.
func duplicateKey(raw []byte) string {
	var stack []frame
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case '{':
			stack = append(stack, frame{keys: map[string]struct{}{}})
		case '[':
			stack = append(stack, frame{})
		case '}', ']':
			stack = stack[:len(stack)-1]
		case ',':
			top := &stack[len(stack)-1]
			top.named = false
			top.index++
		case '"':
			end := stringEnd(raw, i)
			if top := len(stack) - 1; top >= 0 && stack[top].keys != nil && !stack[top].named {
				f := &stack[top]
				f.key, f.named = unquote(raw[i:end]), true
				if _, twice := f.keys[f.key]; twice {
					return pathOf(stack)
				}
				f.keys[f.key] = struct{}{}
			}
			i = end - 1
		}
	}
	return ""
}

func pathOf(stack []frame) string {
	path := ""
	for _, f := range stack {
		if f.keys == nil {
			path = elementPath(path, f.index)
		} else {
			path = memberPath(path, f.key)
		}
	}
	return path
}

func memberPath(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func elementPath(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// stringEnd returns the index behind the string that begins at raw[i].
func stringEnd(raw []byte, i int) int {
	for i++; raw[i] != '"'; i++ {
		if raw[i] == '\\' {
			i++
		}
	}
	return i + 1
}

func unquote(raw []byte) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return string(raw)
	}
	return s
}

// maxParts is the most elements of an array and members of an object: more than any context has tokens. Each takes
// fifty times the memory of the two bytes that it may have in the body.
const maxParts = 1 << 20

// parts splits an object or array at its own commas and colons: the elements of an array, or keys and values in turn.
// It gives up behind limit of them.
func parts(raw []byte, limit int) [][]byte {
	var list [][]byte
	depth, start := 0, 1
	for i := 0; i < len(raw) && len(list) <= limit; i++ {
		switch c := raw[i]; c {
		case '"':
			i = stringEnd(raw, i) - 1
		case '{', '[':
			depth++
		case '}', ']', ',', ':':
			if depth == 1 {
				if part := bytes.TrimSpace(raw[start:i]); len(part) > 0 {
					list = append(list, part)
				}
				start = i + 1
			}
			if c == '}' || c == ']' {
				depth--
			}
		}
	}
	return list
}

// describe names the JSON type, for complaints.
func (v value) describe() string {
	switch v.raw[0] {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	}
	if bytes.ContainsAny(v.raw, ".eE") {
		return "a decimal number"
	}
	return "an integer"
}

// name is how a complaint calls the value.
func (v value) name() string {
	if v.path == "" {
		return "the body"
	}
	return v.path
}

func (v value) wrongType(want string) error {
	return &wireError{
		Status: 400, Type: typeInvalidRequest, Code: "invalid_type", Param: v.path,
		Message: fmt.Sprintf("%s must be %s, got %s", v.name(), want, v.describe()),
	}
}

func (v value) invalid(format string, args ...any) error {
	return invalidRequest(v.path, "%s %s", v.name(), fmt.Sprintf(format, args...))
}

func (v value) isNull() bool   { return v.raw[0] == 'n' }
func (v value) isText() bool   { return v.raw[0] == '"' }
func (v value) isArray() bool  { return v.raw[0] == '[' }
func (v value) isObject() bool { return v.raw[0] == '{' }
func (v value) isNumber() bool { return v.raw[0] == '-' || v.raw[0] >= '0' && v.raw[0] <= '9' }

func (v value) members() ([]member, error) {
	if !v.isObject() {
		return nil, v.wrongType("an object")
	}
	list := parts(v.raw, 2*maxParts)
	if len(list) > 2*maxParts {
		return nil, v.invalid("has more than %d members", maxParts)
	}
	members := make([]member, 0, len(list)/2)
	for i := 0; i+1 < len(list); i += 2 {
		name := unquote(list[i])
		members = append(members, member{name, value{memberPath(v.path, name), list[i+1]}})
	}
	return members, nil
}

// has reports whether the value is an object with a member of that name, null or not.
func (v value) has(name string) bool {
	members, err := v.members()
	return err == nil && slices.ContainsFunc(members, func(m member) bool { return m.name == name })
}

func (v value) elements() ([]value, error) {
	if !v.isArray() {
		return nil, v.wrongType("an array")
	}
	list := parts(v.raw, maxParts)
	if len(list) > maxParts {
		return nil, v.invalid("has more than %d elements", maxParts)
	}
	elements := make([]value, len(list))
	for i, raw := range list {
		elements[i] = value{elementPath(v.path, i), raw}
	}
	return elements, nil
}

func (v value) boolean() (bool, error) {
	if c := v.raw[0]; c != 't' && c != 'f' {
		return false, v.wrongType("a boolean")
	}
	return v.raw[0] == 't', nil
}

func (v value) text() (string, error) {
	if !v.isText() {
		return "", v.wrongType("a string")
	}
	return unquote(v.raw), nil
}

// float is the number's value; numbers beyond float64 are infinite, which every range excludes.
func (v value) float() float64 {
	f, err := strconv.ParseFloat(string(v.raw), 64)
	if err != nil && math.IsInf(f, 0) {
		return f
	}
	return f
}

func (v value) number(low, high float64) (float64, error) {
	if !v.isNumber() {
		return 0, v.wrongType("a number")
	}
	f := v.float()
	if f < low || f > high {
		return 0, v.invalid("must be between %v and %v, got %s", low, high, shorten(string(v.raw)))
	}
	return f, nil
}

// integer accepts 16 and, as JSON Schema does, 16.0.
func (v value) integer(low, high int64) (int64, error) {
	if !v.isNumber() {
		return 0, v.wrongType("an integer")
	}
	n, err := strconv.ParseInt(string(v.raw), 10, 64)
	if err != nil {
		f := v.float()
		const exact = 1 << 53
		switch {
		case f != math.Trunc(f):
			return 0, v.wrongType("an integer")
		case math.Abs(f) > exact:
			return 0, v.invalid("must be between %d and %d, got %s", low, high, shorten(string(v.raw)))
		}
		n = int64(f)
	}
	if n < low || n > high {
		return 0, v.invalid("must be between %d and %d, got %d", low, high, n)
	}
	return n, nil
}

// oneOf reads a string of a list.
func (v value) oneOf(allowed ...string) (string, error) {
	s, err := v.text()
	if err != nil {
		return "", err
	}
	if !slices.Contains(allowed, s) {
		return "", v.invalid("must be one of %s, got %q", quoteList(allowed), shorten(s))
	}
	return s, nil
}

// equals reports whether the value is one of these JSON texts, spaces aside.
func (v value) equals(texts ...string) bool {
	var compact bytes.Buffer
	if json.Compact(&compact, v.raw) != nil {
		return false
	}
	return slices.Contains(texts, compact.String())
}

func quoteList(list []string) string {
	quoted := make([]string, len(list))
	for i, s := range list {
		quoted[i] = strconv.Quote(s)
	}
	return strings.Join(quoted, ", ")
}

// shorten keeps complaints short, however long what a client sent.
func shorten(s string) string {
	const most = 64
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most]) + "…"
}
