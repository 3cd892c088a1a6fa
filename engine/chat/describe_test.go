package chat

import (
	"strings"
	"testing"
)

// TestDescribedTools shows tools to models whose templates leave that to the system message: every template that writes
// calls comes to show tools, and those that do so themselves are left alone.
func TestDescribedTools(t *testing.T) {
	eachTemplate(t, func(t *testing.T, source string, vectors []vector) {
		template, err := New(source, vectors[0].BOS, vectors[0].EOS)
		if err != nil {
			t.Fatal(err)
		}
		if (template.calls != nil) != template.CallsTools() {
			t.Errorf("writes calls as %q, shows tools %v", template.calls.String(), template.showsTools)
		}
		if template.example == "" {
			return
		}
		for _, messages := range []string{`[{"role": "user", "content": "q"}]`, `[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "q"}]`} {
			p := prompt(t, messages, ``)
			p.Tools, p.Guard = toolsOf(t), mark
			got, err := template.Render(p)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range []string{template.example, "f_long"} {
				if !strings.Contains(got, want) {
					t.Errorf("%q does not have %q", got, want)
				}
			}
			if strings.Contains(trustedPart(got), "f_long") {
				t.Errorf("a tool is trusted in %q", got)
			}
			if strings.Contains(messages, "Be brief.") != strings.Contains(got, "Be brief.") {
				t.Errorf("%q has not the system message", got)
			}
		}
	})
}

func TestDescribe(t *testing.T) {
	template := compile(t, `{% for m in messages %}<{{ m.role }}>{{ m.content or '' }}{% for c in m.tool_calls or [] %}<tool_call>{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}</tool_call>{% endfor %}{% endfor %}`)
	p := prompt(t, `[{"role": "user", "content": "q"}]`, ``)
	var err error
	if p.Tools, err = ParseTools([]byte(`[{"type": "function", "function": {"name": "f"}}]`)); err != nil {
		t.Fatal(err)
	}
	const want = "<system>" + describeTools + `{"name": "f", "parameters": {"type": "object", "properties": {}}}` + "\n" + describeCall +
		`<tool_call>{"name": "NAME", "arguments": {"PARAMETER": "VALUE"}}</tool_call><user>q`
	if got, err := template.Render(p); err != nil || got != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}
