package tokenizer

import (
	"unicode"
	"unicode/utf8"
)

// class is the set of properties of a character that pre-tokenizers ask for, with the names of Unicode's general
// categories. A byte that is not UTF-8 counts as a character of class other.
type class uint16

const (
	letter   class = 1 << iota // L
	number                     // N
	mark                       // M
	punct                      // P
	symbol                     // S
	space                      // White_Space
	newline                    // \r and \n, which are spaces too
	upper                      // Lu and Lt, which are letters too
	lower                      // Ll, likewise
	caseless                   // Lm and Lo, likewise
	other                      // none of these: control, format, unassigned
)

// asciiClass is classOf of the first 128 characters.
var asciiClass = func() (table [utf8.RuneSelf]class) {
	for r := range table {
		table[r] = unicodeClass(rune(r))
	}
	return table
}()

// classOf returns the class of a character. Most of the text that is not ASCII is in a few large blocks of letters
// without case, which are asked for first.
func classOf(r rune) class {
	switch {
	case r < utf8.RuneSelf:
		return asciiClass[r]
	case r >= 0x4E00 && r <= 0x9FFF, r >= 0xAC00 && r <= 0xD7A3, r >= 0x3041 && r <= 0x3096, r >= 0x30A1 && r <= 0x30FA:
		return letter | caseless // CJK ideographs, Hangul syllables, Hiragana, Katakana
	}
	return unicodeClass(r)
}

// unicodeClass is the specification of classOf.
func unicodeClass(r rune) class {
	var c class
	switch {
	case unicode.Is(unicode.Ll, r):
		c = letter | lower
	case unicode.In(r, unicode.Lu, unicode.Lt):
		c = letter | upper
	case unicode.Is(unicode.L, r):
		c = letter | caseless
	case unicode.Is(unicode.M, r):
		c = mark
	case unicode.Is(unicode.N, r):
		c = number
	case unicode.Is(unicode.P, r):
		c = punct
	case unicode.Is(unicode.S, r):
		c = symbol
	}
	if unicode.Is(unicode.White_Space, r) {
		c |= space
	}
	if r == '\r' || r == '\n' {
		c |= newline
	}
	if c == 0 {
		c = other
	}
	return c
}

// scanner reads characters of a text; it counts them, so that tests can see that no stretch is read again and again.
type scanner struct {
	reads int
}

// at returns the class of the character at s[i:] and its length in bytes, both 0 at the end.
func (sc *scanner) at(s string, i int) (class, int) {
	if i >= len(s) {
		return 0, 0
	}
	sc.reads++
	if s[i] < utf8.RuneSelf {
		return asciiClass[s[i]], 1
	}
	r, n := utf8.DecodeRuneInString(s[i:])
	if r == utf8.RuneError && n == 1 {
		return other, 1
	}
	return classOf(r), n
}

// is reports whether the character at s[i:] has one of the properties in want.
func (sc *scanner) is(s string, i int, want class) bool {
	c, _ := sc.at(s, i)
	return c&want != 0
}

// run returns the end of the run of characters with one of the properties in want that begins at i, which may be empty.
func (sc *scanner) run(s string, i int, want class) int {
	for {
		c, n := sc.at(s, i)
		if c&want == 0 {
			return i
		}
		i += n
	}
}

// runNot returns the end of the run of characters with none of the properties in avoid that begins at i.
func (sc *scanner) runNot(s string, i int, avoid class) int {
	for {
		c, n := sc.at(s, i)
		if n == 0 || c&avoid != 0 {
			return i
		}
		i += n
	}
}
