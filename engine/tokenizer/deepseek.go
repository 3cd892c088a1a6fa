package tokenizer

import "unicode/utf8"

// deepseekMatch is the last expression of DeepSeek V3:
//
//	[ASCII punctuation][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
//
// Characters that are none of these, as control characters, are what lies between matches.
func deepseekMatch(sc *scanner, s string) int {
	if isASCIIPunct(s[0]) && len(s) > 1 && isASCIILetter(s[1]) {
		end := 2
		for end < len(s) && isASCIILetter(s[end]) {
			sc.reads++
			end++
		}
		return end
	}
	c, n := sc.at(s, 0)
	if c&(letter|mark) != 0 || c&(newline|punct|symbol) == 0 && sc.is(s, n, letter|mark) {
		return sc.run(s, n, letter|mark)
	}
	i := 0
	if s[0] == ' ' {
		i = 1
	}
	if end := sc.run(s, i, punct|symbol); end > i {
		return sc.run(s, end, newline)
	}
	return whitespace(sc, s)
}

// oneNewline matches `[\r\n]`.
func oneNewline(_ *scanner, s string) int {
	if s[0] == '\r' || s[0] == '\n' {
		return 1
	}
	return 0
}

// letters matches `\p{L}+`, punctuation `\p{P}+`.
func letters(sc *scanner, s string) int     { return sc.run(s, 0, letter) }
func punctuation(sc *scanner, s string) int { return sc.run(s, 0, punct) }

// afterSpace matches `\s?` and then m.
func afterSpace(m match) match {
	return func(sc *scanner, s string) int {
		c, n := sc.at(s, 0)
		if c&space == 0 {
			return m(sc, s)
		}
		if end := m(sc, s[n:]); end > 0 {
			return n + end
		}
		return m(sc, s) // U+3000 is a space and one of the marks of print too
	}
}

// trailingSpace is `\s+$`.
func trailingSpace(sc *scanner, s string) (start, end int) {
	start = len(s)
	for start > 0 {
		r, n := utf8.DecodeLastRuneInString(s[:start])
		sc.reads++
		if classOf(r)&space == 0 {
			break
		}
		start -= n
	}
	return start, len(s)
}

// runeRun matches the longest run of characters in a table of inclusive ranges in ascending order.
func runeRun(ranges [][2]rune) match {
	return func(sc *scanner, s string) int {
		end := 0
		for end < len(s) {
			r, n := utf8.DecodeRuneInString(s[end:])
			sc.reads++
			if r == utf8.RuneError && n == 1 || !inRanges(ranges, r) {
				break
			}
			end += n
		}
		return end
	}
}

func inRanges(ranges [][2]rune, r rune) bool {
	low, high := 0, len(ranges)
	for low < high {
		middle := (low + high) / 2
		if r > ranges[middle][1] {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low < len(ranges) && r >= ranges[low][0]
}

var (
	// ideographsAndKana is `[一-龥぀-ゟ゠-ヿ]+`.
	ideographsAndKana = runeRun([][2]rune{{0x3040, 0x30FF}, {0x4E00, 0x9FA5}})
	// eastAsian is `[一-龥ࠀ-一가-퟿]+`.
	eastAsian = runeRun([][2]rune{{0x0800, 0x9FA5}, {0xAC00, 0xD7FF}})
	// marksOfPrint is `[!-/:-~！-／：-～‘-‟　-。]+`; the second range holds the ASCII letters too.
	marksOfPrint = runeRun([][2]rune{
		{'!', '/'}, {':', '~'}, {0x2018, 0x201F}, {0x3000, 0x3002}, {0xFF01, 0xFF0F}, {0xFF1A, 0xFF5E},
	})
	// alphabetic is the class of letters that DeepSeek LLM's expression spells out: those of scripts with two cases, as
	// of Unicode 11.
	alphabetic       = runeRun(alphabeticRanges)
	alphabeticRanges = [][2]rune{
		{'A', 'Z'}, {'a', 'z'}, {0xB5, 0xB5}, {0xC0, 0xD6}, {0xD8, 0xF6}, {0xF8, 0x1BA}, {0x1BC, 0x1BF}, {0x1C4, 0x293},
		{0x295, 0x2AF}, {0x370, 0x373}, {0x376, 0x377}, {0x37B, 0x37D}, {0x37F, 0x37F}, {0x386, 0x386}, {0x388, 0x38A},
		{0x38C, 0x38C}, {0x38E, 0x3A1}, {0x3A3, 0x3F5}, {0x3F7, 0x481}, {0x48A, 0x52F}, {0x531, 0x556}, {0x10A0, 0x10C5},
		{0x13A0, 0x13F5}, {0x13F8, 0x13FD}, {0x1C90, 0x1CBA}, {0x1CBD, 0x1CBF}, {0x1D00, 0x1D2B}, {0x1D6B, 0x1D77},
		{0x1D79, 0x1D9A}, {0x1E00, 0x1F15}, {0x1F18, 0x1F1D}, {0x1F20, 0x1F45}, {0x1F48, 0x1F4D}, {0x1F50, 0x1F57},
		{0x1F59, 0x1F59}, {0x1F5B, 0x1F5B}, {0x1F5D, 0x1F5D}, {0x1F5F, 0x1F7D}, {0x1F80, 0x1FB4}, {0x1FB6, 0x1FBC},
		{0x1FBE, 0x1FBE}, {0x1FC2, 0x1FC4}, {0x1FC6, 0x1FCC}, {0x1FD0, 0x1FD3}, {0x1FD6, 0x1FDB}, {0x1FE0, 0x1FEC},
		{0x1FF2, 0x1FF4}, {0x1FF6, 0x1FFC}, {0x2102, 0x2102}, {0x2107, 0x2107}, {0x210A, 0x2113}, {0x2115, 0x2115},
		{0x2119, 0x211D}, {0x2124, 0x2124}, {0x2126, 0x2126}, {0x2128, 0x2128}, {0x212A, 0x212D}, {0x212F, 0x2134},
		{0x2139, 0x2139}, {0x213C, 0x213F}, {0x2145, 0x2149}, {0x214E, 0x214E}, {0x2183, 0x2184}, {0x2C00, 0x2C7B},
		{0x2C7E, 0x2CE4}, {0x2CEB, 0x2CEE}, {0x2CF2, 0x2CF3}, {0xA640, 0xA66D}, {0xA680, 0xA69B}, {0xA722, 0xA76F},
		{0xA771, 0xA787}, {0xA78B, 0xA78E}, {0xAB70, 0xABBF}, {0xFB00, 0xFB06}, {0xFB13, 0xFB17}, {0xFF21, 0xFF3A},
		{0xFF41, 0xFF5A}, {0x10400, 0x1044F}, {0x104B0, 0x104D3}, {0x104D8, 0x104FB}, {0x10C80, 0x10CB2},
		{0x10CC0, 0x10CF2}, {0x118A0, 0x118DF}, {0x1E900, 0x1E943},
	}
)
