package sessions

import "hearth/engine/tokenizer"

// spelling chooses the tokens of a prompt from left to right: those that a model saw or drew, as far as they say what
// the prompt says, and the encoding of its text elsewhere.
//
//	parts     0 | 1 | 2 | 3 | 4 …
//	tokens    from starts[i] on, those of part i and what follows; up to end
type spelling struct {
	parts  *tokenizer.Parts
	tokens []int32
	starts []int              // of parts [0, end.Part], the number of tokens before each
	end    tokenizer.Position // up to here the text is spelled
}

func newSpelling(parts *tokenizer.Parts) *spelling {
	return &spelling{parts: parts, starts: []int{0}}
}

// offer spells the text from a part on with ids, where that brings the end further than it is. The part is not behind
// the end.
func (s *spelling) offer(part int, ids []int32) tokenizer.Followed {
	f := s.parts.Follow(ids, part)
	if !s.end.Before(f.End) {
		return f
	}
	start := s.starts[part]
	s.tokens = append(s.tokens[:start], ids[:f.Tokens]...)
	s.starts = s.starts[:part+1]
	for _, n := range f.Parts {
		s.starts = append(s.starts, start+n)
	}
	s.end = f.End
	return f
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
