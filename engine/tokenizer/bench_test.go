package tokenizer_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"hearth/engine/tokenizer"
)

// BenchmarkEncode encodes, per vocabulary, words that repeat, words that do not, and one long piece.
func BenchmarkEncode(b *testing.B) {
	random := rand.New(rand.NewPCG(1, 2))
	var rare strings.Builder
	for rare.Len() < 1<<18 {
		fmt.Fprintf(&rare, "%x ", random.Uint64())
	}
	texts := []struct{ name, text string }{
		{"prose", strings.Repeat("The quick brown fox jumps over the lazy dog, and then it sleeps; nobody knows why.\n", 3000)},
		{"rare", rare.String()},
		{"long", strings.Repeat("abcdefgh", 1<<15)},
	}
	for name, open := range map[string]func(testing.TB) *tokenizer.Tokenizer{
		"embedded": openEmbedded,
		"qwen3":    func(t testing.TB) *tokenizer.Tokenizer { return openGGUF(t, "gguf-vocab/vocab-qwen3.gguf.gz") },
	} {
		for _, text := range texts {
			b.Run(name+"/"+text.name, func(b *testing.B) {
				tok := open(b)
				b.SetBytes(int64(len(text.text)))
				b.ReportAllocs()
				for b.Loop() {
					tok.Encode(text.text, tokenizer.EncodeOptions{})
				}
			})
		}
	}
}

// BenchmarkStream decodes token by token.
func BenchmarkStream(b *testing.B) {
	tok := openEmbedded(b)
	ids := tok.Encode(strings.Repeat("Once upon a time 😀 ", 50), tokenizer.EncodeOptions{})
	b.ReportAllocs()
	for b.Loop() {
		stream := tok.NewStream(tokenizer.PieceOptions{})
		for _, id := range ids {
			stream.Push(id)
		}
		stream.Flush()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(ids)), "ns/token")
}
