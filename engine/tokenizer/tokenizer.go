package tokenizer

import (
	"slices"
	"sync"
)

// Tokenizer is a vocabulary and the rules to apply it. It does not change after it is made, except for a cache behind
// locks, and is safe for concurrent use.
type Tokenizer struct {
	tokens  []string // [vocabSize], as the vocabulary spells them
	kinds   []kind   // [vocabSize]
	pieces  string   // the bytes of all tokens, one after the other
	offsets []uint32 // [vocabSize+1], token i is pieces[offsets[i]:offsets[i+1]]

	added *trie // tokens that are found in raw text before anything else

	bos, eos, unknown int32 // -1 when the vocabulary has none
	addBOS, addEOS    bool
	eog               []int32
	suppressed        []int32
	fim               FIM
	hasFIM            bool
	warnings          []string

	nfc         bool
	stages      []stage // of the pre-tokenizer; nil for SentencePiece
	spacePrefix spacePrefix
	pairs       *pairTable
	bytes       [256]int32       // token of a single byte, -1 when there is none
	characters  map[string]int32 // SentencePiece: symbol of a single character
	whole       map[string]int32 // pieces that are looked up before merging; nil when all are merged
	cache       *pieceCache      // nil for SentencePiece, whose pieces are whole texts
	scratch     sync.Pool        // of *merger
}

// spacePrefix says where SentencePiece puts the space that makes the first word of a text look like any other.
type spacePrefix uint8

const (
	noPrefix          spacePrefix = iota
	prefixAll                     // before every stretch of text between added tokens
	prefixAbsent                  // likewise, unless the stretch begins with a space
	prefixFirstAbsent             // before the text, if it begins with a stretch of text that does not begin with a space
)

// kind is what a vocabulary entry is for; the numbers are GGUF's tokenizer.ggml.token_type.
type kind uint8

const (
	normal      kind = 1
	unknown     kind = 2
	control     kind = 3
	userDefined kind = 4
	unused      kind = 5
	byteToken   kind = 6
)

// FIM names the tokens of a fill-in-the-middle prompt: Prefix, the text before the hole, Suffix, the text after it,
// Middle; the model continues with what belongs in the hole.
type FIM struct {
	Prefix, Suffix, Middle int32
}

// BOS returns the token that begins a text; false when the vocabulary has none.
func (t *Tokenizer) BOS() (int32, bool) { return t.bos, t.bos >= 0 }

// EOS returns the token that ends a text; false when the vocabulary has none.
func (t *Tokenizer) EOS() (int32, bool) { return t.eos, t.eos >= 0 }

// AddBOS reports whether a text is to begin with BOS.
func (t *Tokenizer) AddBOS() bool { return t.addBOS && t.bos >= 0 }

// EOG lists the tokens that end a generation, in ascending order: end of sequence, of turn, of message. The caller does
// not modify it.
func (t *Tokenizer) EOG() []int32 { return t.eog }

// Suppressed lists the tokens that are never to be generated, in ascending order: holes of the vocabulary, and those
// the model file names. The caller does not modify it.
func (t *Tokenizer) Suppressed() []int32 { return t.suppressed }

// FIM returns the fill-in-the-middle tokens; false when the vocabulary lacks one of them.
func (t *Tokenizer) FIM() (FIM, bool) { return t.fim, t.hasFIM }

// Warnings lists what was missing in the model file and had to be assumed. The caller does not modify it.
func (t *Tokenizer) Warnings() []string { return t.warnings }

// VocabSize is the number of tokens. The model may have more rows than this.
func (t *Tokenizer) VocabSize() int { return len(t.tokens) }

// Valid reports whether id is in the vocabulary.
func (t *Tokenizer) Valid(id int32) bool { return id >= 0 && int(id) < len(t.tokens) }

// Token returns a token as the vocabulary spells it: special tokens as their text, others in the alphabet of the
// vocabulary (byte-level BPE writes a space as "Ġ", SentencePiece as "▁"). It returns false for an id outside.
func (t *Tokenizer) Token(id int32) (string, bool) {
	if !t.Valid(id) {
		return "", false
	}
	return t.tokens[id], true
}

// IsSpecial reports whether id is a control token, which PieceOptions.Special makes visible.
func (t *Tokenizer) IsSpecial(id int32) bool {
	return t.Valid(id) && (t.kinds[id] == control || t.kinds[id] == unknown)
}

// PieceOptions say how tokens become text.
type PieceOptions struct {
	Special bool // control tokens as their text; otherwise they are nothing
}

// AppendPiece appends the bytes of a token to dst. A token may hold part of a character; an id outside the vocabulary
// is nothing.
func (t *Tokenizer) AppendPiece(dst []byte, id int32, opts PieceOptions) []byte {
	return append(dst, t.piece(id, opts)...)
}

// piece returns the bytes of a token.
func (t *Tokenizer) piece(id int32, opts PieceOptions) string {
	if !t.Valid(id) || t.IsSpecial(id) && !opts.Special {
		return ""
	}
	return t.pieces[t.offsets[id]:t.offsets[id+1]]
}

// AppendDecoded appends the bytes of a whole text to dst, without the space that SentencePiece put before its words:
// for text that is valid UTF-8 and in the vocabulary's normal form, it is what Encode was given.
func (t *Tokenizer) AppendDecoded(dst []byte, ids []int32, opts PieceOptions) []byte {
	everywhere := t.spacePrefix == prefixAll || t.spacePrefix == prefixAbsent
	strip := t.spacePrefix != noPrefix
	for _, id := range ids {
		before := len(dst)
		dst = t.AppendPiece(dst, id, opts)
		if !t.Valid(id) || t.kinds[id] == control {
			strip = strip || everywhere
			continue
		}
		if t.kinds[id] == userDefined {
			strip = everywhere
			continue
		}
		if strip && len(dst) > before && dst[before] == ' ' {
			dst = slices.Delete(dst, before, before+1)
		}
		strip = false
	}
	return dst
}

// Decode returns the text of a whole sequence of ids, as AppendDecoded does. Bytes that are not UTF-8 become U+FFFD, one
// for each maximal part of a character.
func (t *Tokenizer) Decode(ids []int32, opts PieceOptions) string {
	return ValidText(t.AppendDecoded(nil, ids, opts))
}
