package chat

import (
	"strings"

	"hearth/engine/chat/jinja"
)

// Some templates write tool calls and say nothing of tools: they leave that to whoever writes the system message. For these
// the tools of a request are put there, with a call as the template writes it.
const (
	describeTools = "You may call the functions below. Each line is one of them, with the JSON schema of its parameters.\n\n"
	describeCall  = "\nTo call one, end your answer with a call in exactly this form, or with several of them, where NAME is the function's name and the object has its arguments:\n\n"
)

// exampleOf cuts the probe's call out of a text that a dialect reads, and makes an example of it.
func (d *dialect) exampleOf(text string) string {
	p := newParser(nil, d, ReplyOptions{Tools: probeTools(), NewID: func(prefix string) string { return prefix }})
	defer p.Close()
	from, to := 0, 0
	note := func(pieces []Piece) {
		for _, piece := range pieces {
			switch piece.Kind {
			case Text:
				if to == 0 {
					from = piece.End
				}
			case CallEnd:
				to = piece.End
			}
		}
	}
	note(p.Push(text))
	note(p.Finish(true))
	call := strings.TrimSpace(text[min(from, to):to])
	return strings.NewReplacer(probeName, "NAME", probeArgument, "PARAMETER", probeText, "VALUE").Replace(call)
}

// describe adds the tools of a request to the system message, which is the first or is put there.
func (t *Template) describe(messages *jinja.List, tools jinja.Value) (*jinja.List, error) {
	list, ok := tools.(*jinja.List)
	if !ok || messages.Len() == 0 {
		return messages, nil
	}
	var lines strings.Builder
	for i := range list.Len() {
		line, err := jinja.FormatJSON(memberOf(list.At(i), "function"))
		if err != nil {
			return nil, err
		}
		lines.WriteString(line + "\n")
	}
	text := jinja.Concat(jinja.Trusted(describeTools), jinja.Untrusted(lines.String()), jinja.Trusted(describeCall+t.example))
	to := jinja.NewList()
	rest := 0
	if role, _ := memberOf(messages.At(0), "role").(jinja.Text); role.String() == "system" {
		rest = 1
		content := memberOf(messages.At(0), "content")
		before, isText := content.(jinja.Text)
		if !isText {
			before = jinja.Untrusted(textOf(content))
		}
		text = jinja.Concat(before, jinja.Trusted("\n\n"), text)
	}
	to.Append(message("system", t.form.content(text, false)))
	for i := rest; i < messages.Len(); i++ {
		to.Append(messages.At(i))
	}
	return to, nil
}
