package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
)

// TestMetadataErrors breaks one thing of a good vocabulary at a time, and checks that the error says which.
func TestMetadataErrors(t *testing.T) {
	bpe, spm := syntheticMetadata(), spmMetadata(true)
	for _, md := range []mapMetadata{bpe, spm} {
		if _, err := FromMetadata(md); err != nil {
			t.Fatal(err)
		}
	}
	n := len(bpe[keyPrefix+"tokens"].([]string))
	with := func(id int, text string) []string {
		tokens := slices.Clone(bpe[keyPrefix+"tokens"].([]string))
		tokens[id] = text
		return tokens
	}
	types := func(md mapMetadata, id, k int) []int {
		kinds := slices.Clone(md[keyPrefix+"token_type"].([]int))
		kinds[id] = k
		return kinds
	}
	scores := slices.Clone(spm[keyPrefix+"scores"].([]float32))
	scores[5] = float32(math.NaN())
	for _, c := range []struct {
		md    mapMetadata
		key   string
		value any // nil removes the key
		want  string
	}{
		{bpe, "model", nil, "model is missing"},
		{bpe, "model", "bert", `model is "bert"`},
		{bpe, "model", int64(1), "model holds a value of type int64"},
		{bpe, "pre", "unheard", `pre is "unheard"`},
		{bpe, "tokens", nil, "tokens is missing"},
		{bpe, "tokens", []int{1}, "tokens holds a value of type []int"},
		{bpe, "tokens", []string{}, "token_type has"},
		{bpe, "tokens", with(3, bpe[keyPrefix+"tokens"].([]string)[4]), "tokens 3 and 4 are both"},
		{bpe, "tokens", with(3, strings.Repeat("x", maxTokenBytes+1)), "token 3 has 65537 bytes"},
		{bpe, "token_type", []int{1}, "token_type has 1 elements"},
		{bpe, "token_type", types(bpe, 7, 9), "token_type of token 7 is 9"},
		{bpe, "token_type", types(bpe, 7, -1), "token_type of token 7 is -1"},
		{bpe, "merges", nil, "merges is missing"},
		{bpe, "merges", []string{"nospace"}, `merge 0, "nospace", is not two symbols`},
		{bpe, "merges", []string{""}, "merge 0"},
		{bpe, "merges", []string{" h"}, "merge 0"},
		{bpe, "merges", []string{"h "}, "merge 0"},
		{bpe, "merges", []string{"h e", "h unknown"}, `names "unknown", which is no token`},
		{bpe, "merges", []string{"z z"}, `names "zz", which is no token`},
		{bpe, "merges", []string{"<|im_ end|>"}, "names"},
		{bpe, "eos_token_id", int64(math.MaxUint32), "eos_token_id is 4294967295"},
		{bpe, "eos_token_id", int64(n), fmt.Sprintf("eos_token_id is %d, there are %d tokens", n, n)},
		{bpe, "bos_token_id", int64(-1), "bos_token_id is -1"},
		{bpe, "eot_token_id", int64(n), "eot_token_id"},
		{bpe, "fim_pre_token_id", int64(n), "fim_pre_token_id"},
		{bpe, "add_bos_token", "yes", "add_bos_token holds"},
		{bpe, "suppress_tokens", []int{-1}, "suppress_tokens names token -1"},
		{spm, "scores", nil, "scores is missing"},
		{spm, "scores", []float32{1}, "1 scores for"},
		{spm, "scores", scores, "token 5: its score is not a number"},
		{spm, "token_type", types(spm, 0, int(byteToken)), `byte token 0 is spelled "<unk>"`},
	} {
		md := maps.Clone(c.md)
		md[keyPrefix+c.key] = c.value
		if c.value == nil {
			delete(md, keyPrefix+c.key)
		}
		_, err := FromMetadata(md)
		if !errors.Is(err, ErrInvalid) || !strings.Contains(fmt.Sprint(err), c.want) {
			t.Errorf("%s = %.60v: error %v, want ErrInvalid with %q", c.key, c.value, err, c.want)
		}
	}
}

// TestMetadataOdd lists what is strange and works.
func TestMetadataOdd(t *testing.T) {
	md := syntheticMetadata()
	tokens := slices.Clone(md[keyPrefix+"tokens"].([]string))
	tokens[len(tokens)-1] = ""
	md[keyPrefix+"tokens"] = tokens
	delete(md, keyPrefix+"pre")
	tok, err := FromMetadata(md)
	if err != nil {
		t.Fatal(err)
	}
	if len(tok.Warnings()) != 1 || !strings.Contains(tok.Warnings()[0], "tokenizer.ggml.pre is missing") {
		t.Errorf("warnings %q, want one about tokenizer.ggml.pre", tok.Warnings())
	}
	if text, ok := tok.Token(int32(len(tokens) - 1)); !ok || text == "" {
		t.Errorf("the token without a text is %q", text)
	}
	delete(md, keyPrefix+"token_type") // all normal: merges of special tokens do not exist, so nothing is wrong
	if _, err := FromMetadata(md); err != nil {
		t.Errorf("without token types: %v", err)
	}
	for _, id := range []int32{-1, math.MinInt32, math.MaxInt32, int32(tok.VocabSize())} {
		if text, ok := tok.Token(id); ok || tok.Valid(id) || tok.IsSpecial(id) || len(tok.AppendPiece(nil, id, PieceOptions{Special: true})) > 0 {
			t.Errorf("token %d is %q", id, text)
		}
		if got := tok.Decode([]int32{id, 'h' - '!', id}, PieceOptions{}); len(got) != 1 {
			t.Errorf("decoding %d gives %q", id, got)
		}
	}
}

func TestSentencePiece(t *testing.T) {
	for _, c := range []struct {
		bytes bool
		text  string
		want  string
	}{
		{true, "the", "▁the"}, {true, " the", "▁|▁the"}, {true, "in", "▁|in"}, {true, "a the", "▁a|▁the"},
		{true, "abc", "▁a|bc"}, // c is part of tokens, and none itself
		{true, "xabc", "▁|<0x78>|abc"}, {true, "c", "▁|<0x63>"}, {true, "é", "▁|é"}, {true, "\xc3", "▁|<0xC3>"},
		{true, "<s>", "▁|<0x3C>|<0x73>|<0x3E>"}, {true, "a<tag>the", "▁a|<tag>|▁the"}, {true, "▁the", "▁|▁the"},
		{false, "x", "▁|<unk>"}, {false, "日本", "▁|<unk>|<unk>"}, {false, "the", "▁the"},
	} {
		tok, err := FromMetadata(spmMetadata(c.bytes))
		if err != nil {
			t.Fatal(err)
		}
		var texts []string
		for _, id := range tok.Encode(c.text, EncodeOptions{}) {
			texts = append(texts, tok.tokens[id])
		}
		if got := strings.Join(texts, "|"); got != c.want {
			t.Errorf("Encode(%q) = %s, want %s", c.text, got, c.want)
		}
	}
}

// file returns a tokenizer.json with the given members in place of, or beside, those of a good one.
func file(members map[string]any) []byte {
	good := map[string]any{
		"added_tokens":  []any{map[string]any{"id": 6, "content": "<|im_end|>", "special": true}},
		"pre_tokenizer": map[string]any{"type": "ByteLevel", "add_prefix_space": false},
		"model": map[string]any{"type": "BPE", "vocab": map[string]int{"a": 0, "b": 1, "ab": 2, "Ġ": 3, "c": 4, "abc": 5},
			"merges": []any{"a b", "ab c"}},
	}
	maps.Copy(good, members)
	data, err := json.Marshal(good)
	if err != nil {
		panic(err)
	}
	return data
}

func model(members map[string]any) []byte {
	good := map[string]any{"type": "BPE", "vocab": map[string]int{"a": 0, "b": 1}, "merges": []any{}}
	maps.Copy(good, members)
	return file(map[string]any{"model": good, "added_tokens": []any{}})
}

func TestJSONErrors(t *testing.T) {
	split := func(members map[string]any) map[string]any {
		step := map[string]any{"type": "Split", "pattern": map[string]any{"Regex": `\p{N}`}, "behavior": "Isolated"}
		maps.Copy(step, members)
		return map[string]any{"pre_tokenizer": step}
	}
	added := func(id any, content string) map[string]any {
		return map[string]any{"added_tokens": []any{map[string]any{"id": id, "content": content}}}
	}
	for _, c := range []struct {
		data []byte
		want string
	}{
		{nil, "unexpected end"}, {[]byte("[]"), "cannot unmarshal"}, {[]byte("{}"), "model.vocab is missing"},
		{model(map[string]any{"type": "Unigram"}), `model.type is "Unigram"`},
		{model(map[string]any{"vocab": []int{}}), "model.vocab is not an object"},
		{model(map[string]any{"vocab": map[string]any{"a": "x"}}), `the id of "a" is`},
		{model(map[string]any{"vocab": map[string]any{"a": -1}}), `the id of "a" is -1`},
		{model(map[string]any{"vocab": map[string]any{"a": 1.5}}), `the id of "a" is 1.5`},
		{model(map[string]any{"vocab": map[string]any{"a": 2e9}}), "highest id is 2000000000"},
		{model(map[string]any{"vocab": map[string]any{"a": 1e30}}), `the id of "a"`},
		{model(map[string]any{"vocab": map[string]any{"a": 0, "b": 0}}), "both have the id 0"},
		{[]byte(`{"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false},"model":{"vocab":{"a":0,"a":1},"merges":[]}}`), `tokens 0 and 1 are both "a"`},
		{model(map[string]any{"merges": "a b"}), "model.merges is not a list"},
		{model(map[string]any{"merges": []any{1}}), "merge 0: 1 is not a string"},
		{model(map[string]any{"merges": []any{[]any{"a"}}}), "merge 0"},
		{model(map[string]any{"merges": []any{[]any{"a", "b", "c"}}}), "merge 0: is not two symbols"},
		{model(map[string]any{"merges": []any{[]any{"a a", "b"}}}), "merge 0: is not two symbols"},
		{model(map[string]any{"merges": []any{"a b"}}), `names "ab", which is no token`},
		{model(map[string]any{"unk_token": "?"}), `unk_token "?" is not in the vocabulary`},
		{model(map[string]any{"continuing_subword_prefix": "##"}), "continuing_subword_prefix"},
		{file(added(2, "other")), `"other" has the id 2 of "ab"`},
		{file(added(-3, "x")), `the id of "x" is -3`},
		{file(added(1<<40, "x")), `the id of "x" is`},
		{file(added(1<<30, "x")), "highest id is 1073741824"},
		{file(added(9, "a")), `are both "a"`},
		{file(map[string]any{"normalizer": map[string]any{"type": "NFKC"}}), `normalizer "NFKC" is not supported`},
		{file(map[string]any{"pre_tokenizer": map[string]any{"type": "Whitespace"}}), `pre_tokenizer "Whitespace" is not supported`},
		{file(map[string]any{"pre_tokenizer": map[string]any{"type": "ByteLevel"}}), "add_prefix_space"},
		{file(map[string]any{"pre_tokenizer": map[string]any{"type": "Metaspace"}}), "Metaspace"},
		{file(map[string]any{"pre_tokenizer": nil}), "no ByteLevel"},
		{file(split(map[string]any{"behavior": "MergedWithNext"})), `behavior "MergedWithNext"`},
		{file(split(map[string]any{"pattern": map[string]any{"String": " "}})), "without a Regex"},
		{file(split(nil)), "no ByteLevel"},
		{file(map[string]any{"pre_tokenizer": map[string]any{"type": "Sequence", "pretokenizers": []any{
			split(nil)["pre_tokenizer"], map[string]any{"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}}}}), `expressions "\\p{N}" are not known`},
		{file(map[string]any{"post_processor": map[string]any{"type": "TemplateProcessing", "single": []any{
			map[string]any{"SpecialToken": map[string]any{"id": "<none>"}}}}}), `post_processor: "<none>"`},
	} {
		if _, err := FromJSON(c.data, nil, nil); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.200s: error %v, want ErrInvalid with %q", c.data, err, c.want)
		}
	}
	good := file(nil)
	for _, c := range []struct{ config, generation, want string }{
		{`{"bos_token": "<none>"}`, "", `tokenizer_config.json: bos_token "<none>"`},
		{`{"eos_token": {"content": "<none>"}}`, "", `tokenizer_config.json: eos_token "<none>"`},
		{`{"eos_token": 3}`, "", "tokenizer_config.json"},
		{`[`, "", "tokenizer_config.json"},
		{"", `{"eos_token_id": 100}`, "generation_config.json: eos_token_id 100"},
		{"", `{"eos_token_id": [0, -1]}`, "generation_config.json: eos_token_id -1"},
		{"", `{"eos_token_id": "x"}`, "generation_config.json"},
	} {
		if _, err := FromJSON(good, []byte(c.config), []byte(c.generation)); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s: error %v, want ErrInvalid with %q", c.config, c.generation, err, c.want)
		}
	}
}

func TestJSON(t *testing.T) {
	pairs := file(map[string]any{"model": map[string]any{"vocab": map[string]int{"a": 0, "b": 1, "ab": 2, "Ġ": 3, "c": 4, "abc": 5},
		"merges": []any{[]any{"a", "b"}, []any{"ab", "c"}}}})
	for _, data := range [][]byte{file(nil), pairs} {
		tok, err := FromJSON(data, []byte(`{"eos_token": {"content": "<|im_end|>"}, "bos_token": null, "add_bos_token": true}`), []byte(`{"eos_token_id": [4, 6]}`))
		if err != nil {
			t.Fatal(err)
		}
		if got := tok.Encode("abc ab<|im_end|>", EncodeOptions{ParseSpecial: true, AddSpecial: true}); !slices.Equal(got, []int32{5, 3, 2, 6}) {
			t.Errorf("ids %d, want 5 3 2 6", got)
		}
		if !slices.Equal(tok.EOG(), []int32{4, 6}) || tok.AddBOS() {
			t.Errorf("EOG %d, AddBOS %t; want 4 and 6, no BOS", tok.EOG(), tok.AddBOS())
		}
	}
}

// TestSpacePrefix checks where the first space goes, by the normalizer or pre-tokenizer that asks for it.
func TestSpacePrefix(t *testing.T) {
	replace := map[string]any{"type": "Replace", "pattern": map[string]any{"String": " "}, "content": "▁"}
	metaspace := func(scheme string) map[string]any {
		return map[string]any{"normalizer": nil, "pre_tokenizer": map[string]any{"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": false}}
	}
	for _, c := range []struct {
		members map[string]any
		want    [3]string // "a<t>a", " a", "<t>a"
	}{
		{map[string]any{"pre_tokenizer": nil, "normalizer": replace}, [3]string{"a|<t>|a", "▁|a", "<t>|a"}},
		{map[string]any{"pre_tokenizer": nil, "normalizer": map[string]any{"type": "Sequence", "normalizers": []any{
			map[string]any{"type": "Prepend", "prepend": "▁"}, replace}}}, [3]string{"▁|a|<t>|▁|a", "▁|▁|a", "<t>|▁|a"}},
		{metaspace("never"), [3]string{"a|<t>|a", "▁|a", "<t>|a"}},
		{metaspace("first"), [3]string{"▁|a|<t>|a", "▁|a", "<t>|a"}},
		{metaspace("always"), [3]string{"▁|a|<t>|▁|a", "▁|a", "<t>|▁|a"}},
	} {
		c.members["added_tokens"] = []any{map[string]any{"id": 2, "content": "<t>"}}
		c.members["model"] = map[string]any{"vocab": map[string]int{"a": 0, "▁": 1}, "merges": []any{}}
		tok, err := FromJSON(file(c.members), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i, text := range []string{"a<t>a", " a", "<t>a"} {
			var pieces []string
			for _, id := range tok.Encode(text, EncodeOptions{}) {
				pieces = append(pieces, tok.tokens[id])
			}
			if got := strings.Join(pieces, "|"); got != c.want[i] {
				t.Errorf("%v: Encode(%q) = %s, want %s", c.members["normalizer"], text, got, c.want[i])
			}
		}
	}
}

// TestAddedTokenFlags follows what the tokenizers library does with the flags of an added token.
func TestAddedTokenFlags(t *testing.T) {
	tok, err := FromJSON(file(map[string]any{"added_tokens": []any{
		map[string]any{"id": 6, "content": "<l>", "lstrip": true}, map[string]any{"id": 7, "content": "<r>", "rstrip": true},
		map[string]any{"id": 8, "content": "aa", "single_word": true}, map[string]any{"id": 9, "content": "<l><l>"},
	}}), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string][]int32{
		"a  <l> b": {0, 6, 3, 1}, "a <r>  b": {0, 3, 7, 1}, "<r>  <l>": {7, 6}, "aa": {8}, "aab": {0, 2}, "baa": {1, 0, 0}, "b aa b": {1, 3, 8, 3, 1},
		"<l><l><l>": {9, 6}, "aa_": {0, 0},
	} {
		if got := tok.Encode(text, EncodeOptions{}); !slices.Equal(got, want) {
			t.Errorf("Encode(%q) = %d, want %d", text, got, want)
		}
	}
}

// FuzzFromJSON reads any file and, when it is a tokenizer, uses it.
func FuzzFromJSON(f *testing.F) {
	f.Add(file(nil), []byte(`{"eos_token": "<|im_end|>"}`), []byte(`{"eos_token_id": [4, 6]}`))
	f.Add(model(map[string]any{"byte_fallback": true, "ignore_merges": true}), []byte(nil), []byte(nil))
	f.Add(file(map[string]any{"normalizer": map[string]any{"type": "Sequence", "normalizers": []any{
		map[string]any{"type": "Prepend", "prepend": "▁"}, map[string]any{"type": "Replace", "pattern": map[string]any{"String": " "}, "content": "▁"}}},
		"pre_tokenizer": nil}), []byte(nil), []byte(nil))
	f.Fuzz(func(t *testing.T, vocabulary, config, generation []byte) {
		tok, err := FromJSON(vocabulary, config, generation)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("error %v is not ErrInvalid", err)
			}
			return
		}
		exercise(t, tok)
	})
}

// FuzzFromMetadata reads vocabularies put together from lines.
func FuzzFromMetadata(f *testing.F) {
	f.Add("gpt2", "qwen2", "a\nb\nab\n<|im_end|>", "1113", "a b", int64(3))
	f.Add("llama", "default", "<unk>\n<s>\n</s>\n<0x41>\n▁\na\n▁a", "2336111", "", int64(1))
	f.Add("gpt2", "llama-bpe", "é\n\n</s>\n<fim_prefix>", "1415", "", int64(-1))
	f.Fuzz(func(t *testing.T, model, pre, tokens, kinds, merges string, eos int64) {
		md := mapMetadata{keyPrefix + "model": model, keyPrefix + "pre": pre, keyPrefix + "eos_token_id": eos}
		md[keyPrefix+"tokens"] = strings.Split(tokens, "\n")
		md[keyPrefix+"merges"] = []string{}
		if merges != "" {
			md[keyPrefix+"merges"] = strings.Split(merges, "\n")
		}
		var types []int
		var scores []float32
		for i, k := range []byte(kinds) {
			types, scores = append(types, int(k)-'0'), append(scores, float32(i%3))
		}
		md[keyPrefix+"token_type"], md[keyPrefix+"scores"] = types, scores
		tok, err := FromMetadata(md)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("error %v is not ErrInvalid", err)
			}
			return
		}
		exercise(t, tok)
	})
}

// exercise calls everything of a tokenizer; all ids that come out must be in its vocabulary.
func exercise(t *testing.T, tok *Tokenizer) {
	for _, text := range []string{"ab <|im_end|> é\xff", "▁a", strings.Repeat("a", 100), tok.tokens[0], tok.tokens[len(tok.tokens)-1]} {
		for _, opts := range []EncodeOptions{{}, {true, true}} {
			ids := slices.Concat(tok.Encode(text, opts), tok.EncodeGuarded(tok.Guard(text)+text, opts))
			stream := tok.NewStream(PieceOptions{Special: true})
			for _, id := range ids {
				if !tok.Valid(id) {
					t.Fatalf("Encode(%q) = %d, which is outside of %d tokens", text, ids, tok.VocabSize())
				}
				stream.Push(id)
			}
			stream.Flush()
			tok.Decode(ids, PieceOptions{})
		}
	}
	for _, id := range slices.Concat(tok.EOG(), tok.Suppressed()) {
		if !tok.Valid(id) {
			t.Fatalf("special token %d is outside of %d tokens", id, tok.VocabSize())
		}
	}
}
