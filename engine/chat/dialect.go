package chat

import (
	"slices"
	"strings"
)

// dialect is how models of a family write tool calls. Families agree on no form, so that each has a file of its own.
type dialect struct {
	name    string
	markers []string // all that delimits calls: a vocabulary may have control tokens of these
	// triggers are what a block of calls begins with.
	triggers []string
	// atStart says that calls are only at the beginning of a reply.
	atStart  bool
	idLength int // of the ids of calls, where templates insist on one; 0: any
	// calls reads a block of calls at position i, before which there is white space or nothing. It returns false, and has
	// accounted for nothing, where it is none; otherwise the block and the white space are accounted for.
	calls func(r *reply, i int) bool
}

// dialects are all there are, in no particular order: at most one of them reads what a template writes.
var dialects []*dialect

func register(d *dialect) *dialect {
	dialects = append(dialects, d)
	return d
}

// String is the dialect's name, empty for none.
func (d *dialect) String() string {
	if d == nil {
		return ""
	}
	return d.name
}

func (d *dialect) isMarker(text string) bool { return d != nil && slices.Contains(d.markers, text) }

// thoughts are the tags around reasoning.
type thoughts struct{ open, close string }

// allThoughts are the tags in use. One that contains another comes first.
var allThoughts = []*thoughts{{"<mm:think>", "</mm:think>"}, {"<think>", "</think>"}, {"[THINK]", "[/THINK]"}}

// String is the opening tag, empty for none.
func (t *thoughts) String() string {
	if t == nil {
		return ""
	}
	return t.open
}

func (t *thoughts) isMarker(text string) bool { return t != nil && (text == t.open || text == t.close) }

// isOpen reports whether a prompt ends inside the reasoning.
func (t *thoughts) isOpen(prompt string) bool {
	return t != nil && strings.HasSuffix(strings.TrimRight(prompt, " \t\r\n"), t.open)
}

// read reads the whole reply.
func (r *reply) read() {
	if r.thoughts != nil {
		r.readReasoning()
	}
	r.readAnswer()
}

// readReasoning reads up to the end of the reasoning. The tag that opens it may stand in the prompt, in the reply or in
// both; a lone tag that closes it says that there is none.
func (r *reply) readReasoning() {
	tag := r.space(0)
	switch {
	case r.has(tag, r.thoughts.open):
		r.skip(Reasoning, tag+len(r.thoughts.open))
	case r.inReasoning:
	case r.has(tag, r.thoughts.close):
		r.endReasoning(tag)
		return
	default:
		return
	}
	r.skip(Reasoning, r.space(0))
	for {
		next := r.space(0) // white space before the closing tag is no part of the reasoning
		switch {
		case r.has(next, r.thoughts.close):
			r.endReasoning(next)
			return
		case r.readCalls(next): // without a closing tag
			return
		case r.atEnd(next):
			r.show(Reasoning, next)
			return
		}
		r.show(Reasoning, max(next, 1))
	}
}

// endReasoning accounts for the closing tag at position i and the empty lines around it.
func (r *reply) endReasoning(i int) {
	r.skip(Reasoning, i+len(r.thoughts.close))
	n := 0
	for r.is(n, '\n') || r.is(n, '\r') {
		n++
	}
	r.skip(Text, n)
}

// readAnswer reads text and calls to the end of the reply.
func (r *reply) readAnswer() {
	called := false // and no text since
	for {
		next := r.space(0)
		switch {
		case r.readCalls(next):
			called = true
			continue
		case r.atEnd(next) && called:
			r.skip(Text, next)
			return
		case r.atEnd(next):
			r.show(Text, next)
			return
		}
		r.show(Text, max(next, 1))
		called = false
	}
}

// readCalls reads a block of calls at position i, if there is one.
func (r *reply) readCalls(i int) bool {
	d := r.dialect
	if d == nil || d.atStart && r.shown || r.hasAny(i, d.triggers) == "" {
		return false
	}
	return d.calls(r, i)
}
