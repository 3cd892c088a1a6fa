package database

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

const (
	// maxIndexedBytes bounds what of a text is found: an index of every word of a file that a tool returned would make the
	// end of a turn slow.
	maxIndexedBytes = 256 << 10
	// maxWordBytes bounds a word; what is longer is data, found by its beginning.
	maxWordBytes = 64
)

// word is one word of a text as it is compared: in lower case and without accents.
type word struct {
	folded     string
	start, end int // in the text
}

// words calls yield with the words of a text in order, until it returns false. In scripts without spaces every character is
// a word, so that a phrase finds any part of a sentence.
func words(text string, yield func(word) bool) {
	start := -1
	for i, r := range text {
		switch {
		case isSpaceless(r):
			if start >= 0 && !yield(newWord(text, start, i)) {
				return
			}
			start = -1
			if !yield(newWord(text, i, i+utf8.RuneLen(r))) {
				return
			}
		case isWord(r):
			if start < 0 {
				start = i
			}
		case start >= 0:
			if !yield(newWord(text, start, i)) {
				return
			}
			start = -1
		}
	}
	if start >= 0 {
		yield(newWord(text, start, len(text)))
	}
}

func newWord(text string, start, end int) word {
	return word{fold(text[start:end]), start, end}
}

// isWord reports whether a character belongs to a word: letters, digits, and the marks on them.
func isWord(r rune) bool {
	if r < utf8.RuneSelf {
		return '0' <= r && r <= '9' || 'A' <= r && r <= 'Z' || 'a' <= r && r <= 'z'
	}
	return unicode.In(r, unicode.L, unicode.N, unicode.M)
}

func isSpaceless(r rune) bool {
	return r >= 0x0e00 && unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar)
}

// fold returns the form of a word in which words are compared.
func fold(s string) string {
	if len(s) > maxWordBytes {
		end := maxWordBytes
		for !utf8.RuneStart(s[end]) {
			end--
		}
		s = s[:end]
	}
	ascii := true
	for i := range len(s) {
		ascii = ascii && s[i] < utf8.RuneSelf
	}
	if ascii {
		return strings.ToLower(s)
	}
	return strings.Map(func(r rune) rune {
		if 0x0300 <= r && r <= 0x036f { // accents of Latin, Greek and Cyrillic, which NFKD takes off their letters
			return -1
		}
		return unicode.ToLower(unicode.ToUpper(r)) // the final sigma is a sigma
	}, norm.NFKD.String(s))
}

// Excerpt returns the part of a text around the first word of a query that it has, of at most about width bytes, with "…"
// where text is left out. Without such a word it is the beginning.
func Excerpt(text, query string, width int) string {
	at := firstMatch(text, query)
	from := max(0, at-width/3)
	to := min(len(text), from+width)
	for to < len(text) && !utf8.RuneStart(text[to]) {
		to++
	}
	if from > 0 { // at the beginning of a word, or of a character where there are no spaces
		if space := strings.IndexFunc(text[from:at], unicode.IsSpace); space >= 0 {
			from += space
		}
		for !utf8.RuneStart(text[from]) {
			from++
		}
	}
	excerpt := strings.Join(strings.Fields(text[from:to]), " ")
	if from > 0 {
		excerpt = "…" + excerpt
	}
	if to < len(text) {
		excerpt += "…"
	}
	return excerpt
}

// firstMatch returns where the first word of a query begins in a text, or 0.
func firstMatch(text, query string) (at int) {
	terms, err := parseQuery(query)
	if err != nil {
		return 0
	}
	words(text, func(w word) bool {
		for _, t := range terms {
			if w.folded == t.words[0] || t.prefix && strings.HasPrefix(w.folded, t.words[0]) {
				at = w.start
				return false
			}
		}
		return w.end < maxIndexedBytes
	})
	return at
}
