package jinja

import (
	"errors"
	"testing"
)

// FuzzParse feeds the parser anything: it must end in a template or an error.
func FuzzParse(f *testing.F) {
	_, cases := languageCases(f)
	for _, c := range cases {
		f.Add(c.Template)
	}
	f.Fuzz(func(t *testing.T, source string) {
		template, err := Parse(source, Options{})
		if err == nil && template == nil {
			t.Fatal("no template and no error")
		}
	})
}

// FuzzRender renders anything that parses, within small limits: no panic, an end, and the same output with and without a
// guard.
func FuzzRender(f *testing.F) {
	vars, cases := languageCases(f)
	for _, c := range cases {
		f.Add(c.Template)
	}
	for _, source := range []string{
		`{% set l = [] %}{% set _ = l.append(l) %}{{ l }}`, `{{ range(10**9)|list }}`, `{{ s|replace('', 'x' * 1000) }}`,
		`{% for x in l recursive %}{{ loop(l) }}{% endfor %}`, `{{ '%*.*f' % (5, 3, 1) }}`, `{{ u[::-2]|tojson(indent=1) }}`,
	} {
		f.Add(source)
	}
	f.Fuzz(func(t *testing.T, source string) {
		template, err := Parse(source, Options{MaxSteps: 20_000, MaxDepth: 300, MaxText: 1 << 16, MaxMemory: 1 << 20})
		if err != nil {
			return
		}
		plain, err := template.Render(vars, RenderOptions{Now: testTime})
		guarded, guardedErr := template.Render(vars, RenderOptions{Now: testTime, Guard: markRun})
		if (err == nil) != (guardedErr == nil) || err == nil && unmark(guarded) != unmark(plain) {
			t.Fatalf("%q: with a guard %q, %v, without %q, %v", source, guarded, guardedErr, plain, err)
		}
		var at *Error
		var raised *Raised
		if err != nil && !errors.As(err, &at) && !errors.As(err, &raised) {
			t.Fatalf("%q: the error %v has no line", source, err)
		}
	})
}

// FuzzJSON reads any JSON and writes it back: what was written reads as the same value.
func FuzzJSON(f *testing.F) {
	for _, text := range []string{
		`{"b": 1, "a": [1.0, -0.0, 1e20, 123456789012345678901234567890, null, true]}`, `"\u2028\ud83d\ude00\u0000\\/"`,
		`[[[[]]]]`, `{"a": 1, "a": 2}`, `1e400`, `-0`, `[1,]`, `{"a" 1}`, "\"\x7f\"",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		v, err := ParseJSON([]byte(text))
		if err != nil {
			return
		}
		written, err := FormatJSON(v)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		again, err := ParseJSON([]byte(written))
		if err != nil {
			if _, isNumber := v.(float); isNumber { // infinities have no JSON form
				return
			}
			t.Skip("holds an infinity")
		}
		m := &meter{limits: Options{}.withDefaults()}
		if same, err := m.equal(v, again); err != nil || !same {
			t.Fatalf("%q became %q", text, written)
		}
	})
}
