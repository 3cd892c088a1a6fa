package tokenizer

import (
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// maxMarks is how many combining marks in a row are left to golang.org/x/text. After 30 it inserts U+034F (the Stream-Safe
// Text Format of UAX 15), which the reference tokenizers do not; half of that, as it counts some characters twice.
const maxMarks = 15

// normalize returns text in normal form C when nfc is set. Bytes that are not UTF-8 stay as they are.
func normalize(text string, nfc bool) string {
	if !nfc || isASCII(text) {
		return text
	}
	from, to := longMarks(text)
	if from < 0 {
		return norm.NFC.String(text)
	}
	var out strings.Builder
	for from >= 0 {
		out.WriteString(norm.NFC.String(text[:from]))
		compose(&out, text[from:to])
		text = text[to:]
		from, to = longMarks(text)
	}
	out.WriteString(norm.NFC.String(text))
	return out.String()
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// longMarks returns the first stretch of text with too many combining marks in a row: from the last character before
// them that begins a normalization segment, to the end of the marks. from is -1 when there is none.
func longMarks(text string) (from, to int) {
	start, marks := 0, 0
	for i := 0; i < len(text); {
		if text[i] < utf8.RuneSelf {
			if marks > maxMarks {
				return start, i
			}
			start, marks = i, 0
			i++
			continue
		}
		p := norm.NFC.PropertiesString(text[i:])
		n := max(p.Size(), 1)
		switch {
		case p.BoundaryBefore():
			if marks > maxMarks {
				return start, i
			}
			start, marks = i, numMarks(p)
		default:
			marks += max(numMarks(p), 1)
		}
		i += n
	}
	if marks > maxMarks {
		return start, len(text)
	}
	return -1, -1
}

// numMarks is the number of combining marks in the decomposition of a character.
func numMarks(p norm.Properties) int {
	n := max(utf8.RuneCount(p.Decomposition()), 1)
	if p.CCC() == 0 {
		n-- // the first is no mark
	}
	return n
}

// compose appends the normal form C of one segment, as UAX 15 defines it: decompose, sort runs of marks by combining
// class, then join each mark with the last starter unless a mark between them has the same or a higher class.
func compose(out *strings.Builder, segment string) {
	runes := decompose(segment)
	result := runes[:0] // written behind what is read
	starter := -1
	var lastClass uint8
	for _, r := range runes {
		class := combiningClass(r.text)
		adjacent := starter == len(result)-1
		if starter >= 0 && (adjacent || lastClass < class && lastClass > 0) {
			joined := norm.NFC.String(result[starter].text + r.text)
			if utf8.RuneCountInString(joined) == 1 && r.valid && result[starter].valid {
				result[starter].text = joined
				continue
			}
		}
		if class == 0 {
			starter = len(result)
		}
		lastClass = class
		result = append(result, r)
	}
	for _, r := range result {
		out.WriteString(r.text)
	}
}

// character is one code point, or a byte that is not UTF-8.
type character struct {
	text  string
	valid bool
}

// decompose returns the characters of the canonical decomposition of s in canonical order.
func decompose(s string) []character {
	var characters []character
	for s != "" {
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 {
			characters = append(characters, character{s[:1], false})
			s = s[1:]
			continue
		}
		for _, part := range norm.NFD.String(s[:n]) {
			characters = append(characters, character{string(part), true})
		}
		s = s[n:]
	}
	for i := 0; i < len(characters); {
		end := i
		for end < len(characters) && combiningClass(characters[end].text) > 0 {
			end++
		}
		slices.SortStableFunc(characters[i:end], func(a, b character) int {
			return int(combiningClass(a.text)) - int(combiningClass(b.text))
		})
		i = end + 1
	}
	return characters
}

func combiningClass(s string) uint8 { return norm.NFC.PropertiesString(s).CCC() }
