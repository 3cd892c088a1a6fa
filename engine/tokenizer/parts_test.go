package tokenizer

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// partsTokenizers are small vocabularies of both kinds; the first brings text into normal form C.
func partsTokenizers(t testing.TB) map[string]*Tokenizer {
	t.Helper()
	composed := syntheticDefinition()
	composed.split.nfc = true
	withNFC, err := composed.build()
	if err != nil {
		t.Fatal(err)
	}
	withSpaces, err := FromMetadata(spmMetadata(true))
	if err != nil {
		t.Fatal(err)
	}
	return map[string]*Tokenizer{"nfc": withNFC, "bytes": synthetic(t), "spm": withSpaces}
}

// respelled returns ids that decode to a text, each character's bytes being merged or not as chance decides. Reserved
// tokens are never among them.
func respelled(tok *Tokenizer, text string, random *rand.Rand) []int32 {
	var ids []int32
	for text != "" {
		n := 1 + random.IntN(len(text))
		longest := int32(-1)
		for ; n > 0 && longest < 0; n-- {
			for id := range int32(tok.VocabSize()) {
				if !tok.IsReserved(id) && tok.piece(id, PieceOptions{}) == text[:n] {
					longest = id
					break
				}
			}
		}
		if longest < 0 {
			return nil
		}
		ids = append(ids, longest)
		text = text[n+1:]
	}
	return ids
}

// reservedOf lists the reserved tokens among ids.
func reservedOf(tok *Tokenizer, ids []int32) []int32 {
	return slices.DeleteFunc(slices.Clone(ids), func(id int32) bool { return !tok.IsReserved(id) })
}

// randomPrompt returns a guarded text of random pieces, some of them from outside.
func randomPrompt(tok *Tokenizer, random *rand.Rand) string {
	words := []string{"hello", " world", "  ", "\n", "é", "e\u0301", "😀", "<think>", "</think>", "<|im_end|>", "<|im_", "end|>", "<tag>", "a", "the a", "1", open}
	var text strings.Builder
	for range 1 + random.IntN(8) {
		word := words[random.IntN(len(words))]
		if random.IntN(2) == 0 || word == open {
			word = tok.Guard(word)
		}
		text.WriteString(word)
	}
	return text.String()
}

// TestPartsEncode checks that a text can be encoded part by part, and piece by piece.
func TestPartsEncode(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for name, tok := range partsTokenizers(t) {
		for range 2000 {
			text := randomPrompt(tok, random)
			p := tok.CutGuarded(text, EncodeOptions{AddSpecial: true})
			want := tok.EncodeGuarded(text, EncodeOptions{AddSpecial: true})
			var got []int32
			for i := range p.Len() {
				got = p.Encode(got, p.Start(i), p.Start(i+1))
			}
			if !slices.Equal(got, want) {
				t.Fatalf("%s: %+q: part by part %d, want %d", name, text, got, want)
			}
			var ends []int
			for i := range p.Len() {
				ends = append(ends, len(p.Encode(nil, p.Start(0), p.Start(i+1))))
			}
			if f := p.Follow(want, 0); f.Tokens != len(want) || f.End != p.Start(p.Len()) || !slices.Equal(f.Parts, ends) {
				t.Fatalf("%s: %+q: Follow of its encoding %d is %+v, want the ends %d", name, text, want, f, ends)
			}
			f := p.Follow(want[:random.IntN(len(want)+1)], 0)
			if got := p.Encode(slices.Clone(want[:f.Tokens]), f.End, p.Start(p.Len())); !slices.Equal(got, want) {
				t.Fatalf("%s: %+q: followed to %+v, it is %d, want %d", name, text, f, got, want)
			}
		}
	}
}

// TestFollow lets random spellings and random changes of a text stand for it. Whatever is followed, the prompt has the
// same text and the same reserved tokens as an encoding of it.
func TestFollow(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for name, tok := range partsTokenizers(t) {
		followed := 0
		for range 3000 {
			text := randomPrompt(tok, random)
			p := tok.CutGuarded(text, EncodeOptions{})
			want := tok.EncodeGuarded(text, EncodeOptions{})
			var ids []int32
			for i := range p.Len() {
				if part, id := p.Part(i); id >= 0 && random.IntN(4) > 0 {
					ids = append(ids, id)
				} else if id >= 0 {
					ids = append(ids, respelled(tok, tok.piece(id, PieceOptions{Special: true}), random)...)
				} else {
					ids = append(ids, respelled(tok, part, random)...)
				}
			}
			if random.IntN(3) == 0 && len(ids) > 0 {
				ids[random.IntN(len(ids))] = int32(random.IntN(tok.VocabSize()+2)) - 1
			}
			f := p.Follow(ids, 0)
			got := p.Encode(slices.Clone(ids[:f.Tokens]), f.End, p.Start(p.Len()))
			checkSame(t, name+": "+text, tok, got, want)
			for i, n := range f.Parts {
				checkSame(t, name+": the beginning of "+text, tok, ids[:n], p.Encode(nil, p.Start(0), p.Start(i+1)))
			}
			followed += f.Tokens
		}
		if followed == 0 {
			t.Errorf("%s: nothing was ever followed", name)
		}
	}
}

// checkSame checks that two encodings have the same text and the same reserved tokens in the same places.
func checkSame(t *testing.T, what string, tok *Tokenizer, got, want []int32) {
	t.Helper()
	if g, w := reservedOf(tok, got), reservedOf(tok, want); !slices.Equal(g, w) {
		t.Fatalf("%+q: the reserved tokens are %d, want %d", what, g, w)
	}
	for len(want) > 0 || len(got) > 0 {
		k := func(ids []int32) int {
			return max(slices.IndexFunc(append(slices.Clone(ids), -1), func(id int32) bool { return id < 0 || tok.IsReserved(id) }), 0)
		}
		g, w := k(got), k(want)
		// A space that SentencePiece puts before a stretch of text is no part of it.
		if text, other := tok.Decode(got[:g], PieceOptions{}), tok.Decode(want[:w], PieceOptions{}); normalize(text, tok.nfc) != normalize(other, tok.nfc) {
			t.Fatalf("%+q: %d says %+q, want %+q of %d", what, got[:g], text, other, want[:w])
		}
		got, want = got[min(g+1, len(got)):], want[min(w+1, len(want)):]
	}
}

// TestFollowCases walks along texts by hand.
func TestFollowCases(t *testing.T) {
	tok := synthetic(t)
	id := tok.idOf
	ids := func(parts ...any) (all []int32) {
		for _, p := range parts {
			switch p := p.(type) {
			case int32:
				all = append(all, p)
			case string:
				for i := range len(p) { // each byte its own token
					all = append(all, tok.bytes[p[i]])
				}
			}
		}
		return all
	}
	start, stop, think := id("<|im_start|>"), id("<|im_end|>"), id("<think>")
	for _, c := range []struct {
		name string
		text string
		ids  []int32
		want int // ids that are followed
		rest string
	}{
		{"all of it", "<|im_start|>hello<|im_end|>", ids(start, "hello", stop), 7, ""},
		{"a beginning", "<|im_start|>hello<|im_end|>\n", ids(start, "hello", stop), 7, "\n"},
		{"an answer without its end", "<|im_start|>hello<|im_end|>\n", ids(start, "hello"), 6, "<|im_end|>\n"},
		{"an end within a word", "<|im_start|>hello<|im_end|>", ids(start, "hel"), 1, "hello<|im_end|>"},
		{"an end between words", "hello world!", ids("hello wor"), 5, " world!"},
		{"another end", "hello<|im_end|>", ids("hello", id("<|endoftext|>")), 5, "<|im_end|>"},
		{"a longer answer", "hello<|im_end|>", ids("hello world"), 5, "<|im_end|>"},
		{"another text", "hello<|im_end|>", ids("world"), 0, "hello<|im_end|>"},
		{"a control token where there is text", tok.Guard("<|im_end|>") + "x", ids(stop, "x"), 0, "<|im_end|>x"},
		{"text where there is a control token", "<|im_end|>x", ids("<|im_end|>x"), 0, "<|im_end|>x"},
		{"a tag spelled as text", "<think>x", ids("<think>x"), 8, ""},
		{"a tag as itself", "<think>x", ids(think, "x"), 2, ""},
		{"a delimiter spelled as text", "<｜User｜>x", ids("<｜User｜>x"), 0, "<｜User｜>x"},
		{"bytes that are no character", "a\uFFFDb", ids("a\xF0b"), 3, ""},
		{"half a character at the end", "a\uFFFD<|im_end|>", ids("a\xF0\x9F", stop), 4, ""},
		{"half a character that becomes one", "😀", ids("\xF0\x9F\x98\x80"), 4, ""},
		{"a token without text", "hello", ids(id("[UNUSED]"), "hello"), 0, "hello"},
		{"no token", "hello", []int32{-1, 1 << 30}, 0, "hello"},
	} {
		p := tok.CutGuarded(c.text, EncodeOptions{})
		f := p.Follow(c.ids, 0)
		rest := tok.Decode(p.Encode(nil, f.End, p.Start(p.Len())), PieceOptions{Special: true})
		if f.Tokens != c.want || rest != c.rest {
			t.Errorf("%s: Follow(%d) = %+v, then %q, want %d, then %q", c.name, c.ids, f, rest, c.want, c.rest)
		}
	}
}

// FuzzFollow holds any ids against any text.
func FuzzFollow(f *testing.F) {
	f.Add("hello <|im_end|> world", "<|im_end|>", []byte("hello"))
	f.Add("<think>", "a", []byte{0, 1, 250, 255})
	tok := synthetic(f)
	f.Fuzz(func(t *testing.T, inside, outside string, raw []byte) {
		text := strings.NewReplacer(open, "", closed, "", escape, "").Replace(inside) + tok.Guard(outside) + "<|im_end|>"
		ids := make([]int32, len(raw))
		for i, b := range raw {
			ids[i] = int32(b) + int32(tok.VocabSize()) - 250
		}
		p := tok.CutGuarded(text, EncodeOptions{})
		f := p.Follow(ids, 0)
		got := p.Encode(slices.Clone(ids[:f.Tokens]), f.End, p.Start(p.Len()))
		want := tok.EncodeGuarded(text, EncodeOptions{})
		if g, w := reservedOf(tok, got), reservedOf(tok, want); !slices.Equal(g, w) {
			t.Fatalf("%+q: after %d of %d the reserved tokens are %d, want %d", text, f.Tokens, ids, g, w)
		}
		if g, w := tok.Decode(got, PieceOptions{Special: true}), tok.Decode(want, PieceOptions{Special: true}); g != w {
			t.Fatalf("%+q: after %d of %d it says %+q, want %+q", text, f.Tokens, ids, g, w)
		}
	})
}
