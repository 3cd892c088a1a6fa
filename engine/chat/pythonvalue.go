package chat

import (
	"encoding/json"
	"strconv"
	"strings"
)

// fromPython returns the JSON of a list or dict in Python's notation, which some templates print earlier arguments in, so
// that models write it, too: {'a': [1, True, None]}. It returns false for what is not one.
func fromPython(text string) (string, bool) {
	if !strings.ContainsAny(text[:1], "{[") {
		return "", false
	}
	var out strings.Builder
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case c == '\'' || c == '"':
			s, n, ok := pythonString(text[i:])
			if !ok {
				return "", false
			}
			out.WriteString(quoteJSON(s))
			i += n
		case c >= 'A' && c <= 'Z':
			n := 0
			for _, word := range [][2]string{{"True", "true"}, {"False", "false"}, {"None", "null"}} {
				if strings.HasPrefix(text[i:], word[0]) {
					out.WriteString(word[1])
					n = len(word[0])
				}
			}
			if n == 0 {
				return "", false
			}
			i += n
		default:
			out.WriteByte(c)
			i++
		}
	}
	return out.String(), json.Valid([]byte(out.String()))
}

// pythonString reads the string literal that a text begins with, and its length.
func pythonString(text string) (s string, n int, ok bool) {
	quote := text[0]
	rest := text[1:]
	var out strings.Builder
	for rest != "" {
		if rest[0] == quote {
			return out.String(), len(text) - len(rest) + 1, true
		}
		if rest[0] == '\n' {
			return "", 0, false
		}
		if strings.HasPrefix(rest, `\'`) || strings.HasPrefix(rest, `\"`) {
			out.WriteByte(rest[1])
			rest = rest[2:]
			continue
		}
		r, _, tail, err := strconv.UnquoteChar(rest, 0) // Go has Python's escapes
		if err != nil {
			return "", 0, false
		}
		out.WriteRune(r)
		rest = tail
	}
	return "", 0, false
}
