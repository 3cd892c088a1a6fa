package sessions

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"hearth/engine"
	"hearth/engine/api"
	"hearth/engine/chat"
	"hearth/engine/tokenizer"
	"hearth/sessions/database"
)

// ErrUnknownModel says that no model of that name is served; ErrLoading that it is still being loaded.
var (
	ErrUnknownModel = engine.ErrUnknownModel
	ErrLoading      = engine.ErrLoading
)

// InputError says what about a turn's input the model's template or tokenizer refuses.
type InputError struct {
	Field string // "messages", "suffix"
	Err   error
}

// Error names the field and the reason.
func (e *InputError) Error() string { return fmt.Sprintf("%s: %v", e.Field, e.Err) }

// Unwrap returns the reason.
func (e *InputError) Unwrap() error { return e.Err }

// Store runs turns on the models of a catalog and keeps conversations in a database. It is safe for concurrent use.
type Store struct {
	catalog   *engine.Catalog
	database  *database.DB
	opts      Options
	locks     locks
	anchors   anchors
	failing   atomic.Bool // the database keeps no answers
	responses responseRuns
	unended   unended
	pins      pins
}

// NewStore returns a store. The catalog stays the caller's; so does the database, nil where nothing is stored.
func NewStore(catalog *engine.Catalog, db *database.DB) *Store {
	return &Store{catalog: catalog, database: db, opts: Options{}.withDefaults(), pins: newPins()}
}

// Database returns where conversations are kept; nil: nowhere.
func (s *Store) Database() *database.DB { return s.database }

// Models lists the served models in the order they were loaded.
func (s *Store) Models() []Model {
	served := s.catalog.List()
	models := make([]Model, len(served))
	for i, m := range served {
		models[i] = describe(m)
	}
	return models
}

// Model returns a served model by its id.
func (s *Store) Model(id string) (Model, error) {
	m, err := s.catalog.Get(id)
	if err != nil {
		return Model{}, err
	}
	return describe(m), nil
}

// Loading returns the progress of the models being loaded, and the error of the last one that could not be.
func (s *Store) Loading() ([]engine.Progress, error) { return s.catalog.Loading() }

// Stats returns what each served model is doing.
func (s *Store) Stats() map[string]engine.Stats {
	stats := map[string]engine.Stats{}
	for _, m := range s.catalog.List() {
		stats[m.ID] = m.Engine.Stats()
	}
	return stats
}

// Disk describes the disk store that all models share; ok is false while there is none.
func (s *Store) Disk() (stats engine.DiskStats, ok bool) {
	for _, m := range s.catalog.List() {
		if stats, ok = m.Engine.Disk(); ok {
			return stats, true
		}
	}
	return stats, false
}

func describe(m *engine.Served) Model {
	return Model{
		ID: m.ID, Created: m.Created, Architecture: m.Architecture, Name: m.Name, Parameters: m.Parameters,
		Quantization: m.Quantization, Bytes: m.WeightBytes, ContextLength: m.Engine.ContextLength(), Digest: m.Digest,
		TrainedLength: m.TrainedLength, Template: m.Template.Source(),
		Reasons: m.Template.Reasons(), CallsTools: m.Template.CallsTools(),
	}
}

// EncodeOptions say how Tokenize treats special tokens.
type EncodeOptions = tokenizer.EncodeOptions

// Tokenize returns the ids of a text.
func (s *Store) Tokenize(model, text string, opts EncodeOptions) ([]int32, error) {
	m, err := s.catalog.Get(model)
	if err != nil {
		return nil, err
	}
	return m.Tokenizer.Encode(text, opts), nil
}

// Detokenize returns the text of ids, special tokens included, and refuses ids that the vocabulary does not have.
func (s *Store) Detokenize(model string, ids []int32) (string, error) {
	m, err := s.catalog.Get(model)
	if err != nil {
		return "", err
	}
	if err := checkTokens(m.Tokenizer, ids); err != nil {
		return "", err
	}
	return m.Tokenizer.Decode(ids, tokenizer.PieceOptions{Special: true}), nil
}

// Pieces returns the bytes that each of the ids stands for within a text; they may be part of a character.
func (s *Store) Pieces(model string, ids []int32) ([][]byte, error) {
	m, err := s.catalog.Get(model)
	if err != nil {
		return nil, err
	}
	if err := checkTokens(m.Tokenizer, ids); err != nil {
		return nil, err
	}
	pieces := make([][]byte, len(ids))
	for i, id := range ids {
		pieces[i] = m.Tokenizer.AppendPiece(nil, id, tokenizer.PieceOptions{Special: true})
	}
	return pieces, nil
}

func checkTokens(tok *tokenizer.Tokenizer, ids []int32) error {
	for i, id := range ids {
		if !tok.Valid(id) {
			return &InputError{"tokens", fmt.Errorf("token %d at position %d is not in the vocabulary of %d", id, i, tok.VocabSize())}
		}
	}
	return nil
}

// PromptTokens renders and encodes a turn's prompt without running it.
func (s *Store) PromptTokens(t *Turn) ([]int32, error) {
	m, err := s.catalog.Get(t.Model)
	if err != nil {
		return nil, err
	}
	p, err := s.prompt(m, t)
	if err != nil {
		return nil, err
	}
	return p.tokens, nil
}

// Run starts a turn. Errors are those of the catalog, *InputError, and those of engine.Submit. The caller reads the
// stream to its end or closes it; cancelling ctx frees everything within one step and brings the end near.
func (s *Store) Run(ctx context.Context, t *Turn) (*Stream, error) {
	if slices.Contains(t.Stop, "") {
		return nil, &InputError{"stop", errors.New("has an empty string, before which everything ends")}
	}
	m, err := s.catalog.Get(t.Model)
	if err != nil {
		return nil, err
	}
	prompt, err := s.prompt(m, t)
	if err != nil {
		return nil, err
	}
	choices := max(t.Choices, 1)
	ctx, cancel := context.WithCancel(ctx)
	stream := &Stream{
		Prompt: prompt.tokens, cancel: cancel, deltas: make(chan Delta, 16*choices), open: choices,
		remember: func(drawn []int32) { s.remember(m, t, prompt, drawn) },
	}
	request := api.Request{
		ID: t.ID, Prompt: prompt.tokens, MaxTokens: t.MaxTokens, MinTokens: t.MinTokens, IgnoreEOS: t.IgnoreEOS,
		Sampling: t.Sampling, Logprobs: t.Logprobs, PromptLogprobs: t.Echo && t.Logprobs >= 0,
		Priority: t.Priority, Tenant: t.Tenant, Salt: t.Salt, Anchor: prompt.lasting,
	}
	if t.NoOutput {
		request.MaxTokens = api.NoTokens
	}
	if t.Expected != "" {
		request.Expected = m.Tokenizer.Encode(t.Expected, tokenizer.EncodeOptions{})
	}
	started := make([]func(), 0, choices)
	var submitted []<-chan api.Event
	for i := range choices {
		request.Sampling.Seed = t.Sampling.Seed + uint64(i)
		c := &choice{index: i, turn: t, tok: m.Tokenizer, prompt: prompt.tokens, decoder: m.Tokenizer.NewStream(tokenizer.PieceOptions{})}
		if t.Messages != nil {
			c.template, c.reply = m.Template, chat.ReplyOptions{Prompt: prompt.text, Tools: prompt.tools, NewID: t.newID}
		}
		var own context.Context
		own, c.cancel = context.WithCancelCause(ctx)
		events, err := m.Engine.Submit(own, &request)
		if err != nil {
			cancel()
			for _, events := range submitted { // nothing is left of a turn that was refused
				drain(events)
			}
			return nil, err
		}
		submitted = append(submitted, events)
		started = append(started, func() { c.run(events, stream.deltas) })
	}
	for _, run := range started {
		go run()
	}
	return stream, nil
}

// Stream delivers the deltas of one turn. It belongs to one goroutine.
type Stream struct {
	Prompt []int32 // the prompt as the model sees it

	cancel   context.CancelFunc
	deltas   chan Delta
	open     int                 // choices that have not finished
	remember func(drawn []int32) // keeps the tokens of an answer for the prompt that has it in its text
}

// Next waits for the next delta; it returns false after the last one.
func (s *Stream) Next() (Delta, bool) {
	if s.open == 0 {
		return Delta{}, false
	}
	d := <-s.deltas
	if d.Finish != nil {
		s.remember(d.Finish.Tokens)
		if s.open--; s.open == 0 {
			s.cancel()
		}
	}
	return d, true
}

// Close stops what still runs. It may be called at any time, also after the end.
func (s *Stream) Close() {
	s.cancel()
	for s.open > 0 {
		s.Next()
	}
}
