package jinja

import (
	"iter"
	"sort"
	"strings"
	"unicode/utf8"
)

// Text is a Python string, as UTF-8, that remembers which of its bytes came from outside the template.
type Text struct {
	s       string
	outside []span // bytes from outside: ascending, not empty, not touching
	markup  bool   // marked by the safe filter; matters to escape and to "+" only
}

// span is a half-open range of bytes [from, to).
type span struct{ from, to int }

// Trusted returns a text as if the template had written it.
func Trusted(s string) Text { return Text{s: s} }

// Untrusted returns a text that came from outside the template.
func Untrusted(s string) Text {
	if s == "" {
		return Text{}
	}
	return Text{s: s, outside: []span{{0, len(s)}}}
}

// Concat joins texts, each of which keeps its origin.
func Concat(parts ...Text) Text {
	var joined Text
	for _, part := range parts {
		at := len(joined.s)
		for _, run := range part.outside {
			run.from, run.to = run.from+at, run.to+at
			if n := len(joined.outside); n > 0 && joined.outside[n-1].to == run.from {
				joined.outside[n-1].to = run.to
				continue
			}
			joined.outside = append(joined.outside, run)
		}
		joined.s += part.s
	}
	return joined
}

// String returns the bare text.
func (t Text) String() string { return t.s }

func (t Text) typeName() string {
	if t.markup {
		return "Markup"
	}
	return "str"
}

// runs yields the maximal runs of one origin, in order.
func (t Text) runs() iter.Seq2[string, bool] {
	return func(yield func(run string, outside bool) bool) {
		at := 0
		for _, o := range t.outside {
			if at < o.from && !yield(t.s[at:o.from], false) || !yield(t.s[o.from:o.to], true) {
				return
			}
			at = o.to
		}
		if at < len(t.s) {
			yield(t.s[at:], false)
		}
	}
}

// slice returns the bytes [from, to), which must lie on rune borders.
func (t Text) slice(from, to int) Text {
	if from >= to {
		return Text{markup: t.markup}
	}
	part := Text{s: t.s[from:to], markup: t.markup}
	// Only the runs within are looked at, so that cutting a text into its parts costs no more than the parts.
	first := sort.Search(len(t.outside), func(i int) bool { return t.outside[i].to > from })
	for _, o := range t.outside[first:] {
		if o.from >= to {
			break
		}
		part.outside = append(part.outside, span{max(o.from, from) - from, min(o.to, to) - from})
	}
	return part
}

// length is the number of code points.
func (t Text) length() int { return utf8.RuneCountInString(t.s) }

// byteOffset is where the code point of an index in [0, length] begins.
func (t Text) byteOffset(index int) int {
	at := 0
	for ; index > 0 && at < len(t.s); index-- {
		_, size := utf8.DecodeRuneInString(t.s[at:])
		at += size
	}
	return at
}

// characters yields the code points, each with its origin.
func (t Text) characters() iter.Seq[Text] {
	return func(yield func(Text) bool) {
		for i, r := range t.s {
			if !yield(t.slice(i, i+max(1, runeLen(t.s[i:], r)))) {
				return
			}
		}
	}
}

// runeLen is the number of bytes that r, decoded from the start of s, takes.
func runeLen(s string, r rune) int {
	if r == utf8.RuneError {
		_, size := utf8.DecodeRuneInString(s)
		return size
	}
	return utf8.RuneLen(r)
}

// guarded is the text with guard applied to every run from outside.
func (t Text) guarded(guard func(string) string) string {
	if guard == nil || len(t.outside) == 0 {
		return t.s
	}
	var b strings.Builder
	for run, outside := range t.runs() {
		if outside {
			run = guard(run)
		}
		b.WriteString(run)
	}
	return b.String()
}

// textBuilder assembles a Text within the limits of a rendering. The first error stays and ends the growth.
type textBuilder struct {
	meter   *meter
	buf     []byte
	outside []span
	err     error
}

func (b *textBuilder) reserve(n int) bool {
	if b.err == nil {
		b.err = b.meter.text(len(b.buf), n)
	}
	return b.err == nil
}

// write appends a text and keeps its origins.
func (b *textBuilder) write(t Text) {
	at := len(b.buf)
	if !b.reserve(len(t.s)) {
		return
	}
	b.buf = append(b.buf, t.s...)
	for _, o := range t.outside {
		b.mark(at+o.from, at+o.to)
	}
}

// writeString appends text of one origin.
func (b *textBuilder) writeString(s string, outside bool) {
	at := len(b.buf)
	if !b.reserve(len(s)) {
		return
	}
	b.buf = append(b.buf, s...)
	if outside && s != "" {
		b.mark(at, len(b.buf))
	}
}

// trusted appends text that the template or the language itself wrote.
func (b *textBuilder) trusted(s string) { b.writeString(s, false) }

// pad appends a fill text n times.
func (b *textBuilder) pad(fill Text, n int) {
	if n <= 0 || fill.s == "" || !b.reserveOnly(mulSaturate(n, len(fill.s))) {
		return
	}
	for range n {
		b.write(fill)
	}
}

// reserveOnly checks that n bytes would fit, without counting them.
func (b *textBuilder) reserveOnly(n int) bool {
	if b.err == nil {
		b.err = b.meter.fits(len(b.buf), n)
	}
	return b.err == nil
}

// mark records a range from outside, merged with the last one where they touch.
func (b *textBuilder) mark(from, to int) {
	if n := len(b.outside); n > 0 && b.outside[n-1].to == from {
		b.outside[n-1].to = to
		return
	}
	b.outside = append(b.outside, span{from, to})
}

// text returns what was built. The builder must not be used afterwards.
func (b *textBuilder) text() (Text, error) {
	if b.err != nil {
		return Text{}, b.err
	}
	return Text{s: string(b.buf), outside: b.outside}, nil
}

// concat joins texts.
func (m *meter) concat(parts ...Text) (Text, error) {
	b := textBuilder{meter: m}
	for _, p := range parts {
		b.write(p)
	}
	return b.text()
}

// mapRuns rewrites each run on its own; change may keep state across runs, which arrive in order.
func (m *meter) mapRuns(t Text, change func(run string) string) (Text, error) {
	b := textBuilder{meter: m}
	for run, outside := range t.runs() {
		b.writeString(change(run), outside)
	}
	out, err := b.text()
	out.markup = t.markup
	return out, err
}

// mulSaturate multiplies two counts; a product that does not fit becomes the largest int, which every limit refuses.
func mulSaturate(a, b int) int {
	if a <= 0 || b <= 0 {
		return 0
	}
	if a > int(^uint(0)>>1)/b {
		return int(^uint(0) >> 1)
	}
	return a * b
}
