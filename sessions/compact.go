package sessions

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"hearth/engine"
	"hearth/engine/api"
	"hearth/sessions/database"
	"hearth/sessions/items"
)

// ErrNoSummary says that the model wrote no summary where one was asked for.
var ErrNoSummary = errors.New("sessions: the model wrote no summary")

// What the model is asked for, and how a summary stands in prompts: as the user's words, with an answer, because some
// templates insist on users' and assistants' messages in turn.
const (
	summaryRequest = "Write a summary of our whole conversation so far, from which you could go on without it. Keep everything that may " +
		"matter later: what I asked for and why, facts, names, numbers, paths and exact wording, results of tools, decisions and their " +
		"reasons, what is done, and what is left to do. Leave out pleasantries. Write the summary only."
	summaryPrefix = "This is a summary of our conversation so far.\n\n"
	summaryAnswer = "I know where we are. Let us go on from there."
)

// maxSummary bounds a summary, and a quarter of what the model can hold does: reasoning before it counts.
const maxSummary = 4096

// compactions is the purpose that summaries are sealed for.
const compactions = "compaction"

// Compaction is a list of items that stands for a longer one.
type Compaction struct {
	// Items are the instructions among the former items, and a compaction item in the place of all others. Its content is
	// sealed: the server that made it can open it, for the same tenant.
	Items []items.Item
	Usage api.Usage // of the model that wrote the summary
}

// summary is what a compaction item says when it is opened.
type summary struct {
	Text    string    `json:"text"`
	Model   string    `json:"model"` // digest of the model that wrote it
	Created time.Time `json:"created"`
	Log     int64     `json:"log,omitempty"` // of a prompt that ends with the summary, and is computed; 0: none
	// Recent are chat messages that follow the summary as they were said.
	Recent []json.RawMessage `json:"recent,omitempty"`
}

// messages are what the summary is in a prompt.
func (s *summary) messages() []json.RawMessage {
	return append([]json.RawMessage{chatMessage("user", summaryPrefix+s.Text), chatMessage("assistant", summaryAnswer)}, s.Recent...)
}

func chatMessage(role, text string) json.RawMessage {
	raw, err := json.Marshal(map[string]string{"role": role, "content": text})
	if err != nil {
		panic(fmt.Sprintf("sessions: a message of two strings: %v", err))
	}
	return raw
}

// Compact has the model sum up the items of a list, all but instructions and the recent ones, and computes the prompt that begins with the
// summary, so that a turn which goes on from it finds that done. What is too long for the model is summed up in parts, each
// with the summary of what came before. Errors are those of Run, ErrNoSummary, and a *items.Error where there is nothing to
// sum up.
func (s *Store) Compact(ctx context.Context, in *Input, newID func(prefix string) string) (*Compaction, error) {
	m, err := s.catalog.Get(in.Turn.Model)
	if err != nil {
		return nil, err
	}
	c := compactor{store: s, model: m, in: in}
	for i, item := range slices.Concat(in.Items, in.Recent) {
		if isInstruction(&item) {
			c.kept = append(c.kept, item)
		} else if i < len(in.Items) && item.Type != "compaction_trigger" {
			c.rest = append(c.rest, item)
		}
	}
	if len(c.rest) == 0 {
		return nil, &items.Error{Field: "input", Reason: items.Invalid, Text: "has nothing to sum up"}
	}
	for len(c.rest) > 0 {
		if err := c.next(ctx); err != nil {
			return nil, err
		}
	}
	recent := slices.DeleteFunc(slices.Clone(in.Recent), func(item items.Item) bool { return isInstruction(&item) })
	if c.done.Recent, err = c.said(recent); err != nil {
		return nil, err
	}
	c.done.Model, c.done.Created = m.Digest, time.Now()
	if c.done.Log, err = c.compute(ctx); err != nil {
		return nil, err
	}
	text, err := json.Marshal(&c.done)
	if err != nil {
		return nil, fmt.Errorf("sessions: summary: %w", err)
	}
	raw, err := json.Marshal(map[string]string{
		"type": "compaction", "id": newID("cmp_"), "encrypted_content": s.seal(compactions, in.Turn.Tenant, text),
	})
	if err != nil {
		return nil, fmt.Errorf("sessions: compaction: %w", err)
	}
	item, err := items.Read(raw)
	if err != nil {
		return nil, err
	}
	return &Compaction{Items: append(c.kept, item), Usage: c.usage}, nil
}

// compactor makes one compaction.
type compactor struct {
	store *Store
	model *engine.Served
	in    *Input
	kept  []items.Item // instructions
	rest  []items.Item // not summed up yet
	done  summary      // of what was before; no Text at first
	usage api.Usage
}

// prompt returns the turn that asks for a summary of the first n of the items that are left.
func (c *compactor) prompt(n int) (Turn, error) {
	t, err := c.in.turn(c.kept)
	if err != nil {
		return t, err
	}
	if c.done.Text != "" {
		t.Messages = append(t.Messages, c.done.messages()...)
	}
	rest, err := c.said(c.rest[:n])
	if err != nil {
		return t, err
	}
	t = alone(t, min(maxSummary, max(c.model.Engine.ContextLength()/4, 1)))
	t.Messages = asked(append(t.Messages, rest...))
	return t, nil
}

// said returns the messages of items, without those of the instructions.
func (c *compactor) said(list []items.Item) ([]json.RawMessage, error) {
	instructions, err := c.in.Messages(c.kept)
	if err != nil {
		return nil, err
	}
	all, err := c.in.Messages(slices.Concat(c.kept, list))
	if err != nil {
		return nil, err
	}
	return all[len(instructions):], nil
}

// alone returns a turn of the same prompt that asks for one answer of its own: the most probable one.
func alone(t Turn, maxTokens int) Turn {
	own := t.like(t.Messages)
	own.MaxTokens, own.MinTokens = maxTokens, 1
	return own
}

// asked puts the request for a summary behind messages; where the last one is a user's it becomes the end of that one.
func asked(messages []json.RawMessage) []json.RawMessage {
	var last struct {
		Role    string  `json:"role"`
		Content *string `json:"content"`
	}
	if n := len(messages); n > 0 && json.Unmarshal(messages[n-1], &last) == nil && last.Role == "user" && last.Content != nil {
		return append(messages[:n-1:n-1], chatMessage("user", *last.Content+"\n\n"+summaryRequest))
	}
	return append(messages, chatMessage("user", summaryRequest))
}

// next sums up as much of the rest as the model can hold.
func (c *compactor) next(ctx context.Context) error {
	room := c.model.Engine.ContextLength()
	fits := func(n int) (bool, error) {
		t, err := c.prompt(n)
		if err != nil {
			return false, err
		}
		p, err := c.store.prompt(c.model, &t)
		return err == nil && len(p.tokens)+t.MaxTokens <= room, err
	}
	at := append(cuts(c.rest), len(c.rest))
	n := len(c.rest)
	if all, err := fits(n); err != nil {
		return err
	} else if !all {
		var failed error
		i := sort.Search(len(at)-1, func(i int) bool { // the first that does not fit
			ok, err := fits(at[i])
			if err != nil {
				failed = err
			}
			return !ok
		})
		if failed != nil {
			return failed
		}
		n = at[max(i-1, 0)] // the first alone may not fit; then the engine says so
	}
	t, err := c.prompt(n)
	if err != nil {
		return err
	}
	text, err := c.write(ctx, &t)
	if errors.Is(err, ErrNoSummary) && t.Tools != nil { // it called one
		t.Tools = nil
		text, err = c.write(ctx, &t)
	}
	c.done.Text, c.rest = text, c.rest[n:]
	return err
}

// write returns the model's answer, without reasoning and calls.
func (c *compactor) write(ctx context.Context, t *Turn) (string, error) {
	stream, err := c.store.Run(ctx, t)
	if err != nil {
		return "", err
	}
	defer stream.Close()
	var text strings.Builder
	for d, ok := stream.Next(); ok; d, ok = stream.Next() {
		text.WriteString(d.Text)
		if d.Finish == nil {
			continue
		}
		add(&c.usage, &d.Finish.Usage)
		switch d.Finish.Reason {
		case api.FinishError:
			return "", d.Finish.Err
		case api.FinishCancelled:
			return "", context.Cause(ctx)
		}
	}
	if strings.TrimSpace(text.String()) == "" {
		return "", ErrNoSummary
	}
	return strings.TrimSpace(text.String()), nil
}

func add(sum, u *api.Usage) {
	sum.PromptTokens += u.PromptTokens
	sum.CachedTokens += u.CachedTokens
	sum.RestoredTokens += u.RestoredTokens
	sum.WrittenTokens += u.WrittenTokens
	sum.GeneratedTokens += u.GeneratedTokens
	sum.DraftedTokens += u.DraftedTokens
	sum.AcceptedTokens += u.AcceptedTokens
}

// compute has the prompt that ends with the summary computed, and stores its log where there is a database. No answer to
// it is wanted: one token is, since what a prompt without an answer leaves behind is not kept for others to go on from.
func (c *compactor) compute(ctx context.Context) (log int64, err error) {
	t, err := c.in.turn(c.kept, c.done.messages()...)
	if err != nil {
		return 0, err
	}
	t = alone(t, 1)
	stream, err := c.store.Run(ctx, &t)
	if _, refused := errors.AsType[*InputError](err); refused { // by a template that wants a user's message at the end
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer stream.Close()
	for d, ok := stream.Next(); ok; d, ok = stream.Next() {
		switch {
		case d.Finish == nil:
		case d.Finish.Reason == api.FinishError:
			return 0, d.Finish.Err
		case d.Finish.Reason == api.FinishCancelled:
			return 0, context.Cause(ctx)
		}
	}
	if c.store.database == nil || t.Salt != "" {
		return 0, nil
	}
	row := &database.Log{Tenant: t.Tenant, Model: t.Model, Fingerprint: c.store.fingerprint(t.Model), Tokens: stream.Prompt}
	if err := c.store.database.PutLog(ctx, row); err != nil {
		return 0, err
	}
	return row.ID, nil
}

// OpenCompaction returns the messages that the sealed content of a tenant's compaction item stands for. What was changed, or
// sealed elsewhere or for another tenant, is a *items.Error.
func (s *Store) OpenCompaction(tenant, sealed string) ([]json.RawMessage, error) {
	opened, err := s.openCompaction(tenant, sealed)
	if err != nil {
		return nil, err
	}
	return opened.messages(), nil
}

func (s *Store) openCompaction(tenant, sealed string) (*summary, error) {
	text, err := s.unseal(compactions, tenant, sealed)
	if err == nil {
		opened := &summary{}
		if err = json.Unmarshal(text, opened); err == nil {
			return opened, nil
		}
	}
	return nil, &items.Error{Field: "input", Reason: items.Invalid, Text: fmt.Sprintf("has a compaction whose encrypted_content %v", err)}
}

// CompactionLog returns the tokens of the prompt that was computed behind the last of a tenant's compaction items in a
// list, for Turn.Log; nil where there is none, or it is not kept any more.
func (s *Store) CompactionLog(ctx context.Context, tenant, model string, list []items.Item) ([]int32, error) {
	for _, item := range slices.Backward(list) {
		if item.Type != "compaction" {
			continue
		}
		var f struct {
			Sealed string `json:"encrypted_content"`
		}
		if err := json.Unmarshal(item.JSON, &f); err != nil {
			return nil, fmt.Errorf("sessions: %s: %w", item.ID, err)
		}
		opened, err := s.openCompaction(tenant, f.Sealed)
		if err != nil || opened.Log == 0 || s.database == nil {
			return nil, err
		}
		log, err := s.database.Log(ctx, tenant, opened.Log)
		if errors.Is(err, database.ErrNotFound) || err == nil && log.Model != model {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		return log.Tokens, nil
	}
	return nil, nil
}
