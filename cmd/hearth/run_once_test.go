package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"hearth/cmd/sharedtest"
)

// runOn runs the command run with standard input as given.
func runOn(t *testing.T, stdin string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	root := newRootCommand()
	var out, errOut bytes.Buffer
	root.SetIn(strings.NewReader(stdin))
	root.SetOut(&out)
	root.SetErr(&errOut)
	root.SetArgs(append([]string{"run", "--threads", "1"}, args...))
	err = root.ExecuteContext(t.Context())
	return out.String(), errOut.String(), err
}

// TestRunOnceGolden compares the answer to prompts from a pipe and from the command line with the reference's.
func TestRunOnceGolden(t *testing.T) {
	line, _, _ := bytes.Cut(sharedtest.ReadFile(t, "testdata/models/stories260K/expected_greedy.jsonl"), []byte("\n"))
	var want struct {
		Prompt string `json:"prompt"`
		Text   string `json:"text"`
	}
	if err := json.Unmarshal(line, &want); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{}, {"stories260k"}, {"", want.Prompt}} {
		stdin := ""
		if len(args) < 2 {
			stdin = want.Prompt + "\n"
		}
		out, errOut, err := runOn(t, stdin, append(args, "--temperature", "0", "--max-tokens", "24")...)
		if err != nil {
			t.Fatal(err)
		}
		if text, ok := strings.CutSuffix(out, "\n"); !ok || len(text) < 24 || !strings.HasPrefix(want.Text, text) {
			t.Errorf("%q: got %q, want the beginning of %q and a line end", args, out, want.Text)
		}
		if warnings := strings.Split(strings.TrimSpace(errOut), "\n"); len(warnings) != 1 || !strings.Contains(warnings[0], "no chat template") {
			t.Errorf("%q: standard error is %q, want the one warning that the model has no chat template", args, errOut)
		}
	}
}

func TestRunOnceSeed(t *testing.T) {
	var answers []string
	for _, seed := range []string{"7", "7", "8"} {
		out, errOut, err := runOn(t, "Once upon a time", "--seed", seed, "--max-tokens", "16", "--system", "A tale.", "--verbose")
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(errOut, "answer 16 tokens") {
			t.Errorf("--verbose printed %q", errOut)
		}
		answers = append(answers, out)
	}
	if answers[0] != answers[1] || answers[0] == answers[2] {
		t.Errorf("seeds 7, 7 and 8 gave %q", answers)
	}
}

func TestRunOnceContextFull(t *testing.T) {
	out, errOut, err := runOn(t, "Once upon a time", "--ctx", "64", "--seed", "1", "--max-tokens", "1000")
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 60 || !strings.Contains(errOut, "context of 64 tokens is full") {
		t.Errorf("got %q, standard error %q", out, errOut)
	}
}

func TestRunRefuses(t *testing.T) {
	for _, c := range []struct {
		name, stdin string
		args        []string
		want        string
	}{
		{"no model", "hi", []string{"/nonexistent/model.gguf"}, "/nonexistent/model.gguf"},
		{"empty prompt", "\n", nil, "the prompt is empty"},
		{"bytes that are no text", "a\xFFb", nil, "not UTF-8"},
		{"third argument", "", []string{"", "a", "b"}, "at most 2 arg"},
		{"temperature", "hi", []string{"--temperature", "-1"}, "must be a finite number of at least 0"},
		{"not a number", "hi", []string{"--temperature", "NaN"}, "must be a finite number"},
		{"top_p", "hi", []string{"--top-p", "1.5"}, "must be between 0 and 1"},
		{"seed", "hi", []string{"--seed", "-3"}, "--seed"},
		{"max_tokens", "hi", []string{"--max-tokens", "some"}, "--max-tokens"},
		{"kv-type", "hi", []string{"--kv-type", "q9"}, "--kv-type"},
		{"no guesses", "hi", []string{"--max-draft", "0"}, "want 1 to 63; --speculate off"},
		{"many guesses", "hi", []string{"--max-draft", "64"}, "want 1 to 63"},
		{"draft without guesses", "hi", []string{"--draft", "d.gguf", "--speculate", "off"}, "--draft: a draft model is not used with --speculate off"},
		{"too long", strings.Repeat("word ", 400), nil, "exceed the context of 512"},
	} {
		out, _, err := runOn(t, c.stdin, c.args...)
		if err == nil || !strings.Contains(err.Error(), c.want) || out != "" {
			t.Errorf("%s: got output %q and error %v, want none and %q", c.name, out, err, c.want)
		}
	}
}

func TestVisible(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"plain\n\ttext, dürfen ☃ 日本", "plain\n\ttext, dürfen ☃ 日本"},
		{"\x1b]0;title\a", `\x1b]0;title\x07`},
		{"a\rb\bc\x7f", `a\x0db\x08c\x7f`},
		{"\u009b31m", `\x9b31m`},
		{"\x9b31m", `\x9b31m`},
		{"cut \xe2\x98", `cut \xe2\x98`},
		{"\uFFFD stays", "\uFFFD stays"},
		{"\x00", `\x00`},
	} {
		if got := visible(c.text); got != c.want {
			t.Errorf("visible(%q) = %q, want %q", c.text, got, c.want)
		}
	}
}

func FuzzVisible(f *testing.F) {
	f.Add("a\x1b[31mb\u0090\xff\n\t")
	f.Fuzz(func(t *testing.T, text string) {
		got := visible(text)
		if again := visible(got); again != got {
			t.Errorf("visible(%q) = %q, which becomes %q", text, got, again)
		}
		for i := range len(got) {
			if b := got[i]; b < 0x20 && b != '\n' && b != '\t' || b == 0x7F {
				t.Errorf("visible(%q) = %q has byte %#x", text, got, b)
			}
		}
	})
}
