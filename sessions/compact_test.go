package sessions

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"hearth/engine"
	"hearth/engine/api"
	"hearth/engine/embedded"
	"hearth/sessions/database"
	"hearth/sessions/items"
)

// openStoreWithDatabase serves the embedded model and keeps what is stored in memory.
func openStoreWithDatabase(t testing.TB) *Store {
	t.Helper()
	return withDatabase(t, openStore(t, engine.Options{}))
}

// withDatabase gives a store a database in memory.
func withDatabase(t testing.TB, s *Store) *Store {
	t.Helper()
	db, err := database.Open(t.Context(), database.Memory, database.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	s.database = db
	return s
}

// numberedIDs returns ids with ascending numbers.
func numberedIDs() func(prefix string) string {
	n := 0
	return func(prefix string) string {
		n++
		return fmt.Sprintf("%s%d", prefix, n)
	}
}

func parseItems(t testing.TB, raw string) []items.Item {
	t.Helper()
	p := items.Parser{NewID: numberedIDs()}
	list, err := p.Parse("input", json.RawMessage(raw))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// inputOf is an input for the embedded model.
func inputOf(t testing.TB, s *Store, raw string) *Input {
	t.Helper()
	return &Input{
		Turn: Turn{Model: embedded.Name, Tenant: "a", Logprobs: -1}, Items: parseItems(t, raw),
		Messages: func(list []items.Item) ([]json.RawMessage, error) {
			return items.Messages(list, func(sealed string) ([]json.RawMessage, error) { return s.OpenCompaction("a", sealed) })
		},
	}
}

func compact(t testing.TB, s *Store, in *Input) *Compaction {
	t.Helper()
	c, err := s.Compact(t.Context(), in, numberedIDs())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func typesOf(list []items.Item) (types []string) {
	for _, item := range list {
		types = append(types, strings.TrimSpace(item.Type+" "+item.Role))
	}
	return types
}

// TestCompact sums up a conversation, and goes on from what the compaction left computed.
func TestCompact(t *testing.T) {
	s := openStoreWithDatabase(t)
	in := inputOf(t, s, `[{"role":"developer","content":"Tell stories."},{"role":"user","content":"Once upon a time"},
		{"role":"assistant","content":"there was a dog."},{"role":"user","content":"The dog was big."},{"type":"compaction_trigger"}]`)
	c := compact(t, s, in)
	if got, want := typesOf(c.Items), []string{"message developer", "compaction"}; !slices.Equal(got, want) {
		t.Fatalf("the compaction's items are %q, want %q", got, want)
	}
	if c.Usage.PromptTokens == 0 || c.Usage.GeneratedTokens == 0 {
		t.Errorf("usage %+v", c.Usage)
	}
	opened, err := in.Messages(c.Items)
	if err != nil || len(opened) != 3 || !strings.Contains(string(opened[1]), "This is a summary") {
		t.Fatalf("opened it is %s, %v", opened, err)
	}
	log, err := s.CompactionLog(t.Context(), "a", embedded.Name, c.Items)
	if err != nil || len(log) == 0 {
		t.Fatalf("the log is %d, %v", log, err)
	}
	in.Items = append(c.Items, parseItems(t, `"Go on."`)...)
	turn, err := in.turn(in.Items)
	if err != nil {
		t.Fatal(err)
	}
	turn.Log, turn.MaxTokens = log, 4
	got := run(t, s, turn)[0].finish.Usage
	if whole := len(log) / 64 * 64; got.CachedTokens < whole || whole == 0 {
		t.Errorf("after a compaction of %d tokens usage is %+v, want %d cached", len(log), got, whole)
	}
	again := compact(t, s, in) // with a compaction among what is summed up
	if got, want := typesOf(again.Items), []string{"message developer", "compaction"}; !slices.Equal(got, want) {
		t.Errorf("compacted again, the items are %q, want %q", got, want)
	}
}

// TestCompactInParts sums up more than the model can hold.
func TestCompactInParts(t *testing.T) {
	s := openStore(t, engine.Options{})
	var list []string
	for i := range 40 {
		list = append(list, fmt.Sprintf(`{"role":"user","content":"Tom saw dog %d in the park and it was red."},{"role":"assistant","content":"Good."}`, i))
	}
	c := compact(t, s, inputOf(t, s, "["+strings.Join(list, ",")+"]"))
	if len(c.Items) != 1 || c.Usage.PromptTokens <= 512 {
		t.Errorf("%d items of %+v, want one of more than the context", len(c.Items), c.Usage)
	}
	_, err := s.Compact(t.Context(), inputOf(t, s, `"`+strings.Repeat("One big dog. ", 300)+`"`), numberedIDs())
	if !errors.Is(err, api.ErrTooLong) {
		t.Errorf("a message that is too long alone: %v, want %v", err, api.ErrTooLong)
	}
}

func TestCompactNothing(t *testing.T) {
	s := openStore(t, engine.Options{})
	_, err := s.Compact(t.Context(), inputOf(t, s, `[{"role":"developer","content":"Tell stories."}]`), numberedIDs())
	if wrong, ok := errors.AsType[*items.Error](err); !ok || wrong.Field != "input" {
		t.Errorf("got %v, want an error of the input", err)
	}
}

// TestCompactionIsSealed opens compactions that were changed, that are another tenant's or another store's.
func TestCompactionIsSealed(t *testing.T) {
	s := NewStore(nil, nil)
	text := `{"text":"they talked of dogs"}`
	sealed := s.seal(compactions, "a", []byte(text))
	if messages, err := s.OpenCompaction("a", sealed); err != nil || !strings.Contains(string(messages[0]), "they talked of dogs") {
		t.Fatalf("opened it is %s, %v", messages, err)
	}
	if strings.Contains(sealed, "dogs") || s.seal(compactions, "a", []byte(text)) == sealed {
		t.Errorf("%q does not hide what it says", sealed)
	}
	refused := func(what string, err error) {
		t.Helper()
		if wrong, ok := errors.AsType[*items.Error](err); !ok || wrong.Field != "input" || !strings.Contains(wrong.Text, "encrypted_content") {
			t.Errorf("%s: %v, want an error of the input's encrypted_content", what, err)
		}
	}
	_, err := s.OpenCompaction("b", sealed)
	refused("another tenant's", err)
	_, err = NewStore(nil, nil).OpenCompaction("a", sealed)
	refused("another store's", err)
	_, err = s.OpenCompaction("a", s.seal("something else", "a", []byte(text)))
	refused("another purpose's", err)
	raw, err := base64.RawURLEncoding.DecodeString(sealed)
	if err != nil {
		t.Fatal(err)
	}
	for i := range raw {
		changed := slices.Clone(raw)
		changed[i] ^= 1
		_, err = s.OpenCompaction("a", base64.RawURLEncoding.EncodeToString(changed))
		refused(fmt.Sprintf("byte %d changed", i), err)
		_, err = s.OpenCompaction("a", base64.RawURLEncoding.EncodeToString(raw[:i]))
		refused(fmt.Sprintf("cut to %d bytes", i), err)
	}
	for _, other := range []string{"", "=", "a", "not base64!", sealed + "AA"} {
		_, err = s.OpenCompaction("a", other)
		refused(fmt.Sprintf("%.20q", other), err)
	}
	if err := s.Configure(Options{Secret: []byte("short")}); err == nil {
		t.Error("a short secret is accepted")
	}
	secret := []byte(strings.Repeat("s", SecretBytes))
	restarted := NewStore(nil, nil)
	if err := errors.Join(s.Configure(Options{Secret: secret}), restarted.Configure(Options{Secret: secret})); err != nil {
		t.Fatal(err)
	}
	if _, err = restarted.OpenCompaction("a", s.seal(compactions, "a", []byte(text))); err != nil {
		t.Errorf("with the same secret: %v", err)
	}
}

// TestCuts cuts lists between turns, and never between a call and its result.
func TestCuts(t *testing.T) {
	const user, said, call, call2, result, result2 = `{"role":"user","content":"u"}`, `{"role":"assistant","content":"a"}`,
		`{"type":"function_call","call_id":"1","name":"f","arguments":"{}"}`, `{"type":"function_call","call_id":"2","name":"f","arguments":"{}"}`,
		`{"type":"function_call_output","call_id":"1","output":"r"}`, `{"type":"function_call_output","call_id":"2","output":"r"}`
	for _, c := range []struct {
		list []string
		want []int
	}{
		{[]string{user, said, user, said}, []int{2}},
		{[]string{user, call, result, said, user}, []int{3, 4}},
		{[]string{user, call, call2, result, result2, call2, user}, []int{5, 6}},
		{[]string{user, call, call2, result2, user, result, user}, []int{6}},
		{[]string{said, user}, []int{1}},
		{[]string{user}, nil},
		{nil, nil},
	} {
		if got := cuts(parseItems(t, "["+strings.Join(c.list, ",")+"]")); !slices.Equal(got, c.want) {
			t.Errorf("%q is cut at %d, want %d", c.list, got, c.want)
		}
	}
}

// TestTruncate lets a conversation grow beyond the context. The instructions and the last question stay, and the prompts
// of most turns begin with the one before.
func TestTruncate(t *testing.T) {
	s := openStore(t, engine.Options{})
	in := inputOf(t, s, `[{"role":"system","content":"Be kind."}]`)
	in.Turn.MaxTokens = 50
	const context = 512
	changes, firsts := 0, map[string]bool{}
	for i := range 60 {
		in.Items = append(in.Items, parseItems(t, fmt.Sprintf(`[{"role":"user","content":"Question %d: where is the dog?"}]`, i))...)
		got, err := s.Truncate(in)
		if err != nil {
			t.Fatal(err)
		}
		m, err := s.catalog.Get(embedded.Name)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := in.count(s, m, got); err != nil || n > context-50 {
			t.Fatalf("turn %d: %d tokens, %v", i, n, err)
		}
		if got[0].Role != "system" || string(got[len(got)-1].JSON) != string(in.Items[len(in.Items)-1].JSON) {
			t.Fatalf("turn %d: from %s to %s", i, got[0].JSON, got[len(got)-1].JSON)
		}
		if first := string(got[1].JSON); !firsts[first] {
			firsts[first] = true
			changes++
		}
		in.Items = append(in.Items, parseItems(t, `[{"role":"assistant","content":"There."}]`)...)
	}
	if changes < 3 || changes > 15 {
		t.Errorf("in 60 turns the beginning changed %d times", changes)
	}
	in.Items = parseItems(t, `"`+strings.Repeat("One big dog. ", 300)+`"`)
	if got, err := s.Truncate(in); err != nil || len(got) != 1 {
		t.Errorf("a question that is too long alone: %d items, %v", len(got), err)
	}
}
