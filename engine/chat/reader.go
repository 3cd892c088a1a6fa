package chat

import "strings"

// reply is the text of a reply as a dialect reads it: with positions counted from the first byte that is not accounted
// for, and without an end until the reply has ended.
//
//	accounted for | looked at | not there yet
//	              ^0          ^n
//
// Looking further than the text reaches pauses the coroutine. No function here or in a dialect can learn where the
// pieces ended in which the text came, so that this cannot make a difference.
type reply struct {
	thoughts *thoughts
	dialect  *dialect // nil: calls are not looked for
	tools    toolSet
	newID    func(prefix string) string

	inReasoning bool // where the reply begins
	shown       bool // text, or a call
	pause       func(struct{}) bool

	buf      []byte
	pos      int // of the first byte that is not accounted for, in buf
	before   int // bytes of the reply before buf
	ended    bool
	complete bool // the model ended the reply
	parts    []part
}

// part is a piece that may still grow.
type part struct {
	kind  Kind
	text  []byte
	id    string
	end   int
	plain bool // text is the reply's own, up to end
}

// maxHeader is how far a dialect looks ahead to find out whether something is a call. It bounds what is held back, and
// the work for replies that only look like calls.
const maxHeader = 1 << 16

func (r *reply) push(text string) {
	if r.pos > 0 {
		r.before += r.pos
		r.buf = append(r.buf[:0], r.buf[r.pos:]...)
		r.pos = 0
	}
	r.buf = append(r.buf, text...)
}

// at returns the byte at position i, false behind the end of the reply.
func (r *reply) at(i int) (byte, bool) {
	for r.pos+i >= len(r.buf) {
		if r.ended || !r.pause(struct{}{}) {
			r.ended = true
			return 0, false
		}
	}
	return r.buf[r.pos+i], true
}

// is reports whether position i holds the byte.
func (r *reply) is(i int, c byte) bool {
	b, ok := r.at(i)
	return ok && b == c
}

// has reports whether the text at position i begins with s.
func (r *reply) has(i int, s string) bool {
	for j := range len(s) {
		if !r.is(i+j, s[j]) {
			return false
		}
	}
	return true
}

// hasAny returns the first of the strings that the text at position i begins with, empty if it begins with none.
func (r *reply) hasAny(i int, list []string) string {
	for _, s := range list {
		if r.has(i, s) {
			return s
		}
	}
	return ""
}

// space returns the position behind the white space at position i.
func (r *reply) space(i int) int {
	for {
		if b, ok := r.at(i); !ok || !isSpace(b) {
			return i
		}
		i++
	}
}

func isSpace(b byte) bool { return b == ' ' || b == '\n' || b == '\t' || b == '\r' }

// atEnd reports whether the reply ends at position i.
func (r *reply) atEnd(i int) bool {
	_, ok := r.at(i)
	return !ok
}

// name reads a tool's name, or another short text, up to one of the stop bytes. It fails where that is not before the
// end of the line.
func (r *reply) name(i int, stops string) (name string, next int, ok bool) {
	const longest = 256
	for n := 0; n < longest; n++ {
		b, ok := r.at(i + n)
		if !ok {
			return "", i, false
		}
		for j := range len(stops) {
			if b == stops[j] {
				return string(r.buf[r.pos+i : r.pos+i+n]), i + n, n > 0
			}
		}
		if b < ' ' {
			return "", i, false
		}
	}
	return "", i, false
}

// text returns the bytes of the positions from to to, which have been looked at.
func (r *reply) text(from, to int) string { return string(r.buf[r.pos+from : r.pos+to]) }

// show accounts for n bytes and hands them on.
func (r *reply) show(kind Kind, n int) {
	if n == 0 {
		return
	}
	last := r.last(kind)
	if last == nil || !last.plain {
		last = r.add(kind)
		last.plain = true
	}
	last.text = append(last.text, r.buf[r.pos:r.pos+n]...)
	r.pos += n
	last.end = r.before + r.pos
	r.shown = r.shown || kind == Text
}

// skip accounts for n bytes that nobody sees.
func (r *reply) skip(kind Kind, n int) {
	if n == 0 {
		return
	}
	last := r.last(kind)
	if last == nil || last.plain {
		last = r.add(kind)
	}
	r.pos += n
	last.end = r.before + r.pos
}

// write hands on text that is not in the reply in this form.
func (r *reply) write(kind Kind, text string) {
	last := r.last(kind)
	if last == nil || last.plain {
		last = r.add(kind)
	}
	last.text = append(last.text, text...)
}

// last returns the last piece if it is of this kind.
func (r *reply) last(kind Kind) *part {
	if n := len(r.parts); n > 0 && r.parts[n-1].kind == kind && kind != CallBegin && kind != CallEnd {
		return &r.parts[n-1]
	}
	return nil
}

func (r *reply) add(kind Kind) *part {
	r.parts = append(r.parts, part{kind: kind, end: r.before + r.pos})
	return &r.parts[len(r.parts)-1]
}

// escape accounts for a byte and writes it as it stands within a JSON string.
func (r *reply) escape() {
	r.skip(CallArguments, 1)
	last := r.last(CallArguments)
	last.text = appendEscaped(last.text, r.buf[r.pos-1])
}

// begin begins a call whose header ends at position n, with an id of its own if the model gave it none.
func (r *reply) begin(name, id string, n int) {
	if id == "" {
		id = r.newID("call_")
		if want := r.dialect.idLength; want > 0 {
			id = strings.Repeat("0", want) + strings.TrimPrefix(id, "call_")
			id = id[len(id)-want:]
		}
	}
	r.pos += n
	p := r.add(CallBegin)
	p.text, p.id = []byte(name), id
	r.shown = true
}

// end ends a call, behind n more bytes.
func (r *reply) end(n int) {
	r.pos += n
	r.add(CallEnd)
}
