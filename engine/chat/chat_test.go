package chat

import (
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"hearth/engine/chat/jinja"
)

// chatML is a template in the style of most: it concatenates contents and writes arguments as JSON.
const chatML = `{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}
{{ '' + m.content }}{% for c in m.tool_calls %}
<tool_call>{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}</tool_call>{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}`

func raw(t testing.TB, messages string) []json.RawMessage {
	t.Helper()
	var list []json.RawMessage
	if err := json.Unmarshal([]byte(messages), &list); err != nil {
		t.Fatal(err)
	}
	return list
}

func prompt(t testing.TB, messages, vars string) *Prompt {
	t.Helper()
	p, err := ParsePrompt(raw(t, messages), json.RawMessage(vars))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func compile(t testing.TB, source string) *Template {
	t.Helper()
	template, err := New(source, "<s>", "</s>")
	if err != nil {
		t.Fatal(err)
	}
	return template
}

// TestMessageShapes checks which messages are refused, and that the error names the field.
func TestMessageShapes(t *testing.T) {
	for _, c := range []struct{ messages, vars, want string }{
		{`[{"role": "user", "content": "hi"}]`, ``, ""},
		{`[{"role": "user", "content": "hi"}]`, `null`, ""},
		{`[{"role": "user", "content": "hi", "name": "bob", "future": {"x": [1]}}]`, `{"enable_thinking": false}`, ""},
		{`[{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]`, ``, ""},
		{`[{"role": "assistant", "content": null, "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}]`, ``, ""},
		{`[{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]}, {"role": "tool", "tool_call_id": "1", "content": "x"}]`, ``, ""},
		{`[{"role": "assistant", "content": "", "reasoning_content": null}]`, ``, ""},
		{`[{"role": "assistant", "refusal": "no"}]`, ``, ""},
		{`[{"role": "developer", "content": "x"}]`, ``, ""},
		{`[]`, ``, "messages: at least one"},
		{`[1]`, ``, "messages[0]: must be an object"},
		{`[{"content": "x"}]`, ``, "messages[0].role: is missing"},
		{`[{"role": 1, "content": "x"}]`, ``, "messages[0].role: must be a string"},
		{`[{"role": "user", "content": "x"}, {"role": "wizard", "content": "x"}]`, ``, `messages[1].role: is "wizard"`},
		{`[{"role": "user"}]`, ``, "messages[0].content: is missing"},
		{`[{"role": "user", "content": null}]`, ``, "messages[0].content: is missing"},
		{`[{"role": "assistant", "content": null}]`, ``, "messages[0].content: is missing, and there are no tool_calls"},
		{`[{"role": "user", "content": 5}]`, ``, "messages[0].content: must be a string"},
		{`[{"role": "user", "content": {"a": 1}}]`, ``, "messages[0].content: must be a string"},
		{`[{"role": "user", "content": ["x"]}]`, ``, "messages[0].content[0]: must be an object"},
		{`[{"role": "user", "content": [{"text": "x"}]}]`, ``, "messages[0].content[0].type: is missing"},
		{`[{"role": "user", "content": [{"type": "text"}]}]`, ``, "messages[0].content[0].text: is missing"},
		{`[{"role": "user", "content": [{"type": "text", "text": 1}]}]`, ``, "messages[0].content[0].text: must be a string"},
		{`[{"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": "u"}}]}]`, ``, `messages[0].content[1].type: "image_url" is not supported`},
		{`[{"role": "user", "content": "x", "name": 1}]`, ``, "messages[0].name: must be a string"},
		{`[{"role": "assistant", "content": "x", "audio": {"id": "a"}}]`, ``, "messages[0].audio: is not supported"},
		{`[{"role": "assistant", "content": "x", "reasoning_content": []}]`, ``, "messages[0].reasoning_content: must be a string"},
		{`[{"role": "tool", "content": "x", "tool_call_id": 1}]`, ``, "messages[0].tool_call_id: must be a string"},
		{`[{"role": "assistant", "tool_calls": {}}]`, ``, "messages[0].tool_calls: must be an array"},
		{`[{"role": "assistant", "tool_calls": [1]}]`, ``, "messages[0].tool_calls[0]: must be an object"},
		{`[{"role": "assistant", "tool_calls": [{"type": "custom", "function": {"name": "f"}}]}]`, ``, `messages[0].tool_calls[0].type: "custom" is not supported`},
		{`[{"role": "assistant", "tool_calls": [{}]}]`, ``, "messages[0].tool_calls[0].function: is missing"},
		{`[{"role": "assistant", "tool_calls": [{"function": {"arguments": "{}"}}]}]`, ``, "messages[0].tool_calls[0].function.name: is missing"},
		{`[{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": 5}}]}]`, ``, "messages[0].tool_calls[0].function.arguments: must be"},
		{`[{"role": "user", "content": "x"}]`, `[]`, "chat_template_kwargs: must be an object"},
		{`[{"role": "user", "content": "x"}]`, `{`, "chat_template_kwargs: "},
		{`[{"role": "user", "content": "x"}]`, `{"messages": []}`, "chat_template_kwargs.messages: is set by the server"},
	} {
		_, err := ParsePrompt(raw(t, c.messages), json.RawMessage(c.vars))
		if (err == nil) != (c.want == "") || err != nil && !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s %s: got %v, want %q", c.messages, c.vars, err, c.want)
		}
	}
}

func TestParseTools(t *testing.T) {
	for _, c := range []struct{ tools, want string }{
		{``, ""}, {`null`, ""}, {`[]`, ""},
		{`[{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]`, ""},
		{`{}`, "tools: must be an array"},
		{`[1]`, "tools[0]: must be an object"},
		{`[{"type": "web_search"}]`, `tools[0].type: "web_search" is not supported`},
		{`[{"type": "function"}]`, "tools[0].function: is missing"},
		{`[{"function": {"name": "f"}}, {"function": {"name": ""}}]`, "tools[1].function.name: is missing"},
		{`[`, "tools: "},
	} {
		_, err := ParseTools(json.RawMessage(c.tools))
		if (err == nil) != (c.want == "") || err != nil && !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.tools, err, c.want)
		}
	}
}

// TestForms gives templates of different needs the same conversation in the forms that clients send.
func TestForms(t *testing.T) {
	call := func(content, arguments string) string {
		return `[{"role": "user", "content": "q"}, {"role": "assistant", ` + content + `"tool_calls": [{"id": "call00001", "type": "function", "function": {"name": "f", "arguments": ` + arguments + `}}]}, {"role": "tool", "tool_call_id": "call00001", "content": "r"}]`
	}
	const object, text = `{"b": 1.0, "a": "x"}`, `"{\"b\": 1.0, \"a\": \"x\"}"`
	wantsText := strings.Replace(chatML, "c.function.arguments | tojson", "'' + c.function.arguments", 1)
	wantsItems := strings.Replace(chatML, "{{ c.function.arguments | tojson }}", "{% for k, v in c.function.arguments.items() %}{{ k }}={{ v }};{% endfor %}", 1)
	wantsNone := `{% for m in messages %}{{ m.role }}:{% if m.content is none %}{% for c in m.tool_calls %}{{ c.function.name ~ (c.function.arguments|tojson) }}{% endfor %}{% else %}{{ m.content }}{% endif %};{% endfor %}`
	wantsParts := `{% for m in messages %}{{ m.role }}:{% for p in m.content %}{{ '[' + p.text + ']' }}{% endfor %};{% endfor %}`
	takesBoth := `{% for m in messages %}{{ m.role }}:{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}{{ '[' + p.text + ']' }}{% endfor %}{% endif %};{% endfor %}`
	knowsDeveloper := `{% for m in messages %}{% if m.role == 'developer' %}D{% endif %}{{ m.role ~ m.content }};{% endfor %}`
	for _, c := range []struct{ name, source, messages, want string }{
		{"object for tojson", chatML, call(`"content": "", `, object), `"arguments": {"b": 1.0, "a": "x"}}`},
		{"text for tojson", chatML, call(`"content": null, `, text), `"arguments": {"b": 1.0, "a": "x"}}`},
		{"no arguments for tojson", chatML, call(``, `""`), `"arguments": {}}`},
		{"text that is no JSON", chatML, call(``, `"oops"`), `"arguments": "oops"}`},
		{"object for text", wantsText, call(``, object), `"arguments": {"b": 1.0, "a": "x"}}`},
		{"text for text", wantsText, call(``, text), `"arguments": {"b": 1.0, "a": "x"}}`},
		{"null for text", wantsText, call(``, `null`), `"arguments": {}}`},
		{"text for items", wantsItems, call(``, text), `"arguments": b=1.0;a=x;}`},
		{"object for items", wantsItems, call(``, object), `"arguments": b=1.0;a=x;}`},
		{"empty content for none", wantsNone, call(`"content": "", `, object), `assistant:f{"b": 1.0, "a": "x"};`},
		{"no content for none", wantsNone, call(``, object), `assistant:f{"b": 1.0, "a": "x"};`},
		{"parts for text", chatML, `[{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]`, "user\na\nb<|im_end|>"},
		{"parts for parts", wantsParts, `[{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]`, "user:[a][b];"},
		{"text for parts", wantsParts, `[{"role": "user", "content": "a"}]`, "user:[a];"},
		{"parts for both", takesBoth, `[{"role": "user", "content": [{"type": "text", "text": "a"}]}]`, "user:[a];"},
		{"text for both", takesBoth, `[{"role": "user", "content": "a"}]`, "user:a;"},
		{"developer unknown", chatML, `[{"role": "developer", "content": "a"}]`, "<|im_start|>system\na"},
		{"developer known", knowsDeveloper, `[{"role": "developer", "content": "a"}]`, "Ddevelopera;"},
		{"reasoning by its short name", `{% for m in messages %}{{ m.content }}{{ m.reasoning_content }}{% endfor %}`, `[{"role": "assistant", "content": "a", "reasoning": "b"}]`, "ab"},
		{"refusal", chatML, `[{"role": "assistant", "content": null, "refusal": "no"}]`, "assistant\nno<|im_end|>"},
		{"variables", `{{ messages[0].content }}{{ enable_thinking }}{{ tools }}{{ add_generation_prompt }}{{ bos_token }}{{ eos_token }}`, `[{"role": "user", "content": "a"}]`, "aFalseNoneFalse<s></s>"},
	} {
		got, err := compile(t, c.source).Render(prompt(t, c.messages, `{"enable_thinking": false}`))
		if err != nil || !strings.Contains(got, c.want) {
			t.Errorf("%s: got %q, %v, want it to contain %q", c.name, got, err, c.want)
		}
	}
}

// TestDetectedArguments compares what is found out about the reference templates with what their vectors use.
func TestDetectedArguments(t *testing.T) {
	eachTemplate(t, func(t *testing.T, source string, vectors []vector) {
		template, err := New(source, vectors[0].BOS, vectors[0].EOS)
		if err != nil {
			t.Fatal(err)
		}
		if want := vectors[0].ToolArguments == "string"; template.form.argumentText != want {
			t.Errorf("argumentText is %v, want %v", template.form.argumentText, want)
		}
	})
}

// TestVectorsByForm renders the vectors as a server does, with every tool call's arguments both as objects and as text.
// Where the reference renders text contents, the result is the same. Left out are templates that drop the tool calls of
// messages whose content is empty and not null: a server renders them.
func TestVectorsByForm(t *testing.T) {
	if testing.Short() {
		t.Skip("renders every vector twice")
	}
	eachTemplate(t, func(t *testing.T, source string, vectors []vector) {
		template, err := New(source, vectors[0].BOS, vectors[0].EOS)
		if err != nil {
			t.Fatal(err)
		}
		if template.form.emptyContent == emptyNone {
			t.Skip("wants null")
		}
		for _, v := range vectors {
			if v.Rendered == nil || v.ID == "content-parts-1" || v.ID == "tool-call-4" || v.ID == "roles-4" {
				continue
			}
			for _, asText := range []bool{false, true} {
				p, err := ParsePrompt(rewriteArguments(t, v.Messages, asText), v.Extra)
				if err != nil {
					t.Fatal(err)
				}
				from := v.prompt(t)
				p.Now, p.AddGenerationPrompt = from.Now, from.AddGenerationPrompt
				if template.example == "" { // otherwise the reference leaves tools out, and describe does not
					p.Tools = from.Tools
				}
				if got, err := template.Render(p); err != nil || got != *v.Rendered {
					t.Errorf("%s, arguments as text %v: got\n%q, %v, want\n%q", v.ID, asText, got, err, *v.Rendered)
				}
			}
		}
	})
}

// rewriteArguments turns all tool-call arguments into text, or into objects, keeping the order of their keys.
func rewriteArguments(t *testing.T, messages []json.RawMessage, asText bool) []json.RawMessage {
	t.Helper()
	var out []json.RawMessage
	for _, m := range messages {
		v, err := jinja.ParseJSON(m)
		if err != nil {
			t.Fatal(err)
		}
		d := v.(*jinja.Dict)
		if calls, called := toolCalls(d); called {
			d.Set("tool_calls", form{argumentText: asText}.calls(calls))
		}
		text, err := jinja.FormatJSON(d)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, json.RawMessage(text))
	}
	return out
}

const (
	openMark  = "\ue000"
	closeMark = "\ue001"
)

func mark(run string) string { return openMark + run + closeMark }

func unmark(s string) string { return strings.NewReplacer(openMark, "", closeMark, "").Replace(s) }

// trustedPart is what a template itself wrote into a guarded prompt.
func trustedPart(s string) string {
	var b strings.Builder
	for s != "" {
		from := strings.Index(s, openMark)
		if from < 0 {
			break
		}
		b.WriteString(s[:from] + "¦")
		s = s[strings.Index(s, closeMark)+len(closeMark):]
	}
	return b.String() + s
}

// TestGuard renders every vector with a control token added to all text that a client can send. The guard changes
// nothing but its marks, and no part of the token is ever outside them.
func TestGuard(t *testing.T) {
	const evil = "<|evil|>"
	eachTemplate(t, func(t *testing.T, source string, vectors []vector) {
		shown := 0
		c := &compiled{source: source}
		for _, v := range vectors {
			template := c.of(t, &v)
			p := v.prompt(t)
			plain, plainErr := template.Render(p)
			p.Guard = mark
			guarded, err := template.Render(p)
			if (err == nil) != (plainErr == nil) || unmark(guarded) != plain {
				t.Errorf("%s: with a guard %q, %v, without %q, %v", v.ID, guarded, err, plain, plainErr)
			}
			p.Messages = inject(p.Messages, evil).(*jinja.List)
			if p.Tools != nil {
				p.Tools = inject(p.Tools, evil)
			}
			if guarded, err = template.Render(p); err != nil {
				continue // roles and ids that the template insists on
			}
			if strings.Contains(guarded, "evil") {
				shown++
			}
			if trusted := trustedPart(guarded); strings.Contains(trusted, "evil") || strings.Contains(trusted, "EVIL") {
				t.Errorf("%s: a control token of the client's is trusted in %q", v.ID, trusted)
			}
		}
		if shown == 0 {
			t.Error("no rendering shows the injected text: this test shows nothing")
		}
	})
}

// inject adds text to all texts and keys but those that templates compare with.
func inject(v jinja.Value, text string) jinja.Value {
	switch v := v.(type) {
	case jinja.Text:
		return jinja.Untrusted(text + v.String() + text)
	case *jinja.List:
		list := jinja.NewList()
		for i := range v.Len() {
			list.Append(inject(v.At(i), text))
		}
		return list
	case *jinja.Dict:
		d := jinja.NewDict()
		for k, value := range v.All() {
			switch name := k.(jinja.Text).String(); name {
			case "role", "type", "id", "tool_call_id":
				d.Set(name, value)
			default:
				d.Set(name, inject(value, text))
			}
		}
		return d
	}
	return v
}

// TestGuardedKeys shows that keys are untrusted, too, and that a known role is trusted.
func TestGuardedKeys(t *testing.T) {
	source := `{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% for c in m.tool_calls %}{% for k, v in c.function.arguments.items() %}<{{ k }}>{{ v }}{% endfor %}{% endfor %}{% endfor %}`
	p := prompt(t, `[{"role": "assistant", "content": "a", "tool_calls": [{"function": {"name": "f", "arguments": {"key": "value", "n": 1}}}]}]`, ``)
	p.Guard = mark
	got, err := compile(t, source).Render(p)
	want := `<|assistant|>` + mark("a") + `<` + mark("key") + `>` + mark("value") + `<` + mark("n") + `>1`
	if err != nil || got != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

func TestFallback(t *testing.T) {
	f := Fallback()
	p := prompt(t, `[{"role": "system", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": [{"type": "text", "text": "c"}]}]`, ``)
	if got, err := f.Render(p); err != nil || got != "a\nc" || !f.IsFallback() {
		t.Errorf("got %q, %v, want %q", got, err, "a\nc")
	}
	p.Guard = mark
	if got, _ := f.Render(p); got != mark("a\nc") {
		t.Errorf("got %q, want the whole prompt marked", got)
	}
	if compile(t, chatML).IsFallback() {
		t.Error("a template counts as the fallback")
	}
}

func TestRefusals(t *testing.T) {
	if _, err := New("{% if %}", "", ""); err == nil || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("got %v, want an error with the template's line", err)
	}
	_, err := compile(t, `{% if messages|length > 2 %}{{ raise_exception('too many') }}{% endif %}`).Render(prompt(t,
		`[{"role": "user", "content": "a"}, {"role": "user", "content": "a"}, {"role": "user", "content": "a"}]`, ``))
	var raised *jinja.Raised
	if !errors.As(err, &raised) || err.Error() != "too many" {
		t.Errorf("got %v, want the template's own message", err)
	}
}

// TestHostileTemplate compiles a template that never ends: finding out its form must.
func TestHostileTemplate(t *testing.T) {
	template := compile(t, `{% for i in range(10**9) %}{{ messages }}{% endfor %}`)
	if want := (form{emptyContent: emptyText}); template.form != want {
		t.Errorf("got the form %+v, want %+v", template.form, want)
	}
}

// TestConcurrent renders one template and one prompt from several goroutines.
func TestConcurrent(t *testing.T) {
	template := compile(t, chatML)
	p := prompt(t, `[{"role": "user", "content": "a"}]`, ``)
	p.Now = time.Unix(0, 0)
	want, err := template.Render(p)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				if got, err := template.Render(p); err != nil || got != want {
					t.Errorf("got %q, %v, want %q", got, err, want)
				}
			}
		})
	}
	wg.Wait()
}

// FuzzParsePrompt reads any messages; those that pass render or fail with an error.
func FuzzParsePrompt(f *testing.F) {
	for _, seed := range []string{
		`{"role": "user", "content": "hi"}`, `{"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "f", "arguments": "{\"a\": 1}"}}]}`,
		`{"role": "user", "content": [{"type": "text", "text": "x"}]}`, `{"role": "tool", "content": "", "tool_call_id": "x"}`, `[]`, `{"role": 1e400}`,
	} {
		f.Add(seed, `{"x": [1]}`)
	}
	template := compile(f, chatML)
	f.Fuzz(func(t *testing.T, message, vars string) {
		p, err := ParsePrompt([]json.RawMessage{json.RawMessage(message)}, json.RawMessage(vars))
		if err != nil {
			return
		}
		plain, err := template.Render(p)
		p.Guard = mark
		guarded, guardedErr := template.Render(p)
		if (err == nil) != (guardedErr == nil) || unmark(guarded) != unmark(plain) {
			t.Fatalf("with a guard %q, %v, without %q, %v", guarded, guardedErr, plain, err)
		}
	})
}
