package sessions

import (
	"encoding/json"
	"slices"

	"hearth/engine"
	"hearth/engine/tokenizer"
)

// spelling chooses the tokens of a prompt from left to right: those that a model saw or drew, as far as they say what
// the prompt says, and the encoding of its text elsewhere.
//
//	parts     0 | 1 | 2 | 3 | 4 …
//	tokens    from starts[i] on, those of part i and what follows; up to end
type spelling struct {
	tok    *tokenizer.Tokenizer
	parts  *tokenizer.Parts
	tokens []int32
	starts []int              // of parts [0, end.Part], the number of tokens before each; -1 where no token begins
	end    tokenizer.Position // up to here the text is spelled

	log     []int32         // the tokens of the turn before
	agreed  int             // the first so many of tokens are those of log
	headers func() []header // of the answers in log
}

func newSpelling(tok *tokenizer.Tokenizer, parts *tokenizer.Parts, log []int32) *spelling {
	return &spelling{tok: tok, parts: parts, starts: []int{0}, log: log}
}

// logged returns what the log goes on with behind the text before a part; nothing where the prompt has left the log.
func (s *spelling) logged(part int) []int32 {
	start := s.starts[part]
	if start < 0 || start > len(s.log) {
		return nil
	}
	for s.agreed < start && s.tokens[s.agreed] == s.log[s.agreed] {
		s.agreed++
	}
	if s.agreed < start {
		return nil
	}
	return s.log[start:]
}

// offer spells the text from a part on with ids, where that brings the end further than it is. The part is not behind
// the end.
func (s *spelling) offer(part int, ids []int32) tokenizer.Followed {
	if s.starts[part] < 0 {
		return tokenizer.Followed{}
	}
	f := s.parts.Follow(ids, part)
	if !s.end.Before(f.End) {
		return f
	}
	start := s.starts[part]
	s.replace(part, ids[:f.Tokens], f.End)
	for _, n := range f.Parts {
		s.starts = append(s.starts, start+n)
	}
	return f
}

// replace spells the text from a part up to end with ids.
func (s *spelling) replace(part int, ids []int32, end tokenizer.Position) {
	start := s.starts[part]
	s.tokens = append(s.tokens[:start], ids...)
	s.starts = s.starts[:part+1]
	s.agreed = min(s.agreed, start)
	s.end = end
}

// encode spells the text up to a part with its encoding.
func (s *spelling) encode(part int) {
	for s.end.Part < part {
		next := s.parts.Start(s.end.Part + 1)
		s.tokens = s.parts.Encode(s.tokens, s.end, next)
		s.starts = append(s.starts, len(s.tokens))
		s.end = next
	}
}

// answerEnd returns the first part from one on that ends an answer; false where none does.
func (s *spelling) answerEnd(part int) (int, bool) {
	for i := part; i < s.parts.Len(); i++ {
		if _, id := s.parts.Part(i); id >= 0 && slices.Contains(s.tok.EOG(), id) {
			return i, true
		}
	}
	return 0, false
}

// lasting returns how many tokens the prompt had that asked for the first answer to the user's last message, where this one
// begins like it: templates that leave out earlier reasoning make the prompt after the user's next message part from this
// one there. It is 0 where that is this prompt.
func (s *spelling) lasting(m *engine.Served, t *Turn) int {
	last := lastOfUser(t.Messages)
	if last < 0 || last == len(t.Messages)-1 {
		return 0
	}
	asked := t.like(t.Messages[:last+1])
	p, err := render(m, &asked)
	if err != nil {
		return 0
	}
	parts := m.Tokenizer.CutGuarded(p.text, tokenizer.EncodeOptions{AddSpecial: !beginsWithBOS(m.Tokenizer, p.text)})
	end, _ := answerHeader(parts)
	if end >= len(s.starts) || s.starts[end] < 0 {
		return 0
	}
	for i := range end {
		text, id := parts.Part(i)
		if own, ownID := s.parts.Part(i); own != text || ownID != id {
			return 0
		}
	}
	return s.starts[end] + len(parts.Encode(nil, parts.Start(end), parts.Start(parts.Len())))
}

// lastOfUser returns the index of the user's last message, -1 if there is none.
func lastOfUser(messages []json.RawMessage) int {
	for i, raw := range slices.Backward(messages) {
		var m struct {
			Role string `json:"role"`
		}
		if json.Unmarshal(raw, &m) == nil && m.Role == "user" {
			return i
		}
	}
	return -1
}
