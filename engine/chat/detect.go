package chat

import (
	"slices"
	"strings"
	"time"

	"hearth/engine/chat/jinja"
)

// Reasons reports whether the model may think before it answers, so that its replies have reasoning.
func (t *Template) Reasons() bool { return t.thoughts != nil }

// CallsTools reports whether prompts show the tools of a request, and replies may call them.
func (t *Template) CallsTools() bool { return t.calls != nil && t.showsTools }

// thoughtsOf finds the tags around reasoning in a template, which cuts reasoning out of earlier replies by them, or
// writes them.
func thoughtsOf(source string) *thoughts {
	for _, t := range allThoughts {
		if strings.Contains(source, t.close) {
			return t
		}
	}
	return nil
}

// probeCalls finds the dialect that reads back a call which the template writes, and whether prompts show tools.
func (t *Template) probeCalls() {
	p := &Prompt{Tools: probeTools(), Now: time.Unix(0, 0).UTC(), AddGenerationPrompt: true}
	messages := t.form.messages(jinja.NewList(message("user", jinja.Untrusted(probeText))))
	prompt := t.tryPrompt(messages, p)
	if prompt == "" {
		p.Tools = nil // it fails on them
	}
	t.showsTools = strings.Contains(prompt, probeName)

	arguments := jinja.NewDict()
	arguments.Set(probeArgument, jinja.Untrusted(probeText))
	called := jinja.NewList(message("user", jinja.Untrusted(probeText+"?")), callingMessage(jinja.Untrusted(""), arguments))
	_, afterUser, _ := strings.Cut(t.tryPrompt(t.form.messages(called), &Prompt{Tools: p.Tools, Now: p.Now}), probeText+"?")
	for _, d := range dialects {
		if d.readsProbe(afterUser) || d.readsProbe(withoutHeader(prompt, afterUser)) {
			t.calls = d
			break
		}
	}
	if t.showsTools || t.calls == nil {
		return
	}
	t.example, p.Tools = t.calls.exampleOf(afterUser), nil
	if described, err := t.describe(messages, probeTools()); err == nil {
		t.showsTools = strings.Contains(t.tryPrompt(described, p), probeName)
	}
}

// withoutHeader cuts from the text after a user's message what a prompt ends with: the header of the reply.
func withoutHeader(prompt, afterUser string) string {
	_, header, _ := strings.Cut(prompt, probeText)
	n := 0
	for n < len(header) && n < len(afterUser) && header[n] == afterUser[n] {
		n++
	}
	return afterUser[n:]
}

func probeTools() jinja.Value {
	tools, err := ParseTools([]byte(`[{"type": "function", "function": {"name": "` + probeName + `", "description": "x", "parameters":
		{"type": "object", "properties": {"` + probeArgument + `": {"type": "string", "description": "x"}}, "required": ["` + probeArgument + `"]}}}]`))
	if err != nil {
		panic("chat: " + err.Error())
	}
	return tools
}

// readsProbe reports whether a dialect finds the probe's call in a text, and no other.
func (d *dialect) readsProbe(text string) bool {
	p := newParser(nil, d, ReplyOptions{Tools: probeTools(), NewID: func(prefix string) string { return prefix }})
	defer p.Close()
	var seen strings.Builder
	for _, piece := range append(slices.Clone(p.Push(text)), p.Finish(true)...) {
		switch piece.Kind {
		case CallBegin, CallArguments:
			seen.WriteString(piece.Text)
		case CallEnd:
			seen.WriteByte('.')
		}
	}
	return strings.ReplaceAll(seen.String(), " ", "") == probeName+`{"`+probeArgument+`":"`+probeText+`"}.`
}
