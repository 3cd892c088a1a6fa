package chat

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// BenchmarkRender renders conversations of several lengths with a template in the style of most.
func BenchmarkRender(b *testing.B) {
	template := compile(b, chatML)
	for _, n := range []int{2, 100, 1000} {
		b.Run(fmt.Sprintf("messages-%d", n), func(b *testing.B) {
			var messages []json.RawMessage
			for i := range n {
				role := []string{"user", "assistant"}[i%2]
				messages = append(messages, json.RawMessage(fmt.Sprintf(`{"role": %q, "content": %q}`, role, strings.Repeat("some words ", 40))))
			}
			for b.Loop() {
				p, err := ParsePrompt(messages, nil)
				if err != nil {
					b.Fatal(err)
				}
				p.Guard = mark
				if _, err := template.Render(p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
