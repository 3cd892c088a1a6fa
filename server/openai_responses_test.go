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
