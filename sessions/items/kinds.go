package items

import (
	"encoding/json"
	"slices"
)

// Limits of OpenAI's API.
const (
	maxID     = 128      // characters of an item's id
	maxCallID = 64       // characters of the id that joins a call and its result
	maxName   = 128      // characters of a tool's name
	maxText   = 10 << 20 // characters of a result
	maxSealed = 20 << 20 // characters of sealed content
)

// kind is a type of item.
type kind struct {
	prefix  string // of ids that this server assigns; empty: items of this type have none
	status  bool   // items of this type have a status, which is "completed" unless they say otherwise
	fields  []field
	finish  func(*object) error    // completes what the table has read, if set
	said    func(*fields) []string // what the item says, for search; nil: nothing
	refusal string                 // why items of this type are refused, if they are
}

var (
	typeField   = field{name: "type", read: anyText}
	idField     = field{name: "id", read: identifier}
	statusField = field{name: "status", read: oneOf("in_progress", "completed", "incomplete")}
	callID      = field{name: "call_id", required: true, read: text(1, maxCallID)}
	callerField = field{name: "caller", read: structure([]field{{name: "type", required: true, read: oneOf("direct")}}, nil)}
	namespace   = field{name: "namespace", read: text(1, maxName)}
	createdBy   = field{name: "created_by", read: anyText}
)

// anyText reads a string of any length.
var anyText = text(0, 0)

// identifier reads an item's id. An empty one counts as none: some clients always send the field.
func identifier(path string, raw json.RawMessage) (json.RawMessage, error) {
	if raw, err := text(0, maxID)(path, raw); err != nil {
		return raw, err
	}
	for _, c := range raw[1 : len(raw)-1] {
		plain := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.' || c == ':'
		if !plain {
			return nil, invalid(path, "may have letters, digits and _ - . : only, got %s", shorten(string(raw)))
		}
	}
	return raw, nil
}

// common are the fields that nearly all items have.
func common(further ...field) []field {
	return append([]field{typeField, idField, statusField, createdBy}, further...)
}

// kinds are the types of input items. A reference is none of them: it is replaced by what it refers to.
var kinds = map[string]*kind{
	typeMessage: {prefix: "msg_", status: true, said: func(f *fields) []string { return texts(f.Content) }, finish: finishMessage, fields: common(
		field{name: "role", required: true, read: oneOf("user", "assistant", "system", "developer")},
		field{name: "content", required: true, read: asItIs}, // by role
		field{name: "phase", read: oneOf("commentary", "final_answer")},
	)},
	"reasoning": {prefix: "rs_", said: func(f *fields) []string { return append(texts(f.Summary), texts(f.Content)...) }, fields: common(
		field{name: "summary", required: true, read: list(part("summary_text"))},
		field{name: "content", read: list(part("reasoning_text"))},
		field{name: "encrypted_content", read: text(0, maxSealed)}, // of use to whoever sealed it; the other fields say what it holds
	)},
	"function_call": {prefix: "fc_", status: true, said: func(f *fields) []string { return []string{f.Name, f.Arguments} }, fields: common(
		callID, callerField, namespace,
		field{name: "name", required: true, read: text(1, maxName)},
		field{name: "arguments", required: true, read: text(0, maxText)},
	)},
	"function_call_output": {prefix: "fco_", status: true, said: saidOutput, fields: common(
		callID, callerField, namespace, outputField,
		field{name: "name", read: text(1, maxName)},
	)},
	"custom_tool_call": {prefix: "ctc_", status: true, said: func(f *fields) []string { return []string{f.Name, f.Input} }, fields: common(
		callID, callerField, namespace,
		field{name: "name", required: true, read: text(1, maxName)},
		field{name: "input", required: true, read: text(0, maxText)},
	)},
	"custom_tool_call_output": {prefix: "ctco_", status: true, said: saidOutput, fields: common(
		callID, callerField, outputField,
		field{name: "name", read: text(1, maxName)},
	)},
	"compaction": {prefix: "cmp_", fields: []field{typeField, idField, createdBy,
		{name: "encrypted_content", required: true, read: text(1, maxSealed)},
	}},
	typeTrigger: {fields: []field{typeField}},
	"additional_tools": {prefix: "at_", fields: []field{typeField, idField,
		{name: "role", required: true, read: oneOf("developer")},
		{name: "tools", required: true, read: list(anyObject)}, // checked where the tools of a request are
	}},

	"local_shell_call": {prefix: "lsh_", status: true, said: saidAction, fields: common(callID,
		field{name: "action", required: true, read: structure([]field{
			{name: "type", required: true, read: oneOf("exec")},
			{name: "command", required: true, read: list(anyText)},
			{name: "env", required: true, read: stringMap},
			{name: "timeout_ms", read: integer},
			{name: "working_directory", read: anyText},
			{name: "user", read: anyText},
		}, nil)},
	)},
	"local_shell_call_output": {prefix: "lsho_", status: true, said: saidOutput, finish: finishLocalShellOutput, fields: common(
		field{name: "call_id", read: text(1, maxCallID)},
		field{name: "output", required: true, read: text(0, maxText)},
	)},
	"shell_call": {prefix: "sh_", status: true, said: saidAction, finish: func(o *object) error { o.fill("environment"); return nil }, fields: common(
		callID, callerField,
		field{name: "action", required: true, read: structure([]field{
			{name: "commands", required: true, read: list(anyText)},
			{name: "timeout_ms", read: integer},
			{name: "max_output_length", read: integer},
		}, func(o *object) error { o.fill("timeout_ms", "max_output_length"); return nil })},
		field{name: "environment", read: structure([]field{{name: "type", required: true, read: oneOf("local")}}, nil)},
	)},
	"shell_call_output": {prefix: "sho_", status: true, said: saidOutput, finish: func(o *object) error { o.fill("max_output_length"); return nil }, fields: common(
		callID, callerField,
		field{name: "max_output_length", read: integer},
		field{name: "output", required: true, read: list(structure([]field{
			{name: "stdout", required: true, read: text(0, maxText)},
			{name: "stderr", required: true, read: text(0, maxText)},
			{name: "outcome", required: true, read: variant(map[string][]field{
				"timeout": {}, "exit": {{name: "exit_code", required: true, read: signedInteger}},
			})},
			createdBy,
		}, nil))},
	)},
	"apply_patch_call": {prefix: "apc_", status: true, said: saidAction, fields: []field{typeField, idField, createdBy, callID, callerField,
		{name: "status", required: true, read: oneOf("in_progress", "completed")},
		{name: "operation", required: true, read: variant(map[string][]field{
			"create_file": {pathField, diffField}, "update_file": {pathField, diffField}, "delete_file": {pathField},
		})},
	}},
	"apply_patch_call_output": {prefix: "apco_", status: true, said: saidOutput, fields: []field{typeField, idField, createdBy, callID, callerField,
		{name: "status", required: true, read: oneOf("completed", "failed")},
		{name: "output", read: text(0, maxText)},
	}},
	"web_search_call": {prefix: "ws_", said: saidAction, fields: []field{typeField, idField,
		{name: "status", required: true, read: oneOf("in_progress", "searching", "completed", "failed")},
		{name: "action", required: true, read: variant(map[string][]field{
			"search": {{name: "query", read: anyText}, {name: "queries", read: list(anyText)}, {name: "sources", read: list(structure([]field{
				{name: "type", required: true, read: oneOf("url")}, {name: "url", required: true, read: anyText}}, nil))}},
			"open_page":    {{name: "url", read: anyText}},
			"find_in_page": {{name: "url", required: true, read: anyText}, {name: "pattern", required: true, read: anyText}},
		})},
	}},
	"file_search_call": {prefix: "fs_", said: func(f *fields) []string { return f.Queries }, fields: []field{typeField, idField,
		{name: "status", required: true, read: oneOf("in_progress", "searching", "completed", "incomplete", "failed")},
		{name: "queries", required: true, read: list(anyText)},
		{name: "results", read: list(structure([]field{
			{name: "file_id", read: anyText}, {name: "filename", read: anyText}, {name: "text", read: anyText},
			{name: "score", read: number}, {name: "attributes", read: anyObject},
		}, nil))},
	}},
	"code_interpreter_call": {prefix: "ci_", said: func(f *fields) []string { return []string{f.Code} }, finish: func(o *object) error { o.fill("code", "outputs"); return nil }, fields: []field{typeField, idField,
		{name: "status", required: true, read: oneOf("in_progress", "completed", "incomplete", "interpreting", "failed")},
		{name: "container_id", required: true, read: anyText},
		{name: "code", read: text(0, maxText)},
		{name: "outputs", read: list(structure([]field{
			{name: "type", required: true, read: oneOf("logs")}, {name: "logs", required: true, read: text(0, maxText)},
		}, nil))},
	}},
	"mcp_call": {prefix: "mcp_", said: func(f *fields) []string { return []string{f.Name, f.Arguments} }, fields: []field{typeField, idField,
		{name: "status", read: oneOf("in_progress", "completed", "incomplete", "calling", "failed")},
		{name: "server_label", required: true, read: anyText},
		{name: "name", required: true, read: text(1, maxName)},
		{name: "arguments", required: true, read: text(0, maxText)},
		{name: "output", read: text(0, maxText)},
		{name: "error", read: anyObject},
		{name: "approval_request_id", read: anyText},
	}},

	"computer_call":         {refusal: "its results are images"},
	"computer_call_output":  {refusal: "only text is understood"},
	"image_generation_call": {refusal: "only text is understood"},
	"mcp_list_tools":        {refusal: "this server calls no MCP servers"},
	"mcp_approval_request":  {refusal: "this server calls no MCP servers"},
	"mcp_approval_response": {refusal: "this server calls no MCP servers"},
	"tool_search_call":      {refusal: "tools are not searched, all of a request are shown to the model"},
	"tool_search_output":    {refusal: "tools are not searched, all of a request are shown to the model"},
	"program":               {refusal: "this server runs no programs"},
	"program_output":        {refusal: "this server runs no programs"},
}

var (
	pathField   = field{name: "path", required: true, read: text(1, 0)}
	diffField   = field{name: "diff", required: true, read: text(0, maxText)}
	outputField = field{name: "output", required: true, read: readOutput}
)

// asItIs leaves a field to the finish function of its object, which knows the other fields.
func asItIs(_ string, raw json.RawMessage) (json.RawMessage, error) { return raw, nil }

// variant reads an object whose type decides on its other fields.
func variant(tables map[string][]field) reader {
	names := make([]string, 0, len(tables))
	for name := range tables {
		names = append(names, name)
	}
	slices.Sort(names)
	return func(path string, raw json.RawMessage) (json.RawMessage, error) {
		o, err := readObject(path, raw)
		if err != nil {
			return nil, err
		}
		kind := o.get("type")
		if kind == nil {
			return nil, missing(path + ".type")
		}
		if _, err := oneOf(names...)(path+".type", kind); err != nil {
			return nil, err
		}
		table := append([]field{{name: "type", required: true, read: anyText}}, tables[o.text("type")]...)
		if err := o.check(table); err != nil {
			return nil, err
		}
		return encodeMembers(o.members), nil
	}
}

// cacheBreakpoint asks that a prefix end here; prefixes are found wherever they end, so it is returned and has no effect.
var cacheBreakpoint = field{name: "prompt_cache_breakpoint", read: structure([]field{{name: "mode", required: true, read: oneOf("explicit")}}, nil)}

// parts are the tables of content parts.
var parts = map[string][]field{
	"input_text":     {cacheBreakpoint, {name: "text", required: true, read: text(0, maxText)}},
	"output_text":    {{name: "text", required: true, read: anyText}, {name: "annotations", read: list(annotation)}, {name: "logprobs", read: list(logprob)}},
	"refusal":        {{name: "refusal", required: true, read: anyText}},
	"summary_text":   {{name: "text", required: true, read: anyText}},
	"reasoning_text": {{name: "text", required: true, read: anyText}},
}

// foreignParts are parts that models which understand text only cannot read.
var foreignParts = []string{"input_image", "input_file", "input_audio", "computer_screenshot"}

// part reads a content part of one of these types.
func part(allowed ...string) reader {
	tables := map[string][]field{}
	for _, name := range allowed {
		tables[name] = parts[name]
	}
	read := variant(tables)
	return func(path string, raw json.RawMessage) (json.RawMessage, error) {
		o, err := readObject(path, raw)
		if err != nil {
			return nil, err
		}
		name := o.text("type")
		if slices.Contains(foreignParts, name) {
			return nil, unsupported(path+".type", "only text is understood, not "+name)
		}
		raw, err = read(path, raw)
		if err != nil || name != "output_text" {
			return raw, err
		}
		if o, err = readObject(path, raw); err != nil {
			return nil, err
		}
		for _, needed := range []string{"annotations", "logprobs"} {
			if o.get(needed) == nil {
				o.set(needed, json.RawMessage("[]"))
			}
		}
		return encodeMembers(o.members), nil
	}
}

var annotation = variant(map[string][]field{
	"file_citation": {needed("file_id"), needed("filename"), {name: "index", required: true, read: integer}},
	"url_citation": {needed("url"), needed("title"), {name: "start_index", required: true, read: integer},
		{name: "end_index", required: true, read: integer}},
	"container_file_citation": {needed("container_id"), needed("file_id"), needed("filename"),
		{name: "start_index", required: true, read: integer}, {name: "end_index", required: true, read: integer}},
	"file_path": {needed("file_id"), {name: "index", required: true, read: integer}},
})

func needed(name string) field { return field{name: name, required: true, read: anyText} }

var logprob = structure(append(slices.Clone(topLogprob), field{name: "top_logprobs", required: true, read: list(structure(topLogprob, nil))}), nil)

var topLogprob = []field{needed("token"), {name: "logprob", required: true, read: number}, {name: "bytes", required: true, read: list(integer)}}

// finishMessage reads the content of a message, which depends on its role, and writes it as a list of parts. A text part of
// an assistant is output, also if its client calls it input.
func finishMessage(o *object) error {
	path, raw, role := o.path+".content", o.get("content"), o.text("role")
	if o.get("phase") != nil && role != "assistant" {
		return invalid(o.path+".phase", "is for messages of the assistant")
	}
	name, read := "input_text", part("input_text")
	if role == "assistant" {
		name, read = "output_text", assistantPart
	}
	switch raw[0] {
	case '"':
		raw = json.RawMessage(`[{"type":"` + name + `","text":` + string(raw) + `}]`)
	case '[':
		if string(raw) == "[]" && role != "assistant" {
			return invalid(path, "must have at least one part")
		}
	default:
		return wrongType(path, "a string or an array of content parts", raw)
	}
	raw, err := list(read)(path, raw)
	if err != nil {
		return err
	}
	o.set("content", raw)
	return nil
}

// assistantPart reads what an assistant said.
func assistantPart(path string, raw json.RawMessage) (json.RawMessage, error) {
	o, err := readObject(path, raw)
	if err != nil {
		return nil, err
	}
	if o.text("type") == "input_text" {
		o.set("type", json.RawMessage(`"output_text"`))
		raw = encodeMembers(o.members)
	}
	return part("output_text", "refusal")(path, raw)
}

// readOutput reads the result of a tool: a text, or a list of text parts.
func readOutput(path string, raw json.RawMessage) (json.RawMessage, error) {
	switch raw[0] {
	case '"':
		return text(0, maxText)(path, raw)
	case '[':
		return list(part("input_text"))(path, raw)
	}
	return nil, wrongType(path, "a string or an array of content parts", raw)
}

// finishLocalShellOutput gives the result its call's id, which older clients send as the item's own.
func finishLocalShellOutput(o *object) error {
	if o.get("call_id") != nil {
		return nil
	}
	if o.text("id") == "" {
		return missing(o.path + ".call_id")
	}
	o.set("call_id", o.get("id"))
	return nil
}
