package chat

// dsml returns the form of DeepSeek-V3.2, whose block is called function_calls, and V4, whose block is called tool_calls
// (their encoders). Tags carry a mark, written | here, and say whether an argument is a string or JSON.
//
//	<|DSML|tool_calls>
//	<|DSML|invoke name="get_weather">
//	<|DSML|parameter name="city" string="true">Paris</|DSML|parameter>
//	</|DSML|invoke>
//	</|DSML|tool_calls>
func dsml(name, block string) *dialect {
	const mark = "｜DSML｜"
	tags := &tagged{
		open: "<" + mark + block + ">", close: "</" + mark + block + ">",
		call: "<" + mark + `invoke name="`, nameEnd: `">`, callEnd: "</" + mark + "invoke>",
		param: "<" + mark + `parameter name="`, keyEnd: `">`, paramEnd: "</" + mark + "parameter>",
		isString: `" string="true">`, isJSON: `" string="false">`,
	}
	return &dialect{name: name, markers: append(tags.markers(), mark), triggers: tags.triggers(), calls: tags.read}
}

var (
	deepseekV32 = register(dsml("deepseek-v3.2", "function_calls"))
	deepseekV4  = register(dsml("deepseek-v4", "tool_calls"))
)
