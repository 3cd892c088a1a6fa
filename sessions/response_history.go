package sessions

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"hearth/sessions/database"
	"hearth/sessions/items"
)

// history is what a turn goes on from.
type history struct {
	items      []items.Item
	log        []int32 // exact tokens of the turn before, or nil
	logID      int64   // of the log in the database; 0: it is not there
	remembered bool    // it comes from memory, and is not stored
}

// turn makes the turn of a response: its prompt is what the response goes on from, and then what is new.
func (s *Store) turn(ctx context.Context, req *ResponseRequest) (t Turn, h history, custom []string, err error) {
	t = req.Turn
	if h, err = s.history(ctx, req); err != nil {
		return t, h, nil, err
	}
	list := append(h.items[:len(h.items):len(h.items)], req.Input...)
	if t.Tools, custom, err = req.Tools(list); err != nil {
		return t, h, nil, err
	}
	if t.Messages, err = s.messages(req.Object.Instructions, list); err != nil {
		return t, h, nil, err
	}
	t.Log = h.log
	return t, h, custom, nil
}

// CountInput returns how many tokens the prompt of a response would have. Nothing is computed or stored.
func (s *Store) CountInput(ctx context.Context, req *ResponseRequest) (int, error) {
	t, _, _, err := s.turn(ctx, req)
	if err != nil {
		return 0, err
	}
	prompt, err := s.PromptTokens(&t)
	return len(prompt), err
}

// history returns what a response goes on from: the items of its conversation, or those of the responses before it.
func (s *Store) history(ctx context.Context, req *ResponseRequest) (history, error) {
	previous, conversation := req.Object.PreviousResponseID, req.Object.Conversation
	if previous != nil && req.Memory != nil {
		if h, ok := req.Memory.get(*previous); ok {
			return h, nil
		}
	}
	if previous == nil && conversation == nil {
		return history{}, nil
	}
	if s.database == nil {
		return history{}, ErrNoDatabase
	}
	tenant := req.Turn.Tenant
	var h history
	var list []database.Item
	if previous != nil {
		row, items, err := s.database.Lineage(ctx, tenant, *previous)
		switch {
		case errors.Is(err, database.ErrNotFound):
			return h, fmt.Errorf("%w: %q", ErrNoPrevious, *previous)
		case err != nil:
			return h, err
		case row.Status != StatusCompleted && row.Status != StatusIncomplete:
			return h, fmt.Errorf("%w: %q is %s", ErrNoPrevious, *previous, row.Status)
		}
		list, h.logID = items, row.Log
	} else {
		session, err := s.database.Session(ctx, tenant, conversation.ID)
		if errors.Is(err, database.ErrNotFound) {
			return h, fmt.Errorf("%w: %q", ErrNoConversation, conversation.ID)
		}
		if err != nil {
			return h, err
		}
		if list, _, err = s.database.Items(ctx, tenant, conversation.ID, database.Page{Limit: database.All}); err != nil {
			return h, err
		}
		h.logID = session.Log
	}
	if h.logID != 0 {
		log, err := s.database.Log(ctx, tenant, h.logID)
		if err != nil {
			return h, err
		}
		if log.Model != req.Object.Model { // another model's tokens say nothing here
			h.logID = 0
		} else {
			h.log = log.Tokens
		}
	}
	var err error
	h.items, err = loaded(list)
	return h, err
}

// messages makes the chat messages of a turn. Instructions come first, as the developer's, whatever the items before said:
// they belong to this turn alone.
func (s *Store) messages(instructions *string, list []items.Item) ([]json.RawMessage, error) {
	messages, err := items.Messages(list, nil)
	if err != nil || instructions == nil {
		return messages, err
	}
	first := marshal(struct {
		Role    string `json:"role"`
		Content string `json:"content"`
	}{"developer", *instructions})
	return append([]json.RawMessage{first}, messages...), nil
}

// Bounds of a ResponseMemory: the oldest responses are forgotten beyond them.
const (
	maxRemembered      = 64
	maxRememberedBytes = 64 << 20
)

// ResponseMemory keeps responses that are not stored for as long as a client's connection lasts. The zero value is ready,
// and safe for concurrent use.
type ResponseMemory struct {
	mu    sync.Mutex // guards all fields
	known map[string]history
	order []string // oldest first
	bytes int
}

// put remembers a response with all that it goes on from.
func (m *ResponseMemory) put(id string, before history, input []items.Item, output []database.Item, tokens []int32) {
	list := append(before.items[:len(before.items):len(before.items)], input...)
	for _, row := range output {
		list = append(list, items.Item{ID: row.ID, Type: row.Type, Role: row.Role, Status: row.Status, JSON: row.JSON, Text: row.Text})
	}
	h := history{items: list, log: tokens, remembered: true}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known == nil {
		m.known = map[string]history{}
	}
	m.known[id] = h
	m.order = append(m.order, id)
	m.bytes += h.bytes()
	for len(m.order) > 1 && (len(m.order) > maxRemembered || m.bytes > maxRememberedBytes) {
		oldest := m.order[0]
		m.bytes -= m.known[oldest].bytes()
		delete(m.known, oldest)
		m.order = m.order[1:]
	}
}

func (m *ResponseMemory) get(id string) (history, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h, ok := m.known[id]
	return h, ok
}

// Item returns an item of a response that is remembered.
func (m *ResponseMemory) Item(id string) (items.Item, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, response := range m.order {
		for _, item := range m.known[response].items {
			if item.ID == id {
				return item, true
			}
		}
	}
	return items.Item{}, false
}

// bytes is about how much memory it takes; what it shares with others is counted for each.
func (h history) bytes() int {
	n := 4 * len(h.log)
	for i := range h.items {
		n += len(h.items[i].JSON) + len(h.items[i].Text)
	}
	return n
}
