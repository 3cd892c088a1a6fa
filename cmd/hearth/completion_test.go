package main

import (
	"strings"
	"testing"
)

func TestCompletion(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"serve", "--kv-type", ""}, "q8_0\n"},
		{[]string{"run", "--device", ""}, "cpu\n"},
		{[]string{"logits", "--device", ""}, "cpu\n"},
		{[]string{"serve", "--log-format", ""}, "json\n"},
		{[]string{"bench", ""}, "kernels\t"},
		{[]string{"bench", "kernels", "--op", ""}, "attention\n"},
		{[]string{"bench", "kernels", "--format", ""}, "q6_k\n"},
		{[]string{"bench", "model", "--kv-type", ""}, "q8_0\n"},
		{[]string{"synth", "--arch", "llama", "--size", ""}, "8b\n"},
		{[]string{"perplexity", "--kv-type", ""}, "q8_0\n"},
		{[]string{"perplexity", "--reference-kv-type", ""}, "q8_0\n"},
		{[]string{"quantize", "--type", ""}, "q4_k_m\n"},
	} {
		if out, err := execute(t, append([]string{"__complete"}, c.args...)...); err != nil || !strings.Contains(out, c.want) {
			t.Errorf("%q completes to %q, %v, want %q", c.args, out, err, c.want)
		}
	}
}

func TestVersionFlag(t *testing.T) {
	flag, err := execute(t, "--version")
	command, commandErr := execute(t, "version")
	if err != nil || commandErr != nil || flag != command || !strings.HasPrefix(flag, "hearth ") {
		t.Errorf("--version prints %q, %v, and version %q, %v", flag, err, command, commandErr)
	}
}
