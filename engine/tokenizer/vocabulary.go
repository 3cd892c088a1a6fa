package tokenizer

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// ErrInvalid says that a vocabulary contradicts itself or asks for something that is not supported.
var ErrInvalid = errors.New("tokenizer: invalid vocabulary")

// Bounds of what a vocabulary may hold. Real ones stay far below: the largest have some 260,000 tokens.
const (
	maxTokens     = 1 << 22
	maxTokenBytes = 1 << 16
	maxHoles      = 1 << 16 // ids without a token, beyond as many as there are tokens
	maxCutWork    = 1 << 32 // bytes looked at to cut SentencePiece tokens in two
)

// definition is a vocabulary as both kinds of model files describe it.
type definition struct {
	tokens      []string
	kinds       []kind
	merges      []string  // "left right", best first
	scores      []float32 // SentencePiece without merges
	characters  bool      // symbols are characters (SentencePiece), not bytes
	split       preTokenizer
	spacePrefix spacePrefix

	bos, eos, unknown int32 // -1 for none
	addBOS, addEOS    bool
	ends              []int32 // further ids that end a generation
	suppressed        []int32
	fim               [3]int32             // prefix, suffix, middle; -1 for none
	flags             map[int32]addedToken // how Hugging Face matches an added token
	warnings          []string
}

// build checks a definition and makes a tokenizer of it. Errors wrap ErrInvalid.
func (d *definition) build() (*Tokenizer, error) {
	t, err := d.assemble()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return t, nil
}

func (d *definition) assemble() (*Tokenizer, error) {
	if err := d.check(); err != nil {
		return nil, err
	}
	ids := make(map[string]int32, len(d.tokens))
	for id, text := range d.tokens {
		if first, ok := ids[text]; ok {
			return nil, fmt.Errorf("tokens %d and %d are both %q", first, id, abbreviate(text))
		}
		ids[text] = int32(id)
	}
	t := &Tokenizer{
		tokens: d.tokens, kinds: d.kinds, bos: d.bos, eos: d.eos, unknown: d.unknown, addBOS: d.addBOS, addEOS: d.addEOS,
		warnings: d.warnings, nfc: d.split.nfc, spacePrefix: d.spacePrefix,
	}
	d.findSpecial(t, ids)
	if err := t.decodePieces(!d.characters); err != nil {
		return nil, err
	}
	if err := d.addTokens(t); err != nil {
		return nil, err
	}
	if d.characters {
		return t, d.assembleCharacters(t, ids)
	}
	return t, d.assembleBytes(t, ids)
}

// check verifies lengths and ids, and gives a text to tokens that have none.
func (d *definition) check() error {
	n := len(d.tokens)
	if n == 0 || n > maxTokens {
		return fmt.Errorf("there are %d tokens, want 1 to %d", n, maxTokens)
	}
	if len(d.kinds) != n {
		return fmt.Errorf("there are %d token types for %d tokens", len(d.kinds), n)
	}
	total := 0
	for id, text := range d.tokens {
		if len(text) > maxTokenBytes {
			return fmt.Errorf("token %d has %d bytes, the most is %d", id, len(text), maxTokenBytes)
		}
		if d.kinds[id] < normal || d.kinds[id] > byteToken {
			return fmt.Errorf("token %d, %q, has the unknown type %d", id, abbreviate(text), d.kinds[id])
		}
		if text == "" {
			d.tokens[id], d.kinds[id] = fmt.Sprintf("[EMPTY_%d]", id), unused
		}
		total += len(text)
	}
	if total > math.MaxInt32 {
		return fmt.Errorf("the tokens have %d bytes together", total)
	}
	named := []struct {
		name string
		id   int32
	}{{"bos", d.bos}, {"eos", d.eos}, {"unknown", d.unknown}, {"fim prefix", d.fim[0]}, {"fim suffix", d.fim[1]}, {"fim middle", d.fim[2]}}
	for _, special := range named {
		if special.id < -1 || int(special.id) >= n {
			return fmt.Errorf("the %s token is %d, the vocabulary has %d tokens", special.name, special.id, n)
		}
	}
	for _, id := range slices.Concat(d.ends, d.suppressed) {
		if id < 0 || int(id) >= n {
			return fmt.Errorf("special token %d is not among the %d tokens", id, n)
		}
	}
	return nil
}

// decodePieces fills t.pieces with the text of every token.
func (t *Tokenizer) decodePieces(byteLevel bool) error {
	alphabet := alphabetBytes()
	var pieces []byte
	t.offsets = make([]uint32, 0, len(t.tokens)+1)
	for id, text := range t.tokens {
		t.offsets = append(t.offsets, uint32(len(pieces)))
		switch {
		case t.kinds[id] == unused:
		case t.kinds[id] == byteToken:
			b, ok := parseByteToken(text)
			if !ok {
				return fmt.Errorf("byte token %d is spelled %q, want <0xXX>", id, abbreviate(text))
			}
			pieces = append(pieces, b)
		case t.kinds[id] != normal:
			pieces = append(pieces, text...)
		case byteLevel:
			pieces = appendAlphabet(pieces, text, alphabet)
		default:
			pieces = append(pieces, strings.ReplaceAll(text, spaceSymbol, " ")...)
		}
	}
	t.offsets = append(t.offsets, uint32(len(pieces)))
	t.pieces = string(pieces)
	return nil
}

// addTokens makes the trie of the tokens that are found in raw text.
func (d *definition) addTokens(t *Tokenizer) error {
	var added []addedToken
	for id, text := range t.tokens {
		k := t.kinds[id]
		if k != control && k != unknown && k != userDefined {
			continue
		}
		token := d.flags[int32(id)]
		token.id, token.text = int32(id), text
		token.control = k != userDefined
		token.guarded = token.control || isDelimiter(text)
		added = append(added, token)
	}
	var err error
	t.added, err = newTrie(added)
	return err
}

// assembleBytes prepares byte-level merging.
func (d *definition) assembleBytes(t *Tokenizer, ids map[string]int32) error {
	for b := range t.bytes {
		t.bytes[b] = -1
		if id, ok := ids[string(byteAlphabet[b])]; ok && t.kinds[id] == normal {
			t.bytes[b] = id
		}
	}
	t.stages = d.split.stages
	t.cache = newPieceCache()
	if d.split.ignoreMerges {
		t.whole = make(map[string]int32, len(t.tokens))
		alphabet := alphabetBytes()
		for id, text := range t.tokens {
			if t.kinds[id] == normal && inAlphabet(text, alphabet) {
				t.whole[string(appendAlphabet(nil, text, alphabet))] = int32(id)
			}
		}
	}
	return d.useMerges(t, ids)
}

// assembleCharacters prepares SentencePiece merging.
func (d *definition) assembleCharacters(t *Tokenizer, ids map[string]int32) error {
	for b := range t.bytes {
		t.bytes[b] = -1
	}
	work := 0
	for id, text := range t.tokens {
		work += len(text) * len(text)
		if t.kinds[id] == byteToken {
			b, _ := parseByteToken(text)
			t.bytes[b] = int32(id)
		}
	}
	if d.scores != nil {
		if work > maxCutWork {
			return fmt.Errorf("the tokens are too long to be cut in two: %d bytes squared", work)
		}
		return t.useScores(d.scores)
	}
	t.characters = map[string]int32{}
	for id, text := range t.tokens {
		if t.merges(int32(id)) && utf8.RuneCountInString(text) == 1 {
			t.characters[text] = int32(id)
		}
	}
	return d.useMerges(t, ids)
}

// useMerges makes the table of pairs of a list of merges.
func (d *definition) useMerges(t *Tokenizer, ids map[string]int32) error {
	if uint64(len(d.merges)) >= uint64(noRank) {
		return fmt.Errorf("there are %d merges", len(d.merges))
	}
	t.pairs = newPairTable(len(d.merges))
	var joined []byte
	for rank, merge := range d.merges {
		left, right, ok := cutMerge(merge)
		if !ok {
			return fmt.Errorf("merge %d, %q, is not two symbols", rank, abbreviate(merge))
		}
		joined = append(append(joined[:0], left...), right...)
		leftID, okLeft := ids[left]
		rightID, okRight := ids[right]
		mergedID, okMerged := ids[string(joined)]
		for _, part := range []struct {
			ok   bool
			text string
		}{{okLeft, left}, {okRight, right}, {okMerged, string(joined)}} {
			if !part.ok {
				return fmt.Errorf("merge %d, %q, names %q, which is no token", rank, abbreviate(merge), abbreviate(part.text))
			}
		}
		if !t.merges(leftID) || !t.merges(rightID) || !t.merges(mergedID) {
			return fmt.Errorf("merge %d, %q, is of special tokens", rank, abbreviate(merge))
		}
		t.pairs.set(leftID, rightID, uint32(rank), mergedID)
	}
	return nil
}

// cutMerge cuts a merge at its first space, which is not its first character.
func cutMerge(merge string) (left, right string, ok bool) {
	if merge == "" {
		return "", "", false
	}
	i := strings.IndexByte(merge[1:], ' ') + 1
	if i == 0 || i+1 == len(merge) {
		return "", "", false
	}
	return merge[:i], merge[i+1:], true
}

// parseByteToken reads the byte of a token spelled <0xXX>.
func parseByteToken(text string) (byte, bool) {
	if len(text) != 6 || text[:3] != "<0x" || text[5] != '>' {
		return 0, false
	}
	high, low := hexDigit(text[3]), hexDigit(text[4])
	if high < 0 || low < 0 {
		return 0, false
	}
	return byte(high<<4 | low), true
}

func hexDigit(b byte) int {
	switch {
	case isDigit(b):
		return int(b - '0')
	case b|0x20 >= 'a' && b|0x20 <= 'f':
		return int(b|0x20-'a') + 10
	}
	return -1
}

// abbreviate shortens a text of a file for an error message.
func abbreviate(s string) string {
	const most = 60
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}
