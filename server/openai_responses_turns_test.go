package server

import (
	"bufio"
	"context"
	"fmt"
	"strings"
	"testing"

	"hearth/engine"
	"hearth/sessions"
)

// TestConversationTurns runs responses in a conversation, which gains their input and output, and wants each turn to see the
// ones before it.
func TestConversationTurns(t *testing.T) {
	s := startServer(t, Options{}, engine.Options{})
	id := decodeAnswer[conversationObject](t, s.ok("POST", "/v1/conversations", `{}`, "ConversationResource")).ID
	opening := strings.TrimSpace(strings.Repeat("Once upon a time there was a girl. ", 8)) // more than a block
	first := s.respond(fmt.Sprintf(`"input":%q,"conversation":%q,"max_output_tokens":16`, opening, id))
	second := s.respond(fmt.Sprintf(`"input":"And then?","conversation":{"id":%q},"max_output_tokens":16,"store":false`, id))
	if second.Conversation == nil || second.Conversation.ID != id || second.Store {
		t.Errorf("%+v", second)
	}
	list := decodeAnswer[itemList](t, s.ok("GET", "/v1/conversations/"+id+"/items?order=asc", "", "ConversationItemList"))
	var texts []string
	for _, item := range list.Data {
		texts = append(texts, item.Role+": "+item.Content[0].Text)
	}
	want := []string{"user: " + opening, "assistant: " + first.text(), "user: And then?", "assistant: " + second.text()}
	if strings.Join(texts, "\n") != strings.Join(want, "\n") {
		t.Errorf("items\n%s\nwant\n%s", strings.Join(texts, "\n"), strings.Join(want, "\n"))
	}
	// The same turn with the history sent along, or by response.
	whole := s.respond(fmt.Sprintf(`"input":[{"role":"user","content":%q},{"role":"assistant","content":%q},{"role":"user","content":"And then?"}],"max_output_tokens":16`, opening, first.text()))
	chained := s.respond(fmt.Sprintf(`"input":"And then?","previous_response_id":%q,"max_output_tokens":16`, first.ID))
	if whole.text() != second.text() || chained.text() != second.text() {
		t.Errorf("in the conversation %q, with the history %q, by response %q", second.text(), whole.text(), chained.text())
	}
	if chained.Usage.InputDetails.CachedTokens == 0 {
		t.Errorf("nothing cached: %+v", chained.Usage)
	}
	s.refused("POST", "/v1/responses", responseBody(`"input":"x","conversation":"conv_none"`), 404, "not_found", "conversation")

	unlock, err := s.store.Lock(sessions.DefaultTenant, id)
	if err != nil {
		t.Fatal(err)
	}
	s.refused("POST", "/v1/responses", responseBody(fmt.Sprintf(`"input":"x","conversation":%q`, id)), 409, "conversation_locked", "")
	unlock()
	s.respond(fmt.Sprintf(`"input":"x","conversation":%q,"max_output_tokens":16`, id))
}

// TestBackground runs responses in the background, follows them, and replays them from any event on.
func TestBackground(t *testing.T) {
	s := startServer(t, Options{}, engine.Options{})
	const fields = `"input":"Once upon a time","background":true,"max_output_tokens":24`
	live := responseEvents(t, s.post("/v1/responses", responseBody(fields+`,"stream":true`)).body)
	last, text := checkSequence(t, live, 0)
	if live[1].Type != "response.queued" || live[2].Type != "response.in_progress" || last.text() != text || !last.Background {
		t.Errorf("%s, %s, %+v", live[1].Type, live[2].Type, last)
	}
	for from := -1; from < len(live); from++ {
		query := "?stream=true"
		if from >= 0 {
			query += fmt.Sprintf("&starting_after=%d", from)
		}
		replay := responseEvents(t, s.get("/v1/responses/"+last.ID+query).body)
		if from+1 == len(live) && len(replay) == 0 {
			continue
		}
		if again, _ := checkSequence(t, replay, from+1); len(replay) != len(live)-from-1 || again.text() != text {
			t.Errorf("from %d: %d events, %q", from, len(replay), again.text())
		}
	}
	padded := s.get("/v1/responses/" + last.ID + "?stream=true&include_obfuscation=true").body
	if replay := responseEvents(t, padded); len(replay) != len(live) || strings.Count(string(padded), `"obfuscation":"x`) != 24 {
		t.Errorf("%d events, in %s", len(replay), padded)
	}

	begun := s.respond(fields)
	if begun.Status != "queued" && begun.Status != "in_progress" && begun.Status != "incomplete" {
		t.Errorf("%+v", begun)
	}
	s.store.Close(context.Background()) // waits for it
	ended := decodeAnswer[responseAnswer](t, s.ok("GET", "/v1/responses/"+begun.ID, "", "Response"))
	if ended.Status != "incomplete" || ended.text() != text {
		t.Errorf("%+v", ended)
	}
	s.refused("GET", "/v1/responses/"+begun.ID+"?stream=true", "", 400, "invalid_value", "stream")
	s.refused("POST", "/v1/responses", responseBody(fields), 503, "server_is_overloaded", "")
}

// long is a response that takes its time.
const long = `"input":"Once upon a time","stream":true,"ignore_eos":true`

// TestCancel ends a response in the background while a client follows it.
func TestCancel(t *testing.T) {
	inBubble(t, Options{}, engine.Options{}, func(t *testing.T, s *testServer) {
		last := s.followAndCancel()
		for range 2 {
			if got := decodeAnswer[responseAnswer](t, s.ok("POST", "/v1/responses/"+last.ID+"/cancel", "", "Response")); got.Status != "cancelled" || got.text() != last.text() {
				t.Errorf("again: %+v", got)
			}
		}
		s.refused("POST", "/v1/responses", responseBody(fmt.Sprintf(`"input":"x","previous_response_id":%q`, last.ID)), 400, "previous_response_not_found", "previous_response_id")
		whole := s.respond(`"input":"Once","max_output_tokens":16`)
		s.refused("POST", "/v1/responses/"+whole.ID+"/cancel", "", 400, "invalid_value", "")
		s.refused("GET", "/v1/responses/"+whole.ID+"?stream=true", "", 400, "invalid_value", "")
		s.refused("POST", "/v1/responses/resp_none/cancel", "", 404, "not_found", "")
	})
}

// followAndCancel starts a response in the background, cancels it at its first text, and returns it as its last event has it.
func (s *testServer) followAndCancel() *responseAnswer {
	s.t.Helper()
	resp, err := s.client.Post(s.url+"/v1/responses", "application/json", strings.NewReader(responseBody(long+`,"background":true`)))
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	var body strings.Builder
	var got *responseAnswer
	for scanner := bufio.NewScanner(resp.Body); scanner.Scan(); {
		body.WriteString(scanner.Text() + "\n")
		if strings.HasPrefix(scanner.Text(), "event: response.output_text.delta") && got == nil {
			id := responseEvents(s.t, []byte(strings.SplitAfter(body.String(), "\n\n")[0]))[0].Response.ID
			answer := decodeAnswer[responseAnswer](s.t, s.ok("POST", "/v1/responses/"+id+"/cancel", "", "Response"))
			got = &answer
		}
	}
	last, text := checkSequence(s.t, responseEvents(s.t, []byte(body.String())), 0)
	if got == nil || got.Status != "cancelled" || last.Status != "cancelled" || got.text() != last.text() || text != last.text() {
		s.t.Errorf("cancelled %+v, its last event has %+v, its deltas %q", got, last, text)
	} else if got.Error != nil || len(got.Output) != 1 || got.Output[0].Status != "in_progress" {
		s.t.Errorf("%+v", got)
	}
	return last
}

// TestGoneClient wants a response that runs for a client to end with it.
func TestGoneClient(t *testing.T) {
	inBubble(t, Options{}, engine.Options{}, func(t *testing.T, s *testServer) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		name, rest := s.begin(ctx, "/v1/responses", responseBody(long))
		data, err := rest.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		id := responseEvents(t, []byte(strings.TrimSuffix(name+data, "\n")))[0].Response.ID
		cancel()
		endStep()
		if got := decodeAnswer[responseAnswer](t, s.ok("GET", "/v1/responses/"+id, "", "Response")); got.Status != "cancelled" {
			t.Errorf("the response does not end with its client: %+v", got)
		}
	})
}

// TestInputTokens counts what a response has as its input.
func TestInputTokens(t *testing.T) {
	s := sharedServer(t)
	const fields = `"input":"Once upon a time","instructions":"Tell a story."`
	r := s.respond(fields + `,"max_output_tokens":16`)
	for _, c := range []string{fields, fmt.Sprintf(`"input":"And then?","previous_response_id":%q`, r.ID)} {
		count := decodeAnswer[struct {
			InputTokens int `json:"input_tokens"`
		}](t, s.ok("POST", "/v1/responses/input_tokens", fmt.Sprintf(`{"model":"stories260k",%s}`, c), "TokenCountsResource"))
		if got := s.respond(c + `,"max_output_tokens":16`); got.Usage.InputTokens != count.InputTokens {
			t.Errorf("%s: counted %d, then %d", c, count.InputTokens, got.Usage.InputTokens)
		}
	}
	s.refused("POST", "/v1/responses/input_tokens", `{"model":"stories260k","input":"x","stream":true}`, 400, "unknown_parameter", "stream")
}

// TestResponseLogprobs wants the log-probabilities of the text where they are asked for.
func TestResponseLogprobs(t *testing.T) {
	s := sharedServer(t)
	r := s.respond(`"input":"Once","max_output_tokens":16,"include":["message.output_text.logprobs"],"top_logprobs":2`)
	if n := len(r.Output[0].Content[0].Logprobs); n != 16 {
		t.Errorf("%d log-probabilities: %s", n, r.Output[0].Content[0].Logprobs)
	}
	if r := s.respond(`"input":"Once","max_output_tokens":16`); len(r.Output[0].Content[0].Logprobs) != 0 {
		t.Errorf("%s", r.Output[0].Content[0].Logprobs)
	}
}

// TestTooLongInput sends more than the model can hold: an error, unless the oldest may be left out or summed up.
func TestTooLongInput(t *testing.T) {
	s := startServer(t, Options{}, engine.Options{})
	var list []string
	for range 40 {
		list = append(list, userItem("Once upon a time there was a girl."), `{"role":"assistant","content":"She had a dog."}`)
	}
	input := `"input":[` + strings.Join(append(list, userItem("And then?")), ",") + `]`
	s.refused("POST", "/v1/responses", responseBody(input), 400, "context_length_exceeded", "input")
	r := s.respond(input + `,"truncation":"auto","max_output_tokens":16`)
	if r.text() == "" || r.Usage.InputTokens > 512-16 {
		t.Errorf("%+v", r)
	}
	if u := s.respond(input + `,"truncation":"auto","max_output_tokens":16`).Usage; u.InputDetails.CachedTokens <= u.InputTokens-64 { // but what does not fill a block
		t.Errorf("again: %+v", u)
	}

	first := s.respond(`"input":[` + strings.Join(list[:12], ",") + `],"max_output_tokens":16`)
	var c struct{ Output []struct{ Type string } }
	a := s.ok("POST", "/v1/responses/compact", fmt.Sprintf(`{"model":"stories260k","previous_response_id":%q}`, first.ID), "CompactResource")
	if c = decodeAnswer[struct{ Output []struct{ Type string } }](t, a); len(c.Output) != 1 || c.Output[0].Type != "compaction" {
		t.Errorf("%s", a.body)
	}
	_, output, _ := strings.Cut(string(a.body), `"output":[`)
	output, _, _ = strings.Cut(output, `],"usage"`)
	s.respond(`"input":[` + output + `,` + userItem("And then?") + `],"max_output_tokens":16`)
	s.refused("POST", "/v1/responses", responseBody(`"input":[{"type":"compaction","encrypted_content":"AAAA"},`+userItem("x")+`]`), 400, "invalid_value", "input")
	s.refused("POST", "/v1/responses/compact", `{"model":"stories260k","input":[{"role":"system","content":"x"}]}`, 400, "invalid_value", "input")

	only := s.respond(`"input":[` + strings.Join(list[:6], ",") + `,{"type":"compaction_trigger"}]`)
	if only.Status != "completed" || len(only.Output) != 1 || only.Output[0].Type != "compaction" {
		t.Errorf("%+v", only)
	}
	next := s.respond(fmt.Sprintf(`"input":"And then?","previous_response_id":%q,"max_output_tokens":16`, only.ID))
	if next.Usage.InputDetails.CachedTokens == 0 {
		t.Errorf("the summary was not computed: %+v", next.Usage)
	}
}
