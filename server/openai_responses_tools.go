package server

import (
	"encoding/json"
	"regexp"
	"slices"

	"hearth/sessions/items"
)

// responseTool is a tool of a request to the Responses API. Chat templates know functions only. A custom tool, whose input
// is any text, is shown to them as a function of that one text; what a model calls it with is told apart again on the way
// back.
type responseTool struct {
	kind        string // "function" or "custom"
	name        string
	description *string
	parameters  json.RawMessage // a JSON schema, or nil
}

// toolName is what OpenAI's API allows as the name of a tool.
var toolName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)

// toolKindField is read first: it decides on the table.
var toolKindField = field[responseTool]{name: "type", use: honoured, read: func(*responseTool, value) error { return nil }}

var toolNameField = field[responseTool]{name: "name", use: honoured, read: func(t *responseTool, v value) error {
	s, err := v.text()
	if err == nil && !toolName.MatchString(s) {
		err = v.invalid("must be 1 to 128 letters, digits, '_' or '-', got %q", shorten(s))
	}
	t.name = s
	return err
}}

var toolDescriptionField = field[responseTool]{name: "description", use: honoured, read: text(func(t *responseTool, s string) { t.description = &s })}

var sharedToolFields = []field[responseTool]{
	toolKindField, toolNameField, toolDescriptionField,
	refuse[responseTool]("defer_loading", "all tools are shown to the model", "false"),
	refuse[responseTool]("allowed_callers", "only the model itself calls tools", `["direct"]`),
}

// functionFields is a tool of type function.
var functionFields = slices.Concat(sharedToolFields, []field[responseTool]{
	{name: "parameters", use: honoured, read: func(t *responseTool, v value) error {
		if !v.isObject() {
			return v.wrongType("a JSON schema, which is an object")
		}
		t.parameters = v.raw
		return nil
	}},
	refuse[responseTool]("strict", "arguments are not constrained to the schema", "false"),
	refuse[responseTool]("output_schema", "say in the description what the function returns"),
})

// customFields is a tool of type custom.
var customFields = slices.Concat(sharedToolFields, []field[responseTool]{
	refuse[responseTool]("format", "inputs are not constrained to a grammar", `{"type":"text"}`),
})

func readResponseTools(r *responseRequest, v value) error {
	list, err := v.elements()
	if err != nil {
		return err
	}
	for _, e := range list {
		tool, err := readResponseTool(e)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(r.tools, func(t responseTool) bool { return t.name == tool.name }) {
			return invalidRequest(memberPath(e.path, "name"), "there are two tools of the name %q", tool.name)
		}
		r.tools = append(r.tools, tool)
		r.echo.Tools = append(r.echo.Tools, tool.echo())
	}
	return nil
}

func readResponseTool(v value) (responseTool, error) {
	var t responseTool
	members, err := v.members()
	if err != nil {
		return t, err
	}
	at := slices.IndexFunc(members, func(m member) bool { return m.name == "type" })
	if at < 0 {
		return t, missing(memberPath(v.path, "type"))
	}
	if t.kind, err = members[at].text(); err != nil {
		return t, err
	}
	switch t.kind {
	case "function":
		err = decode(functionFields, v, &t)
	case "custom":
		err = decode(customFields, v, &t)
	default:
		err = unsupported(members[at].path, "this server runs no tools itself; functions and custom tools are yours to run, got "+shorten(t.kind))
	}
	if err == nil && t.name == "" {
		err = missing(memberPath(v.path, "name"))
	}
	return t, err
}

// echo is the tool as the response names it, as it took effect.
func (t *responseTool) echo() json.RawMessage {
	var object any
	if t.kind == "custom" {
		object = customTool{t.kind, t.name, t.description, json.RawMessage(`{"type":"text"}`)}
	} else {
		object = functionTool{t.kind, t.name, t.description, t.parameters, false}
	}
	raw, _ := json.Marshal(object) // of strings and valid JSON
	return raw
}

// functionTool and customTool are tools as responses name them.
type functionTool struct {
	Type        string          `json:"type"`
	Name        string          `json:"name"`
	Description *string         `json:"description,omitempty"`
	Parameters  json.RawMessage `json:"parameters"`
	Strict      bool            `json:"strict"`
}

type customTool struct {
	Type        string          `json:"type"`
	Name        string          `json:"name"`
	Description *string         `json:"description,omitempty"`
	Format      json.RawMessage `json:"format"`
}

// customInput is the schema of the function that stands for a custom tool.
const customInput = `{"type":"object","properties":{"` + items.CustomInput + `":{"type":"string"}},"required":["` + items.CustomInput + `"]}`

// chatTool is a tool in the form of chat completions, in the order that templates were written for.
type chatTool struct {
	Type     string       `json:"type"` // "function"
	Function chatFunction `json:"function"`
}

type chatFunction struct {
	Name        string          `json:"name"`
	Description *string         `json:"description,omitempty"`
	Parameters  json.RawMessage `json:"parameters,omitempty"`
}

func (t *responseTool) function() chatTool {
	f := chatFunction{t.name, t.description, t.parameters}
	if t.kind == "custom" {
		f.Parameters = json.RawMessage(customInput)
	}
	return chatTool{"function", f}
}

// allowedTool is an entry of the tools of a tool_choice.
type allowedTool struct {
	path, kind, name string
}

var allowedToolFields = []field[allowedTool]{
	{name: "type", use: honoured, read: text(func(t *allowedTool, s string) { t.kind = s })},
	{name: "name", use: honoured, read: text(func(t *allowedTool, s string) { t.name = s })},
}

// toolChoice is the object tool_choice.
type toolChoice struct {
	kind, mode string
	allowed    []allowedTool
}

var toolChoiceFields = []field[toolChoice]{
	{name: "type", use: honoured, read: text(func(c *toolChoice, s string) { c.kind = s })},
	{name: "mode", use: honoured, read: func(c *toolChoice, v value) (err error) {
		c.mode, err = v.oneOf("auto", "required")
		if c.mode == "required" {
			err = unsupported(v.path, mustNotCall)
		}
		return err
	}},
	{name: "tools", use: honoured, read: func(c *toolChoice, v value) error {
		list, err := v.elements()
		if err != nil {
			return err
		}
		c.allowed = []allowedTool{}
		for _, e := range list {
			t := allowedTool{path: e.path}
			if err := decode(allowedToolFields, e, &t); err != nil {
				return err
			}
			c.allowed = append(c.allowed, t)
		}
		return nil
	}},
}

// mustNotCall is why no choice of a tool can be enforced.
const mustNotCall = "the model decides whether it calls a tool; use auto or none"

func readToolChoice(r *responseRequest, v value) error {
	r.echo.ToolChoice = v.raw
	if v.isText() {
		s, err := v.oneOf("none", "auto", "required")
		if s == "required" {
			err = unsupported(v.path, mustNotCall)
		}
		r.chooseNoTool = s == "none"
		return err
	}
	members, err := v.members()
	if err != nil {
		return err
	}
	kind := ""
	for _, m := range members {
		if m.name == "type" {
			if kind, err = m.text(); err != nil {
				return err
			}
		}
	}
	switch kind {
	case "":
		return missing(memberPath(v.path, "type"))
	case "allowed_tools":
	default:
		return unsupported(v.path, mustNotCall)
	}
	var c toolChoice
	if err := decode(toolChoiceFields, v, &c); err != nil {
		return err
	}
	switch {
	case c.mode == "":
		return missing(memberPath(v.path, "mode"))
	case c.allowed == nil:
		return missing(memberPath(v.path, "tools"))
	}
	r.allowed = c.allowed
	return nil
}

// chosenTools returns the tools that the model may call, in the form of chat completions, and the names of those among
// them that are custom tools: the tools of the request, and those that items of the conversation bring. It is asked once
// all fields are read.
func (r *responseRequest) chosenTools(list []items.Item) (functions json.RawMessage, custom []string, err error) {
	tools := slices.Clone(r.tools)
	brought, err := items.Tools(list)
	if err != nil {
		return nil, nil, err
	}
	for _, raw := range brought {
		tool, err := readResponseTool(value{"input", raw})
		if err != nil {
			return nil, nil, err
		}
		if !slices.ContainsFunc(tools, func(t responseTool) bool { return t.name == tool.name }) {
			tools = append(tools, tool)
		}
	}
	for _, a := range r.allowed {
		if !slices.ContainsFunc(tools, func(t responseTool) bool { return a.names(t) }) {
			return nil, nil, invalidRequest(a.path, "%s names no tool of this request", a.path)
		}
	}
	var chosen []chatTool
	for _, t := range tools {
		allowed := r.allowed == nil || slices.ContainsFunc(r.allowed, func(a allowedTool) bool { return a.names(t) })
		if r.chooseNoTool || !allowed {
			continue
		}
		chosen = append(chosen, t.function())
		if t.kind == "custom" {
			custom = append(custom, t.name)
		}
	}
	if len(chosen) == 0 {
		return nil, nil, nil
	}
	functions, err = json.Marshal(chosen)
	return functions, custom, err
}

func (a *allowedTool) names(t responseTool) bool { return t.kind == a.kind && t.name == a.name }
