package chat

import (
	"errors"
	"strings"
	"time"

	"hearth/engine/chat/jinja"
)

// The probes' needles: words that no template contains.
const (
	probeText     = "qzprobetext"
	probeName     = "qzprobename"
	probeArgument = "qzprobeargument"
	probeID       = "abcdefghi" // nine letters and digits, as some templates demand
)

// probeLimits keep a hostile template from using the limits of a long conversation once for each probe.
var probeLimits = jinja.Options{MaxSteps: 50_000, MaxText: 1 << 18, MaxMemory: 4 << 20}

// probe finds out which form of messages a template takes, and how it writes what a reply says. A template that fails on
// every form, because it knows no tool calls for example, gets the forms that most take.
func (t *Template) probe(source string) error {
	parsed, err := jinja.Parse(source, probeLimits)
	if err != nil {
		return err
	}
	limited := &Template{parsed: parsed, bos: t.bos, eos: t.eos}
	t.form.parts = limited.probeParts()
	t.form.argumentText, t.form.emptyContent = limited.probeToolCall(t.form.parts)
	t.thoughts = thoughtsOf(source)
	limited.form, limited.thoughts = t.form, t.thoughts
	limited.probeCalls()
	t.calls, t.showsTools, t.example = limited.calls, limited.showsTools, limited.example
	t.switches, t.levels = limited.probeEffort()
	return nil
}

// probeParts renders a user message as text and as a list of parts.
func (t *Template) probeParts() partsForm {
	asText := t.tryMessages(jinja.NewList(message("user", jinja.Untrusted(probeText))))
	asParts := t.tryMessages(jinja.NewList(message("user", jinja.NewList(textPart(jinja.Untrusted(probeText))))))
	// A template that prints the list itself shows the names of its keys.
	takesParts := strings.Contains(asParts, probeText) && !strings.Contains(asParts, "'text'") && !strings.Contains(asParts, `"text"`)
	switch {
	case !takesParts:
		return partsAsText
	case strings.Contains(asText, probeText):
		return partsOrText
	}
	return partsRequired
}

// probeToolCall renders a tool call with arguments as an object and as text, each without content, with empty content
// and with some. Objects win where both work: text would be quoted twice by templates that write JSON themselves.
func (t *Template) probeToolCall(parts partsForm) (argumentText bool, empty emptyForm) {
	contents := []jinja.Value{jinja.None{}, jinja.Untrusted(""), form{parts: parts}.content(jinja.Untrusted(probeText), true)}
	object := jinja.NewDict()
	object.Set(probeArgument, jinja.Untrusted("x"))
	text, _ := jinja.FormatJSON(object) // an object of one text
	for _, arguments := range []jinja.Value{object, jinja.Untrusted(text)} {
		var works [3]bool
		for i, content := range contents {
			works[i] = t.showsCall(content, arguments)
		}
		if works != [3]bool{} {
			_, argumentText = arguments.(jinja.Text)
			switch {
			case works[0] && !works[1]:
				empty = emptyNone
			case !works[0]:
				empty = emptyText
			}
			return argumentText, empty
		}
	}
	return false, t.probeEmpty()
}

// probeEmpty renders an assistant message without content, for templates that know no tool calls.
func (t *Template) probeEmpty() emptyForm {
	user := message("user", jinja.Untrusted(probeText))
	out := t.tryMessages(jinja.NewList(user, message("assistant", jinja.None{}), user))
	if out == "" || strings.Contains(out, "None") {
		return emptyText
	}
	return emptyAsIs
}

// showsCall reports whether a tool call appears in the rendering whole, and nothing prints as Python's None.
func (t *Template) showsCall(content, arguments jinja.Value) bool {
	tool := message("tool", jinja.Untrusted(probeText))
	tool.Set("tool_call_id", jinja.Untrusted(probeID))
	tool.Set("name", jinja.Untrusted(probeName))
	out := t.tryMessages(jinja.NewList(message("user", jinja.Untrusted(probeText)), callingMessage(content, arguments), tool))
	return strings.Contains(out, probeName) && strings.Contains(out, probeArgument) &&
		!strings.Contains(out, "None") && !strings.Contains(out, `\"`+probeArgument)
}

// callingMessage is an assistant's message with one call.
func callingMessage(content, arguments jinja.Value) *jinja.Dict {
	function := jinja.NewDict()
	function.Set("name", jinja.Untrusted(probeName))
	function.Set("arguments", arguments)
	call := jinja.NewDict()
	call.Set("id", jinja.Untrusted(probeID))
	call.Set("type", jinja.Trusted("function"))
	call.Set("function", function)
	m := message("assistant", content)
	m.Set("tool_calls", jinja.NewList(call))
	return m
}

func message(role string, content jinja.Value) *jinja.Dict {
	m := jinja.NewDict()
	m.Set("role", jinja.Trusted(role))
	m.Set("content", content)
	return m
}

// tryMessages renders messages, with a system message before them if the template insists on one; it returns nothing
// when the template refuses both.
func (t *Template) tryMessages(messages *jinja.List) string {
	return t.tryPrompt(messages, &Prompt{Now: time.Unix(0, 0).UTC()})
}

func (t *Template) tryPrompt(messages *jinja.List, p *Prompt) string {
	out, err := t.render(messages, p)
	if err == nil || errors.Is(err, jinja.ErrLimit) {
		return out
	}
	withSystem := jinja.NewList(message("system", jinja.Untrusted("x")))
	for i := range messages.Len() {
		withSystem.Append(messages.At(i))
	}
	out, _ = t.render(withSystem, p) // nothing when it fails, too
	return out
}
