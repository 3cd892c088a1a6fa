package jinja

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

var simpleEscapes = map[byte]string{
	'\n': "", '\\': `\`, '\'': "'", '"': `"`, 'a': "\a", 'b': "\b", 'f': "\f", 'n': "\n", 'r': "\r", 't': "\t", 'v': "\v",
}

// unescape decodes the escapes of a string literal as Python does; an unknown one stays as it is written.
func unescape(s string) (string, error) {
	if !strings.Contains(s, `\`) {
		return s, nil
	}
	var b strings.Builder
	for s != "" {
		plain := strings.IndexByte(s, '\\')
		if plain < 0 || plain+1 == len(s) {
			b.WriteString(s)
			break
		}
		b.WriteString(s[:plain])
		s = s[plain+1:]
		if text, ok := simpleEscapes[s[0]]; ok {
			b.WriteString(text)
			s = s[1:]
			continue
		}
		r, n, err := numericEscape(s)
		if err != nil {
			return "", err
		}
		if n == 0 {
			b.WriteByte('\\')
			continue
		}
		s = s[n:]
		if utf16.IsSurrogate(r) { // a pair written as two escapes is one character; half of one cannot be encoded
			low, n := followingSurrogate(s)
			r = utf16.DecodeRune(r, low)
			if r != utf8.RuneError {
				s = s[n:]
			}
		}
		b.WriteRune(r)
	}
	return b.String(), nil
}

// numericEscape reads what follows a backslash when it names a code point; n is 0 when it does not.
func numericEscape(s string) (r rune, n int, err error) {
	digits, base := 0, 16
	switch c := s[0]; {
	case c == 'x':
		digits = 2
	case c == 'u':
		digits = 4
	case c == 'U':
		digits = 8
	case c == 'N':
		return 0, 0, errors.New(`character names (\N{…}) are not supported`)
	case c >= '0' && c <= '7':
		for n < min(3, len(s)) && s[n] >= '0' && s[n] <= '7' {
			n++
		}
		v, _ := strconv.ParseUint(s[:n], 8, 32) // at most three octal digits
		return rune(v), n, nil
	default:
		return 0, 0, nil
	}
	if len(s) < 1+digits {
		return 0, 0, fmt.Errorf(`truncated \%c escape`, s[0])
	}
	v, err := strconv.ParseUint(s[1:1+digits], base, 32)
	if err != nil || v > 0x10ffff {
		return 0, 0, fmt.Errorf(`invalid escape \%s`, s[:1+digits])
	}
	return rune(v), 1 + digits, nil
}

// followingSurrogate reads a second \u escape.
func followingSurrogate(s string) (rune, int) {
	if !strings.HasPrefix(s, `\u`) {
		return 0, 0
	}
	r, n, err := numericEscape(s[1:])
	if err != nil {
		return 0, 0
	}
	return r, 1 + n
}
