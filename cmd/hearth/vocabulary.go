package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"hearth/engine"
	"hearth/engine/tokenizer"
	"hearth/engine/weights"
)

// vocabulary is what synth and quantize write under the tokenizer keys.
type vocabulary struct {
	tokens   []string
	types    []int32 // [tokens], the token types of GGUF
	merges   []string
	pieces   bool      // SentencePiece: the symbols that merge are characters, not bytes
	scores   []float32 // [tokens], of SentencePiece: in place of merges
	pre      string    // name of the pre-tokenizer
	bos, eos int32     // -1: none
	unknown  int32     // -1: none
	ends     []int32   // further tokens that end a generation
	addBOS   bool
	template string // empty: none
}

// Token types of GGUF (tokenizer.ggml.token_type).
const (
	normalToken      = 1
	unknownToken     = 2
	controlToken     = 3
	userDefinedToken = 4
	unusedToken      = 5
	byteToken        = 6
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
	v.set(md, tokens, types)
	if v.template != "" {
		md.Set("tokenizer.chat_template", v.template)
	}
}

func (v *vocabulary) set(md *weights.Metadata, tokens []string, types []int32) {
	md.Set("tokenizer.ggml.model", "gpt2")
	md.Set("tokenizer.ggml.pre", v.pre)
	md.Set("tokenizer.ggml.tokens", tokens)
	md.Set("tokenizer.ggml.token_type", types)
	if v.pieces {
		md.Set("tokenizer.ggml.model", "llama")
		md.Set("tokenizer.ggml.scores", append(slices.Clone(v.scores), make([]float32, len(tokens)-len(v.scores))...))
	} else {
		md.Set("tokenizer.ggml.merges", v.merges)
	}
	md.Set("tokenizer.ggml.add_bos_token", v.addBOS)
	ids := map[string]int32{"bos": v.bos, "eos": v.eos, "unknown": v.unknown}
	for i, key := range []string{"eot", "eom"} {
		ids[key] = -1
		if i < len(v.ends) {
			ids[key] = v.ends[i]
		}
	}
	for _, key := range []string{"bos", "eos", "unknown", "eot", "eom"} {
		if ids[key] >= 0 {
			md.Set("tokenizer.ggml."+key+"_token_id", uint32(ids[key]))
		}
	}
}

// builtinVocabulary has a token for each byte, in the spelling of byte-level vocabularies, and the control tokens of a
// chat.
func builtinVocabulary() *vocabulary {
	v := &vocabulary{merges: []string{}, pre: "gpt-2", bos: -1, unknown: -1, template: chatML}
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

// tokenizerJSON is what a GGUF file needs of a tokenizer.json.
type tokenizerJSON struct {
	Model struct {
		Type         string           `json:"type"`
		Vocab        map[string]int32 `json:"vocab"`
		Merges       []mergeJSON      `json:"merges"`
		UnkToken     string           `json:"unk_token"`
		ByteFallback bool             `json:"byte_fallback"` // bytes are tokens of their own: SentencePiece
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

// readVocabulary reads a tokenizer.json, and the configuration files beside it.
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
		return nil, fmt.Errorf("%s: a model of type %q; want BPE", path, file.Model.Type)
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
	v := &vocabulary{merges: make([]string, len(f.Model.Merges)), pieces: f.Model.ByteFallback, bos: -1, eos: -1, unknown: -1}
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
		kind := int32(normalToken)
		switch {
		case token == f.Model.UnkToken && token != "":
			kind, v.unknown = unknownToken, id
		case v.pieces && isByteToken(token):
			kind = byteToken
		}
		if err := put(id, token, kind); err != nil {
			return nil, err
		}
	}
	for _, t := range f.AddedTokens {
		kind := int32(userDefinedToken)
		switch {
		case t.ID == v.unknown:
			kind = unknownToken
		case t.Special:
			kind = controlToken
		}
		if err := put(t.ID, t.Content, kind); err != nil {
			return nil, err
		}
	}
	if v.pieces {
		v.score(f.Model.Vocab)
	}
	return v, nil
}

// isByteToken recognises the tokens that SentencePiece writes single bytes as: <0x0A>.
func isByteToken(token string) bool {
	_, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimPrefix(token, "<0x"), ">"), 16, 8)
	return err == nil && len(token) == len("<0x00>")
}

// score gives the tokens the scores by which they merge in the order of the merges: the earlier, the higher. Those that
// no merge makes come last.
func (v *vocabulary) score(ids map[string]int32) {
	v.scores = slices.Repeat([]float32{-float32(len(v.merges))}, len(v.tokens))
	for i, m := range slices.Backward(v.merges) { // of several merges that make a token the first counts
		if id, ok := ids[strings.Replace(m, " ", "", 1)]; ok && id >= 0 {
			v.scores[id] = -float32(i)
		}
	}
}

// adopt takes over the special tokens, and names some that usual vocabularies end a text with where no configuration
// does.
func (v *vocabulary) adopt(tok *tokenizer.Tokenizer) {
	if bos, ok := tok.BOS(); ok {
		v.bos, v.addBOS = bos, tok.AddBOS()
	}
	if eos, ok := tok.EOS(); ok {
		v.eos = eos
		v.ends = slices.DeleteFunc(slices.Clone(tok.EOG()), func(id int32) bool { return id == eos })
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
// the probe text. It also drops the ends that a GGUF file's tokenizer finds by their texts.
func (v *vocabulary) findPreTokenizer(tok *tokenizer.Tokenizer) error {
	want := tok.Encode(probeText, tokenizer.EncodeOptions{})
	names := preTokenizers
	if v.pieces {
		names = []string{"default"}
	}
	ends := v.ends
	v.ends = nil
	for _, name := range names {
		md := weights.NewMetadata()
		v.pre = name
		v.set(md, v.tokens, v.types)
		candidate, err := tokenizer.FromMetadata(md)
		if err != nil {
			return err
		}
		if slices.Equal(candidate.Encode(probeText, tokenizer.EncodeOptions{}), want) {
			v.ends = slices.DeleteFunc(ends, func(id int32) bool { return slices.Contains(candidate.EOG(), id) })
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
