package sessions

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"

	"hearth/engine"
	"hearth/engine/chat"
	"hearth/engine/tokenizer"
)

// A template writes a tool call in its own way, from what the client sent back: with other white space, another order of
// arguments, other escapes than the model. An answer with calls is therefore recalled by what it says. Where the text of
// a prompt, read as a reply, has the same calls, words and reasoning as an answer that was drawn after the same beginning,
// the prompt has the answer's tokens in the place of the text.
//
// The reserved tokens of both are the same, in the same order: so no text from a client becomes a control token, even if
// it looks like an answer.

// recall spells a prompt's text from a part on with an answer that says the same in other words, where it does. ids are
// the answer's tokens, behind those of the prompt's tail; tail is their text.
func (s *spelling) recall(m *engine.Served, p *prompt, part int, ids []int32, tail string) {
	end, ok := s.answerEnd(part)
	to := s.parts.Start(end)
	if !ok || p.tools == nil || s.starts[part] < 0 || !s.end.Before(to) {
		return
	}
	first, _ := s.parts.Part(part)
	if !strings.HasPrefix(first, tail) || !slices.Equal(reserved(s.tok, ids), s.reserved(part, end)) {
		return
	}
	drawn, ok := strings.CutPrefix(s.tok.Decode(ids, tokenizer.PieceOptions{Special: true}), tail)
	if !ok {
		return
	}
	before := s.parts.Text(max(part-1, 0), part) + tail
	if !readReply(m, p, before, s.parts.Text(part, end)[len(tail):]).says(readReply(m, p, before, drawn)) {
		return
	}
	s.replace(part, ids, to)
	for range end - part - 1 {
		s.starts = append(s.starts, -1)
	}
	s.starts = append(s.starts, len(s.tokens))
}

// recallLogged does so with an answer that the log has after the same text, where the text before the part is a header.
func (s *spelling) recallLogged(m *engine.Served, p *prompt, part int, log []int32) {
	if end, ok := s.answerEnd(part); !ok || p.tools == nil || part == 0 || !s.end.Before(s.parts.Start(end)) {
		return // looking at headers costs more
	}
	for _, h := range s.headers() {
		if h.token >= 0 && h.token == tokenAt(s.parts, part-1) {
			s.recall(m, p, part, firstAnswer(s.tok, log), h.tail)
		}
	}
}

// firstAnswer returns the ids before the first that ends an answer.
func firstAnswer(tok *tokenizer.Tokenizer, ids []int32) []int32 {
	for i, id := range ids {
		if slices.Contains(tok.EOG(), id) {
			return ids[:i]
		}
	}
	return ids
}

// reserved lists the reserved tokens of ids.
func reserved(tok *tokenizer.Tokenizer, ids []int32) []int32 {
	return slices.DeleteFunc(slices.Clone(ids), func(id int32) bool { return !tok.IsReserved(id) })
}

// reserved lists the reserved tokens of a prompt's text between two parts.
func (s *spelling) reserved(from, to int) []int32 {
	var ids []int32
	for i := from; i < to; i++ {
		if _, id := s.parts.Part(i); id >= 0 && s.tok.IsReserved(id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// replyContent is what a reply says.
type replyContent struct {
	reasoning, text string
	calls           []replyCall
}

type replyCall struct{ name, arguments string }

// readReply reads a reply to a prompt that ends with before.
func readReply(m *engine.Served, p *prompt, before, reply string) *replyContent {
	content := &replyContent{}
	parser := m.Template.NewParser(chat.ReplyOptions{Prompt: before, Tools: p.tools, NewID: func(prefix string) string { return prefix }})
	if parser == nil {
		content.text = reply
		return content
	}
	defer parser.Close()
	content.add(parser.Push(reply))
	content.add(parser.Finish(true))
	return content
}

func (c *replyContent) add(pieces []chat.Piece) {
	for _, piece := range pieces {
		switch piece.Kind {
		case chat.Text:
			c.text += piece.Text
		case chat.Reasoning:
			c.reasoning += piece.Text
		case chat.CallBegin:
			c.calls = append(c.calls, replyCall{name: piece.Text})
		case chat.CallArguments:
			c.calls[len(c.calls)-1].arguments += piece.Text
		}
	}
}

// says reports whether two replies make the same calls, at least one, and say and think the same beside them.
func (c *replyContent) says(other *replyContent) bool {
	return len(c.calls) > 0 && strings.TrimSpace(c.text) == strings.TrimSpace(other.text) &&
		strings.TrimSpace(c.reasoning) == strings.TrimSpace(other.reasoning) &&
		slices.EqualFunc(c.calls, other.calls, func(a, b replyCall) bool {
			return a.name == b.name && plainJSON(a.arguments) == plainJSON(b.arguments)
		})
}

// plainJSON writes JSON in one way: without white space, keys in order. Numbers stay as they are written, and so does
// what is no JSON.
func plainJSON(text string) string {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil || d.More() {
		return text
	}
	var plain bytes.Buffer
	e := json.NewEncoder(&plain)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return text
	}
	return plain.String()
}
