package server

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hearth/engine"
	"hearth/engine/embedded"
	"hearth/sessions"
	"hearth/sessions/archive"
	"hearth/sessions/database"
)

// talk makes a conversation with a turn of the embedded model and returns its id.
func (s *testServer) talk() string {
	s.t.Helper()
	c := decodeAnswer[conversationObject](s.t, s.ok("POST", "/v1/conversations", `{"metadata":{"a":"b"}}`, "ConversationResource"))
	s.turn(c.ID, strings.Repeat("Once upon a time there was a girl. ", 10))
	return c.ID
}

// turn adds a turn to a conversation.
func (s *testServer) turn(conversation, text string) responseAnswer {
	s.t.Helper()
	return s.respond(fmt.Sprintf(`"conversation":%q,"input":%q,"temperature":0,"max_output_tokens":16`, conversation, text))
}

func (s *testServer) importArchive(query string, data []byte) answer {
	s.t.Helper()
	req, err := http.NewRequest("POST", s.url+"/v1/sessions/import"+query, bytes.NewReader(data))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", archiveType)
	return s.send(req)
}

// TestArchiveEndpoints takes a conversation from one server to another, whose next turn goes on from what was computed.
func TestArchiveEndpoints(t *testing.T) {
	from, to := startServer(t, Options{}, engine.Options{}), startServer(t, Options{}, engine.Options{})
	for range 1000 {
		to.opts.NewID("") // ids of two servers differ
	}
	id := from.talk()
	exported := from.get("/v1/sessions/" + id + "/export")
	if exported.status != 200 || exported.header.Get("Content-Type") != archiveType || exported.header.Get("Content-Disposition") != "attachment; filename="+id+".tar.zst" {
		t.Fatalf("export = %d %v", exported.status, exported.header)
	}
	a := to.importArchive("", exported.body)
	in := decodeAnswer[importAnswer](t, a)
	if a.status != 200 || in.Object != "session.import" || !strings.HasPrefix(in.ID, "conv_") || in.Items != 2 || in.Tokens < 60 || in.ComputedTokens < 60 || len(in.LeftOut) != 0 {
		t.Fatalf("import = %d %s", a.status, a.body)
	}
	there, here := to.turn(in.ID, "And then?"), from.turn(id, "And then?")
	if there.text() != here.text() || there.Usage != here.Usage || there.Usage.InputDetails.CachedTokens < in.ComputedTokens {
		t.Errorf("the next turn says %q with %+v there, %q with %+v here", there.text(), there.Usage, here.text(), here.Usage)
	}
	if l := decodeAnswer[itemList](t, to.ok("GET", "/v1/conversations/"+in.ID+"/items", "", "ConversationItemList")); len(l.Data) != 4 {
		t.Errorf("there are %d items", len(l.Data))
	}
	plain := decodeAnswer[importAnswer](t, to.importArchive("?computed=false&keep_id=true&model="+embedded.Name, exported.body))
	if plain.ID != id || plain.Tokens != in.Tokens || plain.ComputedTokens != 0 {
		t.Errorf("without what was computed: %+v", plain)
	}
	if again := to.importArchive("?keep_id=true", exported.body); again.status != 409 {
		t.Errorf("the same id again = %d %s", again.status, again.body)
	}
	small := from.get("/v1/sessions/" + id + "/export?computed=false")
	if c, err := archive.Open(bytes.NewReader(small.body), archive.Limits{}); err != nil || c.Manifest.Computed != nil || c.Manifest.CreatedBy != "hearth test" {
		t.Errorf("exported without what was computed: %+v, %v", c, err)
	} else {
		c.Close()
	}
}

func TestArchiveErrors(t *testing.T) {
	s := startServer(t, Options{MaxImportBytes: 1 << 20}, engine.Options{})
	s.refused("GET", "/v1/sessions/conv_nowhere/export", "", 404, "not_found", "")
	s.refused("GET", "/v1/sessions/x/export?computed=maybe", "", 400, "invalid_value", "computed")
	s.refused("GET", "/v1/sessions/x/export?model=x", "", 400, "unknown_parameter", "model")
	s.refused("POST", "/v1/sessions/import", "{}", 415, "unsupported_media_type", "")
	for what, test := range map[string]struct {
		query  string
		data   []byte
		status int
		code   string
	}{
		"nothing":        {"", nil, 400, "invalid_archive"},
		"a text":         {"", []byte("hello"), 400, "invalid_archive"},
		"too much":       {"", make([]byte, 1<<20+1), 413, "request_too_large"},
		"a wrong switch": {"?keep_id=1", nil, 400, "invalid_value"},
		"an odd name":    {"?colour=red", nil, 400, "unknown_parameter"},
	} {
		a := s.importArchive(test.query, test.data)
		validate(t, "ErrorResponse", a.body)
		if e := decodeAnswer[errorBody](t, a).Error; a.status != test.status || *e.Code != test.code {
			t.Errorf("%s = %d %s, want %d %s", what, a.status, a.body, test.status, test.code)
		}
	}
}

// TestExportOfNothing says that it is a session that is not there.
func TestExportOfNothing(t *testing.T) {
	s := sharedServer(t)
	for _, path := range []string{"", "/export", "/export?computed=false"} {
		a := s.get("/v1/sessions/conv_none" + path)
		if e := decodeAnswer[errorBody](t, a).Error; a.status != 404 || !strings.Contains(e.Message, "session") || strings.Contains(e.Message, "conversation ") {
			t.Errorf("%s = %d %s", path, a.status, a.body)
		}
	}
}

// TestImportLeavesNoFile imports next to a database file, and wants nothing left beside it.
func TestImportLeavesNoFile(t *testing.T) {
	s := sharedServer(t)
	exported := s.get("/v1/sessions/" + s.talk() + "/export?computed=false").body
	folder := t.TempDir()
	db, err := database.Open(context.Background(), filepath.Join(folder, "state.db"), database.Options{Logger: s.opts.Logger})
	if err != nil {
		t.Fatal(err)
	}
	other, err := New(sessions.NewStore(s.catalog, db), Options{Logger: s.opts.Logger})
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range []string{string(exported), string(exported[:100])} {
		record(other, "POST", "/v1/sessions/import", body)
	}
	if list, _, err := db.Sessions(context.Background(), sessions.DefaultTenant, database.Page{}); err != nil || len(list) != 1 {
		t.Errorf("there are %d sessions, %v", len(list), err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range left {
		if !strings.HasPrefix(f.Name(), "state.db") {
			t.Errorf("%s is left", f.Name())
		}
	}
}
