package items

import (
	"encoding/json"
	"fmt"
	"strings"
)

// fields are what rendering and search read of a complete item, of whatever type.
type fields struct {
	ID, Type, Role, Status string
	Content, Summary       []textPart
	CallID                 string `json:"call_id"`
	Name, Namespace        string
	Arguments, Input       string
	Output                 output
	Action, Operation      json.RawMessage
	Queries                []string
	Results                []struct{ Filename, Text string }
	Code                   string
	Outputs                []struct{ Logs string }
	ServerLabel            string `json:"server_label"`
	Error                  json.RawMessage
	EncryptedContent       string `json:"encrypted_content"`
	Tools                  []json.RawMessage
}

type textPart struct{ Type, Text, Refusal string }

func (p textPart) said() string {
	if p.Type == "refusal" {
		return p.Refusal
	}
	return p.Text
}

func texts(list []textPart) []string {
	said := make([]string, len(list))
	for i, p := range list {
		said[i] = p.said()
	}
	return said
}

// output is the result of a tool: a text, text parts, or what the commands of a shell printed.
type output []string

// UnmarshalJSON reads any of the three.
func (o *output) UnmarshalJSON(raw []byte) error {
	*o = nil
	switch raw[0] {
	case 'n':
		return nil
	case '"':
		var s string
		err := json.Unmarshal(raw, &s)
		*o = output{s}
		return err
	}
	var list []struct {
		Type, Text     string
		Stdout, Stderr string
		Outcome        *struct {
			Type     string
			ExitCode int `json:"exit_code"`
		}
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		return err
	}
	for _, e := range list {
		switch {
		case e.Outcome == nil:
			*o = append(*o, e.Text)
		case e.Outcome.Type == "timeout":
			*o = append(*o, e.Stdout+e.Stderr+"\n[timed out]")
		default:
			*o = append(*o, fmt.Sprintf("%s%s\n[exit code %d]", e.Stdout, e.Stderr, e.Outcome.ExitCode))
		}
	}
	return nil
}

func saidOutput(f *fields) []string { return f.Output }

func saidAction(f *fields) []string { return []string{string(f.Action) + string(f.Operation)} }

// CustomInput is the parameter under which the text of a custom tool's call reaches the model: a custom tool is shown to it
// as a function with this one parameter, a string.
const CustomInput = "input"

// chatMessage is a message in OpenAI's form of chat completions.
type chatMessage struct {
	Role       string          `json:"role"`
	Content    json.RawMessage `json:"content"`
	Reasoning  string          `json:"reasoning_content,omitempty"`
	ToolCalls  []chatCall      `json:"tool_calls,omitempty"`
	ToolCallID string          `json:"tool_call_id,omitempty"`
}

type chatCall struct {
	ID       string       `json:"id"`
	Type     string       `json:"type"`
	Function chatFunction `json:"function"`
}

type chatFunction struct {
	Name      string `json:"name"`
	Arguments string `json:"arguments"`
}

// conversation collects chat messages.
//
// What an assistant thought, said and called between two things that others said is one message, in whatever order its items
// are: a template has one place for each, and results must follow the message that has their calls. Only a message, or a
// thought, after a message that called nothing begins a new one.
type conversation struct {
	list []json.RawMessage
	open func(sealed string) ([]json.RawMessage, error)

	answering bool // an assistant's message is being collected
	spoken    bool // it has a message item, though that may have no text
	said      []string
	thought   []string
	calls     []chatCall
	called    map[string]bool // ids of all calls so far
}

// Messages returns the chat messages that items stand for, in OpenAI's form of chat completions. Reasoning becomes
// reasoning_content, calls of all tools become tool_calls, results become messages of the role tool.
//
// Open returns the messages that a compaction's sealed content stands for; nil refuses compactions. A result whose call is
// not among the items is an error, because no template has a place for it. Items that only concern the request,
// additional_tools and compaction_trigger, are no messages.
func Messages(list []Item, open func(sealed string) ([]json.RawMessage, error)) ([]json.RawMessage, error) {
	c := conversation{open: open, called: map[string]bool{}}
	for i := range list {
		var f fields
		if err := json.Unmarshal(list[i].JSON, &f); err != nil {
			return nil, fmt.Errorf("items: %s: %w", list[i].ID, err)
		}
		if err := c.add(&f); err != nil {
			return nil, err
		}
	}
	c.flush()
	return c.list, nil
}

// add renders one item.
func (c *conversation) add(f *fields) error {
	switch f.Type {
	case typeMessage:
		if f.Role != "assistant" {
			c.flush()
			c.list = append(c.list, encode(chatMessage{Role: f.Role, Content: content(texts(f.Content))}))
			return nil
		}
		c.say(f)
	case "reasoning":
		c.think(f)
	case "function_call":
		c.call(f.CallID, qualified(f.Namespace, f.Name), f.Arguments)
	case "custom_tool_call":
		c.call(f.CallID, qualified(f.Namespace, f.Name), string(encode(map[string]string{CustomInput: f.Input})))
	case "local_shell_call":
		c.call(f.CallID, "local_shell", string(f.Action))
	case "shell_call":
		c.call(f.CallID, "shell", string(f.Action))
	case "apply_patch_call":
		c.call(f.CallID, "apply_patch", string(f.Operation))
	case "function_call_output", "custom_tool_call_output", "local_shell_call_output", "shell_call_output", "apply_patch_call_output":
		return c.result(f)
	case "web_search_call":
		c.whole(f.ID, "web_search", string(f.Action), []string{f.Status}) // the items of this tool do not hold what it found
	case "file_search_call":
		c.whole(f.ID, "file_search", string(encode(map[string][]string{"queries": f.Queries})), found(f))
	case "code_interpreter_call":
		logs := make([]string, len(f.Outputs))
		for i, o := range f.Outputs {
			logs[i] = o.Logs
		}
		c.whole(f.ID, "code_interpreter", string(encode(map[string]string{"code": f.Code})), logs)
	case "mcp_call":
		result := []string(f.Output)
		if len(f.Error) > 0 && f.Error[0] == '{' {
			result = append(result, string(f.Error))
		}
		c.whole(f.ID, qualified(f.ServerLabel, f.Name), f.Arguments, result)
	case "compaction":
		return c.compaction(f)
	case "additional_tools", typeTrigger:
	default:
		return &Error{"input", Unsupported, fmt.Sprintf("has the item %s of type %s, which no message stands for", shorten(f.ID), shorten(f.Type))}
	}
	return nil
}

// say adds a message of the assistant.
func (c *conversation) say(f *fields) {
	if c.spoken && c.calls == nil {
		c.flush()
	}
	c.answering, c.spoken = true, true
	said := texts(f.Content)
	if len(c.said) > 0 && len(said) > 0 {
		said[0] = "\n\n" + said[0]
	}
	c.said = append(c.said, said...)
}

// think adds reasoning: its text where it is open, else its summary.
func (c *conversation) think(f *fields) {
	if c.spoken && c.calls == nil {
		c.flush()
	}
	thought := f.Content
	if len(thought) == 0 {
		thought = f.Summary
	}
	if said := strings.Join(texts(thought), "\n"); said != "" {
		c.answering = true
		c.thought = append(c.thought, said)
	}
}

func (c *conversation) call(id, name, arguments string) {
	c.answering = true
	c.called[id] = true
	c.calls = append(c.calls, chatCall{ID: id, Type: "function", Function: chatFunction{name, arguments}})
}

// whole adds a call that holds its own result.
func (c *conversation) whole(id, name, arguments string, result []string) {
	c.call(id, name, arguments)
	c.flush()
	c.list = append(c.list, encode(chatMessage{Role: "tool", Content: content(result), ToolCallID: id}))
}

// result adds the result of a call.
func (c *conversation) result(f *fields) error {
	if !c.called[f.CallID] {
		return &Error{"input", Invalid, fmt.Sprintf("has a result of the call %q, and no such call before it", shorten(f.CallID))}
	}
	c.flush()
	result := []string(f.Output)
	if f.Type == "apply_patch_call_output" {
		result = append([]string{f.Status}, result...)
	}
	c.list = append(c.list, encode(chatMessage{Role: "tool", Content: content(result), ToolCallID: f.CallID}))
	return nil
}

func (c *conversation) compaction(f *fields) error {
	if c.open == nil {
		return unsupported("input", "a compaction cannot be opened here")
	}
	messages, err := c.open(f.EncryptedContent)
	if err != nil {
		return err
	}
	c.flush()
	c.list = append(c.list, messages...)
	return nil
}

// flush ends the assistant's message.
func (c *conversation) flush() {
	if c.answering {
		m := chatMessage{Role: "assistant", Content: content(c.said), Reasoning: strings.Join(c.thought, "\n"), ToolCalls: c.calls}
		if len(c.said) == 0 && c.calls != nil {
			m.Content = json.RawMessage("null")
		}
		c.list = append(c.list, encode(m))
	}
	c.answering, c.spoken, c.said, c.thought, c.calls = false, false, nil, nil, nil
}

// content is what was said: a string, or a list of text parts where there were several.
func content(said []string) json.RawMessage {
	if len(said) < 2 {
		return encode(strings.Join(said, ""))
	}
	type part struct {
		Type string `json:"type"`
		Text string `json:"text"`
	}
	list := make([]part, len(said))
	for i, s := range said {
		list[i] = part{"text", s}
	}
	return encode(list)
}

// qualified puts the name of a group of tools before a tool's own.
func qualified(group, name string) string {
	if group == "" {
		return name
	}
	return group + "." + name
}

func found(f *fields) []string {
	list := make([]string, len(f.Results))
	for i, r := range f.Results {
		list[i] = r.Filename + "\n" + r.Text
	}
	return list
}

// Tools returns the tools that additional_tools items bring, in the form of the Responses API and in order.
func Tools(list []Item) ([]json.RawMessage, error) {
	var tools []json.RawMessage
	for i := range list {
		if list[i].Type != "additional_tools" {
			continue
		}
		var f fields
		if err := json.Unmarshal(list[i].JSON, &f); err != nil {
			return nil, fmt.Errorf("items: %s: %w", list[i].ID, err)
		}
		tools = append(tools, f.Tools...)
	}
	return tools, nil
}
