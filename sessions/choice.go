package sessions

import (
	"context"
	"fmt"
	"runtime/debug"
	"strings"
	"unicode/utf8"

	"hearth/engine/api"
	"hearth/engine/chat"
	"hearth/engine/tokenizer"
)

// choice makes deltas of one sequence's tokens: text of the tokens, then with a parser reasoning, text and tool calls of
// the text.
//
// Bytes of the answer are counted from its beginning, control tokens having none but for the markers of a parser. The
// parser holds back what may be a marker, and stop strings, which are looked for in the visible text alone, what may be
// the beginning of one. So a token waits twice:
//
//	         | parsed            | not parsed
//	emitted text | held text
//	             |..tok..|..tok..|..tok..|..tok..|
//	              shown           waiting
//
// A token that ends inside a character is open: it ends where the token that completes the character does.
//
// One goroutine runs a choice, from its first event to its Finish delta.
type choice struct {
	index    int
	turn     *Turn
	tok      *tokenizer.Tokenizer
	prompt   []int32
	template *chat.Template // of a chat; nil: all is text
	reply    chat.ReplyOptions

	emit    func(Delta)
	cancel  context.CancelCauseFunc // ends the sequence at the next step
	decoder *tokenizer.Stream
	parser  *chat.Parser   // nil: all is text
	scored  []TokenLogprob // prompt tokens, with Echo
	drawn   []int32        // tokens generated, up to the one that ended the answer

	read    int       // bytes of the answer
	parsed  int       // bytes that the parser has accounted for
	kind    chat.Kind // of the last of them
	waiting []waiting // tokens whose bytes are not all accounted for
	open    int       // how many of the last ones are open
	held    string    // visible text that is not emitted
	shown   []shown   // tokens of the visible text whose text is not all emitted
	pending Delta     // what the next delta has so far

	reasoning int // tokens
	calls     int // complete
	call      int // index of the call that is being written
}

// waiting is a token whose bytes are from from to to.
type waiting struct {
	from, to int
	count    int       // how many tokens were drawn when it was complete
	kind     chat.Kind // of its first byte
	visible  bool      // some of its text is
	logprob  *TokenLogprob
}

// shown is a token of the visible text.
type shown struct {
	end     int // of its text, counted from the emitted text
	count   int
	logprob *TokenLogprob
}

// stopped is what ended an answer before the model did.
type stopped struct {
	text  string // the stop string, empty for a tool call that is the only one
	count int    // tokens up to there
}

// run turns events into deltas until the sequence ends, or until a stop string or an only call ends it first. A panic
// ends the choice with an error: it is no reason to end what others run in this process.
func (c *choice) run(events <-chan api.Event, deltas chan<- Delta) {
	defer c.cancel(nil)
	c.emit = func(d Delta) {
		d.Choice = c.index
		deltas <- d
	}
	defer func() {
		if r := recover(); r != nil {
			err := fmt.Errorf("%w: sessions: choice %d panicked: %v\n%s", api.ErrInternal, c.index, r, debug.Stack())
			c.cancel(err)
			drain(events) // who hears of the end may count on its sequence's place
			c.emit(Delta{Finish: &Finish{Reason: api.FinishError, Err: err}})
		}
	}()
	if c.template != nil {
		c.parser = c.template.NewParser(c.reply)
	}
	if c.parser != nil {
		defer c.parser.Close()
		if c.parser.StartsInReasoning() {
			c.kind = chat.Reasoning
		}
	}
	echoed := !c.turn.Echo
	for e := range events {
		if e.Prompt != nil {
			for i := range e.Prompt {
				c.scored = append(c.scored, c.logprob(&e.Prompt[i]))
			}
			continue
		}
		if !echoed {
			echoed = true
			c.emit(c.echo())
		}
		if e.Done != nil {
			c.end(e.Done)
			return
		}
		if stop := c.push(e); stop != nil {
			c.stop(stop, events)
			return
		}
		c.flush()
	}
}

// drain waits for the end of a sequence that was cancelled.
func drain(events <-chan api.Event) {
	for range events {
	}
}

// echo is the delta that repeats the prompt: a text as it was sent, tokens as the model sees them.
func (c *choice) echo() Delta {
	d := Delta{}
	if c.turn.Text != nil {
		d.Text = *c.turn.Text
	} else {
		d.Text = c.tok.Decode(c.prompt, tokenizer.PieceOptions{Special: true})
	}
	if c.turn.Logprobs >= 0 {
		first := c.logprob(&api.Logprob{Token: c.prompt[0]})
		first.Known = false
		d.Tokens = append([]TokenLogprob{first}, c.scored...)
	}
	return d
}

// push takes a token and adds to the pending delta what is certain now. It returns what ends the answer, if that does.
func (c *choice) push(e api.Event) *stopped {
	c.drawn = append(c.drawn, e.Token)
	text := c.decoder.Push(e.Token)
	if c.parser != nil && c.tok.IsSpecial(e.Token) {
		marker := string(c.tok.AppendPiece(nil, e.Token, tokenizer.PieceOptions{Special: true}))
		if c.parser.IsMarker(marker) {
			text = c.decoder.Flush() + marker
		}
	}
	from := c.read
	c.read += len(text)
	if text != "" || c.decoder.Pending() == 0 {
		c.closeTokens()
	}
	w := waiting{from: from, to: c.read, count: len(c.drawn)}
	if e.Logprob != nil {
		p := c.logprob(e.Logprob)
		w.logprob = &p
	}
	c.waiting = append(c.waiting, w)
	if c.decoder.Pending() > 0 {
		c.open++
	}
	return c.parse(text)
}

// closeTokens sets the end of the open tokens.
func (c *choice) closeTokens() {
	for ; c.open > 0; c.open-- {
		w := &c.waiting[len(c.waiting)-c.open]
		w.to, w.count = c.read, len(c.drawn)
	}
}

// parse takes further text of the answer.
func (c *choice) parse(text string) *stopped {
	if c.parser == nil {
		return c.take(&chat.Piece{Kind: chat.Text, Text: text, End: c.read})
	}
	return c.takeAll(c.parser.Push(text))
}

func (c *choice) takeAll(pieces []chat.Piece) *stopped {
	for i := range pieces {
		if stop := c.take(&pieces[i]); stop != nil {
			return stop
		}
	}
	return c.take(&chat.Piece{Kind: chat.Text, End: c.parsed}) // for tokens without bytes
}

// take adds a piece to the pending delta.
func (c *choice) take(p *chat.Piece) *stopped {
	if p.Kind != chat.Text {
		c.release(len(c.held), false) // no stop string begins before and ends behind
	}
	if c.pending.precedes(p) {
		c.flush()
	}
	switch p.Kind {
	case chat.Text:
		c.account(p)
		if at, stop := firstStop(c.held, c.turn.Stop); at >= 0 {
			count := c.countAt(at + len(stop))
			c.release(at, true)
			return &stopped{text: stop, count: count}
		}
		c.release(len(c.held)-heldBack(c.held, c.turn.Stop), false)
		return nil
	case chat.Reasoning:
		c.pending.Reasoning += p.Text
	case chat.CallBegin:
		c.pending.Calls = append(c.pending.Calls, CallDelta{Index: c.call, ID: p.ID, Name: p.Text})
	case chat.CallArguments:
		c.arguments(p.Text)
	case chat.CallEnd:
		c.calls++
		c.call++
		if c.turn.OneCall {
			count := len(c.drawn)
			for _, w := range c.waiting {
				if w.to >= p.End {
					count = w.count
					break
				}
			}
			c.account(p)
			return &stopped{count: count}
		}
	}
	c.account(p)
	return nil
}

// precedes reports whether a piece has to come in a delta of its own: within one, reasoning is before text and text
// before calls.
func (d *Delta) precedes(p *chat.Piece) bool {
	switch {
	case p.Text == "":
		return false
	case p.Kind == chat.Text:
		return d.Calls != nil
	case p.Kind == chat.Reasoning:
		return d.Calls != nil || d.Text != ""
	}
	return false
}

// arguments adds to the last call.
func (c *choice) arguments(text string) {
	if text == "" {
		return
	}
	if n := len(c.pending.Calls); n > 0 && c.pending.Calls[n-1].Index == c.call {
		c.pending.Calls[n-1].Arguments += text
		return
	}
	c.pending.Calls = append(c.pending.Calls, CallDelta{Index: c.call, Arguments: text})
}

// account notes for the waiting tokens what a piece is, and lets those go on that end in it: to the visible text if some
// of theirs is in it. A token without bytes is what the byte before it is.
func (c *choice) account(p *chat.Piece) {
	begin, before := p.End, len(c.held) // the visible text of the piece, in the answer and in the held text
	if p.Kind == chat.Text {
		begin -= len(p.Text)
		c.held += p.Text
	}
	n := 0
	for ; n < len(c.waiting)-c.open; n++ {
		w := &c.waiting[n]
		if w.from == w.to && w.to <= c.parsed {
			w.kind, w.visible = c.kind, c.kind == chat.Text
		} else if w.from == w.to {
			w.kind, w.visible = p.Kind, p.Kind == chat.Text
		} else if w.from < p.End {
			if w.from >= c.parsed {
				w.kind = p.Kind
			}
			w.visible = w.visible || begin < min(w.to, p.End)
		}
		if w.to > p.End {
			break
		}
		if w.kind == chat.Reasoning {
			c.reasoning++
		}
		if w.visible {
			end := before + max(w.to-begin, 0)
			c.shown = append(c.shown, shown{end: end, count: w.count, logprob: w.logprob})
		}
	}
	c.waiting = append(c.waiting[:0], c.waiting[n:]...)
	if p.End > c.parsed {
		c.parsed, c.kind = p.End, p.Kind
	}
}

// release adds the first n bytes of the held text to the pending delta, with the tokens that end in it; the last time it
// takes every token that begins in it.
func (c *choice) release(n int, last bool) {
	c.pending.Text += c.held[:n]
	k, start := 0, 0
	for ; k < len(c.shown); k++ {
		s := &c.shown[k]
		if s.end > n && !(last && start < n) {
			break
		}
		start = s.end
		if s.logprob != nil {
			c.pending.Tokens = append(c.pending.Tokens, *s.logprob)
		}
	}
	c.shown = append(c.shown[:0], c.shown[k:]...)
	for i := range c.shown {
		c.shown[i].end -= n
	}
	c.held = c.held[n:]
}

// countAt returns how many tokens were drawn when the held text reached a length.
func (c *choice) countAt(length int) int {
	for _, s := range c.shown {
		if s.end >= length {
			return s.count
		}
	}
	return len(c.drawn)
}

// flush emits the pending delta, unless there is nothing in it.
func (c *choice) flush() {
	if d := c.pending; d.Reasoning != "" || d.Text != "" || d.Calls != nil || d.Tokens != nil {
		c.pending = Delta{}
		c.emit(d)
	}
}

// stop ends a sequence whose answer is complete before the model says so.
func (c *choice) stop(stop *stopped, events <-chan api.Event) {
	c.cancel(api.ErrEnough)
	done := api.Done{}
	for e := range events {
		if e.Done != nil {
			done = *e.Done
		}
	}
	c.finish(&done, stop)
}

// end releases what is held and says how the sequence ended.
func (c *choice) end(done *api.Done) {
	text := c.decoder.Flush()
	c.read += len(text)
	c.closeTokens()
	stop := c.parse(text)
	if stop == nil && c.parser != nil {
		stop = c.takeAll(c.parser.Finish(done.Reason == api.FinishStop))
	}
	if stop == nil {
		c.release(len(c.held), true)
	}
	c.finish(done, stop)
}

// finish emits the last delta. Tokens that were drawn before the engine noticed that the answer was complete are not
// counted: they are no part of it.
func (c *choice) finish(done *api.Done, stop *stopped) {
	f := &Finish{Reason: done.Reason, Err: done.Err, Usage: done.Usage, Timing: done.Timing}
	if stop != nil {
		f.Reason, f.Err, f.StopString = api.FinishStop, nil, stop.text
		c.drawn = c.drawn[:stop.count]
		f.Usage.GeneratedTokens = stop.count
		f.Usage.AcceptedTokens = min(f.Usage.AcceptedTokens, stop.count)
	}
	f.Tokens, f.ReasoningTokens, f.Calls = c.drawn, c.reasoning, c.calls
	c.pending.Finish = f
	c.emit(c.pending)
}

// logprob adds the texts of tokens to their log-probabilities.
func (c *choice) logprob(p *api.Logprob) TokenLogprob {
	t := c.token(p.Token, p.Logprob)
	for _, top := range p.Top {
		t.Top = append(t.Top, c.token(top.Token, top.Logprob))
	}
	return t
}

func (c *choice) token(id int32, logprob float32) TokenLogprob {
	raw := c.tok.AppendPiece(nil, id, tokenizer.PieceOptions{Special: true})
	return TokenLogprob{Token: id, Bytes: raw, Text: strings.ToValidUTF8(string(raw), string(utf8.RuneError)), Logprob: logprob, Known: true}
}

// firstStop returns where the stop string begins that is complete first, -1 if none is; of two that end together, the
// longer. So it does not matter in which pieces the text comes.
func firstStop(text string, stops []string) (int, string) {
	at, found := -1, ""
	for _, stop := range stops {
		i := strings.Index(text, stop)
		if i < 0 {
			continue
		}
		if end, first := i+len(stop), at+len(found); at < 0 || end < first || end == first && len(stop) > len(found) {
			at, found = i, stop
		}
	}
	return at, found
}

// heldBack is the length of the longest end of text that a stop string begins with.
func heldBack(text string, stops []string) int {
	longest := 0
	for _, stop := range stops {
		for n := min(len(stop)-1, len(text)); n > longest; n-- {
			if strings.HasSuffix(text, stop[:n]) {
				longest = n
			}
		}
	}
	return longest
}
