package chat

import (
	"strings"

	"hearth/engine/chat/jinja"
)

// form is how a template wants messages. Templates differ, and most fail or print Python's notation when they get
// another form, so that New finds out by rendering small conversations (probe).
type form struct {
	argumentText bool // tool-call arguments as JSON text, not as objects
	parts        partsForm
	emptyContent emptyForm // content of an assistant message that only calls tools
	developer    bool      // knows the role developer; others get system
}

type partsForm int

const (
	partsAsText   partsForm = iota // contents must be text
	partsOrText                    // contents may be either
	partsRequired                  // contents must be lists of parts
)

type emptyForm int

const (
	emptyAsIs emptyForm = iota
	emptyNone           // must be null
	emptyText           // must be ""
)

// messages returns messages in the template's form. Messages that have it already are shared.
func (f form) messages(from *jinja.List) *jinja.List {
	to := jinja.NewList()
	for i := range from.Len() {
		m, ok := from.At(i).(*jinja.Dict)
		if !ok {
			to.Append(from.At(i))
			continue
		}
		to.Append(f.message(m))
	}
	return to
}

func (f form) message(from *jinja.Dict) *jinja.Dict {
	m := from.Clone()
	role, _ := m.Get("role")
	if !f.developer && textOf(role) == "developer" {
		m.Set("role", jinja.Trusted("system"))
	}
	if _, ok := m.Get("reasoning_content"); !ok {
		if reasoning, ok := m.Get("reasoning"); ok && !isNone(reasoning) {
			m.Set("reasoning_content", reasoning)
		}
	}
	calls, called := toolCalls(m)
	content, _ := m.Get("content")
	if refusal, ok := m.Get("refusal"); ok && textOf(content) == "" && textOf(refusal) != "" {
		content = refusal // no template knows the field
	}
	m.Set("content", f.content(content, called))
	if called {
		m.Set("tool_calls", f.calls(calls))
	} else {
		m.Delete("tool_calls") // of an empty list or null, which templates take for calls
	}
	return m
}

// tools returns tools whose functions all have parameters: templates insist on them, and a function without is one that
// takes none (OpenAI's API reference).
func (f form) tools(v jinja.Value) jinja.Value {
	list, ok := v.(*jinja.List)
	if !ok {
		return v
	}
	to := jinja.NewList()
	for i := range list.Len() {
		tool, isTool := list.At(i).(*jinja.Dict)
		function, isFunction := memberOf(list.At(i), "function").(*jinja.Dict)
		if isTool && isFunction && memberOf(function, "parameters") == nil {
			none := jinja.NewDict()
			none.Set("type", jinja.Trusted("object"))
			none.Set("properties", jinja.NewDict())
			tool, function = tool.Clone(), function.Clone()
			function.Set("parameters", none)
			tool.Set("function", function)
			to.Append(tool)
			continue
		}
		to.Append(list.At(i))
	}
	return to
}

func toolCalls(m *jinja.Dict) (*jinja.List, bool) {
	v, _ := m.Get("tool_calls")
	calls, ok := v.(*jinja.List)
	return calls, ok && calls.Len() > 0
}

func (f form) content(v jinja.Value, called bool) jinja.Value {
	switch c := v.(type) {
	case *jinja.List:
		if f.parts == partsAsText {
			v = jinja.Untrusted(textOf(c))
		}
	case jinja.Text:
		if f.parts == partsRequired && c.String() != "" {
			return jinja.NewList(textPart(c))
		}
	case nil:
		v = jinja.None{}
	}
	if text, isText := v.(jinja.Text); isNone(v) || isText && text.String() == "" && called {
		switch f.emptyContent {
		case emptyNone:
			return jinja.None{}
		case emptyText:
			return jinja.Untrusted("")
		}
	}
	return v
}

func textPart(text jinja.Text) jinja.Value {
	part := jinja.NewDict()
	part.Set("type", jinja.Trusted("text"))
	part.Set("text", text)
	return part
}

// calls returns tool calls with their arguments in the template's form. Text that is not a JSON object stays text.
func (f form) calls(from *jinja.List) *jinja.List {
	to := jinja.NewList()
	for i := range from.Len() {
		call, ok := from.At(i).(*jinja.Dict)
		if !ok {
			to.Append(from.At(i))
			continue
		}
		call = call.Clone()
		v, _ := call.Get("function")
		if function, ok := v.(*jinja.Dict); ok {
			function = function.Clone()
			arguments, _ := function.Get("arguments")
			function.Set("arguments", f.arguments(arguments))
			call.Set("function", function)
		}
		to.Append(call)
	}
	return to
}

func (f form) arguments(v jinja.Value) jinja.Value {
	switch a := v.(type) {
	case *jinja.Dict:
		if f.argumentText {
			if text, err := jinja.FormatJSON(a); err == nil {
				return jinja.Untrusted(text)
			}
		}
		return a
	case jinja.Text:
		if f.argumentText && a.String() != "" {
			return a
		}
		if strings.TrimSpace(a.String()) == "" {
			return f.arguments(jinja.NewDict())
		}
		if parsed, err := jinja.ParseJSON([]byte(a.String())); err == nil {
			if _, isObject := parsed.(*jinja.Dict); isObject {
				return parsed
			}
		}
		return a
	}
	return f.arguments(jinja.NewDict())
}
