package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"hearth/engine/api"
)

// errBye ends the chat.
var errBye = errors.New("bye")

// chat is a conversation in a terminal. One goroutine runs it.
type chat struct {
	generator *generator
	console   *console
	signals   <-chan os.Signal // Ctrl-C while the terminal is not raw, and requests to end
	resized   <-chan os.Signal // the terminal has another size
	settings  settings
	verbose   bool

	talk    conversation
	last    *answer // nil before the first one
	attempt uint64  // how often the last message has been answered again
	hinted  bool    // Ctrl-C at the empty prompt has just been explained
}

// runChat loads the model and chats until the user leaves.
func runChat(ctx context.Context, model modelArg, flags *runFlags, std streams) (err error) {
	g, err := openGenerator(ctx, model, flags, std.err)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	warn := func(err error) { fmt.Fprintf(std.err, "hearth: the history of lines is not kept: %v\n", err) }
	history, historyErr := openHistory(defaultDataDir(), warn)
	if historyErr != nil {
		warn(historyErr)
	}
	signals, resized := make(chan os.Signal, 8), make(chan os.Signal, 1)
	signal.Reset(os.Interrupt, syscall.SIGTERM) // from here on they are the chat's
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer signal.Stop(signals)
	if ctx.Err() != nil { // it came before
		return interrupted(ctx)
	}
	notifyResize(resized)
	defer signal.Stop(resized)
	c := &chat{
		generator: g, console: newConsole(std.in.(*os.File), std.out.(*os.File), history), signals: signals, resized: resized,
		settings: flags.settings, verbose: flags.verbose, talk: conversation{system: flags.system},
	}
	return c.run(ctx)
}

// run reads messages and commands until the user leaves. An error is one of the terminal, or names the signal that
// ended the chat.
func (c *chat) run(ctx context.Context) error {
	m := &c.generator.model
	c.say("%s: %s, %s parameters, %s, context of %d tokens\n", m.ID, m.Architecture, formatCount(m.Parameters), m.Quantization, m.ContextLength)
	c.say("/help lists the commands; /bye or Ctrl-D leaves.\n\n")
	for {
		typed, err := c.readMessage()
		switch {
		case errors.Is(err, errDiscarded):
			continue
		case errors.Is(err, errBye):
			return nil
		case err != nil:
			return err
		}
		c.hinted = false
		if err := c.take(ctx, typed); errors.Is(err, errBye) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// take carries out a command or answers a message. Errors end the chat; what is wrong with the input is said.
func (c *chat) take(ctx context.Context, m *composer) error {
	text := m.text()
	switch {
	case strings.TrimSpace(text) == "":
		return nil
	case !m.literal && isCommand(text):
		return c.command(ctx, text)
	case !m.literal && strings.HasPrefix(text, " /"):
		text = text[1:]
	}
	c.attempt = 0
	before := c.talk.messages
	c.talk.messages = append(before[:len(before):len(before)], message{roleUser, text})
	answered, err := c.answer(ctx)
	if !answered {
		c.talk.messages = before
	}
	return err
}

var errDiscarded = errors.New("discarded")

const (
	firstPrompt = ">>> "
	nextPrompt  = "... "
)

// readMessage reads the lines of one message. errDiscarded is for another try, errBye for the end.
func (c *chat) readMessage() (_ *composer, err error) {
	if err := c.console.open(); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.console.close()) }()
	typed, prompt := &composer{}, firstPrompt
	for {
		line, err := c.readLine(prompt)
		switch {
		case errors.Is(err, io.EOF):
			c.console.leaveLine()
			return nil, errBye
		case err != nil:
			return nil, err
		case line.interrupted && typed.empty() && line.text == "":
			if c.hinted {
				return nil, errBye
			}
			c.hinted = true
			c.console.notice(leaveHint)
			return nil, errDiscarded
		case line.interrupted:
			c.hinted = false
			return nil, errDiscarded
		case typed.add(line.text, line.pasted):
			return typed, nil
		}
		prompt = nextPrompt
	}
}

const leaveHint = "Ctrl-C once more, Ctrl-D or /bye leaves.\n"

// readLine waits for a line or for a signal that ends the chat.
func (c *chat) readLine(prompt string) (typedLine, error) {
	lines := c.console.readLine(prompt)
	for {
		select {
		case line := <-lines:
			return line, line.err
		case s := <-c.signals:
			if s != os.Interrupt || c.hinted {
				c.console.leaveLine()
			}
			if s != os.Interrupt {
				return typedLine{}, interruption{s}
			}
			if c.hinted {
				return typedLine{}, errBye
			}
			c.hinted = true
			if err := c.console.notice(leaveHint); err != nil {
				return typedLine{}, err
			}
		case <-c.resized:
			if err := c.console.fit(); err != nil {
				return typedLine{}, err
			}
		}
	}
}

// answer generates what comes next in the conversation and adds it. It reports whether there is an answer; an error
// ends the chat.
func (c *chat) answer(ctx context.Context) (bool, error) {
	out := &lineEndWriter{out: visibleWriter{c.console.out}}
	a, ended, err := c.generateUntilSignal(ctx, out)
	if !out.atLineStart && a.text != "" {
		c.say("\n")
	}
	if ended != nil {
		return false, interruption{ended}
	}
	if err != nil {
		c.explain(err)
		return false, nil
	}
	switch {
	case a.cancelled():
		c.say("[stopped]\n")
	case a.contextFull(c.generator.model.ContextLength):
		u := a.finish.Usage
		c.say("[The answer ends here: the context of %d tokens is full, %d of the conversation and %d of the answer. %s]\n",
			c.generator.model.ContextLength, u.PromptTokens, u.GeneratedTokens, c.roomAdvice())
	case a.finish.Reason == api.FinishLength:
		c.say("[The answer ends here: max_tokens is %d.]\n", a.finish.Usage.GeneratedTokens)
	}
	if a.cancelled() && a.text == "" {
		c.say("\n")
		return false, nil
	}
	c.last = &a
	c.talk.messages = append(c.talk.messages, message{roleAssistant, a.text})
	if c.verbose {
		c.say("%s\n", a.summary())
	}
	c.say("\n")
	return true, nil
}

// generateUntilSignal generates until the answer is complete, or Ctrl-C or a signal that ends the chat, which is then
// returned, stops it.
func (c *chat) generateUntilSignal(ctx context.Context, out io.Writer) (a answer, ended os.Signal, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		a, err = c.generator.generate(ctx, c.talk.all(), &c.settings, c.settings.nextSeed(c.attempt), out)
	}()
	for running := true; running; {
		select {
		case <-done:
			running = false
		case s := <-c.signals:
			cancel()
			if s != os.Interrupt {
				ended = s
			}
		}
	}
	for {
		select {
		case s := <-c.signals: // a Ctrl-C that came too late means this answer, not the prompt
			if s != os.Interrupt {
				ended = s
			}
		default:
			return a, ended, err
		}
	}
}

// explain says why there is no answer.
func (c *chat) explain(err error) {
	long := (*api.TooLongError)(nil)
	if !errors.As(err, &long) {
		c.say("error: %v\n\n", err)
		return
	}
	c.say("The context is full: the conversation with this message has %d tokens, the context holds %d. The message was not\n"+
		"added; the key up brings it back. %s\n\n", long.Prompt, long.Context, c.roomAdvice())
}

// roomAdvice says how to go on when the context is full.
func (c *chat) roomAdvice() string {
	advice := "/clear forgets the conversation; /save FILE keeps it before."
	if m := &c.generator.model; m.TrainedLength > m.ContextLength {
		advice += fmt.Sprintf(" Started with --ctx, the context may have up to %d tokens.", m.TrainedLength)
	}
	return advice
}

// say writes to the user, between messages.
func (c *chat) say(format string, args ...any) {
	io.WriteString(c.console.out, visible(fmt.Sprintf(format, args...))) // a terminal that is gone ends the next read
}

// lineEndWriter remembers whether what was written ends a line.
type lineEndWriter struct {
	out         io.Writer
	atLineStart bool
}

func (w *lineEndWriter) Write(p []byte) (int, error) {
	if len(p) > 0 {
		w.atLineStart = p[len(p)-1] == '\n'
	}
	return w.out.Write(p)
}
