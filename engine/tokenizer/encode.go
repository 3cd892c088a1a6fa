package tokenizer

import (
	"math"
	"strings"
	"unicode/utf8"
)

// EncodeOptions say how special tokens are treated.
type EncodeOptions struct {
	AddSpecial   bool // add the tokens that begin and end a text, if the model wants them
	ParseSpecial bool // control tokens in the text are control tokens; otherwise they are text like any other
}

const (
	// maxSymbols bounds what is merged at once, so that positions in bytes fit 32 bits; longer pieces are cut there.
	maxSymbols = math.MaxInt32 / utf8.UTFMax
	// maxKeptSymbols bounds the scratch that is kept for the next text.
	maxKeptSymbols = 1 << 18
)

// Encode returns the ids of a text. User-defined tokens are found in every text, control tokens with ParseSpecial.
func (t *Tokenizer) Encode(text string, opts EncodeOptions) []int32 {
	return t.encode(text, partition{control: opts.ParseSpecial}, opts.AddSpecial)
}

func (t *Tokenizer) encode(text string, rules partition, addSpecial bool) []int32 {
	p := t.cut(text, rules, addSpecial)
	return p.Encode(make([]int32, 0, len(text)/3+2), p.Start(0), p.Start(p.Len()))
}

// encoder encodes one text.
type encoder struct {
	tok    *Tokenizer
	merger *merger
	split  splitter
	ids    []int32
}

// part appends the ids of a part of a text, without the first skip bytes, which are whole pieces.
func (e *encoder) part(f *part, skip int) {
	if f.id >= 0 {
		e.ids = append(e.ids, f.id)
		return
	}
	text := e.tok.encoded(f)
	if e.tok.stages == nil {
		e.characters(text[skip:])
		return
	}
	e.split.emit = e.piece
	if skip > 0 {
		e.split.emit = func(piece string) {
			if skip -= len(piece); skip < 0 {
				skip = 0
				e.piece(piece)
			}
		}
	}
	e.split.split(text, 0)
}

// encoded returns a stretch of text in the form that is encoded.
func (t *Tokenizer) encoded(f *part) string {
	text := normalize(f.text, t.nfc)
	if t.stages == nil {
		text = t.spacePrefix.apply(text, f.leads)
	}
	return text
}

// apply puts SentencePiece's first space before a stretch of text.
func (p spacePrefix) apply(text string, first bool) string {
	switch {
	case p == noPrefix, p == prefixFirstAbsent && !first, p != prefixAll && strings.HasPrefix(text, " "):
		return text
	}
	return " " + text
}

// piece appends the ids of one piece of a byte-level vocabulary.
func (e *encoder) piece(text string) {
	t := e.tok
	if t.whole != nil {
		if id, ok := t.whole[text]; ok {
			e.ids = append(e.ids, id)
			return
		}
	}
	if len(text) > maxCachedBytes {
		for len(text) > maxSymbols {
			e.mergeBytes(text[:maxSymbols])
			text = text[maxSymbols:]
		}
		e.mergeBytes(text)
		return
	}
	ids, ok := t.cache.get(e.ids, text)
	if e.ids = ids; ok {
		return
	}
	before := len(e.ids)
	e.mergeBytes(text)
	t.cache.put(text, e.ids[before:])
}

// mergeBytes merges a piece, its bytes being the first symbols. Bytes that the vocabulary lacks become its unknown
// token, or nothing when it has none.
func (e *encoder) mergeBytes(text string) {
	m := e.merger
	m.symbols = resize(m.symbols, len(text))
	for i := range len(text) {
		m.symbols[i] = e.tok.bytes[text[i]]
	}
	m.merge(e.tok.pairs)
	for i := int32(0); int(i) < len(m.symbols); i = m.next[i] {
		if id := m.symbols[i]; id >= 0 {
			e.ids = append(e.ids, id)
		} else if e.tok.unknown >= 0 {
			e.ids = append(e.ids, e.tok.unknown)
		}
	}
}

// characters appends the ids of a stretch of text in a SentencePiece vocabulary.
func (e *encoder) characters(text string) {
	m := e.merger
	for text != "" {
		m.symbols, m.starts = m.symbols[:0], m.starts[:0]
		at := 0
		for at < len(text) && len(m.symbols) < maxSymbols {
			n := 1
			character := spaceSymbol
			if text[at] != ' ' {
				_, n = utf8.DecodeRuneInString(text[at:])
				character = text[at : at+n]
			}
			id, ok := e.tok.characters[character]
			if !ok {
				id = -1
			}
			m.symbols, m.starts = append(m.symbols, id), append(m.starts, int32(at))
			at += n
		}
		m.starts = append(m.starts, int32(at))
		m.merge(e.tok.pairs)
		e.takeCharacters(text)
		text = text[at:]
	}
}

// takeCharacters appends the merged symbols. A character without a token becomes the tokens of its bytes, or the
// unknown token where these are missing.
func (e *encoder) takeCharacters(text string) {
	m := e.merger
	for i := int32(0); int(i) < len(m.symbols); i = m.next[i] {
		if id := m.symbols[i]; id >= 0 && int(id) < len(e.tok.tokens) {
			e.ids = append(e.ids, id)
			continue
		}
		character := text[m.starts[i]:m.starts[i+1]]
		if character == " " {
			character = spaceSymbol
		}
		for k := range len(character) {
			id := e.tok.bytes[character[k]]
			if id < 0 {
				if e.tok.unknown >= 0 {
					e.ids = append(e.ids, e.tok.unknown)
				}
				break
			}
			e.ids = append(e.ids, id)
		}
	}
}

func (t *Tokenizer) newMerger() *merger {
	if m, ok := t.scratch.Get().(*merger); ok {
		return m
	}
	return &merger{}
}

// release keeps a merger for the next text.
func (t *Tokenizer) release(m *merger) {
	if cap(m.symbols) <= maxKeptSymbols {
		t.scratch.Put(m)
	}
}
