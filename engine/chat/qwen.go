package chat

// qwenTags is the form of Qwen3-Coder, Qwen3-Next and Qwen3.5 (their templates). The line break on either side of an
// argument belongs to the tags; within them the text is as it is, indentation included.
//
//	<tool_call>
//	<function=get_weather>
//	<parameter=city>
//	Paris
//	</parameter>
//	</function>
//	</tool_call>
//
// The models leave out the outer tag at times, which counts as a call when it names a tool of the request.
var qwenTags = &tagged{
	open: "<tool_call>", close: "</tool_call>",
	call: "<function=", nameEnd: ">", callEnd: "</function>",
	param: "<parameter=", keyEnd: ">", paramEnd: "</parameter>",
	lines: true, bare: true,
}

var qwen = register(&dialect{name: "qwen", markers: qwenTags.markers(), triggers: qwenTags.triggers(), calls: qwenTags.read})
