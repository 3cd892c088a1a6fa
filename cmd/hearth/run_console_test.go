package main

import (
	"io"
	"strings"
	"testing"
)

func TestComposer(t *testing.T) {
	for _, c := range []struct {
		name    string
		lines   []string // a line that ends in ⏎ is pasted
		want    string
		literal bool
	}{
		{"one line", []string{"hello"}, "hello", false},
		{"spaces stay", []string{"  two  "}, "  two  ", false},
		{"backslash", []string{`one\`, `two\`, "three"}, "one\ntwo\nthree", false},
		{"quotes", []string{`"""`, "one", "", " two", `"""`}, "one\n\n two", true},
		{"quotes on the lines", []string{`"""one`, `/two\`, `three"""`}, "one\n/two\\\nthree", true},
		{"quotes on one line", []string{`"""/one"""`}, "/one", true},
		{"nothing in quotes", []string{`""""""`}, "", true},
		{"quotes within", []string{`say """hi`}, `say """hi`, false},
		{"pasted", []string{"one⏎", "/two⏎", "three"}, "one\n/two\nthree", true},
		{"pasted with its end", []string{"one⏎", "⏎", "two⏎", ""}, "one\n\ntwo", true},
		{"pasted backslash", []string{`one\⏎`, "two"}, "one\\\ntwo", true},
		{"pasted into quotes", []string{`"""`, "a⏎", "b⏎", `"""`}, "a\nb", true},
	} {
		var m composer
		for i, line := range c.lines {
			line, pasted := strings.CutSuffix(line, "⏎")
			if done := m.add(line, pasted); done != (i == len(c.lines)-1) {
				t.Errorf("%s: line %d: complete is %v", c.name, i, done)
			}
		}
		if m.text() != c.want || m.literal != c.literal {
			t.Errorf("%s: got %q, literal %v; want %q, %v", c.name, m.text(), m.literal, c.want, c.literal)
		}
	}
}

// fakeTerminal is a console whose terminal is a reader and a writer.
func fakeTerminal(in io.Reader, out io.Writer) (c *console, isRaw func() bool) {
	raw := false
	makeRaw := func() (func() error, error) {
		raw = true
		return func() error { raw = false; return nil }, nil
	}
	size := func() (int, int, error) { return 80, 24, nil }
	return makeConsole(in, out, &lineHistory{}, makeRaw, size), func() bool {
		c.mu.Lock() // under which raw changes
		defer c.mu.Unlock()
		return raw
	}
}

func TestConsoleLines(t *testing.T) {
	keys := "one\r" + "two\n" + "thr\x7free\x03" + "\x03" + "fo\x1b[Dur\r\n" + "\x1b[A\r" + "\x1b[200~pas\nted\x1b[201~!\r" + "/reg\t\r" + "\x04never"
	want := []typedLine{
		{text: "one"}, {text: "two"}, {text: "three", interrupted: true}, {interrupted: true}, {text: "furo"}, {text: "furo"},
		{text: "pas", pasted: true}, {text: "ted!"}, {text: "/regenerate"}, {err: io.EOF},
	}
	for _, chunk := range []int{1, 2, 7, len(keys)} { // how much of it a read gives
		c, isRaw := fakeTerminal(&chunkReader{keys, chunk}, io.Discard)
		if err := c.open(); err != nil {
			t.Fatal(err)
		}
		for i, w := range want {
			if got := <-c.readLine(">>> "); got != w {
				t.Errorf("%d bytes at a time, line %d: got %+v, want %+v", chunk, i, got, w)
			}
		}
		if err := c.close(); err != nil || isRaw() {
			t.Errorf("raw is %v after close, error %v", isRaw(), err)
		}
	}
}

// chunkReader returns a few bytes at a time.
type chunkReader struct {
	rest  string
	chunk int
}

func (r *chunkReader) Read(p []byte) (int, error) {
	if r.rest == "" {
		return 0, io.EOF
	}
	n := copy(p, r.rest[:min(r.chunk, len(r.rest))])
	r.rest = r.rest[n:]
	return n, nil
}

type panicHistory struct{ *lineHistory }

func (panicHistory) Len() int { panic("broken history") }

// TestConsolePanic: a panic in the editor does not leave the terminal raw.
func TestConsolePanic(t *testing.T) {
	c, isRaw := fakeTerminal(strings.NewReader("a\x1b[A"), io.Discard)
	c.editor.History = panicHistory{}
	if err := c.open(); err != nil || !isRaw() {
		t.Fatalf("raw is %v, error %v", isRaw(), err)
	}
	defer func() {
		if recover() == nil || isRaw() {
			t.Errorf("raw is %v after a panic", isRaw())
		}
	}()
	c.edit()
}

func TestCompleteCommand(t *testing.T) {
	for _, c := range []struct {
		line, want string
		ok         bool
	}{
		{"/re", "/regenerate", true}, {"/s", "/s", true}, {"/st", "/stats", true}, {"/sa", "/save ", true},
		{"/h", "/h", true}, {"/hi", "/history", true}, {"/x", "", false}, {"he", "", false},
	} {
		if got, pos, ok := completeCommand(c.line, len(c.line), '\t'); got != c.want || ok != c.ok || pos != len(c.want) {
			t.Errorf("%s: got %q at %d, %v; want %q, %v", c.line, got, pos, ok, c.want, c.ok)
		}
	}
	if _, _, ok := completeCommand("/re", 3, 'g'); ok {
		t.Error("another key completes")
	}
}
