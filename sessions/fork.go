package sessions

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"hearth/engine"
	"hearth/engine/api"
	"hearth/engine/chat"
	"hearth/engine/tokenizer"
	"hearth/sessions/database"
)

// Place is a place in a conversation. The zero value is its end.
type Place struct {
	Item  string // behind the item of this id
	Items *int   // or behind so many items
	Token *int   // or behind so many tokens of the exact log, which may be inside an answer
}

// Inherited as the TTL of a fork is that of the conversation from which it is forked.
const Inherited time.Duration = -1

// ErrNoLog says that a conversation has no tokens to count: none of its turns is kept exactly.
var ErrNoLog = errors.New("sessions: this session has no exact tokens")

// RangeError says that a place is behind the end.
type RangeError struct {
	Field string // "items", "token"
	Has   int
}

// Error says how much there is.
func (e *RangeError) Error() string {
	return fmt.Sprintf("%s is beyond the end of the session, which has %d", e.Field, e.Has)
}

// itemsUpTo returns how many items come before a place that is not inside of one.
func (s *Store) itemsUpTo(ctx context.Context, tenant, session string, at Place) (int, error) {
	if at.Item != "" {
		return s.database.Position(ctx, tenant, session, at.Item)
	}
	row, err := s.database.Session(ctx, tenant, session)
	switch {
	case err != nil:
		return 0, err
	case at.Items == nil:
		return row.Items, nil
	case *at.Items > row.Items:
		return 0, &RangeError{"items", row.Items}
	}
	return *at.Items, nil
}

// Fork stores a new conversation that goes on from a place in another one. What they have in common is kept once: the items,
// the exact tokens, and what was computed of them.
//
// A place inside an answer cuts it: the fork has what the tokens before it say, as an incomplete answer. A place inside a
// turn's prompt, or inside a tool call, leaves out what is not whole. The tokens are those of the conversation's turns; what
// was added since the last one comes after them.
func (s *Store) Fork(ctx context.Context, id string, at Place, fork *database.Session, newID func(prefix string) string) error {
	if s.database == nil {
		return ErrNoDatabase
	}
	parent, err := s.database.Session(ctx, fork.Tenant, id)
	if err != nil {
		return err
	}
	if fork.Model == "" {
		fork.Model = parent.Model
	}
	if fork.TTL == Inherited {
		fork.TTL = parent.TTL
	}
	if at.Token == nil {
		n, err := s.itemsUpTo(ctx, fork.Tenant, id, at)
		if err != nil {
			return err
		}
		return s.database.ForkSession(ctx, id, fork, n, nil)
	}
	cut, err := s.cutAt(ctx, fork.Tenant, id, *at.Token, newID)
	if err != nil {
		return err
	}
	return s.database.ForkSession(ctx, id, fork, cut.items, cut.end)
}

// cut is what is before a token.
type cut struct {
	items int
	end   *database.ForkEnd // of the answer that the token is in, or nil
}

func (s *Store) cutAt(ctx context.Context, tenant, session string, token int, newID func(prefix string) string) (cut, error) {
	marks, err := s.database.Marks(ctx, tenant, session)
	if err != nil {
		return cut{}, err
	}
	if len(marks) == 0 {
		return cut{}, ErrNoLog
	}
	k := slices.IndexFunc(marks, func(m database.Mark) bool { return m.Tokens >= token })
	if k < 0 {
		return cut{}, &RangeError{"token", marks[len(marks)-1].Tokens}
	}
	if marks[k].Tokens == token {
		return cut{items: marks[k].Items}, nil
	}
	before := 0
	if k > 0 {
		before = marks[k-1].Items
	}
	m, err := s.catalog.Get(marks[k].Model)
	if err != nil {
		return cut{}, err
	}
	if marks[k].Prompt == 0 || token <= marks[k].Prompt {
		return cut{items: before}, nil
	}
	page := database.Page{Limit: database.All}
	rows, _, err := s.database.Items(ctx, tenant, session, page)
	if err != nil {
		return cut{}, err
	}
	log, err := s.database.Log(ctx, tenant, marks[k].Log)
	if err != nil {
		return cut{}, err
	}
	if len(rows) < marks[k].Items {
		return cut{}, database.ErrNotFound // the turn was taken out meanwhile
	}
	turn := rows[before:marks[k].Items]
	input := len(turn) - answerItems(turn)
	answer, err := s.readAnswer(m, log, token, input < len(turn) && hasCall(turn[input:]), newID)
	if err != nil {
		return cut{}, err
	}
	if len(answer) == 0 {
		return cut{items: before + input}, nil
	}
	log.Parent, log.Shared, log.Tokens = log.ID, token, log.Tokens[:token]
	return cut{before + input, &database.ForkEnd{Append: answer, Log: log}}, nil
}

// answerItems returns how many of the last items of a turn are its answer.
func answerItems(turn []database.Item) int {
	n := 0
	for _, item := range slices.Backward(turn) {
		if !(item.Type == "reasoning" || isCall(item.Type) || item.Type == "message" && item.Role == "assistant") {
			break
		}
		n++
	}
	return n
}

func isCall(kind string) bool { return kind == "function_call" || kind == "custom_tool_call" }

func hasCall(list []database.Item) bool {
	return slices.ContainsFunc(list, func(i database.Item) bool { return isCall(i.Type) })
}

// readAnswer makes items of the tokens of a log from the beginning of its answer to a token, as if the answer had been cut
// there by a limit. A call that is not whole is left out.
func (s *Store) readAnswer(m *engine.Served, log *database.Log, token int, calls bool, newID func(prefix string) string) ([]database.Item, error) {
	t := &Turn{Model: m.ID, NewID: newID, Logprobs: -1}
	reply := chat.ReplyOptions{Prompt: m.Tokenizer.Decode(log.Tokens[:log.Prompt], tokenizer.PieceOptions{Special: true}), NewID: newID}
	if calls {
		tools, err := chat.ParseTools(json.RawMessage(`[{"type":"function","function":{"name":"any"}}]`))
		if err != nil {
			return nil, err
		}
		reply.Tools = tools
	}
	events := make(chan api.Event, token-log.Prompt+1)
	for _, id := range log.Tokens[log.Prompt:token] {
		events <- api.Event{Token: id}
	}
	events <- api.Event{Done: &api.Done{Reason: api.FinishLength}}
	close(events)
	deltas := make(chan Delta, 16)
	c := &choice{
		turn: t, tok: m.Tokenizer, prompt: log.Tokens[:log.Prompt], decoder: m.Tokenizer.NewStream(tokenizer.PieceOptions{}),
		template: m.Template, reply: reply, cancel: func(error) {},
	}
	go c.run(events, deltas) // ends with the events, for whose deltas this function waits
	w := &responseWriter{quiet: true, newID: newID, now: s.opts.Now}
	for {
		d := <-deltas
		w.delta(&d)
		if d.Finish == nil {
			continue
		}
		if d.Finish.Err != nil {
			return nil, d.Finish.Err
		}
		w.finish(d.Finish)
		return slices.DeleteFunc(w.output, func(i database.Item) bool { return isCall(i.Type) && i.Status != StatusCompleted }), nil
	}
}
