package chat

import (
	"fmt"
	"strings"

	"hearth/engine/chat/jinja"
)

// Template renders conversations for one model. It is immutable and safe for concurrent use.
type Template struct {
	parsed   *jinja.Template // nil in the fallback
	source   string
	bos, eos string
	form     form

	thoughts   *thoughts // nil: the model does not think, or not where it shows
	calls      *dialect  // nil: the template writes no tool calls
	showsTools bool      // prompts tell the model of the tools of a request
	example    string    // a call, where the template writes calls and does not show tools (describe)
	switches   []thinkingSwitch
	levels     bool // it knows more than a switch
}

// New compiles a model's template. The texts of the model's begin- and end-of-sequence tokens are variables of it. An
// error says where the template is wrong.
func New(source, bos, eos string) (*Template, error) {
	parsed, err := jinja.Parse(source, jinja.Options{})
	if err != nil {
		return nil, fmt.Errorf("chat: template: %w", err)
	}
	t := &Template{parsed: parsed, source: source, bos: bos, eos: eos}
	if err := t.probe(source); err != nil {
		return nil, fmt.Errorf("chat: template: %w", err)
	}
	t.form.developer = strings.Contains(source, "developer")
	return t, nil
}

// Fallback is for models without a template: the contents of system and user messages, joined by newlines, are the
// prompt, so that a model that only continues text can be talked to.
func Fallback() *Template { return &Template{} }

// IsFallback reports whether the model has no template of its own.
func (t *Template) IsFallback() bool { return t.parsed == nil }

// Source returns the text that the template was compiled from, empty for the fallback.
func (t *Template) Source() string { return t.source }

// Render returns the text of a prompt, with what came from the request passed through its guard. It does not modify p.
// Errors are an *EffortError and those of jinja.Template.Render; a *jinja.Raised is the template's own refusal and its
// message is meant for the user.
func (t *Template) Render(p *Prompt) (string, error) {
	if p.verbatim && !t.IsFallback() {
		return t.render(p.Messages, p)
	}
	vars, err := t.withEffort(p.Vars, p.Effort)
	if err != nil {
		return "", err
	}
	if t.IsFallback() {
		return fallback(p), nil
	}
	formed := *p
	formed.Vars = vars
	formed.Tools = t.form.tools(p.Tools)
	messages := t.form.messages(p.Messages)
	if t.example != "" {
		if messages, err = t.describe(messages, formed.Tools); err != nil {
			return "", err
		}
		formed.Tools = nil
	}
	return t.render(messages, &formed)
}

func (t *Template) render(messages *jinja.List, p *Prompt) (string, error) {
	vars := jinja.NewDict()
	vars.Set("messages", messages)
	vars.Set("tools", jinja.None{})
	if p.Tools != nil {
		vars.Set("tools", p.Tools)
	}
	vars.Set("add_generation_prompt", jinja.Bool(p.AddGenerationPrompt))
	vars.Set("bos_token", jinja.Trusted(t.bos))
	vars.Set("eos_token", jinja.Trusted(t.eos))
	if p.Vars != nil {
		for name, v := range p.Vars.All() {
			if text, ok := name.(jinja.Text); ok {
				vars.Set(text.String(), v)
			}
		}
	}
	return t.parsed.Render(vars, jinja.RenderOptions{Now: p.Now, Guard: p.Guard})
}

func fallback(p *Prompt) string {
	var contents []string
	for i := range p.Messages.Len() {
		m, ok := p.Messages.At(i).(*jinja.Dict)
		if !ok {
			continue
		}
		role, _ := m.Get("role")
		switch textOf(role) {
		case "system", "developer", "user":
			content, _ := m.Get("content")
			contents = append(contents, textOf(content))
		}
	}
	text := strings.Join(contents, "\n")
	if p.Guard != nil {
		text = p.Guard(text)
	}
	return text
}

// textOf is a text, or the text parts of a list, a line each; nothing of other values.
func textOf(v jinja.Value) string {
	switch v := v.(type) {
	case jinja.Text:
		return v.String()
	case *jinja.List:
		var parts []string
		for i := range v.Len() {
			part, ok := v.At(i).(*jinja.Dict)
			if !ok {
				continue
			}
			for _, name := range []string{"text", "refusal"} {
				if text, ok := part.Get(name); ok {
					parts = append(parts, textOf(text))
				}
			}
		}
		return strings.Join(parts, "\n")
	}
	return ""
}
