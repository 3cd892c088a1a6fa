package chat

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"hearth/engine/chat/jinja"
)

// Prompt is a conversation to be rendered. Renderings do not modify it and may share it.
type Prompt struct {
	Messages *jinja.List // objects, with the order of their keys and with fields that only the template knows
	Tools    jinja.Value // as ParseTools returns it; nil is none
	Vars     *jinja.Dict // further variables of the template
	Effort   string      // how much to think, one of Efforts; empty: as the template has it

	Now                 time.Time // for templates that print the date
	AddGenerationPrompt bool      // end with the beginning of the assistant's answer
	// Guard marks text that came from the request in what Render returns; nil leaves it unmarked. It is called with each
	// longest run of such text.
	Guard func(string) string

	verbatim bool // messages reach the template as they are
}

// roles are those of OpenAI's API, and root, MiniMax's name for an operator above the system message.
var roles = []string{"system", "developer", "user", "assistant", "tool", "function", "root"}

// reserved are the variables that Render sets itself.
var reserved = []string{"messages", "tools", "add_generation_prompt", "bos_token", "eos_token"}

// ParsePrompt checks that messages have the shape of OpenAI's chat messages and that vars, unless empty, is a JSON
// object. Errors name the field: messages[2].content[0].type.
func ParsePrompt(messages []json.RawMessage, vars json.RawMessage) (*Prompt, error) {
	if len(messages) == 0 {
		return nil, errors.New("messages: at least one is needed")
	}
	p, err := parse(messages, vars)
	if err != nil {
		return nil, err
	}
	for _, name := range reserved {
		if _, ok := p.Vars.Get(name); ok {
			return nil, fmt.Errorf("chat_template_kwargs.%s: is set by the server", name)
		}
	}
	for i := range messages {
		if err := checkMessage(fmt.Sprintf("messages[%d]", i), p.Messages.At(i)); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// ParseVerbatim reads messages, any JSON values, and variables that the template will get exactly so. Variables may
// replace those that Render sets.
func ParseVerbatim(messages []json.RawMessage, vars json.RawMessage) (*Prompt, error) {
	p, err := parse(messages, vars)
	if err != nil {
		return nil, err
	}
	p.verbatim = true
	return p, nil
}

func parse(messages []json.RawMessage, vars json.RawMessage) (*Prompt, error) {
	p := &Prompt{Messages: jinja.NewList(), Vars: jinja.NewDict()}
	for i, raw := range messages {
		m, err := jinja.ParseJSON(raw)
		if err != nil {
			return nil, fmt.Errorf("messages[%d]: %w", i, err)
		}
		p.Messages.Append(m)
	}
	if len(vars) == 0 {
		return p, nil
	}
	v, err := jinja.ParseJSON(vars)
	if err != nil {
		return nil, fmt.Errorf("chat_template_kwargs: %w", err)
	}
	switch v := v.(type) {
	case jinja.None:
	case *jinja.Dict:
		p.Vars = v
	default:
		return nil, errors.New("chat_template_kwargs: must be an object")
	}
	return p, nil
}

// checkMessage checks one message. A known role is then trusted, because some templates make control tokens of it.
func checkMessage(at string, v jinja.Value) error {
	m, ok := v.(*jinja.Dict)
	if !ok {
		return fmt.Errorf("%s: must be an object", at)
	}
	role, err := requiredField(at, m, "role")
	if err != nil {
		return err
	}
	if !slices.Contains(roles, role) {
		return fmt.Errorf("%s.role: is %q, want one of %q", at, role, roles[:len(roles)-1])
	}
	m.Set("role", jinja.Trusted(role))
	for _, name := range []string{"name", "tool_call_id", "reasoning_content", "reasoning", "refusal"} {
		if _, _, err := stringField(at, m, name); err != nil {
			return err
		}
	}
	if audio, ok := m.Get("audio"); ok && !isNone(audio) {
		return fmt.Errorf("%s.audio: is not supported, only text is", at)
	}
	if err := checkToolCalls(at+".tool_calls", m); err != nil {
		return err
	}
	return checkContent(at, role, m)
}

// checkContent checks the content of a message: text, a list of text parts, or for assistants that said something else,
// nothing.
func checkContent(at, role string, m *jinja.Dict) error {
	content, ok := m.Get("content")
	switch c := content.(type) {
	case jinja.Text:
		return nil
	case *jinja.List:
		for i := range c.Len() {
			if err := checkPart(fmt.Sprintf("%s.content[%d]", at, i), c.At(i)); err != nil {
				return err
			}
		}
		return nil
	case jinja.None:
	default:
		if ok {
			return fmt.Errorf("%s.content: must be a string, an array of parts, or null", at)
		}
	}
	if role != "assistant" {
		return fmt.Errorf("%s.content: is missing", at)
	}
	for _, other := range []string{"tool_calls", "function_call", "refusal", "reasoning_content", "reasoning"} {
		if v, ok := m.Get(other); ok && !isNone(v) {
			return nil
		}
	}
	return fmt.Errorf("%s.content: is missing, and there are no tool_calls", at)
}

func checkPart(at string, v jinja.Value) error {
	part, ok := v.(*jinja.Dict)
	if !ok {
		return fmt.Errorf("%s: must be an object", at)
	}
	kind, err := requiredField(at, part, "type")
	if err != nil {
		return err
	}
	if kind != "text" && kind != "refusal" {
		return fmt.Errorf("%s.type: %q is not supported, only text is", at, kind)
	}
	_, err = requiredField(at, part, kind)
	return err
}

func checkToolCalls(at string, m *jinja.Dict) error {
	v, ok := m.Get("tool_calls")
	if !ok || isNone(v) {
		return nil
	}
	calls, ok := v.(*jinja.List)
	if !ok {
		return fmt.Errorf("%s: must be an array", at)
	}
	for i := range calls.Len() {
		at := fmt.Sprintf("%s[%d]", at, i)
		call, ok := calls.At(i).(*jinja.Dict)
		if !ok {
			return fmt.Errorf("%s: must be an object", at)
		}
		if err := checkToolCall(at, call); err != nil {
			return err
		}
	}
	return nil
}

func checkToolCall(at string, call *jinja.Dict) error {
	if _, _, err := stringField(at, call, "id"); err != nil {
		return err
	}
	if err := checkFunctionType(at, call); err != nil {
		return err
	}
	function, err := checkFunction(at, call)
	if err != nil {
		return err
	}
	arguments, _ := function.Get("arguments")
	switch arguments.(type) {
	case nil, jinja.None, jinja.Text, *jinja.Dict:
		return nil
	}
	return fmt.Errorf("%s.function.arguments: must be a string of JSON, or an object", at)
}

// checkFunctionType checks the type of a tool or a tool call, which may be left out.
func checkFunctionType(at string, v *jinja.Dict) error {
	kind, ok, err := stringField(at, v, "type")
	if err == nil && ok && kind != "function" {
		err = fmt.Errorf("%s.type: %q is not supported, only \"function\" is", at, kind)
	}
	return err
}

func checkFunction(at string, v *jinja.Dict) (*jinja.Dict, error) {
	value, ok := v.Get("function")
	if !ok {
		return nil, fmt.Errorf("%s.function: is missing", at)
	}
	function, ok := value.(*jinja.Dict)
	if !ok {
		return nil, fmt.Errorf("%s.function: must be an object", at)
	}
	name, ok, err := stringField(at+".function", function, "name")
	if err == nil && (!ok || name == "") {
		err = fmt.Errorf("%s.function.name: is missing", at)
	}
	return function, err
}

// ParseTools checks that a request's tools are an array of function tools; none, null and an empty array are nil.
func ParseTools(raw json.RawMessage) (jinja.Value, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	v, err := jinja.ParseJSON(raw)
	if err != nil {
		return nil, fmt.Errorf("tools: %w", err)
	}
	if isNone(v) {
		return nil, nil
	}
	tools, ok := v.(*jinja.List)
	if !ok {
		return nil, errors.New("tools: must be an array")
	}
	if tools.Len() == 0 {
		return nil, nil
	}
	for i := range tools.Len() {
		at := fmt.Sprintf("tools[%d]", i)
		tool, ok := tools.At(i).(*jinja.Dict)
		if !ok {
			return nil, fmt.Errorf("%s: must be an object", at)
		}
		if err := checkFunctionType(at, tool); err != nil {
			return nil, err
		}
		if _, err := checkFunction(at, tool); err != nil {
			return nil, err
		}
	}
	return tools, nil
}

// stringField returns a field that must be a string; null counts as absent.
func stringField(at string, m *jinja.Dict, name string) (string, bool, error) {
	v, ok := m.Get(name)
	if !ok || isNone(v) {
		return "", false, nil
	}
	text, ok := v.(jinja.Text)
	if !ok {
		return "", false, fmt.Errorf("%s.%s: must be a string", at, name)
	}
	return text.String(), true, nil
}

// requiredField is stringField for one that has to be there.
func requiredField(at string, m *jinja.Dict, name string) (string, error) {
	text, ok, err := stringField(at, m, name)
	if err == nil && !ok {
		err = fmt.Errorf("%s.%s: is missing", at, name)
	}
	return text, err
}

func isNone(v jinja.Value) bool { _, ok := v.(jinja.None); return ok }
