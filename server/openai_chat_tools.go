package server

import "encoding/json"

// completionTool is one tool of a chat request.
type completionTool struct{ hasType, hasFunction, hasName bool }

var completionToolFields = []field[completionTool]{
	{name: "type", use: honoured, read: func(t *completionTool, v value) error {
		t.hasType = true
		kind, err := v.text()
		if err == nil && kind == "custom" {
			return unsupported(v.path, "only functions are")
		}
		if err == nil {
			_, err = v.oneOf("function")
		}
		return err
	}},
	{name: "function", use: honoured, read: func(t *completionTool, v value) error {
		t.hasFunction = true
		return decode(completionFunctionFields, v, t)
	}},
}

var completionFunctionFields = []field[completionTool]{
	{name: "name", use: honoured, read: func(t *completionTool, v value) error {
		t.hasName = true
		name, err := v.text()
		if err == nil && !toolName.MatchString(name) {
			err = v.invalid("must be 1 to 128 letters, digits, '_' or '-', got %q", shorten(name))
		}
		return err
	}},
	{name: "description", use: honoured, read: text(func(*completionTool, string) {})},
	{name: "parameters", use: honoured, read: func(_ *completionTool, v value) error {
		_, err := v.members()
		return err
	}},
	refuse[completionTool]("strict", "arguments are not held to the schema while they are generated", "false"),
}

// maxTools is OpenAI's limit.
const maxTools = 128

// readTools checks the tools of a chat request; the template reads them as they were sent.
func readTools(g *generation, v value) error {
	list, err := v.elements()
	if err != nil {
		return err
	}
	if len(list) > maxTools {
		return v.invalid("may have %d tools, has %d", maxTools, len(list))
	}
	for _, e := range list {
		var t completionTool
		if err := decode(completionToolFields, e, &t); err != nil {
			return err
		}
		switch {
		case !t.hasType:
			return missing(memberPath(e.path, "type"))
		case !t.hasFunction:
			return missing(memberPath(e.path, "function"))
		case !t.hasName:
			return missing(memberPath(memberPath(e.path, "function"), "name"))
		}
	}
	g.tools = nil
	if len(list) > 0 {
		g.tools = json.RawMessage(v.raw)
	}
	return nil
}

// readChatToolChoice reads whether the model may call tools. That it has to cannot be promised: what is generated is not
// held to a form.
func readChatToolChoice(g *generation, v value) error {
	if v.isObject() || v.equals(`"required"`) {
		return unsupported(v.path, mustNotCall)
	}
	choice, err := v.oneOf("none", "auto")
	g.noTools = choice == "none"
	return err
}

// calledFunction is a tool call of an answer, whole or the next piece of one.
type calledFunction struct {
	Index    *int           `json:"index,omitempty"` // of a piece
	ID       string         `json:"id,omitempty"`
	Type     string         `json:"type,omitempty"`
	Function functionOfCall `json:"function"`
}

type functionOfCall struct {
	Name      string `json:"name,omitempty"`
	Arguments string `json:"arguments"`
}
