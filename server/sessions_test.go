package server

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"hearth/engine"
	"hearth/sessions"
	"hearth/sessions/database"
)

// session calls a path of the sessions and returns the session that it answers with.
func (s *testServer) session(method, path, body string) sessionState {
	s.t.Helper()
	a := s.do(method, "/v1/sessions"+path, body)
	if a.status != http.StatusOK {
		s.t.Fatalf("%s /v1/sessions%s %s = %d %s", method, path, body, a.status, a.body)
	}
	return decodeAnswer[sessionState](s.t, a)
}

// sessionIDs calls a path that lists sessions.
func (s *testServer) sessionIDs(path string) (ids []string, more bool) {
	s.t.Helper()
	a := s.get("/v1/sessions" + path)
	if a.status != http.StatusOK {
		s.t.Fatalf("GET /v1/sessions%s = %d %s", path, a.status, a.body)
	}
	list := decodeAnswer[listObject[foundSession]](s.t, a)
	for _, o := range list.Data {
		ids = append(ids, o.ID)
	}
	return ids, list.HasMore
}

// TestSessions goes through the life of a session.
func TestSessions(t *testing.T) {
	s := startServer(t, Options{}, engine.Options{})
	made := s.session("POST", "", `{"title":"Story","ttl":3600,"metadata":{"a":"b"},"items":[`+userItem("A zebra came by.")+`]}`)
	if !strings.HasPrefix(made.ID, "conv_") || made.Object != "session" || made.Title != "Story" || made.TTL != 3600 || *made.ExpiresAt-made.UpdatedAt != 3600 ||
		made.Items != 1 || made.Bytes == 0 || string(made.Metadata) != `{"a":"b"}` || made.Model != nil || made.Parent != nil || made.Computed != nil || made.Pinned {
		t.Errorf("made %+v", made)
	}
	s.turn(made.ID, strings.Repeat("Once upon a time there was a girl. ", 10))
	got := s.session("GET", "/"+made.ID, "")
	if got.Items != 3 || got.Model == nil || got.Computed == nil || got.Computed.Tokens < 20 || got.Computed.Memory.Tokens == 0 || got.Computed.Memory.Bytes == 0 {
		t.Errorf("after a turn %+v with %+v", got, got.Computed)
	}
	changed := s.session("POST", "/"+made.ID, `{"title":"Lily","ttl":0}`)
	if changed.Title != "Lily" || changed.ExpiresAt != nil || string(changed.Metadata) != `{"a":"b"}` {
		t.Errorf("changed %+v", changed)
	}
	empty := s.session("POST", "", "")
	if ids, more := s.sessionIDs("?limit=1"); len(ids) != 1 || ids[0] != empty.ID || !more {
		t.Errorf("newest first %v, %v", ids, more)
	}
	if ids, more := s.sessionIDs("?after=" + empty.ID); len(ids) != 1 || ids[0] != made.ID || more {
		t.Errorf("the next %v, %v", ids, more)
	}
	found := decodeAnswer[listObject[foundSession]](t, s.get("/v1/sessions/search?q=ZEBRA"))
	if len(found.Data) != 1 || found.Data[0].ID != made.ID || found.Data[0].Match.Excerpt != "A zebra came by." || found.Data[0].Match.Type != "item" || *found.Data[0].Match.ItemID == "" {
		t.Errorf("found %+v", found)
	}
	found = decodeAnswer[listObject[foundSession]](t, s.get("/v1/sessions/search?q=lily"))
	if len(found.Data) != 1 || found.Data[0].ID != made.ID || found.Data[0].Match != (matchObject{Type: "title", Excerpt: "Lily"}) {
		t.Errorf("found %+v", found)
	}
	fork := s.session("POST", "/"+made.ID+"/fork", `{"items":1,"title":"Other"}`)
	if fork.Items != 1 || fork.Title != "Other" || *fork.Parent != (sessionParent{made.ID, 1}) || fork.Computed != nil {
		t.Errorf("fork %+v", fork)
	}
	if whole := s.session("POST", "/"+made.ID+"/fork", ""); whole.Items != 3 || whole.Computed == nil || whole.Computed.Memory.Tokens != got.Computed.Memory.Tokens {
		t.Errorf("whole fork %+v", whole)
	}
	if cut := s.session("POST", "/"+made.ID+"/fork", fmt.Sprintf(`{"token":%d}`, got.Computed.Tokens-3)); cut.Items != 3 || cut.Computed.Tokens != got.Computed.Tokens-3 {
		t.Errorf("cut fork %+v with %+v", cut, cut.Computed)
	}
	if pinned := s.session("POST", "/"+made.ID+"/pin", ""); !pinned.Pinned {
		t.Error("not pinned")
	}
	if pinned := s.session("POST", "/"+made.ID+"/pin", `{"pinned":false}`); pinned.Pinned {
		t.Error("still pinned")
	}
	if gone := s.session("POST", "/"+fork.ID+"/evict", `{"tier":"none"}`); gone.Computed != nil {
		t.Errorf("evicted %+v", gone)
	}
	list := decodeAnswer[itemList](t, s.get("/v1/sessions/"+made.ID+"/items?order=asc"))
	if back := s.session("POST", "/"+made.ID+"/rewind", fmt.Sprintf(`{"item":%q}`, list.FirstID)); back.Items != 1 || back.Computed != nil {
		t.Errorf("rewound %+v", back)
	}
	if d := decodeAnswer[deletedObject](t, s.do("DELETE", "/v1/sessions/"+made.ID, "")); !d.Deleted || d.ID != made.ID {
		t.Errorf("deleted %+v", d)
	}
	s.refused("GET", "/v1/conversations/"+made.ID, "", 404, "not_found", "")
}

func TestSessionErrors(t *testing.T) {
	s := startServer(t, Options{}, engine.Options{})
	id := s.talk()
	path := "/v1/sessions/" + id
	for _, method := range []string{"", "/fork", "/rewind", "/pin", "/evict"} {
		body := map[string]string{"": `{}`, "/rewind": `{"items":0}`}[method]
		s.refused("POST", "/v1/sessions/conv_x"+method, body, 404, "not_found", "")
	}
	s.refused("GET", "/v1/sessions/conv_x", "", 404, "not_found", "")
	s.refused("DELETE", "/v1/sessions/conv_x", "", 404, "not_found", "")
	s.refused("POST", "/v1/sessions", `{"model":"x"}`, 400, "unknown_parameter", "model")
	s.refused("POST", "/v1/sessions", `{"ttl":-1}`, 400, "invalid_value", "ttl")
	s.refused("POST", "/v1/sessions", `{"title":"`+strings.Repeat("x", 513)+`"}`, 400, "invalid_value", "title")
	s.refused("POST", path+"/fork", `{"items":100}`, 400, "invalid_value", "items")
	s.refused("POST", path+"/fork", `{"token":100000}`, 400, "invalid_value", "token")
	s.refused("POST", path+"/fork", `{"item":"msg_x"}`, 400, "invalid_value", "item")
	s.refused("POST", path+"/fork", `{"item":"msg_x","items":1}`, 400, "invalid_value", "items")
	s.refused("POST", path+"/rewind", `{}`, 400, "missing_required_parameter", "items")
	s.refused("POST", path+"/rewind", `{"token":1}`, 400, "unknown_parameter", "token")
	s.refused("POST", path+"/evict", `{"tier":"memory"}`, 400, "invalid_value", "tier")
	s.refused("POST", path+"/evict", `{"tier":"disk"}`, 409, "no_disk_cache", "")
	s.refused("GET", "/v1/sessions?after=conv_x", "", 400, "invalid_value", "after")
	s.refused("GET", "/v1/sessions/search", "", 400, "missing_required_parameter", "q")
	s.refused("GET", "/v1/sessions/search?q=%22%22", "", 400, "invalid_value", "q")
	s.refused("GET", "/v1/sessions/search?q=x&order=asc", "", 400, "unknown_parameter", "order")
	s.refused("POST", s.session("POST", "", "").path()+"/fork", `{"token":0}`, 400, "invalid_value", "token")
}

func (o sessionObject) path() string { return "/v1/sessions/" + o.ID }

// TestSessionsOfTenants looks for one tenant's sessions with the other's key, and stores as much as one may.
func TestSessionsOfTenants(t *testing.T) {
	keys := []APIKey{{Tenant: "a", Key: "key of tenant a"}, {Tenant: "b", Key: "key of tenant b"}}
	s := startServer(t, Options{APIKeys: keys}, engine.Options{})
	call := func(key, method, path, body string) answer {
		req, err := http.NewRequest(method, s.url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+key)
		return s.send(req)
	}
	made := decodeAnswer[sessionState](t, call(keys[0].Key, "POST", "/v1/sessions", `{"items":[`+userItem("a secret zebra")+`]}`))
	if a := call(keys[0].Key, "GET", made.path(), ""); a.status != 200 {
		t.Errorf("its own = %d %s", a.status, a.body)
	}
	for _, c := range [][3]string{
		{"GET", made.path()}, {"DELETE", made.path()}, {"POST", made.path(), `{"title":"x"}`}, {"POST", made.path() + "/fork", `{}`}, {"GET", made.path() + "/items"},
		{"POST", made.path() + "/rewind", `{"items":0}`}, {"POST", made.path() + "/pin", `{}`}, {"POST", made.path() + "/evict", `{"tier":"none"}`}, {"GET", made.path() + "/export"},
	} {
		if a := call(keys[1].Key, c[0], c[1], c[2]); a.status != 404 {
			t.Errorf("another's: %s %s = %d %s", c[0], c[1], a.status, a.body)
		}
	}
	for _, path := range []string{"/v1/sessions", "/v1/sessions/search?q=zebra"} {
		if a := call(keys[1].Key, "GET", path, ""); a.status != 200 || len(decodeAnswer[listObject[sessionObject]](t, a).Data) != 0 {
			t.Errorf("another's: GET %s = %d %s", path, a.status, a.body)
		}
	}
}

// TestUsualLifetimes makes what can be made in every way on a server where nothing is kept for ever unless its maker says it.
func TestUsualLifetimes(t *testing.T) {
	shared := sharedServer(t)
	exported := string(shared.get("/v1/sessions/" + shared.talk() + "/export?computed=false").body)
	now := func() time.Time { return time.Unix(1700000000, 0) }
	db, err := database.Open(t.Context(), database.Memory, database.Options{Now: now, Logger: shared.opts.Logger})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	store := sessions.NewStore(shared.catalog, db)
	if err := store.Configure(sessions.Options{SessionTTL: time.Hour, ResponseTTL: 30 * 24 * time.Hour, Logger: shared.opts.Logger, Now: now}); err != nil {
		t.Fatal(err)
	}
	s, err := New(store, Options{Logger: shared.opts.Logger, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	s.Ready()
	create := func(path, body string) string {
		t.Helper()
		a := record(s, "POST", path, body)
		if a.status != http.StatusOK {
			t.Fatalf("%s = %d %s", path, a.status, a.body)
		}
		return decodeAnswer[struct{ ID string }](t, a).ID
	}
	made := create("/v1/sessions", "")
	for what, test := range map[string]struct {
		id  string
		ttl int64
	}{
		"a session":               {made, 3600},
		"one with a time":         {create("/v1/sessions", `{"ttl":60}`), 60},
		"one that is kept":        {create("/v1/sessions", `{"ttl":0}`), 0},
		"a conversation":          {create("/v1/conversations", "{}"), 3600},
		"a fork":                  {create("/v1/sessions/"+made+"/fork", ""), 3600},
		"a fork that is kept":     {create("/v1/sessions/"+made+"/fork", `{"ttl":0}`), 0},
		"a fork of one with time": {create("/v1/sessions/"+create("/v1/sessions", `{"ttl":60}`)+"/fork", ""), 60},
		"what came from a server": {create("/v1/sessions/import", exported), 0}, // where it is kept for ever
	} {
		o := decodeAnswer[sessionObject](t, record(s, "GET", "/v1/sessions/"+test.id, ""))
		if o.TTL != test.ttl || (o.ExpiresAt == nil) != (test.ttl == 0) || o.ExpiresAt != nil && *o.ExpiresAt != o.UpdatedAt+test.ttl {
			t.Errorf("%s is kept for %d s, until %v", what, o.TTL, o.ExpiresAt)
		}
	}
	month := now().Add(30 * 24 * time.Hour)
	c, err := db.Completion(t.Context(), sessions.DefaultTenant, create("/v1/chat/completions", chatBody(`"max_tokens":1,"store":true`)))
	if err != nil || !c.Expires.Equal(month) {
		t.Errorf("a completion is kept until %+v, %v", c, err)
	}
	for conversation, want := range map[string]time.Time{"": month, `,"conversation":"` + made + `"`: {}} {
		id := create("/v1/responses", `{"model":"stories260k","input":"Once","max_output_tokens":16`+conversation+`}`)
		if r, err := db.Response(t.Context(), sessions.DefaultTenant, id); err != nil || !r.Expires.Equal(want) {
			t.Errorf("a response with %q is kept until %v, %v, want %v", conversation, r.Expires, err, want)
		}
	}
}
