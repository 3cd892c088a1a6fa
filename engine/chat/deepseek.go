package chat

// The marks of DeepSeek's calls before V3.2.
const (
	deepseekBlock    = "<｜tool▁calls▁begin｜>"
	deepseekBlockEnd = "<｜tool▁calls▁end｜>"
	deepseekCall     = "<｜tool▁call▁begin｜>"
	deepseekCallEnd  = "<｜tool▁call▁end｜>"
	deepseekSep      = "<｜tool▁sep｜>"
)

// deepseek is the form of DeepSeek-V3, R1 and R1's distilled models, and of V3.1 (their templates). The words of the
// marks, written in brackets here, are joined by "▁":
//
//	[calls begin][call begin]function[sep]get_weather
//	```json
//	{"city": "Paris"}
//	```[call end][calls end]
//
//	[calls begin][call begin]get_weather[sep]{"city": "Paris"}[call end][calls end]
//
// Models leave out the mark of the block at times.
var deepseek = register(&dialect{
	name:     "deepseek",
	markers:  []string{deepseekBlock, deepseekBlockEnd, deepseekCall, deepseekCallEnd, deepseekSep},
	triggers: []string{deepseekBlock, deepseekCall},
	calls: func(r *reply, i int) bool {
		if r.has(i, deepseekBlock) {
			i = r.space(i + len(deepseekBlock))
		}
		return deepseekCalls.read(r, i)
	},
})

var deepseekCalls = &block{
	header:    deepseekHeader,
	arguments: func(r *reply, _ *callHeader) (int, bool) { return r.readMarkedJSON("```", deepseekCallEnd) },
	close:     deepseekBlockEnd,
}

func deepseekHeader(r *reply, i int) (h callHeader, ok bool) {
	if !r.has(i, deepseekCall) {
		return h, false
	}
	h.name, i, ok = r.name(i+len(deepseekCall), "<")
	if !ok || !r.has(i, deepseekSep) {
		return h, false
	}
	i += len(deepseekSep)
	if h.name == "function" && !r.is(i, '{') {
		if h.name, i, ok = r.name(i, "\n"); !ok {
			return h, false
		}
		if i = r.space(i); r.has(i, "```json") {
			i += len("```json")
		}
	}
	h.next = r.space(i)
	return h, r.is(h.next, '{')
}
