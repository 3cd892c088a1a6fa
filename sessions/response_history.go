package sessions

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"hearth/sessions/database"
	"hearth/sessions/items"
)

// history is what a turn goes on from.
type history struct {
	items      []items.Item
	log        []int32 // exact tokens of the turn before, or nil
	logID      int64   // of the log in the database; 0: it is not there
	remembered bool    // it comes from memory, and is not stored
	// began is when the first of the items came; zero where there are none. Templates that print the date print that one in
	// every turn: with another one nothing that was computed before midnight could be used after it.
	began time.Time
}

// plan is what a response is to do.
type plan struct {
	turn    Turn
	history history
	custom  []string // names of custom tools
	// summarise is what is to be summed up first, nil: nothing; the turn then goes on from the summary, unless there is
	// none to follow.
	summarise *Input
	only      bool // the summary is all that is asked for
}

// plan makes the turn of a response: its prompt is what the response goes on from, and then what is new.
func (s *Store) plan(ctx context.Context, req *ResponseRequest) (*plan, error) {
	h, err := s.history(ctx, req)
	if err != nil {
		return nil, err
	}
	p := &plan{turn: req.Turn, history: h}
	if p.turn.Now = h.began; h.began.IsZero() {
		p.turn.Now = req.asked()
	}
	list := current(slices.Concat(h.items, req.Input))
	if n := len(list); n > 0 && list[n-1].Type == "compaction_trigger" {
		list, p.only = list[:n-1], true
	}
	if p.turn.Tools, p.custom, err = req.Tools(list); err != nil {
		return nil, err
	}
	in := &Input{Turn: p.turn, Items: list, Messages: func(list []items.Item) ([]json.RawMessage, error) { return s.messages(req, list) }}
	switch {
	case p.only:
		p.summarise = in
		if !slices.ContainsFunc(list, func(item items.Item) bool { return !isInstruction(&item) }) {
			return nil, &items.Error{Field: "input", Reason: items.Invalid, Text: "has nothing to sum up"}
		}
		return p, nil
	case req.Truncate:
		if in.Items, err = s.Truncate(in); err != nil {
			return nil, err
		}
	case req.CompactAt > 0:
		if p.summarise, err = s.tooLong(in, len(list)-len(req.Input), req.CompactAt); p.summarise != nil || err != nil {
			return p, err
		}
	}
	if p.turn.Messages, err = in.Messages(in.Items); err != nil {
		return nil, err
	}
	if p.turn.Log = h.log; h.log == nil {
		p.turn.Log, err = s.CompactionLog(ctx, req.Turn.Tenant, req.Turn.Model, list)
	}
	return p, err
}

// current returns the items that count: a compaction stands for all items before it but instructions.
func current(list []items.Item) []items.Item {
	for i := len(list) - 1; i > 0; i-- {
		if list[i].Type != "compaction" {
			continue
		}
		before := slices.DeleteFunc(slices.Clone(list[:i]), func(item items.Item) bool { return !isInstruction(&item) })
		return append(before, list[i:]...)
	}
	return list
}

// tooLong returns what of an input is to be summed up because its prompt has at least this many tokens, nil: nothing. The
// items that are new stay as they are, with whatever they cannot be parted from.
func (s *Store) tooLong(in *Input, old, tokens int) (*Input, error) {
	m, err := s.catalog.Get(in.Turn.Model)
	if err != nil {
		return nil, err
	}
	if n, err := in.count(s, m, in.Items); err != nil || n < tokens {
		return nil, err
	}
	at := 0
	for _, cut := range cuts(in.Items) {
		if cut <= old {
			at = cut
		}
	}
	if !slices.ContainsFunc(in.Items[:at], func(item items.Item) bool { return !isInstruction(&item) }) {
		return nil, nil // a summary would stand for nothing
	}
	split := *in
	split.Items, split.Recent = in.Items[:at], in.Items[at:]
	return &split, nil
}

// CountInput returns how many tokens the prompt of a response would have. Nothing is computed or stored.
func (s *Store) CountInput(ctx context.Context, req *ResponseRequest) (int, error) {
	p, err := s.plan(ctx, req)
	if err != nil {
		return 0, err
	}
	prompt, err := s.PromptTokens(&p.turn)
	return len(prompt), err
}

// CompactInput sums up all that a response would go on from.
func (s *Store) CompactInput(ctx context.Context, req *ResponseRequest) (*Compaction, error) {
	trigger := items.Item{Type: "compaction_trigger"}
	req.Input = append(req.Input[:len(req.Input):len(req.Input)], trigger)
	p, err := s.plan(ctx, req)
	if err != nil {
		return nil, err
	}
	return s.Compact(ctx, p.summarise, req.NewID)
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
		s.renew(ctx, row)
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
	if len(list) > 0 {
		h.began = list[0].Created.Local() // as the clock of a first turn
	}
	var err error
	h.items, err = loaded(list)
	return h, err
}

// messages makes the chat messages of items. Instructions come first, as the developer's, whatever the items before said:
// they belong to this turn alone.
func (s *Store) messages(req *ResponseRequest, list []items.Item) ([]json.RawMessage, error) {
	list, err := s.openReasoning(req.Turn.Tenant, list)
	if err != nil {
		return nil, err
	}
	messages, err := items.Messages(list, func(sealed string) ([]json.RawMessage, error) { return s.OpenCompaction(req.Turn.Tenant, sealed) })
	if err != nil || req.Object.Instructions == nil {
		return messages, err
	}
	return append([]json.RawMessage{chatMessage("developer", *req.Object.Instructions)}, messages...), nil
}

// reasoning is the purpose that the content of reasoning items is sealed for, for clients that keep only that.
const reasoning = "reasoning"

// openReasoning returns items whose reasoning can be read: what has nothing but sealed content is opened.
func (s *Store) openReasoning(tenant string, list []items.Item) ([]items.Item, error) {
	opened := list
	for i := range list {
		if list[i].Type != "reasoning" {
			continue
		}
		var item struct {
			Type      string            `json:"type"`
			ID        string            `json:"id"`
			Summary   []json.RawMessage `json:"summary"`
			Content   []json.RawMessage `json:"content"`
			Encrypted string            `json:"encrypted_content"`
		}
		if err := json.Unmarshal(list[i].JSON, &item); err != nil {
			return nil, fmt.Errorf("sessions: %s: %w", list[i].ID, err)
		}
		if item.Encrypted == "" || len(item.Content)+len(item.Summary) > 0 {
			continue
		}
		text, err := s.unseal(reasoning, tenant, item.Encrypted)
		if err != nil {
			return nil, &items.Error{Field: "input", Reason: items.Invalid, Text: fmt.Sprintf("has reasoning whose encrypted_content %v", err)}
		}
		item.Content = []json.RawMessage{marshal(reasoningPart{"reasoning_text", string(text)})}
		if &opened[0] == &list[0] {
			opened = slices.Clone(list)
		}
		opened[i].JSON = marshal(item)
	}
	return opened, nil
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
func (m *ResponseMemory) put(id string, p *plan, input []items.Item, output []database.Item, tokens []int32) {
	before := p.history.items
	list := append(before[:len(before):len(before)], input...)
	for _, row := range output {
		list = append(list, items.Item{ID: row.ID, Type: row.Type, Role: row.Role, Status: row.Status, JSON: row.JSON, Text: row.Text})
	}
	h := history{items: list, log: tokens, remembered: true, began: p.turn.Now}
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

// renew gives a response that is gone on from its time anew, where half of it has passed: that is seldom, and the time need not
// be exact. Where it cannot be written the turn goes on.
func (s *Store) renew(ctx context.Context, row *database.Response) {
	now := s.opts.Now()
	expires := s.Expiry(now)
	if row.Expires.IsZero() || row.Expires.Sub(now) > s.opts.ResponseTTL/2 || !expires.After(row.Expires) {
		return
	}
	if err := s.database.RenewResponse(ctx, row.Tenant, row.ID, expires); err != nil {
		s.opts.Logger.Warn("a response that is gone on from does not stay longer", "response", row.ID, "error", err)
	}
}
