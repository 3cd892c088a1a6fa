package tokenizer_test

import (
	"encoding/json"
	"fmt"
	"strings"
)

// smallJSON is the tokenizer.json of a byte-level vocabulary: all bytes, a few merges, control tokens and tags, with
// Qwen's normalizer and pre-tokenizer.
func smallJSON() []byte {
	vocab := map[string]int{}
	next := rune(0x100)
	for b := range 256 {
		r := rune(b)
		if !(b >= 0x21 && b <= 0x7E || b >= 0xA1 && b <= 0xAC || b >= 0xAE) {
			r, next = next, next+1
		}
		vocab[string(r)] = len(vocab)
	}
	merges := strings.Split("h e,l l,he ll,hell o,Ġ w,Ġ Ġ,ĠĠ ĠĠ,ð Ł,ðŁ ĺ,Ã ©,o r,a a,aa aa,< |,| >", ",")
	for _, merge := range merges {
		vocab[strings.Replace(merge, " ", "", 1)] = len(vocab)
	}
	var added []map[string]any
	for i, text := range []string{"<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"} {
		added = append(added, map[string]any{"id": len(vocab) + i, "content": text, "special": text[1] == '|'})
	}
	expression := `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	data, err := json.Marshal(map[string]any{
		"added_tokens": added,
		"normalizer":   map[string]any{"type": "NFC"},
		"pre_tokenizer": map[string]any{"type": "Sequence", "pretokenizers": []any{
			map[string]any{"type": "Split", "pattern": map[string]any{"Regex": expression}, "behavior": "Isolated", "invert": false},
			map[string]any{"type": "ByteLevel", "add_prefix_space": false, "use_regex": false},
		}},
		"model": map[string]any{"type": "BPE", "vocab": vocab, "merges": merges},
	})
	if err != nil {
		panic(fmt.Sprintf("tokenizer_test: %v", err))
	}
	return data
}
