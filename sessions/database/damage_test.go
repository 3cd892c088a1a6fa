package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestBackup(t *testing.T) {
	ctx, d := t.Context(), open(t, Options{})
	check(t, d.CreateSession(ctx, &Session{ID: "conv_1", Tenant: "a"}, messages("m", 3)))
	path := filepath.Join(t.TempDir(), "copy.db")
	check(t, d.Backup(ctx, path))
	if err := d.Backup(ctx, path); err == nil {
		t.Error("a backup over a file that is there was written")
	}
	c := openAt(t, path, Options{})
	if got := allItems(t, c, "a", "conv_1"); len(got) != 3 {
		t.Errorf("the copy has %v", got)
	}
	check(t, c.Check(ctx))
}

// file fills a database and returns its path after closing it.
func file(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state.db")
	d, err := Open(t.Context(), path, Options{})
	check(t, err)
	for i := range 20 {
		check(t, d.CreateSession(t.Context(), &Session{ID: fmt.Sprint("conv_", i), Tenant: "a"}, messages(fmt.Sprint("m", i, "_"), 10)))
	}
	check(t, d.Close())
	return path
}

// TestRefusedFiles opens files that are no database, and finds them unchanged afterwards.
func TestRefusedFiles(t *testing.T) {
	whole, err := os.ReadFile(file(t))
	check(t, err)
	newer := file(t)
	alter(t, newer, "PRAGMA user_version = 1000")
	other := filepath.Join(t.TempDir(), "other.db")
	alter(t, other, "CREATE TABLE x (y)")
	for _, c := range []struct {
		name string
		data []byte
		want error
	}{
		{"empty", nil, ErrDamaged},
		{"text", []byte(strings.Repeat("no database ", 1000)), ErrDamaged},
		{"cut", whole[:len(whole)/2], ErrDamaged},
		{"header alone", whole[:100], ErrDamaged},
		{"newer", read(t, newer), ErrForeign},
		{"another program's", read(t, other), ErrForeign},
	} {
		path := filepath.Join(t.TempDir(), "state.db")
		check(t, os.WriteFile(path, c.data, 0o600))
		d, err := Open(t.Context(), path, Options{})
		if err == nil {
			d.Close()
		}
		if !errors.Is(err, c.want) || !strings.Contains(fmt.Sprint(err), path) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if got := read(t, path); string(got) != string(c.data) {
			t.Errorf("%s: the file was changed", c.name)
		}
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	check(t, err)
	return data
}

// alter runs a statement on a file as another program would.
func alter(t *testing.T, path, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	check(t, err)
	_, err = db.Exec(statement)
	check(t, errors.Join(err, db.Close()))
}

// TestDamagedBytes overwrites bytes anywhere in the file: what is asked for then is an error or an answer, and a check that
// finds damage says which file it is.
func TestDamagedBytes(t *testing.T) {
	whole := read(t, file(t))
	random := rand.New(rand.NewPCG(1, 2))
	quiet := slog.New(slog.DiscardHandler)
	noticed := 0
	for range 25 {
		data := append([]byte(nil), whole...)
		at := random.IntN(len(data) - 16)
		for i := range 1 + random.IntN(16) {
			data[at+i] ^= byte(1 + random.IntN(255))
		}
		path := filepath.Join(t.TempDir(), "state.db")
		check(t, os.WriteFile(path, data, 0o600))
		d, err := Open(t.Context(), path, Options{Logger: quiet})
		if err != nil {
			noticed++
			continue
		}
		if err := d.Check(t.Context()); errors.Is(err, ErrDamaged) {
			noticed++
			if !strings.Contains(err.Error(), path) {
				t.Errorf("%v does not name the file", err)
			}
		}
		for i := range 20 {
			d.Items(t.Context(), "a", fmt.Sprint("conv_", i), Page{})
		}
		d.SearchSessions(t.Context(), "a", "word1", Page{})
		d.DeleteSession(t.Context(), "a", "conv_3")
		d.Close()
	}
	if noticed == 0 { // those of a text are not: SQLite has no sums of its contents
		t.Error("no damage was noticed")
	}
}

// TestFullDisk stops the file from growing: the call fails whole, and the next ones work when there is room again.
func TestFullDisk(t *testing.T) {
	ctx, d := t.Context(), open(t, Options{})
	check(t, d.CreateSession(ctx, &Session{ID: "conv_1", Tenant: "a"}, messages("a", 1)))
	var pages int
	check(t, d.writer.QueryRow("PRAGMA page_count").Scan(&pages))
	if _, err := d.writer.Exec(fmt.Sprintf("PRAGMA max_page_count = %d", pages+2)); err != nil {
		t.Fatal(err)
	}
	if err := d.AppendItems(ctx, "a", "conv_1", messages("b", 500)); !errors.Is(err, ErrFull) {
		t.Errorf("on a full disk: %v", err)
	}
	if got := allItems(t, d, "a", "conv_1"); len(got) != 1 {
		t.Errorf("%d items are there, want 1", len(got))
	}
	if _, err := d.writer.Exec("PRAGMA max_page_count = 1000000"); err != nil {
		t.Fatal(err)
	}
	check(t, d.AppendItems(ctx, "a", "conv_1", messages("b", 500)))
	check(t, d.Check(ctx))
}

// TestRemovedFile takes the file away under an open database: it says so at every write until the file is back. A connection
// that has read goes on reading meanwhile.
func TestRemovedFile(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("an open file keeps its name there")
	}
	ctx := t.Context()
	folder := filepath.Join(t.TempDir(), "data")
	path, away := filepath.Join(folder, "state.db"), folder+"-away"
	check(t, os.Mkdir(folder, 0o700))
	d := openAt(t, path, Options{})
	check(t, d.CreateSession(ctx, &Session{ID: "conv_1", Tenant: "a"}, messages("a", 1)))
	refused := func(what string) {
		t.Helper()
		err := d.AppendItems(ctx, "a", "conv_1", messages("b", 1))
		if !errors.Is(err, ErrRemoved) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", what, err)
		}
		if err := d.CreateSession(ctx, &Session{ID: "conv_2", Tenant: "a"}, nil); !errors.Is(err, ErrRemoved) {
			t.Errorf("%s: %v", what, err)
		}
		if got := allItems(t, d, "a", "conv_1"); len(got) != 1 {
			t.Errorf("%s: %d items are there, want 1", what, len(got))
		}
	}
	allItems(t, d, "a", "conv_1") // opens all that the reader needs
	check(t, os.Rename(folder, away))
	refused("moved")
	check(t, os.Mkdir(folder, 0o700))
	check(t, os.WriteFile(path, nil, 0o600))
	refused("replaced")
	check(t, errors.Join(os.RemoveAll(folder), os.Rename(away, folder)))
	check(t, d.CreateSession(ctx, &Session{ID: "conv_3", Tenant: "a"}, nil))
	err := d.write(ctx, "test", func(*sql.Tx) error { return os.RemoveAll(folder) })
	if !errors.Is(err, ErrRemoved) {
		t.Errorf("deleted in the middle of a transaction: %v", err)
	}
	refused("deleted")
	if _, err := os.Stat(folder); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder was made again: %v", err)
	}
}

// TestMigration brings a file of every older version to the newest one, and leaves a file as it was where a step fails.
func TestMigration(t *testing.T) {
	for version := range len(migrations) + 1 {
		path := filepath.Join(t.TempDir(), "state.db")
		db, err := connect(t.Context(), path, forMaking)
		check(t, err)
		check(t, errors.Join(migrate(t.Context(), db, migrations[:version]), db.Close()))
		if version == 0 {
			continue // nothing was written, and no file of ours has nothing in it
		}
		d := openAt(t, path, Options{})
		check(t, d.CreateSession(t.Context(), &Session{ID: "conv_1", Tenant: "a"}, messages("a", 1)))
		check(t, d.Check(t.Context()))
	}
	path := file(t)
	db, err := connect(t.Context(), path, forWriting)
	check(t, err)
	defer db.Close()
	failing := append(migrations[:len(migrations):len(migrations)], migration{statements: "CREATE TABLE more (x); DROP TABLE session; SELECT nothing"})
	if err := migrate(t.Context(), db, failing); err == nil || !strings.Contains(err.Error(), fmt.Sprint("version ", len(failing))) {
		t.Errorf("a step that fails: %v", err)
	}
	d := openAt(t, path, Options{})
	if got := allItems(t, d, "a", "conv_7"); len(got) != 10 {
		t.Errorf("%d items are left", len(got))
	}
}

// TestTitlesOfOlderFile finds sessions by titles that they were given before there was an index of titles.
func TestTitlesOfOlderFile(t *testing.T) {
	ctx, path := t.Context(), filepath.Join(t.TempDir(), "state.db")
	db, err := connect(ctx, path, forMaking)
	check(t, err)
	check(t, migrate(ctx, db, migrations[:5]))
	const insert = `INSERT INTO session (tenant, id, model, title, created, updated, ttl, pinned, metadata, parent, forked) VALUES (?, ?, '', ?, 0, 0, 0, 0, ?, '', 0)`
	for _, s := range [][]any{
		{"a", "conv_1", "Zebras", "{}"}, {"a", "conv_2", "", `{"title":"of zebras","x":"lions"}`}, {"a", "conv_3", "", `{"x":"zebras"}`}, {"b", "conv_4", "Zebras", "{}"},
	} {
		_, err := db.ExecContext(ctx, insert, s...)
		check(t, err)
	}
	check(t, db.Close())
	d := openAt(t, path, Options{})
	found, _, err := d.SearchSessions(ctx, "a", "zebras", Page{})
	if err != nil || len(found) != 2 || found[0].Session.ID != "conv_2" || found[0].Title != "of zebras" || found[1].Session.ID != "conv_1" {
		t.Errorf("found %+v, %v", found, err)
	}
	verifySums(t, d)
}

func TestReadOnly(t *testing.T) {
	path := file(t)
	if _, err := Open(t.Context(), path+"x", Options{ReadOnly: true}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	writing := openAt(t, path, Options{})
	d := openAt(t, path, Options{ReadOnly: true})
	if got := allItems(t, d, "a", "conv_7"); len(got) != 10 {
		t.Errorf("read %d items", len(got))
	}
	if err := d.AppendItems(t.Context(), "a", "conv_7", messages("x", 1)); err == nil || !strings.Contains(err.Error(), "reading only") {
		t.Errorf("writing: %v", err)
	}
	check(t, writing.AppendItems(t.Context(), "a", "conv_7", messages("x", 1)))
	if got := allItems(t, d, "a", "conv_7"); len(got) != 11 {
		t.Errorf("read %d items after another process wrote", len(got))
	}
}

// TestDeletedIsOverwritten looks for deleted words in the files.
func TestDeletedIsOverwritten(t *testing.T) {
	ctx, path := t.Context(), filepath.Join(t.TempDir(), "state.db")
	d := openAt(t, path, Options{})
	list := messages("m", 50)
	list[20] = message("secret", "canary xylophone")
	check(t, d.CreateSession(ctx, &Session{ID: "conv_1", Tenant: "a"}, list))
	check(t, d.CreateSession(ctx, &Session{ID: "conv_2", Tenant: "a"}, messages("n", 50)))
	if _, err := d.DeleteItem(ctx, "a", "conv_1", "secret"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, path + "-wal"} {
		if data := string(read(t, name)); strings.Contains(data, "xylophone") || strings.Contains(data, "canary") {
			t.Errorf("%s still has what was deleted", filepath.Base(name))
		}
	}
	// A reader that still sees it keeps it in the log, until Expire finds the reader gone.
	check(t, d.AppendItems(ctx, "a", "conv_2", []Item{message("secret", "canary xylophone")}))
	tx, err := d.reader.BeginTx(ctx, nil)
	check(t, err)
	var n int
	check(t, tx.QueryRow("SELECT COUNT(*) FROM item").Scan(&n))
	if _, err := d.DeleteItem(ctx, "a", "conv_2", "secret"); err != nil {
		t.Fatal(err)
	}
	check(t, tx.Rollback())
	if _, err := d.Expire(ctx, day, 10, all); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, path + "-wal"} {
		if strings.Contains(string(read(t, name)), "xylophone") {
			t.Errorf("%s still has what was deleted after Expire", filepath.Base(name))
		}
	}
}

// TestCancelled checks that a call whose context has ended changes nothing and harms no later one.
func TestCancelled(t *testing.T) {
	d := open(t, Options{})
	check(t, d.CreateSession(t.Context(), &Session{ID: "conv_1", Tenant: "a"}, nil))
	ctx, cancel := context.WithCancel(t.Context())
	changed := errors.New("changed")
	if _, err := d.UpdateSession(ctx, "a", "conv_1", func(s *Session) error { s.Title = "x"; cancel(); return nil }); err == nil {
		t.Error("a cancelled change was stored")
	}
	if err := d.AppendItems(ctx, "a", "conv_1", messages("a", 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := d.UpdateSession(t.Context(), "a", "conv_1", func(s *Session) error { return changed }); !errors.Is(err, changed) {
		t.Errorf("a change that fails: %v", err)
	}
	if s := must(d.Session(t.Context(), "a", "conv_1"))(t); s.Title != "" || s.Items != 0 {
		t.Errorf("%+v", s)
	}
}

// all claims every session.
func all(_, _ string) bool { return true }

// TestExpire checks what goes when, and that what goes is told.
func TestExpire(t *testing.T) {
	ctx, d := t.Context(), open(t, Options{Now: func() time.Time { return day }})
	for i := range 5 {
		s := &Session{ID: fmt.Sprint("conv_", i), Tenant: "a", TTL: time.Hour, Pinned: i == 3}
		if i == 4 {
			s.TTL = 0
		}
		check(t, d.CreateSession(ctx, s, nil))
		end := &TurnEnd{Session: s.ID, Model: "m", Append: messages(fmt.Sprint("m", i), 2), Log: &Log{Model: "m", Tokens: []int32{1, int32(i)}}}
		check(t, d.FinishTurn(ctx, "a", end))
	}
	check(t, d.CreateResponse(ctx, &Response{ID: "resp_1", Tenant: "a", Status: "completed", Expires: day.Add(time.Hour)}, nil))
	check(t, d.PutLog(ctx, &Log{Tenant: "a", Model: "m", Tokens: []int32{9}}))
	if e, err := d.Expire(ctx, day.Add(time.Hour-time.Second), 100, all); err != nil || e.Sessions+e.Responses+len(e.Freed) != 0 {
		t.Errorf("before the time: %+v, %v", e, err)
	}
	e, err := d.Expire(ctx, day.Add(time.Hour), 2, all)
	if err != nil || e.Sessions != 2 || e.Responses != 1 || len(e.Freed) != 2 || !e.More {
		t.Errorf("%+v, %v", e, err)
	}
	e, err = d.Expire(ctx, day.Add(time.Hour), 2, all)
	if err != nil || e.Sessions != 1 || len(e.Freed) != 1 || e.More {
		t.Errorf("the rest: %+v, %v", e, err)
	}
	if e, err := d.Expire(ctx, day.Add(logGrace), 100, all); err != nil || e.Sessions != 0 || len(e.Freed) != 1 || e.Freed[0].Tokens[0] != 9 {
		t.Errorf("a log that nothing names: %+v, %v", e, err)
	}
	if list, _, err := d.Sessions(ctx, "a", Page{}); err != nil || len(list) != 2 {
		t.Errorf("left: %v, %v", list, err)
	}
}

// TestExpireLeavesWhatIsInUse deletes what comes behind sessions that are in use, and these when they are not.
func TestExpireLeavesWhatIsInUse(t *testing.T) {
	ctx, d := t.Context(), open(t, Options{Now: func() time.Time { return day }})
	for i := range 4 {
		check(t, d.CreateSession(ctx, &Session{ID: fmt.Sprint("conv_", i), Tenant: "a", TTL: time.Hour}, nil))
	}
	free := func(_, id string) bool { return id >= "conv_2" }
	if e, err := d.Expire(ctx, day.Add(time.Hour), 1, free); err != nil || e.Sessions != 1 || !e.More {
		t.Errorf("with sessions in use: %+v, %v", e, err)
	}
	if e, err := d.Expire(ctx, day.Add(time.Hour), 2, free); err != nil || e.Sessions != 1 || e.More {
		t.Errorf("the other one that is not in use: %+v, %v", e, err)
	}
	if e, err := d.Expire(ctx, day.Add(time.Hour), 3, all); err != nil || e.Sessions != 2 || e.More {
		t.Errorf("when none is in use: %+v, %v", e, err)
	}
}

// TestExpireKeepsWhatIsNeeded lets the time of a chain of responses pass: they stay until that of the last one has passed, and
// go all at once then. Chat completions go by themselves.
func TestExpireKeepsWhatIsNeeded(t *testing.T) {
	ctx, d := t.Context(), open(t, Options{Now: func() time.Time { return day }})
	for i := range 5 {
		r := &Response{ID: fmt.Sprint("resp_", i), Tenant: "a", Status: "completed", Expires: day.Add(time.Hour)}
		if i > 0 {
			r.Previous = fmt.Sprint("resp_", i-1)
		}
		if i == 4 {
			r.Expires = day.Add(2 * time.Hour)
		}
		check(t, d.CreateResponse(ctx, r, messages(fmt.Sprint("m", i, "_"), 1)))
	}
	check(t, d.CreateResponse(ctx, &Response{ID: "resp_1", Tenant: "b", Status: "completed", Expires: day.Add(time.Hour)}, nil))
	check(t, d.CreateCompletion(ctx, &Completion{ID: "chatcmpl-1", Tenant: "a", Expires: day.Add(time.Hour)}))
	check(t, d.CreateCompletion(ctx, &Completion{ID: "chatcmpl-2", Tenant: "a"}))
	if e, err := d.Expire(ctx, day.Add(time.Hour), 3, all); err != nil || e.Responses != 1 || e.Completions != 1 || e.More {
		t.Errorf("before the time of the last: %+v, %v", e, err)
	}
	if _, items, err := d.Lineage(ctx, "a", "resp_4"); err != nil || len(items) != 5 {
		t.Errorf("the chain has %v, %v", ids(items), err)
	}
	check(t, d.RenewResponse(ctx, "a", "resp_4", day.Add(3*time.Hour)))
	check(t, d.RenewResponse(ctx, "a", "resp_4", day.Add(2*time.Hour)))
	if e, err := d.Expire(ctx, day.Add(2*time.Hour), 10, all); err != nil || e.Responses != 0 {
		t.Errorf("when the last is renewed: %+v, %v", e, err)
	}
	if e, err := d.Expire(ctx, day.Add(3*time.Hour), 3, all); err != nil || e.Responses != 3 || !e.More {
		t.Errorf("after the time of the last: %+v, %v", e, err)
	}
	if e, err := d.Expire(ctx, day.Add(3*time.Hour), 3, all); err != nil || e.Responses != 2 || e.More {
		t.Errorf("the rest: %+v, %v", e, err)
	}
	if c := must(d.Completion(ctx, "a", "chatcmpl-2"))(t); !c.Expires.IsZero() {
		t.Errorf("%+v", c)
	}
	verifySums(t, d)
}

func TestQuota(t *testing.T) {
	ctx, d := t.Context(), open(t, Options{Quota: Quota{Sessions: 2, Bytes: 2000}})
	used := func(err error) (q QuotaError) {
		if full := (*QuotaError)(nil); errors.Is(err, ErrQuota) && errors.As(err, &full) {
			q = *full
		}
		return q
	}
	check(t, d.CreateSession(ctx, &Session{ID: "conv_1", Tenant: "a"}, nil))
	check(t, d.CreateSession(ctx, &Session{ID: "conv_2", Tenant: "a"}, nil))
	if err := d.CreateSession(ctx, &Session{ID: "conv_3", Tenant: "a"}, nil); used(err) != (QuotaError{"sessions", 2, 2}) {
		t.Errorf("a third session: %v", err)
	}
	if err := d.ForkSession(ctx, "conv_1", &Session{ID: "conv_3", Tenant: "a"}, 0, nil); !errors.Is(err, ErrQuota) {
		t.Errorf("a fork: %v", err)
	}
	check(t, d.CreateSession(ctx, &Session{ID: "conv_3", Tenant: "b"}, nil))
	check(t, d.CreateResponse(ctx, &Response{ID: "resp_1", Tenant: "a", Session: "conv_1", Status: InProgress}, nil))
	check(t, d.AppendItems(ctx, "a", "conv_1", messages("m", 40)))
	if err := d.AppendItems(ctx, "a", "conv_1", messages("n", 1)); used(err) != (QuotaError{"bytes", must(d.Stored(ctx, "a"))(t).Bytes, 2000}) {
		t.Errorf("more bytes: %v", err)
	}
	if err := d.CreateResponse(ctx, &Response{ID: "resp_2", Tenant: "a", Status: InProgress}, nil); !errors.Is(err, ErrQuota) {
		t.Errorf("another response: %v", err)
	}
	// The turn that was begun ends.
	end := &TurnEnd{Response: &Response{ID: "resp_1", Status: "completed"}, Output: messages("o", 1), Session: "conv_1", Append: messages("o", 1)}
	check(t, d.FinishTurn(ctx, "a", end))
	if _, err := d.DeleteSession(ctx, "a", "conv_1"); err != nil {
		t.Fatal(err)
	}
	check(t, d.CreateSession(ctx, &Session{ID: "conv_4", Tenant: "a"}, nil))
}
