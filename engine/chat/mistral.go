package chat

// mistral is the form of Mistral's models since Nemo (their templates): an array, or since 2025 a name before each
// object of arguments. Their templates take ids of nine letters and digits only.
//
//	[TOOL_CALLS][{"name": "get_weather", "arguments": {"city": "Paris"}, "id": "x7Rk2Lq9B"}]
//	[TOOL_CALLS]get_weather[ARGS]{"city": "Paris"}
var mistral = register(&dialect{
	name:     "mistral",
	markers:  []string{"[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"},
	triggers: []string{"[TOOL_CALLS]"},
	idLength: 9,
	calls: func(r *reply, i int) bool {
		i = r.space(i + len("[TOOL_CALLS]"))
		if r.is(i, '[') {
			return jsonCalls(",", "]").read(r, r.space(i+1))
		}
		if r.is(i, '{') {
			return jsonCalls(",", "").read(r, i)
		}
		return r.readNamedCall(i)
	},
})

// readNamedCall reads a name and its arguments.
func (r *reply) readNamedCall(i int) bool {
	name, i, ok := r.name(i, "[{ ")
	if !ok {
		return false
	}
	if r.has(i, "[CALL_ID]") {
		if _, i, ok = r.name(i+len("[CALL_ID]"), "[{"); !ok {
			return false
		}
	}
	if r.has(i, "[ARGS]") {
		i += len("[ARGS]")
	}
	if i = r.space(i); !r.is(i, '{') {
		return false
	}
	r.begin(name, "", i)
	if r.readJSON("") {
		r.end(0)
	}
	return true
}
