package jinja

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"
	"time"
)

// languageCase is a template with what Jinja2 makes of it; testdata/README.md says how that was found.
type languageCase struct {
	Template string          `json:"template"`
	Vars     json.RawMessage `json:"vars"` // of the first line: the variables of all cases
	Want     *string         `json:"want"`
	Error    string          `json:"error"`
}

// testTime is what strftime_now formats in the cases.
var testTime = time.Date(2024, 7, 6, 5, 4, 3, 2_000_000, time.UTC)

func languageCases(t testing.TB) (vars *Dict, cases []languageCase) {
	t.Helper()
	file, err := os.ReadFile("testdata/language.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(file) {
		var c languageCase
		if err := json.Unmarshal(line, &c); err != nil {
			t.Fatal(err)
		}
		if vars == nil {
			vars = parseVars(t, string(c.Vars))
			continue
		}
		cases = append(cases, c)
	}
	return vars, cases
}

func parseVars(t testing.TB, text string) *Dict {
	t.Helper()
	v, err := ParseJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return v.(*Dict)
}

func render(t testing.TB, source string, vars *Dict, guard func(string) string) (string, error) {
	t.Helper()
	template, err := Parse(source, Options{})
	if err != nil {
		return "", err
	}
	return template.Render(vars, RenderOptions{Now: testTime, Guard: guard})
}

// TestLanguage compares with Jinja2: the same text, or an error where that fails.
func TestLanguage(t *testing.T) {
	vars, cases := languageCases(t)
	for _, c := range cases {
		got, err := render(t, c.Template, vars, nil)
		switch {
		case c.Want == nil && err == nil:
			t.Errorf("%q: got %q, want the error %s", c.Template, got, c.Error)
		case c.Want != nil && err != nil:
			t.Errorf("%q: %v, want %q", c.Template, err, *c.Want)
		case c.Want != nil && got != *c.Want:
			t.Errorf("%q:\ngot  %q\nwant %q", c.Template, got, *c.Want)
		}
	}
}
