package database

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// day is when the tests' clock starts.
var day = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// open opens a database in a new folder whose clock goes on by a second with each look at it.
func open(t *testing.T, opts Options) *DB {
	t.Helper()
	return openAt(t, filepath.Join(t.TempDir(), "state.db"), opts)
}

func openAt(t *testing.T, path string, opts Options) *DB {
	t.Helper()
	if opts.Now == nil {
		now := day
		opts.Now = func() time.Time { now = now.Add(time.Second); return now }
	}
	d, err := Open(t.Context(), path, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// message is a user's message.
func message(id, text string) Item {
	return Item{
		ID: id, Type: "message", Role: "user", Status: "completed", Text: text,
		JSON: json.RawMessage(fmt.Sprintf(`{"id":%q,"type":"message","content":%q}`, id, text)),
	}
}

// messages are n messages with ids that begin with prefix.
func messages(prefix string, n int) []Item {
	list := make([]Item, n)
	for i := range list {
		list[i] = message(fmt.Sprintf("%s%d", prefix, i), fmt.Sprintf("word%d of %s", i, prefix))
	}
	return list
}

func ids(items []Item) []string {
	list := make([]string, len(items))
	for i := range items {
		list[i] = items[i].ID
	}
	return list
}

// must returns what a call returned with an error that the test takes apart.
func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		check(t, err)
		return v
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func allItems(t *testing.T, d *DB, tenant, session string) []string {
	t.Helper()
	items, _, err := d.Items(t.Context(), tenant, session, Page{Limit: All})
	check(t, err)
	return ids(items)
}

func TestSessionLife(t *testing.T) {
	for _, path := range []string{Memory, filepath.Join(t.TempDir(), "a b?#%é.db")} {
		t.Run(filepath.Base(path), func(t *testing.T) {
			ctx, d := t.Context(), openAt(t, path, Options{})
			s := &Session{ID: "conv_1", Tenant: "a", Metadata: json.RawMessage(`{"k":"v"}`), TTL: time.Hour}
			check(t, d.CreateSession(ctx, s, messages("msg_", 3)))
			if err := d.CreateSession(ctx, s, nil); !errors.Is(err, ErrExists) {
				t.Errorf("creating it again: %v", err)
			}
			check(t, d.AppendItems(ctx, "a", "conv_1", messages("more_", 2)))
			if err := d.AppendItems(ctx, "a", "conv_1", messages("msg_", 1)); !errors.Is(err, ErrExists) {
				t.Errorf("an id that is there: %v", err)
			}
			got := must(d.Session(ctx, "a", "conv_1"))(t)
			if got.Items != 5 || got.Bytes == 0 || string(got.Metadata) != `{"k":"v"}` || got.Expires.Sub(got.Updated) != time.Hour {
				t.Errorf("got %+v", got)
			}
			if want := []string{"msg_0", "msg_1", "msg_2", "more_0", "more_1"}; !slices.Equal(allItems(t, d, "a", "conv_1"), want) {
				t.Errorf("items %v, want %v", allItems(t, d, "a", "conv_1"), want)
			}
			check(t, d.ForkSession(ctx, "conv_1", &Session{ID: "conv_2", Tenant: "a"}, 4, nil))
			_, err := d.RewindSession(ctx, "a", "conv_1", 1)
			check(t, err)
			if got, want := allItems(t, d, "a", "conv_2"), []string{"msg_0", "msg_1", "msg_2", "more_0"}; !slices.Equal(got, want) {
				t.Errorf("the fork has %v, want %v", got, want)
			}
			if _, err := d.Session(ctx, "b", "conv_1"); !errors.Is(err, ErrNotFound) {
				t.Errorf("another tenant: %v", err)
			}
			for _, id := range []string{"conv_1", "conv_2"} {
				_, err := d.DeleteSession(ctx, "a", id)
				check(t, err)
			}
			if got := must(d.Stored(ctx, "a"))(t); got != (Stored{}) {
				t.Errorf("after deleting everything the tenant has %+v", got)
			}
			check(t, d.Check(ctx))
		})
	}
}

func TestFileMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	d := openAt(t, path, Options{})
	check(t, d.CreateSession(context.Background(), &Session{ID: "conv_1", Tenant: "a"}, nil))
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		info, err := os.Stat(name)
		check(t, err)
		if os.PathSeparator == '/' && info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %o", name, info.Mode().Perm())
		}
	}
}

func TestTurn(t *testing.T) {
	ctx, d := t.Context(), open(t, Options{})
	check(t, d.CreateSession(ctx, &Session{ID: "conv_1", Tenant: "a"}, messages("old_", 2)))
	check(t, d.CreateResponse(ctx, &Response{ID: "resp_1", Tenant: "a", Session: "conv_1", Status: InProgress}, messages("in_", 1)))
	check(t, d.AppendEvents(ctx, "a", "resp_1", []Event{{0, json.RawMessage(`{"a":1}`)}, {1, json.RawMessage(`{}`)}}))
	end := &TurnEnd{
		Response: &Response{ID: "resp_1", Status: "completed", Completed: day, Object: json.RawMessage(`{"x":1}`)},
		Output:   messages("out_", 1), Events: []Event{{2, json.RawMessage(`{}`)}},
		Session: "conv_1", Model: "m", Append: append(messages("in_", 1), messages("out_", 1)...),
		Log: &Log{Model: "m", Tokens: []int32{1, 2, 3}}, Usage: &Usage{Model: "m", Requests: 1, PromptTokens: 2},
	}
	check(t, d.FinishTurn(ctx, "a", end))
	if err := d.FinishTurn(ctx, "a", end); !errors.Is(err, ErrFinished) {
		t.Errorf("finishing again: %v", err)
	}
	if got, want := allItems(t, d, "a", "conv_1"), []string{"old_0", "old_1", "in_0", "out_0"}; !slices.Equal(got, want) {
		t.Errorf("the session has %v, want %v", got, want)
	}
	s, r := must(d.Session(ctx, "a", "conv_1"))(t), must(d.Response(ctx, "a", "resp_1"))(t)
	if s.Log == 0 || s.Log != r.Log || s.Model != "m" || r.Session != "conv_1" {
		t.Errorf("session %+v, response %+v", s, r)
	}
	if log := must(d.Log(ctx, "a", s.Log))(t); !slices.Equal(log.Tokens, []int32{1, 2, 3}) {
		t.Errorf("log %+v", log)
	}
	if events := must(d.Events(ctx, "a", "resp_1", 0, 10))(t); len(events) != 2 || events[1].Sequence != 2 {
		t.Errorf("events %v", events)
	}
	check(t, d.CreateResponse(ctx, &Response{ID: "resp_2", Tenant: "a", Previous: "resp_1", Status: Queued}, messages("next_", 1)))
	if _, items, err := d.Lineage(ctx, "a", "resp_2"); err != nil || !slices.Equal(ids(items), []string{"in_0", "out_0", "next_0"}) {
		t.Errorf("lineage %v, %v", ids(items), err)
	}
	if list := must(d.Unfinished(ctx))(t); len(list) != 1 || list[0].ID != "resp_2" {
		t.Errorf("unfinished %v", list)
	}
	if list := must(d.UsageOf(ctx, "a", "2026-03-04", "2026-03-04"))(t); len(list) != 1 || list[0].PromptTokens != 2 {
		t.Errorf("usage %v", list)
	}
	freed, err := d.DeleteSession(ctx, "a", "conv_1")
	if err != nil || len(freed) != 1 || !slices.Equal(freed[0].Tokens, []int32{1, 2, 3}) || freed[0].Keep != 0 {
		t.Errorf("freed %v, %v", freed, err)
	}
	check(t, d.Check(ctx))
}

func TestCompletions(t *testing.T) {
	ctx, d := t.Context(), open(t, Options{})
	for i := range 5 {
		check(t, d.CreateCompletion(ctx, &Completion{
			ID: fmt.Sprint("chatcmpl-", i), Tenant: "a", Model: "m", Metadata: json.RawMessage(fmt.Sprintf(`{"odd":"%d"}`, i%2)),
			Object: json.RawMessage(`{}`), Messages: []json.RawMessage{json.RawMessage(`{"role":"user"}`)},
		}))
	}
	list, more, err := d.Completions(ctx, "a", CompletionFilter{Model: "m", Metadata: map[string]string{"odd": "0"}}, Page{Limit: 2})
	if err != nil || !more || len(list) != 2 || list[1].ID != "chatcmpl-2" || len(list[1].Messages) != 1 {
		t.Errorf("%v %v %v", list, more, err)
	}
	c, err := d.UpdateCompletion(ctx, "a", "chatcmpl-1", json.RawMessage(`{"new":"x"}`))
	if err != nil || string(c.Metadata) != `{"new":"x"}` {
		t.Errorf("%v %v", c, err)
	}
	check(t, d.DeleteCompletion(ctx, "a", "chatcmpl-1"))
	if err := d.DeleteCompletion(ctx, "a", "chatcmpl-1"); !errors.Is(err, ErrNotFound) {
		t.Errorf("deleting again: %v", err)
	}
}
