package tokenizer_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/text/unicode/norm"

	"hearth/cmd/sharedtest"
	"hearth/engine/tokenizer"
	"hearth/engine/weights"
)

// vector is one line of the reference data: a text and the ids of two or three independent implementations, see the
// README beside them. They agree but for normal form C, which llama.cpp does not apply, and two differences of its
// pre-tokenizers; ids are those of the others.
type vector struct {
	Text         string  `json:"text"`
	IDs          []int32 `json:"ids"`
	ParseSpecial bool    `json:"parse_special"`
}

// vocabularies are the reference tokenizers: where each one's files are, and whose vectors it reproduces. special is empty
// where the vectors are those of a tokenizer with other control tokens.
var vocabularies = []struct {
	name, json, gguf, plain, special string
	nfc                              bool
}{
	{"qwen2", "tokenizers/qwen2", "", "qwen3", "", true},
	{"qwen3", "tokenizers/qwen3", "gguf-vocab/vocab-qwen3.gguf.gz", "qwen3", "qwen3", true},
	{"qwen3.5", "tokenizers/qwen3.5-reindexed", "gguf-vocab/vocab-qwen35-reindexed.gguf.gz", "qwen3.5-reindexed", "qwen3.5-reindexed", true},
	{"deepseek-v3", "tokenizers/deepseek-v3", "gguf-vocab/vocab-deepseek-v3.gguf.gz", "deepseek-v3", "deepseek-v3", false},
	{"deepseek-v4", "tokenizers/deepseek-v4", "", "deepseek-v3", "", false},
	{"deepseek-r1-distill-qwen", "tokenizers/deepseek-r1-distill-qwen", "", "deepseek-r1-distill-qwen", "deepseek-r1-distill-qwen", true},
	{"llama3.1", "tokenizers/llama3.1", "gguf-vocab/vocab-llama3.1.gguf.gz", "llama3.1", "llama3.1", false},
	{"minimax-m2", "tokenizers/minimax-m2", "gguf-vocab/vocab-minimax-m2.gguf.gz", "minimax-m2", "minimax-m2", true},
	{"gpt-2", "", "gguf-vocab/ggml-vocab-gpt-2.gguf.gz", "gpt-2", "", false},
	{"llama-spm", "", "gguf-vocab/ggml-vocab-llama-spm.gguf.gz", "llama-spm", "", false},
	{"stories260K", "models/stories260K/hf", "models/stories260K/stories260K-f32.gguf", "stories260K", "", false},
}

func TestVectorsGolden(t *testing.T) {
	for _, v := range vocabularies {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			check := func(t *testing.T, tok *tokenizer.Tokenizer) {
				checkVectors(t, tok, v.nfc, "tokenizers", v.plain, "vectors.jsonl.gz")
				if v.special != "" {
					checkVectors(t, tok, v.nfc, "tokenizers", v.special, "vectors_special.jsonl.gz")
				}
			}
			if v.json != "" {
				t.Run("json", func(t *testing.T) { check(t, openJSON(t, v.json)) })
			}
			if v.gguf != "" {
				t.Run("gguf", func(t *testing.T) { check(t, openGGUF(t, v.gguf)) })
			}
		})
	}
}

// checkVectors compares every vector of a file, and decodes its ids to the text again.
func checkVectors(t *testing.T, tok *tokenizer.Tokenizer, nfc bool, file ...string) {
	t.Helper()
	failures := 0
	for i, line := range lines(t, file...) {
		var v vector
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatal(err)
		}
		got := tok.Encode(v.Text, tokenizer.EncodeOptions{ParseSpecial: v.ParseSpecial})
		want := v.Text
		if nfc {
			want = norm.NFC.String(want)
		}
		if decoded := tok.Decode(v.IDs, tokenizer.PieceOptions{Special: true}); slices.Equal(got, v.IDs) && decoded == want {
			continue
		}
		if failures++; failures < 10 {
			t.Errorf("%v line %d: Encode(%q) = %d, want %d; that decodes to %q", file, i+1, v.Text, got, v.IDs,
				tok.Decode(v.IDs, tokenizer.PieceOptions{Special: true}))
		}
	}
	if failures > 0 {
		t.Errorf("%v: %d failures", file, failures)
	}
}

func lines(t testing.TB, elem ...string) [][]byte {
	data := sharedtest.ReadFile(t, append([]string{"testdata"}, elem...)...)
	var all [][]byte
	scan := bufio.NewScanner(bytes.NewReader(data))
	scan.Buffer(nil, 1<<24)
	for scan.Scan() {
		if len(bytes.TrimSpace(scan.Bytes())) > 0 {
			all = append(all, bytes.Clone(scan.Bytes()))
		}
	}
	if err := scan.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// opened keeps what tests open, as several tests use the same large files.
var opened sync.Map

// openJSON opens a folder of the reference data with a tokenizer.json, which may be compressed.
func openJSON(t testing.TB, folder string) *tokenizer.Tokenizer {
	t.Helper()
	if tok, ok := opened.Load(folder); ok {
		return tok.(*tokenizer.Tokenizer)
	}
	read := func(name string) []byte {
		path := sharedtest.Path(t, "testdata", filepath.FromSlash(folder), name)
		for _, suffix := range []string{"", ".gz"} {
			if _, err := os.Stat(path + suffix); err == nil {
				return sharedtest.ReadFile(t, "testdata", filepath.FromSlash(folder), name+suffix)
			}
		}
		return nil
	}
	tok, err := tokenizer.FromJSON(read("tokenizer.json"), read("tokenizer_config.json"), read("generation_config.json"))
	if err != nil {
		t.Fatal(err)
	}
	opened.Store(folder, tok)
	return tok
}

// openGGUF opens a GGUF file of the reference data.
func openGGUF(t testing.TB, file string) *tokenizer.Tokenizer {
	t.Helper()
	if tok, ok := opened.Load(file); ok {
		return tok.(*tokenizer.Tokenizer)
	}
	src, err := weights.OpenBytes(strings.TrimSuffix(filepath.Base(file), ".gz"), sharedtest.ReadFile(t, "testdata", filepath.FromSlash(file)))
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	tok, err := tokenizer.FromMetadata(src.Metadata())
	if err != nil {
		t.Fatal(err)
	}
	opened.Store(file, tok)
	return tok
}
