package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hearth/cmd/sharedtest"
)

// executeWith is execute with text on standard input.
func executeWith(t testing.TB, stdin string, args ...string) (string, error) {
	t.Helper()
	root := newRootCommand()
	var out bytes.Buffer
	root.SetIn(strings.NewReader(stdin))
	root.SetOut(&out)
	root.SetArgs(args)
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

// TestTemplateVectors feeds reference conversations through the command, in one go for each template.
func TestTemplateVectors(t *testing.T) {
	for _, name := range []string{"Qwen3.5-4B", "config-DeepSeek-V3.1", "google-gemma-2-2b-it"} {
		in := string(sharedtest.ReadFile(t, "testdata", "chat", "vectors", name+".jsonl"))
		out, err := executeWith(t, in, "template", "--jsonl", "--template", sharedtest.Path(t, "testdata", "chat", "templates", name+".jinja"))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want := strings.Split(strings.TrimSpace(in), "\n")
		got := strings.Split(strings.TrimSpace(out), "\n")
		if len(got) != len(want) {
			t.Fatalf("%s: %d lines, want %d", name, len(got), len(want))
		}
		for i := range want {
			var v, g struct {
				ID, Rendered, Error string
				Kind                string `json:"error_kind"`
			}
			if err := json.Unmarshal([]byte(want[i]), &v); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal([]byte(got[i]), &g); err != nil {
				t.Fatal(err)
			}
			if (v.Kind == "" || v.Kind == "raise_exception") && (g.Rendered != v.Rendered || g.Error != v.Error) {
				t.Errorf("%s %s: got %q, error %q, want %q, error %q", name, v.ID, g.Rendered, g.Error, v.Rendered, v.Error)
			}
		}
	}
}

func TestTemplateCommand(t *testing.T) {
	folder := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	source := write("t.jinja", `{{ bos_token }}{% for m in messages %}[{{ m.role }}: {{ m.content }}]{% endfor %}{{ tools }}{{ strftime_now('%Y-%m-%d') }}{{ x }}{% if add_generation_prompt %}>{% endif %}`)
	messages := write("m.json", `[{"role": "user", "content": [{"type": "text", "text": "hi"}]}]`)
	object := write("o.json", `{"messages": [{"role": "user", "content": "é"}], "tools": [], "bos_token": "<s>", "now": "2024-07-26T12:00:00", "extra": {"x": 1}, "add_generation_prompt": false}`)
	refusing := write("r.jinja", `{{ raise_exception('not today') }}`)
	for _, c := range []struct {
		stdin string
		args  []string
		want  string // of the output, or of the error after "error: "
	}{
		{"", []string{"--template", source, "--messages", object}, "<s>[user: é][]2024-07-261"},
		{`[{"role": "user", "content": "a"}]`, []string{"--messages", "-"}, "a"},
		{`{"messages": [{"role": "user", "content": "<a>"}], "now": "2024-07-26"}` + "\n" + `{"messages": 1.5}`, []string{"--template", source, "--jsonl"}, "error: line 2: "},
		{`{"messages": [{"role": "user", "content": "<a>"}], "now": "2024-07-26"}` + "\n\n" + `{"now": "2024-07-26"}`, []string{"--template", source, "--jsonl"},
			`{"rendered":"[user: <a>]None2024-07-26"}` + "\n" + `{"error":"messages: is missing"}` + "\n"},
		{`{"messages": [], "now": "yesterday"}`, []string{"--template", source, "--jsonl"}, `{"error":"now: \"yesterday\" is no time, want one such as 2024-07-26T12:00:00"}` + "\n"},
		{`{"messages": []}`, []string{"--template", refusing, "--jsonl"}, `{"error":"not today"}` + "\n"},
		{"", []string{"--template", refusing, "--messages", messages}, "error: not today"},
		{"", []string{"--template", filepath.Join(folder, "none"), "--messages", messages}, "error: open "},
		{"", []string{"--template", write("bad.jinja", "a\n{% if %}"), "--messages", messages}, "error: chat: template: jinja: line 2"},
		{`{"messages": [{"role": "wizard", "content": "a"}], "now": "2024-07-26"}`, []string{"--template", source, "--jsonl", "--served"}, `{"error":"messages[0].role: is \"wizard\"`},
		{`{"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}], "now": "2024-07-26"}`, []string{"--template", source, "--jsonl", "--served"}, `{"rendered":"[user: hi]None2024-07-26"}` + "\n"},
		{`{"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}], "now": "2024-07-26"}`, []string{"--template", source, "--jsonl"}, `{"rendered":"[user: [{'type': 'text', 'text': 'hi'}]]None2024-07-26"}` + "\n"},
		{"", []string{"--template", source}, "error: no conversation is given"},
		{"", []string{"--template", source, "--model", "x", "--jsonl"}, "error: if any flags in the group"},
	} {
		out, err := executeWith(t, c.stdin, append([]string{"template"}, c.args...)...)
		if err != nil {
			out = "error: " + err.Error()
		}
		if !strings.HasPrefix(out, c.want) || err == nil && !strings.HasPrefix(c.want, `{"error":"messages[0]`) && out != c.want {
			t.Errorf("%v: got %q, want %q", c.args, out, c.want)
		}
	}
}

// TestTemplateModel reads the template of a folder without weights, and of a GGUF file.
func TestTemplateModel(t *testing.T) {
	folder := t.TempDir()
	for name, data := range map[string][]byte{
		"tokenizer.json":        sharedtest.ReadFile(t, "testdata", "models", "stories260K", "hf", "tokenizer.json"),
		"tokenizer_config.json": []byte(`{"bos_token": "<s>", "eos_token": "</s>", "chat_template": "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}"}`),
	} {
		if err := os.WriteFile(filepath.Join(folder, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ line, want string }{
		{`{"messages": [{"content": "a"}]}`, `{"rendered":"<s>a</s>"}` + "\n"},
		{`{"messages": [{"content": "a"}], "bos_token": "B"}`, `{"rendered":"Ba</s>"}` + "\n"},
	} {
		if out, err := executeWith(t, c.line, "template", "--model", folder, "--jsonl"); err != nil || out != c.want {
			t.Errorf("%s: got %q, %v, want %q", c.line, out, err, c.want)
		}
	}
}
