package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hearth/sessions"
	"hearth/sessions/archive"
	"hearth/sessions/database"
	"hearth/sessions/items"
)

// dataFolderWith makes a data folder with one conversation of one item.
func dataFolderWith(t *testing.T, tenant, id, text string) string {
	t.Helper()
	dir := t.TempDir()
	db, err := database.Open(t.Context(), filepath.Join(dir, databaseFile), database.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	parser := items.Parser{NewID: func(prefix string) string { return prefix + "1" }}
	quoted, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	list, err := parser.Parse("input", quoted)
	if err != nil {
		t.Fatal(err)
	}
	session := &database.Session{ID: id, Tenant: tenant, Title: "A talk", Created: time.Unix(1600000000, 0)}
	if err := db.CreateSession(t.Context(), session, sessions.Stored(list, time.Unix(1600000000, 0))); err != nil {
		t.Fatal(err)
	}
	return dir
}

// nowhere is an address at which nobody listens.
func nowhere(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(nil)
	s.Close()
	return s.URL
}

// exported reads the items of an archive.
func exported(t *testing.T, data []byte) string {
	t.Helper()
	a, err := archive.Open(bytes.NewReader(data), archive.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if _, err := a.Next(); err != io.EOF {
		t.Fatal(err)
	}
	return a.Manifest.Session.ID + " " + string(bytes.Join(rawItems(a), []byte(" ")))
}

func rawItems(a *archive.Reader) [][]byte {
	list := make([][]byte, len(a.Items))
	for i, item := range a.Items {
		list[i] = item
	}
	return list
}

// TestExportDataFolder reads a conversation where no server runs: of the tenant that is named, and into a new file only.
func TestExportDataFolder(t *testing.T) {
	dir := dataFolderWith(t, "a", "conv_1", "hello")
	out := filepath.Join(t.TempDir(), "talk.tar.zst")
	export := func(further ...string) error {
		_, err := execute(t, append([]string{"sessions", "export", "conv_1", "--force", "--out", out}, further...)...)
		return err
	}
	if err := export("--data-dir", dir, "--tenant", "a"); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if got := exported(t, data); !strings.HasPrefix(got, "conv_1 {") || !strings.Contains(got, `"hello"`) {
		t.Errorf("exported %s", got)
	}
	if err := export("--data-dir", dir, "--tenant", "b"); err == nil || !strings.Contains(err.Error(), "there is no") {
		t.Errorf("another tenant's conversation: %v", err)
	}
	if err := export("--url", nowhere(t)); err == nil || !strings.Contains(err.Error(), "no server answers") {
		t.Errorf("a server that was named and does not run: %v", err)
	}
	if err := export("--data-dir", t.TempDir()); err == nil || !strings.Contains(err.Error(), databaseFile) {
		t.Errorf("no data folder: %v", err)
	}
	if left, err := os.ReadDir(filepath.Dir(out)); err != nil || len(left) != 1 {
		t.Errorf("beside the file there are %d others, %v", len(left)-1, err)
	}
}

// TestSessionCommands runs export and import against a server that answers as a real one does.
func TestSessionCommands(t *testing.T) {
	dir := dataFolderWith(t, sessions.DefaultTenant, "conv_1", "hello")
	printed, err := execute(t, "sessions", "export", "conv_1", "--out", "-", "--data-dir", dir)
	if err != nil {
		t.Fatal(err)
	}
	whole := bytes.NewBufferString(printed)
	var asked []string
	var got []byte
	cut := false
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.String()+" "+r.Header.Get("Authorization"))
		switch {
		case strings.HasSuffix(r.URL.Path, "/conv_1/export") && cut:
			_, _ = w.Write(whole.Bytes()[:whole.Len()/2])
		case strings.HasSuffix(r.URL.Path, "/conv_1/export"):
			_, _ = w.Write(whole.Bytes())
		case r.Method == http.MethodPost:
			got, _ = io.ReadAll(r.Body)
			_, _ = io.WriteString(w, `{"object":"session.import","id":"conv_2","items":1,"tokens":5,"computed_tokens":0,"left_out":["computed: no room"]}`)
		default:
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"error":{"message":"there is no conversation with the id \"conv_9\""}}`)
		}
	}))
	defer server.Close()
	t.Setenv(apiKeyVariable, "secret")
	t.Chdir(t.TempDir())
	if out, err := execute(t, "sessions", "export", "conv_1", "--url", server.URL+"/"); err != nil || out != "conv_1.tar.zst\n" {
		t.Fatalf("export prints %q, %v", out, err)
	}
	if data, err := os.ReadFile("conv_1.tar.zst"); err != nil || !bytes.Equal(data, whole.Bytes()) {
		t.Errorf("the file has %d bytes of %d, %v", len(data), whole.Len(), err)
	}
	if out, err := execute(t, "sessions", "export", "conv_1", "--url", server.URL, "--out", "-", "--computed=false"); err != nil || out != whole.String() {
		t.Errorf("to standard output go %d bytes of %d, %v", len(out), whole.Len(), err)
	}
	if out, err := execute(t, "sessions", "import", "conv_1.tar.zst", "--url", server.URL, "--keep-id", "--model", "m"); err != nil || out != "conv_2  1 items, 5 tokens, 0 of them computed\n" || !bytes.Equal(got, whole.Bytes()) {
		t.Errorf("import prints %q, %v, and sends %d bytes", out, err, len(got))
	}
	if out, err := execute(t, "sessions", "import", "conv_1.tar.zst", "--url", server.URL, "--json"); err != nil || out != `{"id":"conv_2","items":1,"tokens":5,"computed_tokens":0,"left_out":["computed: no room"]}`+"\n" {
		t.Errorf("import --json prints %q, %v", out, err)
	}
	want := []string{
		"GET /v1/sessions/conv_1/export?computed=true Bearer secret", "GET /v1/sessions/conv_1/export?computed=false Bearer secret",
		"POST /v1/sessions/import?computed=true&keep_id=true&model=m Bearer secret", "POST /v1/sessions/import?computed=true&keep_id=false Bearer secret",
	}
	if strings.Join(asked, "\n") != strings.Join(want, "\n") {
		t.Errorf("asked %q, want %q", asked, want)
	}
	cut = true
	if err := os.WriteFile("text", []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args string
		want string
	}{
		{"export conv_1 --url " + server.URL, "--force replaces it"},
		{"export conv_1 --force --url " + server.URL, "not a whole session archive"},
		{"export conv_9 --url " + server.URL, `there is no conversation with the id "conv_9"`},
		{"export conv_1 --force --url ftp://x", "--url"},
		{"export", "accepts 1 arg"},
		{"import missing --url " + server.URL, "missing"},
		{"import text --url " + server.URL, "text: archive: not a whole session archive"},
	} {
		if _, err := execute(t, append([]string{"sessions"}, strings.Fields(c.args)...)...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.args, err, c.want)
		}
	}
	if data, err := os.ReadFile("conv_1.tar.zst"); err != nil || !bytes.Equal(data, whole.Bytes()) {
		t.Errorf("after an export that was cut the file has %d bytes of %d, %v", len(data), whole.Len(), err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := (&sessionsClient{base: server.URL}).export(ended, "conv_1", true, io.Discard); err == nil {
		t.Error("an export that was interrupted succeeds")
	}
}
