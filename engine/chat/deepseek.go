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
		name, next, ok := r.deepseekHeader(i)
		found := ok
		for ok {
			r.begin(name, "", next)
			if !r.readJSON(deepseekCallEnd) {
				return true
			}
			next = r.space(0)
			if r.has(next, "```") {
				next = r.space(next + len("```"))
			}
			if r.has(next, deepseekCallEnd) {
				next = r.space(next + len(deepseekCallEnd))
			}
			if r.has(next, deepseekBlockEnd) {
				r.end(next + len(deepseekBlockEnd))
				return true
			}
			r.end(next)
			name, next, ok = r.deepseekHeader(0)
		}
		return found
	},
})

// deepseekHeader reads the beginning of a call at position i, up to the arguments.
func (r *reply) deepseekHeader(i int) (name string, next int, ok bool) {
	if !r.has(i, deepseekCall) {
		return "", i, false
	}
	name, i, ok = r.name(i+len(deepseekCall), "<")
	if !ok || !r.has(i, deepseekSep) {
		return "", i, false
	}
	i += len(deepseekSep)
	if name == "function" && !r.is(i, '{') {
		if name, i, ok = r.name(i, "\n"); !ok {
			return "", i, false
		}
		if i = r.space(i); r.has(i, "```json") {
			i += len("```json")
		}
	}
	i = r.space(i)
	return name, i, r.is(i, '{')
}
