package server

import (
	"encoding/json"
	"slices"
)

// messageRoles are the roles of chat messages; each has a table of its fields.
var messageRoles = []struct {
	role    string
	fields  []field[message]
	content bool // required
}{
	{"developer", textMessage, true},
	{"system", textMessage, true},
	{"user", textMessage, true},
	{"assistant", assistantMessage, false},
	{"tool", toolMessage, true},
	{"function", functionMessage, true},
}

// message is what is checked of a chat message across its fields; templates read the message as it was sent.
type message struct {
	hasContent, hasCalls, hasCallID, hasName bool
	parts                                    []string // part types that the role may have
}

var roleField = field[message]{name: "role", use: honoured, read: func(*message, value) error { return nil }} // read first

var nameField = field[message]{name: "name", use: honoured, read: func(m *message, v value) error {
	_, err := v.text()
	m.hasName = true
	return err
}}

var contentField = field[message]{name: "content", use: honoured, read: readContent}

var textMessage = []field[message]{roleField, contentField, nameField}

var assistantMessage = []field[message]{
	roleField, contentField, nameField,
	{name: "refusal", use: honoured, read: text(func(m *message, _ string) { m.hasContent = true })},
	{name: "tool_calls", use: honoured, read: readToolCalls},
	{name: "reasoning_content", use: honoured, read: text(func(*message, string) {})},
	{name: "reasoning", use: honoured, read: text(func(*message, string) {})},
	{name: "annotations", use: ignored, read: func(_ *message, v value) error { // what answers carry comes back in history
		_, err := v.elements()
		return err
	}},
	refuse[message]("audio", "only text is understood"),
	refuse[message]("function_call", "tool_calls took its place"),
}

var toolMessage = []field[message]{
	roleField, contentField, nameField,
	{name: "tool_call_id", use: honoured, read: text(func(m *message, _ string) { m.hasCallID = true })},
}

var functionMessage = []field[message]{roleField, contentField, nameField}

func readMessages(g *generation, v value) error {
	list, err := v.elements()
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return v.invalid("must have at least one message")
	}
	for _, e := range list {
		if err := checkMessage(e); err != nil {
			return err
		}
		g.turn.Messages = append(g.turn.Messages, json.RawMessage(e.raw))
	}
	return nil
}

// checkMessage checks one message against the table of its role.
func checkMessage(v value) error {
	members, err := v.members()
	if err != nil {
		return err
	}
	at := slices.IndexFunc(members, func(m member) bool { return m.name == "role" })
	if at < 0 {
		return missing(memberPath(v.path, "role"))
	}
	roles := make([]string, len(messageRoles))
	for i, r := range messageRoles {
		roles[i] = r.role
	}
	role, err := members[at].oneOf(roles...)
	if err != nil {
		return err
	}
	r := messageRoles[slices.Index(roles, role)]
	m := message{parts: []string{"text"}}
	if role == "assistant" {
		m.parts = append(m.parts, "refusal")
	}
	if err := decode(r.fields, v, &m); err != nil {
		return err
	}
	switch {
	case r.content && !m.hasContent, role == "assistant" && !m.hasContent && !m.hasCalls:
		return missing(memberPath(v.path, "content"))
	case role == "tool" && !m.hasCallID:
		return missing(memberPath(v.path, "tool_call_id"))
	case role == "function" && !m.hasName:
		return missing(memberPath(v.path, "name"))
	}
	return nil
}

// part is one content part of a message.
type part struct {
	kind              string
	hasText, hasRefus bool
}

var partFields = []field[part]{
	{name: "type", use: honoured, read: func(*part, value) error { return nil }}, // read first
	{name: "text", use: honoured, read: text(func(p *part, _ string) { p.hasText = true })},
	{name: "refusal", use: honoured, read: text(func(p *part, _ string) { p.hasRefus = true })},
	refuse[part]("prompt_cache_breakpoint", "prefixes are cached wherever they end"),
}

// foreignParts are part types of OpenAI's API that this server has no model for.
var foreignParts = []string{"image_url", "input_audio", "file"}

func readContent(m *message, v value) error {
	m.hasContent = true
	if v.isText() {
		return nil
	}
	if !v.isArray() {
		return v.wrongType("a string or an array of content parts")
	}
	list, err := v.elements()
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return v.invalid("must have at least one part")
	}
	for _, e := range list {
		if err := checkPart(e, m.parts); err != nil {
			return err
		}
	}
	return nil
}

func checkPart(v value, allowed []string) error {
	members, err := v.members()
	if err != nil {
		return err
	}
	at := slices.IndexFunc(members, func(m member) bool { return m.name == "type" })
	if at < 0 {
		return missing(memberPath(v.path, "type"))
	}
	kind, err := members[at].text()
	switch {
	case err != nil:
		return err
	case slices.Contains(foreignParts, kind):
		return unsupported(members[at].path, "only text is understood, not "+kind)
	case !slices.Contains(allowed, kind):
		return members[at].invalid("must be one of %s, got %q", quoteList(allowed), shorten(kind))
	}
	p := part{kind: kind}
	if err := decode(partFields, v, &p); err != nil {
		return err
	}
	switch {
	case kind == "text" && !p.hasText:
		return missing(memberPath(v.path, "text"))
	case kind == "refusal" && !p.hasRefus:
		return missing(memberPath(v.path, "refusal"))
	}
	return nil
}

// toolCall is a tool call in a conversation's history.
type toolCall struct{ hasID, hasFunction, hasName, hasArguments bool }

var toolCallFields = []field[toolCall]{
	{name: "id", use: honoured, read: text(func(c *toolCall, _ string) { c.hasID = true })},
	{name: "type", use: honoured, read: func(_ *toolCall, v value) error {
		_, err := v.oneOf("function")
		return err
	}},
	{name: "index", use: ignored, read: integer(0, 1<<31, func(*toolCall, int64) {})}, // clients that kept a stream's form send it back
	{name: "function", use: honoured, read: func(c *toolCall, v value) error {
		c.hasFunction = true
		return decode(toolFunctionFields, v, c)
	}},
}

var toolFunctionFields = []field[toolCall]{
	{name: "name", use: honoured, read: text(func(c *toolCall, _ string) { c.hasName = true })},
	{name: "arguments", use: honoured, read: text(func(c *toolCall, _ string) { c.hasArguments = true })},
}

func readToolCalls(m *message, v value) error {
	list, err := v.elements()
	if err != nil {
		return err
	}
	m.hasCalls = len(list) > 0
	for _, e := range list {
		var c toolCall
		if err := decode(toolCallFields, e, &c); err != nil {
			return err
		}
		function := memberPath(e.path, "function")
		switch {
		case !c.hasID:
			return missing(memberPath(e.path, "id"))
		case !c.hasFunction:
			return missing(function)
		case !c.hasName:
			return missing(memberPath(function, "name"))
		case !c.hasArguments:
			return missing(memberPath(function, "arguments"))
		}
	}
	return nil
}
