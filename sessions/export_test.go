package sessions

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"hearth/engine"
	"hearth/engine/embedded"
	"hearth/sessions/archive"
	"hearth/sessions/database"
	"hearth/sessions/items"
)

// openKept is openStore with a database in memory.
func openKept(t *testing.T, opts engine.Options) *Store {
	t.Helper()
	s := openStore(t, opts)
	db, err := database.Open(t.Context(), database.Memory, database.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	s = NewStore(s.catalog, db)
	if err := s.Configure(Options{Logger: slog.New(slog.DiscardHandler)}); err != nil {
		t.Fatal(err)
	}
	return s
}

// counter returns ids that count.
func counter() func(prefix string) string {
	n := 0
	return func(prefix string) string { n++; return fmt.Sprintf("%s%d", prefix, n) }
}

// converse makes a conversation with one turn of the embedded model, and returns the turn's tokens.
func converse(t *testing.T, s *Store, tenant, id string) []int32 {
	t.Helper()
	parser := items.Parser{NewID: counter()}
	list, err := parser.Parse("items", json.RawMessage(`[{"role":"user","content":"Once upon a time there was a little girl named Lily. She loved to play"},{"role":"assistant","content":"outside"}]`))
	if err != nil {
		t.Fatal(err)
	}
	session := &database.Session{ID: id, Tenant: tenant, Title: "Lily", Metadata: json.RawMessage(`{"a":"b"}`), Created: time.Unix(1600000000, 0)}
	if err := s.database.CreateSession(t.Context(), session, Stored(list[:1], time.Unix(1600000000, 0))); err != nil {
		t.Fatal(err)
	}
	turn := textTurn("Once upon a time there was a little girl named Lily. She loved to play", 60)
	turn.Tenant, turn.IgnoreEOS = tenant, true
	stream, err := s.Run(t.Context(), &turn)
	if err != nil {
		t.Fatal(err)
	}
	tokens := slices.Clone(stream.Prompt)
	for d, ok := stream.Next(); ok; d, ok = stream.Next() {
		if d.Finish != nil {
			tokens = append(tokens, d.Finish.Tokens...)
		}
	}
	err = s.database.FinishTurn(t.Context(), tenant, &database.TurnEnd{
		Session: id, Model: embedded.Name, Append: Stored(list[1:], time.Unix(1600000000, 0)), Log: &database.Log{Model: embedded.Name, Fingerprint: s.fingerprint(embedded.Name), Tokens: tokens},
	})
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

// cached returns how many tokens of a prompt of these tokens a tenant's turn finds computed.
func cached(t *testing.T, s *Store, tenant string, tokens []int32) int {
	t.Helper()
	served, err := s.catalog.Get(embedded.Name)
	if err != nil {
		t.Fatal(err)
	}
	r, err := served.Engine.Residence(t.Context(), tenant, tokens)
	if err != nil {
		t.Fatal(err)
	}
	return r.MemoryTokens
}

func export(t *testing.T, s *Store, tenant, id string, computed bool) []byte {
	t.Helper()
	e, err := s.Export(t.Context(), tenant, id, ExportOptions{Computed: computed, Now: time.Unix(1700000000, 0), By: "test"})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := e.Write(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func importing(tenant string) *ImportOptions {
	return &ImportOptions{Tenant: tenant, Computed: true, NewID: counter(), Now: func() time.Time { return time.Unix(1800000000, 0) }}
}

// TestExportImport moves a conversation from one server to another, which goes on with what was computed, and answers with
// the same tokens.
func TestExportImport(t *testing.T) {
	from, to := openKept(t, engine.Options{}), openKept(t, engine.Options{})
	tokens := converse(t, from, "a", "conv_1")
	if cached(t, from, "a", tokens) < 64 || cached(t, to, "b", tokens) != 0 {
		t.Fatalf("%d and %d of %d tokens are computed", cached(t, from, "a", tokens), cached(t, to, "b", tokens), len(tokens))
	}
	in, err := to.Import(t.Context(), bytes.NewReader(export(t, from, "a", "conv_1", true)), importing("b"))
	if err != nil {
		t.Fatal(err)
	}
	if in.Items != 2 || in.Tokens != len(tokens) || in.Computed < 64 || in.LeftOut != nil {
		t.Errorf("imported %+v", in)
	}
	s := in.Session
	if s.ID != "conv_1" || s.Tenant != "b" || s.Title != "Lily" || string(s.Metadata) != `{"a":"b"}` || s.Items != 2 || s.Model != embedded.Name ||
		s.Created.Unix() != 1600000000 || s.Updated.Unix() != 1800000000 {
		t.Errorf("the session is %+v", s)
	}
	log, err := to.database.Log(t.Context(), "b", s.Log)
	if err != nil || !slices.Equal(log.Tokens, tokens) {
		t.Errorf("the log has %d tokens of %d, %v", len(log.Tokens), len(tokens), err)
	}
	if got := cached(t, to, "b", tokens); got != in.Computed {
		t.Errorf("%d tokens are computed there, want %d", got, in.Computed)
	}
	if got := cached(t, to, "a", tokens); got != 0 {
		t.Errorf("another tenant finds %d tokens computed", got)
	}
	turn := Turn{Model: embedded.Name, Tokens: tokens, MaxTokens: 20, IgnoreEOS: true, Logprobs: -1}
	answers := make([]reply, 2)
	for i, side := range []struct {
		store  *Store
		tenant string
	}{{from, "c"}, {to, "b"}} { // computed anew, and from what was brought
		turn.Tenant = side.tenant
		answers[i] = run(t, side.store, turn)[0]
	}
	if answers[0].text != answers[1].text || answers[0].finish.Usage.CachedTokens != 0 || answers[1].finish.Usage.CachedTokens < 64 {
		t.Errorf("answers %q with %+v and %q with %+v", answers[0].text, answers[0].finish.Usage, answers[1].text, answers[1].finish.Usage)
	}
	if a, b := entriesOf(t, export(t, from, "a", "conv_1", true)), entriesOf(t, export(t, to, "b", "conv_1", true)); !slices.Equal(a, b) {
		t.Errorf("exported again it is %q, was %q", b, a)
	}
}

// entriesOf reads items, tokens and blocks of an archive.
func entriesOf(t *testing.T, data []byte) []string {
	t.Helper()
	a, err := archive.Open(bytes.NewReader(data), archive.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	list := []string{fmt.Sprint(a.Tokens)}
	for _, item := range a.Items {
		list = append(list, string(item))
	}
	for {
		b, err := a.Next()
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, fmt.Sprint(b))
	}
}

// TestImportLeavesOut imports what does not fit the server, and wants the conversation without it.
func TestImportLeavesOut(t *testing.T) {
	s := openKept(t, engine.Options{})
	tokens := converse(t, s, "a", "conv_1")
	data := export(t, s, "a", "conv_1", true)
	for what, test := range map[string]struct {
		change   func(*archive.Contents)
		opts     func(*ImportOptions)
		tokens   int
		computed bool
		says     string
	}{
		"all":              {tokens: len(tokens), computed: true},
		"another id":       {opts: func(o *ImportOptions) { o.ID = "conv_other" }, tokens: len(tokens), computed: true},
		"nothing believed": {opts: func(o *ImportOptions) { o.Computed = false }, tokens: len(tokens)},
		"unknown model":    {change: func(c *archive.Contents) { c.Manifest.Session.Model = "other" }, says: `no model "other" is served`},
		"named model": {change: func(c *archive.Contents) { c.Manifest.Session.Model = "other" },
			opts: func(o *ImportOptions) { o.Model = embedded.Name }, tokens: len(tokens), computed: true},
		"other vocabulary":       {change: func(c *archive.Contents) { c.Manifest.Log.TextSHA256 = "x" }, says: "another vocabulary"},
		"unknown tokens":         {change: func(c *archive.Contents) { c.Tokens[3] = 1 << 30 }, says: "another vocabulary"},
		"other weights":          {change: func(c *archive.Contents) { c.Manifest.Computed.Fingerprint = "x" }, tokens: len(tokens), says: "of another model"},
		"blocks of another size": {change: func(c *archive.Contents) { c.Manifest.CreatedBy = "short blocks" }, tokens: len(tokens), says: "could not take more"},
		"no tokens":              {change: func(c *archive.Contents) { c.Manifest.Log, c.Manifest.Computed, c.Tokens = nil, nil, nil }},
		"no items":               {change: func(c *archive.Contents) { c.Items = nil }},
	} {
		changed := data
		if test.change != nil {
			changed = rewrite(t, data, test.change)
		}
		opts := importing("tenant of " + what)
		if test.opts != nil {
			test.opts(opts)
		}
		in, err := s.Import(t.Context(), bytes.NewReader(changed), opts)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if in.Tokens != test.tokens || (in.Computed > 0) != test.computed || !strings.Contains(strings.Join(in.LeftOut, "; "), test.says) || (test.says == "") != (in.LeftOut == nil) {
			t.Errorf("%s: %+v", what, in)
		}
	}
}

// TestLifetimes wants what is made of a conversation to be kept as long as the conversation, counted from then.
func TestLifetimes(t *testing.T) {
	s := openKept(t, engine.Options{})
	now := time.Unix(1800000000, 0)
	for _, test := range []struct{ ttl, archived time.Duration }{
		{0, 0}, {1000 * time.Second, 1000 * time.Second}, {300 * time.Millisecond, time.Second},
	} {
		id := "conv_" + test.ttl.String()
		parent := &database.Session{ID: id, Tenant: "a", Created: time.Unix(1600000000, 0), TTL: test.ttl}
		if err := s.database.CreateSession(t.Context(), parent, nil); err != nil {
			t.Fatal(err)
		}
		for want, given := range map[time.Duration]time.Duration{test.ttl: Inherited, time.Minute: time.Minute} {
			fork := &database.Session{ID: id + "_" + given.String(), Tenant: "a", Created: now, TTL: given}
			if err := s.Fork(t.Context(), id, Place{}, fork, counter()); err != nil {
				t.Fatal(err)
			}
			kept, err := s.database.Session(t.Context(), "a", fork.ID)
			if err != nil || kept.TTL != want || want > 0 && !kept.Expires.Equal(now.Add(want)) {
				t.Errorf("a fork with %v of what is kept for %v is kept for %v until %v, %v", given, test.ttl, kept.TTL, kept.Expires, err)
			}
		}
		data := export(t, s, "a", id, false)
		silent := rewrite(t, data, func(c *archive.Contents) { c.Manifest.Session.TTL = nil })
		for what, archived := range map[string]struct {
			data []byte
			want time.Duration
		}{"says it": {data, test.archived}, "does not say it": {silent, time.Hour}} {
			opts := importing("tenant whose archive " + what)
			opts.ID, opts.TTL = id, time.Hour
			in, err := s.Import(t.Context(), bytes.NewReader(archived.data), opts)
			if err != nil {
				t.Fatal(err)
			}
			if got := in.Session; got.TTL != archived.want || archived.want > 0 && !got.Expires.Equal(now.Add(archived.want)) {
				t.Errorf("an archive that %s of what is kept for %v: kept for %v until %v", what, test.ttl, got.TTL, got.Expires)
			}
		}
	}
}

// rewrite makes another archive of one; one that was created by "short blocks" has blocks that are too short.
func rewrite(t *testing.T, data []byte, change func(*archive.Contents)) []byte {
	t.Helper()
	a, err := archive.Open(bytes.NewReader(data), archive.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	c := a.Contents
	c.Tokens = slices.Clone(c.Tokens)
	change(&c)
	var b bytes.Buffer
	err = archive.Write(&b, &c, func(write func(archive.Block) error) error {
		for {
			block, err := a.Next()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			if c.Manifest.CreatedBy == "short blocks" {
				block.Data = block.Data[1:]
			}
			if err := write(block); err != nil {
				return err
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestImportRefuses wants archives that no server made to be refused, and nothing to be stored of them.
func TestImportRefuses(t *testing.T) {
	s := openKept(t, engine.Options{})
	converse(t, s, "a", "conv_1")
	data := export(t, s, "a", "conv_1", true)
	item := func(raw string) func(*archive.Contents) {
		return func(c *archive.Contents) { c.Items = []json.RawMessage{json.RawMessage(raw)} }
	}
	for what, test := range map[string]struct {
		change func(*archive.Contents)
		is     error
		field  string
	}{
		"an item of no type":  {item(`{"id":"x"}`), nil, "items[0]"},
		"an item with more":   {item(`{"type":"message","id":"x","role":"user","content":"x","more":1}`), nil, "items[0].more"},
		"an id with a slash":  {item(`{"type":"message","id":"../x","role":"user","content":"x"}`), nil, "items[0].id"},
		"a trigger":           {item(`{"type":"compaction_trigger"}`), nil, "items[0].type"},
		"a reference":         {item(`{"type":"item_reference","id":"msg_1"}`), nil, "items[0]"},
		"the same item twice": {func(c *archive.Contents) { c.Items = append(c.Items, c.Items[0]) }, nil, "items[2].id"},
		"an id of its own":    {func(c *archive.Contents) { c.Manifest.Session.ID = "conv_../x" }, archive.ErrFormat, ""},
		"no id":               {func(c *archive.Contents) { c.Manifest.Session.ID = "" }, archive.ErrFormat, ""},
		"a long title":        {func(c *archive.Contents) { c.Manifest.Session.Title = strings.Repeat("x", 513) }, archive.ErrFormat, ""},
		"a long model":        {func(c *archive.Contents) { c.Manifest.Session.Model = strings.Repeat("x", 513) }, archive.ErrFormat, ""},
		"metadata of numbers": {func(c *archive.Contents) { c.Manifest.Session.Metadata = json.RawMessage(`{"a":1}`) }, archive.ErrFormat, ""},
		"long metadata": {func(c *archive.Contents) {
			c.Manifest.Session.Metadata = json.RawMessage(`{"a":"` + strings.Repeat("x", 513) + `"}`)
		}, archive.ErrFormat, ""},
		"a time before now":    {func(c *archive.Contents) { c.Manifest.Session.TTL = new(int64(-1)) }, archive.ErrFormat, ""},
		"a time without end":   {func(c *archive.Contents) { c.Manifest.Session.TTL = new(maxTTL + 1) }, archive.ErrFormat, ""},
		"a conversation twice": {func(c *archive.Contents) { c.Manifest.Session.ID = "conv_taken" }, database.ErrExists, ""},
	} {
		tenant := "tenant of " + what
		taken := &database.Session{ID: "conv_taken", Tenant: tenant}
		if err := s.database.CreateSession(t.Context(), taken, nil); err != nil {
			t.Fatal(err)
		}
		_, err := s.Import(t.Context(), bytes.NewReader(rewrite(t, data, test.change)), importing(tenant))
		var e *items.Error
		if test.field != "" && (!errors.As(err, &e) || e.Field != test.field) || test.field == "" && !errors.Is(err, test.is) {
			t.Errorf("%s: %v, want %v about %q", what, err, test.is, test.field)
		}
		if list, _, err := s.database.Sessions(t.Context(), tenant, database.Page{}); err != nil || len(list) != 1 {
			t.Errorf("%s: there are %d sessions, %v", what, len(list), err)
		}
	}
	for _, cut := range []int{0, 10, len(data) / 2, len(data) - 1} {
		if _, err := s.Import(t.Context(), bytes.NewReader(data[:cut]), importing("cut")); !errors.Is(err, archive.ErrFormat) {
			t.Errorf("%d bytes of %d: %v", cut, len(data), err)
		}
	}
	if list, _, err := s.database.Sessions(t.Context(), "cut", database.Page{}); err != nil || len(list) != 0 {
		t.Errorf("of archives cut short there are %d sessions, %v", len(list), err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Import(ended, bytes.NewReader(data), importing("cut")); !errors.Is(err, context.Canceled) {
		t.Errorf("after its end: %v", err)
	}
	if _, err := s.Export(t.Context(), "b", "conv_1", ExportOptions{}); !errors.Is(err, database.ErrNotFound) {
		t.Errorf("another tenant's conversation: %v", err)
	}
	bare := NewStore(s.catalog, nil)
	if _, err := bare.Import(t.Context(), bytes.NewReader(data), importing("a")); !errors.Is(err, ErrNoDatabase) {
		t.Errorf("without a database: %v", err)
	}
	if _, err := bare.Export(t.Context(), "a", "conv_1", ExportOptions{}); !errors.Is(err, ErrNoDatabase) {
		t.Errorf("without a database: %v", err)
	}
}

// TestDeleteShreds wants nothing computed of a conversation to be left when it is deleted, but what another one shares.
func TestDeleteShreds(t *testing.T) {
	s := openKept(t, engine.Options{})
	tokens := converse(t, s, "a", "conv_1")
	if cached(t, s, "a", tokens) < 64 {
		t.Fatalf("%d tokens are computed", cached(t, s, "a", tokens))
	}
	if err := s.DeleteSession(t.Context(), "b", "conv_1"); !errors.Is(err, database.ErrNotFound) {
		t.Errorf("another tenant deletes it: %v", err)
	}
	if err := s.DeleteSession(t.Context(), "a", "conv_1"); err != nil {
		t.Fatal(err)
	}
	if got := cached(t, s, "a", tokens); got != 0 {
		t.Errorf("%d tokens are still computed", got)
	}
	tokens = converse(t, s, "a", "conv_2")
	list, _, err := s.database.Items(t.Context(), "a", "conv_2", database.Page{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteItem(t.Context(), "a", "conv_2", list[1].ID); err != nil {
		t.Fatal(err)
	}
	if got := cached(t, s, "a", tokens); got != 0 {
		t.Errorf("after its item is deleted, %d tokens are still computed", got)
	}
}
