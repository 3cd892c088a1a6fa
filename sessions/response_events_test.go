package sessions

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"hearth/cmd/sharedtest"
	"hearth/engine/api"
)

// newTestWriter returns a writer whose ids count and whose clock stands still.
func newTestWriter(background bool) *responseWriter {
	n := 0
	return &responseWriter{
		object: ResponseObject{
			ID: "resp_1", Object: "response", CreatedAt: 1700000000, Model: "m", Background: background, ParallelToolCalls: true, ServiceTier: "default",
			Text: TextOptions{Format: json.RawMessage(`{"type":"text"}`)}, ToolChoice: json.RawMessage(`"auto"`), Tools: []json.RawMessage{},
			Truncation: "disabled", Metadata: json.RawMessage(`{}`), Store: true,
		},
		newID: func(prefix string) string { n++; return fmt.Sprintf("%s%d", prefix, n) },
		now:   func() time.Time { return time.Unix(1700000001, 0) },
	}
}

// script is the deltas of a turn, and how it ends.
type script struct {
	name   string
	deltas []Delta
	finish *Finish // nil: it fails
	err    *ResponseError
	want   string // the types of the events after response.in_progress, without "response."
}

var scripts = []script{
	{"text", []Delta{{Text: "Once"}, {Text: " upon"}}, &Finish{}, nil,
		"output_item.added content_part.added output_text.delta output_text.delta output_text.done content_part.done output_item.done completed"},
	{"nothing", nil, &Finish{}, nil,
		"output_item.added content_part.added output_text.done content_part.done output_item.done completed"},
	{"cut", []Delta{{Text: "Once"}}, &Finish{Reason: api.FinishLength}, nil,
		"output_item.added content_part.added output_text.delta output_text.done content_part.done output_item.done incomplete"},
	{"cut before the first text", nil, &Finish{Reason: api.FinishLength}, nil, "incomplete"},
	{"reasoning, then text in one delta", []Delta{{Reasoning: "Hm"}, {Reasoning: ".", Text: "Yes"}}, &Finish{ReasoningTokens: 2}, nil,
		"output_item.added content_part.added reasoning_text.delta reasoning_text.delta reasoning_text.done content_part.done output_item.done " +
			"output_item.added content_part.added output_text.delta output_text.done content_part.done output_item.done completed"},
	{"calls", []Delta{
		{Text: "I look."},
		{Calls: []CallDelta{{Index: 0, ID: "call_a", Name: "look", Arguments: `{"at":`}}},
		{Calls: []CallDelta{{Index: 0, Arguments: `1}`}, {Index: 1, ID: "call_b", Name: "look", Arguments: "{}"}}},
		{Calls: []CallDelta{{Index: 2, ID: "call_c", Name: "shell", Arguments: `{"input":`}}},
		{Calls: []CallDelta{{Index: 2, Arguments: `"ls <x>"}`}}},
	}, &Finish{}, nil,
		"output_item.added content_part.added output_text.delta output_text.done content_part.done output_item.done " +
			"output_item.added function_call_arguments.delta function_call_arguments.delta function_call_arguments.done output_item.done " +
			"output_item.added function_call_arguments.delta function_call_arguments.done output_item.done " +
			"output_item.added custom_tool_call_input.delta custom_tool_call_input.done output_item.done completed"},
	{"log-probabilities", []Delta{{Text: "a", Tokens: []TokenLogprob{{Text: "a", Bytes: []byte("a"), Logprob: -1, Top: []TokenLogprob{{Text: "b"}}}}}}, &Finish{}, nil,
		"output_item.added content_part.added output_text.delta output_text.done content_part.done output_item.done completed"},
	{"failure", []Delta{{Text: "Once"}}, nil, &ResponseError{"server_error", "it broke"},
		"output_item.added content_part.added output_text.delta failed"},
	{"cancelled", []Delta{{Calls: []CallDelta{{ID: "call_a", Name: "look", Arguments: "{"}}}}, nil, nil,
		"output_item.added function_call_arguments.delta failed"},
}

// respond runs a script.
func respond(w *responseWriter, s *script) {
	w.custom, w.logprobs = []string{"shell"}, true
	w.begin()
	w.started()
	for i := range s.deltas {
		w.delta(&s.deltas[i])
	}
	if s.finish != nil {
		w.finish(s.finish)
	} else {
		w.fail(NewResponseUsage(&api.Usage{PromptTokens: 3, GeneratedTokens: 1}, 0), s.err)
	}
}

// TestResponseEvents checks the order of the events of a response, every event against the schema of the API, the indexes
// that clients' accumulators rely on, and that the deltas come to what the last event has.
func TestResponseEvents(t *testing.T) {
	for _, s := range scripts {
		for _, background := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/background=%v", s.name, background), func(t *testing.T) {
				w := newTestWriter(background)
				respond(w, &s)
				want := "created in_progress " + s.want
				if background {
					want = "created queued in_progress " + s.want
				}
				var got []string
				reader := eventReader{t: t}
				for i, e := range w.take() {
					if e.Sequence != i {
						t.Errorf("event %d has the sequence number %d", i, e.Sequence)
					}
					sharedtest.Validate(t, "ResponseStreamEvent", e.JSON)
					got = append(got, strings.TrimPrefix(reader.read(e.JSON), "response."))
				}
				if strings.Join(got, " ") != want {
					t.Errorf("events\n%s\nwant\n%s", strings.Join(got, " "), want)
				}
				if len(w.output) != len(w.object.Output) {
					t.Errorf("%d items to store, %d in the response", len(w.output), len(w.object.Output))
				}
				for _, item := range w.output {
					sharedtest.Validate(t, "OutputItem", item.JSON)
				}
				sharedtest.Validate(t, "Response", marshal(w.object))
			})
		}
	}
}

// eventReader follows events as clients' accumulators do.
type eventReader struct {
	t     testing.TB
	items []readItem
}

type readItem struct {
	id, kind, text string
	parts          int
	done           bool
}

func (r *eventReader) read(raw []byte) (kind string) {
	r.t.Helper()
	var e struct {
		Type         string
		ItemID       string `json:"item_id"`
		OutputIndex  int    `json:"output_index"`
		ContentIndex int    `json:"content_index"`
		Delta, Text  string
		Arguments    string
		Input        string
		Item         struct{ ID, Type, Status string }
		Response     struct {
			Output []json.RawMessage
			Status string
		}
	}
	if err := json.Unmarshal(raw, &e); err != nil {
		r.t.Fatal(err)
	}
	item := func() *readItem {
		if e.OutputIndex != len(r.items)-1 || r.items[e.OutputIndex].done {
			r.t.Fatalf("%s is about item %d of %d", raw, e.OutputIndex, len(r.items))
		}
		return &r.items[e.OutputIndex]
	}
	switch e.Type {
	case "response.output_item.added":
		if e.OutputIndex != len(r.items) || len(r.items) > 0 && !r.items[len(r.items)-1].done {
			r.t.Errorf("%s comes with %d items before", raw, len(r.items))
		}
		r.items = append(r.items, readItem{id: e.Item.ID, kind: e.Item.Type})
	case "response.output_item.done":
		if i := item(); i.id != e.Item.ID {
			r.t.Errorf("%s ends the item %s", raw, i.id)
		}
		item().done = true
	case "response.content_part.added":
		if item().parts != e.ContentIndex {
			r.t.Errorf("%s with %d parts before", raw, item().parts)
		}
		item().parts++
	case "response.output_text.delta", "response.reasoning_text.delta", "response.function_call_arguments.delta", "response.custom_tool_call_input.delta":
		i := item()
		if i.id != e.ItemID || strings.Contains(e.Type, "text") && i.parts != 1 || strings.Contains(e.Type, "call") != strings.HasSuffix(i.kind, "_call") {
			r.t.Errorf("%s is about the item %+v", raw, *i)
		}
		i.text += e.Delta
	case "response.output_text.done", "response.reasoning_text.done", "response.function_call_arguments.done", "response.custom_tool_call_input.done":
		if i := item(); i.text != e.Text+e.Arguments+e.Input {
			r.t.Errorf("%s ends %q", raw, i.text)
		}
	case "response.completed", "response.incomplete", "response.failed":
		if len(e.Response.Output) != len(r.items) {
			r.t.Errorf("%s has %d items, %d were added", raw, len(e.Response.Output), len(r.items))
		}
		for i, item := range r.items {
			if i < len(e.Response.Output) && !strings.Contains(string(e.Response.Output[i]), string(marshal(item.text))) {
				r.t.Errorf("item %d is %s, its deltas are %q", i, e.Response.Output[i], item.text)
			}
		}
	}
	return e.Type
}

// TestResponseStatus checks what a response says of how it ended.
func TestResponseStatus(t *testing.T) {
	want := map[string]string{
		"text": `completed null null completed`, "cut": `incomplete null {"reason":"max_output_tokens"} incomplete`,
		"failure":   `failed {"code":"server_error","message":"it broke"} null incomplete`,
		"cancelled": `cancelled null null in_progress`,
	}
	for _, s := range scripts {
		w := newTestWriter(false)
		respond(w, &s)
		o := w.object
		if o.Usage == nil || (o.CompletedAt != nil) != (o.Status == StatusCompleted) {
			t.Errorf("%s: usage %v, completed at %v, status %s", s.name, o.Usage, o.CompletedAt, o.Status)
		}
		if len(w.output) == 0 {
			continue
		}
		got := fmt.Sprintf("%s %s %s %s", o.Status, marshal(o.Error), marshal(o.IncompleteDetails), w.output[len(w.output)-1].Status)
		if want, ok := want[s.name]; ok && got != want {
			t.Errorf("%s: %s, want %s", s.name, got, want)
		}
	}
}

// TestQuietResponse checks that a response nobody follows is the same without its events.
func TestQuietResponse(t *testing.T) {
	for _, s := range scripts {
		loud, quiet := newTestWriter(false), newTestWriter(false)
		quiet.quiet = true
		respond(loud, &s)
		respond(quiet, &s)
		if a, b := string(marshal(loud.object)), string(marshal(quiet.object)); a != b || len(quiet.events) > 0 {
			t.Errorf("%s: %d events, and the response\n%s\nwant\n%s", s.name, len(quiet.events), b, a)
		}
	}
}

// TestCustomText checks what of a function's arguments is the input of the custom tool that it stands for.
func TestCustomText(t *testing.T) {
	for arguments, want := range map[string]string{
		`{"input":"ls"}`: "ls", `{"input":""}`: "", `{"input":"a","b":1}`: `{"input":"a","b":1}`, `{"x":"a"}`: `{"x":"a"}`, "": "",
		`{"input":7}`: `{"input":7}`, "ls -l": "ls -l", `"ls"`: `"ls"`, "null": "null",
	} {
		if got := customText(arguments); got != want {
			t.Errorf("%s: %q, want %q", arguments, got, want)
		}
	}
}

// TestSealedReasoning checks that reasoning items carry their content sealed where that was asked for.
func TestSealedReasoning(t *testing.T) {
	w := newTestWriter(false)
	w.seal = func(text string) string { return "sealed:" + text }
	respond(w, &script{deltas: []Delta{{Reasoning: "Hm."}, {Text: "Yes."}}, finish: &Finish{}})
	if !strings.Contains(string(w.output[0].JSON), `"encrypted_content":"sealed:Hm."`) || strings.Contains(string(w.output[1].JSON), "sealed") {
		t.Errorf("%s\n%s", w.output[0].JSON, w.output[1].JSON)
	}
}
