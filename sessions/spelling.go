package sessions

import (
	"slices"

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
