package chat

import (
	"iter"

	"hearth/engine/chat/jinja"
)

// Kind says what a piece of a reply is.
type Kind uint8

// The kinds of pieces. A call is one CallBegin, then any number of CallArguments, then a CallEnd, unless the reply was
// cut off before.
const (
	Text          Kind = iota // for the user
	Reasoning                 // what the model thought before it answered
	CallBegin                 // a tool call begins; Text is the name of the tool
	CallArguments             // further text of its arguments
	CallEnd                   // the call is complete
)

// Piece is the next piece of a reply. The pieces account for every byte of it, in order: markers and the white space
// around them belong to pieces whose text is shorter than what they account for, or empty.
type Piece struct {
	Kind Kind
	// Text of Text and Reasoning is the end of what the piece accounts for, as the model wrote it. Arguments are JSON,
	// which a dialect may write in another way.
	Text string
	ID   string // of a call that begins
	End  int    // how many bytes of the reply are accounted for, this piece included
}

// ReplyOptions say how a reply has to be read.
type ReplyOptions struct {
	Prompt string                     // as Render returned it: it may end inside the reasoning
	Tools  jinja.Value                // as ParseTools returned them; with none, text that looks like a call is text
	NewID  func(prefix string) string // makes ids of calls, of letters and digits behind the prefix
}

// Parser takes a model's reply apart while it comes: into reasoning, text and tool calls. The pieces of a reply are the
// same however its text was cut, but for where one piece ends and the next of the same kind begins.
//
// What is no well-formed call stays text, markers included. A call is well-formed once its name is complete and its
// arguments begin. From there on they are handed on as they come, so that arguments that turn out not to be JSON are the
// caller's to refuse, as with other services.
//
// A parser is a coroutine that reads bytes and pauses where the reply ends so far. It belongs to one goroutine, which
// calls Finish or Close at the end.
type Parser struct {
	reply   *reply
	resume  func() (struct{}, bool)
	abandon func()
	pieces  []Piece // reused
}

// NewParser returns a parser of replies to a prompt, nil where replies are text and nothing else.
func (t *Template) NewParser(opts ReplyOptions) *Parser {
	calls := t.calls
	if opts.Tools == nil {
		calls = nil
	}
	if t.thoughts == nil && calls == nil {
		return nil
	}
	return newParser(t.thoughts, calls, opts)
}

func newParser(thoughts *thoughts, calls *dialect, opts ReplyOptions) *Parser {
	r := &reply{thoughts: thoughts, dialect: calls, tools: newToolSet(opts.Tools), newID: opts.NewID}
	r.inReasoning = thoughts.isOpen(opts.Prompt)
	p := &Parser{reply: r}
	p.resume, p.abandon = iter.Pull(func(pause func(struct{}) bool) {
		r.pause = pause
		r.read()
	})
	return p
}

// StartsInReasoning reports whether the prompt ends inside the reasoning, so that the reply begins with it.
func (p *Parser) StartsInReasoning() bool { return p.reply.inReasoning }

// IsMarker reports whether the text of a control token belongs to the reply: control tokens are no text otherwise.
func (p *Parser) IsMarker(text string) bool {
	return p.reply.thoughts.isMarker(text) || p.reply.dialect.isMarker(text)
}

// Push takes further text and returns what is certain now. The pieces are valid until the next call.
func (p *Parser) Push(text string) []Piece {
	p.reply.push(text)
	p.resume()
	return p.take()
}

// Finish ends the reply and returns the rest of it. With complete the model ended it; otherwise it was cut off, and so
// may be a call, which then has no end.
func (p *Parser) Finish(complete bool) []Piece {
	p.reply.ended, p.reply.complete = true, complete
	p.resume()
	return p.take()
}

// Close ends the parser without looking at the rest. It may be called at any time, also after Finish.
func (p *Parser) Close() { p.abandon() }

func (p *Parser) take() []Piece {
	p.pieces = p.pieces[:0]
	for _, part := range p.reply.parts {
		p.pieces = append(p.pieces, Piece{Kind: part.kind, Text: string(part.text), ID: part.id, End: part.end})
	}
	p.reply.parts = p.reply.parts[:0]
	return p.pieces
}
