package tokenizer_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"hearth/engine/embedded"
	"hearth/engine/tokenizer"
	"hearth/engine/weights"
)

func openEmbedded(t testing.TB) *tokenizer.Tokenizer {
	src, err := weights.OpenBytes(embedded.Name, embedded.Model)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	tok, err := tokenizer.FromMetadata(src.Metadata())
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// openSmall opens a small byte-level vocabulary.
func openSmall(t testing.TB) *tokenizer.Tokenizer {
	tok, err := tokenizer.FromJSON(smallJSON(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

var roundTripTexts = []string{
	"", " ", "hello", " hello  world ", "Once upon a time, there was a little girl.", "\u2581", "▁a ▁▁b", "a\u0301\u0323", "é", "가각", "한국어 中文 日本語",
	"😀👨‍👩‍👧", "\x00\x01", "\xff", "a\xe2\x82", "\xf0\x9f\x98", "\xed\xa0\x80", "<s>", "</s>", "<unk>", "<0x41>", "<|im_end|>", "it's I'LL\r\n\t x",
	"1234567", "\u00a0\u3000", strings.Repeat("a", 100), strings.Repeat(" ", 70), strings.Repeat("\u0301", 40), "\uFFFD",
}

// FuzzRoundTrip checks that decoding gives back the bytes that were encoded, with and without control tokens, in a
// SentencePiece and a byte-level vocabulary, and that long texts are the same tokens encoded again.
func FuzzRoundTrip(f *testing.F) {
	for _, text := range roundTripTexts {
		f.Add(text, false)
		f.Add(text, true)
	}
	spm, bpe := openEmbedded(f), openSmall(f)
	f.Fuzz(func(t *testing.T, text string, parseSpecial bool) {
		for _, tok := range []*tokenizer.Tokenizer{spm, bpe} {
			ids := tok.Encode(text, tokenizer.EncodeOptions{ParseSpecial: parseSpecial, AddSpecial: true})
			if bos, ok := tok.BOS(); ok && tok.AddBOS() {
				if len(ids) == 0 || ids[0] != bos {
					t.Fatalf("Encode(%+q) = %d does not begin with %d", text, ids, bos)
				}
				ids = ids[1:]
			}
			// SentencePiece writes a space as U+2581, which then cannot be told from the character itself.
			want := text
			if tok == spm {
				want = strings.ReplaceAll(text, "\u2581", " ")
			} else {
				want = norm.NFC.String(text)
				if strings.Contains(want, "\u034F") {
					continue // the library's mark for long runs of combining characters, see normalize
				}
			}
			got := tok.AppendDecoded(nil, ids, tokenizer.PieceOptions{Special: true})
			if string(got) != want {
				t.Fatalf("Encode(%+q) = %d decodes to %+q, want %+q", text, ids, got, want)
			}
			if again := tok.Encode(text, tokenizer.EncodeOptions{ParseSpecial: parseSpecial}); !slices.Equal(again, ids) {
				t.Fatalf("Encode(%+q) = %d, the first time %d", text, again, ids)
			}
		}
	})
}

// checkRoundTrip does the same with a reference vocabulary.
func checkRoundTrip(t *testing.T, tok *tokenizer.Tokenizer, nfc bool) {
	t.Helper()
	for _, text := range roundTripTexts {
		if nfc && !norm.NFC.IsNormalString(text) {
			continue
		}
		ids := tok.Encode(text, tokenizer.EncodeOptions{})
		want := text
		if slices.Equal(tok.Encode(" ", tokenizer.EncodeOptions{}), tok.Encode("\u2581", tokenizer.EncodeOptions{})) {
			want = strings.ReplaceAll(text, "\u2581", " ") // SentencePiece
		}
		if got := tok.AppendDecoded(nil, ids, tokenizer.PieceOptions{Special: true}); string(got) != want {
			t.Errorf("Encode(%+q) = %d decodes to %+q", text, ids, got)
		}
	}
}

// FuzzStream checks that a stream's texts, joined, are the decoded whole, and that each is whole characters.
func FuzzStream(f *testing.F) {
	f.Add([]byte("hello"))
	f.Add([]byte("😀é"))
	f.Add([]byte{0xf0, 0x9f, 0x98, 'a', 0xe2, 0x82, 0xe2, 0xff, 0xed, 0xa0, 0x80})
	f.Add([]byte{0xf0, 0x9f, 0x98})
	f.Add([]byte{0xf4, 0x90, 0x80, 0x80, 0xc0, 0xaf})
	spm, bpe := openEmbedded(f), openSmall(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, tok := range []*tokenizer.Tokenizer{spm, bpe} {
			var ids []int32
			for i, b := range data {
				// Bytes as they are, and every third as a token of the vocabulary.
				if i%3 == 2 {
					ids = append(ids, int32(int(b)*2%tok.VocabSize()))
				} else {
					ids = append(ids, tok.Encode("a"+string([]byte{b}), tokenizer.EncodeOptions{})[1:]...)
				}
			}
			for _, special := range []bool{false, true} {
				opts := tokenizer.PieceOptions{Special: special}
				stream := tok.NewStream(opts)
				var raw []byte
				var text strings.Builder
				for _, id := range ids {
					raw = tok.AppendPiece(raw, id, opts)
					part := stream.Push(id)
					if !utf8.ValidString(part) {
						t.Fatalf("ids %d: a part is %+q", ids, part)
					}
					text.WriteString(part)
					// No more than the beginning of one character is held back.
					if held := len(tokenizer.ValidText(raw)) - text.Len(); held < 0 || held > len("\uFFFD") {
						t.Fatalf("ids %d: %d bytes are held back after %+q", ids, held, text.String())
					}
				}
				text.WriteString(stream.Flush())
				if want := tokenizer.ValidText(raw); text.String() != want {
					t.Fatalf("ids %d: the stream is %+q, the whole %+q", ids, text.String(), want)
				}
				if utf8.Valid(raw) && !bytes.Equal(raw, []byte(text.String())) {
					t.Fatalf("ids %d: the stream is %+q, the bytes %+q", ids, text.String(), raw)
				}
				if rest := stream.Flush(); rest != "" {
					t.Fatalf("ids %d: a second Flush returns %+q", ids, rest)
				}
			}
		}
	})
}

// TestValidText lists what Unicode's table of maximal subparts gives.
func TestValidText(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"a\xf1\x80\x80\xe1\x80\xc2b\x80c\x80\xbfd", "a\uFFFD\uFFFD\uFFFDb\uFFFDc\uFFFD\uFFFDd"}, // Unicode 15, table 3-11
		{"\xc0\xaf\xe0\x80\xbf\xf0\x81\x82A", strings.Repeat("\uFFFD", 8) + "A"},                 // table 3-8
		{"\xed\xa0\x80\xed\xbf\xbf\xed\xafA", strings.Repeat("\uFFFD", 8) + "A"},                 // table 3-9
		{"\xf4\x91\x92\x93\xffA\x80\xbfB", "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFDA\uFFFD\uFFFDB"},       // table 3-10
		{"é\uFFFD😀", "é\uFFFD😀"}, {"\xf0\x9f\x98", "\uFFFD"}, {"", ""},
	} {
		if got := tokenizer.ValidText([]byte(c.in)); got != c.want {
			t.Errorf("ValidText(%+q) = %+q, want %+q", c.in, got, c.want)
		}
	}
}
