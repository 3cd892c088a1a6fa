package chat

// hermes is the form of Hermes, Qwen2.5, Qwen3 and QwQ (their templates):
//
//	<tool_call>
//	{"name": "get_weather", "arguments": {"city": "Paris"}}
//	</tool_call>
var hermes = register(&dialect{
	name:     "hermes",
	markers:  []string{"<tool_call>", "</tool_call>"},
	triggers: []string{"<tool_call>"},
	calls: func(r *reply, i int) bool {
		return jsonCalls("", "</tool_call>").read(r, r.space(i+len("<tool_call>")))
	},
})
