package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"hearth/sessions/database"
)

// admitCompletion refuses, before anything is computed, a chat completion that could not be kept.
func (s *Server) admitCompletion(x *exchange) error {
	db := s.store.Database()
	if db == nil {
		return unsupported("store", "this server stores nothing")
	}
	return db.Admit(x.ctx, x.tenant)
}

// storeCompletion keeps a chat completion with the messages that it answers.
func (s *Server) storeCompletion(x *exchange, g *generation, answer *chatCompletion) error {
	object := *answer
	object.Metadata = nil // is kept beside it, because it changes
	var raw bytes.Buffer
	if err := encodeJSON(&raw, &object); err != nil {
		return err
	}
	return s.store.Database().CreateCompletion(x.ctx, &database.Completion{
		ID: answer.ID, Tenant: x.tenant, Model: answer.Model, Created: x.started, Expires: s.store.Expiry(x.started), Metadata: g.metadata, Object: bytes.TrimSpace(raw.Bytes()), Messages: g.turn.Messages,
	})
}

// completionObject is a chat completion as it is kept.
type completionObject database.Completion

// MarshalJSON writes the answer of then with the metadata of now.
func (c completionObject) MarshalJSON() ([]byte, error) {
	object, ok := strings.CutSuffix(string(c.Object), "}")
	if !ok {
		return nil, fmt.Errorf("server: completion %s is no object", c.ID)
	}
	return []byte(object + `,"metadata":` + string(c.Metadata) + "}"), nil
}

// completionQuery are the parameters of a list of chat completions.
type completionQuery struct {
	page   database.Page
	filter database.CompletionFilter
}

var completionParameters = append(pageParameters(func(q *completionQuery) *database.Page { return &q.page }),
	parameter[completionQuery]{"model", once, func(q *completionQuery, a argument) error {
		q.filter.Model = a.text
		return nil
	}},
	parameter[completionQuery]{"metadata", keyed, func(q *completionQuery, a argument) error {
		if q.filter.Metadata == nil {
			q.filter.Metadata = map[string]string{}
		}
		if len(q.filter.Metadata) == maxMetadata {
			return invalidRequest("metadata", "metadata may have %d entries", maxMetadata)
		}
		q.filter.Metadata[a.key] = a.text
		return nil
	}},
)

// listCompletions answers GET /v1/chat/completions, oldest first unless asked otherwise.
func (s *Server) listCompletions(x *exchange) error {
	db, err := s.database()
	if err != nil {
		return err
	}
	var q completionQuery
	if err := decodeQuery(x, completionParameters, &q); err != nil {
		return err
	}
	rows, more, err := db.Completions(x.ctx, x.tenant, q.filter, q.page)
	if err != nil {
		return aboutAfter(err, q.page.After)
	}
	entries := make([]completionObject, len(rows))
	for i := range rows {
		entries[i] = completionObject(rows[i])
	}
	return x.answer(newListObject(entries, more, func(c *completionObject) string { return c.ID }))
}

// completion returns the chat completion of the path.
func (s *Server) completion(x *exchange) (*database.Completion, error) {
	db, err := s.database()
	if err != nil {
		return nil, err
	}
	c, err := db.Completion(x.ctx, x.tenant, x.c.Param("id"))
	return c, x.aboutCompletion(err)
}

// aboutCompletion says of an error that a row is not there which row that is: the chat completion of the path.
func (x *exchange) aboutCompletion(err error) error {
	return aboutRow(err, "stored chat completion", x.c.Param("id"))
}

// getCompletion answers GET /v1/chat/completions/{id}.
func (s *Server) getCompletion(x *exchange) error {
	c, err := s.completion(x)
	if err != nil {
		return err
	}
	return x.answer(completionObject(*c))
}

// updateCompletion answers POST /v1/chat/completions/{id}: the metadata is replaced.
func (s *Server) updateCompletion(x *exchange) error {
	db, err := s.database()
	if err != nil {
		return err
	}
	metadata, err := readNewMetadata(x)
	if err != nil {
		return err
	}
	c, err := db.UpdateCompletion(x.ctx, x.tenant, x.c.Param("id"), metadata)
	if err != nil {
		return x.aboutCompletion(err)
	}
	return x.answer(completionObject(*c))
}

// deleteCompletion answers DELETE /v1/chat/completions/{id}.
func (s *Server) deleteCompletion(x *exchange) error {
	db, err := s.database()
	if err != nil {
		return err
	}
	id := x.c.Param("id")
	if err := db.DeleteCompletion(x.ctx, x.tenant, id); err != nil {
		return x.aboutCompletion(err)
	}
	return x.answer(deletedObject{ID: id, Object: "chat.completion.deleted", Deleted: true})
}

// storedMessage is a message of a request that was kept. Content is its whole text, ContentParts are the parts where it was
// sent in parts.
type storedMessage struct {
	ID           string          `json:"id"`
	Role         string          `json:"role"`
	Content      *string         `json:"content"`
	ContentParts json.RawMessage `json:"content_parts"`
	Refusal      *string         `json:"refusal"`
	Name         string          `json:"name,omitempty"`
	Reasoning    string          `json:"reasoning_content,omitempty"`
	ToolCalls    json.RawMessage `json:"tool_calls,omitempty"`
	ToolCallID   string          `json:"tool_call_id,omitempty"`
}

// newStoredMessage reads a chat message, which was checked before it was kept.
func newStoredMessage(id string, raw json.RawMessage) (storedMessage, error) {
	var sent struct {
		Role       string
		Content    json.RawMessage
		Refusal    *string
		Name       string
		Reasoning  string          `json:"reasoning_content"`
		ToolCalls  json.RawMessage `json:"tool_calls"`
		ToolCallID string          `json:"tool_call_id"`
	}
	if err := json.Unmarshal(raw, &sent); err != nil {
		return storedMessage{}, fmt.Errorf("server: message %s: %w", id, err)
	}
	m := storedMessage{ID: id, Role: sent.Role, Refusal: sent.Refusal, Name: sent.Name, Reasoning: sent.Reasoning, ToolCallID: sent.ToolCallID}
	if string(sent.ToolCalls) != "null" {
		m.ToolCalls = sent.ToolCalls
	}
	switch content := sent.Content; {
	case len(content) == 0 || content[0] == 'n':
	case content[0] == '"':
		text := unquote(content)
		m.Content = &text
	default:
		var parts []struct{ Text, Refusal string }
		if err := json.Unmarshal(content, &parts); err != nil {
			return m, fmt.Errorf("server: message %s: %w", id, err)
		}
		text := ""
		for _, p := range parts {
			text += p.Text + p.Refusal
		}
		m.Content, m.ContentParts = &text, content
	}
	return m, nil
}

var messageParameters = pageParameters(func(p *database.Page) *database.Page { return p })

// listCompletionMessages answers GET /v1/chat/completions/{id}/messages: what was sent, oldest first unless asked otherwise.
func (s *Server) listCompletionMessages(x *exchange) error {
	var page database.Page
	if err := decodeQuery(x, messageParameters, &page); err != nil {
		return err
	}
	c, err := s.completion(x)
	if err != nil {
		return err
	}
	order := make([]int, len(c.Messages))
	for i := range order {
		order[i] = i
	}
	if page.Descending {
		slices.Reverse(order)
	}
	id := func(i int) string { return c.ID + "-" + strconv.Itoa(i) }
	if page.After != "" {
		at := slices.IndexFunc(order, func(i int) bool { return id(i) == page.After })
		if at < 0 {
			return aboutAfter(database.ErrNotFound, page.After)
		}
		order = order[at+1:]
	}
	limit := page.Limit
	if limit == 0 {
		limit = database.DefaultLimit
	}
	more := len(order) > limit
	messages := make([]storedMessage, 0, min(len(order), limit))
	for _, i := range order[:min(len(order), limit)] {
		m, err := newStoredMessage(id(i), c.Messages[i])
		if err != nil {
			return err
		}
		messages = append(messages, m)
	}
	return x.answer(newListObject(messages, more, func(m *storedMessage) string { return m.ID }))
}
