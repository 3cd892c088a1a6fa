package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTokenize runs both commands on the embedded model, whose ids are those of its published greedy continuations.
func TestTokenize(t *testing.T) {
	const prompt, ids = "There was a big red ball", "291,276,286,261,370,352,266,268,388"
	for _, c := range []struct {
		stdin string
		args  []string
		want  string
	}{
		{"", []string{"tokenize", "--text", prompt}, ids + "\n"},
		{prompt, []string{"tokenize"}, ids + "\n"},
		{"", []string{"tokenize", "--text", prompt, "--add-special"}, "1," + ids + "\n"},
		{"", []string{"tokenize", "--text", "<s>" + prompt, "--parse-special"}, "1," + ids + "\n"},
		{"", []string{"tokenize", "--text", ""}, "\n"},
		{"", []string{"tokenize", "--text", "", "--json"}, `{"ids":[],"tokens":[]}` + "\n"},
		{"<é", []string{"tokenize", "--json"}, `{"ids":[410,504,485],"tokens":[{"id":410,"text":" "},{"id":504,"text":"<"},{"id":485,"text":"é"}]}` + "\n"},
		{"a\xff", []string{"tokenize", "--json"}, `{"id":258,"text":"` + "\uFFFD" + `","bytes":[255]}]}` + "\n"},
		{`{"text": "` + prompt + `"}` + "\n\n" + `{"bytes": [84, 104, 101]}`, []string{"tokenize", "--jsonl"},
			`{"ids":[` + ids + "]}\n" + `{"ids":[291]}` + "\n"},
		{"", []string{"tokenize", prompt}, ids + "\n"},
		{"", []string{"detokenize", "--ids", ids}, prompt + "\n"},
		{ids + "\n", []string{"detokenize"}, prompt + "\n"},
		{"", []string{"detokenize", "--ids", "1, 291"}, "<s>The\n"},
		{"", []string{"detokenize", "--ids", ""}, "\n"},
		{"", []string{"detokenize", "--ids", ids, "--json"}, `{"text":"` + prompt + `"}` + "\n"},
		{`{"ids": [291, 258]}` + "\n" + `{"ids": []}` + "\n", []string{"detokenize", "--jsonl"},
			`{"text":"The` + "\uFFFD" + `","bytes":[84,104,101,255]}` + "\n" + `{"text":""}` + "\n"},
	} {
		got, err := executeWith(t, c.stdin, c.args...)
		if err != nil || !strings.Contains(got, c.want) || strings.HasSuffix(c.want, "\n") && !strings.HasSuffix(got, c.want) {
			t.Errorf("%q with input %q prints %q, %v, want %q", c.args, c.stdin, got, err, c.want)
		}
	}
}

func TestTokenizeErrors(t *testing.T) {
	folder := t.TempDir()
	file := filepath.Join(folder, "tokenizer.json")
	if err := os.WriteFile(file, []byte(`{"model": {"type": "WordPiece"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		stdin string
		args  []string
		want  string
	}{
		{"", []string{"tokenize", "--model", filepath.Join(folder, "absent.gguf"), "--text", "x"}, "absent.gguf"},
		{"", []string{"tokenize", "--model", filepath.Join(folder, "absent.json"), "--text", "x"}, "absent.json"},
		{"", []string{"tokenize", "--model", file, "--text", "x"}, `model.type is "WordPiece"`},
		{"", []string{"tokenize", "--model", folder, "--text", "x"}, `model.type is "WordPiece"`},
		{"", []string{"tokenize", "--text", "x", "--jsonl"}, "text jsonl"},
		{`{"text": "x"}` + "\n{}\n", []string{"tokenize", "--jsonl"}, `line 2: want an object with either "text" or "bytes"`},
		{`{"text": 1}`, []string{"tokenize", "--jsonl"}, "line 1"},
		{`{"text": "x"} {}`, []string{"tokenize", "--jsonl"}, "line 1"},
		{`{"bytes": [256]}`, []string{"tokenize", "--jsonl"}, "line 1: \"bytes\": 256 is not a byte"},
		{"{\"text\": \"\xff\"}", []string{"tokenize", "--jsonl"}, "line 1: is not UTF-8"},
		{"1,x", []string{"detokenize"}, `standard input: "x" is not a number`},
		{"", []string{"tokenize", "--text", "x", "y"}, "given twice"},
		{"", []string{"detokenize", "--ids", "1,x"}, `--ids: "x" is not a number`},
		{"", []string{"detokenize", "--ids", "1,512"}, "--ids: token 512 at position 1 is not in the vocabulary of 512"},
		{"", []string{"detokenize", "--ids", "-1"}, "token -1 at position 0"},
		{"{}", []string{"detokenize", "--jsonl"}, `line 1: want an object with "ids"`},
		{`{"ids": [4294967296]}`, []string{"detokenize", "--jsonl"}, "line 1"},
	} {
		if got, err := executeWith(t, c.stdin, c.args...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q with input %q prints %q, %v, want an error with %q", c.args, c.stdin, got, err, c.want)
		}
	}
}
