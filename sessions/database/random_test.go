package database

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

// model is what the tests say a database has, in plain lists.
type model struct {
	sessions  map[string][]string // items by session
	logs      map[string][]log    // by session, of the items that have one
	responses map[string]run      // that ended
	drawn     int                 // ids and tokens given
}

type log struct {
	item   string
	tokens []int32
}

type run struct {
	session string
	tokens  []int32
}

func key(tenant, session string) string { return tenant + " " + session }

// TestRandomOperations does what a random sequence of calls says to a database and to plain lists, and compares them. After
// each round the sums and references of the whole file are verified.
func TestRandomOperations(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			r := &operations{T: t, d: open(t, Options{}), random: rand.New(rand.NewPCG(seed, 1)), model: model{sessions: map[string][]string{}, logs: map[string][]log{}, responses: map[string]run{}}}
			for round := range 100 {
				r.step()
				if round%20 == 19 {
					r.compare()
				}
			}
			for k := range r.sessions {
				r.delete(k[:1], k[2:])
			}
			r.compare()
			for _, table := range []string{"item", "item_text", "session_title", "entry", "part", "log", "event", "response"} {
				var n int
				check(t, r.d.reader.QueryRow("SELECT COUNT(*) FROM "+table).Scan(&n))
				if n != 0 {
					t.Errorf("%d rows of %s are left when every session is deleted", n, table)
				}
			}
		})
	}
}

type operations struct {
	*testing.T
	model
	d      *DB
	random *rand.Rand
}

func (r *operations) id(prefix string) string {
	r.drawn++
	return fmt.Sprint(prefix, r.drawn)
}

func (r *operations) items() []Item {
	list := make([]Item, r.random.IntN(4))
	for i := range list {
		id := r.id("msg_")
		list[i] = message(id, "text of "+id)
	}
	return list
}

// pick chooses a session that is there.
func (r *operations) pick() (tenant, session string, ok bool) {
	var all []string
	for k := range r.sessions {
		all = append(all, k)
	}
	if len(all) == 0 {
		return "", "", false
	}
	slices.Sort(all)
	k := all[r.random.IntN(len(all))]
	return k[:1], k[2:], true
}

func (r *operations) step() {
	ctx := r.Context()
	tenant, session, ok := r.pick()
	k := key(tenant, session)
	choice := r.random.IntN(12)
	if !ok {
		choice = 0
	}
	switch choice {
	case 0:
		tenant, session = string(rune('a'+r.random.IntN(2))), r.id("conv_")
		list := r.items()
		check(r.T, r.d.CreateSession(ctx, &Session{ID: session, Tenant: tenant}, list))
		r.sessions[key(tenant, session)] = ids(list)
	case 1, 2:
		list := r.items()
		check(r.T, r.d.AppendItems(ctx, tenant, session, list))
		r.sessions[k] = append(r.sessions[k], ids(list)...)
	case 3, 4, 5:
		r.turn(tenant, session)
	case 6:
		n := r.random.IntN(len(r.sessions[k]) + 1)
		fork := r.id("conv_")
		check(r.T, r.d.ForkSession(ctx, session, &Session{ID: fork, Tenant: tenant}, n, nil))
		r.sessions[key(tenant, fork)] = slices.Clone(r.sessions[k][:n])
		r.logs[key(tenant, fork)] = r.kept(k, r.sessions[k][:n])
	case 7:
		n := r.random.IntN(len(r.sessions[k]) + 1)
		freed, err := r.d.RewindSession(ctx, tenant, session, n)
		check(r.T, err)
		defer r.checkFreed(freed, r.prefixes())
		r.logs[k] = r.kept(k, r.sessions[k][:n])
		r.sessions[k] = slices.Clone(r.sessions[k][:n])
	case 8:
		if n := len(r.sessions[k]); n > 0 {
			at := r.random.IntN(n)
			freed, err := r.d.DeleteItem(ctx, tenant, session, r.sessions[k][at])
			check(r.T, err)
			defer r.checkFreed(freed, r.prefixes())
			r.sessions[k] = slices.Delete(slices.Clone(r.sessions[k]), at, at+1)
			r.logs[k] = r.kept(k, r.sessions[k])
		}
	case 9:
		if r.random.IntN(3) == 0 {
			r.delete(tenant, session)
		}
	case 10, 11:
		for _, id := range slices.Sorted(maps.Keys(r.responses)) {
			of := r.responses[id]
			freed, err := r.d.DeleteResponse(ctx, of.session[:1], id)
			check(r.T, err)
			defer r.checkFreed(freed, r.prefixes())
			delete(r.responses, id)
			break
		}
	}
}

// kept are the logs of those items.
func (r *operations) kept(k string, items []string) []log {
	var list []log
	for _, l := range r.logs[k] {
		if slices.Contains(items, l.item) {
			list = append(list, l)
		}
	}
	return list
}

// turn ends a response with a log that goes on from some part of the session's last one.
func (r *operations) turn(tenant, session string) {
	ctx, k, id := r.Context(), key(tenant, session), r.id("resp_")
	input := r.items()
	check(r.T, r.d.CreateResponse(ctx, &Response{ID: id, Tenant: tenant, Session: session, Status: InProgress}, input))
	output := []Item{message(r.id("msg_"), "answer")}
	r.drawn++
	l := &Log{Model: "m", Tokens: []int32{int32(r.drawn)}} // no two logs begin alike without being related
	if s := must(r.d.Session(ctx, tenant, session))(r.T); s.Log != 0 {
		parent := must(r.d.Log(ctx, tenant, s.Log))(r.T)
		l.Parent, l.Shared = s.Log, r.random.IntN(len(parent.Tokens)+1)
		l.Tokens = slices.Clone(parent.Tokens[:l.Shared])
	}
	for range r.random.IntN(5) {
		r.drawn++
		l.Tokens = append(l.Tokens, int32(r.drawn))
	}
	added := append(slices.Clone(input), output...)
	check(r.T, r.d.FinishTurn(ctx, tenant, &TurnEnd{
		Response: &Response{ID: id, Status: "completed"}, Output: output, Events: []Event{{0, []byte(`{}`)}}, Session: session, Model: "m", Append: added, Log: l,
	}))
	r.sessions[k] = append(r.sessions[k], ids(added)...)
	r.logs[k] = append(r.logs[k], log{output[0].ID, l.Tokens})
	r.responses[id] = run{k, l.Tokens}
}

func (r *operations) delete(tenant, session string) {
	freed, err := r.d.DeleteSession(r.Context(), tenant, session)
	check(r.T, err)
	defer r.checkFreed(freed, r.prefixes())
	delete(r.sessions, key(tenant, session))
	delete(r.logs, key(tenant, session))
	for id, of := range r.responses {
		if of.session == key(tenant, session) {
			delete(r.responses, id)
		}
	}
}

// prefixes are the last tokens of all beginnings of all logs: no token is drawn twice, so that it stands for what is before
// it.
func (r *operations) prefixes() map[int32]bool {
	set := map[int32]bool{}
	add := func(tokens []int32) {
		for _, token := range tokens {
			set[token] = true
		}
	}
	for _, logs := range r.logs {
		for _, l := range logs {
			add(l.tokens)
		}
	}
	for _, of := range r.responses {
		add(of.tokens)
	}
	return set
}

// checkFreed compares what a call said that nothing needs any more with what was needed before it and is not after it.
func (r *operations) checkFreed(freed []Freed, before map[int32]bool) {
	r.Helper()
	after, told := r.prefixes(), map[int32]bool{}
	for _, f := range freed {
		for _, token := range f.Tokens[f.Keep:] {
			told[token] = true
			if after[token] || !before[token] {
				r.Errorf("%d was freed and is needed, or was not", token)
			}
		}
	}
	for token := range before {
		if !after[token] && !told[token] {
			r.Errorf("%d is not needed any more and was not freed", token)
		}
	}
}

func (r *operations) compare() {
	for k, want := range r.sessions {
		tenant, session := k[:1], k[2:]
		if got := allItems(r.T, r.d, tenant, session); !slices.Equal(got, want) {
			r.Fatalf("%s has %v, want %v", session, got, want)
		}
		s := must(r.d.Session(r.Context(), tenant, session))(r.T)
		logs := r.logs[k]
		if s.Items != len(want) || (s.Log != 0) != (len(logs) > 0) {
			r.Fatalf("%+v, want %d items and the last of the logs %v", s, len(want), logs)
		}
		if s.Log != 0 {
			got, want := must(r.d.Log(r.Context(), tenant, s.Log))(r.T).Tokens, logs[len(logs)-1].tokens
			if !slices.Equal(got, want) {
				r.Fatalf("the log of %s is %v, want %v", session, got, want)
			}
		}
	}
	verifySums(r.T, r.d)
}

// verifySums checks what schema.go says of sums and references, and that no log is kept longer than it is needed.
func verifySums(t *testing.T, d *DB) {
	t.Helper()
	check(t, d.Check(t.Context()))
	for name, query := range map[string]string{
		"items that nothing has": `SELECT COUNT(*) FROM item WHERE number NOT IN (SELECT item FROM entry UNION SELECT item FROM part)`,
		"texts without an item":  `SELECT COUNT(*) FROM item_text WHERE rowid NOT IN (SELECT number FROM item)`,
		"titles of no session":   `SELECT COUNT(*) FROM session_title WHERE rowid NOT IN (SELECT number FROM session)`,
		"sums of sessions": `SELECT COUNT(*) FROM session s WHERE items <> (SELECT COUNT(*) FROM entry WHERE session = s.number)
			OR bytes <> (SELECT COALESCE(SUM(bytes), 0) FROM entry WHERE session = s.number)`,
		"sums of tenants": `SELECT COUNT(*) FROM tenant t WHERE sessions <> (SELECT COUNT(*) FROM session WHERE tenant = t.name) OR bytes <>
			(SELECT COALESCE(SUM(octet_length(json)), 0) FROM item WHERE tenant = t.name) + (SELECT COALESCE(SUM(length(tokens)), 0) FROM log WHERE tenant = t.name) +
			(SELECT COALESCE(SUM(octet_length(object) + events), 0) FROM response WHERE tenant = t.name) +
			(SELECT COALESCE(SUM(octet_length(object) + octet_length(messages)), 0) FROM completion WHERE tenant = t.name)`,
		"sums of events": `SELECT COUNT(*) FROM response r WHERE events <> (SELECT COALESCE(SUM(octet_length(json)), 0) FROM event WHERE response = r.number)`,
		"logs that nothing needs": `SELECT COUNT(*) FROM log l WHERE number NOT IN (SELECT log FROM entry WHERE log IS NOT NULL UNION SELECT log FROM response WHERE log IS NOT NULL)
			AND shared + length(tokens) / 4 > (SELECT COALESCE(MAX(shared), 0) FROM log WHERE parent = l.number)`,
	} {
		var n int
		check(t, d.reader.QueryRow(query).Scan(&n))
		if n != 0 {
			t.Errorf("%d %s", n, name)
		}
	}
}

// TestConcurrentCalls reads and writes from many goroutines: every append is there in the end, once.
func TestConcurrentCalls(t *testing.T) {
	ctx, d := t.Context(), open(t, Options{})
	const writers, turns = 8, 10
	check(t, d.CreateSession(ctx, &Session{ID: "conv_shared", Tenant: "a"}, nil))
	var running sync.WaitGroup
	for w := range writers {
		running.Go(func() {
			own := fmt.Sprint("conv_", w)
			if err := d.CreateSession(ctx, &Session{ID: own, Tenant: "a"}, nil); err != nil {
				t.Error(err)
				return
			}
			for i := range turns {
				list := messages(fmt.Sprintf("m%d_%d_", w, i), 2)
				id := fmt.Sprintf("resp_%d_%d", w, i)
				err := errors.Join(
					d.CreateResponse(ctx, &Response{ID: id, Tenant: "a", Session: own, Status: InProgress}, list[:1]),
					d.AppendItems(ctx, "a", "conv_shared", list),
					d.FinishTurn(ctx, "a", &TurnEnd{Response: &Response{ID: id, Status: "completed"}, Output: list[1:], Session: own, Append: list}))
				items, _, failed := d.Items(ctx, "a", own, Page{Limit: All})
				if err = errors.Join(err, failed); err != nil || len(items) != 2*(i+1) {
					t.Errorf("turn %d: %d items, %v", i, len(items), err)
					return
				}
				if _, _, err := d.SearchSessions(ctx, "a", "word1", Page{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	running.Wait()
	if got := allItems(t, d, "a", "conv_shared"); len(got) != 2*writers*turns {
		t.Errorf("%d items, want %d", len(got), 2*writers*turns)
	}
	verifySums(t, d)
}
