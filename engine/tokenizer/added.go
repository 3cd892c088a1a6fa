package tokenizer

import (
	"fmt"
	"sort"
	"unicode"
	"unicode/utf8"
)

// maxAddedBytes bounds the texts of all added tokens together: the trie takes some forty bytes for each of theirs.
const maxAddedBytes = 4 << 20

// addedToken is a token that is found in raw text, before normalization and merging.
type addedToken struct {
	id         int32
	text       string
	control    bool // found only where control tokens are
	guarded    bool // not made of guarded text, see Guard
	stripLeft  bool // swallows the white space before it
	stripRight bool // and after it
	singleWord bool // only where no word continues on either side
}

// trie finds added tokens: a tree of their bytes, whose edges are in one map so that a node costs no more than its edge.
type trie struct {
	edges  map[uint64]int32 // node<<8|byte -> node
	tokens []addedToken
	ends   map[int32]int32 // node -> index of the token that ends there
	first  [256]bool       // bytes that some token begins with
}

// newTrie returns a trie of tokens with different texts that are not empty, or nil of none.
func newTrie(tokens []addedToken) (*trie, error) {
	if len(tokens) == 0 {
		return nil, nil
	}
	t := &trie{edges: map[uint64]int32{}, ends: map[int32]int32{}, tokens: tokens}
	total, nodes := 0, int32(1)
	for i := range tokens {
		text := tokens[i].text
		if total += len(text); total > maxAddedBytes {
			return nil, fmt.Errorf("the texts of added tokens take more than %d bytes", maxAddedBytes)
		}
		node := int32(0)
		for k := range len(text) {
			edge := uint64(node)<<8 | uint64(text[k])
			child, ok := t.edges[edge]
			if !ok {
				child = nodes
				t.edges[edge] = child
				nodes++
			}
			node = child
		}
		t.ends[node] = int32(i)
		t.first[text[0]] = true
	}
	return t, nil
}

// step follows an edge; false when there is none.
func (t *trie) step(node int32, b byte) (int32, bool) {
	node, ok := t.edges[uint64(node)<<8|uint64(b)]
	return node, ok
}

// fragment is a stretch of text, or the added token between two of them.
type fragment struct {
	text string
	id   int32 // -1 for text
}

// partition says where control tokens are found in a text.
type partition struct {
	control bool   // anywhere; otherwise nowhere
	outside []span // what no guarded token may overlap, in order
}

// cut returns the fragments of text: the leftmost of added tokens, of those that begin together the longest.
func (t *trie) cut(text string, rules partition) []fragment {
	if t == nil {
		return appendText(nil, text)
	}
	var fragments []fragment
	start := 0 // of the text that no fragment holds yet
	for i := 0; i < len(text); {
		if !t.first[text[i]] {
			i++
			continue
		}
		token, end := t.longestAt(text, i, &rules)
		if token == nil {
			i++
			continue
		}
		before := text[start:i]
		if token.stripLeft {
			before = trimRightSpace(before)
		}
		if token.stripRight {
			end += leadingSpace(text[end:])
		}
		fragments = append(appendText(fragments, before), fragment{id: token.id})
		i, start = end, end
	}
	return appendText(fragments, text[start:])
}

// longestAt returns the longest token at text[i:] that the rules allow, and its end.
func (t *trie) longestAt(text string, i int, rules *partition) (found *addedToken, end int) {
	limit := len(text) // where a guarded token must end
	if k := sort.Search(len(rules.outside), func(k int) bool { return rules.outside[k].to > i }); k < len(rules.outside) {
		limit = rules.outside[k].from
	}
	node, ok := int32(0), true
	for k := i; k < len(text); k++ {
		if node, ok = t.step(node, text[k]); !ok {
			break
		}
		index, ok := t.ends[node]
		if !ok {
			continue
		}
		token := &t.tokens[index]
		if token.control && !rules.control || token.guarded && k+1 > limit {
			continue
		}
		if token.singleWord && (endsInWord(text[:i]) || beginsWithWord(text[k+1:])) {
			continue
		}
		found, end = token, k+1
	}
	return found, end
}

func appendText(fragments []fragment, text string) []fragment {
	if text == "" {
		return fragments
	}
	return append(fragments, fragment{text: text, id: -1})
}

func trimRightSpace(s string) string {
	for s != "" {
		r, n := utf8.DecodeLastRuneInString(s)
		if !unicode.IsSpace(r) {
			break
		}
		s = s[:len(s)-n]
	}
	return s
}

func leadingSpace(s string) int {
	for i, r := range s {
		if !unicode.IsSpace(r) {
			return i
		}
	}
	return len(s)
}

func endsInWord(s string) bool {
	r, _ := utf8.DecodeLastRuneInString(s)
	return isWordRune(r)
}

func beginsWithWord(s string) bool {
	r, _ := utf8.DecodeRuneInString(s)
	return isWordRune(r)
}

func isWordRune(r rune) bool {
	return r != utf8.RuneError && (r == '_' || unicode.In(r, unicode.L, unicode.M, unicode.N))
}
