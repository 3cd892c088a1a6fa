package chat

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hearth/cmd/sharedtest"
	"hearth/engine/chat/jinja"
)

// vector is one conversation with what the reference rendered, or why it refused.
type vector struct {
	ID            string            `json:"id"`
	BOS           string            `json:"bos_token"`
	EOS           string            `json:"eos_token"`
	Now           string            `json:"now"`
	Messages      []json.RawMessage `json:"messages"`
	Tools         json.RawMessage   `json:"tools"`
	AddGeneration bool              `json:"add_generation_prompt"`
	Extra         json.RawMessage   `json:"extra"`
	ToolArguments string            `json:"tool_arguments"`
	Rendered      *string           `json:"rendered"`
	Error         string            `json:"error"`
	ErrorKind     string            `json:"error_kind"`
}

// eachTemplate calls f with every reference template and its vectors.
func eachTemplate(t *testing.T, f func(t *testing.T, source string, vectors []vector)) {
	folder := sharedtest.Path(t, "testdata", "chat")
	files, err := filepath.Glob(filepath.Join(folder, "vectors", "*.jsonl"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no vectors in %s: %v", folder, err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".jsonl")
		source, err := os.ReadFile(filepath.Join(folder, "templates", name+".jinja"))
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var vectors []vector
		for line := range bytes.Lines(data) {
			var v vector
			if err := json.Unmarshal(line, &v); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			vectors = append(vectors, v)
		}
		t.Run(name, func(t *testing.T) { f(t, string(source), vectors) })
	}
}

func (v *vector) prompt(t *testing.T) *Prompt {
	t.Helper()
	p, err := ParseVerbatim(v.Messages, v.Extra)
	if err != nil {
		t.Fatal(err)
	}
	if p.Tools, err = ParseTools(v.Tools); err != nil {
		t.Fatal(err)
	}
	if p.Now, err = time.Parse("2006-01-02T15:04:05", v.Now); err != nil {
		t.Fatal(err)
	}
	p.AddGenerationPrompt = v.AddGeneration
	return p
}

// compiled compiles a template for the tokens of its vectors, once while they stay the same.
type compiled struct {
	source   string
	bos, eos string
	template *Template
}

func (c *compiled) of(t *testing.T, v *vector) *Template {
	t.Helper()
	if c.template == nil || c.bos != v.BOS || c.eos != v.EOS {
		template, err := New(c.source, v.BOS, v.EOS)
		if err != nil {
			t.Fatal(err)
		}
		*c = compiled{c.source, v.BOS, v.EOS, template}
	}
	return c.template
}

// TestVectors compares every rendering with the reference's, byte for byte. Where the reference engine itself failed
// (kinds evaluation and sandbox), only a result is wanted.
func TestVectors(t *testing.T) {
	eachTemplate(t, func(t *testing.T, source string, vectors []vector) {
		c := &compiled{source: source}
		for _, v := range vectors {
			got, err := c.of(t, &v).Render(v.prompt(t))
			switch {
			case v.ErrorKind == "raise_exception":
				var raised *jinja.Raised
				if !errors.As(err, &raised) || raised.Message != v.Error {
					t.Errorf("%s: got %q, %v, want the refusal %q", v.ID, got, err, v.Error)
				}
			case v.ErrorKind != "":
			case err != nil:
				t.Errorf("%s: %v, want %q", v.ID, err, *v.Rendered)
			case got != *v.Rendered:
				t.Errorf("%s: got\n%q, want\n%q", v.ID, got, *v.Rendered)
			}
		}
	})
}
