package chat

import "strings"

// kimi is the form of Kimi-K2 (its template). The id of a call holds its name and its number in the conversation; a
// template prints it again as it is.
//
//	<|tool_calls_section_begin|>
//	<|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>{"city": "Paris"}<|tool_call_end|>
//	<|tool_calls_section_end|>
var kimi = register(&dialect{
	name:     "kimi",
	markers:  []string{kimiBlock, kimiBlockEnd, kimiCall, kimiArguments, kimiCallEnd},
	triggers: []string{kimiBlock},
	calls: func(r *reply, i int) bool {
		id, next, ok := r.kimiHeader(r.space(i + len(kimiBlock)))
		found := ok
		for ok {
			r.begin(kimiName(id), id, next)
			if !r.readJSON(kimiCallEnd) {
				return true
			}
			if next = r.space(0); r.has(next, kimiCallEnd) {
				next = r.space(next + len(kimiCallEnd))
			}
			if r.has(next, kimiBlockEnd) {
				r.end(next + len(kimiBlockEnd))
				return true
			}
			r.end(next)
			id, next, ok = r.kimiHeader(0)
		}
		return found
	},
})

const (
	kimiBlock     = "<|tool_calls_section_begin|>"
	kimiBlockEnd  = "<|tool_calls_section_end|>"
	kimiCall      = "<|tool_call_begin|>"
	kimiArguments = "<|tool_call_argument_begin|>"
	kimiCallEnd   = "<|tool_call_end|>"
)

// kimiHeader reads the beginning of a call at position i, up to the arguments.
func (r *reply) kimiHeader(i int) (id string, next int, ok bool) {
	if !r.has(i, kimiCall) {
		return "", i, false
	}
	id, i, ok = r.name(r.space(i+len(kimiCall)), "<")
	if !ok || !r.has(i, kimiArguments) {
		return "", i, false
	}
	i = r.space(i + len(kimiArguments))
	id = strings.TrimSpace(id)
	return id, i, kimiName(id) != "" && r.is(i, '{')
}

// kimiName is the name in an id: "functions.get_weather:0".
func kimiName(id string) string {
	name := strings.TrimPrefix(id, "functions.")
	if i := strings.LastIndexByte(name, ':'); i >= 0 {
		name = name[:i]
	}
	return name
}
