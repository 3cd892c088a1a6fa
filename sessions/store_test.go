package sessions

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hearth/cmd/sharedtest"
	"hearth/engine"
	"hearth/engine/api"
	"hearth/engine/embedded"
	"hearth/engine/tokenizer"
	"hearth/engine/weights"
	"hearth/hardware"
	"hearth/hardware/cpu"
	"hearth/hardware/devicetest"
)

// openStore serves the embedded model; it is closed at the end of the test.
func openStore(t testing.TB, opts engine.Options) *Store {
	t.Helper()
	device, err := cpu.Open(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	return openStoreOn(t, device, opts)
}

// openStoreOn is openStore on a device, which it closes.
func openStoreOn(t testing.TB, device hardware.Device, opts engine.Options) *Store {
	t.Helper()
	opts.Device, opts.Logger = device, slog.New(slog.DiscardHandler)
	catalog := engine.NewCatalog()
	t.Cleanup(func() {
		if err := errors.Join(catalog.Close(), device.Close()); err != nil {
			t.Error(err)
		}
	})
	if _, err := catalog.Load(t.Context(), "", "", opts); err != nil {
		t.Fatal(err)
	}
	return NewStore(catalog, nil)
}

// stepTime is how long a step takes in a bubble.
const stepTime = time.Millisecond

// inBubble runs a test in a bubble of synctest, with a store of the embedded model on a device that is paced by the bubble's
// clock, and with a database in memory.
func inBubble(t *testing.T, opts engine.Options, test func(t *testing.T, s *Store)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		device, err := cpu.Open(cpu.Options{Threads: 1})
		if err != nil {
			t.Fatal(err)
		}
		test(t, withDatabase(t, openStoreOn(t, devicetest.Paced{Device: device, Step: stepTime}, opts)))
	})
}

// textTurn asks the embedded model to continue a text.
func textTurn(text string, maxTokens int) Turn {
	return Turn{Model: embedded.Name, Text: &text, MaxTokens: maxTokens, Logprobs: -1}
}

// reply is what one choice came to.
type reply struct {
	text   string
	tokens []TokenLogprob
	finish *Finish
}

// run reads a turn to its end.
func run(t testing.TB, s *Store, turn Turn) []reply {
	t.Helper()
	stream, err := s.Run(t.Context(), &turn)
	if err != nil {
		t.Fatalf("Run: %v", err)
	}
	defer stream.Close()
	replies := make([]reply, max(turn.Choices, 1))
	for d, ok := stream.Next(); ok; d, ok = stream.Next() {
		r := &replies[d.Choice]
		if r.finish != nil {
			t.Errorf("choice %d: a delta after its last: %+v", d.Choice, d)
		}
		r.text += d.Text
		r.tokens = append(r.tokens, d.Tokens...)
		r.finish = d.Finish
	}
	for i, r := range replies {
		if r.finish == nil || r.finish.Err != nil {
			t.Fatalf("choice %d ended with %+v", i, r.finish)
		}
	}
	return replies
}

// TestStoriesGolden wants the reference's texts for its prompts.
func TestStoriesGolden(t *testing.T) {
	s := openStore(t, engine.Options{})
	for line := range bytes.Lines(sharedtest.ReadFile(t, "testdata", "models", "stories260K", "expected_greedy.jsonl")) {
		var want struct {
			Prompt, Text string
			NPredict     int `json:"n_predict"`
		}
		if err := json.Unmarshal(line, &want); err != nil {
			t.Fatal(err)
		}
		turn := textTurn(want.Prompt, want.NPredict)
		turn.IgnoreEOS = true
		if got := run(t, s, turn)[0]; got.text != want.Text || got.finish.Reason != api.FinishLength {
			t.Errorf("%q:\n%q, %s, want\n%q", want.Prompt, got.text, got.finish.Reason, want.Text)
		}
	}
}

func TestStoryEnds(t *testing.T) {
	s := openStore(t, engine.Options{})
	got := run(t, s, textTurn("Once upon a time", 0))[0]
	if got.finish.Reason != api.FinishStop || got.finish.StopString != "" || !strings.HasSuffix(got.text, "You are a good friend.\"") {
		t.Errorf("the story ends with %+v: %q", got.finish, got.text)
	}
}

func TestChoicesDrawWithNeighbouringSeeds(t *testing.T) {
	s := openStore(t, engine.Options{})
	turn := textTurn("The little dog", 40)
	turn.Sampling = api.Sampling{Temperature: 1, Seed: 77}
	turn.Choices = 4
	got := run(t, s, turn)
	texts := map[string]bool{}
	for i, r := range got {
		alone := turn
		alone.Choices, alone.Sampling.Seed = 1, 77+uint64(i)
		if want := run(t, s, alone)[0]; r.text != want.text {
			t.Errorf("choice %d is %q, alone with its seed it is %q", i, r.text, want.text)
		}
		if want := len(embeddedTokenizer(t).Encode("The little dog", tokenizer.EncodeOptions{AddSpecial: true})); r.finish.Usage.PromptTokens != want {
			t.Errorf("choice %d: usage %+v, want %d prompt tokens", i, r.finish.Usage, want)
		}
		texts[r.text] = true
	}
	if len(texts) != 4 {
		t.Errorf("only %d different texts", len(texts))
	}
}

func TestStopString(t *testing.T) {
	s := openStore(t, engine.Options{})
	whole := run(t, s, textTurn("The little dog", 60))[0]
	for _, stop := range []string{whole.text[30:33], whole.text[10:24], " was ", "."} {
		turn := textTurn("The little dog", 60)
		turn.Stop = []string{"not in it", stop}
		got := run(t, s, turn)[0]
		want, _, _ := strings.Cut(whole.text, stop)
		if got.text != want || got.finish.Reason != api.FinishStop || got.finish.StopString != stop {
			t.Errorf("stop %q: %q, %+v, want %q", stop, got.text, got.finish, want)
		}
		tokens := whole.finish.Usage.GeneratedTokens
		if n := got.finish.Usage.GeneratedTokens; n == 0 || n >= tokens {
			t.Errorf("stop %q: %d tokens counted, without it there are %d", stop, n, tokens)
		}
	}
}

func TestEchoAndLogprobs(t *testing.T) {
	s := openStore(t, engine.Options{})
	prompt := "The little dog was"
	turn := textTurn(prompt, 12)
	turn.Echo, turn.Logprobs = true, 2
	got := run(t, s, turn)[0]
	plain := run(t, s, textTurn(prompt, 12))[0]
	if got.text != prompt+plain.text {
		t.Errorf("echoed %q, want %q and %q", got.text, prompt, plain.text)
	}
	ids := embeddedTokenizer(t).Encode(prompt, tokenizer.EncodeOptions{AddSpecial: true})
	if len(got.tokens) != len(ids)+12 {
		t.Fatalf("%d log-probabilities of %d prompt tokens and 12 more", len(got.tokens), len(ids))
	}
	var text []byte
	for i, p := range got.tokens {
		if i < len(ids) && p.Token != ids[i] {
			t.Errorf("token %d is %d, want %d", i, p.Token, ids[i])
		}
		if known := i > 0; p.Known != known || (len(p.Top) == 2) != known {
			t.Errorf("token %d: %+v", i, p)
		}
		if p.Known && (p.Logprob > 0 || p.Top[0].Logprob < p.Top[1].Logprob || p.Top[0].Logprob < p.Logprob) {
			t.Errorf("token %d: log-probabilities %+v", i, p)
		}
		if i >= len(ids) && p.Top[0].Token != p.Token {
			t.Errorf("token %d is not the most probable one: %+v", i, p)
		}
		text = append(text, p.Bytes...)
	}
	if string(text) != "<s> "+got.text {
		t.Errorf("the tokens' bytes are %q, the text %q", text, got.text)
	}

	turn.NoOutput = true
	scored := run(t, s, turn)[0]
	if scored.text != prompt || scored.finish.Usage.GeneratedTokens != 0 || scored.finish.Reason != api.FinishLength {
		t.Errorf("without output: %q, %+v", scored.text, scored.finish)
	}
	same := func(a, b TokenLogprob) bool { return a.Token == b.Token && a.Logprob == b.Logprob }
	if !slices.EqualFunc(scored.tokens, got.tokens[:len(ids)], same) {
		t.Errorf("scores %+v differ from those with output %+v", scored.tokens, got.tokens[:len(ids)])
	}
	sum := 0.0
	for _, p := range scored.tokens {
		sum += float64(p.Logprob)
	}
	if math.IsNaN(sum) || sum >= 0 {
		t.Errorf("the prompt's log-probability is %v", sum)
	}
}

func TestTokenPrompt(t *testing.T) {
	s := openStore(t, engine.Options{})
	ids, err := s.Tokenize(embedded.Name, "Once upon a time", EncodeOptions{AddSpecial: true})
	if err != nil {
		t.Fatal(err)
	}
	turn := Turn{Model: embedded.Name, Tokens: ids, MaxTokens: 20, Logprobs: -1, Echo: true}
	got, want := run(t, s, turn)[0], run(t, s, textTurn("Once upon a time", 20))[0]
	if got.text != "<s>Once upon a time"+want.text {
		t.Errorf("%q, want %q echoed in front", got.text, want.text)
	}
	turn.Tokens = []int32{1, 512}
	var field *api.FieldError
	if _, err := s.Run(t.Context(), &turn); !errors.As(err, &field) || field.Field != "prompt" {
		t.Errorf("a token beyond the vocabulary: %v", err)
	}
}

func TestChatWithoutTemplate(t *testing.T) {
	s := openStore(t, engine.Options{})
	turn := Turn{Model: embedded.Name, MaxTokens: 5, Logprobs: -1, Messages: []json.RawMessage{
		json.RawMessage(`{"role": "system", "content": "Tell a story."}`),
		json.RawMessage(`{"role": "user", "content": "The <s> dog"}`),
	}}
	got, err := s.PromptTokens(&turn)
	if err != nil {
		t.Fatal(err)
	}
	want, err := s.Tokenize(embedded.Name, "Tell a story.\nThe <s> dog", EncodeOptions{AddSpecial: true})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, want) || slices.Contains(got[1:], 1) {
		t.Errorf("prompt %v, want %v: the text of a special token stays text", got, want)
	}
	run(t, s, turn)
}

func TestInputErrors(t *testing.T) {
	s := openStore(t, engine.Options{})
	text := "x"
	message := func(m string) []json.RawMessage {
		return []json.RawMessage{json.RawMessage(`{"role": "user", "content": "hi"}`), json.RawMessage(m)}
	}
	for _, test := range []struct {
		field string
		turn  Turn
	}{
		{"suffix", Turn{Text: &text, Suffix: "y"}},
		{"stop", Turn{Text: &text, Stop: []string{"a", ""}}},
		{"messages", Turn{}},
		{"messages[1].role", Turn{Messages: message(`{"role": "alien", "content": "x"}`)}},
		{"messages[1].content", Turn{Messages: message(`{"role": "user", "content": 7}`)}},
	} {
		test.turn.Model = embedded.Name
		_, err := s.Run(t.Context(), &test.turn)
		var input *InputError
		if !errors.As(err, &input) || input.Field != test.field || !strings.HasPrefix(err.Error(), test.field+": ") {
			t.Errorf("%+v: %v, want an error of %s", test.turn, err, test.field)
		}
	}
	turn := Turn{Model: "nobody", Text: &text}
	if _, err := s.Run(t.Context(), &turn); !errors.Is(err, ErrUnknownModel) || !strings.Contains(err.Error(), `"nobody"`) {
		t.Errorf("unknown model: %v", err)
	}
	turn = textTurn("Once", 100_000)
	if _, err := s.Run(t.Context(), &turn); !errors.Is(err, api.ErrTooLong) {
		t.Errorf("too long: %v", err)
	}
}

// TestNothingIsLeftBehind ends turns in all ways, and wants no sequence and no block in use afterwards.
func TestNothingIsLeftBehind(t *testing.T) {
	opts := engine.Options{MaxSequences: 2, MaxWaiting: 2}
	long := textTurn("Once upon a time", 450)
	long.IgnoreEOS, long.Choices, long.Logprobs = true, 4, 0
	for name, end := range map[string]func(t *testing.T, stream *Stream, cancel context.CancelFunc){
		"Close at once":       func(_ *testing.T, stream *Stream, _ context.CancelFunc) { stream.Close() },
		"Close while reading": func(_ *testing.T, stream *Stream, _ context.CancelFunc) { stream.Next(); stream.Next(); stream.Close() },
		"cancelled context": func(t *testing.T, stream *Stream, cancel context.CancelFunc) {
			stream.Next()
			cancel()
			reasons := map[api.FinishReason]int{}
			for d, ok := stream.Next(); ok; d, ok = stream.Next() {
				if d.Finish != nil {
					reasons[d.Finish.Reason]++
				}
			}
			if reasons[api.FinishCancelled] != 4 {
				t.Errorf("reasons %v, want all four cancelled", reasons)
			}
		},
		"cancelled and closed": func(_ *testing.T, stream *Stream, cancel context.CancelFunc) {
			cancel()
			stream.Close()
			stream.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, opts, func(t *testing.T, s *Store) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				stream, err := s.Run(ctx, &long)
				if err != nil {
					t.Fatal(err)
				}
				end(t, stream, cancel)
				if _, ok := stream.Next(); ok {
					t.Error("a delta after the end")
				}
				if got := s.Stats()[embedded.Name]; got.Running != 0 || got.Waiting != 0 || got.BlocksUsed != 0 {
					t.Errorf("Stats = %+v, want nothing in use", got)
				}
			})
		})
	}
}

// TestOneChoiceTooMany wants nothing to be left of the choices of a turn that was refused.
func TestOneChoiceTooMany(t *testing.T) {
	inBubble(t, engine.Options{MaxSequences: 2, MaxWaiting: 2}, func(t *testing.T, s *Store) {
		turn := textTurn("Once upon a time", 3)
		turn.Choices = 5
		if _, err := s.Run(t.Context(), &turn); !errors.Is(err, api.ErrBusy) {
			t.Errorf("five choices of four: %v, want ErrBusy", err)
		}
		turn.Choices = 4
		run(t, s, turn)
	})
}

func TestTokenizeAndBack(t *testing.T) {
	s := openStore(t, engine.Options{})
	for _, text := range []string{"Once upon a time", " two  spaces ", "日本 🙂\n", ""} {
		ids, err := s.Tokenize(embedded.Name, text, EncodeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if back, err := s.Detokenize(embedded.Name, ids); err != nil || back != text {
			t.Errorf("%q becomes %v, and back %q, %v", text, ids, back, err)
		}
	}
	var input *InputError
	if _, err := s.Detokenize(embedded.Name, []int32{5, 512}); !errors.As(err, &input) || input.Field != "tokens" {
		t.Errorf("a token beyond the vocabulary: %v", err)
	}
	for _, err := range []error{
		func() error { _, err := s.Tokenize("nobody", "", EncodeOptions{}); return err }(),
		func() error { _, err := s.Detokenize("nobody", nil); return err }(),
		func() error { _, err := s.Model("nobody"); return err }(),
		func() error { _, err := s.PromptTokens(&Turn{Model: "nobody"}); return err }(),
	} {
		if !errors.Is(err, ErrUnknownModel) {
			t.Errorf("unknown model: %v", err)
		}
	}
}

func TestModels(t *testing.T) {
	s := openStore(t, engine.Options{ContextLength: 256})
	models := s.Models()
	if len(models) != 1 {
		t.Fatalf("models %+v", models)
	}
	m, err := s.Model(embedded.Name)
	if err != nil || m != models[0] {
		t.Errorf("Model = %+v, %v, want %+v", m, err, models[0])
	}
	if m.ID != embedded.Name || m.Architecture != "llama" || m.ContextLength != 256 || m.TrainedLength != 512 ||
		m.Quantization != "F32" || m.Parameters < 250_000 || m.Parameters > 300_000 || len(m.Digest) != 64 {
		t.Errorf("Model = %+v", m)
	}
	if loading, err := s.Loading(); len(loading) != 0 || err != nil {
		t.Errorf("Loading = %v, %v", loading, err)
	}
}

// TestInfillPrompt uses a vocabulary that has fill-in-the-middle tokens.
func TestInfillPrompt(t *testing.T) {
	src, err := weights.OpenBytes("vocab-qwen3.gguf", sharedtest.ReadFile(t, "testdata", "gguf-vocab", "vocab-qwen3.gguf.gz"))
	if err != nil {
		t.Fatal(err)
	}
	tok, err := engine.OpenTokenizer(src)
	if err != nil {
		t.Fatal(err)
	}
	ids, err := infillPrompt(tok, "def f(x):\n    return ", "\n\nprint(f(1))")
	if err != nil {
		t.Fatal(err)
	}
	want := "<|fim_prefix|>def f(x):\n    return <|fim_suffix|>\n\nprint(f(1))<|fim_middle|>"
	if got := tok.Decode(ids, tokenizer.PieceOptions{Special: true}); got != want {
		t.Errorf("prompt is %q, want %q", got, want)
	}
	if special := tok.Encode(want, tokenizer.EncodeOptions{ParseSpecial: true}); fmt.Sprint(special) != fmt.Sprint(ids) {
		t.Errorf("ids %v, want %v", ids, special)
	}
}
