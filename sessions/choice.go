package sessions

import (
	"context"
	"fmt"
	"runtime/debug"
	"strings"
	"unicode/utf8"

	"hearth/engine/api"
	"hearth/engine/tokenizer"
)

// choice makes text of one sequence's tokens.
//
// Text is held back while it may be the beginning of a stop string, and tokens while their text is:
//
//	emitted text | held text
//	             |..tok..|..tok..|       ends[i] is where the text of tokens[i] ends, counted from the emitted text
//
// A token that ends inside a character is open: it ends where the token that completes the character does.
//
// One goroutine runs a choice, from its first event to its Finish delta.
type choice struct {
	index  int
	turn   *Turn
	tok    *tokenizer.Tokenizer
	prompt []int32

	cancel  context.CancelCauseFunc // ends the sequence at the next step
	decoder *tokenizer.Stream
	drawn   []int32 // tokens generated, up to the one that completed a stop string
	held    string
	tokens  []TokenLogprob // whose text is not all emitted
	ends    []int          // end of each token's text in held
	open    int            // how many of the last tokens are open
	scored  []TokenLogprob // prompt tokens, with Echo
}

// run turns events into deltas until the sequence ends, or until a stop string ends it first. A panic ends the choice
// with an error: it is no reason to end what others run in this process.
func (c *choice) run(events <-chan api.Event, deltas chan<- Delta) {
	defer c.cancel(nil)
	emit := func(d Delta) {
		d.Choice = c.index
		deltas <- d
	}
	defer func() {
		if r := recover(); r != nil {
			err := fmt.Errorf("%w: sessions: choice %d panicked: %v\n%s", api.ErrInternal, c.index, r, debug.Stack())
			emit(Delta{Finish: &Finish{Reason: api.FinishError, Err: err}})
		}
	}()
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
			emit(c.echo())
		}
		if e.Done != nil {
			emit(c.end(e.Done))
			return
		}
		d, stop := c.push(e)
		if stop != "" {
			done := c.drain(events)
			d.Finish = &Finish{Reason: api.FinishStop, StopString: stop, Tokens: c.drawn, Usage: done.Usage, Timing: done.Timing}
			emit(d)
			return
		}
		if d.Text != "" || d.Tokens != nil {
			emit(d)
		}
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

// push takes a token and returns the text that is certain now. When a stop string is complete it is returned, and the
// delta holds the text before it.
func (c *choice) push(e api.Event) (Delta, string) {
	c.drawn = append(c.drawn, e.Token)
	text := c.decoder.Push(e.Token)
	c.held += text
	if text != "" || c.decoder.Pending() == 0 {
		c.closeTokens()
	}
	if e.Logprob != nil {
		c.tokens = append(c.tokens, c.logprob(e.Logprob))
		c.ends = append(c.ends, len(c.held))
		if c.decoder.Pending() > 0 {
			c.open++
		}
	}
	if at, stop := firstStop(c.held, c.turn.Stop); at >= 0 {
		return c.release(at, true), stop
	}
	return c.release(len(c.held)-heldBack(c.held, c.turn.Stop), false), ""
}

// closeTokens sets the end of the open tokens.
func (c *choice) closeTokens() {
	for ; c.open > 0; c.open-- {
		c.ends[len(c.ends)-c.open] = len(c.held)
	}
}

// end releases what is held and says how the sequence ended.
func (c *choice) end(done *api.Done) Delta {
	c.held += c.decoder.Flush()
	c.closeTokens()
	d := Delta{}
	finish := &Finish{Reason: done.Reason, Err: done.Err, Tokens: c.drawn, Usage: done.Usage, Timing: done.Timing}
	if at, stop := firstStop(c.held, c.turn.Stop); at >= 0 {
		d = c.release(at, true)
		finish.Reason, finish.StopString = api.FinishStop, stop
	} else {
		d = c.release(len(c.held), true)
	}
	d.Finish = finish
	return d
}

// release emits the first n bytes of the held text, with the tokens that end in it; the last delta takes every token
// that begins in it.
func (c *choice) release(n int, last bool) Delta {
	d := Delta{Text: c.held[:n]}
	k, start := 0, 0
	for ; k < len(c.tokens); k++ {
		ended := c.ends[k] <= n && k < len(c.tokens)-c.open
		if !ended && !(last && start < n) {
			break
		}
		start = c.ends[k]
	}
	if k > 0 {
		d.Tokens = append([]TokenLogprob(nil), c.tokens[:k]...)
		c.tokens = append(c.tokens[:0], c.tokens[k:]...)
		c.ends = append(c.ends[:0], c.ends[k:]...)
	}
	for i := range c.ends {
		c.ends[i] -= n
	}
	c.held = c.held[n:]
	return d
}

// drain ends a sequence whose stop string is complete, and returns its counts. Tokens that were drawn before the engine
// noticed are not counted: they are no part of the answer.
func (c *choice) drain(events <-chan api.Event) (done api.Done) {
	c.cancel(api.ErrEnough)
	for e := range events {
		if e.Done != nil {
			done = *e.Done
		}
	}
	done.Usage.GeneratedTokens = len(c.drawn)
	done.Usage.AcceptedTokens = min(done.Usage.AcceptedTokens, len(c.drawn))
	return done
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
