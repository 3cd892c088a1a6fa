package server

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"testing"

	"hearth/engine"
	"hearth/engine/embedded"
	"hearth/sessions"
	"hearth/sessions/database"
)

// idList is a list of which only the order matters.
type idList struct {
	Data    []struct{ ID string }
	FirstID string `json:"first_id"`
	LastID  string `json:"last_id"`
	HasMore bool   `json:"has_more"`
}

func (l *idList) ids() []string {
	ids := []string{}
	for _, e := range l.Data {
		ids = append(ids, e.ID)
	}
	return ids
}

// TestStoredCompletions keeps chat completions, streamed and not, and goes through all that can be done with them.
func TestStoredCompletions(t *testing.T) {
	s := startServer(t, Options{}, engine.Options{})
	whole := s.ok("POST", "/v1/chat/completions", chatBody(`"max_tokens":4,"store":true,"metadata":{"topic":"a<b"},"logprobs":true`), "CreateChatCompletionResponse")
	first := decodeAnswer[chatCompletion](t, s.post("/v1/chat/completions", chatBody(`"max_tokens":4`))) // is not kept
	s.refused("GET", "/v1/chat/completions/"+first.ID, "", 404, "not_found", "")
	id := decodeAnswer[struct{ ID string }](t, whole).ID
	if kept := s.ok("GET", "/v1/chat/completions/"+id, "", "CreateChatCompletionResponse"); !sameJSON(t, kept.body, whole.body) {
		t.Errorf("kept is %s\nsent was %s", kept.body, whole.body)
	}

	chunks := chatChunks(t, s.post("/v1/chat/completions", chatBody(`"max_tokens":4,"store":true,"n":2,"stream":true,"metadata":{"topic":"b"}`)))
	streamed := decodeAnswer[chatCompletion](t, s.ok("GET", "/v1/chat/completions/"+chunks[0].ID, "", "CreateChatCompletionResponse"))
	text := decodeAnswer[chatCompletion](t, whole).Choices[0].Message.Content
	if len(streamed.Choices) != 2 || streamed.Choices[1].Message.Content != text || streamed.Choices[1].FinishReason != "length" || streamed.Usage.CompletionTokens != 8 {
		t.Errorf("the streamed completion is kept as %+v", streamed)
	}

	listed := func(query string) []string {
		t.Helper()
		l := decodeAnswer[idList](t, s.ok("GET", "/v1/chat/completions"+query, "", "ChatCompletionList"))
		return l.ids()
	}
	for query, want := range map[string][]string{
		"":                               {id, streamed.ID},
		"?order=desc":                    {streamed.ID, id},
		"?limit=1":                       {id},
		"?limit=1&order=desc":            {streamed.ID},
		"?after=" + id:                   {streamed.ID},
		"?model=" + embedded.Name:        {id, streamed.ID},
		"?model=other":                   {},
		"?metadata[topic]=b":             {streamed.ID},
		"?metadata%5Btopic%5D=a%3Cb":     {id},
		"?metadata[topic]=b&metadata[x]": {},
	} {
		if got := listed(query); !slices.Equal(got, want) {
			t.Errorf("list %s has %v, want %v", query, got, want)
		}
	}

	updated := s.ok("POST", "/v1/chat/completions/"+id, `{"metadata":{"topic":"c"}}`, "CreateChatCompletionResponse")
	if want := strings.Replace(string(whole.body), "a<b", "c", 1); !sameJSON(t, updated.body, []byte(want)) {
		t.Errorf("updated is %s, want %s", updated.body, want)
	}
	if got := listed("?metadata[topic]=c"); !slices.Equal(got, []string{id}) {
		t.Errorf("with the new metadata there are %v", got)
	}
	a := s.ok("DELETE", "/v1/chat/completions/"+id, "", "ChatCompletionDeleted")
	if got := decodeAnswer[deletedObject](t, a); got != (deletedObject{id, "chat.completion.deleted", true}) {
		t.Errorf("deleted %+v", got)
	}
	for _, r := range []struct{ method, path, body string }{{"GET", "", ""}, {"DELETE", "", ""}, {"POST", "", `{"metadata":{}}`}, {"GET", "/messages", ""}} {
		s.refused(r.method, "/v1/chat/completions/"+id+r.path, r.body, 404, "not_found", "")
	}
}

// TestKeptWhenFinished wants a streamed completion to be kept before its client hears that it is complete.
func TestKeptWhenFinished(t *testing.T) {
	s := sharedServer(t)
	finished := 0
	s.watch("/v1/chat/completions", chatBody(`"max_tokens":1,"store":true,"n":2,"stream":true`), func(written string) {
		text, ok := strings.CutPrefix(written, "data: {")
		if !ok || !strings.Contains(text, `"finish_reason":"length"`) {
			return
		}
		finished++
		id := decodeAnswer[struct{ ID string }](t, answer{body: []byte("{" + text)}).ID
		if _, err := s.store.Database().Completion(t.Context(), "default", id); (err == nil) != (finished == 2) {
			t.Errorf("after %d choices: %v", finished, err)
		}
	})
	if finished != 2 {
		t.Errorf("%d choices finished", finished)
	}
}

// sameJSON compares values, whatever the order of their members.
func sameJSON(t *testing.T, a, b []byte) bool {
	t.Helper()
	var x, y any
	if err := json.Unmarshal(a, &x); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &y); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(x) == fmt.Sprint(y)
}

// TestStoredMessages reads the messages of a kept completion in their order, in parts and in turn.
func TestStoredMessages(t *testing.T) {
	s := sharedServer(t)
	body := fmt.Sprintf(`{"model":%q,"temperature":0,"max_tokens":1,"store":true,"messages":[
		{"role":"system","content":"be brief","name":"boss"},
		{"role":"user","content":[{"type":"text","text":"Once "},{"type":"text","text":"upon"}]},
		{"role":"assistant","content":null,"reasoning_content":"hm","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]},
		{"role":"tool","tool_call_id":"c","content":"42"}]}`, embedded.Name)
	id := decodeAnswer[chatCompletion](t, s.ok("POST", "/v1/chat/completions", body, "CreateChatCompletionResponse")).ID
	path := "/v1/chat/completions/" + id + "/messages"
	a := s.get(path)
	// The schema knows the assistant's role alone, which its own example does not keep to.
	asAssistant := string(a.body)
	for _, role := range []string{"system", "user", "tool"} {
		asAssistant = strings.ReplaceAll(asAssistant, `"role":"`+role+`"`, `"role":"assistant"`)
	}
	validate(t, "ChatCompletionMessageList", []byte(asAssistant))
	want := fmt.Sprintf(`{"object":"list","first_id":"%[1]s-0","last_id":"%[1]s-3","has_more":false,"data":[
		{"id":"%[1]s-0","role":"system","content":"be brief","content_parts":null,"refusal":null,"name":"boss"},
		{"id":"%[1]s-1","role":"user","content":"Once upon","content_parts":[{"type":"text","text":"Once "},{"type":"text","text":"upon"}],"refusal":null},
		{"id":"%[1]s-2","role":"assistant","content":null,"content_parts":null,"refusal":null,"reasoning_content":"hm","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]},
		{"id":"%[1]s-3","role":"tool","content":"42","content_parts":null,"refusal":null,"tool_call_id":"c"}]}`, id)
	if !sameJSON(t, a.body, []byte(want)) {
		t.Errorf("messages are %s\nwant %s", a.body, want)
	}
	for query, want := range map[string]string{
		"?limit=2": "0 1 more", "?limit=2&after=" + id + "-1": "2 3", "?order=desc&limit=3": "3 2 1 more", "?order=desc&after=" + id + "-1": "0", "?after=" + id + "-3": "",
	} {
		l := decodeAnswer[idList](t, s.get(path+query))
		got := strings.ReplaceAll(strings.Join(l.ids(), " "), id+"-", "")
		if l.HasMore {
			got += " more"
		}
		if got != want {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
	for query, param := range map[string]string{"?after=nothing": "after", "?limit=0": "limit", "?metadata[a]=b": "metadata[a]"} {
		code := "invalid_value"
		if param == "metadata[a]" {
			code = "unknown_parameter"
		}
		s.refused("GET", path+query, "", 400, code, param)
	}
	s.refused("GET", "/v1/chat/completions?metadata=x", "", 400, "unknown_parameter", "metadata")
	s.refused("GET", "/v1/chat/completions?after="+url.QueryEscape("no such"), "", 400, "invalid_value", "after")
}

// TestStoreQuota wants a completion that could not be kept to be refused before it is computed.
func TestStoreQuota(t *testing.T) {
	s := sharedServer(t)
	db, err := database.Open(context.Background(), database.Memory, database.Options{Quota: database.Quota{Bytes: 1}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, test := range []struct {
		db     *database.DB
		body   string
		status int
		says   string
	}{
		{nil, chatBody(`"max_tokens":1,"store":true`), 400, "this server stores nothing"},
		{nil, chatBody(`"max_tokens":1,"store":false`), 200, ""},
		{db, chatBody(`"max_tokens":1,"store":true`), 200, ""},
		{db, chatBody(`"max_tokens":1,"store":true`), 429, "insufficient_quota"},
		{db, chatBody(`"max_tokens":1,"store":true,"stream":true`), 429, "insufficient_quota"},
		{db, chatBody(`"max_tokens":1`), 200, ""},
	} {
		small, err := New(sessions.NewStore(s.catalog, test.db), Options{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		small.Ready()
		if a := record(small, "POST", "/v1/chat/completions", test.body); a.status != test.status || !strings.Contains(string(a.body), test.says) {
			t.Errorf("%s = %d %s, want %d and %q", test.body, a.status, a.body, test.status, test.says)
		}
	}
}
