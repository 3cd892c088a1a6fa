package server

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"hearth/sessions"
	"hearth/sessions/database"
	"hearth/sessions/items"
)

// createResponse answers POST /v1/responses.
func (s *Server) createResponse(x *exchange) error {
	r := newResponseRequest()
	if err := readTable(x, responseFields, r); err != nil {
		return err
	}
	run, err := s.respond(x, r, nil)
	if err != nil {
		return err
	}
	x.header().Set("Openai-Model", x.model)
	note := func() { x.reason = run.Status() }
	defer note()
	opts := eventOptions{obfuscate: r.obfuscate, ending: note}
	if r.background {
		if r.stream {
			return s.streamResponse(x, x.ctx, run, opts)
		}
		note()
		return x.answer(run.Object())
	}
	defer run.Close() // its error is for the client, who has been told by then
	if r.stream {
		// The run ends with the request's context, and its last event says so: that one is still to be read.
		return s.streamResponse(x, context.WithoutCancel(x.ctx), run, opts)
	}
	_ = run.Wait(x.ctx) // what is left when the context has ended, Close waits for
	if err := run.Close(); err != nil {
		return err
	}
	note()
	return x.answer(run.Object())
}

// respond starts the response that a request asks for. The memory is that of a connection, or nil.
func (s *Server) respond(x *exchange, r *responseRequest, memory *sessions.ResponseMemory) (*sessions.ResponseRun, error) {
	if err := r.complete(x); err != nil {
		return nil, err
	}
	req, err := s.responseTurn(x, r, memory)
	if err != nil {
		return nil, err
	}
	meter := s.metrics.meter(req.Object.Model, x.started)
	count := &tally{}
	req.Observe = func(d *sessions.Delta) {
		meter.observe(piece{0, *d})
		if d.Finish != nil {
			count.prompt = d.Finish.Usage.PromptTokens
			count.add(0, d.Finish)
		}
	}
	run, err := s.store.Respond(x.ctx, req)
	if err != nil {
		return nil, aboutInput(err)
	}
	if !r.background { // what goes on after the request is no part of its log line
		x.count = count
	}
	return run, nil
}

// aboutInput names the field of this API that made a prompt too long, or that a template refuses.
func aboutInput(err error) error {
	if input, ok := errors.AsType[*sessions.InputError](err); ok {
		switch {
		case strings.HasPrefix(input.Field, "messages"):
			return invalidRequest("input", "input: %v", input.Err)
		case input.Field == "reasoning_effort":
			return unsupported("reasoning.effort", input.Err.Error())
		}
	}
	return aboutPrompt(err, "input")
}

// complete checks what concerns several fields.
func (r *responseRequest) complete(x *exchange) error {
	stores := x.s.store.Database() != nil
	if r.store == nil {
		r.store = &stores
	}
	switch {
	case r.input.raw == nil && r.previous == "" && r.conversation == "":
		return missing("input")
	case r.previous != "" && r.conversation != "":
		return invalidRequest("previous_response_id", "previous_response_id and conversation exclude each other; send one of them")
	case *r.store && !stores:
		return unsupported("store", "this server stores nothing")
	case r.background && !*r.store:
		return invalidRequest("background", "background needs store to be true: the answer is fetched later")
	case r.topLogprobs > 0 && !r.logprobs:
		return invalidRequest("top_logprobs", `top_logprobs needs include to have "message.output_text.logprobs"`)
	}
	return r.generation.complete(x)
}

// responseTurn makes the turn of a request whose fields are read.
func (s *Server) responseTurn(x *exchange, r *responseRequest, memory *sessions.ResponseMemory) (*sessions.ResponseRequest, error) {
	m, err := s.model(r.turn.Model)
	if err != nil {
		return nil, err
	}
	x.model = m.ID
	input, err := s.readInput(x, r, memory)
	if err != nil {
		return nil, err
	}
	object := r.echo
	object.ID, object.CreatedAt, object.Model = s.opts.NewID("resp_"), x.started.Unix(), m.ID
	object.Store, object.Background = r.store != nil && *r.store, r.background
	if r.conversation != "" {
		object.Conversation = &sessions.ConversationRef{ID: r.conversation}
	}
	r.turn.Model, r.turn.OneCall, r.turn.NewID = m.ID, r.singleCall, s.opts.NewID
	return &sessions.ResponseRequest{
		Turn: r.turn, Object: object, Input: input, Tools: r.chosenTools, Truncate: r.truncate, CompactAt: r.compactAt,
		Seal: r.encrypted, Memory: memory, Events: r.stream, Timeout: s.opts.RequestTimeout,
		Logger: s.opts.Logger, NewID: s.opts.NewID, Now: s.opts.Now,
		Explain: func(err error) sessions.ResponseError { return explain(err, x.id) },
	}, nil
}

// explain words an error in the terms of a response that failed.
func explain(err error, requestID string) sessions.ResponseError {
	wire := toWire(err, requestID)
	code := "server_error"
	switch {
	case wire.Status == http.StatusTooManyRequests:
		code = "rate_limit_exceeded"
	case wire.Status < http.StatusInternalServerError && wire.Status != http.StatusRequestTimeout:
		code = "invalid_prompt"
	}
	return sessions.ResponseError{Code: code, Message: wire.Message}
}

// readInput reads the items of a request. References are looked up in the memory of the connection, then in what the
// tenant has stored.
func (s *Server) readInput(x *exchange, r *responseRequest, memory *sessions.ResponseMemory) ([]items.Item, error) {
	if r.input.raw == nil {
		return nil, nil
	}
	parser := s.store.ItemParser(x.ctx, x.tenant, s.opts.NewID)
	if stored := parser.Resolve; memory != nil {
		parser.Resolve = func(id string) (items.Item, bool, error) {
			if item, ok := memory.Item(id); ok || stored == nil {
				return item, ok, nil
			}
			return stored(id)
		}
	}
	list, err := parser.Parse(r.input.path, r.input.raw)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 && r.previous == "" && r.conversation == "" {
		return nil, r.input.invalid("must have at least one item")
	}
	return list, nil
}

// responseQuery are the parameters of GET /v1/responses/{id}.
type responseQuery struct {
	stream, obfuscate bool
	after             int // sequence number; -1: from the first event on
}

var responseParameters = []parameter[responseQuery]{
	includeParameter[responseQuery](),
	{"stream", once, switchParameter(func(q *responseQuery, on bool) { q.stream = on })},
	{"include_obfuscation", once, switchParameter(func(q *responseQuery, on bool) { q.obfuscate = on })},
	{"starting_after", once, func(q *responseQuery, a argument) error {
		n, err := a.number().integer(0, maxTokensField)
		q.after = int(n)
		return err
	}},
}

// getResponse answers GET /v1/responses/{id}: the response, or its events from the first or a later one on.
func (s *Server) getResponse(x *exchange) error {
	q := responseQuery{after: -1}
	if err := decodeQuery(x, responseParameters, &q); err != nil {
		return err
	}
	id := x.c.Param("id")
	if !q.stream {
		if q.after >= 0 {
			return invalidRequest("starting_after", "starting_after is for stream=true")
		}
		object, err := s.store.StoredResponse(x.ctx, x.tenant, id)
		if err != nil {
			return aboutRow(err, "response", id)
		}
		return x.answer(object)
	}
	events, err := s.store.ResponseEvents(x.ctx, x.tenant, id)
	if err != nil {
		return aboutRow(err, "response", id)
	}
	return s.streamResponse(x, x.ctx, events, eventOptions{from: q.after + 1, obfuscate: q.obfuscate})
}

// cancelResponse answers POST /v1/responses/{id}/cancel.
func (s *Server) cancelResponse(x *exchange) error {
	id := x.c.Param("id")
	object, err := s.store.CancelResponse(x.ctx, x.tenant, id)
	if err != nil {
		return aboutRow(err, "response", id)
	}
	return x.answer(object)
}

// deleteResponse answers DELETE /v1/responses/{id}.
func (s *Server) deleteResponse(x *exchange) error {
	id := x.c.Param("id")
	if err := s.store.DeleteResponse(x.ctx, x.tenant, id); err != nil {
		return aboutRow(err, "response", id)
	}
	return x.answer(deletedObject{ID: id, Object: "response", Deleted: true})
}

// listInputItems answers GET /v1/responses/{id}/input_items, the last item first unless asked otherwise.
func (s *Server) listInputItems(x *exchange) error {
	db, err := s.database()
	if err != nil {
		return err
	}
	page := database.Page{Descending: true}
	if err := decodeQuery(x, itemPage, &page); err != nil {
		return err
	}
	id := x.c.Param("id")
	if _, err := db.Response(x.ctx, x.tenant, id); err != nil {
		return aboutRow(err, "response", id)
	}
	rows, more, err := db.InputItems(x.ctx, x.tenant, id, page)
	if err != nil {
		return aboutAfter(err, page.After)
	}
	return x.answer(newItemList(rows, more))
}

// inputOnly reads the body of a request about the input of a response that is not made.
func (s *Server) inputOnly(x *exchange, fields []field[responseRequest]) (*sessions.ResponseRequest, error) {
	r := newResponseRequest()
	if err := readTable(x, fields, r); err != nil {
		return nil, err
	}
	if err := r.complete(x); err != nil {
		return nil, err
	}
	return s.responseTurn(x, r, nil)
}

// compactResponse answers POST /v1/responses/compact: a summary, sealed, to go on from in the place of all that it is of.
func (s *Server) compactResponse(x *exchange) error {
	req, err := s.inputOnly(x, compactFields)
	if err != nil {
		return err
	}
	c, err := s.store.CompactInput(x.ctx, req)
	if err != nil {
		return aboutInput(err)
	}
	output := make([]json.RawMessage, len(c.Items))
	for i := range c.Items {
		output[i] = c.Items[i].JSON
	}
	return x.answer(compaction{
		ID: req.Object.ID, Object: "response.compaction", CreatedAt: req.Object.CreatedAt, Output: output, Usage: sessions.NewResponseUsage(&c.Usage, 0),
	})
}

// compaction is the answer of POST /v1/responses/compact.
type compaction struct {
	ID        string                  `json:"id"`
	Object    string                  `json:"object"`
	CreatedAt int64                   `json:"created_at"`
	Output    []json.RawMessage       `json:"output"`
	Usage     *sessions.ResponseUsage `json:"usage"`
}

// inputTokens answers POST /v1/responses/input_tokens.
func (s *Server) inputTokens(x *exchange) error {
	req, err := s.inputOnly(x, inputTokensFields)
	if err != nil {
		return err
	}
	n, err := s.store.CountInput(x.ctx, req)
	if err != nil {
		return aboutInput(err)
	}
	return x.answer(struct {
		Object      string `json:"object"`
		InputTokens int    `json:"input_tokens"`
	}{"response.input_tokens", n})
}
