package chat

// llama is the form of Llama 3.1 to 3.3 (their templates): the reply is a call and nothing else, without a mark, so that
// only the name of a tool tells it from any other JSON. Several calls follow each other.
//
//	<|python_tag|>{"name": "get_weather", "parameters": {"city": "Paris"}}
var llama = register(&dialect{
	name:     "llama",
	markers:  []string{"<|python_tag|>"},
	triggers: []string{"<|python_tag|>", "{"},
	atStart:  true,
	calls: func(r *reply, i int) bool {
		if r.has(i, "<|python_tag|>") {
			i = r.space(i + len("<|python_tag|>"))
		}
		return jsonCalls(";", "").read(r, i)
	},
})
