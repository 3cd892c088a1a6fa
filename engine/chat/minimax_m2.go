package chat

// minimaxM2Tags is the form of MiniMax-M2 to M2.5 (their templates). One block may hold several calls.
//
//	<minimax:tool_call>
//	<invoke name="get_weather">
//	<parameter name="city">Paris</parameter>
//	</invoke>
//	</minimax:tool_call>
var minimaxM2Tags = &tagged{
	open: "<minimax:tool_call>", close: "</minimax:tool_call>",
	call: `<invoke name="`, nameEnd: `">`, callEnd: "</invoke>",
	param: `<parameter name="`, keyEnd: `">`, paramEnd: "</parameter>",
}

var minimaxM2 = register(&dialect{name: "minimax-m2", markers: minimaxM2Tags.markers(), triggers: minimaxM2Tags.triggers(), calls: minimaxM2Tags.read})
