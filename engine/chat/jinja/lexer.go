package jinja

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

type tokenKind int

const (
	tokenEOF tokenKind = iota
	tokenData
	tokenVariableBegin
	tokenVariableEnd
	tokenBlockBegin
	tokenBlockEnd
	tokenName
	tokenString
	tokenInteger
	tokenFloat
	tokenOperator
)

func (k tokenKind) String() string {
	return [...]string{"end of template", "template data", "'{{'", "'}}'", "'{%'", "'%}'", "name", "string", "integer", "float", "operator"}[k]
}

type token struct {
	kind tokenKind
	text string // data, name, operator; a string's value; a number's digits without underscores
	line int
}

func (t token) describe() string {
	switch t.kind {
	case tokenName, tokenOperator, tokenInteger, tokenFloat:
		return "'" + t.text + "'"
	}
	return t.kind.String()
}

// lexer splits a template into tokens. Whitespace control happens here, as in Jinja2: a tag's signs and trim_blocks
// remove whitespace after it, lstrip_blocks the whitespace that stands alone before a block or comment on its line.
type lexer struct {
	source    string
	at        int
	line      int
	tokens    []token
	lineStart bool // the last tag took the newline after it, so that what follows begins a line
}

// lex returns the tokens of a template, the last one tokenEOF.
func lex(source string) ([]token, error) {
	source = strings.ReplaceAll(strings.ReplaceAll(source, "\r\n", "\n"), "\r", "\n")
	source = strings.TrimSuffix(source, "\n")
	l := &lexer{source: source, line: 1, lineStart: true}
	for l.at < len(l.source) {
		if err := l.next(); err != nil {
			return nil, err
		}
	}
	l.emit(tokenEOF, "")
	return l.tokens, nil
}

func (l *lexer) emit(kind tokenKind, text string) {
	l.tokens = append(l.tokens, token{kind, text, l.line})
}

// advance moves to a later position and counts the lines on the way.
func (l *lexer) advance(to int) {
	l.line += strings.Count(l.source[l.at:to], "\n")
	l.at = to
}

func (l *lexer) errorf(format string, args ...any) error {
	return &Error{Line: l.line, Err: fmt.Errorf(format, args...)}
}

// next reads the data up to a tag, and the tag.
func (l *lexer) next() error {
	begin := l.findTag()
	if begin < 0 {
		l.emit(tokenData, l.source[l.at:])
		l.advance(len(l.source))
		return nil
	}
	kind, after := l.source[begin+1], begin+2
	sign := l.sign(after)
	text := l.source[l.at:begin]
	if text = l.trimBefore(text, sign, kind == '{'); text != "" {
		l.emit(tokenData, text)
	}
	l.advance(begin)
	if sign != 0 {
		after++
	}
	if kind == '%' {
		if body, ok := l.rawBegin(after); ok {
			l.lineStart = l.source[body-1] == '\n'
			l.advance(body)
			return l.raw()
		}
	}
	switch kind {
	case '#':
		return l.comment(after)
	case '{':
		return l.tag(after, tokenVariableBegin, tokenVariableEnd, "}}")
	}
	return l.tag(after, tokenBlockBegin, tokenBlockEnd, "%}")
}

// findTag returns where the next tag begins, or -1.
func (l *lexer) findTag() int {
	for i := l.at; ; i++ {
		brace := strings.IndexByte(l.source[i:], '{')
		if brace < 0 || i+brace+1 >= len(l.source) {
			return -1
		}
		i += brace
		if c := l.source[i+1]; c == '{' || c == '%' || c == '#' {
			return i
		}
	}
}

// sign returns '-' or '+' at a position, or 0.
func (l *lexer) sign(at int) byte {
	if at < len(l.source) && (l.source[at] == '-' || l.source[at] == '+') {
		return l.source[at]
	}
	return 0
}

// trimBefore removes whitespace at the end of the data before a tag.
func (l *lexer) trimBefore(text string, sign byte, variable bool) string {
	switch {
	case sign == '-':
		return strings.TrimRightFunc(text, isSpace)
	case sign == '+' || variable:
		return text
	}
	lineBegin := strings.LastIndexByte(text, '\n') + 1
	if lineBegin == 0 && !l.lineStart || strings.TrimFunc(text[lineBegin:], isSpace) != "" {
		return text
	}
	return text[:lineBegin]
}

// close matches the end of a tag at a position: a sign, the closing marker, and the whitespace that goes with it. It
// returns where the tag ends, or -1.
func (l *lexer) close(at int, marker string) int {
	rest := l.source[at:]
	if after, ok := strings.CutPrefix(rest, "-"+marker); ok {
		return len(l.source) - len(strings.TrimLeftFunc(after, isSpace))
	}
	if marker == "}}" { // takes no newline, and "+" before it is an operator
		if strings.HasPrefix(rest, marker) {
			return at + 2
		}
		return -1
	}
	if strings.HasPrefix(rest, "+"+marker) {
		return at + 3
	}
	if after, ok := strings.CutPrefix(rest, marker); ok {
		return len(l.source) - len(strings.TrimPrefix(after, "\n"))
	}
	return -1
}

// finish moves past a tag that ends at a position.
func (l *lexer) finish(end int) {
	l.lineStart = l.source[end-1] == '\n'
	l.advance(end)
}

func (l *lexer) comment(at int) error {
	for i := at; i < len(l.source); i++ {
		if end := l.close(i, "#}"); end >= 0 {
			l.finish(end)
			return nil
		}
	}
	return l.errorf("missing end of comment tag")
}

// rawBegin matches the rest of a raw tag and returns where the raw text begins.
func (l *lexer) rawBegin(at int) (int, bool) {
	rest, ok := strings.CutPrefix(strings.TrimLeftFunc(l.source[at:], isSpace), "raw")
	if !ok {
		return 0, false
	}
	rest = strings.TrimLeftFunc(rest, isSpace)
	if after, ok := strings.CutPrefix(rest, "-%}"); ok {
		return len(l.source) - len(strings.TrimLeftFunc(after, isSpace)), true
	}
	after, ok := strings.CutPrefix(rest, "%}")
	return len(l.source) - len(after), ok
}

// raw emits everything up to the endraw tag as data.
func (l *lexer) raw() error {
	for i := l.at; ; i++ {
		begin := strings.Index(l.source[i:], "{%")
		if begin < 0 {
			return l.errorf("missing end of raw directive")
		}
		i += begin
		sign, after := l.sign(i+2), i+2
		if sign != 0 {
			after++
		}
		rest, ok := strings.CutPrefix(strings.TrimLeftFunc(l.source[after:], isSpace), "endraw")
		if !ok {
			continue
		}
		end := l.close(len(l.source)-len(strings.TrimLeftFunc(rest, isSpace)), "%}")
		if end < 0 {
			continue
		}
		if text := l.trimBefore(l.source[l.at:i], sign, false); text != "" {
			l.emit(tokenData, text)
		}
		l.finish(end)
		return nil
	}
}

// tag reads the tokens of a variable or block tag.
func (l *lexer) tag(at int, begin, end tokenKind, marker string) error {
	l.emit(begin, "")
	l.advance(at)
	var brackets []byte
	for l.at < len(l.source) {
		if len(brackets) == 0 {
			if to := l.close(l.at, marker); to >= 0 {
				l.emit(end, "")
				l.finish(to)
				return nil
			}
		}
		if err := l.inside(&brackets); err != nil {
			return err
		}
	}
	return l.errorf("unexpected end of template, looking for '%s'", marker)
}

var closing = map[byte]byte{'(': ')', '[': ']', '{': '}'}

// inside reads one token, or whitespace, of a tag.
func (l *lexer) inside(brackets *[]byte) error {
	rest := l.source[l.at:]
	c := rest[0]
	if n := len(rest) - len(strings.TrimLeftFunc(rest, isSpace)); n > 0 {
		l.advance(l.at + n)
		return nil
	}
	if c == '"' || c == '\'' {
		return l.stringLiteral(c)
	}
	if kind, n := matchNumber(rest); n > 0 {
		l.emit(kind, strings.ReplaceAll(rest[:n], "_", ""))
		l.at += n
		return nil
	}
	if n := matchName(rest); n > 0 {
		l.emit(tokenName, rest[:n])
		l.at += n
		return nil
	}
	op := matchOperator(rest)
	if op == "" {
		r, _ := utf8.DecodeRuneInString(rest)
		return l.errorf("unexpected character %q", r)
	}
	switch op {
	case "(", "[", "{":
		*brackets = append(*brackets, closing[c])
	case ")", "]", "}":
		n := len(*brackets)
		if n == 0 {
			return l.errorf("unexpected '%s'", op)
		}
		if want := (*brackets)[n-1]; want != c {
			return l.errorf("unexpected '%s', expected '%c'", op, want)
		}
		*brackets = (*brackets)[:n-1]
	}
	l.emit(tokenOperator, op)
	l.at += len(op)
	return nil
}

func (l *lexer) stringLiteral(quote byte) error {
	for i := l.at + 1; i < len(l.source); i++ {
		switch l.source[i] {
		case '\\':
			i++
		case quote:
			value, err := unescape(l.source[l.at+1 : i])
			if err != nil {
				return l.errorf("%w", err)
			}
			l.emit(tokenString, value)
			l.advance(i + 1)
			return nil
		}
	}
	return l.errorf("unexpected end of template inside a string")
}

var operators = []string{
	"//", "**", "==", "!=", ">=", "<=",
	"+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<", "=", ".", ":", "|", ",", ";",
}

func matchOperator(s string) string {
	for _, op := range operators {
		if strings.HasPrefix(s, op) {
			return op
		}
	}
	return ""
}

func matchName(s string) int {
	for i, r := range s {
		if r != '_' && !unicode.IsLetter(r) && (i == 0 || !unicode.IsDigit(r) && !unicode.IsMark(r)) {
			return i
		}
	}
	return len(s)
}

// matchNumber matches Jinja's numbers: 0b, 0o and 0x integers, decimal integers without leading zeros, and floats.
func matchNumber(s string) (tokenKind, int) {
	if s[0] < '0' || s[0] > '9' {
		return 0, 0
	}
	if n := matchFloat(s); n > 0 {
		return tokenFloat, n
	}
	if len(s) > 2 && s[0] == '0' {
		for prefix, digits := range map[byte]string{'b': "01", 'o': "01234567", 'x': "0123456789abcdefABCDEF"} {
			if s[1]|0x20 == prefix {
				if n := matchDigits(strings.TrimPrefix(s[2:], "_"), digits); n > 0 {
					return tokenInteger, 2 + n + len(s[2:]) - len(strings.TrimPrefix(s[2:], "_"))
				}
			}
		}
	}
	if s[0] == '0' {
		return tokenInteger, matchDigits(s, "0")
	}
	return tokenInteger, matchDigits(s, "0123456789")
}

func matchFloat(s string) int {
	const decimal = "0123456789"
	n := matchDigits(s, decimal)
	fraction := false
	if n < len(s) && s[n] == '.' {
		if d := matchDigits(s[n+1:], decimal); d > 0 {
			n, fraction = n+1+d, true
		}
	}
	if n < len(s) && s[n]|0x20 == 'e' {
		e := n + 1
		if e < len(s) && (s[e] == '+' || s[e] == '-') {
			e++
		}
		if d := matchDigits(s[e:], decimal); d > 0 {
			return e + d
		}
	}
	if fraction {
		return n
	}
	return 0
}

// matchDigits matches digits with single underscores between them.
func matchDigits(s, digits string) int {
	n := 0
	for i := 0; i < len(s); i++ {
		switch {
		case strings.IndexByte(digits, s[i]) >= 0:
			n = i + 1
		case s[i] != '_' || i != n || n == 0:
			return n
		}
	}
	return n
}

// isSpace is Python's str.isspace, which counts four control characters that Unicode does not.
func isSpace(r rune) bool {
	return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f
}
