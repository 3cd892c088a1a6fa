package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// lineHistory holds the lines that were typed, oldest first, and keeps them in a file, a line each, for the user alone.
// It is the editor's history. The editor offers lines by its method Add also when Ctrl-C discarded them; the console
// calls add.
type lineHistory struct {
	lines []string
	path  string          // empty: kept in memory alone
	warn  func(err error) // called once, when the file cannot be written
}

const (
	maxHistoryLines = 1000
	maxHistoryBytes = 1 << 20
)

// openHistory reads the history. The error says why it could not be read or cannot be kept; the history works in memory
// nevertheless.
func openHistory(folder string, warn func(error)) (*lineHistory, error) {
	h := &lineHistory{warn: warn}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return h, err
	}
	path := filepath.Join(folder, "history")
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		h.path = path
		return h, nil
	}
	if err != nil {
		return h, err
	}
	if !info.Mode().IsRegular() {
		return h, fmt.Errorf("%s is not a regular file", path)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return h, err
	}
	data, err := readEnd(path, maxHistoryBytes)
	if err != nil {
		return h, err
	}
	h.path = path
	scanner := bufio.NewScanner(bytes.NewReader(data))
	scanner.Buffer(nil, maxHistoryBytes)
	for scanner.Scan() {
		h.remember(scanner.Text())
	}
	if info.Size() > maxHistoryBytes {
		return h, h.rewrite()
	}
	return h, nil
}

// readEnd returns the whole lines in the last limit bytes of a file.
func readEnd(path string, limit int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	start := max(size-limit, 0)
	data, err := io.ReadAll(io.NewSectionReader(file, start, limit))
	if err != nil || start == 0 {
		return data, err
	}
	_, data, _ = bytes.Cut(data, []byte("\n"))
	return data, nil
}

// rewrite shortens the file to the lines that are remembered.
func (h *lineHistory) rewrite() error {
	return savePrivate(h.path, []byte(strings.Join(h.lines, "\n")+"\n"))
}

// add remembers a line, unless it is blank or the same as the last one, and appends it to the file.
func (h *lineHistory) add(line string) {
	if !h.remember(line) || h.path == "" {
		return
	}
	if err := h.append(h.lines[len(h.lines)-1]); err != nil {
		h.path = ""
		h.warn(err)
	}
}

func (h *lineHistory) append(line string) error {
	file, err := os.OpenFile(h.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = io.WriteString(file, line+"\n")
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	return err
}

// remember reports whether the line is new. Recalled lines are drawn as they are, so control characters, which pasted
// text and foreign files may have, are dropped.
func (h *lineHistory) remember(line string) bool {
	line = strings.Map(func(r rune) rune {
		if isControl(r) || r == '\n' {
			return -1
		}
		return r
	}, line)
	if strings.TrimSpace(line) == "" || len(h.lines) > 0 && h.lines[len(h.lines)-1] == line {
		return false
	}
	h.lines = append(h.lines, line)
	if extra := len(h.lines) - maxHistoryLines; extra > 0 {
		h.lines = h.lines[extra:]
	}
	return true
}

// Add is part of term.History.
func (h *lineHistory) Add(string) {}

// Len is part of term.History.
func (h *lineHistory) Len() int { return len(h.lines) }

// At is part of term.History: 0 is the newest line.
func (h *lineHistory) At(i int) string { return h.lines[len(h.lines)-1-i] }
