package server

import (
	"encoding/json"
	"math"
	"slices"

	"hearth/sessions"
)

// responseRequest is a decoded body of the Responses API.
type responseRequest struct {
	generation

	input        value // zero: absent
	instructions *string
	previous     string
	conversation string
	store        *bool // nil: as the server is set up
	background   bool
	encrypted    bool // reasoning items carry their content sealed too
	truncate     bool // what does not fit is dropped from the beginning of the conversation
	compactAt    int  // tokens of input from which on older items are replaced by a summary; 0: never
	chooseNoTool bool
	allowed      []allowedTool // of the tools, those that the model may call; nil: all
	tools        []responseTool
	singleCall   bool
	echo         sessions.ResponseObject
	lane         string // of a request over a WebSocket
	bytes        int64  // length of a request over a WebSocket
}

func newResponseRequest() *responseRequest {
	r := &responseRequest{generation: *newGeneration()}
	r.echo = sessions.ResponseObject{
		Object: "response", ParallelToolCalls: true, Store: true, Temperature: 1, TopP: 1, Truncation: "disabled", ServiceTier: "default",
		Text: sessions.TextOptions{Format: json.RawMessage(`{"type":"text"}`)}, ToolChoice: json.RawMessage(`"auto"`),
		Tools: []json.RawMessage{}, Metadata: json.RawMessage(`{}`),
	}
	return r
}

// lift makes a field of a generation one of a responseRequest.
func lift(f field[generation]) field[responseRequest] {
	return field[responseRequest]{name: f.name, use: f.use, read: func(r *responseRequest, v value) error { return f.read(&r.generation, v) }}
}

// liftAll takes the named fields over from the table of chat completions.
func liftAll(names ...string) []field[responseRequest] {
	var list []field[responseRequest]
	for _, f := range pick(chatFields, names...) {
		list = append(list, lift(f))
	}
	return list
}

// responsePromptFields are the fields that decide on the prompt. Counting the tokens of an input takes the same ones.
var responsePromptFields = append([]field[responseRequest]{
	{name: "input", use: honoured, read: func(r *responseRequest, v value) error { r.input = v; return nil }}, // read with the store at hand
	{name: "instructions", use: honoured, read: text(func(r *responseRequest, s string) { r.instructions, r.echo.Instructions = &s, &s })},
	{name: "previous_response_id", use: honoured, read: readPrevious},
	{name: "conversation", use: honoured, read: readConversation},
	{name: "tools", use: honoured, read: readResponseTools},
	{name: "tool_choice", use: honoured, read: readToolChoice},
	{name: "parallel_tool_calls", use: honoured, read: boolean(func(r *responseRequest, b bool) { r.singleCall, r.echo.ParallelToolCalls = !b, b })},
	{name: "reasoning", use: honoured, read: func(r *responseRequest, v value) error { return decode(reasoningFields, v, r) }},
	{name: "text", use: echoed, read: func(r *responseRequest, v value) error { return decode(textOptionFields, v, r) }},
	{name: "truncation", use: honoured, read: func(r *responseRequest, v value) error {
		s, err := v.oneOf("auto", "disabled")
		r.truncate, r.echo.Truncation = s == "auto", s
		return err
	}},
}, liftAll("model", "chat_template_kwargs")...)

// responseFields is the body of POST /v1/responses: OpenAI's fields, then those that the other endpoints have in addition.
var responseFields = slices.Concat(responsePromptFields, []field[responseRequest]{
	{name: "stream", use: honoured, read: boolean(func(r *responseRequest, b bool) { r.stream = b })},
	{name: "stream_options", use: honoured, read: func(r *responseRequest, v value) error {
		r.streamOptions = true
		return decode(responseStreamOptionFields, v, r)
	}},
	{name: "store", use: honoured, read: boolean(func(r *responseRequest, b bool) { r.store = &b })},
	{name: "background", use: honoured, read: boolean(func(r *responseRequest, b bool) { r.background = b })},
	{name: "include", use: honoured, read: readInclude},
	{name: "max_output_tokens", use: honoured, read: integer(leastOutputTokens, maxTokensField, func(r *responseRequest, n int64) {
		limit := int(n)
		r.turn.MaxTokens, r.echo.MaxOutputTokens = limit, &limit
	})},
	{name: "max_tool_calls", use: echoed, read: integer(0, maxTokensField, func(r *responseRequest, n int64) { // limits hosted tools, of which there are none
		limit := int(n)
		r.echo.MaxToolCalls = &limit
	})},
	{name: "temperature", use: honoured, read: number(0, 2, func(r *responseRequest, f float64) {
		r.turn.Sampling.Temperature, r.echo.Temperature = float32(f), f
	})},
	{name: "top_p", use: honoured, read: number(0, 1, func(r *responseRequest, f float64) { setTopP(&r.generation, f); r.echo.TopP = f })},
	{name: "top_logprobs", use: honoured, read: integer(0, 20, func(r *responseRequest, n int64) { r.topLogprobs, r.echo.TopLogprobs = int(n), int(n) })},
	{name: "context_management", use: honoured, read: readContextManagement},
	{name: "metadata", use: echoed, read: func(r *responseRequest, v value) error {
		err := readMetadata(&r.generation, v)
		r.echo.Metadata = v.raw
		return err
	}},
	{name: "prompt_cache_key", use: echoed, read: text(func(r *responseRequest, s string) { r.echo.PromptCacheKey = &s })}, // a hint; prefixes are found by their tokens
	{name: "safety_identifier", use: echoed, read: func(r *responseRequest, v value) error {
		err := atMost[responseRequest](maxNameLen)(r, v)
		if err == nil {
			s := unquote(v.raw)
			r.echo.SafetyIdentifier = &s
		}
		return err
	}},
	{name: "user", use: echoed, read: text(func(r *responseRequest, s string) { r.echo.User = s })},
	refuse[responseRequest]("prompt", "prompt templates are kept by OpenAI; send instructions and input"),
	refuse[responseRequest]("moderation", ""),
}, liftAll("service_tier", "prompt_cache_retention", "prompt_cache_options",
	"seed", "stop", "frequency_penalty", "presence_penalty", "logit_bias", "top_k", "min_p", "typical_p", "repetition_penalty",
	"repeat_penalty", "repeat_last_n", "ignore_eos", "min_tokens", "priority", "cache_prompt", "keep_alive"))

// inputTokensFields is the body of POST /v1/responses/input_tokens.
var inputTokensFields = append([]field[responseRequest]{
	refuse[responseRequest]("personality", "models have no styles to choose from; send instructions"),
}, responsePromptFields...)

// compactFields is the body of POST /v1/responses/compact.
var compactFields = pick(responseFields, "model", "input", "previous_response_id", "instructions", "prompt_cache_key", "prompt_cache_retention",
	"prompt_cache_options", "service_tier", "chat_template_kwargs")

// pick returns some fields of a table.
func pick[T any](fields []field[T], names ...string) []field[T] {
	list := make([]field[T], len(names))
	for i, name := range names {
		list[i] = *find(fields, name)
	}
	return list
}

// leastOutputTokens is OpenAI's lower bound of max_output_tokens.
const leastOutputTokens = 16

func readPrevious(r *responseRequest, v value) error {
	s, err := v.text()
	if err == nil && s == "" {
		err = v.invalid("is empty")
	}
	r.previous, r.echo.PreviousResponseID = s, &s
	return err
}

// conversationFields is the object conversation.
var conversationFields = []field[responseRequest]{
	{name: "id", use: honoured, read: readConversationID},
}

func readConversationID(r *responseRequest, v value) error {
	s, err := v.text()
	if err == nil && s == "" {
		err = v.invalid("is empty")
	}
	r.conversation = s
	return err
}

func readConversation(r *responseRequest, v value) error {
	if v.isText() {
		return readConversationID(r, v)
	}
	if !v.isObject() {
		return v.wrongType("a string or an object")
	}
	if err := decode(conversationFields, v, r); err != nil {
		return err
	}
	if r.conversation == "" {
		return missing(memberPath(v.path, "id"))
	}
	return nil
}

// responseStreamOptionFields is the object stream_options.
var responseStreamOptionFields = []field[responseRequest]{lift(*find(streamOptionFields, "include_obfuscation"))}

func readInclude(r *responseRequest, v value) error {
	list, err := v.elements()
	if err != nil {
		return err
	}
	for _, e := range list {
		s, err := e.oneOf(included...)
		if err != nil {
			return err
		}
		r.encrypted = r.encrypted || s == "reasoning.encrypted_content"
		r.logprobs = r.logprobs || s == "message.output_text.logprobs"
	}
	return nil
}

// reasoningFields is the object reasoning. Models of open weights show what they think, so that there is nothing to
// summarise: a summary of any length that the server likes (auto) may be none.
var reasoningFields = []field[responseRequest]{
	{name: "effort", use: honoured, read: func(r *responseRequest, v value) error {
		err := readEffort(&r.generation, v)
		r.echo.Reasoning.Effort = &r.turn.Effort
		return err
	}},
	refuse[responseRequest]("summary", "the reasoning itself is returned, not summarised", `"auto"`),
	refuse[responseRequest]("generate_summary", "the reasoning itself is returned, not summarised", `"auto"`),
	refuse[responseRequest]("mode", "", `"standard"`),
	refuse[responseRequest]("context", "the model's template says which reasoning it sees again", `"auto"`),
}

// textOptionFields is the object text.
var textOptionFields = []field[responseRequest]{
	{name: "format", use: echoed, read: func(r *responseRequest, v value) error {
		if !v.equals(`{"type":"text"}`) {
			return unsupported(v.path, "only text is produced")
		}
		return nil
	}},
	{name: "verbosity", use: echoed, read: func(r *responseRequest, v value) error {
		s, err := v.oneOf("low", "medium", "high")
		if err == nil && s != "medium" {
			err = unsupported(v.path, "say in the instructions how long the answer is to be")
		}
		r.echo.Text.Verbosity = &s
		return err
	}},
}

// contextEntry is one entry of context_management.
type contextEntry struct {
	hasType   bool
	threshold int
}

var contextEntryFields = []field[contextEntry]{
	{name: "type", use: honoured, read: func(e *contextEntry, v value) error {
		_, err := v.oneOf("compaction")
		e.hasType = true
		return err
	}},
	{name: "compact_threshold", use: honoured, read: integer(leastThreshold, math.MaxInt32, func(e *contextEntry, n int64) { e.threshold = int(n) })},
}

// leastThreshold is OpenAI's lower bound of compact_threshold.
const leastThreshold = 1000

func readContextManagement(r *responseRequest, v value) error {
	list, err := v.elements()
	if err != nil {
		return err
	}
	if len(list) > 1 {
		return v.invalid("may have one entry, has %d", len(list))
	}
	for _, e := range list {
		var entry contextEntry
		if err := decode(contextEntryFields, e, &entry); err != nil {
			return err
		}
		switch {
		case !entry.hasType:
			return missing(memberPath(e.path, "type"))
		case entry.threshold == 0:
			return missing(memberPath(e.path, "compact_threshold"))
		}
		r.compactAt = entry.threshold
	}
	return nil
}
