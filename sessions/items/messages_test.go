package items

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"hearth/cmd/sharedtest"
	"hearth/engine/chat"
)

// TestMessages renders items, and wants what it renders to be chat messages to clients and to templates.
func TestMessages(t *testing.T) {
	open := func(sealed string) ([]json.RawMessage, error) {
		return []json.RawMessage{json.RawMessage(`{"role":"user","content":"summary of ` + sealed + `"}`)}, nil
	}
	for _, test := range []struct{ name, items, want string }{
		{"text", `"hi"`, `{"role":"user","content":"hi"}`},
		{"parts", `[{"role":"system","content":"s"},{"role":"user","content":[{"type":"input_text","text":"a"},{"type":"input_text","text":"b"}]}]`,
			`{"role":"system","content":"s"} {"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}`},
		{"one answer", `[{"type":"reasoning","id":"r","summary":[],"content":[{"type":"reasoning_text","text":"hm"}]},{"role":"assistant","content":"let me see"},
			{"type":"function_call","call_id":"c1","name":"f","arguments":"{}"},{"type":"custom_tool_call","call_id":"c2","name":"sql","input":"a\"b"},
			{"type":"function_call_output","call_id":"c1","output":"1"},{"type":"custom_tool_call_output","call_id":"c2","output":[{"type":"input_text","text":"2"}]}]`,
			`{"role":"assistant","content":"let me see","reasoning_content":"hm","tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{}"}},{"id":"c2","type":"function","function":{"name":"sql","arguments":"{\"input\":\"a\\\"b\"}"}}]}
			{"role":"tool","content":"1","tool_call_id":"c1"} {"role":"tool","content":"2","tool_call_id":"c2"}`},
		{"calls alone", `[{"type":"function_call","call_id":"c","name":"f","namespace":"n","arguments":""},{"type":"function_call_output","call_id":"c","output":""}]`,
			`{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"n.f","arguments":""}}]} {"role":"tool","content":"","tool_call_id":"c"}`},
		{"text after a call", `[{"role":"assistant","content":"a"},{"type":"function_call","call_id":"c","name":"f","arguments":""},{"role":"assistant","content":"b"},{"type":"function_call_output","call_id":"c","output":"x"}]`,
			`{"role":"assistant","content":[{"type":"text","text":"a"},{"type":"text","text":"\n\nb"}],"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":""}}]} {"role":"tool","content":"x","tool_call_id":"c"}`},
		{"two answers", `[{"role":"assistant","content":"a"},{"role":"assistant","content":[]},{"type":"reasoning","id":"r","summary":[{"type":"summary_text","text":"s"}]},{"role":"assistant","content":[{"type":"refusal","refusal":"no"}]}]`,
			`{"role":"assistant","content":"a"} {"role":"assistant","content":""} {"role":"assistant","content":"no","reasoning_content":"s"}`},
		{"only thought", `[{"type":"reasoning","id":"r","summary":[],"content":[{"type":"reasoning_text","text":"hm"}]},{"role":"user","content":"go on"}]`,
			`{"role":"assistant","content":"","reasoning_content":"hm"} {"role":"user","content":"go on"}`},
		{"sealed thought", `[{"type":"reasoning","id":"r","summary":[],"encrypted_content":"abc"},{"role":"assistant","content":"a"}]`, `{"role":"assistant","content":"a"}`},
		{"compaction", `[{"type":"compaction","encrypted_content":"abc"},{"role":"user","content":"x"},{"type":"compaction_trigger"}]`,
			`{"role":"user","content":"summary of abc"} {"role":"user","content":"x"}`},
		{"shells", `[{"type":"local_shell_call","id":"l","call_id":"c1","status":"completed","action":{"type":"exec","command":["ls"],"env":{}}},{"type":"local_shell_call_output","id":"c1","output":"a"},
			{"type":"shell_call","call_id":"c2","action":{"commands":["ls"]}},{"type":"shell_call_output","call_id":"c2","output":[{"stdout":"b","stderr":"","outcome":{"type":"exit","exit_code":0}}]},
			{"type":"apply_patch_call","call_id":"c3","status":"completed","operation":{"type":"delete_file","path":"a"}},{"type":"apply_patch_call_output","call_id":"c3","status":"failed"}]`,
			`{"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"local_shell","arguments":"{\"type\":\"exec\",\"command\":[\"ls\"],\"env\":{}}"}}]} {"role":"tool","content":"a","tool_call_id":"c1"}
			{"role":"assistant","content":null,"tool_calls":[{"id":"c2","type":"function","function":{"name":"shell","arguments":"{\"commands\":[\"ls\"],\"timeout_ms\":null,\"max_output_length\":null}"}}]} {"role":"tool","content":"b\n[exit code 0]","tool_call_id":"c2"}
			{"role":"assistant","content":null,"tool_calls":[{"id":"c3","type":"function","function":{"name":"apply_patch","arguments":"{\"type\":\"delete_file\",\"path\":\"a\"}"}}]} {"role":"tool","content":"failed","tool_call_id":"c3"}`},
		{"hosted tools", `[{"type":"web_search_call","id":"ws_1","status":"completed","action":{"type":"search","query":"q"}},
			{"type":"file_search_call","id":"fs_1","status":"completed","queries":["q"],"results":[{"filename":"a","text":"t"},{"filename":"b","text":"u"}]},
			{"type":"code_interpreter_call","id":"ci_1","status":"completed","container_id":"x","code":"1","outputs":[{"type":"logs","logs":"1"}]},
			{"type":"mcp_call","id":"mcp_1","server_label":"s","name":"n","arguments":"{}","error":{"type":"http_error","code":500,"message":"m"}}]`,
			`{"role":"assistant","content":null,"tool_calls":[{"id":"ws_1","type":"function","function":{"name":"web_search","arguments":"{\"type\":\"search\",\"query\":\"q\"}"}}]} {"role":"tool","content":"completed","tool_call_id":"ws_1"}
			{"role":"assistant","content":null,"tool_calls":[{"id":"fs_1","type":"function","function":{"name":"file_search","arguments":"{\"queries\":[\"q\"]}"}}]} {"role":"tool","content":[{"type":"text","text":"a\nt"},{"type":"text","text":"b\nu"}],"tool_call_id":"fs_1"}
			{"role":"assistant","content":null,"tool_calls":[{"id":"ci_1","type":"function","function":{"name":"code_interpreter","arguments":"{\"code\":\"1\"}"}}]} {"role":"tool","content":"1","tool_call_id":"ci_1"}
			{"role":"assistant","content":null,"tool_calls":[{"id":"mcp_1","type":"function","function":{"name":"s.n","arguments":"{}"}}]} {"role":"tool","content":"{\"type\":\"http_error\",\"code\":500,\"message\":\"m\"}","tool_call_id":"mcp_1"}`},
		{"tools", `[{"type":"additional_tools","role":"developer","tools":[]},{"role":"user","content":"x"}]`, `{"role":"user","content":"x"}`},
	} {
		messages, err := Messages(parse(t, test.items), open)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		got := make([]string, len(messages))
		for i, m := range messages {
			got[i] = string(m)
			sharedtest.Validate(t, "ChatCompletionRequestMessage", m)
		}
		if want := strings.Fields(test.want); strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("%s:\ngot  %s\nwant %s", test.name, strings.Join(got, " "), strings.Join(want, " "))
		}
		if _, err := chat.ParsePrompt(messages, nil); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

func TestMessagesErrors(t *testing.T) {
	for _, input := range []string{
		`[{"type":"function_call_output","call_id":"c","output":"x"}]`,
		`[{"type":"function_call_output","call_id":"c","output":"x"},{"type":"function_call","call_id":"c","name":"f","arguments":""}]`,
		`[{"type":"compaction","encrypted_content":"x"}]`,
	} {
		var e *Error
		if m, err := Messages(parse(t, input), nil); !errors.As(err, &e) || e.Field != "input" {
			t.Errorf("%s: %s, %v", input, m, err)
		}
	}
	broken := errors.New("broken seal")
	_, err := Messages(parse(t, `[{"type":"compaction","encrypted_content":"x"}]`), func(string) ([]json.RawMessage, error) { return nil, broken })
	if !errors.Is(err, broken) {
		t.Errorf("a broken seal: %v", err)
	}
}

func TestTools(t *testing.T) {
	tools, err := Tools(parse(t, `[{"type":"additional_tools","role":"developer","tools":[{"type":"function","name":"a"},{"type":"custom","name":"b"}]},
		{"role":"user","content":"x"},{"type":"additional_tools","role":"developer","tools":[{"type":"custom","name":"c"}]}]`))
	if err != nil || len(tools) != 3 || string(tools[2]) != `{"type":"custom","name":"c"}` {
		t.Errorf("%s, %v", tools, err)
	}
}
