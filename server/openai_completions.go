package server

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"unicode/utf8"

	"hearth/sessions"
)

// completion is the answer of POST /v1/completions, and each event of its stream.
type completion struct {
	ID                string             `json:"id"`
	Object            string             `json:"object"`
	Created           int64              `json:"created"`
	Model             string             `json:"model"`
	SystemFingerprint string             `json:"system_fingerprint"`
	Choices           []completionChoice `json:"choices"`
	Usage             json.RawMessage    `json:"usage,omitempty"`
	Obfuscation       string             `json:"obfuscation,omitempty"`
}

type completionChoice struct {
	Index        int                 `json:"index"`
	Text         string              `json:"text"`
	Logprobs     *completionLogprobs `json:"logprobs"`
	FinishReason *string             `json:"finish_reason"`
}

type completionLogprobs struct {
	Tokens        []string      `json:"tokens"`
	TokenLogprobs []float32     `json:"token_logprobs"`
	TopLogprobs   []topLogprobs `json:"top_logprobs"`
	TextOffset    []int         `json:"text_offset"`
}

// topLogprobs is an object from token texts to log-probabilities, written best first.
type topLogprobs []sessions.TokenLogprob

// MarshalJSON keeps the order, and the better of two tokens with the same text.
func (t topLogprobs) MarshalJSON() ([]byte, error) {
	var buf bytes.Buffer
	buf.WriteByte('{')
	seen := map[string]bool{}
	for _, p := range t {
		if seen[p.Text] {
			continue
		}
		if len(seen) > 0 {
			buf.WriteByte(',')
		}
		seen[p.Text] = true
		key, err := json.Marshal(p.Text)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(finite(p.Logprob))
		if err != nil {
			return nil, err
		}
		buf.Write(key)
		buf.WriteByte(':')
		buf.Write(value)
	}
	buf.WriteByte('}')
	return buf.Bytes(), nil
}

// maxPrompts bounds the prompts of a request; each is a sequence of its own.
const maxPrompts = 256

// defaultCompletionTokens is OpenAI's default of max_tokens here.
const defaultCompletionTokens = 16

func readPrompts(g *generation, v value) error {
	if v.isText() {
		s, err := v.text()
		g.prompts = []prompt{{text: &s}}
		return err
	}
	if !v.isArray() {
		return v.wrongType("a string, an array of strings, an array of token ids, or an array of such arrays")
	}
	list, err := v.elements()
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return v.invalid("is empty")
	}
	if list[0].isNumber() {
		tokens, err := readTokens(v)
		g.prompts = []prompt{{tokens: tokens}}
		return err
	}
	if len(list) > maxPrompts {
		return v.invalid("may have %d prompts, has %d", maxPrompts, len(list))
	}
	for _, e := range list {
		p, err := readPrompt(e, list[0].isText())
		if err != nil {
			return err
		}
		g.prompts = append(g.prompts, p)
	}
	return nil
}

func readPrompt(v value, wantText bool) (prompt, error) {
	if wantText {
		s, err := v.text()
		return prompt{text: &s}, err
	}
	tokens, err := readTokens(v)
	return prompt{tokens: tokens}, err
}

// readTokens reads token ids; whether the vocabulary has them is the engine's to say.
func readTokens(v value) ([]int32, error) {
	list, err := v.elements()
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, v.invalid("is empty")
	}
	tokens := make([]int32, len(list))
	for i, e := range list {
		id, err := e.integer(0, maxTokensField)
		if err != nil {
			return nil, err
		}
		tokens[i] = int32(id)
	}
	return tokens, nil
}

// completions answers POST /v1/completions.
func (s *Server) completions(x *exchange) error {
	g := newGeneration()
	g.turn.MaxTokens = defaultCompletionTokens
	if err := readTable(x, completionFields, g); err != nil {
		return err
	}
	if err := checkCompletion(g); err != nil {
		return err
	}
	if err := g.complete(x); err != nil {
		return err
	}
	if g.bestOf > g.n {
		g.turn.Logprobs = max(g.turn.Logprobs, 0) // what the candidates are compared by
	}
	r, err := s.start(x, g)
	if err != nil {
		return aboutPrompt(err, "prompt")
	}
	id := s.opts.NewID("cmpl-")
	if g.stream {
		return s.streamCompletion(x, g, r, id)
	}
	outcomes, err := r.collect(len(g.prompts), g.turn.Choices)
	if err != nil {
		return err
	}
	answer := completion{
		ID: id, Object: "text_completion", Created: r.created.Unix(), Model: r.model.ID, SystemFingerprint: fingerprint(&r.model),
	}
	for turn, candidates := range outcomes {
		for i, o := range best(candidates, g.n) {
			reason := finishReason(o.finish)
			choice := completionChoice{Index: turn*g.n + i, Text: o.text, FinishReason: &reason}
			if g.logprobs {
				choice.Logprobs = newCompletionLogprobs(o.text, o.tokens, 0)
			}
			answer.Choices = append(answer.Choices, choice)
			x.finished(o.finish)
		}
	}
	if answer.Usage, err = json.Marshal(r.count.usage()); err != nil {
		return err
	}
	return x.answer(answer)
}

func checkCompletion(g *generation) error {
	switch {
	case g.prompts == nil:
		return missing("prompt")
	case len(g.prompts)*max(g.n, g.bestOf) > maxPrompts:
		return invalidRequest("n", "%d prompts times %d choices are %d sequences, %d are allowed",
			len(g.prompts), max(g.n, g.bestOf), len(g.prompts)*max(g.n, g.bestOf), maxPrompts)
	case g.bestOf != 0 && g.bestOf < g.n:
		return invalidRequest("best_of", "best_of is %d, less than n, which is %d", g.bestOf, g.n)
	case g.bestOf > g.n && g.stream:
		return invalidRequest("best_of", "best_of needs all candidates to be complete and cannot be streamed")
	case g.turn.Suffix != "" && g.turn.Echo:
		return invalidRequest("echo", "echo and suffix cannot be combined")
	}
	for i, p := range g.prompts {
		if g.turn.Suffix != "" && p.text == nil {
			path := "prompt"
			if len(g.prompts) > 1 {
				path = elementPath(path, i)
			}
			return invalidRequest(path, "%s must be a string when there is a suffix", path)
		}
	}
	return nil
}

// best returns the n candidates of highest mean log-probability, best first; all of them stay in their order.
func best(candidates []outcome, n int) []outcome {
	if len(candidates) > n {
		slices.SortStableFunc(candidates, func(a, b outcome) int {
			switch x, y := a.meanLogprob(), b.meanLogprob(); {
			case x > y:
				return -1
			case x < y:
				return 1
			}
			return 0
		})
	}
	return candidates[:min(n, len(candidates))]
}

// newCompletionLogprobs lists tokens with where each begins in the answer's text, counted in characters; offset is
// where text begins there. A token that is no part of the text, such as a begin-of-sequence token, has the place of
// what follows.
//
// The first token of a prompt is given, not predicted. Its log-probability is written as 0, that of a certain event,
// because the schema and the clients' types have no null here.
func newCompletionLogprobs(text string, tokens []sessions.TokenLogprob, offset int) *completionLogprobs {
	l := &completionLogprobs{
		Tokens: make([]string, len(tokens)), TokenLogprobs: make([]float32, len(tokens)),
		TopLogprobs: make([]topLogprobs, len(tokens)), TextOffset: make([]int, len(tokens)),
	}
	at := 0 // byte in text
	for i, t := range tokens {
		l.Tokens[i] = t.Text
		l.TextOffset[i] = offset + utf8.RuneCountInString(text[:characterStart(text, at)])
		at = skipToken(text, at, t.Bytes)
		if !t.Known {
			continue
		}
		l.TokenLogprobs[i] = finite(t.Logprob)
		l.TopLogprobs[i] = t.Top
		if !slices.ContainsFunc(t.Top, func(top sessions.TokenLogprob) bool { return top.Token == t.Token }) {
			l.TopLogprobs[i] = append(slices.Clip(t.Top), t)
		}
	}
	return l
}

// characterStart returns where the character that holds byte at begins: the tokens of one character have one place.
func characterStart(text string, at int) int {
	for at > 0 && at < len(text) && !utf8.RuneStart(text[at]) {
		at--
	}
	return at
}

// skipToken returns where the text goes on behind a token. Tokenizers put a space before the first word that the text
// does not have.
func skipToken(text string, at int, token []byte) int {
	rest, piece := text[at:], string(token)
	if strings.HasPrefix(rest, piece) {
		return at + len(piece)
	}
	if trimmed, ok := strings.CutPrefix(piece, " "); ok && strings.HasPrefix(rest, trimmed) {
		return at + len(trimmed)
	}
	return at
}

// streamCompletion writes a completion as events: the text of each choice, its finish reason; then the usage if asked
// for, then the end mark.
func (s *Server) streamCompletion(x *exchange, g *generation, r *run, id string) error {
	out := s.newStream(x, formatSSE)
	chunk := func(choices []completionChoice) *completion {
		c := &completion{
			ID: id, Object: "text_completion", Created: r.created.Unix(), Model: r.model.ID,
			SystemFingerprint: fingerprint(&r.model), Choices: choices,
		}
		if g.includeUsage {
			c.Usage = json.RawMessage("null")
		}
		return c
	}
	offsets := make([]int, len(g.prompts)*g.n) // characters sent, by choice
	err := out.follow(r, s.opts.KeepAlive, func(p piece) error {
		choice := completionChoice{Index: p.turn*g.n + p.Choice, Text: p.Text}
		if p.Text != "" || len(p.Tokens) > 0 {
			if g.logprobs {
				choice.Logprobs = newCompletionLogprobs(p.Text, p.Tokens, offsets[choice.Index])
			}
			offsets[choice.Index] += utf8.RuneCountInString(p.Text)
			c := chunk([]completionChoice{choice})
			if g.obfuscate {
				c.Obfuscation = padding(len(p.Text))
			}
			if err := out.event(c); err != nil {
				return err
			}
		}
		if p.Finish == nil {
			return nil
		}
		x.finished(p.Finish)
		reason := finishReason(p.Finish)
		return out.event(chunk([]completionChoice{{Index: choice.Index, FinishReason: &reason}}))
	})
	if err == nil && g.includeUsage {
		last := chunk([]completionChoice{})
		if last.Usage, err = json.Marshal(r.count.usage()); err == nil {
			err = out.event(last)
		}
	}
	if err != nil {
		return err
	}
	return out.done()
}
