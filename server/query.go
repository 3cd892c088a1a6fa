package server

import (
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"hearth/sessions/database"
)

// parameter is one parameter of a request's URL.
type parameter[T any] struct {
	name string
	kind parameterKind
	read func(*T, argument) error
}

// parameterKind says how often a parameter may be given.
type parameterKind uint8

const (
	once  parameterKind = iota // name=value
	many                       // name=value or name[]=value, any number of times
	keyed                      // name[key]=value, once for each key
)

// argument is the value of a parameter, a text, and where it was found.
type argument struct {
	path string
	key  string // of keyed parameters
	text string
}

// number returns the value as a JSON number, for the readers of numbers.
func (a *argument) number() value {
	if a.text == "" || strings.Trim(a.text, "0123456789") != "" && !(a.text[0] == '-' && len(a.text) > 1 && strings.Trim(a.text[1:], "0123456789") == "") {
		return a.value()
	}
	return value{a.path, []byte(a.text)}
}

// value returns the value as a JSON string.
func (a *argument) value() value {
	raw, err := json.Marshal(a.text)
	if err != nil {
		panic("server: argument: " + err.Error()) // of a string
	}
	return value{a.path, raw}
}

// decodeQuery reads the parameters of a request's URL by their table. Every parameter is in the table or an error.
func decodeQuery[T any](x *exchange, table []parameter[T], t *T) error {
	values, err := url.ParseQuery(x.c.Request.URL.RawQuery)
	if err != nil {
		return invalidRequest("", "the query in the URL is malformed")
	}
	for _, full := range slices.Sorted(maps.Keys(values)) {
		name, key, bracketed := full, "", false
		if open := strings.IndexByte(full, '['); open > 0 && strings.HasSuffix(full, "]") {
			name, key, bracketed = full[:open], full[open+1:len(full)-1], true
		}
		at := slices.IndexFunc(table, func(p parameter[T]) bool { return p.name == name })
		if at < 0 || bracketed != (table[at].kind == keyed) && !(bracketed && key == "" && table[at].kind == many) {
			return unknown(shorten(full))
		}
		if table[at].kind != many && len(values[full]) > 1 {
			return invalidRequest(shorten(full), "%s is given twice", shorten(full))
		}
		for _, text := range values[full] {
			if !utf8.ValidString(text) || !utf8.ValidString(key) {
				return invalidRequest(name, "%s is not valid UTF-8", name)
			}
			if err := table[at].read(t, argument{shorten(full), key, text}); err != nil {
				return err
			}
		}
	}
	return nil
}

// switchParameter makes the read function of a parameter that is true or false.
func switchParameter[T any](set func(*T, bool)) func(*T, argument) error {
	return func(t *T, a argument) error {
		s, err := a.value().oneOf("true", "false")
		set(t, s == "true")
		return err
	}
}

// maxPage is the most entries of a list in one answer (OpenAI's API reference).
const maxPage = 100

// pageParameters are the parameters of lists. The order that the page has before is the default.
func pageParameters[T any](page func(*T) *database.Page) []parameter[T] {
	return []parameter[T]{
		{"limit", once, func(t *T, a argument) error {
			n, err := a.number().integer(1, maxPage)
			page(t).Limit = int(n)
			return err
		}},
		{"order", once, func(t *T, a argument) error {
			order, err := a.value().oneOf("asc", "desc")
			page(t).Descending = order == "desc"
			return err
		}},
		{"after", once, func(t *T, a argument) error {
			page(t).After = a.text
			return nil
		}},
	}
}

// included are the further parts of items that a request may ask for. Items have all their parts anyway, as far as this
// server makes such parts.
var included = []string{
	"file_search_call.results", "web_search_call.results", "web_search_call.action.sources", "message.input_image.image_url",
	"computer_call_output.output.image_url", "code_interpreter_call.outputs", "reasoning.encrypted_content", "message.output_text.logprobs",
}

// includeParameter checks the parameter include, which changes nothing.
func includeParameter[T any]() parameter[T] {
	return parameter[T]{"include", many, func(_ *T, a argument) error {
		_, err := a.value().oneOf(included...)
		return err
	}}
}

// listObject is a part of a list in OpenAI's shape.
type listObject[T any] struct {
	Object  string `json:"object"`
	Data    []T    `json:"data"`
	FirstID string `json:"first_id"`
	LastID  string `json:"last_id"`
	HasMore bool   `json:"has_more"`
}

// newListObject returns the list of entries whose ids are as id says. An empty list has empty ids.
func newListObject[T any](entries []T, more bool, id func(*T) string) listObject[T] {
	l := listObject[T]{Object: "list", Data: []T{}, HasMore: more}
	if n := len(entries); n > 0 {
		l.Data, l.FirstID, l.LastID = entries, id(&entries[0]), id(&entries[n-1])
	}
	return l
}
