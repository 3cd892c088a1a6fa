package chat

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// TestEfforts lets every reference template think and not think. Those that always think, or never, say so.
func TestEfforts(t *testing.T) {
	switches := map[string]string{
		"GLM-4.6": "enable_thinking", "GLM-4.7-Flash": "enable_thinking", "Qwen-QwQ-32B": "enable_thinking", "Qwen-Qwen3-0.6B": "enable_thinking",
		"Qwen3.5-4B": "enable_thinking", "config-Qwen3-30B-A3B": "enable_thinking", "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B": "enable_thinking",
		"config-DeepSeek-V3.1": "thinking", "deepseek-ai-DeepSeek-V3.1": "enable_thinking thinking", "deepseek-ai-DeepSeek-V3.2": "enable_thinking thinking",
		"deepseek-ai-DeepSeek-V4": "enable_thinking thinking reasoning_effort", "deepseek-ai-DeepSeek-V4-Flash-0731": "enable_thinking thinking reasoning_effort",
		"MiniMax-M3": "thinking_mode", "openai-gpt-oss-120b": "reasoning_effort",
	}
	eachTemplate(t, func(t *testing.T, source string, vectors []vector) {
		template, err := New(source, vectors[0].BOS, vectors[0].EOS)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range template.switches {
			got = append(got, s.name)
		}
		if template.levels {
			got = append(got, thinkingLevel)
		}
		if want := switches[t.Name()[strings.IndexByte(t.Name(), '/')+1:]]; strings.Join(got, " ") != want {
			t.Errorf("variables %q, want %q", got, want)
		}
		p := prompt(t, `[{"role": "user", "content": "q"}]`, ``)
		for _, p.Effort = range []string{"none", "high"} {
			rendered, err := template.Render(p)
			effort, refused := errors.AsType[*EffortError](err)
			switch {
			case refused && len(got) > 0 && !(p.Effort == "none" && len(template.switches) == 0):
				t.Errorf("%s: %v", p.Effort, effort)
			case err == nil && p.Effort == "none" && template.thoughts.isOpen(rendered):
				t.Errorf("%q makes the model think", rendered)
			}
		}
	})
}

func TestEffortRefusals(t *testing.T) {
	const plain, fixed, switched = `{{ messages[0].content }}`, `{{ messages[0].content }}<think>{# </think> #}`, `{{ messages[0].content }}{% if enable_thinking %}<think>{% else %}</think>{% endif %}`
	for _, test := range []struct{ template, effort, vars, want string }{
		{plain, "none", ``, "q"},
		{plain, "low", ``, "this model does not think"},
		{fixed, "none", ``, "this model cannot be kept from thinking"},
		{fixed, "low", ``, "q<think>"},
		{switched, "", ``, "q</think>"},
		{switched, "none", ``, "q</think>"},
		{switched, "max", ``, "q<think>"},
		{switched, "max", `{"enable_thinking": true}`, "chat_template_kwargs.enable_thinking says the same thing; send one of them"},
	} {
		p := prompt(t, `[{"role": "user", "content": "q"}]`, test.vars)
		p.Effort = test.effort
		got, err := compile(t, test.template).Render(p)
		if err != nil {
			got = fmt.Sprint(err)
		}
		if got != test.want {
			t.Errorf("%s at effort %q: got %q, want %q", test.template, test.effort, got, test.want)
		}
	}
}
