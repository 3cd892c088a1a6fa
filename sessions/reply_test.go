package sessions

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"hearth/engine"
	"hearth/engine/api"
	"hearth/engine/chat"
	"hearth/engine/embedded"
	"hearth/engine/tokenizer"
)

// replyTemplate is a template of a model that thinks and calls tools.
const replyTemplate = `{% if tools %}{% for t in tools %}{{ t | tojson }}{% endfor %}{% endif %}{% for m in messages %}<{{ m.role }}>{% if m.content %}{{ m.content.split('</think>')[-1] }}{% endif %}{% for c in m.tool_calls %}
<tool_call>
{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}
</tool_call>{% endfor %}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}`

// heard is what the deltas of a choice come to.
type heard struct {
	reasoning, text, calls string
	logged                 []byte // of the tokens with log-probabilities
	finish                 *Finish
}

// hear runs a choice of a chat over tokens, as an engine that draws all of them before it notices anything.
func hear(t *testing.T, tok *tokenizer.Tokenizer, turn *Turn, prompt string, tokens []int32) heard {
	t.Helper()
	template, err := chat.New(replyTemplate, "", "")
	if err != nil {
		t.Fatal(err)
	}
	tools, err := chat.ParseTools([]byte(`[{"function": {"name": "f", "parameters": {}}}]`))
	if err != nil {
		t.Fatal(err)
	}
	events := make(chan api.Event, len(tokens)+1)
	for i, token := range tokens {
		events <- api.Event{Token: token, Logprob: &api.Logprob{Token: token, Logprob: -float32(i)}}
	}
	events <- api.Event{Done: &api.Done{Reason: api.FinishStop, Usage: api.Usage{GeneratedTokens: len(tokens)}}}
	close(events)
	deltas := make(chan Delta, 4*len(tokens)+8)
	_, cancel := context.WithCancelCause(t.Context())
	ids := 0
	newID := func(prefix string) string { ids++; return fmt.Sprint(prefix, ids) }
	c := &choice{turn: turn, tok: tok, cancel: cancel, decoder: tok.NewStream(tokenizer.PieceOptions{}), template: template,
		reply: chat.ReplyOptions{Prompt: prompt, Tools: tools, NewID: newID}}
	c.run(events, deltas)
	close(deltas)
	var h heard
	for d := range deltas {
		h.reasoning += d.Reasoning
		h.text += d.Text
		for _, call := range d.Calls {
			if call.Name != "" {
				h.calls += fmt.Sprintf("%d %s %s", call.Index, call.ID, call.Name)
			}
			h.calls += call.Arguments
		}
		for _, p := range d.Tokens {
			h.logged = append(h.logged, p.Bytes...)
		}
		if h.finish != nil {
			t.Error("a delta follows the last")
		}
		h.finish = d.Finish
	}
	return h
}

// spellings encodes a text in several ways: byte by byte, and in random parts of it.
func spellings(tok *tokenizer.Tokenizer, text string) [][]int32 {
	bytes := func(part string) (ids []int32) {
		for i := range len(part) {
			ids = append(ids, 3+int32(part[i]))
		}
		return ids
	}
	all := [][]int32{bytes(text)}
	rng := rand.New(rand.NewPCG(1, 1))
	for range 20 {
		var tokens []int32
		for rest := text; rest != ""; {
			n := 1 + rng.IntN(min(len(rest), 20))
			part := rest[:n]
			rest = rest[n:]
			ids := tok.Encode(part, tokenizer.EncodeOptions{})
			for len(ids) > 0 && textOf(tok, ids) != part { // the tokenizer puts a space before a text
				ids = ids[1:]
			}
			if len(ids) == 0 {
				ids = bytes(part)
			}
			tokens = append(tokens, ids...)
		}
		all = append(all, tokens)
	}
	return all
}

// textOf is the text that tokens stand for within a text.
func textOf(tok *tokenizer.Tokenizer, ids []int32) string {
	var text []byte
	for _, id := range ids {
		text = tok.AppendPiece(text, id, tokenizer.PieceOptions{})
	}
	return string(text)
}

// TestReplies reads one answer in many spellings: the reasoning, the text, the calls and the log-probabilities of the
// visible text are always the same.
func TestReplies(t *testing.T) {
	tok := embeddedTokenizer(t)
	const answer = "<think>\nWhy < not?\n</think>\n\nSay 日本 < it.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": [1]}}\n</tool_call>\n<tool_call>\n{\"name\": \"g\", \"arguments\": {}}\n</tool_call>\nDone."
	for _, tokens := range spellings(tok, answer) {
		h := hear(t, tok, &Turn{}, "", tokens)
		if h.reasoning != "Why < not?" || h.text != "Say 日本 < it.\nDone." || h.calls != `0 call_1 f{"a": [1]}1 call_2 g{}` {
			t.Fatalf("%v: got %+v", tokens, h)
		}
		if !strings.Contains(string(h.logged), "Say 日本 < it.") || strings.Contains(string(h.logged), "not") || strings.Contains(string(h.logged), "name") {
			t.Errorf("%v: log-probabilities of %q", tokens, h.logged)
		}
		if h.finish.Calls != 2 || h.finish.Reason != api.FinishStop || !slices.Equal(h.finish.Tokens, tokens) {
			t.Errorf("%v: finish %+v", tokens, h.finish)
		}
		reasoning, length := 0, 0
		for _, token := range tokens {
			if length < strings.Index(answer, "\n\nSay") {
				reasoning++
			}
			length += len(tok.AppendPiece(nil, token, tokenizer.PieceOptions{}))
		}
		if h.finish.ReasoningTokens != reasoning {
			t.Errorf("%v: %d reasoning tokens, want %d", tokens, h.finish.ReasoningTokens, reasoning)
		}
	}
}

// TestStopsInReplies looks for stop strings in the visible text, and nowhere else.
func TestStopsInReplies(t *testing.T) {
	tok := embeddedTokenizer(t)
	for _, test := range []struct{ prompt, answer, stop, text, calls, cut string }{
		{"", "<think>stop</think>a stop b", "stop", "a ", "", "<think>stop</think>a stop"},
		{"<think>", "stop</think>a stop b", "stop", "a ", "", "stop</think>a stop"},
		{"", "a\n<tool_call>{\"name\": \"f\", \"arguments\": {\"s\": \"stop\"}}</tool_call>\nb stop c", "stop", "a\nb ", `0 call_1 f{"s": "stop"}`, ""},
		{"", "a st<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>op", "stop", "a stop", `0 call_1 f{}`, ""},
		{"", "a\n\nb", "\n", "a", "", "a\n"}, // white space that might be before a call
		{"", "a\n\n<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>", "\n\n", "a", `0 call_1 f{}`, ""},
		{"", "a\n", "\n", "a", "", "a\n"},
	} {
		for _, tokens := range spellings(tok, test.answer) {
			h := hear(t, tok, &Turn{Stop: []string{test.stop}}, test.prompt, tokens)
			if h.text != test.text || h.calls != test.calls {
				t.Fatalf("%q, %v: got %+v", test.answer, tokens, h)
			}
			length, want := 0, len(tokens) // the token that completes the stop string is the last
			for i, token := range tokens {
				if length += len(tok.AppendPiece(nil, token, tokenizer.PieceOptions{})); test.cut != "" && length >= len(test.cut) {
					want = i + 1
					break
				}
			}
			if n := len(h.finish.Tokens); test.cut != "" && (n != want || h.finish.Usage.GeneratedTokens != want || h.finish.StopString != test.stop) {
				t.Errorf("%q, %v: finish %+v, want %d tokens", test.answer, tokens, h.finish, want)
			}
		}
	}
}

// TestOneCall ends answers after their first call.
func TestOneCall(t *testing.T) {
	tok := embeddedTokenizer(t)
	const first = "a<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>"
	for _, tokens := range spellings(tok, first+"\n"+first) {
		h := hear(t, tok, &Turn{OneCall: true}, "", tokens)
		if h.text != "a" || h.calls != `0 call_1 f{}` || h.finish.Calls != 1 || h.finish.Reason != api.FinishStop {
			t.Fatalf("%v: got %+v", tokens, h)
		}
		if text := textOf(tok, h.finish.Tokens); !strings.HasPrefix(text, first) || len(text) > len(first)+4 {
			t.Errorf("%v: the log is %q", tokens, text)
		}
	}
}

// TestToolsWithoutPlace refuses tools that a template cannot show: nothing a request asks for is left out silently.
func TestToolsWithoutPlace(t *testing.T) {
	store := openStore(t, engine.Options{})
	_, err := store.PromptTokens(&Turn{Model: embedded.Name, Messages: []json.RawMessage{[]byte(`{"role": "user", "content": "x"}`)}, Tools: []byte(`[{"function": {"name": "f"}}]`)})
	if input, ok := err.(*InputError); !ok || input.Field != "tools" {
		t.Errorf("got %v, want a complaint about tools", err)
	}
}
