package sessions

import (
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"hearth/engine"
	"hearth/engine/chat"
	"hearth/engine/chat/jinja"
	"hearth/engine/tokenizer"
)

// prompt is what a turn asks the model to go on from.
type prompt struct {
	tokens []int32

	// Of messages: what the template made of them, guarded, and the tools it showed.
	text  string
	tools jinja.Value

	anchored bool
	anchor   anchorKey // what answers are remembered by
	tail     int       // how many of the last tokens come behind it
	stored   bool      // answers may be kept in the database
	lasting  int       // how many of the first tokens stay when the template leaves out reasoning; 0: unknown
}

// prompt renders and encodes the prompt of a turn.
func (s *Store) prompt(m *engine.Served, t *Turn) (*prompt, error) {
	tok := m.Tokenizer
	switch {
	case t.Tokens != nil:
		return &prompt{tokens: t.Tokens}, nil
	case t.Text != nil && t.Suffix != "":
		tokens, err := infillPrompt(tok, *t.Text, t.Suffix)
		return &prompt{tokens: tokens}, err
	case t.Text != nil:
		p := &prompt{}
		s.spell(m, t, p, tok.Cut(*t.Text, tokenizer.EncodeOptions{AddSpecial: true}))
		return p, nil
	}
	p, err := render(m, t)
	if err != nil {
		return nil, err
	}
	s.spell(m, t, p, tok.CutGuarded(p.text, tokenizer.EncodeOptions{AddSpecial: !beginsWithBOS(tok, p.text)}))
	return p, nil
}

// render makes the text of a turn's messages.
func render(m *engine.Served, t *Turn) (*prompt, error) {
	parsed, err := chat.ParsePrompt(t.Messages, t.TemplateVars)
	if err != nil {
		return nil, promptError(err)
	}
	if parsed.Tools, err = chat.ParseTools(t.Tools); err != nil {
		return nil, promptError(err)
	}
	if parsed.Tools != nil && !m.Template.CallsTools() {
		return nil, &InputError{"tools", errors.New("the model's template has no place for tools")}
	}
	if parsed.Now = t.Now; t.Now.IsZero() {
		parsed.Now = time.Now()
	}
	parsed.AddGenerationPrompt, parsed.Effort = true, t.Effort
	parsed.Guard = m.Tokenizer.Guard
	text, err := m.Template.Render(parsed)
	if effort, ok := errors.AsType[*chat.EffortError](err); ok {
		return nil, &InputError{"reasoning_effort", effort}
	}
	if err != nil {
		return nil, &InputError{"messages", err}
	}
	return &prompt{text: text, tools: parsed.Tools}, nil
}

// spell chooses the tokens of a prompt: those of the turn's log and of remembered answers, as far as they say the same.
func (s *Store) spell(m *engine.Served, t *Turn, p *prompt, parts *tokenizer.Parts) {
	keys := newKeyring(s.opts.Secret, t.Tenant, t.Salt, m.Digest).keysOf(parts)
	if p.stored = t.Messages != nil && t.Salt == "" && s.database != nil && !s.opts.passing; p.stored {
		s.loadAnchors(t.Tenant, likely(m, parts, keys))
	}
	found := s.anchors.find(keys)
	last, h := answerHeader(parts)
	spelled := newSpelling(m.Tokenizer, parts, t.Log)
	spelled.headers = sync.OnceValue(func() []header { return append(headersAfterUsers(m, t), h) })
	for i := range parts.Len() {
		spelled.encode(i)
		if ids := spelled.logged(i); len(ids) > 0 {
			if spelled.end == parts.Start(i) {
				s.compare(t, "log", ids, spelled.offer(i, ids))
			}
			spelled.recallLogged(m, p, i, ids)
		}
		for _, a := range found[i] {
			s.compare(t, "answer", a.tokens, spelled.offer(i, a.tokens))
			spelled.recall(m, p, i, a.tokens, m.Tokenizer.Decode(a.tokens[:a.tail], tokenizer.PieceOptions{Special: true}))
		}
	}
	spelled.encode(parts.Len())
	p.tokens = spelled.tokens
	if m.Engine != nil && m.Engine.Stats().SnapshotsTotal > 0 {
		p.lasting = spelled.lasting(m, t)
	}
	p.anchored, p.anchor, p.tail = true, keys[last], len(p.tokens)-spelled.starts[last]
}

// header is what a prompt ends with to ask for an answer: its last added token, -1 where there is none, and the text
// behind that.
type header struct {
	token int32
	tail  string
}

// answerHeader returns the header at the end of a prompt, and the part behind its token.
func answerHeader(parts *tokenizer.Parts) (part int, h header) {
	part, h.token = parts.Len(), -1
	if part > 0 && tokenAt(parts, part-1) < 0 {
		part--
		h.tail, _ = parts.Part(part)
	}
	if part > 0 {
		h.token = tokenAt(parts, part-1)
	}
	return part, h
}

// like returns a turn of other messages that are rendered and kept as this one's, for one answer without parameters.
func (t *Turn) like(messages []json.RawMessage) Turn {
	return Turn{
		ID: t.ID, Model: t.Model, Messages: messages, Tools: t.Tools, TemplateVars: t.TemplateVars, Effort: t.Effort, Logprobs: -1,
		Priority: t.Priority, Tenant: t.Tenant, Salt: t.Salt, Now: t.Now,
	}
}

// headersAfterUsers returns the header behind a user's message, which may be another one than behind a tool's; none where
// the template wants more than one message.
func headersAfterUsers(m *engine.Served, t *Turn) []header {
	other := t.like([]json.RawMessage{chatMessage("user", "x")})
	p, err := render(m, &other)
	if err != nil {
		return nil
	}
	_, h := answerHeader(m.Tokenizer.CutGuarded(p.text, tokenizer.EncodeOptions{}))
	return []header{h}
}

func tokenAt(parts *tokenizer.Parts, i int) int32 {
	_, id := parts.Part(i)
	return id
}

// compare tells whoever looks for the reason that a prompt leaves tokens which it was expected to begin with.
func (s *Store) compare(t *Turn, what string, ids []int32, f tokenizer.Followed) {
	if f.Tokens < len(ids) {
		s.opts.Logger.Debug("prompt leaves known tokens", slog.String("id", t.ID), slog.String("known", what),
			slog.Int("tokens", len(ids)), slog.Int("followed", f.Tokens), slog.Int("part", f.End.Part), slog.Int("token", int(ids[f.Tokens])))
	}
}

// promptError takes the field that an error of chat.ParsePrompt begins with, such as "messages[2].role", apart.
func promptError(err error) error {
	if field, reason, ok := strings.Cut(err.Error(), ": "); ok {
		return &InputError{field, errors.New(reason)}
	}
	return &InputError{"messages", err}
}

// beginsWithBOS reports whether a template wrote the begin-of-sequence token itself; a second one degrades output.
func beginsWithBOS(tok *tokenizer.Tokenizer, text string) bool {
	bos, ok := tok.BOS()
	if !ok {
		return true
	}
	name, _ := tok.Token(bos)
	return len(text) >= len(name) && text[:len(name)] == name
}

// infillPrompt asks for the text between prefix and suffix, in the order prefix, suffix, middle that the models with
// these tokens were trained on (arXiv 2207.14255).
func infillPrompt(tok *tokenizer.Tokenizer, prefix, suffix string) ([]int32, error) {
	fim, ok := tok.FIM()
	if !ok {
		return nil, &InputError{"suffix", errors.New("this model has no fill-in-the-middle tokens")}
	}
	var ids []int32
	if bos, ok := tok.BOS(); ok && tok.AddBOS() {
		ids = append(ids, bos)
	}
	ids = append(ids, fim.Prefix)
	ids = append(ids, tok.Encode(prefix, tokenizer.EncodeOptions{})...)
	ids = append(ids, fim.Suffix)
	ids = append(ids, tok.Encode(suffix, tokenizer.EncodeOptions{})...)
	return append(ids, fim.Middle), nil
}
