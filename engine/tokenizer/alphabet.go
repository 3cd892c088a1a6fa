package tokenizer

import "unicode/utf8"

// byteAlphabet is how byte-level BPE writes bytes, so that its vocabulary is text without spaces and control
// characters (bytes_to_unicode of GPT-2's encoder.py): printable Latin-1 characters stand for themselves, the other 68
// bytes, in order, for U+0100 and up. A space is "Ġ", a line feed "Ċ".
var byteAlphabet = func() (alphabet [256]rune) {
	next := rune(0x100)
	for b := range alphabet {
		if b >= 0x21 && b <= 0x7E || b >= 0xA1 && b <= 0xAC || b >= 0xAE {
			alphabet[b] = rune(b)
		} else {
			alphabet[b] = next
			next++
		}
	}
	return alphabet
}()

// alphabetBytes is the inverse of byteAlphabet.
func alphabetBytes() map[rune]byte {
	inverse := make(map[rune]byte, len(byteAlphabet))
	for b, r := range byteAlphabet {
		inverse[r] = byte(b)
	}
	return inverse
}

// appendAlphabet appends the bytes that a token spells. Characters outside the alphabet stay as they are.
func appendAlphabet(dst []byte, text string, alphabet map[rune]byte) []byte {
	for text != "" {
		r, n := utf8.DecodeRuneInString(text)
		if b, ok := alphabet[r]; ok {
			dst = append(dst, b)
		} else {
			dst = append(dst, text[:n]...)
		}
		text = text[n:]
	}
	return dst
}

func inAlphabet(text string, alphabet map[rune]byte) bool {
	for _, r := range text {
		if _, ok := alphabet[r]; !ok {
			return false
		}
	}
	return true
}
