package tokenizer

import "unicode/utf8"

// A pre-tokenizer is published as a list of regular expressions; each cuts the pieces that the one before left, and both
// its matches and what lies between them are pieces of the next. The expressions look ahead, so each is written here as
// a scanner by hand, which also makes sure that it runs in linear time. Alternatives are tried in order, the first that
// matches wins, and the look-ahead ends where the piece ends.

// stage finds the first match of one expression in s and returns its borders; start is len(s) when there is none.
type stage func(sc *scanner, s string) (start, end int)

// match returns the length of the match at the beginning of s, 0 when there is none. It looks at a bounded number of
// characters beyond those it matches.
type match func(sc *scanner, s string) int

// find makes a stage of an expression that may match anywhere.
func find(m match) stage {
	return func(sc *scanner, s string) (start, end int) {
		for start < len(s) {
			if n := m(sc, s[start:]); n > 0 {
				return start, start + n
			}
			_, n := sc.at(s, start)
			start += n
		}
		return start, start
	}
}

// splitter holds the state of one split: the stages, and where the pieces go.
type splitter struct {
	scanner
	stages []stage
	emit   func(piece string)
}

// split hands out the pieces of s in order, from the given stage on.
func (p *splitter) split(s string, from int) {
	if from == len(p.stages) {
		p.emit(s)
		return
	}
	for len(s) > 0 {
		start, end := p.stages[from](&p.scanner, s)
		if start > 0 {
			p.split(s[:start], from+1)
		}
		if end > start {
			p.split(s[start:end], from+1)
		}
		s = s[end:]
	}
}

// preTokenizer is a known way to cut text.
type preTokenizer struct {
	stages       []stage
	nfc          bool // text is brought into Unicode's normal form C first
	ignoreMerges bool // a piece that is a token is not put together from merges
	addBOS       bool // unless the model file says otherwise
}

// preTokenizerNames are the names under which GGUF files ask for a pre-tokenizer (tokenizer.ggml.pre).
var preTokenizerNames = map[string]func() preTokenizer{
	"llama-bpe":        llama3,
	"llama3":           llama3,
	"llama-v3":         llama3,
	"qwen2":            qwen2,
	"deepseek-r1-qwen": qwen2,
	"qwen35":           qwen35,
	"minimax-m2":       minimax,
	"gpt-4o":           o200k,
	"llama4":           o200k,
	"deepseek-v3":      deepseekV3,
	"joyai-llm":        deepseekV3,
	"hunyuan-dense":    deepseekV3,
	"deepseek-coder":   deepseekCoder,
	"deepseek-llm":     deepseekLLM,
	"gpt-2":            gpt2,
	"phi-2":            gpt2,
	"mellum":           gpt2,
	"default":          defaultSplit,
}

func llama3() preTokenizer {
	return preTokenizer{stages: []stage{find(llamaMatch(3, letter))}, ignoreMerges: true, addBOS: true}
}

func qwen2() preTokenizer {
	return preTokenizer{stages: []stage{find(llamaMatch(1, letter))}, nfc: true}
}

func qwen35() preTokenizer {
	return preTokenizer{stages: []stage{find(llamaMatch(1, letter|mark))}, nfc: true}
}

func o200k() preTokenizer { return preTokenizer{stages: []stage{find(o200kMatch)}} }

func minimax() preTokenizer { return preTokenizer{stages: []stage{find(o200kMatch)}, nfc: true} }

func deepseekV3() preTokenizer {
	return preTokenizer{stages: []stage{find(numbers(3)), find(ideographsAndKana), find(deepseekMatch)}}
}

func deepseekCoder() preTokenizer {
	return preTokenizer{stages: []stage{
		find(oneNewline), find(afterSpace(letters)), find(afterSpace(punctuation)), find(eastAsian), find(numbers(1)),
	}}
}

func deepseekLLM() preTokenizer {
	return preTokenizer{stages: []stage{
		find(oneNewline), find(afterSpace(alphabetic)), find(afterSpace(marksOfPrint)), trailingSpace, find(eastAsian),
		find(allNumbers),
	}}
}

func gpt2() preTokenizer { return preTokenizer{stages: []stage{find(gpt2Match)}} }

func defaultSplit() preTokenizer {
	return preTokenizer{stages: []stage{find(operators), find(gpt2Match), find(allNumbers), find(threeDigits)}}
}

// whitespace matches `\s*[\r\n]+|\s+(?!\S)|\s+`: through the last line break; else all spaces, but not the last one
// before a word, which goes with the word.
func whitespace(sc *scanner, s string) int {
	end, lineEnd := spaces(sc, s)
	if lineEnd > 0 {
		return lineEnd
	}
	return end
}

// spaces matches `\s+(?!\S)|\s+`: all spaces, but not the last one before a word. It also says where the last line break
// among all of them ends, 0 if there is none.
func spaces(sc *scanner, s string) (end, lineEnd int) {
	last := 0
	for {
		c, n := sc.at(s, end)
		if c&space == 0 {
			break
		}
		last = end
		end += n
		if c&newline != 0 {
			lineEnd = end
		}
	}
	if end == len(s) || last == 0 {
		return end, lineEnd
	}
	return last, lineEnd
}

// contraction matches `'s|'t|'re|'ve|'m|'ll|'d`.
func contraction(s string) int {
	if len(s) < 2 || s[0] != '\'' {
		return 0
	}
	if len(s) == 2 {
		return contractionOf(s[1], 0)
	}
	return contractionOf(s[1], s[2])
}

// anyContraction is contraction in either case.
func anyContraction(s string) int {
	const toLower = 0x20 // no other byte becomes one of the letters below
	if len(s) < 2 || s[0] != '\'' {
		return 0
	}
	if len(s) == 2 {
		return contractionOf(s[1]|toLower, 0)
	}
	return contractionOf(s[1]|toLower, s[2]|toLower)
}

// contractionOf returns the length of a contraction, apostrophe included, whose letters are a and perhaps b.
func contractionOf(a, b byte) int {
	switch {
	case a == 's' || a == 't' || a == 'm' || a == 'd':
		return 2
	case a == 'r' && b == 'e' || a == 'v' && b == 'e' || a == 'l' && b == 'l':
		return 3
	}
	return 0
}

// numbers matches `\p{N}{1,most}`.
func numbers(most int) match {
	return func(sc *scanner, s string) int {
		end := 0
		for range most {
			c, n := sc.at(s, end)
			if c&number == 0 {
				break
			}
			end += n
		}
		return end
	}
}

// allNumbers matches `\p{N}+`.
func allNumbers(sc *scanner, s string) int { return sc.run(s, 0, number) }

// threeDigits matches `[0-9][0-9][0-9]`.
func threeDigits(_ *scanner, s string) int {
	if len(s) >= 3 && isDigit(s[0]) && isDigit(s[1]) && isDigit(s[2]) {
		return 3
	}
	return 0
}

// gpt2Match matches `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`.
func gpt2Match(sc *scanner, s string) int {
	if n := contraction(s); n > 0 {
		return n
	}
	i := 0
	if s[0] == ' ' {
		i = 1
	}
	c, n := sc.at(s, i)
	switch {
	case c&letter != 0:
		return sc.run(s, i, letter)
	case c&number != 0:
		return sc.run(s, i, number)
	case n > 0 && c&space == 0:
		return sc.runNot(s, i, space|letter|number)
	}
	end, _ := spaces(sc, s)
	return end
}

// operators matches `[\p{P}\$\+<=>\^~\|]+`.
func operators(sc *scanner, s string) int {
	end := 0
	for {
		c, n := sc.at(s, end)
		if c&punct == 0 && (n != 1 || !isOperator(s[end])) {
			return end
		}
		end += n
	}
}

func isOperator(b byte) bool {
	switch b {
	case '$', '+', '<', '=', '>', '^', '~', '|':
		return true
	}
	return false
}

// llamaMatch matches, with L for the letters and N for the digits of a group,
//
//	(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[L]+|\p{N}{1,N}| ?[^\s\p{N}L]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
//
// which is Llama 3's expression, and with other parameters those of Qwen 2 and Qwen 3.5.
func llamaMatch(digits int, letters class) match {
	group := numbers(digits)
	return func(sc *scanner, s string) int {
		if n := anyContraction(s); n > 0 {
			return n
		}
		c, n := sc.at(s, 0)
		switch {
		case c&letters != 0:
			return sc.run(s, n, letters)
		case c&number != 0:
			return group(sc, s)
		case c&(newline|letter) == 0 && sc.is(s, n, letters):
			return sc.run(s, n, letters)
		}
		if end := afterOptionalSpace(sc, s, space|number|letters); end > 0 {
			return sc.run(s, end, newline)
		}
		return whitespace(sc, s)
	}
}

// afterOptionalSpace matches ` ?[^avoid]+`.
func afterOptionalSpace(sc *scanner, s string, avoid class) int {
	i := 0
	if s[0] == ' ' {
		i = 1
	}
	if end := sc.runNot(s, i, avoid); end > i {
		return end
	}
	return 0
}

// o200kMatch matches the expression of o200k_base, with U for [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}] and W for
// [\p{Ll}\p{Lm}\p{Lo}\p{M}]:
//
//	[^\r\n\p{L}\p{N}]?U*W+(?i:'s|…)?|[^\r\n\p{L}\p{N}]?U+W*(?i:'s|…)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|…
func o200kMatch(sc *scanner, s string) int {
	if end := word(sc, s); end > 0 {
		return end + anyContraction(s[end:])
	}
	if sc.is(s, 0, number) {
		return numbers(3)(sc, s)
	}
	if end := afterOptionalSpace(sc, s, space|letter|number); end > 0 {
		for end < len(s) && (s[end] == '\r' || s[end] == '\n' || s[end] == '/') {
			end++
		}
		return end
	}
	return whitespace(sc, s)
}

// word matches the first two alternatives of o200kMatch without their ends: both with and without the character in
// front, as a mark can be that character or part of the word.
func word(sc *scanner, s string) int {
	c, n := sc.at(s, 0)
	prefixed := c&(newline|letter|number) == 0
	if prefixed {
		if end := endingLower(sc, s, n); end > n {
			return end
		}
	}
	if end := endingLower(sc, s, 0); end > 0 {
		return end
	}
	const head, tail = upper | caseless | mark, lower | caseless | mark
	if prefixed {
		if end := sc.run(s, n, head); end > n {
			return sc.run(s, end, tail)
		}
	}
	if end := sc.run(s, 0, head); end > 0 {
		return sc.run(s, end, tail)
	}
	return 0
}

// endingLower matches `U*W+` at i and returns its end, i when it does not match. The two sets overlap: where no
// lower-case letter follows the run of U, the expression gives back as much of the run as it must to end in W.
func endingLower(sc *scanner, s string, i int) int {
	const head, tail = upper | caseless | mark, lower | caseless | mark
	end, lastTail := i, i // lastTail is the end of the last character of W in the run of U
	for {
		c, n := sc.at(s, end)
		if c&head == 0 {
			break
		}
		end += n
		if c&tail != 0 {
			lastTail = end
		}
	}
	if after := sc.run(s, end, tail); after > end {
		return after
	}
	return lastTail
}

func isDigit(b byte) bool { return b >= '0' && b <= '9' }

func isASCIILetter(b byte) bool { return b|0x20 >= 'a' && b|0x20 <= 'z' }

func isASCIIPunct(b byte) bool {
	return b < utf8.RuneSelf && asciiClass[b]&(punct|symbol) != 0
}
