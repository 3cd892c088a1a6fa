package draft

import "slices"

const (
	// minMatch is the fewest tokens that must occur again: two meet by chance too often.
	minMatch = 3
	// maxMatch is where comparing ends: a longer match is no surer.
	maxMatch = 32
	// maxCandidates bounds how many earlier places are compared.
	maxCandidates = 16
)

// Index finds where the last tokens of a text occurred before. It is the match finder of LZ77 with hash chains (RFC 1951
// §4): for each hash of minMatch tokens the last place behind them, for each place the one before it of the same hash.
//
//	text   ... a b c x y ... a b c          place 5 is behind a b c: x may follow
//	                 ^5
//	heads[hash(a b c)] = 5 -> prev[5] -> ... -> 0, which ends a chain
type Index struct {
	text  []int32
	heads []int32 // [power of two]
	prev  []int32 // as long as the text is known to heads
}

// NewIndex returns an index with room for so many tokens; it grows when there are more.
func NewIndex(room int) *Index {
	size := 1 << 8
	for size < room/2 {
		size *= 2
	}
	return &Index{text: make([]int32, 0, room), heads: make([]int32, size), prev: make([]int32, 0, room)}
}

// Len is the number of tokens added.
func (x *Index) Len() int { return len(x.text) }

// Append adds tokens behind the text.
func (x *Index) Append(tokens ...int32) {
	x.text = append(x.text, tokens...)
	if len(x.text) > 4*len(x.heads) {
		x.heads, x.prev = make([]int32, 2*len(x.heads)), x.prev[:0]
	}
	for place := len(x.prev); place < len(x.text); place++ {
		if place < minMatch {
			x.prev = append(x.prev, 0)
			continue
		}
		head := x.head(place)
		x.prev = append(x.prev, *head)
		*head = int32(place)
	}
}

// head is the entry for the tokens before a place.
func (x *Index) head(place int) *int32 {
	h := uint64(0)
	for _, token := range x.text[place-minMatch : place] {
		h = (h ^ uint64(uint32(token))) * 0x9e3779b97f4a7c15
		h ^= h >> 29
	}
	return &x.heads[h&uint64(len(x.heads)-1)]
}

// Lookup appends to draft what followed the longest earlier occurrence of the text's end, the latest of those that are
// equally long, up to most tokens; beyond the text's end it is taken to go on in the same way. It returns the length of
// the occurrence, 0 if there is none.
func (x *Index) Lookup(draft []int32, most int) ([]int32, int) {
	if len(x.text) < minMatch {
		return draft, 0
	}
	best, at := minMatch-1, 0
	place := int(*x.head(len(x.text)))
	for range maxCandidates {
		if place == 0 || best == maxMatch {
			break
		}
		if n := x.matched(place); n > best {
			best, at = n, place
		}
		place = int(x.prev[place])
	}
	if at == 0 {
		return draft, 0
	}
	period := len(x.text) - at
	for i := range most {
		draft = append(draft, x.text[at+i%period])
	}
	return draft, best
}

// matched is how many tokens before a place equal those at the text's end.
func (x *Index) matched(place int) int {
	n, end := 0, len(x.text)
	for n < min(place, maxMatch) && x.text[place-1-n] == x.text[end-1-n] {
		n++
	}
	return n
}

// matchClasses are the shortest matches of each class.
var matchClasses = [NumClasses]int{minMatch, 4, 6, 8, 12, 20}

// Where guesses failed again and again, a lane is looked up now and then only: what pays after all, a long text that is
// repeated, is still found a few tokens later.
const (
	longPause   = 8 * firstPause
	restedSteps = 4
)

// Lookup is the drafter that knows the sequences' own texts.
type Lookup struct{}

// LookIn gives a lane the tokens to look in: those of a text that the answer may repeat, and the prompt. There is room for
// a sequence of so many tokens.
func (l *Lane) LookIn(expected, prompt []int32, room int) {
	l.index, l.expected = NewIndex(len(expected)+room), len(expected)
	l.index.Append(expected...)
	l.index.Append(prompt...)
}

// Source is part of Drafter.
func (Lookup) Source() Source { return NGram }

// Propose is part of Drafter.
func (Lookup) Propose(lanes []*Lane) error {
	for _, l := range lanes {
		if l.index == nil || l.pause >= longPause && len(l.Tokens)%restedSteps != 0 {
			continue
		}
		known := l.index.Len() - l.expected
		l.index.Append(l.Tokens[known:]...)
		if l.Most == 0 {
			continue
		}
		match := 0
		l.Draft, match = l.index.Lookup(l.Draft[:0], l.Most)
		l.Source, l.Class = NGram, 0
		if i := slices.IndexFunc(matchClasses[:], func(least int) bool { return least > match }); i > 0 {
			l.Class = i - 1
		} else if match > 0 {
			l.Class = NumClasses - 1
		}
	}
	return nil
}
