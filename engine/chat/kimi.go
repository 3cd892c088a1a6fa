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
	calls:    func(r *reply, i int) bool { return kimiCalls.read(r, r.space(i+len(kimiBlock))) },
})

var kimiCalls = &block{
	header:    kimiHeader,
	arguments: func(r *reply, _ *callHeader) (int, bool) { return r.readMarkedJSON(kimiCallEnd) },
	close:     kimiBlockEnd,
}

const (
	kimiBlock     = "<|tool_calls_section_begin|>"
	kimiBlockEnd  = "<|tool_calls_section_end|>"
	kimiCall      = "<|tool_call_begin|>"
	kimiArguments = "<|tool_call_argument_begin|>"
	kimiCallEnd   = "<|tool_call_end|>"
)

func kimiHeader(r *reply, i int) (h callHeader, ok bool) {
	if !r.has(i, kimiCall) {
		return h, false
	}
	h.id, i, ok = r.name(r.space(i+len(kimiCall)), "<")
	if !ok || !r.has(i, kimiArguments) {
		return h, false
	}
	h.id = strings.TrimSpace(h.id)
	h.name = kimiName(h.id)
	h.next = r.space(i + len(kimiArguments))
	return h, h.name != "" && r.is(h.next, '{')
}

// kimiName is the name in an id: "functions.get_weather:0".
func kimiName(id string) string {
	name := strings.TrimPrefix(id, "functions.")
	if i := strings.LastIndexByte(name, ':'); i >= 0 {
		name = name[:i]
	}
	return name
}
