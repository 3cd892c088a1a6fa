package sessions

import (
	"container/list"
	"encoding/json"
	"errors"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hearth/engine"
	"hearth/engine/tokenizer"
	"hearth/sessions/database"
)

// openStored returns a reader whose store keeps answers in a database, and what opens the store again.
func openStored(t *testing.T) (r *reader, restart func()) {
	t.Helper()
	r = openReader(t, "Qwen-Qwen3-0.6B", "qwen3")
	db, err := database.Open(t.Context(), filepath.Join(t.TempDir(), "state.db"), database.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	restart = func() {
		r.store = NewStore(nil, db)
		if err := r.store.Configure(Options{Secret: []byte(strings.Repeat("k", SecretBytes)), Logger: slog.New(slog.DiscardHandler)}); err != nil {
			t.Fatal(err)
		}
	}
	restart()
	return r, restart
}

// answered is a turn that was answered, and the one that sends the answer back.
type answered struct {
	first, second *Turn
	log           []int32
}

// answer has a turn answered with a text in a spelling of its own.
func (r *reader) answer(t *testing.T, tenant, question, text string) answered {
	t.Helper()
	a := answered{first: &Turn{Tenant: tenant, Messages: []json.RawMessage{message(t, "user", question)}}}
	p := r.prompt(t, a.first)
	drawn := respelled(r.Tokenizer, text, rand.New(rand.NewPCG(9, 9)))
	r.store.remember(r.Served, a.first, p, drawn)
	a.log = slices.Concat(p.tokens, drawn)
	next := *a.first
	next.Messages = append(slices.Clone(next.Messages), message(t, "assistant", text), message(t, "user", "And?"))
	a.second = &next
	return a
}

// goesOn reports whether the prompt that sends an answer back begins with its tokens.
func (r *reader) goesOn(t *testing.T, a answered) bool {
	t.Helper()
	return engine.CommonPrefix(r.prompt(t, a.second).tokens, a.log) == len(a.log)
}

// TestAnswersAfterRestart finds the tokens of an answer again when memory is lost, and only its own tenant does.
func TestAnswersAfterRestart(t *testing.T) {
	r, restart := openStored(t)
	a := r.answer(t, "a", "Hi", "It is forty-two degrees")
	restart()
	other := *a.second
	other.Tenant = "b"
	if r.goesOn(t, answered{second: &other, log: a.log}) {
		t.Error("another tenant's prompt has the answer's tokens")
	}
	salted := *a.second
	salted.Salt = "s"
	if r.goesOn(t, answered{second: &salted, log: a.log}) {
		t.Error("the prompt of another salt has the answer's tokens")
	}
	if !r.goesOn(t, a) || !r.goesOn(t, a) {
		t.Error("after a restart the prompt has other tokens")
	}
}

// TestAnswersOfSalts are not stored.
func TestAnswersOfSalts(t *testing.T) {
	r, restart := openStored(t)
	turn := &Turn{Tenant: "a", Salt: "s", Messages: []json.RawMessage{message(t, "user", "Hi")}}
	p := r.prompt(t, turn)
	drawn := respelled(r.Tokenizer, "It is forty-two degrees", rand.New(rand.NewPCG(9, 9)))
	r.store.remember(r.Served, turn, p, drawn)
	next := *turn
	next.Messages = append(slices.Clone(next.Messages), message(t, "assistant", "It is forty-two degrees"), message(t, "user", "And?"))
	a := answered{second: &next, log: slices.Concat(p.tokens, drawn)}
	if !r.goesOn(t, a) {
		t.Error("the prompt has other tokens")
	}
	restart()
	if r.goesOn(t, a) {
		t.Error("an answer with a salt was stored")
	}
}

// TestForgetAnswers deletes what a log has, in memory and in the database, and nothing else.
func TestForgetAnswers(t *testing.T) {
	r, restart := openStored(t)
	gone, other := r.answer(t, "a", "Hi", "It is forty-two degrees"), r.answer(t, "a", "Hello", "It is forty-two degrees")
	if err := r.store.forgetAnswers(t.Context(), []database.Freed{{Tenant: "a", Tokens: gone.log, Keep: len(gone.log)}}); err != nil {
		t.Fatal(err)
	}
	if !r.goesOn(t, gone) {
		t.Error("an answer went that others have too")
	}
	if err := r.store.forgetAnswers(t.Context(), []database.Freed{{Tenant: "b", Tokens: gone.log}}); err != nil {
		t.Fatal(err)
	}
	if !r.goesOn(t, gone) {
		t.Error("another tenant's answer went")
	}
	if err := r.store.forgetAnswers(t.Context(), []database.Freed{{Tenant: "a", Tokens: gone.log, Keep: 3}}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if r.goesOn(t, gone) {
			t.Error("an answer is there that was deleted")
		}
		if !r.goesOn(t, other) {
			t.Error("an answer went with another one")
		}
		restart()
	}
}

// TestAnswersThatTextFinds are not stored: encoding is enough.
func TestAnswersThatTextFinds(t *testing.T) {
	r, _ := openStored(t)
	turn := &Turn{Tenant: "a", Messages: []json.RawMessage{message(t, "user", "Hi")}}
	p := r.prompt(t, turn)
	r.store.remember(r.Served, turn, p, r.Tokenizer.Encode("It is forty-two degrees", tokenizer.EncodeOptions{}))
	rows, err := r.store.database.AnchorsBetween(t.Context(), "a", 0, 1<<30)
	if err != nil || len(rows) != 0 {
		t.Errorf("%d answers are stored, %v", len(rows), err)
	}
}

// TestDamagedAnswers changes what is stored; it is not found then, or as it was.
func TestDamagedAnswers(t *testing.T) {
	r, restart := openStored(t)
	a := r.answer(t, "a", "Hi", "It is forty-two degrees")
	rows, err := r.store.database.AnchorsBetween(t.Context(), "a", 0, 1<<30)
	if err != nil || len(rows) != 1 {
		t.Fatalf("%d answers are stored, %v", len(rows), err)
	}
	for i := range rows[0].Sealed {
		if err := r.store.database.DeleteAnchors(t.Context(), "a", []int64{rows[0].ID}); err != nil {
			t.Fatal(err)
		}
		rows[0].Sealed = slices.Clone(rows[0].Sealed)
		rows[0].Sealed[i] ^= 0x40
		if err := r.store.database.PutAnchor(t.Context(), "a", &rows[0]); err != nil {
			t.Fatal(err)
		}
		restart()
		if r.goesOn(t, a) {
			t.Fatalf("with byte %d changed the answer is found", i)
		}
		rows[0].Sealed[i] ^= 0x40
	}
	if err := r.store.database.PutAnchor(t.Context(), "a", &rows[0]); err != nil {
		t.Fatal(err)
	}
	restart()
	if !r.goesOn(t, a) {
		t.Error("the answer as it was is not found")
	}
}

// TestAnswersWithoutDatabase goes on when the database fails.
func TestAnswersWithoutDatabase(t *testing.T) {
	r, _ := openStored(t)
	if err := r.store.database.Close(); err != nil {
		t.Fatal(err)
	}
	if a := r.answer(t, "a", "Hi", "It is forty-two degrees"); !r.goesOn(t, a) || !r.store.failing.Load() {
		t.Errorf("the prompt has other tokens, or no failure was noticed: %t", r.store.failing.Load())
	}
}

// TestAnchors adds and forgets at random, and checks the invariants.
func TestAnchors(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	var a anchors
	for i := range 3000 {
		key := anchorKey{byte(random.IntN(50))}
		tokens := make([]int32, 1+random.IntN(3))
		if random.IntN(20) == 0 {
			tokens = make([]int32, maxAnchorTokens/7)
		}
		tokens[0] = int32(random.IntN(4))
		x := &anchor{tenant: "a", key: key, before: hashTokens(nil), tokens: tokens}
		a.add(x)
		if found := a.find([]anchorKey{key})[0]; len(found) == 0 || found[0] != x {
			t.Fatalf("step %d: the newest anchor is not found first", i)
		}
		if random.IntN(10) == 0 {
			a.complete(a.incomplete([]anchorKey{key}))
			a.forget("a", tokens, 0)
			if found := a.find([]anchorKey{key})[0]; slices.Contains(found, x) || len(a.incomplete([]anchorKey{key})) == 0 {
				t.Fatalf("step %d: an anchor that was forgotten is found, or its key counts as whole", i)
			}
		}
		if err := a.check(); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
	}
	a.add(&anchor{tokens: make([]int32, maxAnchorTokens+1)})
	if err := a.check(); err != nil {
		t.Error(err)
	}
}

// check verifies the invariants.
func (a *anchors) check() error {
	numTokens, listed := 0, 0
	for e := a.order.Front(); e != nil; e = e.Next() {
		x := e.Value.(*anchor)
		numTokens += len(x.tokens)
		if !slices.Contains(a.byKey[x.key], e) {
			return errors.New("an anchor is not in the list of its key")
		}
	}
	for _, same := range a.byKey {
		listed += len(same)
		if len(same) == 0 || len(same) > maxAnswers {
			return errors.New("a list of a key is empty or too long")
		}
		for i, e := range same {
			if slices.ContainsFunc(same[:i], func(other *list.Element) bool {
				return slices.Equal(other.Value.(*anchor).tokens, e.Value.(*anchor).tokens)
			}) {
				return errors.New("two anchors are equal")
			}
		}
	}
	if numTokens != a.numTokens || numTokens > maxAnchorTokens || listed != a.order.Len() {
		return errors.New("the sums are wrong")
	}
	return nil
}

// TestLikelyPlaces asks the database about few places of a prompt that has many, all of them a client's.
func TestLikelyPlaces(t *testing.T) {
	r := openReader(t, "Qwen-Qwen3-0.6B", "qwen3")
	turn := &Turn{Messages: []json.RawMessage{message(t, "user", strings.Repeat("<think> ", 5000))}}
	p, err := render(r.Served, turn)
	if err != nil {
		t.Fatal(err)
	}
	parts := r.Tokenizer.CutGuarded(p.text, tokenizer.EncodeOptions{})
	keys := newKeyring(nil).keysOf(parts)
	got := likely(r.Served, parts, keys)
	if last, _ := answerHeader(parts); len(keys) < 10_000 || len(got) > 8 || got[len(got)-1] != keys[last] {
		t.Errorf("of %d places %d are looked up, the last %x", len(keys), len(got), got[len(got)-1])
	}
}
