package tokenizer

import "unicode/utf8"

// Stream turns ids into text as they arrive. It never returns part of a character: bytes that may still become one are
// kept until the next token, at most three of them. The texts that Push and Flush return, joined, are the bytes of the
// tokens with U+FFFD where they are not UTF-8. A Stream belongs to one goroutine.
type Stream struct {
	tok     *Tokenizer
	opts    PieceOptions
	pending []byte // the beginning of a character
	out     []byte // reused between calls
}

// NewStream returns a stream that continues a text: a leading space is kept.
func (t *Tokenizer) NewStream(opts PieceOptions) *Stream {
	return &Stream{tok: t, opts: opts}
}

// Push takes the next token and returns the text that is certain now, which may be empty.
func (s *Stream) Push(id int32) string {
	piece := s.tok.piece(id, s.opts)
	if len(s.pending) == 0 && utf8.ValidString(piece) {
		return piece // most tokens are whole characters, and their text is there already
	}
	s.pending = append(s.pending, piece...)
	return s.emit(false)
}

// Pending is the number of bytes that wait for the rest of their character.
func (s *Stream) Pending() int { return len(s.pending) }

// Flush returns what the end of the stream makes certain; the stream is then as new.
func (s *Stream) Flush() string { return s.emit(true) }

func (s *Stream) emit(final bool) string {
	var rest []byte
	s.out, rest = appendValid(s.out[:0], s.pending, final)
	s.pending = append(s.pending[:0], rest...)
	return string(s.out)
}

// ValidText returns b as a string, with U+FFFD for each maximal part of a character that is not a whole one.
func ValidText(b []byte) string {
	text, _ := appendValid(nil, b, true)
	return string(text)
}

// appendValid appends src to dst with U+FFFD for each maximal part of a character that is not a whole one (Unicode 15,
// section 3.9, "U+FFFD substitution of maximal subparts"). Unless final, an unfinished character at the end of src is
// not appended but returned.
func appendValid(dst, src []byte, final bool) (out, rest []byte) {
	for len(src) > 0 {
		if src[0] < utf8.RuneSelf {
			dst, src = append(dst, src[0]), src[1:]
			continue
		}
		if r, n := utf8.DecodeRune(src); r != utf8.RuneError || n > 1 {
			dst, src = append(dst, src[:n]...), src[n:]
			continue
		}
		n := partLength(src)
		if n == len(src) && !final && !utf8.FullRune(src) {
			return dst, src
		}
		dst, src = utf8.AppendRune(dst, utf8.RuneError), src[n:]
	}
	return dst, nil
}

// partLength is the length of the longest beginning of b that some character begins with, and at least 1. b does not
// begin with a whole character.
func partLength(b []byte) int {
	n := 1
	for n < len(b) && n < utf8.UTFMax && !utf8.FullRune(b[:n]) {
		n++
	}
	if utf8.FullRune(b[:n]) && n > 1 {
		return n - 1 // the last byte made the sequence invalid
	}
	return n
}
