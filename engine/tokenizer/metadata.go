package tokenizer

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Metadata is what FromMetadata reads: values under the keys of a GGUF file. A method returns false when the key is
// missing or holds something else.
type Metadata interface {
	Get(key string) (any, bool)
	String(key string) (string, bool)
	Bool(key string) (value, ok bool)
	Int(key string) (int64, bool)
	Ints(key string) ([]int, bool)
	Floats(key string) ([]float32, bool)
	Strings(key string) ([]string, bool)
}

// keys of tokenizer.ggml (gguf-py/gguf/constants.py of llama.cpp).
const keyPrefix = "tokenizer.ggml."

// FromMetadata returns the tokenizer that a GGUF file describes under its tokenizer.ggml keys. Errors wrap ErrInvalid
// and name the key.
func FromMetadata(md Metadata) (*Tokenizer, error) {
	r := metadataReader{md: md}
	d := r.definition()
	if r.err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, r.err)
	}
	return d.build()
}

// metadataReader reads keys and keeps the first error.
type metadataReader struct {
	md  Metadata
	err error
}

func (r *metadataReader) fail(key, format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(keyPrefix+key+" "+format, args...)
	}
}

// definition reads all keys.
func (r *metadataReader) definition() *definition {
	d := &definition{}
	model := required(r, "model", r.md.String)
	d.tokens = slices.Clone(required(r, "tokens", r.md.Strings))
	d.kinds = r.kinds(len(d.tokens))
	switch model {
	case "gpt2":
		d.split = r.preTokenizer(d)
		d.merges = required(r, "merges", r.md.Strings)
		d.addBOS = d.split.addBOS
	case "llama":
		d.characters, d.addBOS, d.spacePrefix = true, true, prefixAll
		d.scores = required(r, "scores", r.md.Floats)
		if d.scores == nil {
			d.scores = []float32{}
		}
	default:
		r.fail("model", "is %q, want gpt2 (byte-level BPE) or llama (SentencePiece)", model)
	}
	r.flag("add_bos_token", &d.addBOS)
	r.flag("add_eos_token", &d.addEOS)
	if prefix := true; d.characters {
		r.flag("add_space_prefix", &prefix)
		if !prefix {
			d.spacePrefix = noPrefix
		}
	}
	r.ids(d)
	return d
}

// ids reads the keys that name tokens.
func (r *metadataReader) ids(d *definition) {
	d.bos, d.eos, d.unknown = r.id("bos_token_id"), r.id("eos_token_id"), r.id("unknown_token_id")
	if d.characters { // SentencePiece has these at fixed places
		d.bos, d.eos, d.unknown = r.orDefault(d, d.bos, "bos_token_id", 1), r.orDefault(d, d.eos, "eos_token_id", 2), r.orDefault(d, d.unknown, "unknown_token_id", 0)
	}
	for i, keys := range [3][2]string{
		{"fim_pre_token_id", "prefix_token_id"}, {"fim_suf_token_id", "suffix_token_id"}, {"fim_mid_token_id", "middle_token_id"},
	} {
		if d.fim[i] = r.id(keys[0]); d.fim[i] < 0 {
			d.fim[i] = r.id(keys[1])
		}
	}
	for _, key := range []string{"eot_token_id", "eom_token_id", "fim_pad_token_id", "fim_rep_token_id", "fim_sep_token_id"} {
		if id := r.id(key); id >= 0 {
			d.ends = append(d.ends, id)
		}
	}
	if suppressed, ok := optional(r, "suppress_tokens", r.md.Ints); ok {
		for _, id := range suppressed {
			if id < 0 || id >= len(d.tokens) {
				r.fail("suppress_tokens", "names token %d, there are %d", id, len(d.tokens))
				return
			}
			d.suppressed = append(d.suppressed, int32(id))
		}
	}
}

// orDefault returns id, or the default where the file has no such key and the vocabulary is large enough.
func (r *metadataReader) orDefault(d *definition, id int32, key string, def int32) int32 {
	if _, ok := r.md.Get(keyPrefix + key); ok || int(def) >= len(d.tokens) {
		return id
	}
	return def
}

// preTokenizer returns the one that the file names.
func (r *metadataReader) preTokenizer(d *definition) preTokenizer {
	name, _ := optional(r, "pre", r.md.String)
	if name == "" {
		name = "default"
		d.warnings = append(d.warnings, keyPrefix+"pre is missing: the file is older than this key, the text is split as by default, "+
			"and the model may be given other tokens than it was trained on; convert it again")
	}
	known, ok := preTokenizerNames[name]
	if !ok {
		r.fail("pre", "is %q, want one of %s", name, strings.Join(sortedKeys(preTokenizerNames), ", "))
		return preTokenizer{}
	}
	return known()
}

// kinds reads the token types; without them all tokens are normal.
func (r *metadataReader) kinds(n int) []kind {
	kinds := make([]kind, n)
	types, ok := optional(r, "token_type", r.md.Ints)
	if ok && len(types) != n {
		r.fail("token_type", "has %d elements for %d tokens", len(types), n)
		return kinds
	}
	for i := range kinds {
		kinds[i] = normal
		if ok {
			if types[i] < int(normal) || types[i] > int(byteToken) {
				r.fail("token_type", "of token %d is %d, want %d to %d", i, types[i], normal, byteToken)
				return kinds
			}
			kinds[i] = kind(types[i])
		}
	}
	return kinds
}

// id reads a token id; -1 when the key is missing.
func (r *metadataReader) id(key string) int32 {
	id, ok := optional(r, key, r.md.Int)
	if !ok {
		return -1
	}
	tokens, _ := r.md.Strings(keyPrefix + "tokens")
	if id < 0 || id > math.MaxInt32 || id >= int64(len(tokens)) {
		r.fail(key, "is %d, there are %d tokens", id, len(tokens))
		return -1
	}
	return int32(id)
}

// flag replaces *value by that of a key, if it is there.
func (r *metadataReader) flag(key string, value *bool) {
	if v, ok := optional(r, key, r.md.Bool); ok {
		*value = v
	}
}

// optional reads a key that may be missing, but not hold something else.
func optional[T any](r *metadataReader, key string, read func(string) (T, bool)) (T, bool) {
	value, ok := read(keyPrefix + key)
	if !ok {
		if other, there := r.md.Get(keyPrefix + key); there {
			r.fail(key, "holds a value of type %T, which is not what this key is for", other)
		}
	}
	return value, ok
}

func required[T any](r *metadataReader, key string, read func(string) (T, bool)) T {
	value, ok := optional(r, key, read)
	if !ok {
		r.fail(key, "is missing")
	}
	return value
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
