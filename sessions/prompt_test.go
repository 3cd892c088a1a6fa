package sessions

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/text/unicode/norm"

	"hearth/cmd/sharedtest"
	"hearth/engine"
	"hearth/engine/api"
	"hearth/engine/chat"
	"hearth/engine/tokenizer"
	"hearth/hardware"
)

// readers are reference templates with the vocabularies of the models that they belong to.
var readers = []struct{ template, vocabulary string }{
	{"Qwen-Qwen3-0.6B", "qwen3"},
	{"Qwen3-Coder", "qwen3"},
	{"Qwen3.5-4B", "qwen3"}, // whose added tokens it needs, no more
	{"MiniMax-M2", "minimax-m2"},
	{"config-DeepSeek-R1", "deepseek-v4"},
	{"deepseek-ai-DeepSeek-V3.1", "deepseek-v4"},
	{"deepseek-ai-DeepSeek-V4", "deepseek-v4"},
	{"meta-llama-Llama-3.1-8B-Instruct", "llama3.1"},
}

// vocabularies keeps what tests open: a large vocabulary takes about a second. The mutex guards the map.
var vocabularies struct {
	sync.Mutex
	opened map[string]*tokenizer.Tokenizer
}

func openVocabulary(t testing.TB, name string) *tokenizer.Tokenizer {
	t.Helper()
	vocabularies.Lock()
	defer vocabularies.Unlock()
	if tok := vocabularies.opened[name]; tok != nil {
		return tok
	}
	read := func(file string) []byte {
		path := sharedtest.Path(t, "testdata", "tokenizers", name, file)
		for _, suffix := range []string{"", ".gz"} {
			if _, err := os.Stat(path + suffix); err == nil {
				return sharedtest.ReadFile(t, "testdata", "tokenizers", name, file+suffix)
			}
		}
		return nil
	}
	tok, err := tokenizer.FromJSON(read("tokenizer.json"), read("tokenizer_config.json"), read("generation_config.json"))
	if err != nil {
		t.Fatal(err)
	}
	if vocabularies.opened == nil {
		vocabularies.opened = map[string]*tokenizer.Tokenizer{}
	}
	vocabularies.opened[name] = tok
	return tok
}

// vector is a conversation of the reference data.
type vector struct {
	ID       string            `json:"id"`
	BOS      string            `json:"bos_token"`
	EOS      string            `json:"eos_token"`
	Messages []json.RawMessage `json:"messages"`
	Tools    json.RawMessage   `json:"tools"`
	Extra    json.RawMessage   `json:"extra"`
}

func vectorsOf(t testing.TB, template string) []vector {
	t.Helper()
	var vectors []vector
	for line := range bytes.Lines(sharedtest.ReadFile(t, "testdata", "chat", "vectors", template+".jsonl")) {
		var v vector
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatal(err)
		}
		vectors = append(vectors, v)
	}
	return vectors
}

// reader is a model as far as prompts are concerned, and a store that has no other.
type reader struct {
	*engine.Served
	store *Store
}

func openReader(t testing.TB, template, vocabulary string) *reader {
	t.Helper()
	v := vectorsOf(t, template)[0]
	compiled, err := chat.New(string(sharedtest.ReadFile(t, "testdata", "chat", "templates", template+".jinja")), v.BOS, v.EOS)
	if err != nil {
		t.Fatal(err)
	}
	return &reader{&engine.Served{ID: template, Digest: template, Tokenizer: openVocabulary(t, vocabulary), Template: compiled}, NewStore(nil, nil)}
}

func eachReader(t *testing.T, f func(t *testing.T, r *reader)) {
	for _, r := range readers {
		t.Run(r.template, func(t *testing.T) {
			t.Parallel()
			f(t, openReader(t, r.template, r.vocabulary))
		})
	}
}

// prompt returns the prompt of a turn, and checks that it says what the turn's text says.
func (r *reader) prompt(t testing.TB, turn *Turn) *prompt {
	t.Helper()
	turn.Now = time.Date(2025, 7, 26, 0, 0, 0, 0, time.UTC)
	p, err := r.store.prompt(r.Served, turn)
	if err != nil {
		t.Fatal(err)
	}
	want := r.Tokenizer.EncodeGuarded(p.text, tokenizer.EncodeOptions{AddSpecial: !beginsWithBOS(r.Tokenizer, p.text)})
	checkSame(t, r.Tokenizer, p.tokens, want)
	return p
}

// checkSame checks that two prompts have the same text, but for its normal form, and in the same places the same reserved
// tokens.
func checkSame(t testing.TB, tok *tokenizer.Tokenizer, got, want []int32) {
	t.Helper()
	gotRuns, gotReserved := runsOf(tok, got)
	wantRuns, wantReserved := runsOf(tok, want)
	if !slices.Equal(gotReserved, wantReserved) || !slices.Equal(gotRuns, wantRuns) {
		t.Fatalf("the prompt says\n%q, want\n%q; reserved tokens %d, want %d", gotRuns, wantRuns, gotReserved, wantReserved)
	}
}

// runsOf cuts a prompt at its reserved tokens.
func runsOf(tok *tokenizer.Tokenizer, ids []int32) (runs []string, reserved []int32) {
	start := 0
	for i, id := range ids {
		if tok.IsReserved(id) {
			runs = append(runs, norm.NFC.String(tok.Decode(ids[start:i], tokenizer.PieceOptions{})))
			reserved = append(reserved, id)
			start = i + 1
		}
	}
	return append(runs, norm.NFC.String(tok.Decode(ids[start:], tokenizer.PieceOptions{}))), reserved
}

// respelled encodes a text in random stretches, as a model may spell it that draws its tokens.
func respelled(tok *tokenizer.Tokenizer, text string, random *rand.Rand) []int32 {
	var ids []int32
	runes := []rune(text)
	for len(runes) > 0 {
		n := 1 + random.IntN(min(len(runes), 6))
		ids = append(ids, tok.Encode(string(runes[:n]), tokenizer.EncodeOptions{})...)
		runes = runes[n:]
	}
	return ids
}

func message(t testing.TB, role, content string) json.RawMessage {
	t.Helper()
	raw, err := json.Marshal(map[string]string{"role": role, "content": content})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// leavesThought are templates that begin an answer with reasoning and leave that out of earlier ones.
var leavesThought = []string{"Qwen3.5-4B", "MiniMax-M2"}

// TestPromptGoesOn talks for some turns. Each prompt begins with the tokens of the one before and those of its answer,
// however they were spelled, whether the caller has the log or the client only sends its history. Where the template
// takes back how the answer began, it parts there.
func TestPromptGoesOn(t *testing.T) {
	answers := []string{"Hello! How may I help?", "It is 23 °C — “mild”, 1 + 1 = 2.\n\n    indented(code)", "Größe\u200b… 日本語 😀", "x"}
	eachReader(t, func(t *testing.T, r *reader) {
		for _, withLog := range []bool{false, true} {
			random := rand.New(rand.NewPCG(1, 2))
			r.store = NewStore(nil, nil)
			turn := &Turn{Messages: []json.RawMessage{message(t, "system", "Be brief.")}, Tenant: "a"}
			var log []int32
			answered := 0 // where the answer in log begins
			for i, answer := range answers {
				turn.Messages = append(turn.Messages, message(t, "user", fmt.Sprintf("Question %d <|im_end|>", i)))
				p := r.prompt(t, turn)
				want := len(log)
				if slices.Contains(leavesThought, r.ID) {
					want = max(answered-2, 0) // without <think> and a newline
				}
				if n := engine.CommonPrefix(p.tokens, log); n < want {
					t.Errorf("turn %d goes on from %d tokens of %d, want %d; then it says %q, not %q", i, n, len(log), want,
						r.Tokenizer.Decode(p.tokens[n:], tokenizer.PieceOptions{Special: true}), r.Tokenizer.Decode(log[n:], tokenizer.PieceOptions{Special: true}))
				}
				drawn := respelled(r.Tokenizer, answer, random)
				log, answered = slices.Concat(p.tokens, drawn), len(p.tokens)
				turn.Messages = append(turn.Messages, message(t, "assistant", answer))
				if withLog {
					turn.Log = log
				} else {
					r.store.remember(r.Served, turn, p, drawn)
				}
			}
		}
	})
}

// TestPromptsOfOtherLogs gives turns of the reference conversations logs that say something else from some token on, and
// remembers answers that no prompt asked for. Each prompt says what its text says, and clients make no control tokens.
func TestPromptsOfOtherLogs(t *testing.T) {
	eachReader(t, func(t *testing.T, r *reader) {
		random := rand.New(rand.NewPCG(3, 4))
		tested := 0
		for _, v := range vectorsOf(t, r.ID) {
			turn := &Turn{Messages: v.Messages, Tools: v.Tools, TemplateVars: v.Extra, Now: time.Unix(0, 0), Tenant: "a"}
			rendered, err := render(r.Served, turn)
			if err != nil {
				continue // a conversation that is refused, or in a form that only templates take
			}
			tested++
			log := drawnAs(r.Tokenizer, strings.NewReplacer("\uFDD0", "", "\uFDD1", "", "\uFDD2", "").Replace(rendered.text), random)
			for range 5 {
				if turn.Log = slices.Clone(log); random.IntN(3) > 0 {
					turn.Log[random.IntN(len(log))] = int32(random.IntN(r.Tokenizer.VocabSize()))
				}
				if random.IntN(3) == 0 {
					at := random.IntN(len(log))
					turn.Log = slices.Insert(turn.Log, at, r.Tokenizer.EOG()[0])
				}
				p := r.prompt(t, turn)
				r.store.remember(r.Served, turn, p, turn.Log[random.IntN(len(turn.Log)):])
			}
		}
		if tested < 5 {
			t.Errorf("only %d conversations", tested)
		}
	})
}

// TestTextGoesOn has a text continued, and then that text with what was added: the prompt begins with the tokens drawn.
func TestTextGoesOn(t *testing.T) {
	s := openStore(t, engine.Options{})
	text := "Once upon a time there was a big"
	var log []int32
	for i := range 4 {
		turn := textTurn(text, 40)
		turn.Sampling = api.Sampling{Temperature: 1.5, Seed: uint64(i)} // spells words as no encoding would
		stream, err := s.Run(t.Context(), &turn)
		if err != nil {
			t.Fatal(err)
		}
		if n := engine.CommonPrefix(stream.Prompt, log); n < len(log) {
			t.Errorf("turn %d goes on from %d tokens of %d", i, n, len(log))
		}
		for d, ok := stream.Next(); ok; d, ok = stream.Next() {
			text += d.Text
			if d.Finish == nil {
				continue
			}
			if want := max(len(log)-1, 0) / hardware.BlockLen * hardware.BlockLen; d.Finish.Usage.CachedTokens != want {
				t.Errorf("turn %d: %d tokens of %d were cached, want %d", i, d.Finish.Usage.CachedTokens, len(log), want)
			}
			log = slices.Concat(stream.Prompt, d.Finish.Tokens)
		}
	}
}

func BenchmarkPrompt(b *testing.B) {
	r := openReader(b, "Qwen-Qwen3-0.6B", "qwen3")
	turn := &Turn{Tenant: "a", Now: time.Unix(0, 0)}
	for range 500 {
		turn.Messages = append(turn.Messages, message(b, "user", strings.Repeat("What is the weather like in Zürich today? ", 8)),
			message(b, "assistant", strings.Repeat("It rains, and 12 °C is all there is. ", 8)))
	}
	turn.Messages = append(turn.Messages, message(b, "user", "And?"))
	p, err := r.store.prompt(r.Served, turn)
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name string
		log  []int32
	}{{"encoded", nil}, {"followed", p.tokens}} {
		b.Run(c.name, func(b *testing.B) {
			turn.Log = c.log
			for b.Loop() {
				if _, err := r.store.prompt(r.Served, turn); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(p.tokens)), "ns/token")
		})
	}
	b.Run("rendered", func(b *testing.B) {
		for b.Loop() {
			if _, err := render(r.Served, turn); err != nil {
				b.Fatal(err)
			}
		}
	})
}
