package tokenizer

import (
	"fmt"
	"math"
	"slices"
	"unicode/utf8"
)

// spaceSymbol is how SentencePiece writes a space.
const spaceSymbol = "▁"

// useScores prepares SentencePiece merging from scores: two neighbours merge when their union is a token, the better
// its score the earlier (Kudo and Richardson, arXiv 1808.06226; the bpe model type). The pairs are found once, here: for
// each token every way to cut it in two symbols. Characters that tokens consist of but that are no tokens themselves get
// symbols behind the vocabulary.
func (t *Tokenizer) useScores(scores []float32) error {
	if len(scores) != len(t.tokens) {
		return fmt.Errorf("there are %d scores for %d tokens", len(scores), len(t.tokens))
	}
	order := slices.Clone(scores)
	for id, score := range scores {
		if math.IsNaN(float64(score)) {
			return fmt.Errorf("token %d: its score is not a number", id)
		}
	}
	slices.Sort(order)
	order = slices.Compact(order)

	symbols := t.mergeable()
	t.characters = map[string]int32{}
	cuts, next := 0, int32(len(t.tokens))
	for id, text := range t.tokens {
		if !t.merges(int32(id)) {
			continue
		}
		for i, n := 0, 0; i < len(text); i += n {
			_, n = utf8.DecodeRuneInString(text[i:])
			cuts++
			character := text[i : i+n]
			if _, ok := t.characters[character]; ok {
				continue
			}
			symbol, ok := symbols[character]
			if !ok {
				symbol, symbols[character] = next, next
				next++
			}
			t.characters[character] = symbol
		}
	}
	t.pairs = newPairTable(cuts)
	for id, text := range t.tokens {
		if !t.merges(int32(id)) {
			continue
		}
		at, _ := slices.BinarySearch(order, scores[id])
		rank := uint32(len(order) - 1 - at)
		for i := range text {
			left, ok := symbols[text[:i]]
			right, ok2 := symbols[text[i:]]
			if i > 0 && ok && ok2 {
				t.pairs.set(left, right, rank, int32(id))
			}
		}
	}
	return nil
}

// mergeable maps the texts that symbols may have to their ids.
func (t *Tokenizer) mergeable() map[string]int32 {
	symbols := make(map[string]int32, len(t.tokens))
	for id, text := range t.tokens {
		if t.merges(int32(id)) {
			symbols[text] = int32(id)
		}
	}
	return symbols
}

// merges reports whether merging may lead to a token: control tokens are never made of text.
func (t *Tokenizer) merges(id int32) bool { return t.kinds[id] == normal || t.kinds[id] == userDefined }
