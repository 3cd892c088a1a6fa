package sessions

import (
	"encoding/json"
	"slices"
	"sort"
	"strings"

	"hearth/engine"
	"hearth/sessions/items"
)

// Input is a list of items that is to be a turn's prompt.
type Input struct {
	Turn  Turn // all but Messages and Log
	Items []items.Item
	// Recent are items behind Items that Compact does not sum up: they are kept, word for word, in what it makes.
	Recent []items.Item
	// Messages makes the chat messages of items: those of Input, without some.
	Messages func([]items.Item) ([]json.RawMessage, error)
}

// turn returns the turn of some of the items, and of messages behind them.
func (in *Input) turn(list []items.Item, more ...json.RawMessage) (Turn, error) {
	t := in.Turn
	messages, err := in.Messages(list)
	t.Messages = slices.Concat(messages, more)
	return t, err
}

// count returns how many tokens the prompt of some of the items has, and of messages behind them.
func (in *Input) count(s *Store, m *engine.Served, list []items.Item, more ...json.RawMessage) (int, error) {
	t, err := in.turn(list, more...)
	if err != nil {
		return 0, err
	}
	p, err := s.prompt(m, &t)
	if err != nil {
		return 0, err
	}
	return len(p.tokens), nil
}

// Truncate returns the items without the oldest, so that the prompt leaves room for the answer: as many tokens as the turn
// asks for, or an eighth of what the model can hold. Instructions stay, and so does what the user said last. All items are
// returned where they fit; what does not fit even so is for Run to refuse.
//
// More is left out than would have to be, in steps of a quarter of the room: so the turns that follow leave out the same
// items for a while, and go on from what was computed.
func (s *Store) Truncate(in *Input) ([]items.Item, error) {
	m, err := s.catalog.Get(in.Turn.Model)
	if err != nil {
		return nil, err
	}
	room := m.Engine.ContextLength() - in.Turn.MaxTokens
	if in.Turn.MaxTokens == 0 {
		room = m.Engine.ContextLength() / 8 * 7
	}
	total, err := in.count(s, m, in.Items)
	if err != nil || total <= room {
		return in.Items, err
	}
	at := slices.DeleteFunc(cuts(in.Items), func(at int) bool { return len(in.without(at)) == len(in.Items) })
	if len(at) == 0 {
		return in.Items, nil
	}
	first, left, err := in.firstThatFits(s, m, at, room)
	if err != nil {
		return nil, err
	}
	step := max(room/4, 1)
	dropped := (total - left + step - 1) / step * step
	next, left, err := in.firstThatFits(s, m, at, total-dropped)
	if err != nil {
		return nil, err
	}
	if left > total-dropped { // no cut leaves out so much
		next = first
	}
	return in.without(next), nil
}

// firstThatFits returns the first of the cuts that leaves no more tokens, else the last, and how many it leaves.
func (in *Input) firstThatFits(s *Store, m *engine.Served, at []int, room int) (cut, left int, err error) {
	i := sort.Search(len(at)-1, func(i int) bool {
		n, failed := in.count(s, m, in.without(at[i]))
		if failed != nil {
			err = failed
		}
		return n <= room
	})
	if err != nil {
		return 0, 0, err
	}
	left, err = in.count(s, m, in.without(at[i]))
	return at[i], left, err
}

// without returns the items from a cut on, and those before it that stay.
func (in *Input) without(cut int) []items.Item {
	last := -1 // what the user said last
	for i := range in.Items {
		if in.Items[i].Role == "user" {
			last = i
		}
	}
	var list []items.Item
	for i := range in.Items {
		if i >= cut || i == last || isInstruction(&in.Items[i]) {
			list = append(list, in.Items[i])
		}
	}
	return list
}

// isInstruction reports whether an item says how to answer, and nothing of what happened so far.
func isInstruction(item *items.Item) bool { return item.Role == "system" || item.Role == "developer" }

// cuts are the places where a list of items can be cut: i is between items i-1 and i. An answer stays with what it
// answers, be that the user's words or results of calls, and a call with its result.
func cuts(list []items.Item) []int {
	ids := make([]string, len(list))
	results := map[string]int{} // by the id of the call, where its result is
	for i := range list {
		if ids[i] = callID(&list[i]); isResult(&list[i]) {
			results[ids[i]] = i
		}
	}
	var at []int
	whole := 0 // up to here, calls have their results
	for i := range list {
		begins := list[i].Role == "user" || i > 0 && isResult(&list[i-1]) && !isResult(&list[i])
		if i > 0 && begins && whole <= i {
			at = append(at, i)
		}
		if result, ok := results[ids[i]]; ok && ids[i] != "" {
			whole = max(whole, result+1)
		}
	}
	return at
}

func isResult(item *items.Item) bool { return strings.HasSuffix(item.Type, "_output") }

// callID is what ties a call and its result together; empty for other items.
func callID(item *items.Item) string {
	var f struct {
		CallID string `json:"call_id"`
	}
	_ = json.Unmarshal(item.JSON, &f) // another type of call_id ties nothing
	return f.CallID
}
