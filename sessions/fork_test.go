package sessions

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hearth/engine"
	"hearth/engine/api"
	"hearth/engine/embedded"
	"hearth/sessions/database"
	"hearth/sessions/items"
)

// twoTurns makes a session of two turns, of which the second one's answer is drawn by the embedded model, and returns the
// log of that one.
func twoTurns(t *testing.T, s *Store) *database.Log {
	t.Helper()
	tokens := converse(t, s, "a", "conv_1")
	turn := textTurn("Tom had a red ball", 20)
	turn.Tenant, turn.IgnoreEOS = "a", true
	stream, err := s.Run(t.Context(), &turn)
	if err != nil {
		t.Fatal(err)
	}
	log := &database.Log{Model: embedded.Name, Prompt: len(tokens) + len(stream.Prompt), Tokens: append(tokens, stream.Prompt...)}
	said := ""
	for d, ok := stream.Next(); ok; d, ok = stream.Next() {
		said += d.Text
		if d.Finish != nil {
			log.Tokens = append(log.Tokens, d.Finish.Tokens...)
		}
	}
	list := []items.Item{
		{ID: "msg_in", Type: "message", Role: "user", JSON: []byte(`{"id":"msg_in","type":"message","role":"user","content":[]}`)},
		{ID: "msg_out", Type: "message", Role: "assistant", JSON: marshal(map[string]string{"id": "msg_out", "text": said})},
	}
	err = s.database.FinishTurn(t.Context(), "a", &database.TurnEnd{Session: "conv_1", Model: embedded.Name, Append: Stored(list, time.Unix(1, 0)), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// TestForkAtToken forks at every token: the fork has the exact tokens before it, and of the answer what they say.
func TestForkAtToken(t *testing.T) {
	s := openKept(t, engine.Options{})
	log := twoTurns(t, s)
	marks, err := s.database.Marks(t.Context(), "a", "conv_1")
	if err != nil || len(marks) != 2 {
		t.Fatalf("marks %v, %v", marks, err)
	}
	newID := counter()
	for token := marks[0].Tokens; token <= len(log.Tokens); token++ {
		fork := &database.Session{ID: newID("conv_fork"), Tenant: "a"}
		if err := s.Fork(t.Context(), "conv_1", Place{Token: &token}, fork, newID); err != nil {
			t.Fatal(err)
		}
		got, err := s.database.Session(t.Context(), "a", fork.ID)
		if err != nil {
			t.Fatal(err)
		}
		list, _, err := s.database.Items(t.Context(), "a", fork.ID, database.Page{})
		if err != nil {
			t.Fatal(err)
		}
		kept, err := s.database.Log(t.Context(), "a", got.Log)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case token <= log.Prompt:
			if len(list) != 2 || len(kept.Tokens) != marks[0].Tokens {
				t.Errorf("at %d, in the prompt: %d items, %d tokens", token, len(list), len(kept.Tokens))
			}
		case token == len(log.Tokens):
			if len(list) != 4 || list[3].ID != "msg_out" || got.Log != marks[1].Log {
				t.Errorf("at the end: %d items, log %d", len(list), got.Log)
			}
		default:
			text, err := s.Detokenize(embedded.Name, log.Tokens[log.Prompt:token])
			if err != nil {
				t.Fatal(err)
			}
			last := list[len(list)-1]
			if len(list) != 4 || list[2].ID != "msg_in" || last.Status != StatusIncomplete || !strings.Contains(string(last.JSON), strings.TrimSpace(text)) {
				t.Errorf("at %d: %d items, the last of them %s, want %q", token, len(list), last.JSON, text)
			}
			if !slices.Equal(kept.Tokens, log.Tokens[:token]) || kept.Prompt != log.Prompt {
				t.Errorf("at %d: log of %d tokens", token, len(kept.Tokens))
			}
		}
	}
	beyond := len(log.Tokens) + 1
	err = s.Fork(t.Context(), "conv_1", Place{Token: &beyond}, &database.Session{ID: "conv_x", Tenant: "a"}, newID)
	if wrong, ok := errors.AsType[*RangeError](err); !ok || wrong.Has != len(log.Tokens) {
		t.Errorf("behind the end: %v", err)
	}
	if err := s.Fork(t.Context(), "conv_1", Place{}, &database.Session{ID: "conv_x", Tenant: "b"}, newID); !errors.Is(err, database.ErrNotFound) {
		t.Errorf("another tenant: %v", err)
	}
}

// TestSweep lets time pass: what is pinned stays, and of the rest nothing is left, neither rows nor computed blocks.
func TestSweep(t *testing.T) {
	s := openKept(t, engine.Options{})
	now := time.Now()
	s.opts.Now = func() time.Time { return now }
	log := twoTurns(t, s)
	for _, id := range []string{"conv_2", "conv_3"} {
		if err := s.Fork(t.Context(), "conv_1", Place{}, &database.Session{ID: id, Tenant: "a", TTL: time.Hour}, counter()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Pin(t.Context(), "a", "conv_3", true); err != nil {
		t.Fatal(err)
	}
	if _, err := s.database.UpdateSession(t.Context(), "a", "conv_1", func(c *database.Session) error { c.TTL = time.Hour; return nil }); err != nil {
		t.Fatal(err)
	}
	if cached(t, s, "a", log.Tokens) == 0 {
		t.Error("nothing is computed")
	}
	now = now.Add(2 * time.Hour)
	if err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	list, _, err := s.database.Sessions(t.Context(), "a", database.Page{})
	if err != nil || len(list) != 1 || list[0].ID != "conv_3" {
		t.Errorf("left are %v, %v", list, err)
	}
	if cached(t, s, "a", log.Tokens) == 0 {
		t.Error("what the pinned session has computed is gone")
	}
	if _, err := s.Pin(t.Context(), "a", "conv_3", false); err != nil {
		t.Fatal(err)
	}
	now = now.Add(2 * time.Hour)
	if err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := cached(t, s, "a", log.Tokens); n != 0 {
		t.Errorf("%d tokens are still computed", n)
	}
	if stored, err := s.database.Stored(t.Context(), "a"); err != nil || stored != (database.Stored{}) {
		t.Errorf("stored are %+v, %v", stored, err)
	}
	if freed, err := s.database.Freed(t.Context(), embedded.Name, 10); err != nil || len(freed) != 0 {
		t.Errorf("%d logs wait to be forgotten, %v", len(freed), err)
	}
}

// TestSweepWaitsForTurns lets time pass while a turn runs that is not stored: its conversation goes when it has ended.
func TestSweepWaitsForTurns(t *testing.T) {
	s := openStoreWithDatabase(t)
	now := time.Now()
	s.opts.Now = func() time.Time { return now }
	for _, id := range []string{"conv_1", "conv_2"} {
		if err := s.database.CreateSession(t.Context(), &database.Session{ID: id, Tenant: DefaultTenant, Created: now, TTL: time.Hour}, nil); err != nil {
			t.Fatal(err)
		}
	}
	left := func() (ids []string) {
		if err := s.Sweep(t.Context()); err != nil {
			t.Error(err)
		}
		list, _, err := s.database.Sessions(t.Context(), DefaultTenant, database.Page{})
		if err != nil {
			t.Error(err)
		}
		for _, one := range list {
			ids = append(ids, one.ID)
		}
		return ids
	}
	req := responseRequestOf(t, numberedIDs(), `"Once upon a time"`)
	req.Object.Conversation, req.Object.Store = &ConversationRef{"conv_1"}, false
	now = now.Add(2 * time.Hour)
	during := sync.OnceValue(left)
	req.Observe = func(*Delta) { during() }
	run, err := s.Respond(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if _, last := readAll(t, run); last.Status != StatusCompleted && last.Status != StatusIncomplete {
		t.Errorf("the turn ended with %+v", last)
	}
	if got := during(); !slices.Equal(got, []string{"conv_1"}) {
		t.Errorf("during the turn there are %v", got)
	}
	now = now.Add(2 * time.Hour)
	if got := left(); len(got) != 0 {
		t.Errorf("after the turn there are %v", got)
	}
}

// TestUsualLifetimes goes on from a response whenever half of its time has passed: it stays. Without use it goes, and nothing of
// it is left.
func TestUsualLifetimes(t *testing.T) {
	s, newID := openStoreWithDatabase(t), numberedIDs()
	now := time.Now()
	if err := s.Configure(Options{SessionTTL: time.Hour, ResponseTTL: 2 * time.Hour, Now: func() time.Time { return now }}); err != nil {
		t.Fatal(err)
	}
	respond := func(store bool, previous *string) string {
		t.Helper()
		req := responseRequestOf(t, newID, `"Once"`)
		req.Object.Store, req.Object.PreviousResponseID, req.Object.CreatedAt, req.Turn.MaxTokens = store, previous, now.Unix(), 4
		run, err := s.Respond(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		readAll(t, run)
		return run.ID
	}
	sweep := func(after time.Duration) int64 {
		t.Helper()
		now = now.Add(after)
		if err := s.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		stored, err := s.database.Stored(t.Context(), DefaultTenant)
		if err != nil {
			t.Fatal(err)
		}
		return stored.Bytes
	}
	first := respond(true, nil)
	second := respond(true, &first)
	for range 3 {
		respond(false, &second)
		if sweep(90*time.Minute) == 0 {
			t.Fatal("a response that is gone on from is gone")
		}
	}
	if _, err := s.StoredResponse(t.Context(), DefaultTenant, first); err != nil {
		t.Errorf("what it goes on from: %v", err)
	}
	if n := sweep(2 * time.Hour); n != 0 {
		t.Errorf("%d bytes are left", n)
	}
	for name, opts := range map[string]Options{"SessionTTL": {SessionTTL: -1}, "ResponseTTL": {ResponseTTL: -1}} {
		if err := s.Configure(opts); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%+v: %v", opts, err)
		}
	}
}

// TestShredLater deletes a session where its model is not loaded: what it left on disk goes at once, or when the disk lets it,
// or when the model is there.
func TestShredLater(t *testing.T) {
	s := openKept(t, engine.Options{})
	tokens := converse(t, s, "a", "conv_1")
	away := NewStore(engine.NewCatalog(), s.database) // of a server without models
	var asked []string
	full := errors.New("disk is full")
	if err := away.Configure(Options{Logger: slog.New(slog.DiscardHandler), Forget: func(fingerprint, tenant string, forgotten []int32, keep int) error {
		asked = append(asked, fmt.Sprintln(fingerprint == s.fingerprint(embedded.Name), tenant, slices.Equal(forgotten, tokens), keep))
		return full
	}}); err != nil {
		t.Fatal(err)
	}
	command := NewStore(engine.NewCatalog(), s.database) // that knows neither models nor a disk
	if err := errors.Join(command.DeleteSession(t.Context(), "a", "conv_1"), command.Sweep(t.Context())); err != nil {
		t.Error(err)
	}
	if err := away.Sweep(t.Context()); !errors.Is(err, full) {
		t.Errorf("with a disk that is full: %v", err)
	}
	if err := away.Sweep(t.Context()); !errors.Is(err, full) {
		t.Errorf("later, with a disk that is full: %v", err)
	}
	full = nil
	if err := away.Sweep(t.Context()); err != nil {
		t.Error(err)
	}
	if err := away.Sweep(t.Context()); err != nil || len(asked) != 3 || asked[0] != "true a true 0\n" || asked[1] != asked[0] || asked[2] != asked[0] {
		t.Errorf("asked %q, %v", asked, err)
	}

	// Of tokens for which it is not known what computed them, the model is waited for.
	parser := items.Parser{NewID: counter()}
	list, err := parser.Parse("items", json.RawMessage(`"x"`))
	if err != nil {
		t.Fatal(err)
	}
	log := &database.Log{Tenant: "a", Model: embedded.Name, Tokens: tokens}
	if err := s.database.PutLog(t.Context(), log); err != nil {
		t.Fatal(err)
	}
	if err := s.database.CreateSession(t.Context(), &database.Session{ID: "conv_2", Tenant: "a", Log: log.ID}, Stored(list, time.Unix(0, 0))); err != nil {
		t.Fatal(err)
	}
	if err := away.DeleteSession(t.Context(), "a", "conv_2"); err != nil {
		t.Fatal(err)
	}
	if cached(t, s, "a", tokens) == 0 || len(asked) != 3 {
		t.Errorf("nothing is computed; asked %q", asked)
	}
	if err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := cached(t, s, "a", tokens); n != 0 {
		t.Errorf("%d tokens are still computed", n)
	}
}

func TestRewindAndEvict(t *testing.T) {
	s := openKept(t, engine.Options{})
	log := twoTurns(t, s)
	session := func() *database.Session {
		row, err := s.database.Session(t.Context(), "a", "conv_1")
		if err != nil {
			t.Fatal(err)
		}
		return row
	}
	if c, err := s.Computed(t.Context(), session()); err != nil || c == nil || c.Tokens != len(log.Tokens) {
		t.Errorf("computed: %+v, %v", c, err)
	}
	unlock, err := s.Lock("a", "conv_1")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Rewind(t.Context(), "a", "conv_1", Place{Item: "msg_in"}); !errors.Is(err, ErrLocked) {
		t.Errorf("while a turn runs: %v", err)
	}
	unlock()
	three := 3
	if err := s.Rewind(t.Context(), "a", "conv_1", Place{Items: &three}); err != nil {
		t.Fatal(err)
	}
	if row := session(); row.Items != 3 {
		t.Errorf("%d items", row.Items)
	}
	if err := s.Rewind(t.Context(), "a", "conv_1", Place{Item: "msg_out"}); !errors.Is(err, database.ErrNotFound) {
		t.Errorf("an item that is gone: %v", err)
	}
	if err := s.Evict(t.Context(), "a", "conv_1", TierDisk); !errors.Is(err, ErrNoDisk) {
		t.Errorf("without a disk: %v", err)
	}
	if err := s.Evict(t.Context(), "a", "conv_1", TierMemory); !errors.Is(err, api.ErrInvalid) {
		t.Errorf("up: %v", err)
	}
	if err := s.Evict(t.Context(), "a", "conv_1", TierNone); err != nil {
		t.Fatal(err)
	}
	if c, err := s.Computed(t.Context(), session()); err != nil || c.MemoryTokens != 0 {
		t.Errorf("after eviction: %+v, %v", c, err)
	}
}

// TestShredKeepsWhatOthersBeginWith deletes one of two sessions that said the same without knowing of each other.
func TestShredKeepsWhatOthersBeginWith(t *testing.T) {
	s := openKept(t, engine.Options{})
	tokens := converse(t, s, "a", "conv_1")
	if again := converse(t, s, "a", "conv_2"); !slices.Equal(again, tokens) {
		t.Fatal("a greedy model says something else")
	}
	for _, step := range []struct {
		id   string
		left bool
	}{{"conv_1", true}, {"conv_2", false}} {
		if err := s.DeleteSession(t.Context(), "a", step.id); err != nil {
			t.Fatal(err)
		}
		if n := cached(t, s, "a", tokens); (n > 0) != step.left {
			t.Errorf("after %s went, %d tokens are computed", step.id, n)
		}
	}
}
