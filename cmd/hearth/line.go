package main

import (
	"errors"
	"io"
	"os"
	"slices"

	"golang.org/x/term"
)

// errInterrupted says that Ctrl-C was pressed.
var errInterrupted = errors.New("interrupted")

// lineReader reads lines from a terminal, with editing keys and earlier lines. The terminal is in raw mode only while a
// line is read, so that Ctrl-C is a signal while the model answers.
type lineReader struct {
	terminal *os.File
	history  *lineHistory
}

// read returns the next line without its end. Ctrl-C is errInterrupted, Ctrl-D on an empty line io.EOF.
func (l *lineReader) read(prompt string) (string, error) {
	fd := int(l.terminal.Fd())
	state, err := term.MakeRaw(fd)
	if err != nil {
		return "", err
	}
	defer term.Restore(fd, state)
	keys := &keyWatch{in: l.terminal}
	// A terminal does not survive Ctrl-C, so each line has its own; what it has read ahead belongs to the line that is
	// pasted, which ends where the terminal says.
	t := term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{keys, l.terminal}, prompt)
	t.History = l.history
	if width, height, err := term.GetSize(fd); err == nil && width > 0 {
		t.SetSize(width, height)
	}
	line, err := t.ReadLine()
	if keys.interrupted && errors.Is(err, io.EOF) {
		io.WriteString(l.terminal, "\r\n")
		return "", errInterrupted
	}
	return line, err
}

// keyWatch notes Ctrl-C, which term.Terminal does not tell from the end of the input. It hands on single bytes, so that
// no terminal reads beyond the line it was made for.
type keyWatch struct {
	in          io.Reader
	interrupted bool
}

// Read is part of io.Reader.
func (k *keyWatch) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := k.in.Read(p[:1])
	const ctrlC = 3
	k.interrupted = n == 1 && p[0] == ctrlC
	return n, err
}

// lineHistory keeps the last lines, newest first, each once in a row.
type lineHistory struct {
	lines []string // oldest first
}

const maxHistory = 500

// Add is part of term.History.
func (h *lineHistory) Add(line string) {
	if line == "" || len(h.lines) > 0 && h.lines[len(h.lines)-1] == line {
		return
	}
	h.lines = append(h.lines, line)
	if len(h.lines) > maxHistory {
		h.lines = slices.Delete(h.lines, 0, len(h.lines)-maxHistory)
	}
}

// Len is part of term.History.
func (h *lineHistory) Len() int { return len(h.lines) }

// At is part of term.History.
func (h *lineHistory) At(i int) string { return h.lines[len(h.lines)-1-i] }
