package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"hearth/engine"
	"hearth/engine/tokenizer"
	"hearth/engine/weights"
)

// vocabulary is what synth writes under the tokenizer keys.
type vocabulary struct {
	tokens   []string
	types    []int32 // [tokens], the token types of GGUF
	merges   []string
	pre      string // name of the pre-tokenizer
	bos, eos int32  // -1: none
	addBOS   bool
	template string // empty: none
}

// Token types of GGUF (tokenizer.ggml.token_type).
const (
	normalToken      = 1
	controlToken     = 3
	userDefinedToken = 4
	unusedToken      = 5
)

// chatML is the template of the built-in vocabulary, and of those that have its control tokens and no template.
const chatML = `{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}{% endfor %}` +
	`{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}`

// describe writes the vocabulary, filled up to a number of rows with tokens that are never drawn.
func (v *vocabulary) describe(md *weights.Metadata, rows int) {
	tokens, types := slices.Clone(v.tokens), slices.Clone(v.types)
	for len(tokens) < rows {
		tokens = append(tokens, fmt.Sprintf("[PAD%d]", len(tokens)))
		types = append(types, unusedToken)
	}
	v.set(md, tokens, types, v.pre)
	if v.template != "" {
		md.Set("tokenizer.chat_template", v.template)
	}
}

func (v *vocabulary) set(md *weights.Metadata, tokens []string, types []int32, pre string) {
	md.Set("tokenizer.ggml.model", "gpt2")
	md.Set("tokenizer.ggml.pre", pre)
	md.Set("tokenizer.ggml.tokens", tokens)
	md.Set("tokenizer.ggml.token_type", types)
	md.Set("tokenizer.ggml.merges", v.merges)
	md.Set("tokenizer.ggml.add_bos_token", v.addBOS)
	if v.bos >= 0 {
		md.Set("tokenizer.ggml.bos_token_id", uint32(v.bos))
	}
	if v.eos >= 0 {
		md.Set("tokenizer.ggml.eos_token_id", uint32(v.eos))
	}
}

// builtinVocabulary has a token for each byte, in the spelling of byte-level vocabularies, and the control tokens of a
// chat.
func builtinVocabulary() *vocabulary {
	v := &vocabulary{merges: []string{}, pre: "gpt-2", bos: -1, template: chatML}
	next := rune(256) // bytes that are no printable character of Latin-1 are spelt as the characters from here on
	for b := range rune(256) {
		spelling := b
		if b <= ' ' || b >= 0x7f && b <= 0xa0 || b == 0xad {
			spelling, next = next, next+1
		}
		v.tokens, v.types = append(v.tokens, string(spelling)), append(v.types, normalToken)
	}
	for _, control := range []string{"<|endoftext|>", "<|im_start|>", "<|im_end|>"} {
		v.tokens, v.types = append(v.tokens, control), append(v.types, controlToken)
	}
	v.eos = int32(len(v.tokens) - 1)
	return v
}

// tokenizerJSON is what synth takes from a tokenizer.json.
type tokenizerJSON struct {
	Model struct {
		Type   string           `json:"type"`
		Vocab  map[string]int32 `json:"vocab"`
		Merges []mergeJSON      `json:"merges"`
	} `json:"model"`
	AddedTokens []struct {
		ID      int32  `json:"id"`
		Content string `json:"content"`
		Special bool   `json:"special"`
	} `json:"added_tokens"`
}

// mergeJSON is "left right", or ["left", "right"] in newer files.
type mergeJSON string

// UnmarshalJSON reads either form.
func (m *mergeJSON) UnmarshalJSON(data []byte) error {
	var pair [2]string
	if json.Unmarshal(data, &pair) == nil {
		*m = mergeJSON(pair[0] + " " + pair[1])
		return nil
	}
	return json.Unmarshal(data, (*string)(m))
}

// maxVocabulary bounds the ids of a tokenizer.json; no vocabulary comes near it.
const maxVocabulary = 1 << 22

// readVocabulary reads a byte-level tokenizer.json, and the configuration files beside it.
func readVocabulary(path string) (*vocabulary, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var file tokenizerJSON
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if file.Model.Type != "BPE" {
		return nil, fmt.Errorf("%s: a model of type %q; synth takes byte-level BPE", path, file.Model.Type)
	}
	v, err := file.vocabulary()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	tok, err := engine.OpenTokenizerPath(path)
	if err != nil {
		return nil, err
	}
	v.adopt(tok)
	if err := v.findPreTokenizer(tok); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	v.template, err = templateBeside(path)
	if v.template == "" && slices.Contains(v.tokens, "<|im_start|>") {
		v.template = chatML
	}
	return v, err
}

// vocabulary lists the tokens by id; ids without a token are filled.
func (f *tokenizerJSON) vocabulary() (*vocabulary, error) {
	v := &vocabulary{merges: make([]string, len(f.Model.Merges)), bos: -1, eos: -1}
	for i, m := range f.Model.Merges {
		v.merges[i] = string(m)
	}
	last := int32(-1)
	for _, id := range f.Model.Vocab {
		last = max(last, id)
	}
	for _, t := range f.AddedTokens {
		last = max(last, t.ID)
	}
	if last < 0 || last >= maxVocabulary {
		return nil, fmt.Errorf("ids up to %d, want 1 to %d tokens", last, maxVocabulary)
	}
	size := last + 1
	v.tokens, v.types = make([]string, size), make([]int32, size)
	for i := range v.tokens {
		v.tokens[i], v.types[i] = fmt.Sprintf("[PAD%d]", i), unusedToken
	}
	put := func(id int32, token string, kind int32) error {
		if id < 0 {
			return fmt.Errorf("token %q has the id %d", token, id)
		}
		v.tokens[id], v.types[id] = token, kind
		return nil
	}
	for token, id := range f.Model.Vocab {
		if err := put(id, token, normalToken); err != nil {
			return nil, err
		}
	}
	for _, t := range f.AddedTokens {
		kind := int32(userDefinedToken)
		if t.Special {
			kind = controlToken
		}
		if err := put(t.ID, t.Content, kind); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// adopt takes over the special tokens, and names some that usual vocabularies end a text with where no configuration
// does.
func (v *vocabulary) adopt(tok *tokenizer.Tokenizer) {
	if bos, ok := tok.BOS(); ok {
		v.bos, v.addBOS = bos, tok.AddBOS()
	}
	if eos, ok := tok.EOS(); ok {
		v.eos = eos
		return
	}
	for _, name := range []string{"<|im_end|>", "<|eot_id|>", "<|end_of_text|>", "<|endoftext|>", "</s>"} {
		if i := slices.Index(v.tokens, name); i >= 0 {
			v.eos = int32(i)
			return
		}
	}
}

// preTokenizers are the names that findPreTokenizer tries.
var preTokenizers = []string{"qwen2", "llama-bpe", "qwen35", "deepseek-v3", "minimax-m2", "gpt-4o", "deepseek-coder", "deepseek-llm", "gpt-2"}

// probeText tells pre-tokenizers apart: digits, contractions, capitals, scripts, marks, newlines, composition.
const probeText = "Don't SAY'LL 1234567 3.14\t\n\n \r\n  end  x_y foo(bar);;\n\n\n中文字かな한글 नमस्ते e\u0301 Ünïcödé 😀 ~word /*c*/ 'RE I'm\u00a0x  "

// findPreTokenizer names the pre-tokenizer of a tokenizer.json: the first under which a GGUF file gives the same ids for
// the probe text.
func (v *vocabulary) findPreTokenizer(tok *tokenizer.Tokenizer) error {
	want := tok.Encode(probeText, tokenizer.EncodeOptions{})
	for _, name := range preTokenizers {
		md := weights.NewMetadata()
		v.set(md, v.tokens, v.types, name)
		candidate, err := tokenizer.FromMetadata(md)
		if err != nil {
			return err
		}
		if slices.Equal(candidate.Encode(probeText, tokenizer.EncodeOptions{}), want) {
			v.pre = name
			return nil
		}
	}
	return fmt.Errorf("no pre-tokenizer that GGUF has a name for splits text in this way")
}

// templateBeside returns the chat template in the files beside a tokenizer.json, empty without one.
func templateBeside(path string) (string, error) {
	md, err := weights.ReadTemplates(filepath.Dir(path))
	if err != nil {
		return "", err
	}
	template, _ := md.String("tokenizer.chat_template")
	return template, nil
}
