package tokenizer

import (
	"fmt"
	"strings"
	"testing"
)

// synthetic returns a small byte-level vocabulary with Qwen's pre-tokenizer: all bytes, a few merges, control tokens
// and tags.
func synthetic(t testing.TB) *Tokenizer {
	t.Helper()
	tok, err := syntheticDefinition().build()
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func syntheticDefinition() *definition {
	d := &definition{bos: -1, eos: -1, unknown: -1, fim: [3]int32{-1, -1, -1}, split: qwen35()}
	d.split.nfc = false
	add := func(text string, k kind) int32 {
		d.tokens, d.kinds = append(d.tokens, text), append(d.kinds, k)
		return int32(len(d.tokens) - 1)
	}
	for _, r := range byteAlphabet {
		add(string(r), normal)
	}
	for _, merge := range strings.Split("h e,l l,he ll,hell o,Ġ w,Ġ Ġ,ĠĠ ĠĠ,ð Ł,ðŁ ĺ,Ã ©,o r,a a,aa aa,< |,| >,i m", ",") {
		left, right, _ := cutMerge(merge)
		d.merges = append(d.merges, merge)
		add(left+right, normal)
	}
	for _, text := range []string{"<|im_start|>", "<|im_end|>", "<|endoftext|>", "<s>", "</s>", "\u2402"} {
		add(text, control)
	}
	for _, text := range []string{"<think>", "</think>", "<｜User｜>", "<tool_response>"} {
		add(text, userDefined)
	}
	add("[UNUSED]", unused)
	d.eos, _ = d.idOf("<|im_end|>")
	return d
}

// mapMetadata is metadata in a map.
type mapMetadata map[string]any

func value[T any](m mapMetadata, key string) (T, bool) {
	v, ok := m[key].(T)
	return v, ok
}

func (m mapMetadata) Get(key string) (any, bool)          { v, ok := m[key]; return v, ok }
func (m mapMetadata) String(key string) (string, bool)    { return value[string](m, key) }
func (m mapMetadata) Bool(key string) (v, ok bool)        { return value[bool](m, key) }
func (m mapMetadata) Int(key string) (int64, bool)        { return value[int64](m, key) }
func (m mapMetadata) Ints(key string) ([]int, bool)       { return value[[]int](m, key) }
func (m mapMetadata) Floats(key string) ([]float32, bool) { return value[[]float32](m, key) }
func (m mapMetadata) Strings(key string) ([]string, bool) { return value[[]string](m, key) }

// syntheticMetadata is the synthetic vocabulary as a GGUF file has it.
func syntheticMetadata() mapMetadata {
	d := syntheticDefinition()
	types := make([]int, len(d.kinds))
	for i, k := range d.kinds {
		types[i] = int(k)
	}
	return mapMetadata{
		keyPrefix + "model": "gpt2", keyPrefix + "pre": "qwen35", keyPrefix + "tokens": d.tokens, keyPrefix + "token_type": types,
		keyPrefix + "merges": d.merges, keyPrefix + "eos_token_id": int64(d.eos),
	}
}

// spmMetadata is a small SentencePiece vocabulary; without bytes it has no byte tokens.
func spmMetadata(bytes bool) mapMetadata {
	tokens, types, scores := []string{"<unk>", "<s>", "</s>"}, []int{2, 3, 3}, []float32{0, 0, 0}
	add := func(text string, k kind, score float32) {
		tokens, types, scores = append(tokens, text), append(types, int(k)), append(scores, score)
	}
	if bytes {
		for b := range 256 {
			add(fmt.Sprintf("<0x%02X>", b), byteToken, 0)
		}
	}
	for i, text := range strings.Split("▁t he ▁a ▁the in ab abc bc", " ") {
		add(text, normal, float32(-i))
	}
	for i, text := range strings.Split("▁ t h e a b i n é", " ") { // c is in tokens, and none itself
		add(text, normal, float32(-100-i))
	}
	add("<tag>", userDefined, 0)
	return mapMetadata{keyPrefix + "model": "llama", keyPrefix + "tokens": tokens, keyPrefix + "token_type": types, keyPrefix + "scores": scores}
}
