package server

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"hearth/engine"
	"hearth/sessions"
)

// itemList is a list of items as tests read it.
type itemList struct {
	Data []struct {
		ID, Type, Role, Status string
		Content                []struct{ Type, Text string }
	}
	FirstID string `json:"first_id"`
	LastID  string `json:"last_id"`
	HasMore bool   `json:"has_more"`
}

func (l *itemList) ids() []string {
	ids := []string{}
	for _, i := range l.Data {
		ids = append(ids, i.ID)
	}
	return ids
}

// ok wants a call to succeed and its answer to match a schema.
func (s *testServer) ok(method, path, body, schema string) answer {
	s.t.Helper()
	a := s.do(method, path, body)
	if a.status != http.StatusOK {
		s.t.Fatalf("%s %s %s = %d %s", method, path, body, a.status, a.body)
	}
	validate(s.t, schema, a.body)
	return a
}

// refused wants a call to fail with a status, a code and a param.
func (s *testServer) refused(method, path, body string, status int, code, param string) {
	s.t.Helper()
	a := s.do(method, path, body)
	validate(s.t, "ErrorResponse", a.body)
	e := decodeAnswer[errorBody](s.t, a).Error
	if a.status != status || e.Code == nil || *e.Code != code || (e.Param == nil) != (param == "") || e.Param != nil && *e.Param != param {
		s.t.Errorf("%s %s %s = %d %s, want %d %s about %q", method, path, body, a.status, a.body, status, code, param)
	}
}

func userItem(text string) string {
	return fmt.Sprintf(`{"role":"user","content":%q}`, text)
}

// TestConversations goes through the life of a conversation, and holds every answer against its schema.
func TestConversations(t *testing.T) {
	s := sharedServer(t)
	c := decodeAnswer[conversationObject](t, s.ok("POST", "/v1/conversations", `{"metadata":{"topic":"cats"},"items":[`+userItem("first")+`]}`, "ConversationResource"))
	if !strings.HasPrefix(c.ID, "conv_") || c.Object != "conversation" || string(c.Metadata) != `{"topic":"cats"}` || c.CreatedAt != 1700000000 {
		t.Errorf("created %+v", c)
	}
	path := "/v1/conversations/" + c.ID
	if got := decodeAnswer[conversationObject](t, s.ok("GET", path, "", "ConversationResource")); fmt.Sprint(got) != fmt.Sprint(c) {
		t.Errorf("got %+v, want %+v", got, c)
	}
	for body, want := range map[string]string{`{"metadata":{"a":"b"}}`: `{"a":"b"}`, `{"metadata":null}`: `{}`, `{"metadata":{}}`: `{}`} {
		if got := decodeAnswer[conversationObject](t, s.ok("POST", path, body, "ConversationResource")); string(got.Metadata) != want {
			t.Errorf("updated with %s: %s", body, got.Metadata)
		}
	}

	added := decodeAnswer[itemList](t, s.ok("POST", path+"/items?include[]=message.output_text.logprobs", `{"items":[
		{"role":"assistant","content":"second"},
		{"type":"function_call","call_id":"call_1","name":"f","arguments":"{}"},
		{"type":"function_call_output","call_id":"call_1","output":"42"}]}`, "ConversationItemList"))
	if len(added.Data) != 3 || added.HasMore || added.FirstID != added.Data[0].ID || added.LastID != added.Data[2].ID || added.Data[0].Content[0].Text != "second" {
		t.Errorf("added %+v", added)
	}
	newest := decodeAnswer[itemList](t, s.ok("GET", path+"/items", "", "ConversationItemList"))
	oldest := decodeAnswer[itemList](t, s.ok("GET", path+"/items?order=asc&include=message.output_text.logprobs&include=reasoning.encrypted_content", "", "ConversationItemList"))
	ids := oldest.ids()
	slices.Reverse(ids)
	if len(ids) != 4 || !slices.Equal(ids, newest.ids()) || oldest.Data[0].Content[0].Text != "first" || newest.HasMore {
		t.Errorf("newest first %v, oldest first %v", newest.ids(), oldest.ids())
	}
	first := decodeAnswer[itemList](t, s.ok("GET", path+"/items?limit=3&order=asc", "", "ConversationItemList"))
	rest := decodeAnswer[itemList](t, s.ok("GET", path+"/items?limit=3&order=asc&after="+first.LastID, "", "ConversationItemList"))
	if !first.HasMore || rest.HasMore || !slices.Equal(append(first.ids(), rest.ids()...), oldest.ids()) {
		t.Errorf("in two parts: %v and %v", first, rest)
	}

	item := "/items/" + added.Data[1].ID
	if a := s.ok("GET", path+item, "", "ConversationItem"); !strings.Contains(string(a.body), `"arguments":"{}"`) {
		t.Errorf("item %s", a.body)
	}
	if got := decodeAnswer[conversationObject](t, s.ok("DELETE", path+item, "", "ConversationResource")); got.ID != c.ID {
		t.Errorf("deleting an item answers %+v", got)
	}
	s.refused("GET", path+item, "", 404, "not_found", "")
	s.refused("DELETE", path+item, "", 404, "not_found", "")
	if left := decodeAnswer[itemList](t, s.ok("GET", path+"/items", "", "ConversationItemList")); len(left.Data) != 3 {
		t.Errorf("left are %v", left.ids())
	}

	a := s.ok("DELETE", path, "", "DeletedConversationResource")
	if got := decodeAnswer[deletedObject](t, a); got != (deletedObject{c.ID, "conversation.deleted", true}) {
		t.Errorf("deleted %+v", got)
	}
	for _, gone := range []struct{ method, path, body string }{
		{"GET", path, ""}, {"POST", path, `{"metadata":{}}`}, {"DELETE", path, ""}, {"GET", path + "/items", ""}, {"POST", path + "/items", `{"items":[` + userItem("x") + `]}`},
		{"GET", path + "/items/" + added.Data[0].ID, ""}, {"DELETE", path + "/items/" + added.Data[0].ID, ""},
	} {
		s.refused(gone.method, gone.path, gone.body, 404, "not_found", "")
	}
}

// TestEmptyConversation wants a conversation without anything, also without a body, and an empty list of its items.
func TestEmptyConversation(t *testing.T) {
	s := sharedServer(t)
	for _, body := range []string{"", "{}", `{"items":null,"metadata":null}`, `{"items":[]}`} {
		c := decodeAnswer[conversationObject](t, s.ok("POST", "/v1/conversations", body, "ConversationResource"))
		if string(c.Metadata) != "{}" {
			t.Errorf("%q: metadata %s", body, c.Metadata)
		}
		l := decodeAnswer[itemList](t, s.ok("GET", "/v1/conversations/"+c.ID+"/items", "", "ConversationItemList"))
		if len(l.Data) != 0 || l.HasMore || l.FirstID != "" {
			t.Errorf("%q: items %+v", body, l)
		}
	}
}

// TestItemReferences copies items of one conversation to another by their ids.
func TestItemReferences(t *testing.T) {
	s := sharedServer(t)
	one := decodeAnswer[conversationObject](t, s.post("/v1/conversations", `{"items":[`+userItem("original")+`]}`))
	item := decodeAnswer[itemList](t, s.get("/v1/conversations/"+one.ID+"/items")).FirstID
	two := decodeAnswer[conversationObject](t, s.ok("POST", "/v1/conversations", `{"items":[{"type":"item_reference","id":"`+item+`"}]}`, "ConversationResource"))
	if l := decodeAnswer[itemList](t, s.get("/v1/conversations/"+two.ID+"/items")); len(l.Data) != 1 || l.Data[0].Content[0].Text != "original" || l.FirstID != item {
		t.Errorf("the copy has %+v", l)
	}
	s.refused("POST", "/v1/conversations/"+one.ID+"/items", `{"items":[{"id":"`+item+`"}]}`, 409, "already_exists", "")
	s.refused("POST", "/v1/conversations/"+one.ID+"/items", `{"items":[{"id":"msg_nowhere"}]}`, 400, "invalid_value", "items[0].id")
}

func TestConversationErrors(t *testing.T) {
	s := sharedServer(t)
	c := decodeAnswer[conversationObject](t, s.post("/v1/conversations", "{}"))
	path := "/v1/conversations/" + c.ID
	many := strings.TrimSuffix(strings.Repeat(userItem("x")+",", 21), ",")
	for _, e := range []struct {
		method, path, body string
		code, param        string
	}{
		{"POST", "/v1/conversations", `[]`, "invalid_type", ""},
		{"POST", "/v1/conversations", `{"colour":"red"}`, "unknown_parameter", "colour"},
		{"POST", "/v1/conversations", `{"items":"hi"}`, "invalid_type", "items"},
		{"POST", "/v1/conversations", `{"items":[` + many + `]}`, "invalid_value", "items"},
		{"POST", "/v1/conversations", `{"items":[{"role":"alien","content":"x"}]}`, "invalid_value", "items[0].role"},
		{"POST", "/v1/conversations", `{"items":[{"type":"compaction_trigger"}]}`, "unsupported_parameter", "items[0].type"},
		{"POST", "/v1/conversations", `{"metadata":{"a":1}}`, "invalid_type", "metadata.a"},
		{"POST", "/v1/conversations", `{"metadata":{"a":"` + strings.Repeat("x", 513) + `"}}`, "invalid_value", "metadata.a"},
		{"POST", path, `{}`, "missing_required_parameter", "metadata"},
		{"POST", path, `{"items":[]}`, "unknown_parameter", "items"},
		{"POST", path + "/items", `{}`, "missing_required_parameter", "items"},
		{"POST", path + "/items", `{"items":[]}`, "invalid_value", "items"},
		{"POST", path + "/items?include=x", `{"items":[` + userItem("x") + `]}`, "invalid_value", "include"},
		{"POST", path + "/items?limit=1", `{"items":[` + userItem("x") + `]}`, "unknown_parameter", "limit"},
		{"GET", path + "/items?limit=0", ``, "invalid_value", "limit"},
		{"GET", path + "/items?limit=101", ``, "invalid_value", "limit"},
		{"GET", path + "/items?limit=many", ``, "invalid_type", "limit"},
		{"GET", path + "/items?limit=1&limit=2", ``, "invalid_value", "limit"},
		{"GET", path + "/items?limit[]=1", ``, "unknown_parameter", "limit[]"},
		{"GET", path + "/items?order=up", ``, "invalid_value", "order"},
		{"GET", path + "/items?after=msg_nowhere", ``, "invalid_value", "after"},
		{"GET", path + "/items?colour=red", ``, "unknown_parameter", "colour"},
		{"GET", path + "/items?a=%zz", ``, "invalid_value", ""},
		{"GET", path + "/items?order=%ff", ``, "invalid_value", "order"},
	} {
		s.refused(e.method, e.path, e.body, 400, e.code, e.param)
	}
}

// TestConversationLock wants a conversation that a turn is using to be left alone.
func TestConversationLock(t *testing.T) {
	s := sharedServer(t)
	c := decodeAnswer[conversationObject](t, s.post("/v1/conversations", `{"items":[`+userItem("x")+`]}`))
	path := "/v1/conversations/" + c.ID
	item := decodeAnswer[itemList](t, s.get(path+"/items")).FirstID
	unlock, err := s.store.Lock(sessions.DefaultTenant, c.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	s.refused("POST", path+"/items", `{"items":[`+userItem("x")+`]}`, 409, "conversation_locked", "")
	s.refused("DELETE", path+"/items/"+item, "", 409, "conversation_locked", "")
	s.refused("DELETE", path, "", 409, "conversation_locked", "")
	s.ok("GET", path, "", "ConversationResource")
	unlock()
	s.ok("DELETE", path, "", "DeletedConversationResource")
}

// TestTenantsConversations wants a tenant to find nothing of another one's.
func TestTenantsConversations(t *testing.T) {
	s := startServer(t, Options{APIKeys: []APIKey{{Tenant: "a", Key: "key-a"}, {Tenant: "b", Key: "key-b"}}}, engine.Options{})
	as := func(key, method, path, body string) answer {
		req, err := http.NewRequest(method, s.url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+key)
		return s.send(req)
	}
	c := decodeAnswer[conversationObject](t, as("key-a", "POST", "/v1/conversations", `{"items":[`+userItem("secret")+`]}`))
	path := "/v1/conversations/" + c.ID
	item := decodeAnswer[itemList](t, as("key-a", "GET", path+"/items", "")).FirstID
	for _, r := range []struct {
		method, path, body string
		status             int
	}{
		{"GET", path, "", 404}, {"DELETE", path, "", 404}, {"POST", path, `{"metadata":{}}`, 404}, {"GET", path + "/items", "", 404},
		{"POST", path + "/items", `{"items":[` + userItem("x") + `]}`, 404}, {"GET", path + "/items/" + item, "", 404}, {"DELETE", path + "/items/" + item, "", 404},
		{"POST", "/v1/conversations", `{"items":[{"type":"item_reference","id":"` + item + `"}]}`, 400},
	} {
		if a := as("key-b", r.method, r.path, r.body); a.status != r.status || strings.Contains(string(a.body), "secret") {
			t.Errorf("%s %s of another tenant = %d %s", r.method, r.path, a.status, a.body)
		}
	}
	if l := decodeAnswer[itemList](t, as("key-a", "GET", path+"/items", "")); len(l.Data) != 1 {
		t.Errorf("its own tenant finds %+v", l)
	}
}

// record asks a server that does not listen.
func record(s *Server, method, path, body string) answer {
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest(method, "http://localhost"+path, strings.NewReader(body)))
	return answer{w.Code, w.Header(), w.Body.Bytes()}
}

// TestNothingStored wants a server without a database to say so.
func TestNothingStored(t *testing.T) {
	s := sharedServer(t)
	bare, err := New(sessions.NewStore(s.catalog, nil), Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []struct{ method, path string }{
		{"POST", "/v1/conversations"}, {"GET", "/v1/chat/completions"}, {"GET", "/v1/chat/completions/chatcmpl-1"}, {"GET", "/v1/conversations/conv_1"}, {"DELETE", "/v1/conversations/conv_1"}, {"GET", "/v1/conversations/conv_1/items"},
	} {
		a := record(bare, r.method, r.path, "")
		validate(t, "ErrorResponse", a.body)
		if a.status != 404 || !strings.Contains(string(a.body), "stores nothing") {
			t.Errorf("%s %s = %d %s", r.method, r.path, a.status, a.body)
		}
	}
}
