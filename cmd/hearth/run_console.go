package main

import (
	"errors"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/term"
)

// console reads lines from a terminal, with editing and history.
//
//  1. The terminal is raw only between open and close, which is while a message is typed: while the model runs, and if
//     the process dies then, it is as the user had it, and Ctrl-C is a signal.
//  2. close may be called at any time, by any goroutine, any number of times.
//  3. At most one line is being read.
type console struct {
	out     io.Writer
	keys    *keyReader
	editor  *term.Terminal
	history *lineHistory
	raw     func() (restore func() error, err error)
	size    func() (width, height int, err error)

	mu      sync.Mutex   // guards restore
	restore func() error // nil: not raw
}

// newConsole returns the console of a process; history may be nil.
func newConsole(in, out *os.File, history *lineHistory) *console {
	fd := int(in.Fd())
	raw := func() (func() error, error) {
		state, err := term.MakeRaw(fd)
		return func() error { return term.Restore(fd, state) }, err
	}
	size := func() (int, int, error) { return term.GetSize(int(out.Fd())) }
	return makeConsole(in, out, history, raw, size)
}

func makeConsole(in io.Reader, out io.Writer, history *lineHistory, raw func() (func() error, error), size func() (int, int, error)) *console {
	c := &console{out: out, keys: &keyReader{in: in}, history: history, raw: raw, size: size}
	c.editor = term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{c.keys, out}, "")
	c.editor.AutoCompleteCallback = completeCommand
	c.editor.History = history
	return c
}

// open makes the terminal raw.
func (c *console) open() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.restore != nil {
		return nil
	}
	restore, err := c.raw()
	if err != nil {
		return err
	}
	c.restore = restore
	c.editor.SetBracketedPasteMode(true)
	return c.fit()
}

// fit tells the editor the size of the terminal; where that is not known it goes on with the last one.
func (c *console) fit() error {
	width, height, err := c.size()
	if err != nil || width <= 0 {
		return nil
	}
	return c.editor.SetSize(width, height)
}

// close gives the terminal back.
func (c *console) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.restore == nil {
		return nil
	}
	c.editor.SetBracketedPasteMode(false)
	restore := c.restore
	c.restore = nil
	return restore()
}

// typedLine is what the user did at a prompt.
type typedLine struct {
	text        string
	pasted      bool // the line end was pasted: more may follow
	interrupted bool // by Ctrl-C; text is what stood there
	err         error
}

// readLine starts reading a line between open and close. The channel delivers it once. A read of a terminal cannot be
// interrupted: when the process ends before, the goroutine ends with it.
func (c *console) readLine(prompt string) <-chan typedLine {
	c.editor.SetPrompt(prompt)
	result := make(chan typedLine, 1)
	go func() { result <- c.edit() }()
	return result
}

// edit reads a line. If it panics, which ends the process, the terminal is given back before.
func (c *console) edit() typedLine {
	returned := false
	defer func() {
		if !returned {
			c.close()
		}
	}()
	text, err := c.editor.ReadLine()
	returned = true
	line := typedLine{text: text, err: err}
	if errors.Is(err, term.ErrPasteIndicator) {
		line.pasted, line.err = true, nil
	}
	if c.keys.takeInterrupt() {
		line.text, line.interrupted, line.pasted = strings.TrimSuffix(text, interruptEcho), true, false
	} else if line.err == nil {
		c.history.add(text)
	}
	return line
}

// leaveLine moves below a line whose reading is given up.
func (c *console) leaveLine() { io.WriteString(c.out, "\r\n") }

// notice writes while a line is being read.
func (c *console) notice(text string) error {
	_, err := io.WriteString(c.editor, text)
	return err
}

const (
	keyInterrupt = 0x03 // Ctrl-C
	keyEnd       = "\x05"
	// interruptEcho appears at the end of a line that Ctrl-C discards.
	interruptEcho = "^C"
)

// keyReader hands what is typed to the line editor, no further than to the end of a line, so that the editor has taken
// everything when it returns the line. The editor would report Ctrl-C as the end of the input and lose what was typed;
// it gets a line end instead, and takeInterrupt tells.
type keyReader struct {
	in          io.Reader
	typed       []byte // read but not handed on
	buffer      [4096]byte
	substitute  string // of Ctrl-C, what is not handed on yet
	interrupted bool
	lineEnded   bool // by a carriage return: a line feed that follows belongs to it
}

// Read is part of io.Reader.
func (k *keyReader) Read(p []byte) (int, error) {
	if k.substitute != "" {
		n := copy(p, k.substitute)
		k.substitute = k.substitute[n:]
		return n, nil
	}
	if len(k.typed) == 0 {
		n, err := k.in.Read(k.buffer[:])
		if n == 0 {
			return 0, err
		}
		k.typed = k.buffer[:n] // an error comes again
	}
	switch first := k.typed[0]; {
	case first == keyInterrupt:
		k.typed, k.interrupted, k.substitute, k.lineEnded = k.typed[1:], true, keyEnd+interruptEcho+"\r", false
		return k.Read(p)
	case first == '\n' && k.lineEnded:
		k.typed, k.lineEnded = k.typed[1:], false
		return k.Read(p)
	}
	n := 0
	k.lineEnded = false
	for n < min(len(p), len(k.typed)) && k.typed[n] != keyInterrupt {
		n++
		if b := k.typed[n-1]; b == '\r' || b == '\n' {
			k.lineEnded = b == '\r'
			break
		}
	}
	copy(p, k.typed[:n])
	k.typed = k.typed[n:]
	return n, nil
}

// takeInterrupt reports whether Ctrl-C ended the line.
func (k *keyReader) takeInterrupt() bool {
	was := k.interrupted
	k.interrupted = false
	return was
}
