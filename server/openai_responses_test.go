package server

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"hearth/engine"
	"hearth/engine/embedded"
)

// responseBody is a request for a response of the embedded model with further fields.
func responseBody(fields string) string {
	return fmt.Sprintf(`{"model":%q%s}`, embedded.Name, furtherFields(fields))
}

// responseAnswer is a response as tests read it.
type responseAnswer struct {
	ID, Status string
	Output     []struct {
		ID, Type, Status string
		Content          []struct {
			Type, Text string
			Logprobs   []json.RawMessage
		}
	}
	Usage struct {
		InputTokens  int `json:"input_tokens"`
		InputDetails struct {
			CachedTokens     int `json:"cached_tokens"`
			CacheWriteTokens int `json:"cache_write_tokens"`
		} `json:"input_tokens_details"`
		OutputTokens int `json:"output_tokens"`
	}
	Error        *errorDetail
	Previous     *string `json:"previous_response_id"`
	Instructions *string
	Conversation *struct{ ID string }
	Store        bool
	Background   bool
	Metadata     map[string]string
}

func (r *responseAnswer) text() string {
	text := ""
	for _, item := range r.Output {
		for _, part := range item.Content {
			text += part.Text
		}
	}
	return text
}

// respond asks for a response and wants it to match the schema.
func (s *testServer) respond(fields string) responseAnswer {
	s.t.Helper()
	return decodeAnswer[responseAnswer](s.t, s.ok("POST", "/v1/responses", responseBody(fields), "Response"))
}

// responseEvent is an event as tests read it.
type responseEvent struct {
	Type     string
	Sequence int `json:"sequence_number"`
	Delta    string
	Response *responseAnswer
}

// responseEvents reads a stream of a response: every event has its type as its name and matches the schema.
func responseEvents(t testing.TB, body []byte) []responseEvent {
	t.Helper()
	var list []responseEvent
	for block := range strings.SplitSeq(strings.TrimSuffix(string(body), "\n\n"), "\n\n") {
		if strings.HasPrefix(block, ":") || block == "" {
			continue
		}
		name, data, ok := strings.Cut(block, "\ndata: ")
		name, named := strings.CutPrefix(name, "event: ")
		if !ok || !named || strings.Contains(data, "\n") {
			t.Fatalf("bad event %q in\n%s", block, body)
		}
		validate(t, "ResponseStreamEvent", []byte(data))
		var e responseEvent
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			t.Fatal(err)
		}
		if e.Type != name {
			t.Errorf("the event %s is named %s", e.Type, name)
		}
		list = append(list, e)
	}
	return list
}

// checkSequence wants consecutive sequence numbers from one on, and the last event to be the end of the response.
func checkSequence(t testing.TB, events []responseEvent, from int) (last *responseAnswer, text string) {
	t.Helper()
	if len(events) == 0 {
		t.Fatal("no events")
	}
	for i, e := range events {
		if e.Sequence != from+i {
			t.Errorf("event %d has the sequence number %d, want %d", i, e.Sequence, from+i)
		}
		if e.Type == "response.output_text.delta" {
			text += e.Delta
		}
	}
	last = events[len(events)-1].Response
	if last == nil || last.Status == "in_progress" || last.Status == "queued" {
		t.Fatalf("the last event is %+v", events[len(events)-1])
	}
	return last, text
}

// TestResponses goes through the life of a response: made, streamed, gone on from, fetched, listed and deleted.
func TestResponses(t *testing.T) {
	s := startServer(t, Options{}, engine.Options{})
	whole := s.respond(`"input":"Once upon a time","max_output_tokens":20,"metadata":{"a":"b"},"instructions":"Tell a story."`)
	if whole.Status != "incomplete" || whole.text() == "" || !whole.Store || whole.Metadata["a"] != "b" || *whole.Instructions != "Tell a story." {
		t.Fatalf("%+v", whole)
	}
	if u := whole.Usage; u.OutputTokens != 20 || u.InputTokens == 0 {
		t.Errorf("usage %+v", u)
	}
	a := s.post("/v1/responses", responseBody(`"input":"Once upon a time","max_output_tokens":20,"instructions":"Tell a story.","stream":true`))
	list := responseEvents(t, a.body)
	last, text := checkSequence(t, list, 0)
	if list[0].Type != "response.created" || last.text() != whole.text() || text != whole.text() || last.Status != "incomplete" {
		t.Errorf("streamed %q, in the end %q, whole %q; first %s", text, last.text(), whole.text(), list[0].Type)
	}

	next := s.respond(fmt.Sprintf(`"input":"And then?","previous_response_id":%q,"max_output_tokens":16`, whole.ID))
	if next.Previous == nil || *next.Previous != whole.ID || next.Instructions != nil {
		t.Errorf("%+v", next)
	}
	for _, r := range []responseAnswer{whole, next} {
		got := decodeAnswer[responseAnswer](t, s.ok("GET", "/v1/responses/"+r.ID, "", "Response"))
		if got.text() != r.text() || got.Status != r.Status || got.ID != r.ID {
			t.Errorf("stored %+v, answered %+v", got, r)
		}
	}
	input := decodeAnswer[itemList](t, s.ok("GET", "/v1/responses/"+next.ID+"/input_items", "", "ResponseItemList"))
	if len(input.Data) != 1 || input.Data[0].Content[0].Text != "And then?" {
		t.Errorf("%+v", input)
	}
	if a := s.do("DELETE", "/v1/responses/"+next.ID, ""); a.status != 200 || decodeAnswer[deletedObject](t, a) != (deletedObject{next.ID, "response", true}) {
		t.Errorf("%d %s", a.status, a.body)
	}
	for _, path := range []string{"", "/input_items"} {
		s.refused("GET", "/v1/responses/"+next.ID+path, "", 404, "not_found", "")
	}
	s.refused("DELETE", "/v1/responses/"+next.ID, "", 404, "not_found", "")
	s.refused("POST", "/v1/responses", responseBody(`"input":"x","previous_response_id":"`+next.ID+`"`), 400, "previous_response_not_found", "previous_response_id")
}

// TestResponseErrors wants every field that cannot be honoured to be refused by its name.
func TestResponseErrors(t *testing.T) {
	s := sharedServer(t)
	for _, c := range []struct{ fields, code, param string }{
		{``, "missing_required_parameter", "input"},
		{`"input":[]`, "invalid_value", "input"},
		{`"input":7`, "invalid_type", "input"},
		{`"input":[{"role":"user","content":[{"type":"input_image","image_url":"http://x"}]}]`, "unsupported_parameter", "input[0].content[0].type"},
		{`"input":[{"type":"item_reference","id":"msg_none"}]`, "invalid_value", "input[0].id"},
		{`"input":[{"type":"function_call_output","call_id":"c","output":"x"}]`, "invalid_value", "input"},
		{`"input":"x","previous_response_id":"resp_none"`, "previous_response_not_found", "previous_response_id"},
		{`"input":"x","previous_response_id":"a","conversation":"b"`, "invalid_value", "previous_response_id"},
		{`"input":"x","conversation":{}`, "missing_required_parameter", "conversation.id"},
		{`"input":"x","conversation":7`, "invalid_type", "conversation"},
		{`"input":"x","background":true,"store":false`, "invalid_value", "background"},
		{`"input":"x","stream_options":{"include_obfuscation":true}`, "invalid_value", "stream_options"},
		{`"input":"x","stream":true,"stream_options":{"include_usage":true}`, "unknown_parameter", "stream_options.include_usage"},
		{`"input":"x","include":["everything"]`, "invalid_value", "include[0]"},
		{`"input":"x","max_output_tokens":15`, "invalid_value", "max_output_tokens"},
		{`"input":"x","max_output_tokens":100000`, "context_length_exceeded", "input"},
		{`"input":"x","top_logprobs":2`, "invalid_value", "top_logprobs"},
		{`"input":"x","temperature":3`, "invalid_value", "temperature"},
		{`"input":"x","truncation":"middle"`, "invalid_value", "truncation"},
		{`"input":"x","metadata":{"a":1}`, "invalid_type", "metadata.a"},
		{`"input":"x","prompt":{"id":"p"}`, "unsupported_parameter", "prompt"},
		{`"input":"x","moderation":{"model":"m"}`, "unsupported_parameter", "moderation"},
		{`"input":"x","text":{"format":{"type":"json_object"}}`, "unsupported_parameter", "text.format"},
		{`"input":"x","text":{"verbosity":"low"}`, "unsupported_parameter", "text.verbosity"},
		{`"input":"x","reasoning":{"effort":"high"}`, "unsupported_parameter", "reasoning.effort"},
		{`"input":"x","reasoning":{"effort":"maximal"}`, "invalid_value", "reasoning.effort"},
		{`"input":"x","reasoning":{"summary":"detailed"}`, "unsupported_parameter", "reasoning.summary"},
		{`"input":"x","context_management":[{"type":"compaction"}]`, "missing_required_parameter", "context_management[0].compact_threshold"},
		{`"input":"x","context_management":[{"type":"compaction","compact_threshold":10}]`, "invalid_value", "context_management[0].compact_threshold"},
		{`"input":"x","tools":[{"type":"web_search"}]`, "unsupported_parameter", "tools[0].type"},
		{`"input":"x","tools":[{"type":"function"}]`, "missing_required_parameter", "tools[0].name"},
		{`"input":"x","tools":[{"type":"function","name":"a b"}]`, "invalid_value", "tools[0].name"},
		{`"input":"x","tools":[{"type":"function","name":"f","parameters":[]}]`, "invalid_type", "tools[0].parameters"},
		{`"input":"x","tools":[{"type":"function","name":"f","strict":true}]`, "unsupported_parameter", "tools[0].strict"},
		{`"input":"x","tools":[{"type":"function","name":"f"},{"type":"custom","name":"f"}]`, "invalid_value", "tools[1].name"},
		{`"input":"x","tools":[{"type":"custom","name":"f","format":{"type":"grammar","syntax":"regex","definition":"a"}}]`, "unsupported_parameter", "tools[0].format"},
		{`"input":"x","tool_choice":"required"`, "unsupported_parameter", "tool_choice"},
		{`"input":"x","tool_choice":{"type":"function","name":"f"}`, "unsupported_parameter", "tool_choice"},
		{`"input":"x","tool_choice":{"type":"allowed_tools","mode":"required","tools":[]}`, "unsupported_parameter", "tool_choice.mode"},
		{`"input":"x","tool_choice":{"type":"allowed_tools","mode":"auto","tools":[{"type":"function","name":"f"}]}`, "invalid_value", "tool_choice.tools[0]"},
		{`"input":"x","colour":"red"`, "unknown_parameter", "colour"},
		{`"input":"x","n":2`, "unknown_parameter", "n"},
	} {
		s.refused("POST", "/v1/responses", responseBody(c.fields), 400, c.code, c.param)
	}
	s.refused("POST", "/v1/responses", `{"model":"none","input":"x"}`, 404, "model_not_found", "model")
	s.refused("GET", "/v1/responses/resp_none?stream=maybe", "", 400, "invalid_value", "stream")
	s.refused("GET", "/v1/responses/resp_none?starting_after=1", "", 400, "invalid_value", "starting_after")
	s.refused("GET", "/v1/responses/resp_none/input_items?limit=0", "", 400, "invalid_value", "limit")
}

// TestResponseEcho wants a response to name what the request said, as it took effect.
func TestResponseEcho(t *testing.T) {
	s := sharedServer(t)
	const fields = `"input":"Once","max_output_tokens":16,"temperature":0,"top_p":0.5,"max_tool_calls":3,"parallel_tool_calls":false,"truncation":"auto",` +
		`"prompt_cache_key":"k","safety_identifier":"s","user":"u","service_tier":"auto","metadata":{"a":"b"},"reasoning":{"effort":"none","summary":"auto"},` +
		`"text":{"format":{"type":"text"},"verbosity":"medium"},"tool_choice":"none","tools":[{"type":"function","name":"f","parameters":null,"strict":null},{"type":"custom","name":"c","description":"d"}]`
	a := s.ok("POST", "/v1/responses", responseBody(fields), "Response")
	for _, want := range []string{
		`"max_output_tokens":16`, `"temperature":0`, `"top_p":0.5`, `"max_tool_calls":3`, `"parallel_tool_calls":false`, `"truncation":"auto"`, `"prompt_cache_key":"k"`,
		`"safety_identifier":"s"`, `"user":"u"`, `"service_tier":"default"`, `"metadata":{"a":"b"}`, `"reasoning":{"effort":"none","summary":null}`,
		`"text":{"format":{"type":"text"},"verbosity":"medium"}`, `"tool_choice":"none"`, `{"type":"function","name":"f","parameters":null,"strict":false}`,
		`{"type":"custom","name":"c","description":"d","format":{"type":"text"}}`,
	} {
		if !strings.Contains(string(a.body), want) {
			t.Errorf("%s lacks %s", a.body, want)
		}
	}
}
