package sessions

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"hearth/engine"
	"hearth/engine/tokenizer"
)

const weatherTools = `[{"type": "function", "function": {"name": "get_weather", "description": "Weather of a city", "parameters":
	{"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}}}]`

// called are replies that call get_weather with these arguments, each spelled as no template would write it.
var called = map[string]string{
	"Qwen-Qwen3-0.6B": "<tool_call>{\"arguments\":{\"city\":\"Zürich\",\"days\":3},\"name\":\"get_weather\"}</tool_call>",
	"Qwen3-Coder":     "<tool_call>\n<function=get_weather>\n<parameter=days>\n3\n</parameter>\n<parameter=city>\nZürich\n</parameter>\n</function>\n\n</tool_call>",
	"Qwen3.5-4B":      "So.\n</think>\n\n<tool_call>\n\n<function=get_weather>\n<parameter=days>\n3\n</parameter>\n<parameter=city>\nZürich\n</parameter>\n</function>\n</tool_call>",
	"MiniMax-M2":      "So.\n</think>\n\n<minimax:tool_call>\n<invoke name=\"get_weather\">\n\n<parameter name=\"days\">3</parameter>\n<parameter name=\"city\">Zürich</parameter>\n</invoke>\n</minimax:tool_call>",
	"deepseek-ai-DeepSeek-V4": "<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"get_weather\">\n<｜DSML｜parameter name=\"days\" string=\"false\">3</｜DSML｜parameter>\n" +
		"<｜DSML｜parameter name=\"city\" string=\"true\">Zürich</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>",
	"meta-llama-Llama-3.1-8B-Instruct": "{\"name\":\"get_weather\",\"parameters\":{\"days\":3,\"city\":\"Zürich\"}}",
}

// drawnAs encodes a reply as a model may have drawn it: its control tokens as such.
func drawnAs(tok *tokenizer.Tokenizer, reply string, random *rand.Rand) []int32 {
	parts := tok.Cut(reply, tokenizer.EncodeOptions{ParseSpecial: true})
	var ids []int32
	for i := range parts.Len() {
		if text, id := parts.Part(i); id >= 0 {
			ids = append(ids, id)
		} else {
			ids = append(ids, respelled(tok, text, random)...)
		}
	}
	return ids
}

func callMessage(t testing.TB, arguments, reasoning string) json.RawMessage {
	t.Helper()
	m := map[string]any{"role": "assistant", "content": "", "tool_calls": []any{map[string]any{
		"id": "call_0001", "type": "function", "function": map[string]any{"name": "get_weather", "arguments": arguments},
	}}}
	if reasoning != "" {
		m["reasoning_content"] = reasoning
	}
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// asksForWeather is a turn with tools.
func asksForWeather(t testing.TB) *Turn {
	t.Helper()
	return &Turn{Tenant: "a", Tools: json.RawMessage(weatherTools), Messages: []json.RawMessage{message(t, "user", "How is the weather?")}}
}

// TestCallsAreRecalled has a model call a tool twice. The client sends the calls back in its own JSON, the template writes
// them in its own way, and the prompts go on from what the model drew.
func TestCallsAreRecalled(t *testing.T) {
	eachReader(t, func(t *testing.T, r *reader) {
		reply, ok := called[r.ID]
		if !ok {
			t.Skip("the template has no place for tools")
		}
		reasoning := ""
		if strings.HasPrefix(reply, "So.") {
			reasoning = "So."
		}
		for _, withLog := range []bool{false, true} {
			random := rand.New(rand.NewPCG(5, 6))
			r.store = NewStore(nil, nil)
			turn := asksForWeather(t)
			var log []int32
			for i := range 3 {
				p, err := r.store.prompt(r.Served, turn)
				if err != nil {
					t.Fatal(err)
				}
				if n := engine.CommonPrefix(p.tokens, log); n < len(log) {
					t.Fatalf("after %d calls, with log %t: the prompt goes on from %d tokens of %d; then it says %q, not %q", i, withLog, n, len(log),
						r.Tokenizer.Decode(p.tokens[n:], tokenizer.PieceOptions{Special: true}), r.Tokenizer.Decode(log[n:], tokenizer.PieceOptions{Special: true}))
				}
				encoded := r.Tokenizer.EncodeGuarded(p.text, tokenizer.EncodeOptions{AddSpecial: !beginsWithBOS(r.Tokenizer, p.text)})
				if got, want := reserved(r.Tokenizer, p.tokens), reserved(r.Tokenizer, encoded); !slices.Equal(got, want) {
					t.Fatalf("the reserved tokens are %d, want %d", got, want)
				}
				drawn := drawnAs(r.Tokenizer, reply, random)
				log = slices.Concat(p.tokens, drawn)
				if withLog {
					turn.Log = log
				} else {
					r.store.remember(r.Served, turn, p, drawn)
				}
				turn.Messages = append(turn.Messages, callMessage(t, ` { "city" : "Z\u00fcrich", "days": 3 }`, reasoning),
					json.RawMessage(fmt.Sprintf(`{"role":"tool","tool_call_id":"call_0001","content":"rain %d"}`, i)))
			}
		}
	})
}

// TestOtherCallsAreNot sends back what the model did not say: the prompt says it in the client's words.
func TestOtherCallsAreNot(t *testing.T) {
	r := openReader(t, "deepseek-ai-DeepSeek-V4", "deepseek-v4")
	random := rand.New(rand.NewPCG(7, 8))
	turn := asksForWeather(t)
	p := r.prompt(t, turn)
	drawn := drawnAs(r.Tokenizer, called[r.ID], random)
	r.store.remember(r.Served, turn, p, drawn)
	turn.Log = slices.Concat(p.tokens, drawn)
	result := json.RawMessage(`{"role":"tool","tool_call_id":"call_0001","content":"rain"}`)
	for name, said := range map[string]json.RawMessage{
		"other arguments":    callMessage(t, `{"city": "Zurich", "days": 3}`, ""),
		"another number":     callMessage(t, `{"city": "Zürich", "days": 3.0}`, ""),
		"the call as text":   message(t, "assistant", called[r.ID]),
		"no call":            message(t, "assistant", "It rains."),
		"words and the call": json.RawMessage(strings.Replace(string(callMessage(t, `{"city": "Zürich", "days": 3}`, "")), `"content":""`, `"content":"I look."`, 1)),
	} {
		next := *turn
		next.Messages = append(slices.Clone(turn.Messages), said)
		if !strings.Contains(name, "text") && name != "no call" {
			next.Messages = append(next.Messages, result)
		}
		next.Messages = append(next.Messages, message(t, "user", "And now?"))
		r.prompt(t, &next) // checks text and reserved tokens
		if t.Failed() {
			t.Fatal(name)
		}
	}
}

// TestSecondAnchor lets a model think and call tools until it answers. The next question makes the template leave out what
// was thought since the question before, and the prompt goes on from there. The one after it goes on from that prompt.
func TestSecondAnchor(t *testing.T) {
	for _, c := range readers {
		if c.template != "Qwen3.5-4B" && c.template != "MiniMax-M2" && c.template != "Qwen-Qwen3-0.6B" {
			continue
		}
		t.Run(c.template, func(t *testing.T) {
			t.Parallel()
			r := openReader(t, c.template, c.vocabulary)
			random := rand.New(rand.NewPCG(5, 6))
			thought := "So.\n</think>\n\n"
			if c.template == "Qwen-Qwen3-0.6B" {
				thought = "<think>\nSo.\n</think>\n\n"
			}
			reply := strings.TrimPrefix(called[r.ID], "So.\n</think>\n\n")
			turn := asksForWeather(t)
			turn.Messages = []json.RawMessage{message(t, "user", "Hello"), message(t, "assistant", "Hi."), turn.Messages[0]}
			var first, log []int32
			for range 3 {
				p, err := r.store.prompt(r.Served, turn)
				if err != nil {
					t.Fatal(err)
				}
				spelled := newSpelling(r.Tokenizer, r.Tokenizer.CutGuarded(p.text, tokenizer.EncodeOptions{}), p.tokens)
				spelled.offer(0, p.tokens)
				if got := spelled.lasting(r.Served, turn); got != len(first) {
					t.Errorf("the anchor is at %d, want %d", got, len(first))
				}
				if n := engine.CommonPrefix(p.tokens, log); n < len(log) {
					t.Fatalf("while it calls, the prompt goes on from %d tokens of %d: %q", n, len(log), r.Tokenizer.Decode(p.tokens[n:], tokenizer.PieceOptions{Special: true}))
				}
				if first == nil {
					first = p.tokens
				}
				drawn := drawnAs(r.Tokenizer, thought+reply, random)
				r.store.remember(r.Served, turn, p, drawn)
				log = slices.Concat(p.tokens, drawn)
				turn.Messages = append(turn.Messages, callMessage(t, `{"city": "Zürich", "days": 3}`, "So."),
					json.RawMessage(`{"role":"tool","tool_call_id":"call_0001","content":"rain"}`))
			}
			turn.Messages = append(turn.Messages, message(t, "assistant", "It rains."), message(t, "user", "And tomorrow?"))
			p, err := r.store.prompt(r.Served, turn)
			if err != nil {
				t.Fatal(err)
			}
			const margin = 4 // <think> and a newline, and what Qwen 3 writes in their place
			if n := engine.CommonPrefix(p.tokens, first); n < len(first)-margin {
				t.Errorf("the next question's prompt goes on from %d tokens of %d", n, len(first))
			}
			drawn := drawnAs(r.Tokenizer, thought+"It clears up.", random)
			r.store.remember(r.Served, turn, p, drawn)
			turn.Messages = append(turn.Messages, message(t, "assistant", "It clears up."), message(t, "user", "And then?"))
			again, err := r.store.prompt(r.Served, turn)
			if err != nil {
				t.Fatal(err)
			}
			if n := engine.CommonPrefix(again.tokens, p.tokens); n < len(p.tokens)-margin {
				t.Errorf("the prompt after that goes on from %d tokens of %d: %q", n, len(p.tokens), r.Tokenizer.Decode(again.tokens[n:], tokenizer.PieceOptions{Special: true}))
			}
		})
	}
}
