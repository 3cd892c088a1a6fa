package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hearth/engine"
	"hearth/kvcache/disk"
	"hearth/server"
	"hearth/sessions"
	"hearth/sessions/database"
)

// sessionsOutput runs a command of hearth sessions and returns what it prints.
func sessionsOutput(t *testing.T, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	root := newRootCommand()
	root.SetArgs(append([]string{"sessions"}, args...))
	root.SetOut(&out)
	root.SetErr(&errs)
	if err := root.ExecuteContext(t.Context()); err != nil {
		t.Fatalf("hearth sessions %q: %v", args, err)
	}
	return out.String()
}

// sessionsError runs a command that is to fail, for a reason that says want.
func sessionsError(t *testing.T, want string, args ...string) {
	t.Helper()
	root := newRootCommand()
	root.SetArgs(append([]string{"sessions"}, args...))
	root.SetOut(&bytes.Buffer{})
	root.SetErr(&bytes.Buffer{})
	if err := root.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("hearth sessions %q: %v, want %q", args, err, want)
	}
}

// keptSession makes a data folder with one session.
func keptSession(t *testing.T) (dir string, db *database.DB) {
	t.Helper()
	dir = t.TempDir()
	db, err := database.Open(t.Context(), filepath.Join(dir, databaseFile), database.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	list := []database.Item{
		{ID: "msg_1", Type: "message", Role: "user", Text: "Where is the zebra?", JSON: []byte(`{"id":"msg_1","type":"message","role":"user","status":"completed","content":[{"type":"input_text","text":"Where is the zebra?"}]}`)},
		{ID: "msg_2", Type: "message", Role: "assistant", Text: "There.", JSON: []byte(`{"id":"msg_2","type":"message","role":"assistant","status":"incomplete","content":[{"type":"output_text","text":"There.\u001b","annotations":[],"logprobs":[]}]}`)},
	}
	if err := db.CreateSession(t.Context(), &database.Session{ID: "conv_1", Tenant: sessions.DefaultTenant, Title: "A \x1b[2J title"}, list); err != nil {
		t.Fatal(err)
	}
	return dir, db
}

// checkSessions runs the commands on the session of keptSession, wherever at says that it is.
func checkSessions(t *testing.T, at ...string) {
	run := func(args ...string) string { t.Helper(); return sessionsOutput(t, append(args, at...)...) }
	if got := run("list"); !strings.Contains(got, "conv_1") || !strings.Contains(got, `A \x1b[2J title`) || strings.Contains(got, "\x1b") {
		t.Errorf("list prints %q", got)
	}
	if got := run("show", "conv_1"); !strings.Contains(got, "user  msg_1\nWhere is the zebra?\n") || !strings.Contains(got, "assistant (incomplete)  msg_2\nThere.\\x1b\n") {
		t.Errorf("show prints %q", got)
	}
	var found struct {
		ID    string
		Match struct{ Excerpt string }
	}
	if err := json.Unmarshal([]byte(run("search", "ZEB*", "--json")), &found); err != nil || found.ID != "conv_1" || found.Match.Excerpt != "Where is the zebra?" {
		t.Errorf("found %+v, %v", found, err)
	}
	if got := run("search", "lion"); strings.Contains(got, "conv") {
		t.Errorf("search prints %q", got)
	}
	fork := strings.TrimSpace(run("fork", "conv_1", "--items", "1", "--title", "fork"))
	if got := run("show", fork); !strings.Contains(got, "forked from  conv_1 behind item 1") || strings.Contains(got, "msg_2") {
		t.Errorf("the fork is %q", got)
	}
	archive := filepath.Join(t.TempDir(), "one.tar.zst")
	run("export", fork, "--out", archive)
	moved, _, _ := strings.Cut(run("import", archive), " ")
	if got := run("show", moved); !strings.Contains(got, "Where is the zebra?") || moved == fork {
		t.Errorf("imported %q is %q", moved, got)
	}
	if got := run("rm", fork, moved); got != fork+"\n"+moved+"\n" {
		t.Errorf("rm prints %q", got)
	}
	sessionsError(t, "there is no session", append([]string{"show", fork}, at...)...)
	if got := run("list", "--json"); strings.Count(got, "\n") != 1 {
		t.Errorf("left are %q", got)
	}
}

func TestSessionsOfFolder(t *testing.T) {
	dir, _ := keptSession(t)
	checkSessions(t, "--data-dir", dir)
	if got := sessionsOutput(t, "list", "--data-dir", dir, "--tenant", "other"); strings.Contains(got, "conv") {
		t.Errorf("another tenant's list is %q", got)
	}
	empty := t.TempDir()
	sessionsError(t, "--data-dir: ", "list", "--data-dir", empty)
	sessionsError(t, "--limit: 0, want at least 1", "list", "--data-dir", dir, "-n", "0")
	sessionsError(t, "no such file", "rm", "x", "--data-dir", empty)
	if left, err := os.ReadDir(empty); err != nil || len(left) != 0 {
		t.Errorf("%v is in a folder that was to be read, %v", left, err)
	}
	copied := filepath.Join(t.TempDir(), databaseFile)
	sessionsOutput(t, "backup", copied, "--data-dir", dir)
	if got := sessionsOutput(t, "list", "--data-dir", filepath.Dir(copied)); !strings.Contains(got, "conv_1") {
		t.Errorf("the backup has %q", got)
	}
	sessionsError(t, "exists", "backup", copied, "--data-dir", dir)
}

// TestSessionsOfFolderInUse changes nothing in a folder that a server has locked, and reads it.
func TestSessionsOfFolderInUse(t *testing.T) {
	dir, _ := keptSession(t)
	archive := filepath.Join(t.TempDir(), "one.tar.zst")
	lock, err := disk.Lock(filepath.Join(dir, lockFile))
	if err != nil {
		t.Fatal(err)
	}
	at := []string{"--data-dir", dir}
	run := func(args ...string) string { t.Helper(); return sessionsOutput(t, append(args, at...)...) }
	before := run("list", "--json")
	run("export", "conv_1", "--out", archive)
	for _, args := range [][]string{{"rm", "conv_1"}, {"fork", "conv_1"}, {"import", archive}} {
		sessionsError(t, "give --url if a server uses it", append(args, at...)...)
	}
	if got := run("list", "--json"); got != before || !strings.Contains(got, "conv_1") {
		t.Errorf("left are %q, want %q", got, before)
	}
	run("show", "conv_1")
	run("search", "zebra")
	run("backup", filepath.Join(t.TempDir(), databaseFile), "--data-dir", dir)
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if got := run("rm", "conv_1"); got != "conv_1\n" {
		t.Errorf("rm prints %q", got)
	}
	if lock, err = disk.Lock(filepath.Join(dir, lockFile)); err != nil {
		t.Fatalf("the lock after a command: %v", err)
	}
	lock.Close()
}

// TestSessionsServerAnswers takes only an address where nobody listens, or somebody else, for one without a server of ours.
func TestSessionsServerAnswers(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // connections are made and nobody answers them
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"version":"1"}`) }))
	defer other.Close()
	ours := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"version":"1","go":"go1","platform":"linux/amd64"}`)
	}))
	defer ours.Close()
	for _, c := range []struct {
		name, base string
		within     time.Duration
		want       bool
		wantErr    string
	}{
		{"nobody", nowhere(t), answersWithin, false, ""},
		{"another server", other.URL, answersWithin, false, ""},
		{"ours", ours.URL, answersWithin, true, ""},
		{"a busy one", "http://" + silent.Addr().String(), 10 * time.Millisecond, false, "does not answer within 10ms"},
	} {
		got, err := (&sessionsClient{base: c.base}).answers(t.Context(), c.within)
		if got != c.want || (err == nil) != (c.wantErr == "") || err != nil && !strings.Contains(err.Error(), c.wantErr) {
			t.Errorf("%s: %v, %v, want %v, %q", c.name, got, err, c.want, c.wantErr)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (&sessionsClient{base: ours.URL}).answers(ended, answersWithin); !errors.Is(err, context.Canceled) {
		t.Errorf("asked for by nobody any more: %v, want %v", err, context.Canceled)
	}
}

func TestSessionsOfServer(t *testing.T) {
	_, db := keptSession(t)
	logger := slog.New(slog.DiscardHandler)
	s, err := server.New(sessions.NewStore(engine.NewCatalog(), db), server.Options{
		Addr: "127.0.0.1:0", Logger: logger, APIKeys: []server.APIKey{{Key: "the key of this server"}}, DrainTimeout: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := s.Listen()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, listener) }()
	defer func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	address := "http://" + listener.Addr().String()
	sessionsError(t, "key", "list", "--url", address)
	t.Setenv(apiKeyVariable, "the key of this server")
	checkSessions(t, "--url", address+"/")
	sessionsError(t, "--url", "list", "--url", "localhost")
	sessionsError(t, "--url", "list", "--url", address, "--data-dir", "x")
	sessionsError(t, "no server answers", "list", "--url", "http://127.0.0.1:1")
}
