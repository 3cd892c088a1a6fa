package items

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"hearth/cmd/sharedtest"
)

// counting returns a parser whose ids count.
func counting() *Parser {
	n := 0
	return &Parser{NewID: func(prefix string) string { n++; return fmt.Sprintf("%s%d", prefix, n) }}
}

func parse(t *testing.T, input string) []Item {
	t.Helper()
	list, err := counting().Parse("input", json.RawMessage(input))
	if err != nil {
		t.Fatalf("%s: %v", input, err)
	}
	return list
}

// accepted are items of every type that is accepted, as clients send them.
var accepted = []struct{ sent, stored, said string }{
	{`{"role":"user","content":"hi"}`,
		`{"type":"message","id":"msg_1","role":"user","content":[{"type":"input_text","text":"hi"}],"status":"completed"}`, "hi"},
	{`{"type":"message","role":"developer","content":[{"type":"input_text","text":"a","prompt_cache_breakpoint":{"mode":"explicit"}},{"text":"b","type":"input_text"}]}`,
		`{"type":"message","id":"msg_1","role":"developer","content":[{"type":"input_text","text":"a","prompt_cache_breakpoint":{"mode":"explicit"}},{"text":"b","type":"input_text"}],"status":"completed"}`, "a\nb"},
	{`{"role":"assistant","content":"hi <b>","phase":"final_answer"}`,
		`{"type":"message","id":"msg_1","role":"assistant","content":[{"type":"output_text","text":"hi <b>","annotations":[],"logprobs":[]}],"phase":"final_answer","status":"completed"}`, "hi <b>"},
	{`{"id":"msg_x","type":"message","role":"assistant","status":"incomplete","phase":null,"content":[{"type":"refusal","refusal":"no"},{"type":"input_text","text":"but"}]}`,
		`{"type":"message","id":"msg_x","role":"assistant","status":"incomplete","content":[{"type":"refusal","refusal":"no"},{"type":"output_text","text":"but","annotations":[],"logprobs":[]}]}`, "no\nbut"},
	{`{"role":"assistant","content":[{"type":"output_text","text":"x","annotations":[{"type":"url_citation","url":"https://a.example/","title":"A","start_index":0,"end_index":1}],"logprobs":[{"token":"x","logprob":-0.5,"bytes":[120],"top_logprobs":[{"token":"y","logprob":-1,"bytes":[121]}]}]}]}`,
		`{"type":"message","id":"msg_1","role":"assistant","content":[{"type":"output_text","text":"x","annotations":[{"type":"url_citation","url":"https://a.example/","title":"A","start_index":0,"end_index":1}],"logprobs":[{"token":"x","logprob":-0.5,"bytes":[120],"top_logprobs":[{"token":"y","logprob":-1,"bytes":[121]}]}]}],"status":"completed"}`, "x"},
	{`{"role":"assistant","content":[]}`, `{"type":"message","id":"msg_1","role":"assistant","content":[],"status":"completed"}`, ""},
	{`{"type":"reasoning","id":"rs_x","summary":[{"type":"summary_text","text":"s"}],"content":[{"type":"reasoning_text","text":"r"}],"encrypted_content":null}`,
		`{"type":"reasoning","id":"rs_x","summary":[{"type":"summary_text","text":"s"}],"content":[{"type":"reasoning_text","text":"r"}]}`, "s\nr"},
	{`{"type":"function_call","call_id":"call_1","name":"f","arguments":"{\"a\": 1}","id":"","caller":{"type":"direct"}}`,
		`{"type":"function_call","id":"fc_1","call_id":"call_1","name":"f","arguments":"{\"a\": 1}","caller":{"type":"direct"},"status":"completed"}`, "f\n{\"a\": 1}"},
	{`{"type":"function_call_output","call_id":"call_1","output":"42","status":null}`,
		`{"type":"function_call_output","id":"fco_1","call_id":"call_1","output":"42","status":"completed"}`, "42"},
	{`{"type":"function_call_output","call_id":"call_1","output":[{"type":"input_text","text":"4"},{"type":"input_text","text":"2"}]}`,
		`{"type":"function_call_output","id":"fco_1","call_id":"call_1","output":[{"type":"input_text","text":"4"},{"type":"input_text","text":"2"}],"status":"completed"}`, "4\n2"},
	{`{"type":"custom_tool_call","call_id":"call_1","name":"sql","input":"select 1"}`,
		`{"type":"custom_tool_call","id":"ctc_1","call_id":"call_1","name":"sql","input":"select 1","status":"completed"}`, "sql\nselect 1"},
	{`{"type":"custom_tool_call_output","call_id":"call_1","output":"1"}`,
		`{"type":"custom_tool_call_output","id":"ctco_1","call_id":"call_1","output":"1","status":"completed"}`, "1"},
	{`{"type":"compaction","encrypted_content":"abc"}`, `{"type":"compaction","id":"cmp_1","encrypted_content":"abc"}`, ""},
	{`{"type":"additional_tools","role":"developer","tools":[{"type":"function","name":"f","parameters":null,"strict":null}]}`,
		`{"type":"additional_tools","id":"at_1","role":"developer","tools":[{"type":"function","name":"f","parameters":null,"strict":null}]}`, ""},
	{`{"type":"local_shell_call","id":"lsh_1","call_id":"call_1","status":"completed","action":{"type":"exec","command":["ls"],"env":{"A":"b"},"timeout_ms":1000.0,"user":null}}`,
		`{"type":"local_shell_call","id":"lsh_1","call_id":"call_1","status":"completed","action":{"type":"exec","command":["ls"],"env":{"A":"b"},"timeout_ms":1000}}`, `{"type":"exec","command":["ls"],"env":{"A":"b"},"timeout_ms":1000}`},
	{`{"type":"local_shell_call_output","id":"call_1","output":"a.txt"}`,
		`{"type":"local_shell_call_output","id":"call_1","output":"a.txt","status":"completed","call_id":"call_1"}`, "a.txt"},
	{`{"type":"shell_call","call_id":"call_1","action":{"commands":["ls"]}}`,
		`{"type":"shell_call","id":"sh_1","call_id":"call_1","action":{"commands":["ls"],"timeout_ms":null,"max_output_length":null},"status":"completed","environment":null}`, `{"commands":["ls"],"timeout_ms":null,"max_output_length":null}`},
	{`{"type":"shell_call_output","call_id":"call_1","output":[{"stdout":"a","stderr":"","outcome":{"type":"exit","exit_code":-1}},{"stdout":"","stderr":"b","outcome":{"type":"timeout"}}]}`,
		`{"type":"shell_call_output","id":"sho_1","call_id":"call_1","output":[{"stdout":"a","stderr":"","outcome":{"type":"exit","exit_code":-1}},{"stdout":"","stderr":"b","outcome":{"type":"timeout"}}],"status":"completed","max_output_length":null}`,
		"a\n[exit code -1]\nb\n[timed out]"},
	{`{"type":"apply_patch_call","call_id":"call_1","status":"completed","operation":{"type":"delete_file","path":"a"}}`,
		`{"type":"apply_patch_call","id":"apc_1","call_id":"call_1","status":"completed","operation":{"type":"delete_file","path":"a"}}`, `{"type":"delete_file","path":"a"}`},
	{`{"type":"apply_patch_call_output","call_id":"call_1","status":"failed","output":"no such file"}`,
		`{"type":"apply_patch_call_output","id":"apco_1","call_id":"call_1","status":"failed","output":"no such file"}`, "no such file"},
	{`{"type":"web_search_call","id":"ws_x","status":"completed","action":{"type":"search","query":"cats"}}`,
		`{"type":"web_search_call","id":"ws_x","status":"completed","action":{"type":"search","query":"cats"}}`, `{"type":"search","query":"cats"}`},
	{`{"type":"file_search_call","id":"fs_x","status":"completed","queries":["cats"],"results":[{"file_id":"f","filename":"a.txt","text":"cats purr","score":0.5}]}`,
		`{"type":"file_search_call","id":"fs_x","status":"completed","queries":["cats"],"results":[{"file_id":"f","filename":"a.txt","text":"cats purr","score":0.5}]}`, "cats"},
	{`{"type":"code_interpreter_call","id":"ci_x","status":"completed","container_id":"c","code":"1+1"}`,
		`{"type":"code_interpreter_call","id":"ci_x","status":"completed","container_id":"c","code":"1+1","outputs":null}`, "1+1"},
	{`{"type":"mcp_call","id":"mcp_x","server_label":"s","name":"n","arguments":"{}","output":"out"}`,
		`{"type":"mcp_call","id":"mcp_x","server_label":"s","name":"n","arguments":"{}","output":"out"}`, "n\n{}"},
}

// TestParse reads items of every type, compares what would be stored, and holds it against the schemas of what clients get
// back.
func TestParse(t *testing.T) {
	seen := map[string]bool{typeTrigger: true}
	for _, test := range accepted {
		list := parse(t, "["+test.sent+"]")
		item := list[0]
		seen[item.Type] = true
		if string(item.JSON) != test.stored {
			t.Errorf("%s\nis stored as %s\nwant         %s", test.sent, item.JSON, test.stored)
		}
		if item.Text != test.said {
			t.Errorf("%s says %q, want %q", test.sent, item.Text, test.said)
		}
		again := parse(t, "["+string(item.JSON)+"]")[0]
		if string(again.JSON) != string(item.JSON) {
			t.Errorf("%s\nread again is %s", item.JSON, again.JSON)
		}
		if read, err := Read(item.JSON); err != nil || fmt.Sprint(read) != fmt.Sprint(item) {
			t.Errorf("Read(%s) = %+v, %v", item.JSON, read, err)
		}
		sharedtest.Validate(t, "ItemResource", item.JSON)
		sharedtest.Validate(t, "ConversationItem", item.JSON)
	}
	for name, k := range kinds {
		if k.refusal == "" && !seen[name] {
			t.Errorf("no test has an item of type %s", name)
		}
	}
	list := parse(t, `"hi \"there\""`)
	if len(list) != 1 || list[0].Text != `hi "there"` || list[0].Role != "user" || list[0].Status != "completed" {
		t.Errorf("a string is %+v", list)
	}
	if list := parse(t, ` [ {"role":"user","content":"x"} , {"type":"compaction_trigger"} ] `); len(list) != 2 || list[1].Type != typeTrigger || list[1].ID != "" {
		t.Errorf("with a trigger: %+v", list)
	}
	if list := parse(t, `[]`); len(list) != 0 {
		t.Errorf("an empty array is %+v", list)
	}
}

func TestParseErrors(t *testing.T) {
	long := strings.Repeat("x", 200)
	for _, test := range []struct {
		input, field string
		reason       Reason
	}{
		{`7`, "input", WrongType},
		{`{"role":"user","content":"x"}`, "input", WrongType},
		{`[`, "input", Invalid},
		{"\"\xff\"", "input", Invalid},
		{`[7]`, "input[0]", WrongType},
		{`[{}]`, "input[0].type", Missing},
		{`[{"type":7}]`, "input[0].type", WrongType},
		{`[{"type":"nonsense"}]`, "input[0].type", Invalid},
		{`[{"role":"user","content":"x"},{"role":"alien","content":"x"}]`, "input[1].role", Invalid},
		{`[{"type":"message","content":"x"}]`, "input[0].role", Missing},
		{`[{"role":"user"}]`, "input[0].content", Missing},
		{`[{"role":"user","content":null}]`, "input[0].content", Missing},
		{`[{"role":"user","content":7}]`, "input[0].content", WrongType},
		{`[{"role":"user","content":[]}]`, "input[0].content", Invalid},
		{`[{"role":"user","content":[{"type":"input_text"}]}]`, "input[0].content[0].text", Missing},
		{`[{"role":"user","content":[{"text":"x"}]}]`, "input[0].content[0].type", Missing},
		{`[{"role":"user","content":[{"type":"output_text","text":"x"}]}]`, "input[0].content[0].type", Invalid},
		{`[{"role":"user","content":[{"type":"input_text","text":"x","colour":"red"}]}]`, "input[0].content[0].colour", Unknown},
		{`[{"role":"user","content":[{"type":"input_image","image_url":"x","detail":"auto"}]}]`, "input[0].content[0].type", Unsupported},
		{`[{"role":"user","content":[{"type":"input_file","file_id":"x"}]}]`, "input[0].content[0].type", Unsupported},
		{`[{"role":"user","content":"x","content":"y"}]`, "input[0].content", Invalid},
		{`[{"role":"user","content":"x","colour":"red"}]`, "input[0].colour", Unknown},
		{`[{"role":"user","content":"x","phase":"commentary"}]`, "input[0].phase", Invalid},
		{`[{"role":"user","content":"x","id":"a/b"}]`, "input[0].id", Invalid},
		{`[{"role":"user","content":"x","id":"` + long + `"}]`, "input[0].id", Invalid},
		{`[{"role":"user","content":"x","id":"a"},{"role":"user","content":"x","id":"a"}]`, "input[1].id", Invalid},
		{`[{"type":"function_call","name":"f","arguments":"{}"}]`, "input[0].call_id", Missing},
		{`[{"type":"function_call","call_id":"","name":"f","arguments":"{}"}]`, "input[0].call_id", Invalid},
		{`[{"type":"function_call","call_id":"` + long + `","name":"f","arguments":"{}"}]`, "input[0].call_id", Invalid},
		{`[{"type":"function_call","call_id":"c","name":"f","arguments":{}}]`, "input[0].arguments", WrongType},
		{`[{"type":"function_call_output","call_id":null,"output":"x"}]`, "input[0].call_id", Missing},
		{`[{"type":"function_call_output","call_id":"c","output":{}}]`, "input[0].output", WrongType},
		{`[{"type":"function_call_output","call_id":"c","output":[{"type":"input_image","image_url":"x"}]}]`, "input[0].output[0].type", Unsupported},
		{`[{"type":"reasoning","summary":[{"type":"summary_text","text":7}]}]`, "input[0].summary[0].text", WrongType},
		{`[{"type":"reasoning","id":"r"}]`, "input[0].summary", Missing},
		{`[{"type":"shell_call","call_id":"c","action":{"commands":["ls"],"timeout_ms":1.5}}]`, "input[0].action.timeout_ms", WrongType},
		{`[{"type":"shell_call","call_id":"c","action":{"commands":["ls"],"timeout_ms":-1}}]`, "input[0].action.timeout_ms", Invalid},
		{`[{"type":"local_shell_call","call_id":"c","action":{"type":"exec","command":[],"env":{"a":1}}}]`, "input[0].action.env.a", WrongType},
		{`[{"type":"apply_patch_call","call_id":"c","status":"completed","operation":{"type":"rename","path":"a"}}]`, "input[0].operation.type", Invalid},
		{`[{"type":"computer_call"}]`, "input[0].type", Unsupported},
		{`[{"type":"mcp_list_tools"}]`, "input[0].type", Unsupported},
		{`[{"type":"item_reference","id":"x"}]`, "input[0]", Unsupported},
		{`[{"id":"x"}]`, "input[0]", Unsupported},
		{`[{"type":"compaction"}]`, "input[0].encrypted_content", Missing},
		{`[{"type":"compaction_trigger","id":"x"}]`, "input[0].id", Unknown},
		{`[{"type":"compaction_trigger"},{"role":"user","content":"x"}]`, "input[1]", Invalid},
	} {
		_, err := counting().Parse("input", json.RawMessage(test.input))
		var e *Error
		if !errors.As(err, &e) || e.Field != test.field || e.Reason != test.reason {
			t.Errorf("%s: %v (%+v), want reason %d about %s", test.input, err, e, test.reason, test.field)
		}
		if err != nil && len(err.Error()) > 400 {
			t.Errorf("%s: an error of %d bytes", test.input, len(err.Error()))
		}
	}
}

func TestReferences(t *testing.T) {
	stored := parse(t, `[{"id":"msg_9","role":"user","content":"earlier"}]`)[0]
	lost := errors.New("lost")
	p := counting()
	p.Resolve = func(id string) (Item, bool, error) {
		if id == "msg_8" {
			return Item{}, false, lost
		}
		return stored, id == "msg_9", nil
	}
	list, err := p.Parse("input", json.RawMessage(`[{"type":"item_reference","id":"msg_9"},{"role":"user","content":"now"}]`))
	if err != nil || len(list) != 2 || list[0].Text != "earlier" {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := p.Parse("input", json.RawMessage(`[{"id":"msg_8","type":null}]`)); !errors.Is(err, lost) {
		t.Errorf("a lost item: %v", err)
	}
	var e *Error
	if _, err := p.Parse("input", json.RawMessage(`[{"id":"msg_7"}]`)); !errors.As(err, &e) || e.Field != "input[0].id" {
		t.Errorf("no such item: %v", err)
	}
	if _, err := p.Parse("input", json.RawMessage(`[{"id":"msg_9"},{"id":"msg_9"}]`)); err == nil {
		t.Error("the same item twice is accepted")
	}
}

func TestReadErrors(t *testing.T) {
	for _, raw := range []string{``, `7`, `{}`, `{"type":"message"}`, `{"id":"x"}`, `{"type":"message","id":"x","content":7}`} {
		if item, err := Read(json.RawMessage(raw)); err == nil {
			t.Errorf("Read(%q) = %+v", raw, item)
		}
	}
}

// FuzzParse checks that whatever is accepted can be read again as it is, and rendered or refused.
func FuzzParse(f *testing.F) {
	for _, test := range accepted {
		f.Add([]byte("[" + test.sent + "]"))
	}
	f.Add([]byte(`"text"`))
	f.Fuzz(func(t *testing.T, input []byte) {
		list, err := counting().Parse("input", input)
		if err != nil {
			return
		}
		for _, item := range list {
			again, err := counting().Parse("input", json.RawMessage("["+string(item.JSON)+"]"))
			if err != nil || string(again[0].JSON) != string(item.JSON) {
				t.Errorf("%s: %v, %+v", item.JSON, err, again)
			}
		}
		if messages, err := Messages(list, nil); err == nil {
			for _, m := range messages {
				if !json.Valid(m) {
					t.Errorf("%s is no JSON", m)
				}
			}
		}
	})
}
