package server

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"

	"hearth/engine/api"
	"hearth/sessions"
)

// chatCompletion is the answer of POST /v1/chat/completions.
type chatCompletion struct {
	ID                string          `json:"id"`
	Object            string          `json:"object"`
	Created           int64           `json:"created"`
	Model             string          `json:"model"`
	Choices           []chatChoice    `json:"choices"`
	Usage             *usage          `json:"usage"`
	ServiceTier       string          `json:"service_tier,omitempty"`
	SystemFingerprint string          `json:"system_fingerprint"`
	Metadata          json.RawMessage `json:"metadata,omitempty"`
}

type chatChoice struct {
	Index        int           `json:"index"`
	Message      chatMessage   `json:"message"`
	Logprobs     *chatLogprobs `json:"logprobs"`
	FinishReason string        `json:"finish_reason"`
}

type chatMessage struct {
	Role        string           `json:"role"`
	Content     string           `json:"content"`
	Reasoning   string           `json:"reasoning_content,omitempty"`
	ToolCalls   []calledFunction `json:"tool_calls,omitempty"`
	Refusal     *string          `json:"refusal"`
	Annotations []string         `json:"annotations"`
}

// MarshalJSON writes the content of a message that only calls tools as null.
func (m chatMessage) MarshalJSON() ([]byte, error) {
	type plain chatMessage
	var body any = plain(m)
	if m.Content == "" && m.ToolCalls != nil {
		body = struct {
			plain
			Content *string `json:"content"`
		}{plain: plain(m)}
	}
	var buf bytes.Buffer
	err := encodeJSON(&buf, body)
	return buf.Bytes(), err
}

// chatChunk is one event of a streamed chat completion.
type chatChunk struct {
	ID                string            `json:"id"`
	Object            string            `json:"object"`
	Created           int64             `json:"created"`
	Model             string            `json:"model"`
	ServiceTier       string            `json:"service_tier,omitempty"`
	SystemFingerprint string            `json:"system_fingerprint"`
	Choices           []chatChunkChoice `json:"choices"`
	Usage             json.RawMessage   `json:"usage,omitempty"` // null but in the last chunk, and only if asked for
	Obfuscation       string            `json:"obfuscation,omitempty"`
}

type chatChunkChoice struct {
	Index        int           `json:"index"`
	Delta        chatDelta     `json:"delta"`
	Logprobs     *chatLogprobs `json:"logprobs"`
	FinishReason *string       `json:"finish_reason"`
}

type chatDelta struct {
	Role      string           `json:"role,omitempty"`
	Reasoning string           `json:"reasoning_content,omitempty"`
	Content   *string          `json:"content,omitempty"`
	ToolCalls []calledFunction `json:"tool_calls,omitempty"`
}

// newChatDelta is the part of a chunk that says what a delta adds.
func newChatDelta(d *sessions.Delta) chatDelta {
	delta := chatDelta{Reasoning: d.Reasoning}
	if d.Text != "" || len(d.Tokens) > 0 {
		delta.Content = &d.Text
	}
	for _, c := range d.Calls {
		call := calledFunction{Index: &c.Index, Function: functionOfCall{Name: c.Name, Arguments: c.Arguments}}
		if c.ID != "" {
			call.ID, call.Type = c.ID, "function"
		}
		delta.ToolCalls = append(delta.ToolCalls, call)
	}
	return delta
}

func (d *chatDelta) isEmpty() bool {
	return d.Reasoning == "" && d.Content == nil && d.ToolCalls == nil
}

// length is how much text the delta has.
func (d *chatDelta) length() int {
	n := len(d.Reasoning)
	if d.Content != nil {
		n += len(*d.Content)
	}
	for _, c := range d.ToolCalls {
		n += len(c.Function.Name) + len(c.Function.Arguments)
	}
	return n
}

type chatLogprobs struct {
	Content []chatToken `json:"content"`
	Refusal []chatToken `json:"refusal"`
}

type chatToken struct {
	Token       string           `json:"token"`
	Logprob     float32          `json:"logprob"`
	Bytes       byteList         `json:"bytes"`
	TopLogprobs []topAlternative `json:"top_logprobs"`
}

type topAlternative struct {
	Token   string   `json:"token"`
	Logprob float32  `json:"logprob"`
	Bytes   byteList `json:"bytes"`
}

// byteList is written as numbers; encoding/json would write base64.
type byteList []byte

// MarshalJSON writes [104,105].
func (b byteList) MarshalJSON() ([]byte, error) {
	numbers := make([]int, len(b))
	for i, x := range b {
		numbers[i] = int(x)
	}
	return json.Marshal(numbers)
}

// leastLogprob stands for minus infinity, which JSON cannot say (OpenAI's API writes the same number).
const leastLogprob = -9999

func finite(p float32) float32 {
	if p < leastLogprob || math.IsNaN(float64(p)) {
		return leastLogprob
	}
	return p
}

func newChatLogprobs(tokens []sessions.TokenLogprob) *chatLogprobs {
	list := make([]chatToken, len(tokens))
	for i, t := range tokens {
		list[i] = chatToken{Token: t.Text, Logprob: finite(t.Logprob), Bytes: t.Bytes, TopLogprobs: make([]topAlternative, len(t.Top))}
		for j, top := range t.Top {
			list[i].TopLogprobs[j] = topAlternative{top.Text, finite(top.Logprob), top.Bytes}
		}
	}
	return &chatLogprobs{Content: list}
}

// chatFinishReason is the wire's word for how a choice of a chat ended. A call that was cut off does not count.
func chatFinishReason(f *sessions.Finish) string {
	if f.Reason == api.FinishStop && f.Calls > 0 {
		return "tool_calls"
	}
	return finishReason(f)
}

// finishReason is the wire's word for how a choice ended.
func finishReason(f *sessions.Finish) string {
	if f.Reason == api.FinishLength {
		return "length"
	}
	return "stop"
}

// chatCompletions answers POST /v1/chat/completions.
func (s *Server) chatCompletions(x *exchange) error {
	g := newGeneration()
	if err := readTable(x, chatFields, g); err != nil {
		return err
	}
	if g.turn.Messages == nil {
		return missing("messages")
	}
	if err := g.complete(x); err != nil {
		return err
	}
	if g.store {
		if err := s.admitCompletion(x); err != nil {
			return err
		}
	}
	r, err := s.start(x, g)
	if err != nil {
		return aboutPrompt(err, "messages")
	}
	id := s.opts.NewID("chatcmpl-")
	if g.stream {
		return s.streamChat(x, g, r, id)
	}
	outcomes, err := r.collect(1, g.turn.Choices)
	if err != nil {
		return err
	}
	for _, o := range outcomes[0] {
		x.finished(o.finish)
	}
	answer := newChatCompletion(g, r, id, outcomes[0])
	if g.store {
		if err := s.storeCompletion(x, g, &answer); err != nil {
			return err
		}
	}
	return x.answer(answer)
}

// newChatCompletion is the answer that the outcomes of all choices make.
func newChatCompletion(g *generation, r *run, id string, outcomes []outcome) chatCompletion {
	answer := chatCompletion{
		ID: id, Object: "chat.completion", Created: r.created.Unix(), Model: r.model.ID, Usage: r.count.usage(),
		ServiceTier: g.serviceTier, SystemFingerprint: fingerprint(&r.model), Metadata: g.metadata,
	}
	for i, o := range outcomes {
		message := chatMessage{Role: "assistant", Content: o.text, Reasoning: o.reasoning, ToolCalls: o.calls, Annotations: []string{}}
		choice := chatChoice{Index: i, FinishReason: chatFinishReason(o.finish), Message: message}
		if g.logprobs {
			choice.Logprobs = newChatLogprobs(o.tokens)
		}
		answer.Choices = append(answer.Choices, choice)
	}
	return answer
}

// streamChat writes a chat completion as events: the role of each choice, what it says piece by piece, its finish
// reason; then the usage if asked for, then the end mark. A completion that is to be kept is kept before the last finish
// reason, with which many clients leave.
func (s *Server) streamChat(x *exchange, g *generation, r *run, id string) error {
	out := s.newStream(x, formatSSE)
	chunk := func(choices []chatChunkChoice) *chatChunk {
		c := &chatChunk{
			ID: id, Object: "chat.completion.chunk", Created: r.created.Unix(), Model: r.model.ID,
			ServiceTier: g.serviceTier, SystemFingerprint: fingerprint(&r.model), Choices: choices,
		}
		if g.includeUsage {
			c.Usage = json.RawMessage("null")
		}
		return c
	}
	send := func(choice chatChunkChoice) error {
		c := chunk([]chatChunkChoice{choice})
		if g.obfuscate && !choice.Delta.isEmpty() {
			c.Obfuscation = padding(choice.Delta.length())
		}
		return out.event(c)
	}
	begun := make([]bool, g.turn.Choices)
	outcomes, open := make([]outcome, g.turn.Choices), g.turn.Choices
	err := out.follow(r, s.opts.KeepAlive, func(p piece) error {
		if g.store {
			outcomes[p.Choice].add(p, r.echo)
		}
		if !begun[p.Choice] {
			begun[p.Choice] = true
			empty := ""
			if err := send(chatChunkChoice{Index: p.Choice, Delta: chatDelta{Role: "assistant", Content: &empty}}); err != nil {
				return err
			}
		}
		if delta := newChatDelta(&p.Delta); !delta.isEmpty() {
			choice := chatChunkChoice{Index: p.Choice, Delta: delta}
			if g.logprobs && delta.Content != nil {
				choice.Logprobs = newChatLogprobs(p.Tokens)
			}
			if err := send(choice); err != nil {
				return err
			}
		}
		if p.Finish == nil {
			return nil
		}
		x.finished(p.Finish)
		if open--; open == 0 && g.store {
			answer := newChatCompletion(g, r, id, outcomes)
			if err := s.storeCompletion(x, g, &answer); err != nil {
				return err
			}
		}
		reason := chatFinishReason(p.Finish)
		return send(chatChunkChoice{Index: p.Choice, FinishReason: &reason})
	})
	if err == nil && g.includeUsage {
		last := chunk([]chatChunkChoice{})
		if last.Usage, err = json.Marshal(r.count.usage()); err == nil {
			err = out.event(last)
		}
	}
	if err != nil {
		return err
	}
	return out.done()
}

// obfuscationStep hides how long the text of an event is: text and padding together are a multiple of it.
const obfuscationStep = 32

func padding(length int) string {
	return strings.Repeat("x", obfuscationStep-length%obfuscationStep)
}

// aboutPrompt names the field that made a prompt too long.
func aboutPrompt(err error, field string) error {
	wire := toWire(err, "")
	if wire.Code != "context_length_exceeded" {
		return err
	}
	wire.Param = field
	return wire
}
