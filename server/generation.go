package server

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"hearth/engine/api"
	"hearth/sessions"
)

// generation is a decoded request for text, of whatever wire format.
type generation struct {
	turn    sessions.Turn // what all prompts have in common
	prompts []prompt      // of completions; a chat has its messages in turn

	n, bestOf           int
	stream              bool
	streamOptions       bool // the field was given
	includeUsage        bool
	obfuscate           bool
	logprobs            bool
	topLogprobs         int
	maxCompletionTokens int // the newer name of max_tokens
	seeded              bool
	unshared            bool // prefixes are neither found nor left for others
	noPenalties         bool

	tools       json.RawMessage // that the model may call, unless noTools
	noTools     bool
	store       bool // the answer is kept
	metadata    json.RawMessage
	serviceTier string
}

// prompt is one prompt of a completion request: a text or tokens.
type prompt struct {
	text   *string
	tokens []int32
}

// newGeneration returns what an empty request to OpenAI's API asks for.
func newGeneration() *generation {
	return &generation{n: 1, turn: sessions.Turn{
		Logprobs: -1,
		Sampling: api.Sampling{Temperature: 1, RepeatLastN: -1}, // penalties see the whole text
	}}
}

// complete checks what concerns several fields and finishes the turn.
func (g *generation) complete(x *exchange) error {
	switch {
	case g.turn.Model == "":
		return missing("model")
	case g.streamOptions && !g.stream:
		return invalidRequest("stream_options", "stream_options is only for requests with stream true")
	case g.maxCompletionTokens != 0 && g.turn.MaxTokens != 0 && g.maxCompletionTokens != g.turn.MaxTokens:
		return invalidRequest("max_tokens", "max_tokens is %d and max_completion_tokens is %d; send one of them", g.turn.MaxTokens, g.maxCompletionTokens)
	case g.topLogprobs > 0 && !g.logprobs:
		return invalidRequest("top_logprobs", "top_logprobs needs logprobs to be true")
	}
	if g.maxCompletionTokens != 0 {
		g.turn.MaxTokens = g.maxCompletionTokens
	}
	if g.logprobs {
		g.turn.Logprobs = g.topLogprobs
	}
	if g.noPenalties {
		sampling := &g.turn.Sampling
		sampling.RepeatPenalty, sampling.FrequencyPenalty, sampling.PresencePenalty = 0, 0, 0
	}
	if !g.seeded {
		g.turn.Sampling.Seed = x.s.opts.Seed()
	}
	if g.unshared {
		g.turn.Salt = x.id
	}
	if !g.noTools {
		g.turn.Tools = g.tools
	}
	g.turn.NewID = x.s.opts.NewID
	g.turn.ID, g.turn.Tenant, g.turn.Now, g.turn.Choices = x.id, x.tenant, x.s.opts.Now(), max(g.n, g.bestOf)
	return nil
}

// turns returns one turn for each prompt.
func (g *generation) turns() []*sessions.Turn {
	if g.prompts == nil {
		return []*sessions.Turn{&g.turn}
	}
	list := make([]*sessions.Turn, len(g.prompts))
	for i, p := range g.prompts {
		turn := g.turn
		turn.Text, turn.Tokens = p.text, p.tokens
		list[i] = &turn
	}
	return list
}

// piece is a delta of one of the turns of a request.
type piece struct {
	turn int
	sessions.Delta
}

// run is the turns of one request in progress. Whoever starts it reads pieces to the end; stop makes that end near.
type run struct {
	model   sessions.Model
	created time.Time
	pieces  <-chan piece // closed after the last delta of the last turn
	ctx     context.Context
	stop    context.CancelFunc

	echo  bool // the first delta of a choice is its prompt
	meter meter
	count tally
}

// start submits all turns. Errors are those of sessions.Store.Run.
func (s *Server) start(x *exchange, g *generation) (*run, error) {
	m, err := s.model(g.turn.Model)
	if err != nil {
		return nil, err
	}
	x.model = m.ID
	x.header().Set("Openai-Model", m.ID)
	ctx, cancel := context.WithCancel(x.ctx)
	r := &run{model: m, created: x.started, ctx: ctx, stop: cancel, echo: g.turn.Echo, meter: s.metrics.meter(m.ID, x.started)}
	var streams []*sessions.Stream
	for _, turn := range g.turns() {
		stream, err := s.store.Run(ctx, turn)
		if err != nil {
			for _, open := range streams {
				open.Close()
			}
			cancel()
			return nil, err
		}
		streams = append(streams, stream)
		r.count.prompt += len(stream.Prompt)
	}
	x.count = &r.count
	pieces := make(chan piece)
	var open sync.WaitGroup
	for i, stream := range streams {
		open.Go(func() {
			for d, ok := stream.Next(); ok; d, ok = stream.Next() {
				pieces <- piece{i, d}
			}
		})
	}
	go func() {
		open.Wait()
		close(pieces)
	}()
	r.pieces = pieces
	return r, nil
}

// observe measures a piece that arrived.
func (r *run) observe(p piece) {
	r.meter.observe(p)
	r.tally(p)
}

// tally counts the tokens of a choice that finished.
func (r *run) tally(p piece) {
	if p.Finish != nil {
		r.count.add(p.turn, p.Finish)
	}
}

// end stops what still runs and waits for it. What was generated until then is counted, although nobody reads it.
func (r *run) end() {
	r.stop()
	for p := range r.pieces {
		r.tally(p)
	}
}

// failure is the error that a finished choice ended with, nil if it ended well.
func (r *run) failure(f *sessions.Finish) error {
	switch f.Reason {
	case api.FinishError:
		return f.Err
	case api.FinishCancelled:
		if cause := context.Cause(r.ctx); errors.Is(cause, errDeadline) || errors.Is(cause, errDraining) {
			return cause
		}
		return context.Canceled
	}
	return nil
}

// outcome is everything that one choice produced.
type outcome struct {
	begun     bool
	reasoning string
	text      string
	calls     []calledFunction
	tokens    []sessions.TokenLogprob
	echoed    int // of tokens, those of the prompt
	finish    *sessions.Finish
}

// add appends the next piece of the choice, the first of which is the prompt if it is echoed.
func (o *outcome) add(p piece, echo bool) {
	if !o.begun && echo {
		o.echoed = len(p.Tokens)
	}
	o.begun = true
	o.reasoning += p.Reasoning
	o.text += p.Text
	for _, c := range p.Calls {
		if c.Index == len(o.calls) {
			o.calls = append(o.calls, calledFunction{ID: c.ID, Type: "function", Function: functionOfCall{Name: c.Name}})
		}
		o.calls[c.Index].Function.Arguments += c.Arguments
	}
	o.tokens = append(o.tokens, p.Tokens...)
	o.finish = p.Finish
}

// meanLogprob compares the candidates of best_of: the mean over what was generated, leaving an echoed prompt out.
func (o *outcome) meanLogprob() float64 {
	generated := o.tokens[o.echoed:]
	sum := 0.0
	for _, t := range generated {
		sum += float64(t.Logprob)
	}
	return sum / float64(max(len(generated), 1))
}

// collect reads the run to its end and returns the choices of each turn in order.
func (r *run) collect(turns, choices int) ([][]outcome, error) {
	defer r.end()
	outcomes := make([][]outcome, turns)
	for i := range outcomes {
		outcomes[i] = make([]outcome, choices)
	}
	for p := range r.pieces {
		r.observe(p)
		outcomes[p.turn][p.Choice].add(p, r.echo)
		if p.Finish != nil {
			if err := r.failure(p.Finish); err != nil {
				return nil, err
			}
		}
	}
	return outcomes, nil
}

// tally sums up the usage of choices as they finish. The prompt of a turn counts once; of it, what any of the turn's
// choices had to compute was not cached.
type tally struct {
	prompt, generated int
	reasoning         int // of the generated ones
	drafted, accepted int
	turns             map[int]turnTally
}

// turnTally is what became of the prompt of one turn.
type turnTally struct {
	cached  int // fewest of a choice
	written int // most of a choice, the first of which leaves little to the others
}

func (t *tally) add(turn int, f *sessions.Finish) {
	u := &f.Usage
	t.generated += u.GeneratedTokens
	t.reasoning += f.ReasoningTokens
	t.drafted += u.DraftedTokens
	t.accepted += u.AcceptedTokens
	if t.turns == nil {
		t.turns = map[int]turnTally{}
	}
	of, ok := t.turns[turn]
	if !ok || u.CachedTokens < of.cached {
		of.cached = u.CachedTokens
	}
	of.written = max(of.written, u.WrittenTokens)
	t.turns[turn] = of
}

func (t *tally) cachedTokens() int { return t.promptDetails().CachedTokens }

func (t *tally) promptDetails() promptDetails {
	var d promptDetails
	for _, of := range t.turns {
		d.CachedTokens += of.cached
		d.CacheWriteTokens += of.written
	}
	return d
}

// usage is OpenAI's count of tokens.
type usage struct {
	PromptTokens     int               `json:"prompt_tokens"`
	CompletionTokens int               `json:"completion_tokens"`
	TotalTokens      int               `json:"total_tokens"`
	PromptDetails    promptDetails     `json:"prompt_tokens_details"`
	CompletionParts  completionDetails `json:"completion_tokens_details"`
}

type promptDetails struct {
	CachedTokens     int `json:"cached_tokens"`
	CacheWriteTokens int `json:"cache_write_tokens"`
}

// completionDetails counts among others what speculation guessed, wherever the guesses came from.
type completionDetails struct {
	ReasoningTokens          int `json:"reasoning_tokens"`
	AcceptedPredictionTokens int `json:"accepted_prediction_tokens"`
	RejectedPredictionTokens int `json:"rejected_prediction_tokens"`
}

func (t *tally) usage() *usage {
	return &usage{
		PromptTokens: t.prompt, CompletionTokens: t.generated, TotalTokens: t.prompt + t.generated,
		PromptDetails: t.promptDetails(),
		CompletionParts: completionDetails{
			ReasoningTokens:          t.reasoning,
			AcceptedPredictionTokens: t.accepted, RejectedPredictionTokens: t.drafted - t.accepted,
		},
	}
}

// fingerprint changes with the model's file, as OpenAI's changes with the backend.
func fingerprint(m *sessions.Model) string { return "fp_" + m.Digest[:min(len(m.Digest), 12)] }
