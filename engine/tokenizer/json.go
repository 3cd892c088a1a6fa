package tokenizer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// tokenizerFile is a Hugging Face tokenizer.json, as far as it is read.
type tokenizerFile struct {
	AddedTokens   []addedJSON `json:"added_tokens"`
	Normalizer    *component  `json:"normalizer"`
	PreTokenizer  *component  `json:"pre_tokenizer"`
	PostProcessor *component  `json:"post_processor"`
	Model         modelJSON   `json:"model"`
}

type modelJSON struct {
	Type                    string         `json:"type"`
	Vocab                   vocabularyJSON `json:"vocab"`
	Merges                  mergesJSON     `json:"merges"`
	UnkToken                string         `json:"unk_token"`
	ContinuingSubwordPrefix string         `json:"continuing_subword_prefix"`
	EndOfWordSuffix         string         `json:"end_of_word_suffix"`
	ByteFallback            bool           `json:"byte_fallback"`
	IgnoreMerges            bool           `json:"ignore_merges"`
}

type addedJSON struct {
	ID         int64  `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"`
	LStrip     bool   `json:"lstrip"`
	RStrip     bool   `json:"rstrip"`
	Special    bool   `json:"special"`
}

// vocabularyJSON is an object from text to id. It is read member by member, because a map would hide that a text is there
// twice.
type vocabularyJSON struct {
	texts []string
	ids   []int64
}

// UnmarshalJSON reads the object.
func (v *vocabularyJSON) UnmarshalJSON(data []byte) error {
	r := jsonReader{data: data}
	if !r.skip('{') {
		return errors.New("model.vocab is not an object")
	}
	for !r.skip('}') {
		text, err := r.text()
		if err != nil {
			return fmt.Errorf("model.vocab: %w", err)
		}
		r.skip(':')
		number := r.literal()
		id, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return fmt.Errorf("model.vocab: the id of %q is %s", abbreviate(text), abbreviate(number))
		}
		v.texts, v.ids = append(v.texts, text), append(v.ids, id)
		r.skip(',')
	}
	return nil
}

// mergesJSON is a list of "left right", or of ["left", "right"] in newer files.
type mergesJSON []string

// UnmarshalJSON reads either form; null is none.
func (m *mergesJSON) UnmarshalJSON(data []byte) error {
	r := jsonReader{data: data}
	if !r.skip('[') {
		if r.literal() == "null" {
			return nil
		}
		return errors.New("model.merges is not a list")
	}
	for !r.skip(']') {
		pair := r.skip('[')
		merge, err := r.text()
		if err == nil && pair {
			r.skip(',')
			left := merge
			merge, err = r.text()
			if strings.Contains(left, " ") || left == "" || !r.skip(']') {
				err = errors.New("is not two symbols without spaces")
			}
			merge = left + " " + merge
		}
		if err != nil {
			return fmt.Errorf("model.merges: merge %d: %w", len(*m), err)
		}
		*m = append(*m, merge)
		r.skip(',')
	}
	return nil
}

// jsonReader reads JSON that is known to be well-formed, since its surroundings were decoded: vocabularies are large,
// and most of their texts stand in the file as they are.
type jsonReader struct {
	data []byte
}

// skip reads white space and then a punctuation character; false when another character follows.
func (r *jsonReader) skip(b byte) bool {
	r.data = bytes.TrimLeft(r.data, " \t\r\n")
	if len(r.data) == 0 || r.data[0] != b {
		return false
	}
	r.data = r.data[1:]
	return true
}

// text reads a string.
func (r *jsonReader) text() (string, error) {
	if !r.skip('"') {
		return "", fmt.Errorf("%s is not a string", abbreviate(r.literal()))
	}
	end, plain := 0, true
	for end < len(r.data) && r.data[end] != '"' {
		if r.data[end] == '\\' {
			plain = false
			end++
		}
		end++
	}
	if end >= len(r.data) {
		return "", errors.New("a string does not end")
	}
	raw := r.data[:end]
	r.data = r.data[end+1:]
	if plain && utf8.Valid(raw) {
		return string(raw), nil
	}
	var text string
	err := json.Unmarshal(slices.Concat([]byte{'"'}, raw, []byte{'"'}), &text)
	return text, err
}

// literal reads what stands before the next punctuation: a number, or a word.
func (r *jsonReader) literal() string {
	r.skip(0)
	end := bytes.IndexAny(r.data, ",:]} \t\r\n")
	if end < 0 {
		end = len(r.data)
	}
	word := string(r.data[:end])
	r.data = r.data[end:]
	return word
}

// specialName is a token in tokenizer_config.json: its text, or an object with its text as content.
type specialName string

// UnmarshalJSON reads either form; null is no token.
func (s *specialName) UnmarshalJSON(data []byte) error {
	var object struct {
		Content string `json:"content"`
	}
	if len(data) > 0 && data[0] == '{' {
		err := json.Unmarshal(data, &object)
		*s = specialName(object.Content)
		return err
	}
	return json.Unmarshal(data, (*string)(s))
}

// idList is a token id, or a list of them, in generation_config.json.
type idList []int64

// UnmarshalJSON reads either form; null is none.
func (l *idList) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '[' {
		return json.Unmarshal(data, (*[]int64)(l))
	}
	var id *int64
	if err := json.Unmarshal(data, &id); err != nil || id == nil {
		return err
	}
	*l = idList{*id}
	return nil
}

type configJSON struct {
	BOS         specialName `json:"bos_token"`
	EOS         specialName `json:"eos_token"`
	AddBOSToken *bool       `json:"add_bos_token"`
	AddEOSToken *bool       `json:"add_eos_token"`
}

type generationJSON struct {
	EOS idList `json:"eos_token_id"`
}

// FromJSON returns the tokenizer of a Hugging Face model: vocabulary is the content of tokenizer.json, config that of
// tokenizer_config.json and generation that of generation_config.json; the latter two may be empty. Errors wrap
// ErrInvalid and name the file and the field; a pre-tokenizer, normalizer or model that is not known is one of them,
// since other pieces would be other tokens.
func FromJSON(vocabulary, config, generation []byte) (*Tokenizer, error) {
	d, err := readJSON(vocabulary, config, generation)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return d.build()
}

func readJSON(vocabulary, config, generation []byte) (*definition, error) {
	var file tokenizerFile
	if err := json.Unmarshal(vocabulary, &file); err != nil {
		return nil, fmt.Errorf("tokenizer.json: %w", err)
	}
	d := &definition{bos: -1, eos: -1, unknown: -1, fim: [3]int32{-1, -1, -1}}
	if err := file.fill(d); err != nil {
		return nil, fmt.Errorf("tokenizer.json: %w", err)
	}
	var options configJSON
	if err := unmarshalOptional(config, &options); err != nil {
		return nil, fmt.Errorf("tokenizer_config.json: %w", err)
	}
	var limits generationJSON
	if err := unmarshalOptional(generation, &limits); err != nil {
		return nil, fmt.Errorf("generation_config.json: %w", err)
	}
	for _, id := range limits.EOS {
		if id < 0 || id >= int64(len(d.tokens)) {
			return nil, fmt.Errorf("generation_config.json: eos_token_id %d is not among the %d tokens", id, len(d.tokens))
		}
		d.ends = append(d.ends, int32(id))
	}
	if err := options.fill(d); err != nil {
		return nil, fmt.Errorf("tokenizer_config.json: %w", err)
	}
	if d.eos < 0 && len(d.ends) > 0 {
		d.eos = d.ends[0]
	}
	return d, nil
}

func unmarshalOptional(data []byte, value any) error {
	if len(data) == 0 {
		return nil
	}
	return json.Unmarshal(data, value)
}

// fill reads tokenizer.json into a definition.
func (f *tokenizerFile) fill(d *definition) error {
	m := &f.Model
	switch {
	case m.Type != "BPE" && m.Type != "":
		return fmt.Errorf("model.type is %q, want BPE", m.Type)
	case m.ContinuingSubwordPrefix != "" || m.EndOfWordSuffix != "":
		return errors.New("model.continuing_subword_prefix and end_of_word_suffix are not supported")
	case len(m.Vocab.ids) == 0:
		return errors.New("model.vocab is missing or empty")
	}
	if err := f.fillTokens(d); err != nil {
		return err
	}
	d.merges = m.Merges
	if err := f.identify(d); err != nil {
		return err
	}
	d.split.ignoreMerges = m.IgnoreMerges
	if m.UnkToken != "" {
		id, ok := d.idOf(m.UnkToken)
		if !ok {
			return fmt.Errorf("model.unk_token %q is not in the vocabulary", abbreviate(m.UnkToken))
		}
		d.unknown, d.kinds[id] = id, unknown
	}
	if d.characters && m.ByteFallback {
		for id, text := range d.tokens {
			if _, ok := parseByteToken(text); ok && d.kinds[id] == normal {
				d.kinds[id] = byteToken
			}
		}
	}
	return f.fillAffixes(d)
}

// fillTokens places the vocabulary and the added tokens at their ids; ids without a token become unused ones.
func (f *tokenizerFile) fillTokens(d *definition) error {
	vocabulary := &f.Model.Vocab
	count, last := len(vocabulary.ids)+len(f.AddedTokens), int64(-1)
	for i, id := range vocabulary.ids {
		if id < 0 || id > math.MaxInt32 {
			return fmt.Errorf("model.vocab: the id of %q is %d", abbreviate(vocabulary.texts[i]), id)
		}
		last = max(last, id)
	}
	for _, token := range f.AddedTokens {
		if token.ID < 0 || token.ID > math.MaxInt32 {
			return fmt.Errorf("added_tokens: the id of %q is %d", abbreviate(token.Content), token.ID)
		}
		last = max(last, token.ID)
	}
	if last >= int64(2*count+maxHoles) {
		return fmt.Errorf("the highest id is %d, for %d tokens", last, count)
	}
	d.tokens, d.kinds = make([]string, last+1), make([]kind, last+1)
	for i, id := range vocabulary.ids {
		if d.kinds[id] != 0 {
			return fmt.Errorf("model.vocab: %q and %q both have the id %d", abbreviate(d.tokens[id]), abbreviate(vocabulary.texts[i]), id)
		}
		d.tokens[id], d.kinds[id] = vocabulary.texts[i], normal
	}
	d.flags = make(map[int32]addedToken, len(f.AddedTokens))
	for _, token := range f.AddedTokens {
		if d.kinds[token.ID] != 0 && d.tokens[token.ID] != token.Content {
			return fmt.Errorf("added_tokens: %q has the id %d of %q", abbreviate(token.Content), token.ID, abbreviate(d.tokens[token.ID]))
		}
		d.tokens[token.ID], d.kinds[token.ID] = token.Content, userDefined
		if token.Special {
			d.kinds[token.ID] = control
		}
		d.flags[int32(token.ID)] = addedToken{stripLeft: token.LStrip, stripRight: token.RStrip, singleWord: token.SingleWord}
	}
	for id := range d.tokens {
		if d.kinds[id] == 0 {
			d.tokens[id], d.kinds[id] = fmt.Sprintf("[UNUSED_%d]", id), unused
		}
	}
	return nil
}

// idOf finds a token by its text. It is for the few that are named.
func (d *definition) idOf(text string) (int32, bool) {
	for id := range d.tokens {
		if d.tokens[id] == text && d.kinds[id] != unused {
			return int32(id), true
		}
	}
	return -1, false
}

// fill reads tokenizer_config.json into a definition; what it says goes before what tokenizer.json says.
func (c *configJSON) fill(d *definition) error {
	for _, special := range []struct {
		field string
		name  specialName
		id    *int32
	}{{"bos_token", c.BOS, &d.bos}, {"eos_token", c.EOS, &d.eos}} {
		if special.name == "" {
			continue
		}
		id, ok := d.idOf(string(special.name))
		if !ok {
			return fmt.Errorf("%s %q is not in the vocabulary", special.field, abbreviate(string(special.name)))
		}
		*special.id = id
	}
	if c.AddBOSToken != nil {
		d.addBOS = *c.AddBOSToken
	}
	if c.AddEOSToken != nil {
		d.addEOS = *c.AddEOSToken
	}
	return nil
}
