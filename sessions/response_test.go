package sessions

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hearth/cmd/sharedtest"
	"hearth/engine"
	"hearth/engine/api"
	"hearth/engine/embedded"
	"hearth/sessions/database"
	"hearth/sessions/items"
)

// responseRequestOf asks the embedded model to go on from items. A test whose events could not be checked is skipped here,
// before a response runs that would outlive it.
func responseRequestOf(t testing.TB, newID func(string) string, raw string) *ResponseRequest {
	t.Helper()
	sharedtest.Root(t)
	object := newTestWriter(false).object
	object.ID, object.Model, object.Store = newID("resp_"), embedded.Name, true
	list, err := (&items.Parser{NewID: newID}).Parse("input", json.RawMessage(raw))
	if err != nil {
		t.Fatal(err)
	}
	return &ResponseRequest{
		Turn: Turn{Model: embedded.Name, Tenant: DefaultTenant, MaxTokens: 16, Logprobs: -1}, Object: object, Input: list, Events: true,
		Tools:   func([]items.Item) (json.RawMessage, []string, error) { return nil, nil, nil },
		Timeout: time.Hour, Logger: slog.New(slog.DiscardHandler), NewID: newID, Now: time.Now, Observe: func(*Delta) {},
		Explain: func(err error) ResponseError { return ResponseError{"server_error", err.Error()} },
	}
}

// readAll reads the events of a response to its end, and returns the last one's response.
func readAll(t testing.TB, events EventReader) (kinds []string, last ResponseObject) {
	t.Helper()
	for next := 0; ; {
		list, err := events.Events(t.Context(), next)
		if err != nil {
			t.Fatal(err)
		}
		if len(list) == 0 {
			return kinds, last
		}
		for _, e := range list {
			if e.Sequence != next {
				t.Errorf("event %d comes after %d", e.Sequence, next-1)
			}
			next = e.Sequence + 1
			sharedtest.Validate(t, "ResponseStreamEvent", e.JSON)
			var event struct {
				Type     string
				Response *ResponseObject
			}
			if err := json.Unmarshal(e.JSON, &event); err != nil {
				t.Fatal(err)
			}
			kinds = append(kinds, event.Type)
			if event.Response != nil {
				last = *event.Response
			}
		}
	}
}

// TestContextManagement goes on and on in a conversation: where it has become long, the response begins with a summary of
// what was before, and the turns after it go on from that.
func TestContextManagement(t *testing.T) {
	s, newID := openStoreWithDatabase(t), numberedIDs()
	const conversation = "conv_1"
	if err := s.database.CreateSession(t.Context(), &database.Session{ID: conversation, Tenant: DefaultTenant}, nil); err != nil {
		t.Fatal(err)
	}
	summaries, longest := 0, 0
	for turn := range 12 {
		req := responseRequestOf(t, newID, fmt.Sprintf("%q", fmt.Sprintf("What did Lily do on day %d?", turn)))
		req.Object.Conversation, req.CompactAt = &ConversationRef{conversation}, 100
		run, err := s.Respond(t.Context(), req)
		if err != nil {
			t.Fatalf("turn %d: %v", turn, err)
		}
		_, last := readAll(t, run)
		if err := run.Close(); err != nil || last.Status != StatusIncomplete && last.Status != StatusCompleted {
			t.Fatalf("turn %d: %v, %+v", turn, err, last)
		}
		if strings.Contains(string(last.Output[0]), `"type":"compaction"`) {
			if summaries++; len(last.Output) < 2 {
				t.Errorf("turn %d has a summary and no answer: %s", turn, last.Output)
			}
		} else {
			longest = max(longest, last.Usage.InputTokens)
		}
	}
	if summaries == 0 || longest >= 100 {
		t.Errorf("%d summaries; the longest prompt without one has %d tokens", summaries, longest)
	}
}

// TestRecover ends a process in the middle of a response in the background: after the restart the response has failed, and
// its events can be replayed to the end.
func TestRecover(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	open := func() *database.DB {
		db, err := database.Open(t.Context(), path, database.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return db
	}
	w := newTestWriter(true)
	w.begin()
	w.started()
	w.delta(&Delta{Text: "Once"})
	db := open()
	row := &database.Response{ID: w.object.ID, Tenant: "a", Model: "m", Status: w.object.Status, Background: true, Created: w.now(), Object: marshal(w.object)}
	if err := db.CreateResponse(t.Context(), row, nil); err != nil {
		t.Fatal(err)
	}
	if err := db.AppendEvents(t.Context(), "a", row.ID, w.take()); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}

	db = open()
	defer db.Close()
	s := NewStore(nil, db)
	for range 2 {
		if err := s.Recover(t.Context()); err != nil {
			t.Fatal(err)
		}
		raw, err := s.StoredResponse(t.Context(), "a", row.ID)
		if err != nil || !strings.Contains(string(raw), `"status":"failed"`) || !strings.Contains(string(raw), "the server stopped") {
			t.Fatalf("%s, %v", raw, err)
		}
		sharedtest.Validate(t, "Response", raw)
		events, err := s.ResponseEvents(t.Context(), "a", row.ID)
		if err != nil {
			t.Fatal(err)
		}
		kinds, last := readAll(t, events)
		if kinds[len(kinds)-1] != "response.failed" || len(kinds) != 7 || last.Status != StatusFailed {
			t.Errorf("%s, %+v", kinds, last)
		}
	}
	if _, err := s.StoredResponse(t.Context(), "b", row.ID); !errors.Is(err, database.ErrNotFound) {
		t.Errorf("another tenant: %v", err)
	}
}

// TestBrokenDatabase takes the database away while a response runs: the response fails, and says so.
func TestBrokenDatabase(t *testing.T) {
	for _, background := range []bool{false, true} {
		s := openStoreWithDatabase(t)
		req := responseRequestOf(t, numberedIDs(), `"Once upon a time"`)
		req.Object.Background, req.Turn.MaxTokens = background, 64
		seen := 0
		req.Observe = func(*Delta) {
			if seen++; seen == 3 {
				s.database.Close()
			}
		}
		run, err := s.Respond(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		_, last := readAll(t, run)
		if err := run.Close(); err == nil || last.Status != StatusFailed || last.Error == nil {
			t.Errorf("background %v: %v, %+v", background, err, last)
		}
	}
}

// TestBrokenForAWhile takes the database away while a response runs, and gives it back before the end: what has happened is
// then stored as readers have seen it.
func TestBrokenForAWhile(t *testing.T) {
	s, path := openStore(t, engine.Options{}), filepath.Join(t.TempDir(), "state.db")
	open := func() {
		db, err := database.Open(context.WithoutCancel(t.Context()), path, database.Options{})
		if err != nil {
			t.Error(err)
		}
		s.database = db
	}
	open()
	req := responseRequestOf(t, numberedIDs(), `"Once upon a time"`)
	req.Object.Background, req.Turn.MaxTokens, req.Turn.IgnoreEOS = true, 64, true
	started, seen := make(chan *ResponseRun, 1), 0
	req.Observe = func(d *Delta) {
		switch seen++; {
		case seen == 3:
			s.database.Close()
		case seen == 4:
			<-(<-started).ctx.Done() // the events of the last delta could not be stored
		}
		if d.Finish != nil {
			open()
		}
	}
	run, err := s.Respond(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	started <- run
	kinds, last := readAll(t, run)
	if err := run.Close(); err == nil || last.Status != StatusFailed {
		t.Errorf("%v, %+v", err, last)
	}
	events, err := s.ResponseEvents(t.Context(), DefaultTenant, run.ID)
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := readAll(t, events); !slices.Equal(again, kinds) {
		t.Errorf("the events were %s\nand are %s", kinds, again)
	}
	if err := s.database.Close(); err != nil {
		t.Error(err)
	}
}

// TestEndIsStoredLater takes the database away while a response runs, for all but reading: the response has failed at once, for
// who asks, and when the database can be written again and is swept also there.
func TestEndIsStoredLater(t *testing.T) {
	for _, background := range []bool{false, true} {
		s, path := openStore(t, engine.Options{}), filepath.Join(t.TempDir(), "state.db")
		db, err := database.Open(t.Context(), path, database.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		s.database = db
		req := responseRequestOf(t, numberedIDs(), `"Once upon a time"`)
		req.Object.Background, req.Turn.MaxTokens = background, 64
		refuse := sync.OnceFunc(func() {
			alter(t, path, `CREATE TRIGGER refuse BEFORE UPDATE ON response BEGIN SELECT RAISE(FAIL, 'no'); END`)
		})
		req.Observe = func(*Delta) { refuse() }
		run, err := s.Respond(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		kinds, last := readAll(t, run)
		if run.Close() == nil || last.Status != StatusFailed {
			t.Errorf("background %v: the last event says %s", background, last.Status)
		}
		stored := func(ended bool) {
			t.Helper()
			row, err := s.database.Response(t.Context(), DefaultTenant, run.ID)
			if err != nil || (row.Status == StatusFailed) != ended {
				t.Errorf("background %v: the database says %s, %v", background, row.Status, err)
			}
			raw, err := s.StoredResponse(t.Context(), DefaultTenant, run.ID)
			if err != nil || !strings.Contains(string(raw), `"status":"failed"`) {
				t.Errorf("background %v: %s, %v", background, raw, err)
			}
			sharedtest.Validate(t, "Response", raw)
			if !background {
				return
			}
			events, err := s.ResponseEvents(t.Context(), DefaultTenant, run.ID)
			if err != nil {
				t.Fatal(err)
			}
			if again, last := readAll(t, events); !slices.Equal(again, kinds) || last.Status != StatusFailed {
				t.Errorf("the events were %s\nand are %s, %s", kinds, again, last.Status)
			}
		}
		stored(false)
		if err := s.Sweep(t.Context()); err == nil {
			t.Error("what cannot be stored is no error")
		}
		stored(false)
		alter(t, path, `DROP TRIGGER refuse`)
		if err := s.Sweep(t.Context()); err != nil {
			t.Error(err)
		}
		stored(true)
		if left := s.unended.all(); len(left) != 0 {
			t.Errorf("%d ends are left", len(left))
		}
	}
}

// TestDeletedBeforeEndIsStored deletes a response, and a conversation with one, whose end could not be stored: nothing that was
// computed of them is left, and the ledger has them.
func TestDeletedBeforeEndIsStored(t *testing.T) {
	for _, conversation := range []string{"", "conv_1"} {
		s, path := openStore(t, engine.Options{}), filepath.Join(t.TempDir(), "state.db")
		db, err := database.Open(t.Context(), path, database.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		s.database = db
		req := responseRequestOf(t, numberedIDs(), fmt.Sprintf("%q", strings.Repeat("Once upon a time. ", 24)))
		if conversation != "" {
			if err := db.CreateSession(t.Context(), &database.Session{ID: conversation, Tenant: DefaultTenant}, nil); err != nil {
				t.Fatal(err)
			}
			req.Object.Conversation = &ConversationRef{conversation}
		}
		refuse := sync.OnceFunc(func() {
			alter(t, path, `CREATE TRIGGER refuse BEFORE UPDATE ON response BEGIN SELECT RAISE(FAIL, 'no'); END`)
		})
		req.Observe = func(*Delta) { refuse() }
		run, err := s.Respond(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		readAll(t, run)
		if run.Close() == nil {
			t.Error("the end could be stored")
		}
		tokens, err := s.PromptTokens(&run.plan.turn)
		if err != nil {
			t.Fatal(err)
		}
		if n := cached(t, s, DefaultTenant, tokens); n == 0 {
			t.Errorf("nothing of %d tokens is computed", len(tokens))
		}
		remove := func() error {
			if conversation != "" {
				return s.DeleteSession(t.Context(), DefaultTenant, conversation)
			}
			return s.DeleteResponse(t.Context(), DefaultTenant, run.ID)
		}
		if err := remove(); err == nil {
			t.Error("deleted without what was computed")
		}
		alter(t, path, `DROP TRIGGER refuse`)
		if err := remove(); err != nil {
			t.Error(err)
		}
		if n := cached(t, s, DefaultTenant, tokens); n != 0 {
			t.Errorf("%d of %d tokens are still computed", n, len(tokens))
		}
		usage, err := db.UsageOf(t.Context(), DefaultTenant, "0000", "9999")
		if err != nil || len(usage) != 1 || usage[0].Requests != 1 || usage[0].PromptTokens != int64(len(tokens)) {
			t.Errorf("the ledger has %+v, %v", usage, err)
		}
	}
}

// alter runs a statement on a database as another process would.
func alter(t *testing.T, path, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite", path+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(statement); err != nil {
		t.Error(err)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

// TestRefusedEnd lets the database refuse what a response leaves behind: the response is stored as failed.
func TestRefusedEnd(t *testing.T) {
	s, newID := openStoreWithDatabase(t), numberedIDs()
	const conversation = "conv_1"
	if err := s.database.CreateSession(t.Context(), &database.Session{ID: conversation, Tenant: DefaultTenant}, nil); err != nil {
		t.Fatal(err)
	}
	req := responseRequestOf(t, newID, `"Once upon a time"`)
	req.Object.Conversation = &ConversationRef{conversation}
	first := sync.OnceFunc(func() { // an item of the same id comes first
		if err := s.database.AppendItems(context.WithoutCancel(t.Context()), DefaultTenant, conversation, Stored(req.Input, time.Now())); err != nil {
			t.Error(err)
		}
	})
	req.Observe = func(*Delta) { first() }
	run, err := s.Respond(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if _, last := readAll(t, run); last.Status != StatusFailed {
		t.Errorf("the last event says %+v", last)
	}
	if err := run.Close(); !errors.Is(err, database.ErrExists) {
		t.Errorf("ended with %v", err)
	}
	raw, err := s.StoredResponse(t.Context(), DefaultTenant, run.ID)
	if err != nil || !strings.Contains(string(raw), `"status":"failed"`) {
		t.Errorf("%s, %v", raw, err)
	}
}

// TestPanics ends a turn, and the beginning of one, with a panic: the conversation is free afterwards, and the store closes.
func TestPanics(t *testing.T) {
	s, newID := openStoreWithDatabase(t), numberedIDs()
	const conversation = "conv_1"
	if err := s.database.CreateSession(t.Context(), &database.Session{ID: conversation, Tenant: DefaultTenant}, nil); err != nil {
		t.Fatal(err)
	}
	request := func() *ResponseRequest {
		req := responseRequestOf(t, newID, `"Once upon a time"`)
		req.Object.Conversation = &ConversationRef{conversation}
		return req
	}
	req := request()
	req.Tools = func([]items.Item) (json.RawMessage, []string, error) { panic("no tools") }
	func() {
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
		}()
		_, _ = s.Respond(t.Context(), req)
	}()
	req = request()
	req.Observe = func(*Delta) { panic("no meter") }
	run, err := s.Respond(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	_, last := readAll(t, run)
	if err := run.Close(); !errors.Is(err, api.ErrInternal) || last.Status != StatusFailed {
		t.Errorf("%v, %+v", err, last)
	}
	unlock, err := s.Lock(DefaultTenant, conversation)
	if err != nil {
		t.Fatal(err)
	}
	unlock()
	s.Close(t.Context())
}

// TestDateStays goes on the day after: the template's clock says what it said in the first turn, in a fork too.
func TestDateStays(t *testing.T) {
	s, newID := openStoreWithDatabase(t), numberedIDs()
	const conversation = "conv_1"
	if err := s.database.CreateSession(t.Context(), &database.Session{ID: conversation, Tenant: DefaultTenant}, nil); err != nil {
		t.Fatal(err)
	}
	day := time.Unix(1_700_000_000, 0)
	memory := &ResponseMemory{}
	first := func(change func(*ResponseRequest)) string {
		req := responseRequestOf(t, newID, `"Once upon a time"`)
		req.Object.CreatedAt = day.Unix()
		change(req)
		run, err := s.Respond(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		if !run.plan.turn.Now.Equal(day) {
			t.Errorf("the first turn's clock says %v", run.plan.turn.Now)
		}
		readAll(t, run)
		return run.ID
	}
	stored := first(func(*ResponseRequest) {})
	kept := first(func(req *ResponseRequest) { req.Object.Store, req.Memory = false, memory })
	first(func(req *ResponseRequest) { req.Object.Conversation = &ConversationRef{conversation} })
	fork := &database.Session{ID: "conv_2", Tenant: DefaultTenant}
	if err := s.Fork(t.Context(), conversation, Place{}, fork, newID); err != nil {
		t.Fatal(err)
	}
	for name, from := range map[string]func(*ResponseObject){
		"response": func(o *ResponseObject) { o.PreviousResponseID = &stored }, "memory": func(o *ResponseObject) { o.PreviousResponseID = &kept },
		"conversation": func(o *ResponseObject) { o.Conversation = &ConversationRef{conversation} },
		"fork":         func(o *ResponseObject) { o.Conversation = &ConversationRef{fork.ID} },
	} {
		req := responseRequestOf(t, newID, `"And then?"`)
		req.Object.CreatedAt, req.Memory = day.Add(24*time.Hour).Unix(), memory
		from(&req.Object)
		p, err := s.plan(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		if p.turn.Now != day {
			t.Errorf("%s: the clock says %v, said %v", name, p.turn.Now, day)
		}
	}
}

// TestClose ends a store whose time is over: responses in the background fail, and further ones are refused.
func TestClose(t *testing.T) {
	inBubble(t, engine.Options{}, func(t *testing.T, s *Store) {
		newID := numberedIDs()
		req := responseRequestOf(t, newID, `"Once upon a time"`)
		req.Object.Background, req.Turn.MaxTokens, req.Turn.IgnoreEOS = true, 0, true
		run, err := s.Respond(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		over, cancel := context.WithTimeout(t.Context(), 10*stepTime)
		defer cancel()
		s.Close(over)
		if _, err := s.Respond(t.Context(), responseRequestOf(t, newID, `"x"`)); !errors.Is(err, api.ErrClosed) {
			t.Errorf("afterwards: %v", err)
		}
		if _, last := readAll(t, run); last.Status != StatusFailed || len(last.Output) == 0 {
			t.Errorf("the response ended as %+v, want it failed with what there was", last)
		}
	})
}

// TestDeletedWhileRunning deletes a response in the middle of its answer: nothing that was computed of it is left.
func TestDeletedWhileRunning(t *testing.T) {
	inBubble(t, engine.Options{}, func(t *testing.T, s *Store) {
		req := responseRequestOf(t, numberedIDs(), fmt.Sprintf("%q", strings.Repeat("Once upon a time. ", 24)))
		req.Object.Background, req.Turn.MaxTokens, req.Turn.IgnoreEOS = true, 0, true
		run, err := s.Respond(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * stepTime)
		tokens, err := s.PromptTokens(&run.plan.turn)
		if err != nil {
			t.Fatal(err)
		}
		if n := cached(t, s, DefaultTenant, tokens); n == 0 {
			t.Errorf("nothing of %d tokens is computed", len(tokens))
		}
		if err := s.DeleteResponse(t.Context(), DefaultTenant, run.ID); err != nil {
			t.Fatal(err)
		}
		if n := cached(t, s, DefaultTenant, tokens); n != 0 {
			t.Errorf("%d of %d tokens are still computed", n, len(tokens))
		}
		if _, last := readAll(t, run); last.Status != StatusCancelled {
			t.Errorf("it was not deleted in the middle: %+v", last)
		}
	})
}

// TestSealedInput sends back reasoning of which only the sealed content was kept.
func TestSealedInput(t *testing.T) {
	s := openStoreWithDatabase(t)
	sealed := s.seal(reasoning, "a", []byte("Lily likes dogs."))
	list := parseItems(t, fmt.Sprintf(`[{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":%q},{"role":"assistant","content":"A dog."},{"role":"user","content":"Why?"}]`, sealed))
	req := &ResponseRequest{Turn: Turn{Tenant: "a"}}
	messages, err := s.messages(req, list)
	if err != nil || !strings.Contains(string(messages[0]), "Lily likes dogs.") || strings.Contains(string(list[0].JSON), "Lily") {
		t.Errorf("%s, %v, of %s", messages, err, list[0].JSON)
	}
	var refused *items.Error
	req.Turn.Tenant = "b"
	if _, err := s.messages(req, list); !errors.As(err, &refused) {
		t.Errorf("another tenant: %v", err)
	}
}

// TestResponseMemory fills a memory beyond its bounds.
func TestResponseMemory(t *testing.T) {
	var m ResponseMemory
	for i := range maxRemembered + 10 {
		m.put(fmt.Sprint(i), &plan{}, []items.Item{{ID: fmt.Sprintf("msg_%d", i)}}, nil, nil)
	}
	_, first := m.get("9")
	_, last := m.get(fmt.Sprint(maxRemembered + 9))
	_, item := m.Item("msg_10")
	if first || !last || !item || len(m.known) != maxRemembered {
		t.Errorf("%d remembered; the oldest %v, the newest %v, an item %v", len(m.known), first, last, item)
	}
	m.put("long", &plan{}, nil, nil, make([]int32, maxRememberedBytes/4+1))
	if _, ok := m.get("long"); !ok || len(m.known) != 1 {
		t.Errorf("%d remembered beside a long one", len(m.known))
	}
}

// TestNextTurn wants a conversation to be free for the next turn before anyone can see that a turn has ended, and what is
// deleted then to be found no more.
func TestNextTurn(t *testing.T) {
	s, newID := openStoreWithDatabase(t), numberedIDs()
	const conversation = "conv_1"
	if err := s.database.CreateSession(t.Context(), &database.Session{ID: conversation, Tenant: DefaultTenant}, nil); err != nil {
		t.Fatal(err)
	}
	req := responseRequestOf(t, newID, `"Go on."`)
	req.Object.Conversation, req.Turn.MaxTokens = &ConversationRef{conversation}, 1
	started, finished := make(chan *ResponseRun, 1), false
	req.Observe = func(d *Delta) { finished = d.Finish != nil }
	req.Now = func() time.Time {
		if finished { // the turn is about to be stored; let nobody see its end
			finished = false
			(<-started).mu.Lock()
		}
		return time.Now()
	}
	run, err := s.Respond(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	started <- run
	unlock, err := s.Lock(DefaultTenant, conversation)
	for ; err != nil; unlock, err = s.Lock(DefaultTenant, conversation) { // for ever, if it is free only when the end can be seen
		runtime.Gosched()
	}
	unlock()
	if err := s.DeleteSession(t.Context(), DefaultTenant, conversation); err != nil {
		t.Error(err)
	}
	if _, err := s.ResponseEvents(t.Context(), DefaultTenant, run.ID); !errors.Is(err, database.ErrNotFound) {
		t.Errorf("a response of a deleted conversation: %v", err)
	}
	run.mu.Unlock()
	if _, last := readAll(t, run); last.Status != StatusIncomplete {
		t.Errorf("%+v", last)
	}
	if err := run.Close(); err != nil {
		t.Error(err)
	}
}

// TestLedgerIsFirst wants a turn that leaves nothing behind to be in the ledger before anyone can see that it has ended.
func TestLedgerIsFirst(t *testing.T) {
	s, newID := openStore(t, engine.Options{}), numberedIDs()
	var ending atomic.Bool
	var status string // when the ledger was written
	started := make(chan *ResponseRun, 1)
	db, err := database.Open(t.Context(), database.Memory, database.Options{Now: func() time.Time {
		if ending.Swap(false) {
			status = (<-started).Status()
		}
		return time.Now()
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	s.database = db
	req := responseRequestOf(t, newID, `"Go on."`)
	req.Object.Store = false
	req.Now = func() time.Time { // of the end; the answer is remembered before
		ending.Store(true)
		return time.Now()
	}
	run, err := s.Respond(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	started <- run
	readAll(t, run)
	if err := run.Close(); err != nil {
		t.Error(err)
	}
	if status != StatusInProgress {
		t.Errorf("the response was %q when the ledger was written", status)
	}
}

// TestRememberedWhenStored deletes a conversation during its turn: the response fails, and nothing goes on from it.
func TestRememberedWhenStored(t *testing.T) {
	s, newID := openStoreWithDatabase(t), numberedIDs()
	const conversation = "conv_1"
	if err := s.database.CreateSession(t.Context(), &database.Session{ID: conversation, Tenant: DefaultTenant}, nil); err != nil {
		t.Fatal(err)
	}
	req := responseRequestOf(t, newID, `"Go on."`)
	req.Object.Store, req.Object.Conversation, req.Memory = false, &ConversationRef{conversation}, &ResponseMemory{}
	req.Observe = func(d *Delta) {
		if d.Finish != nil {
			if _, err := s.database.DeleteSession(t.Context(), DefaultTenant, conversation); err != nil {
				t.Error(err)
			}
		}
	}
	run, err := s.Respond(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if _, last := readAll(t, run); last.Status != StatusFailed {
		t.Errorf("%+v", last)
	}
	if _, ok := req.Memory.get(run.ID); ok {
		t.Error("a response that failed is remembered")
	}
	if err := run.Close(); !errors.Is(err, database.ErrNotFound) {
		t.Errorf("ended with %v", err)
	}
}
