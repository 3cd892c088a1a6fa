package tokenizer

import "strings"

// The sentinels of guarded text are among the code points that Unicode reserves for a program's own use. A run of text
// from outside stands between open and closed; escape makes a sentinel that the text itself contains a plain character.
const (
	open   = "\uFDD0"
	closed = "\uFDD1"
	escape = "\uFDD2"
)

var escaper = strings.NewReplacer(open, escape+open, closed, escape+closed, escape, escape+escape)

// Guard marks a run of text that a user or a tool wrote, where a rendered chat prompt prints it: EncodeGuarded takes the
// marks out again, and no character between them becomes part of a control token, whatever stands beside it. The map is
// one to one, and text that contains the sentinels cannot end its own run.
//
// Guarded against are control tokens, and those user-defined tokens that delimit turns, which their brackets show:
// DeepSeek's "<｜User｜>". Others, as "<think>", are found in any text, as the reference implementations do.
func (t *Tokenizer) Guard(text string) string {
	if text == "" {
		return ""
	}
	return open + escaper.Replace(text) + closed
}

// EncodeGuarded encodes a rendered chat prompt whose parts from outside went through Guard: control tokens are found
// everywhere but there. opts.ParseSpecial is not looked at.
func (t *Tokenizer) EncodeGuarded(text string, opts EncodeOptions) []int32 {
	plain, outside := unguard(text)
	return t.encode(plain, partition{control: true, outside: outside}, opts.AddSpecial)
}

// span is text[from:to].
type span struct{ from, to int }

// unguard takes the sentinels out of a text and returns where the guarded runs are. A run that is not closed ends with
// the text.
func unguard(text string) (plain string, outside []span) {
	if !strings.Contains(text, open) {
		return text, nil
	}
	var out strings.Builder
	out.Grow(len(text))
	for {
		before, run, found := strings.Cut(text, open)
		out.WriteString(before)
		if !found {
			return out.String(), outside
		}
		from := out.Len()
		text = unescape(&out, run)
		if out.Len() > from {
			outside = append(outside, span{from, out.Len()})
		}
	}
}

// unescape appends a run without its escapes, up to its end, and returns what follows.
func unescape(out *strings.Builder, run string) (rest string) {
	for {
		i := strings.IndexByte(run, open[0]) // all sentinels begin with this byte
		if i < 0 {
			out.WriteString(run)
			return ""
		}
		out.WriteString(run[:i])
		switch run = run[i:]; {
		case strings.HasPrefix(run, closed):
			return run[len(closed):]
		case strings.HasPrefix(run, escape):
			escaped := run[len(escape):]
			n := min(len(open), len(escaped))
			out.WriteString(escaped[:n])
			run = escaped[n:]
		default:
			out.WriteByte(run[0])
			run = run[1:]
		}
	}
}

// isDelimiter reports whether a user-defined token is one of those that delimit turns and parts of a prompt.
func isDelimiter(text string) bool {
	return (strings.HasPrefix(text, "<|") || strings.HasPrefix(text, "<｜") || strings.HasPrefix(text, "｜")) &&
		(strings.HasSuffix(text, "|>") || strings.HasSuffix(text, "｜>") || strings.HasSuffix(text, "｜"))
}
