package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// visible returns text that cannot drive a terminal: control characters but newline and tab, those of C1 and bytes
// that are no character are spelled as in Go: \x1b. Titles, links, cursor movement and answers that a terminal types by
// itself all begin with one of them (ECMA-48, sections 5.2 and 5.3).
func visible(text string) string {
	if !strings.ContainsFunc(text, isControl) {
		return text
	}
	var out strings.Builder
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&out, `\x%02x`, text[i])
		case isControl(r) && r != utf8.RuneError:
			fmt.Fprintf(&out, `\x%02x`, r)
		default:
			out.WriteString(text[i : i+size])
		}
		i += size
	}
	return out.String()
}

// isControl reports what has to be looked at closely; U+FFFD may stand for a byte that is no character.
func isControl(r rune) bool {
	return r < 0x20 && r != '\n' && r != '\t' || r >= 0x7F && r <= 0x9F || r == utf8.RuneError
}

// visibleWriter makes everything visible that is written; each call has whole characters.
type visibleWriter struct{ out io.Writer }

func (w visibleWriter) Write(p []byte) (int, error) {
	if _, err := io.WriteString(w.out, visible(string(p))); err != nil {
		return 0, err
	}
	return len(p), nil
}
