package tokenizer

import (
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
)

// guardedTokens lists those among ids that guarded text must not become.
func guardedTokens(t *Tokenizer, ids []int32) []int32 {
	return slices.DeleteFunc(slices.Clone(ids), func(id int32) bool {
		return t.kinds[id] != control && !(t.kinds[id] == userDefined && isDelimiter(t.tokens[id]))
	})
}

func (t *Tokenizer) idOf(text string) int32 { return int32(slices.Index(t.tokens, text)) }

// TestGuard checks that guarded text is the text, without its control tokens.
func TestGuard(t *testing.T) {
	tok := synthetic(t)
	for _, text := range []string{
		"", "hello", "<|im_start|>", "a <|im_end|> b", "<|im_start|><|im_end|>", "<|im_<|im_end|>end|>", "<s>", "</s>", "\u2402", "<｜User｜>",
		open, closed, escape, open + closed, closed + "<|im_end|>", closed + open, escape + closed + "<|im_end|>", escape + escape + closed,
		"<|im_end" + closed + "|>", "\xEF\xB7", "\xEF", "<think>x</think>", "\uFDD3", "\uFDCF",
	} {
		guarded := tok.Guard(text)
		if plain, _ := unguard(guarded); plain != text {
			t.Errorf("Guard(%+q) = %+q, which is the guard of %+q", text, guarded, plain)
		}
		ids := tok.EncodeGuarded(guarded, EncodeOptions{})
		if got := guardedTokens(tok, ids); len(got) > 0 {
			t.Errorf("EncodeGuarded(Guard(%+q)) has the control tokens %d", text, got)
		}
		if got := string(tok.AppendDecoded(nil, ids, PieceOptions{Special: true})); got != text {
			t.Errorf("EncodeGuarded(Guard(%+q)) = %d decodes to %+q", text, ids, got)
		}
		if got, want := tok.EncodeGuarded("<think>"+guarded+"<|im_end|>", EncodeOptions{}), slices.Concat([]int32{tok.idOf("<think>")}, ids,
			[]int32{tok.idOf("<|im_end|>")}); !slices.Equal(got, want) {
			t.Errorf("EncodeGuarded of Guard(%+q) between tokens = %d, want %d", text, got, want)
		}
	}
}

// TestGuardKeepsTags checks that tags which are no control tokens are found, as without a guard.
func TestGuardKeepsTags(t *testing.T) {
	tok := synthetic(t)
	text := "<think>a</think>"
	if got, want := tok.EncodeGuarded(tok.Guard(text), EncodeOptions{}), tok.Encode(text, EncodeOptions{}); !slices.Equal(got, want) || got[0] != tok.idOf("<think>") {
		t.Errorf("ids %d, want %d", got, want)
	}
}

// TestGuardBesideTemplate puts parts of control tokens from outside beside parts that the template wrote.
func TestGuardBesideTemplate(t *testing.T) {
	tok := synthetic(t)
	end := []int32{tok.idOf("<|im_end|>")}
	for _, c := range [][3]string{
		{"<", "|im_end|", ">"}, {"<", "s", ">"}, {"</", "s", ">"}, {"<|im_end", "|", ">"}, {"", "<", "|im_end|>"}, {"<|im_end|", ">", ""},
		{"<|", "im_end", "|>"},
	} {
		text := c[0] + tok.Guard(c[1]) + c[2] + "<|im_end|>"
		if got := guardedTokens(tok, tok.EncodeGuarded(text, EncodeOptions{})); !slices.Equal(got, end) {
			t.Errorf("%q: %+q has the control tokens %d, want only the last, %d", c, text, got, end)
		}
	}
	// Two runs that touch are outside both.
	text := tok.Guard("<|im_") + tok.Guard("end|>") + "<|im_end|>"
	if got := guardedTokens(tok, tok.EncodeGuarded(text, EncodeOptions{})); !slices.Equal(got, end) {
		t.Errorf("%+q has the control tokens %d, want only the last, %d", text, got, end)
	}
}

// TestGuardManyRuns compares with marking each byte of a prompt as trusted or not.
func TestGuardManyRuns(t *testing.T) {
	tok := synthetic(t)
	random := rand.New(rand.NewPCG(1, 2))
	parts := []string{"<|im_end|>", "<|im_", "end|>", "<s>", "<", "s", ">", " ", "x", "<think>", "\u2402", open, closed, escape}
	for range 5000 {
		var guarded, plain strings.Builder
		var inside []span
		for range random.IntN(8) {
			part := parts[random.IntN(len(parts))]
			if random.IntN(2) == 0 {
				guarded.WriteString(tok.Guard(part))
				inside = append(inside, span{plain.Len(), plain.Len() + len(part)})
			} else {
				part = strings.Trim(part, open) // the template's own
				guarded.WriteString(part)
			}
			plain.WriteString(part)
		}
		text, outside := unguard(guarded.String())
		if text != plain.String() || !slices.Equal(outside, inside) {
			t.Fatalf("unguard(%+q) = %+q, %v, want %+q, %v", guarded.String(), text, outside, plain.String(), inside)
		}
		at := 0
		for _, id := range tok.EncodeGuarded(guarded.String(), EncodeOptions{}) {
			next := at + len(tok.AppendPiece(nil, id, PieceOptions{Special: true}))
			for _, s := range inside {
				if len(guardedTokens(tok, []int32{id})) > 0 && s.from < next && s.to > at {
					t.Fatalf("%+q: the control token %d at %d takes in text from outside", guarded.String(), id, at)
				}
			}
			at = next
		}
	}
}

// FuzzGuard checks for any two texts that they are text, wherever a template puts them.
func FuzzGuard(f *testing.F) {
	for _, text := range []string{"hello", "<|im_end|>", "<|im_", "end|>", "s", open, closed, escape + closed, "</s>", "\u2402", "<｜User｜>", "|im_end|", "\xEF\xB7"} {
		for _, other := range []string{"", "<", "|im_end|>", " end|>"} {
			f.Add(text, other)
		}
	}
	tok := synthetic(f)
	end := []int32{tok.idOf("<|im_end|>")}
	f.Fuzz(func(t *testing.T, a, b string) {
		guardedA, guardedB := tok.Guard(a), tok.Guard(b)
		for _, format := range [][3]string{{"", "", "<|im_end|>"}, {"<", "></", "><|im_end|>"}, {"<|im_", "", "end|><|im_end|>"}} {
			text := format[0] + guardedA + format[1] + guardedB + format[2]
			plain, _ := unguard(text)
			if want := format[0] + a + format[1] + b + format[2]; plain != want {
				t.Fatalf("%+q stands for %+q, want %+q", text, plain, want)
			}
			if a == "" && b == "" {
				continue // what is left is the template's alone
			}
			if got := guardedTokens(tok, tok.EncodeGuarded(text, EncodeOptions{})); !slices.Equal(got, end) {
				t.Fatalf("%+q has the control tokens %d, want only the last, %d", text, got, end)
			}
		}
	})
}

// TestConcurrentEncoding encodes the same texts from several goroutines, which share the cache.
func TestConcurrentEncoding(t *testing.T) {
	tok := synthetic(t)
	texts := []string{"hello world", "héllo  wörld <|im_end|>", strings.Repeat("aa", 200), "😀😀", "for  or"}
	var want [][]int32
	for _, text := range texts {
		want = append(want, synthetic(t).Encode(text, EncodeOptions{ParseSpecial: true}))
	}
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for i := range 2000 {
				k := i % len(texts)
				if got := tok.Encode(texts[k], EncodeOptions{ParseSpecial: true}); !slices.Equal(got, want[k]) {
					t.Errorf("Encode(%q) = %d, want %d", texts[k], got, want[k])
				}
			}
		})
	}
	wait.Wait()
}
