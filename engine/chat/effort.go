package chat

import (
	"errors"
	"fmt"
	"time"

	"hearth/engine/chat/jinja"
)

// Efforts are how much a model may be asked to think, in the words of OpenAI's API; none is not at all.
var Efforts = []string{"none", "minimal", "low", "medium", "high", "xhigh", "max"}

// EffortError says why a template cannot ask for an effort.
type EffortError struct{ reason string }

// Error is the reason.
func (e *EffortError) Error() string { return e.reason }

// thinkingSwitch is a variable by which templates let a model think or not. Families agree on none.
type thinkingSwitch struct {
	name    string
	on, off jinja.Value
}

var thinkingSwitches = []thinkingSwitch{
	{"enable_thinking", jinja.Bool(true), jinja.Bool(false)},
	{"thinking", jinja.Bool(true), jinja.Bool(false)},
	{"thinking_mode", jinja.Trusted("enabled"), jinja.Trusted("disabled")},
}

// thinkingLevel is the variable for how much, in templates that have more than a switch.
const thinkingLevel = "reasoning_effort"

// probeEffort finds the variables that make a difference to a prompt.
func (t *Template) probeEffort() (switches []thinkingSwitch, levels bool) {
	user := t.form.messages(jinja.NewList(message("user", jinja.Untrusted(probeText))))
	render := func(set map[string]jinja.Value) string {
		p := &Prompt{Vars: jinja.NewDict(), Now: time.Unix(0, 0).UTC(), AddGenerationPrompt: true}
		for name, v := range set {
			p.Vars.Set(name, v)
		}
		return t.tryPrompt(user, p)
	}
	on := map[string]jinja.Value{}
	for _, s := range thinkingSwitches {
		if render(map[string]jinja.Value{s.name: s.on}) != render(map[string]jinja.Value{s.name: s.off}) {
			switches = append(switches, s)
			on[s.name] = s.on
		}
	}
	plain := render(on)
	for _, level := range Efforts[1:] {
		on[thinkingLevel] = jinja.Untrusted(level)
		levels = levels || render(on) != plain
	}
	return switches, levels
}

// withEffort returns variables that ask for an effort, which the given ones may not do themselves. A template that has a
// switch and no levels thinks at all of them.
func (t *Template) withEffort(vars *jinja.Dict, effort string) (*jinja.Dict, error) {
	thinks := effort != Efforts[0]
	switch {
	case effort == "", !thinks && t.thoughts == nil && len(t.switches) == 0 && !t.levels:
		return vars, nil
	case !thinks && len(t.switches) == 0:
		return nil, &EffortError{"this model cannot be kept from thinking"}
	case thinks && t.thoughts == nil && len(t.switches) == 0 && !t.levels:
		return nil, &EffortError{"this model does not think"}
	}
	set := jinja.NewDict()
	if vars != nil {
		set = vars.Clone()
	}
	add := func(name string, v jinja.Value) error {
		if _, given := set.Get(name); given {
			return &EffortError{fmt.Sprintf("chat_template_kwargs.%s says the same thing; send one of them", name)}
		}
		set.Set(name, v)
		return nil
	}
	var err error
	for _, s := range t.switches {
		v := s.off
		if thinks {
			v = s.on
		}
		err = errors.Join(err, add(s.name, v))
	}
	if t.levels && thinks {
		err = errors.Join(err, add(thinkingLevel, jinja.Untrusted(effort)))
	}
	return set, err
}
