package chat

// glmTags is the form of GLM-4.5 to 4.7 (their templates), with line breaks between the tags up to 4.6. Each call stands
// for itself.
//
//	<tool_call>get_weather
//	<arg_key>city</arg_key>
//	<arg_value>Paris</arg_value>
//	</tool_call>
var glmTags = &tagged{
	call: "<tool_call>", callEnd: "</tool_call>",
	param: "<arg_key>", keyEnd: "</arg_key>", value: "<arg_value>", paramEnd: "</arg_value>",
}

var glm = register(&dialect{name: "glm", markers: glmTags.markers(), triggers: glmTags.triggers(), calls: glmTags.read})
