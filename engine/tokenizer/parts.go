package tokenizer

import "strings"

// Parts is a text cut where its parts are encoded each by itself: added tokens, and the stretches of text between them.
// It does not change and is safe for concurrent use.
//
// Tokens that stand for the beginning of a text may come from elsewhere than an encoding of it: a model that wrote a
// part of it may have spelled it another way. Follow finds out how far such tokens go, and Encode encodes the rest.
type Parts struct {
	tok   *Tokenizer
	parts []part
}

type part struct {
	fragment
	leads bool // the text begins with it
}

// Position is a place in the text of Parts where its encoding can go on: the beginning of a part, or of a piece within
// a stretch of text.
type Position struct {
	Part   int
	offset int // in the text of the part as it is encoded
}

// Before reports whether p comes before q.
func (p Position) Before(q Position) bool {
	return p.Part < q.Part || p.Part == q.Part && p.offset < q.offset
}

// Cut cuts a text as Encode does.
func (t *Tokenizer) Cut(text string, opts EncodeOptions) *Parts {
	return t.cut(text, partition{control: opts.ParseSpecial}, opts.AddSpecial)
}

// CutGuarded cuts a guarded text as EncodeGuarded does.
func (t *Tokenizer) CutGuarded(text string, opts EncodeOptions) *Parts {
	plain, outside := unguard(text)
	return t.cut(plain, partition{control: true, outside: outside}, opts.AddSpecial)
}

func (t *Tokenizer) cut(text string, rules partition, addSpecial bool) *Parts {
	fragments := t.added.cut(text, rules)
	p := &Parts{tok: t, parts: make([]part, 0, len(fragments)+2)}
	if addSpecial && t.AddBOS() {
		p.parts = append(p.parts, part{fragment: fragment{id: t.bos}})
	}
	for i, f := range fragments {
		p.parts = append(p.parts, part{f, i == 0})
	}
	if addSpecial && t.addEOS && t.eos >= 0 {
		p.parts = append(p.parts, part{fragment: fragment{id: t.eos}})
	}
	return p
}

// Len is the number of parts.
func (p *Parts) Len() int { return len(p.parts) }

// Start is the position at the beginning of the i-th part; that of Len is the end of the text.
func (p *Parts) Start(i int) Position { return Position{Part: i} }

// Part returns the i-th part: an added token, or its text and -1. Texts with equal parts have equal encodings.
func (p *Parts) Part(i int) (text string, id int32) { return p.parts[i].text, p.parts[i].id }

// Encode appends the ids of the text between two positions to dst. The text before from and that after to do not matter
// to them, so the encoding of the whole is that of its parts, one after the other. to is the beginning of a part.
func (p *Parts) Encode(dst []int32, from, to Position) []int32 {
	e := encoder{tok: p.tok, merger: p.tok.newMerger(), ids: dst}
	e.split.stages = p.tok.stages
	for i := from.Part; i < to.Part; i++ {
		skip := 0
		if i == from.Part {
			skip = from.offset
		}
		e.part(&p.parts[i], skip)
	}
	p.tok.release(e.merger)
	return e.ids
}

// Text is the text of the tokens between two parts, control tokens included.
func (p *Parts) Text(from, to int) string {
	var out strings.Builder
	for _, f := range p.parts[from:to] {
		if f.id >= 0 {
			out.WriteString(p.tok.piece(f.id, PieceOptions{Special: true}))
		} else {
			out.WriteString(f.text)
		}
	}
	return out.String()
}

// IsReserved reports whether text from outside never becomes this token: control tokens, and those that delimit turns.
func (t *Tokenizer) IsReserved(id int32) bool {
	return t.IsSpecial(id) || t.Valid(id) && t.kinds[id] == userDefined && isDelimiter(t.tokens[id])
}

// Followed is how far ids stand for a text.
type Followed struct {
	Tokens int      // how many of the ids do
	End    Position // where the text ends that they stand for; the encoding can go on there
	Parts  []int    // of each part that they stand for as a whole, the number of ids up to its end
}

// Follow returns how many of the ids stand for the text from the beginning of a part on. These ids say exactly what an
// encoding of the text says:
//
//   - the reserved tokens among them are those of the text, in the same places: see IsReserved;
//   - between these, what the ids decode to is the text, as it is or as its encoding normalizes it. Bytes that are no
//     characters are U+FFFD, as in everything that Stream returns.
func (p *Parts) Follow(ids []int32, from int) Followed {
	f := Followed{End: p.Start(from)}
	whole := func(n int) {
		f.Tokens += n
		f.End.Part++
		f.Parts = append(f.Parts, f.Tokens)
	}
	for f.End.Part < len(p.parts) && f.Tokens < len(ids) {
		part := &p.parts[f.End.Part]
		if part.id >= 0 && part.id == ids[f.Tokens] {
			whole(1)
			continue
		}
		if part.id >= 0 && (p.tok.IsReserved(part.id) || p.tok.stages == nil) { // SentencePiece writes what follows another way
			break
		}
		n, offset, all := p.tok.follow(ids[f.Tokens:], p.tok.spellings(part))
		if all {
			whole(n)
			continue
		}
		if part.id < 0 { // others are encoded as one token
			f.Tokens += n
			f.End.offset = offset
		}
		break
	}
	return f
}

// spellings are the texts that tokens may have for a part: first as it is encoded, then as it is.
func (t *Tokenizer) spellings(f *part) []string {
	if f.id >= 0 {
		return []string{t.piece(f.id, PieceOptions{Special: true})}
	}
	encoded := t.encoded(f)
	if encoded == f.text || t.stages == nil { // where it differs by a space that is no part of the text
		return []string{encoded}
	}
	return []string{encoded, f.text}
}

// follow follows one stretch of text in the spelling in which the ids go farthest. Where they do not stand for all of it,
// it returns the last piece of the text as it is encoded that they have reached.
func (t *Tokenizer) follow(ids []int32, spellings []string) (n, offset int, whole bool) {
	for i, text := range spellings {
		w := t.walk(ids, text)
		if w.whole {
			return w.n, len(text), true
		}
		if i == 0 {
			n, offset = t.lastPiece(text, w.ends)
		}
	}
	return n, offset, false
}

// walk is the way that ids go along a text.
type walk struct {
	n     int   // how many ids stand for all of it
	ends  []int // of the text of each of the first ids, -1 within a character
	whole bool
}

func (t *Tokenizer) walk(ids []int32, text string) (w walk) {
	stream := t.NewStream(PieceOptions{})
	at := 0
	for i, id := range ids {
		if !t.Valid(id) || t.IsReserved(id) || t.piece(id, PieceOptions{}) == "" {
			break
		}
		decoded := stream.Push(id)
		if !strings.HasPrefix(text[at:], decoded) {
			return w
		}
		at += len(decoded)
		if stream.Pending() > 0 {
			w.ends = append(w.ends, -1)
			continue
		}
		w.ends = append(w.ends, at)
		if at == len(text) {
			w.n, w.whole = i+1, true
			return w
		}
	}
	if stream.Pending() > 0 && stream.Flush() == text[at:] {
		w.n, w.whole = len(w.ends), true
	}
	return w
}

// lastPiece returns the last piece of a text that begins where one of the ids ends, with the number of ids before it.
func (t *Tokenizer) lastPiece(text string, ends []int) (n, offset int) {
	if t.stages == nil || len(ends) == 0 {
		return 0, 0
	}
	i, at := 0, 0
	split := splitter{stages: t.stages}
	split.emit = func(piece string) {
		at += len(piece)
		for i < len(ends) && ends[i] < at {
			i++
		}
		if i < len(ends) && ends[i] == at {
			n, offset = i+1, at
		}
	}
	split.split(text, 0)
	return n, offset
}
