package tokenizer

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"unicode"
	"unicode/utf8"
)

// quote is the sentinel of guarded text: it makes the character that follows literal. U+FDD0 is one of the code points
// that Unicode reserves for a program's own use; no added token may contain it.
const quote = "\uFDD0"

// Guard prepares text that a user wrote for a chat template, so that EncodeGuarded does not take any of it for a control
// token. The template's own text is not guarded, and its control tokens are found.
//
// The result is the text with a sentinel before each character that a control token could begin with here, and before
// each sentinel of the text itself; EncodeGuarded takes the sentinels out again. A character behind a sentinel is never
// part of a control token, whatever the template puts beside it. The map is one to one, and the marks are inside the
// text rather than around it: what a template does to contents (trim, split at "</think>", strip line breaks, tojson)
// keeps a mark and its character together. Where the text departs from every control token at a letter, a digit or a
// slash, as "</think>" does from "<|im_end|>", there is no mark, so that a template's comparisons with such tags work.
// Text that would complete a control token after a bracket of the template's, as a parameter named "s" in "<" + name +
// ">" where the vocabulary has "<s>", has its first character marked.
//
// Guard what templates print: contents, names, arguments, tool definitions. Do not guard what they compare with: roles
// and types.
//
// Guarded are control tokens, and those user-defined tokens that delimit turns, which is told by their brackets:
// DeepSeek's "<｜User｜>". Others, as "<think>", are found in any text, as the reference implementations do.
func (t *Tokenizer) Guard(text string) string {
	var out strings.Builder
	done := 0 // bytes of text already in out
	mark := func(i int) {
		out.WriteString(text[done:i])
		out.WriteString(quote)
		done = i
	}
	first := t.continuesToken(text)
	for i := 0; i < len(text); i++ {
		if i == first || strings.HasPrefix(text[i:], quote) || t.mayBeginToken(text[i:]) {
			mark(i)
		}
	}
	if out.Len() == 0 {
		return text
	}
	out.WriteString(text[done:])
	return out.String()
}

// mayBeginToken reports whether a guarded token begins at s, or would if what follows s, or its case, were changed.
func (t *Tokenizer) mayBeginToken(s string) bool {
	if t.guards == nil || !t.guards.first[s[0]] {
		return false
	}
	node, ok, n := int32(0), true, 0
	for n < len(s) {
		parent := node
		if node, ok = t.guards.step(parent, s[n]); !ok && isASCIILetter(s[n]) {
			node, ok = t.guards.step(parent, s[n]^0x20)
		}
		if !ok {
			break
		}
		n++
		if _, complete := t.guards.ends[node]; complete {
			return true
		}
	}
	_, character := utf8.DecodeRuneInString(s)
	return n >= character && (n == len(s) || !isTagByte(s[n]))
}

// isTagByte reports whether a template may test for a tag with this byte after "<" or "</".
func isTagByte(b byte) bool { return b == '/' || isDigit(b) || isASCIILetter(b) }

// continuesToken returns where the text, its leading space apart, begins with something that would make a guarded token
// of a bracket before it; -1 if it does not.
func (t *Tokenizer) continuesToken(text string) int {
	if t.guards == nil {
		return -1
	}
	inner := strings.TrimFunc(text, unicode.IsSpace)
	if inner == "" || !t.guards.continues(inner) {
		return -1
	}
	return strings.Index(text, inner)
}

// continues reports whether s begins with a tail, or is the beginning of one. The tails are sorted: those that begin
// with s are the first ones not before it; one that s begins with is before it, and each step back keeps only the
// beginning of s that the entry there shares.
func (t *trie) continues(s string) bool {
	if i := sort.SearchStrings(t.tails, s); i < len(t.tails) && strings.HasPrefix(t.tails[i], s) {
		return true
	}
	s = s[:min(len(s), t.longest)]
	for s != "" {
		i := sort.Search(len(t.tails), func(i int) bool { return t.tails[i] > s })
		if i == 0 {
			return false
		}
		tail := t.tails[i-1]
		common := 0
		for common < min(len(tail), len(s)) && tail[common] == s[common] {
			common++
		}
		if common == len(tail) {
			return true
		}
		s = s[:common]
	}
	return false
}

// EncodeGuarded encodes a rendered chat prompt whose untrusted parts went through Guard: control tokens are found
// everywhere but there. opts.ParseSpecial is not looked at.
func (t *Tokenizer) EncodeGuarded(text string, opts EncodeOptions) []int32 {
	plain, literal := unguard(text)
	return t.encode(plain, partition{control: true, guarded: true, literal: literal}, opts.AddSpecial)
}

// unguard takes the sentinels out of a text and returns the offsets of the characters that stood behind one.
func unguard(text string) (plain string, literal []int) {
	if !strings.Contains(text, quote) {
		return text, nil
	}
	var out strings.Builder
	out.Grow(len(text))
	for {
		i := strings.Index(text, quote)
		if i < 0 {
			out.WriteString(text)
			return out.String(), literal
		}
		out.WriteString(text[:i])
		text = text[i+len(quote):]
		if text == "" {
			return out.String(), literal
		}
		literal = append(literal, out.Len())
		_, n := utf8.DecodeRuneInString(text)
		out.WriteString(text[:n])
		text = text[n:]
	}
}

// isDelimiter reports whether a user-defined token is one of those that delimit turns and parts of a prompt.
func isDelimiter(text string) bool {
	return (strings.HasPrefix(text, "<|") || strings.HasPrefix(text, "<｜") || strings.HasPrefix(text, "｜")) &&
		(strings.HasSuffix(text, "|>") || strings.HasSuffix(text, "｜>") || strings.HasSuffix(text, "｜"))
}

// newGuards returns the trie of guarded tokens with their tails.
func newGuards(added []addedToken) (*trie, error) {
	var guarded []addedToken
	for _, token := range added {
		if !token.guarded {
			continue
		}
		if strings.Contains(token.text, quote) {
			return nil, fmt.Errorf("token %d, %q, contains the reserved character U+FDD0", token.id, token.text)
		}
		guarded = append(guarded, token)
	}
	guards, err := newTrie(guarded)
	if guards == nil {
		return nil, err
	}
	for _, token := range guarded {
		_, bracket := utf8.DecodeRuneInString(token.text)
		tail := token.text[bracket:]
		guards.tails = append(guards.tails, tail, strings.TrimPrefix(tail, "/"))
	}
	guards.tails = slices.DeleteFunc(guards.tails, func(tail string) bool { return tail == "" })
	sort.Strings(guards.tails)
	return guards, nil
}
