package chat

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hearth/cmd/sharedtest"
	"hearth/engine/tokenizer"
)

// tokenizers are the folders of the tokenizers that the reference encoded prompts with.
var tokenizers = map[string]string{
	"MiniMax-M2": "minimax-m2", "Qwen-Qwen3-0.6B": "qwen3", "Qwen3-Coder": "qwen3", "config-Qwen3-30B-A3B": "qwen3",
	"config-DeepSeek-R1-Distill-Qwen-14B": "deepseek-r1-distill-qwen", "config-DeepSeek-R1": "deepseek-v3",
	"meta-llama-Llama-3.1-8B-Instruct": "llama3.1",
}

// TestGuardedPromptIDs renders with the tokenizer's guard and encodes: the ids are the reference's, so that a guard costs
// no control token of the template and changes no border between tokens.
func TestGuardedPromptIDs(t *testing.T) {
	if testing.Short() {
		t.Skip("reads large vocabularies")
	}
	loaded := map[string]*tokenizer.Tokenizer{}
	eachTemplate(t, func(t *testing.T, source string, vectors []vector) {
		name := filepath.Base(t.Name())
		folder, ok := tokenizers[name]
		if !ok {
			t.Skip("no reference ids")
		}
		tok := loaded[folder]
		if tok == nil {
			tok = openTokenizer(t, folder)
			loaded[folder] = tok
		}
		want := map[string][]int32{}
		for line := range bytes.Lines(sharedtest.ReadFile(t, "testdata", "chat", "prompt_ids", name+".jsonl.gz")) {
			var p struct {
				ID  string  `json:"id"`
				IDs []int32 `json:"ids"`
			}
			if err := json.Unmarshal(line, &p); err != nil {
				t.Fatal(err)
			}
			want[p.ID] = p.IDs
		}
		compared := 0
		c := &compiled{source: source}
		for _, v := range vectors {
			ids, ok := want[v.ID]
			if !ok {
				continue
			}
			template := c.of(t, &v)
			p := v.prompt(t)
			p.Guard = tok.Guard
			text, err := template.Render(p)
			if err != nil {
				t.Fatalf("%s: %v", v.ID, err)
			}
			got := tok.EncodeGuarded(text, tokenizer.EncodeOptions{})
			if v.ID == "markup-1" { // the user wrote control tokens, which the reference takes for real
				checkEndTokens(t, tok, &v, template, got)
				continue
			}
			compared++
			if !slices.Equal(got, ids) {
				t.Errorf("%s: got %v, want %v, of %q", v.ID, got, ids, text)
			}
		}
		if compared == 0 {
			t.Error("nothing was compared")
		}
	})
}

// checkEndTokens counts the end tokens of a prompt: there are as many as the template wrote.
func checkEndTokens(t *testing.T, tok *tokenizer.Tokenizer, v *vector, template *Template, got []int32) {
	t.Helper()
	p := v.prompt(t)
	p.Guard = mark
	marked, err := template.Render(p)
	if err != nil {
		t.Fatal(err)
	}
	end := tok.Encode(v.EOS, tokenizer.EncodeOptions{ParseSpecial: true})
	if len(end) != 1 {
		t.Fatalf("%q is %v, want one token", v.EOS, end)
	}
	count := 0
	for _, id := range got {
		if id == end[0] {
			count++
		}
	}
	if want := strings.Count(trustedPart(marked), v.EOS); count != want {
		t.Errorf("%s: %d end tokens, want the template's %d", v.ID, count, want)
	}
}

func openTokenizer(t *testing.T, folder string) *tokenizer.Tokenizer {
	t.Helper()
	vocabulary := sharedtest.ReadFile(t, "testdata", "tokenizers", folder, "tokenizer.json.gz")
	configs, err := filepath.Glob(sharedtest.Path(t, "testdata", "tokenizers", folder, "tokenizer_config*.json"))
	if err != nil {
		t.Fatal(err)
	}
	var config []byte
	if len(configs) > 0 {
		if config, err = os.ReadFile(configs[0]); err != nil {
			t.Fatal(err)
		}
	}
	tok, err := tokenizer.FromJSON(vocabulary, config, nil)
	if err != nil {
		t.Fatalf("%s: %v", folder, err)
	}
	return tok
}
