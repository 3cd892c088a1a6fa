package sessions

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"hearth/engine"
	"hearth/engine/api"
	"hearth/engine/tokenizer"
)

func embeddedTokenizer(t testing.TB) *tokenizer.Tokenizer {
	t.Helper()
	src, err := engine.OpenSource("")
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	tok, err := engine.OpenTokenizer(src)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// play runs a choice over tokens as an engine would send them, and returns its deltas.
func play(tok *tokenizer.Tokenizer, turn *Turn, tokens []int32) []Delta {
	events := make(chan api.Event, len(tokens)+1)
	for i, token := range tokens {
		e := api.Event{Token: token}
		if turn.Logprobs >= 0 {
			e.Logprob = &api.Logprob{Token: token, Logprob: -float32(i)}
		}
		events <- e
	}
	events <- api.Event{Done: &api.Done{Reason: api.FinishLength, Usage: api.Usage{GeneratedTokens: len(tokens)}}}
	close(events)
	deltas := make(chan Delta, len(tokens)+2)
	_, cancel := context.WithCancelCause(context.Background())
	c := &choice{turn: turn, tok: tok, cancel: cancel, decoder: tok.NewStream(tokenizer.PieceOptions{})}
	c.run(events, deltas)
	close(deltas)
	var all []Delta
	for d := range deltas {
		all = append(all, d)
	}
	return all
}

// TestChoicePanics checks that a choice that panics still ends, with an error, once its sequence has ended.
func TestChoicePanics(t *testing.T) {
	events, deltas, cancelled := make(chan api.Event), make(chan Delta), make(chan struct{})
	cancel := sync.OnceFunc(func() { close(cancelled) })
	go (&choice{index: 3, turn: &Turn{}, cancel: func(error) { cancel() }}).run(events, deltas) // without a decoder
	events <- api.Event{Token: 1}
	select {
	case <-cancelled:
	case d := <-deltas:
		t.Fatalf("the sequence goes on after %+v", d)
	}
	select {
	case events <- api.Event{Done: &api.Done{Reason: api.FinishCancelled}}:
		close(events)
	case d := <-deltas:
		t.Fatalf("the sequence has not ended before %+v", d)
	}
	d := <-deltas
	if d.Choice != 3 || d.Finish == nil || d.Finish.Reason != api.FinishError || !errors.Is(d.Finish.Err, api.ErrInternal) {
		t.Errorf("the last delta is %+v, want an error of choice 3", d)
	}
}

// expected is what a choice must come to, found by looking at the whole text after each token.
type expected struct {
	text, stop string
	tokens     int // generated, the one that completed the stop string included
}

func expect(tok *tokenizer.Tokenizer, tokens []int32, stops []string) expected {
	stream, text := tok.NewStream(tokenizer.PieceOptions{}), ""
	for i := range len(tokens) + 1 {
		before := len(text)
		if i < len(tokens) {
			text += stream.Push(tokens[i])
		} else {
			text += stream.Flush()
		}
		for end := before; end <= len(text); end++ { // byte by byte: the first stop string that is complete
			longest := ""
			for _, stop := range stops {
				if strings.HasSuffix(text[:end], stop) && len(stop) > len(longest) {
					longest = stop
				}
			}
			if longest != "" {
				return expected{text[:end-len(longest)], longest, min(i+1, len(tokens))}
			}
		}
	}
	return expected{text, "", len(tokens)}
}

// TestStopStringsAcrossTokens compares what is streamed, piece by piece, with the whole text cut at the first stop
// string: for random tokens, single bytes of characters among them, and stop strings taken from the text.
func TestStopStringsAcrossTokens(t *testing.T) {
	tok := embeddedTokenizer(t)
	rng := rand.New(rand.NewPCG(1, 1))
	characters := [][]int32{tok.Encode("日", tokenizer.EncodeOptions{}), tok.Encode("é", tokenizer.EncodeOptions{}), tok.Encode("🙂", tokenizer.EncodeOptions{})}
	stopped := 0
	for round := range 3000 {
		var tokens []int32
		for range 1 + rng.IntN(30) {
			switch rng.IntN(6) {
			case 0: // a character of several tokens, sometimes cut short
				c := characters[rng.IntN(len(characters))]
				tokens = append(tokens, c[:len(c)-rng.IntN(2)*rng.IntN(2)]...)
			case 1:
				tokens = append(tokens, int32(3+rng.IntN(256))) // a byte
			default:
				tokens = append(tokens, int32(rng.IntN(tok.VocabSize())))
			}
		}
		turn := &Turn{Logprobs: rng.IntN(2) - 1}
		whole := expect(tok, tokens, nil).text
		for range rng.IntN(4) {
			if at := rng.IntN(len(whole) + 1); at < len(whole) && rng.IntN(4) > 0 {
				turn.Stop = append(turn.Stop, whole[at:min(len(whole), at+1+rng.IntN(6))])
			} else {
				turn.Stop = append(turn.Stop, []string{"zz", "e ", "\n\n", "the", "t", "日"}[rng.IntN(6)])
			}
		}
		want := expect(tok, tokens, turn.Stop)
		checkDeltas(t, tok, turn, tokens, want)
		if t.Failed() {
			t.Fatalf("round %d: tokens %v, text %q, stops %q, want %+v", round, tokens, whole, turn.Stop, want)
		}
		if want.stop != "" {
			stopped++
		}
	}
	if stopped < 500 {
		t.Errorf("only %d of 3000 texts were stopped", stopped)
	}
}

func checkDeltas(t *testing.T, tok *tokenizer.Tokenizer, turn *Turn, tokens []int32, want expected) {
	t.Helper()
	text, count := "", 0
	deltas := play(tok, turn, tokens)
	for i, d := range deltas {
		text += d.Text
		stopIsText := true // a stop string from the request may itself begin inside a character
		for _, stop := range turn.Stop {
			stopIsText = stopIsText && utf8.ValidString(stop)
		}
		if stopIsText && !utf8.ValidString(d.Text) {
			t.Errorf("delta %q is half a character", d.Text)
		}
		for _, p := range d.Tokens {
			if p.Token != tokens[count] || p.Logprob != -float32(count) {
				t.Errorf("token %d is %d with %v, want %d", count, p.Token, p.Logprob, tokens[count])
			}
			count++
		}
		if (d.Finish != nil) != (i == len(deltas)-1) {
			t.Errorf("delta %d of %d: finish %+v", i, len(deltas), d.Finish)
		}
	}
	finish := deltas[len(deltas)-1].Finish
	if !slices.Equal(finish.Tokens, tokens[:want.tokens]) {
		t.Errorf("the log is %v, want %v", finish.Tokens, tokens[:want.tokens])
	}
	if text != want.text || finish.StopString != want.stop || finish.Usage.GeneratedTokens != want.tokens {
		t.Errorf("text %q, finish %+v", text, finish)
	}
	if reason := map[bool]api.FinishReason{true: api.FinishStop, false: api.FinishLength}[want.stop != ""]; finish.Reason != reason {
		t.Errorf("reason %s, want %s", finish.Reason, reason)
	}
	switch {
	case turn.Logprobs < 0 && count > 0:
		t.Errorf("%d log-probabilities, none were asked for", count)
	case turn.Logprobs >= 0 && want.stop == "" && count != len(tokens):
		t.Errorf("%d log-probabilities of %d tokens", count, len(tokens))
	case turn.Logprobs >= 0 && count > want.tokens:
		t.Errorf("%d log-probabilities, %d tokens belong to the answer", count, want.tokens)
	}
}

// TestTokensComeWithTheirText wants each delta's tokens to be those whose text it completes.
func TestTokensComeWithTheirText(t *testing.T) {
	tok := embeddedTokenizer(t)
	encode := func(text string) []int32 { return tok.Encode(text, tokenizer.EncodeOptions{}) }
	tokens := slices.Concat(encode("the 日"), encode("🙂 end"))
	var text, pieces []byte
	for _, d := range play(tok, &Turn{}, tokens) {
		text = append(text, d.Text...)
		for _, p := range d.Tokens {
			pieces = append(pieces, p.Bytes...)
		}
		if string(text) != string(pieces) {
			t.Errorf("after %q the tokens' bytes are %q", text, pieces)
		}
	}
	if !strings.HasSuffix(string(text), "🙂 end") {
		t.Errorf("text is %q", text)
	}
}

func TestFirstStop(t *testing.T) {
	for _, test := range []struct {
		text  string
		stops []string
		at    int
		stop  string
	}{
		{"abcd", nil, -1, ""},
		{"abcd", []string{"x", "cd"}, 2, "cd"},
		{"abcd", []string{"c", "bcd"}, 2, "c"}, // complete first
		{"abcd", []string{"c", "bc"}, 1, "bc"}, // complete together
		{"aaa", []string{"aa"}, 0, "aa"},
	} {
		if at, stop := firstStop(test.text, test.stops); at != test.at || stop != test.stop {
			t.Errorf("firstStop(%q, %q) = %d, %q, want %d, %q", test.text, test.stops, at, stop, test.at, test.stop)
		}
	}
	for _, test := range []struct {
		text  string
		stops []string
		want  int
	}{{"abc", []string{"cd", "bcx"}, 2}, {"abc", []string{"abc"}, 0}, {"abc", nil, 0}, {"a", []string{"aab"}, 1}, {"aa", []string{"aaab"}, 2}} {
		if got := heldBack(test.text, test.stops); got != test.want {
			t.Errorf("heldBack(%q, %q) = %d, want %d", test.text, test.stops, got, test.want)
		}
	}
}

// FuzzStops feeds texts byte by byte: the embedded vocabulary has a token for each.
func FuzzStops(f *testing.F) {
	f.Add("the end of\n\nit", "\n\n", "end of")
	f.Add("aaaab", "aab", "ab")
	f.Add("日本🙂", "本", "\xe6")
	f.Fuzz(func(t *testing.T, text, first, second string) {
		if first == "" || second == "" || len(text) > 1000 {
			return
		}
		tok := embeddedTokenizer(t)
		tokens := make([]int32, len(text))
		for i := range len(text) {
			tokens[i] = 3 + int32(text[i])
		}
		turn := &Turn{Stop: []string{first, second}, Logprobs: -1}
		checkDeltas(t, tok, turn, tokens, expect(tok, tokens, turn.Stop))
	})
}
