package server

import (
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	ollama "github.com/ollama/ollama/api"

	"hearth/engine/api"
	"hearth/sessions"
)

// ollamaAPIVersion is the release whose API these endpoints speak. Clients compare it with what they need.
const ollamaAPIVersion = "0.17.4"

// ollamaRequest is the body of POST /api/chat or /api/generate.
type ollamaRequest struct {
	generation
	system, prompt string
	messages       []json.RawMessage // in OpenAI's form
	raw            bool
	unload         bool // keep_alive was 0
}

func newOllamaRequest() *ollamaRequest {
	// Ollama's defaults (api.DefaultOptions, whose own call reads the environment).
	return &ollamaRequest{generation: generation{n: 1, stream: true, turn: sessions.Turn{
		Logprobs: -1,
		Sampling: api.Sampling{Temperature: 0.8, TopK: 40, TopP: 0.9, RepeatLastN: 64, RepeatPenalty: 1.1},
	}}}
}

// maxOllamaStops bounds stop strings; each is looked for in every piece of text.
const maxOllamaStops = 64

// ollamaSharedFields are common to chat and generate.
var ollamaSharedFields = []field[ollamaRequest]{
	{name: "model", use: honoured, read: func(o *ollamaRequest, v value) error { return readModel(&o.generation, v) }},
	{name: "stream", use: honoured, read: boolean(func(o *ollamaRequest, b bool) { o.stream = b })},
	{name: "options", use: honoured, read: func(o *ollamaRequest, v value) error { return decode(ollamaOptions, v, o) }},
	{name: "logprobs", use: honoured, read: boolean(func(o *ollamaRequest, b bool) { o.logprobs = b })},
	{name: "top_logprobs", use: honoured, read: integer(0, 20, func(o *ollamaRequest, n int64) { o.topLogprobs = int(n) })},
	{name: "keep_alive", use: ignored, read: func(o *ollamaRequest, v value) error { // a wish to stay loaded, which models do; see ollamaLoaded
		if !v.isText() && !v.isNumber() {
			return v.wrongType("a duration: a string or a number of seconds")
		}
		o.unload = v.equals(noTime...)
		return nil
	}},
	{name: "think", use: honoured, read: readThink},
	refuse[ollamaRequest]("format", "", `""`),
	refuse[ollamaRequest]("truncate", "a prompt that is too long is an error", "false"),
	refuse[ollamaRequest]("shift", "generation ends where the context is full", "false"),
	refuse[ollamaRequest]("_debug_render_only", "", "false"),
}

var ollamaChatFields = append([]field[ollamaRequest]{
	{name: "messages", use: honoured, read: readOllamaMessages},
	{name: "tools", use: honoured, read: func(o *ollamaRequest, v value) error { return readTools(&o.generation, v) }},
}, ollamaSharedFields...)

var ollamaGenerateFields = append([]field[ollamaRequest]{
	{name: "prompt", use: honoured, read: text(func(o *ollamaRequest, s string) { o.prompt = s })},
	{name: "suffix", use: honoured, read: text(func(o *ollamaRequest, s string) { o.turn.Suffix = s })},
	{name: "system", use: honoured, read: text(func(o *ollamaRequest, s string) { o.system = s })},
	{name: "raw", use: honoured, read: boolean(func(o *ollamaRequest, b bool) { o.raw = b })},
	refuse[ollamaRequest]("template", "the model's own is used; raw takes a prompt that is already rendered", `""`),
	refuse[ollamaRequest]("context", "prefixes are found by their text; send the conversation", "[]"),
	refuse[ollamaRequest]("images", "only text is understood", "[]"),
	refuse[ollamaRequest]("width", "", "0"),
	refuse[ollamaRequest]("height", "", "0"),
	refuse[ollamaRequest]("steps", "", "0"),
}, ollamaSharedFields...)

// ollamaOptions is the object options. What Ollama decides when it loads a model is decided here when the server
// starts, and has no effect in a request. Limits of length are ceilings: num_predict is cut to the room that the prompt
// leaves, and num_ctx, which asks for a context that a conversation fits into, is met by any context that it does fit
// into; a prompt that does not fit is an error.
var ollamaOptions = []field[ollamaRequest]{
	{name: "seed", use: honoured, read: integer(math.MinInt64, math.MaxInt64, func(o *ollamaRequest, n int64) { o.turn.Sampling.Seed, o.seeded = uint64(n), n >= 0 })},
	{name: "num_predict", use: honoured, read: integer(-2, maxTokensField, func(o *ollamaRequest, n int64) { o.turn.MaxTokens = int(max(n, 0)) })}, // -1 and -2: until the context is full
	{name: "num_ctx", use: ignored, read: integer(0, maxTokensField, func(*ollamaRequest, int64) {})},
	{name: "temperature", use: honoured, read: number(0, 100, func(o *ollamaRequest, f float64) { o.turn.Sampling.Temperature = float32(f) })},
	{name: "top_k", use: honoured, read: integer(-1, maxTokensField, func(o *ollamaRequest, n int64) { o.turn.Sampling.TopK = int(max(n, 0)) })},
	{name: "top_p", use: honoured, read: number(0, 1, func(o *ollamaRequest, f float64) { setTopP(&o.generation, f) })},
	{name: "min_p", use: honoured, read: number(0, 1, func(o *ollamaRequest, f float64) { o.turn.Sampling.MinP = float32(f) })},
	{name: "typical_p", use: honoured, read: number(0, 1, func(o *ollamaRequest, f float64) { o.turn.Sampling.TypicalP = float32(f) })},
	{name: "repeat_last_n", use: honoured, read: integer(-1, maxTokensField, func(o *ollamaRequest, n int64) { setRepeatLastN(&o.generation, n) })},
	{name: "repeat_penalty", use: honoured, read: number(leastPenalty, mostPenalty, func(o *ollamaRequest, f float64) { setRepeatPenalty(&o.generation, f) })},
	{name: "presence_penalty", use: honoured, read: number(-2, 2, func(o *ollamaRequest, f float64) { o.turn.Sampling.PresencePenalty = float32(f) })},
	{name: "frequency_penalty", use: honoured, read: number(-2, 2, func(o *ollamaRequest, f float64) { o.turn.Sampling.FrequencyPenalty = float32(f) })},
	{name: "stop", use: honoured, read: func(o *ollamaRequest, v value) error { return readStops(&o.generation, v, maxOllamaStops) }},

	// Where and how the model is kept and computed is the server's to decide.
	{name: "num_batch", use: ignored, read: integer(0, maxTokensField, func(*ollamaRequest, int64) {})},
	{name: "num_gpu", use: ignored, read: integer(-1, maxTokensField, func(*ollamaRequest, int64) {})},
	{name: "main_gpu", use: ignored, read: integer(-1, maxTokensField, func(*ollamaRequest, int64) {})},
	{name: "num_thread", use: ignored, read: integer(0, maxTokensField, func(*ollamaRequest, int64) {})},
	{name: "use_mmap", use: ignored, read: boolean(func(*ollamaRequest, bool) {})},
	{name: "use_mlock", use: ignored, read: boolean(func(*ollamaRequest, bool) {})},
	{name: "numa", use: ignored, read: boolean(func(*ollamaRequest, bool) {})},
	{name: "low_vram", use: ignored, read: boolean(func(*ollamaRequest, bool) {})},
	{name: "f16_kv", use: ignored, read: boolean(func(*ollamaRequest, bool) {})},
	{name: "vocab_only", use: ignored, read: boolean(func(*ollamaRequest, bool) {})},
	{name: "logits_all", use: ignored, read: boolean(func(*ollamaRequest, bool) {})},
	{name: "embedding_only", use: ignored, read: boolean(func(*ollamaRequest, bool) {})},
	{name: "draft_num_predict", use: ignored, read: integer(-1, maxTokensField, func(*ollamaRequest, int64) {})}, // speed only
	{name: "num_keep", use: ignored, read: integer(-1, maxTokensField, func(*ollamaRequest, int64) {})},          // tokens kept by a shift, which never happens

	// Ollama has dropped these and ignores them itself; settings that were saved for it still send them.
	{name: "penalize_newline", use: ignored, read: boolean(func(*ollamaRequest, bool) {})},
	{name: "tfs_z", use: ignored, read: number(0, 100, func(*ollamaRequest, float64) {})},

	refuse[ollamaRequest]("mirostat", "", "0"),
	{name: "mirostat_tau", use: ignored, read: number(0, 100, func(*ollamaRequest, float64) {})}, // part of mirostat, which is off
	{name: "mirostat_eta", use: ignored, read: number(0, 100, func(*ollamaRequest, float64) {})},
}

// readThink reads whether a model is to think, or how much. That it is to do so without saying how much is what the
// middle level means.
func readThink(o *ollamaRequest, v value) (err error) {
	switch {
	case v.equals("true"):
		o.turn.Effort = "medium"
	case v.equals("false"):
		o.turn.Effort = "none"
	case v.isText():
		o.turn.Effort, err = v.oneOf("low", "medium", "high", "max")
	default:
		err = v.wrongType("a boolean or a level")
	}
	return err
}

// readOllamaMessages checks messages and turns them into OpenAI's form, which templates are given.
func readOllamaMessages(o *ollamaRequest, v value) error {
	list, err := v.elements()
	if err != nil {
		return err
	}
	for _, e := range list {
		m := ollamaMessage{}
		if err := decode(ollamaMessageFields, e, &m); err != nil {
			return err
		}
		if m.Role == "" {
			return missing(memberPath(e.path, "role"))
		}
		raw, err := json.Marshal(m)
		if err != nil {
			return err
		}
		o.messages = append(o.messages, raw)
	}
	return nil
}

// ollamaMessage is a message in OpenAI's form.
type ollamaMessage struct {
	Role       string           `json:"role"`
	Content    string           `json:"content"`
	Reasoning  string           `json:"reasoning_content,omitempty"`
	Name       string           `json:"name,omitempty"`
	ToolCallID string           `json:"tool_call_id,omitempty"`
	ToolCalls  []openAIToolCall `json:"tool_calls,omitempty"`
}

type openAIToolCall struct {
	ID       string             `json:"id"`
	Type     string             `json:"type"`
	Function openAIToolFunction `json:"function"`
}

type openAIToolFunction struct {
	Name      string `json:"name"`
	Arguments string `json:"arguments"`
}

var ollamaMessageFields = []field[ollamaMessage]{
	{name: "role", use: honoured, read: func(m *ollamaMessage, v value) (err error) {
		m.Role, err = v.oneOf("system", "user", "assistant", "tool")
		return err
	}},
	{name: "content", use: honoured, read: text(func(m *ollamaMessage, s string) { m.Content = s })},
	{name: "thinking", use: honoured, read: text(func(m *ollamaMessage, s string) { m.Reasoning = s })},
	{name: "tool_name", use: honoured, read: text(func(m *ollamaMessage, s string) { m.Name = s })},
	{name: "tool_call_id", use: honoured, read: text(func(m *ollamaMessage, s string) { m.ToolCallID = s })},
	{name: "tool_calls", use: honoured, read: func(m *ollamaMessage, v value) error {
		list, err := v.elements()
		if err != nil {
			return err
		}
		for _, e := range list {
			c := openAIToolCall{Type: "function"}
			if err := decode(ollamaToolCallFields, e, &c); err != nil {
				return err
			}
			m.ToolCalls = append(m.ToolCalls, c)
		}
		return nil
	}},
	refuse[ollamaMessage]("images", "only text is understood", "[]"),
}

var ollamaToolCallFields = []field[openAIToolCall]{
	{name: "id", use: honoured, read: text(func(c *openAIToolCall, s string) { c.ID = s })},
	{name: "type", use: ignored, read: func(_ *openAIToolCall, v value) error {
		_, err := v.oneOf("function")
		return err
	}},
	{name: "function", use: honoured, read: func(c *openAIToolCall, v value) error { return decode(ollamaFunctionFields, v, c) }},
}

var ollamaFunctionFields = []field[openAIToolCall]{
	{name: "index", use: ignored, read: integer(0, math.MaxInt32, func(*openAIToolCall, int64) {})}, // the order says it
	{name: "name", use: honoured, read: text(func(c *openAIToolCall, s string) { c.Function.Name = s })},
	{name: "arguments", use: honoured, read: func(c *openAIToolCall, v value) error {
		_, err := v.members() // an object here, its text in OpenAI's form
		c.Function.Arguments = string(v.raw)
		return err
	}},
}

// ollamaRunning answers GET and HEAD / with what clients look for.
func (s *Server) ollamaRunning(x *exchange) error {
	const running = "Ollama is running"
	x.header().Set("Content-Type", "text/plain; charset=utf-8")
	x.header().Set("Content-Length", strconv.Itoa(len(running)))
	x.c.Writer.WriteHeader(http.StatusOK)
	x.c.Writer.WriteHeaderNow()
	if x.c.Request.Method == http.MethodHead {
		return nil
	}
	_, err := io.WriteString(x.c.Writer, running)
	return err
}

// ollamaVersion answers GET /api/version.
func (s *Server) ollamaVersion(x *exchange) error {
	return x.answer(struct {
		Version string `json:"version"`
	}{ollamaAPIVersion})
}

// prepareOllama does what chat and generate have in common once the body is decoded.
func (s *Server) prepareOllama(x *exchange, o *ollamaRequest) error {
	name := o.turn.Model
	if err := o.complete(x); err != nil {
		return err
	}
	m, err := s.ollamaModel(name)
	if err != nil {
		return err
	}
	o.turn.Model = m.ID
	x.model = m.ID
	return nil
}

// ollamaChat answers POST /api/chat.
func (s *Server) ollamaChat(x *exchange) error {
	o := newOllamaRequest()
	if err := readTable(x, ollamaChatFields, o); err != nil {
		return err
	}
	name := o.turn.Model
	if err := s.prepareOllama(x, o); err != nil {
		return err
	}
	respond := func(part ollamaPart) any {
		return ollama.ChatResponse{
			Model: name, CreatedAt: s.opts.Now().UTC(), Message: ollama.Message{
				Role: "assistant", Content: part.text, Thinking: part.thinking, ToolCalls: part.calls,
			},
			Done: part.done, DoneReason: part.reason, Logprobs: part.logprobs, Metrics: part.metrics,
		}
	}
	if len(o.messages) == 0 {
		return s.ollamaLoaded(x, o, respond)
	}
	o.turn.Messages = o.messages
	return s.runOllama(x, o, respond)
}

// ollamaGenerate answers POST /api/generate.
func (s *Server) ollamaGenerate(x *exchange) error {
	o := newOllamaRequest()
	if err := readTable(x, ollamaGenerateFields, o); err != nil {
		return err
	}
	name := o.turn.Model
	if err := s.prepareOllama(x, o); err != nil {
		return err
	}
	respond := func(part ollamaPart) any {
		return ollama.GenerateResponse{
			Model: name, CreatedAt: s.opts.Now().UTC(), Response: part.text, Thinking: part.thinking,
			Done: part.done, DoneReason: part.reason, Logprobs: part.logprobs, Metrics: part.metrics,
		}
	}
	switch {
	case o.prompt == "" && o.turn.Suffix == "":
		return s.ollamaLoaded(x, o, respond)
	case o.raw && o.system != "":
		return invalidRequest("system", "system and raw cannot be combined")
	case (o.raw || o.turn.Suffix != "") && o.turn.Effort != "" && o.turn.Effort != "none":
		return invalidRequest("think", "think needs a prompt that the model's template renders")
	case o.raw, o.turn.Suffix != "":
		o.turn.Text = &o.prompt
	default:
		if o.system != "" {
			if err := o.say("system", o.system); err != nil {
				return err
			}
		}
		if err := o.say("user", o.prompt); err != nil {
			return err
		}
		o.turn.Messages = o.messages
	}
	return s.runOllama(x, o, respond)
}

func (o *ollamaRequest) say(role, content string) error {
	raw, err := json.Marshal(ollamaMessage{Role: role, Content: content})
	o.messages = append(o.messages, raw)
	return err
}

// ollamaPart is what one line of an answer says.
type ollamaPart struct {
	thinking string
	text     string
	calls    []ollama.ToolCall
	logprobs []ollama.Logprob
	done     bool
	reason   string
	metrics  ollama.Metrics
}

// ollamaLoaded answers a request without a prompt, which asks that the model be loaded, or with a keep_alive of 0 that
// its memory be freed.
func (s *Server) ollamaLoaded(x *exchange, o *ollamaRequest, respond func(ollamaPart) any) error {
	if o.unload {
		return unsupported("keep_alive", "this asks to unload the model, and models stay loaded as long as the server runs")
	}
	x.reason = "load"
	body := respond(ollamaPart{done: true, reason: "load"})
	if o.stream {
		return s.newStream(x, formatNDJSON).last(body)
	}
	return x.answer(body)
}

// runOllama generates and writes the answer, as lines or as one.
func (s *Server) runOllama(x *exchange, o *ollamaRequest, respond func(ollamaPart) any) error {
	r, err := s.start(x, &o.generation)
	if long, ok := errors.AsType[*api.TooLongError](err); ok && long.Prompt < long.Context {
		o.turn.MaxTokens = 0 // until the context is full, which is less than num_predict
		r, err = s.start(x, &o.generation)
	}
	if input, ok := errors.AsType[*sessions.InputError](err); ok && input.Field == "reasoning_effort" {
		return invalidRequest("think", "think: %v", input.Err)
	}
	if err != nil {
		return err
	}
	last := func(f *sessions.Finish) ollamaPart {
		x.finished(f)
		return ollamaPart{done: true, reason: finishReason(f), metrics: ollama.Metrics{
			TotalDuration:   s.opts.Now().Sub(x.started),
			PromptEvalCount: r.count.prompt, PromptEvalDuration: f.Timing.Prefill,
			EvalCount: f.Usage.GeneratedTokens, EvalDuration: f.Timing.Decode,
		}}
	}
	if !o.stream {
		outcomes, err := r.collect(1, 1)
		if err != nil {
			return err
		}
		only := &outcomes[0][0]
		part := last(only.finish)
		part.thinking, part.text, part.logprobs = only.reasoning, only.text, ollamaLogprobs(only.tokens)
		part.call(only.calls, 0)
		return x.answer(respond(part))
	}
	out := s.newStream(x, formatNDJSON)
	var so outcome // so far
	called := 0
	return out.follow(r, time.Hour, func(p piece) error {
		so.add(piece{Delta: sessions.Delta{Calls: p.Calls}}, false)
		part := ollamaPart{thinking: p.Reasoning, text: p.Text, logprobs: ollamaLogprobs(p.Tokens)}
		if whole := len(so.calls) - 1; p.Finish != nil || whole > called { // the last one may go on
			if p.Finish != nil {
				whole++
			}
			part.call(so.calls[called:whole], called)
			called = whole
		}
		if part.thinking != "" || part.text != "" || part.calls != nil || part.logprobs != nil {
			if err := out.event(respond(part)); err != nil {
				return err
			}
		}
		if p.Finish == nil {
			return nil
		}
		return out.last(respond(last(p.Finish)))
	})
}

// call adds tool calls, the first of which has that index. Arguments are objects here: a call that has others, because it was cut off or the model wrote no
// JSON, is text.
func (p *ollamaPart) call(calls []calledFunction, first int) {
	for i, c := range calls {
		arguments := ollama.NewToolCallFunctionArguments()
		if !strings.HasPrefix(c.Function.Arguments, "{") || json.Unmarshal([]byte(c.Function.Arguments), &arguments) != nil {
			p.text += c.Function.Name + c.Function.Arguments
			continue
		}
		p.calls = append(p.calls, ollama.ToolCall{ID: c.ID, Function: ollama.ToolCallFunction{Index: first + i, Name: c.Function.Name, Arguments: arguments}})
	}
}

func ollamaLogprobs(tokens []sessions.TokenLogprob) []ollama.Logprob {
	var list []ollama.Logprob
	for _, t := range tokens {
		l := ollama.Logprob{TokenLogprob: ollamaToken(&t)}
		for _, top := range t.Top {
			l.TopLogprobs = append(l.TopLogprobs, ollamaToken(&top))
		}
		list = append(list, l)
	}
	return list
}

func ollamaToken(t *sessions.TokenLogprob) ollama.TokenLogprob {
	raw := make([]int, len(t.Bytes))
	for i, b := range t.Bytes {
		raw[i] = int(b)
	}
	return ollama.TokenLogprob{Token: t.Text, Logprob: float64(finite(t.Logprob)), Bytes: raw}
}
