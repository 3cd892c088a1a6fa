package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hearth/engine/api"
	"hearth/hardware"
	"hearth/kvcache/disk"
)

// openStore opens a disk store, which is closed at the end of the test.
func openStore(t testing.TB, folder string) *disk.Store {
	t.Helper()
	store, err := disk.Open(disk.Options{Dir: folder, MaxBytes: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Errorf("closing the store: %v", err)
		}
	})
	return store
}

// noStore makes an engine ready for a disk store, which setStore gives it before anything is asked of this one.
var noStore = &disk.Store{}

// fakeOnDisk starts an engine whose blocks are kept in records; it restores whatever is there.
func fakeOnDisk(t testing.TB, device *fakeDevice, store records, opts Options) *Engine {
	t.Helper()
	opts.Disk = noStore
	e := loadFake(t, device, opts)
	e.setStore(store)
	startFake(t, e)
	return e
}

// setStore replaces the disk store of an engine whose loop does not run.
func (e *Engine) setStore(store records) {
	e.disk, e.loop.tier.store, e.loop.tier.always, e.loop.tier.flush = store, store, true, time.Hour
}

// savedPrefix computes a prompt and its answer on an engine of its own, which is closed, and returns all of it.
func savedPrefix(t *testing.T, device *fakeDevice, store records, r api.Request) []int32 {
	t.Helper()
	e := fakeOnDisk(t, device, store, Options{})
	a := collect(t, submit(t, e, r))
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	return slices.Concat(r.Prompt, a.tokens)
}

// TestRestored computes a conversation, closes the engine and goes on with another one: the answer is that of a request
// alone, nearly all of the prompt comes from disk, and the usage says exactly how much.
func TestRestored(t *testing.T) {
	for _, stateful := range []bool{false, true} {
		t.Run(fmt.Sprintf("stateful %t", stateful), func(t *testing.T) {
			device := &fakeDevice{stateful: stateful}
			store := openStore(t, t.TempDir())
			text := savedPrefix(t, device, store, api.Request{Prompt: words(1, 500), MaxTokens: 140, IgnoreEOS: true, Tenant: "a"})
			next := api.Request{Prompt: slices.Concat(text, words(2, 30)), MaxTokens: 50, IgnoreEOS: true, Logprobs: 3, Tenant: "a"}
			e := fakeOnDisk(t, device, store, Options{})
			whole := wholeBlocks(len(text) - 1)
			for i, want := range []api.Usage{
				{PromptTokens: len(next.Prompt), CachedTokens: whole, RestoredTokens: whole, WrittenTokens: wholeBlocks(len(next.Prompt)) - whole, GeneratedTokens: 50},
				{PromptTokens: len(next.Prompt), CachedTokens: wholeBlocks(len(next.Prompt)), GeneratedTokens: 50},
			} {
				got := collect(t, submit(t, e, next))
				tokens, logprobs := device.answer(t, next)
				if !slices.Equal(got.tokens, tokens) || !equalLogprobs(got.logprobs, logprobs) {
					t.Errorf("request %d: restored it gives %v, alone %v", i, got.tokens, tokens)
				}
				if got.done.Usage != want {
					t.Errorf("request %d: usage %+v, want %+v", i, got.done.Usage, want)
				}
			}
			other := next
			other.Tenant = "b"
			if got := collect(t, submit(t, e, other)); got.done.Usage.CachedTokens != 0 {
				t.Errorf("another tenant: usage %+v", got.done.Usage)
			}
			other.Tenant, other.Salt = "a", "salt"
			if got := collect(t, submit(t, e, other)); got.done.Usage.CachedTokens != 0 {
				t.Errorf("with a salt: usage %+v", got.done.Usage)
			}
			checkIdle(t, e)
		})
	}
}

// checkIdle verifies that an engine whose requests have ended holds nothing: neither blocks nor buffers.
func checkIdle(t *testing.T, e *Engine) {
	t.Helper()
	err := e.ask(t.Context(), func(l *loop) {
		if err := l.scheduler.cache.Check(); err != nil {
			t.Error(err)
		}
		if s := l.scheduler.cache.Stats(); s.Referenced != 0 {
			t.Errorf("blocks leaked: %+v", s)
		}
		if len(l.scheduler.restores) != 0 || len(l.scheduler.tables) != l.scheduler.maxSequences {
			t.Errorf("%d restores, %d tables of %d are left", len(l.scheduler.restores), len(l.scheduler.tables), l.scheduler.maxSequences)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	l := e.loop // it has ended
	l.receive()
	if b, s := &l.tier.blocks, &l.tier.saved; len(b.free) != b.made || len(s.free) != s.made {
		t.Errorf("of %d and %d buffers %d and %d came back", b.made, s.made, len(b.free), len(s.free))
	}
}

// brittle is a store whose records can be damaged, held back, and refused.
type brittle struct {
	records
	mu      sync.Mutex // guards the fields below
	reads   int
	damaged func(read int) bool // of the record that is read; nil: none is
	gate    chan struct{}       // reads of all but free keys wait until it is closed; nil: they do not
	free    []disk.Key
	refuse  bool
	lose    bool          // what is put is taken and not kept
	pending int           // records that were put since the last Sync
	ahead   [][]disk.Key  // keys that were prefetched
	started chan struct{} // gets a value when a read begins; nil: nobody waits
	speed   float64       // of reading; 0: as measured
}

func (b *brittle) Stats() disk.Stats {
	stats := b.records.Stats()
	if b.speed > 0 {
		stats.ReadSpeed = b.speed
	}
	return stats
}

func (b *brittle) Read(tenant string, key disk.Key, kind disk.Kind, dst []byte) (int, error) {
	b.mu.Lock()
	b.reads++
	read := b.reads
	damaged, gate := b.damaged != nil && b.damaged(read), b.gate
	b.mu.Unlock()
	if slices.Contains(b.free, key) {
		gate = nil
	}
	if b.started != nil {
		b.started <- struct{}{}
	}
	if gate != nil {
		<-gate
	}
	if damaged {
		b.records.Remove(tenant, []disk.Key{key}) // as a store forgets what it finds broken
		clear(dst)
		return 0, disk.ErrMissing
	}
	return b.records.Read(tenant, key, kind, dst)
}

func (b *brittle) Prefetch(tenant string, keys []disk.Key) {
	b.mu.Lock()
	b.ahead = append(b.ahead, keys)
	b.mu.Unlock()
	b.records.Prefetch(tenant, keys)
}

func (b *brittle) Put(r disk.Record) bool {
	b.mu.Lock()
	refuse, lose := b.refuse, b.lose
	b.pending++
	b.mu.Unlock()
	if lose {
		if r.Release != nil {
			r.Release()
		}
		return true
	}
	return !refuse && b.records.Put(r)
}

func (b *brittle) Sync(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.refuse {
		return errors.New("the disk is full")
	}
	b.pending = 0
	return b.records.Sync(ctx)
}

// TestRestoredFromDamage damages records in every place, one and several: answers are the same, and what came is used.
func TestRestoredFromDamage(t *testing.T) {
	for _, stateful := range []bool{false, true} {
		for damage := range uint64(24) {
			t.Run(fmt.Sprintf("stateful %t/%d", stateful, damage), func(t *testing.T) {
				device := &fakeDevice{stateful: stateful}
				store := &brittle{records: openStore(t, t.TempDir())}
				text := savedPrefix(t, device, store, api.Request{Prompt: words(1, 500), MaxTokens: 100, IgnoreEOS: true})
				rng := rand.New(rand.NewPCG(damage, 3))
				one, all := int(damage)-4, rng.IntN(4) == 0
				store.damaged = func(read int) bool { return read == one || damage > 14 && rng.IntN(5) == 0 || all && read%2 == 0 }
				next := api.Request{Prompt: slices.Concat(text, words(2, 30)), MaxTokens: 20, IgnoreEOS: true, Logprobs: 3}
				e := fakeOnDisk(t, device, store, Options{})
				for i := range 3 {
					got := collect(t, submit(t, e, next))
					tokens, logprobs := device.answer(t, next)
					if !slices.Equal(got.tokens, tokens) || !equalLogprobs(got.logprobs, logprobs) {
						t.Errorf("request %d: restored it gives %v, alone %v", i, got.tokens, tokens)
					}
					if u := got.done.Usage; one < 1 && damage < 15 && !all && i == 0 && u.RestoredTokens < 500 {
						t.Errorf("request %d: usage %+v", i, u)
					}
				}
				checkIdle(t, e)
			})
		}
	}
}

// TestRestoringNeverBlocks has a disk that does not answer: requests are computed, those that wait for it are given up when
// their callers leave, and the engine closes when the disk answers at last.
func TestRestoringNeverBlocks(t *testing.T) {
	for _, stateful := range []bool{false, true} {
		device := &fakeDevice{stateful: stateful}
		store := &brittle{records: openStore(t, t.TempDir()), started: make(chan struct{}, 100)}
		text := savedPrefix(t, device, store, api.Request{Prompt: words(1, 500), MaxTokens: 100, IgnoreEOS: true})
		store.gate = make(chan struct{})
		e := fakeOnDisk(t, device, store, Options{MaxSequences: 2})
		next := api.Request{Prompt: slices.Concat(text, words(2, 30)), MaxTokens: 20, IgnoreEOS: true}
		ctx, cancel := context.WithCancel(t.Context())
		waiting, err := e.Submit(ctx, &next)
		if err != nil {
			t.Fatal(err)
		}
		<-store.started
		beside := api.Request{Prompt: words(7, 100), MaxTokens: 20, IgnoreEOS: true}
		if got, _ := device.answer(t, beside); !slices.Equal(collect(t, submit(t, e, beside)).tokens, got) {
			t.Error("a request beside one that is restored has another answer")
		}
		cancel()
		if a := collect(t, waiting); a.done.Reason != api.FinishCancelled {
			t.Errorf("a request whose caller left ended as %+v", a.done)
		}
		if err := e.ask(t.Context(), func(l *loop) { l.tier.always = false }); err != nil { // now it may compute
			t.Fatal(err)
		}
		if got, _ := device.answer(t, next); !slices.Equal(collect(t, submit(t, e, next)).tokens, got) {
			t.Error("a request that the disk does not answer has another answer")
		}
		close(store.gate)
		checkIdle(t, e)
	}
}

// TestComputesWhileRestoring has a disk that reads the last blocks of a prompt and no more: the first ones are computed
// meanwhile, and then the sequence goes on behind what was read.
func TestComputesWhileRestoring(t *testing.T) {
	device := &fakeDevice{}
	store := &brittle{records: openStore(t, t.TempDir())}
	text := savedPrefix(t, device, store, api.Request{Prompt: words(1, 500), MaxTokens: 100, IgnoreEOS: true})
	var now atomic.Int64
	e := loadFake(t, device, Options{Disk: noStore, Now: func() time.Time { return time.Unix(now.Load(), 0) }})
	e.setStore(store)
	store.gate, store.free, store.speed = make(chan struct{}), keysOf(e.origin(""), text)[4:9], 1<<30
	e.loop.tier.always = false
	e.loop.pace.cost.observe(1000, 0, 0.1) // a machine that computes a block in 6.4 ms, and waits for a disk that reads faster
	startFake(t, e)
	next := api.Request{Prompt: slices.Concat(text, words(2, 30)), MaxTokens: 20, IgnoreEOS: true, Logprobs: 3}
	events := submit(t, e, next)
	for int(e.stats.restoredBlocks.Load()) < len(store.free) {
		runtime.Gosched()
	}
	now.Add(1) // without anything from the disk
	got := collect(t, events)
	tokens, logprobs := device.answer(t, next)
	if !slices.Equal(got.tokens, tokens) || !equalLogprobs(got.logprobs, logprobs) {
		t.Errorf("restored it gives %v, alone %v", got.tokens, tokens)
	}
	want := api.Usage{PromptTokens: 630, CachedTokens: 320, RestoredTokens: 320, WrittenTokens: 576 - 320, GeneratedTokens: 20}
	if got.done.Usage != want || e.Stats().StepRows != 630-320+19 {
		t.Errorf("usage %+v, want %+v; %d rows were computed", got.done.Usage, want, e.Stats().StepRows)
	}
	close(store.gate)
	checkIdle(t, e)
}

// TestWaitingIsPrefetched tells the disk what a sequence that waits for its turn will ask for, once.
func TestWaitingIsPrefetched(t *testing.T) {
	device := &fakeDevice{}
	store := &brittle{records: openStore(t, t.TempDir())}
	text := savedPrefix(t, device, store, api.Request{Prompt: words(1, 500), MaxTokens: 100, IgnoreEOS: true})
	e := loadFake(t, device, Options{Disk: noStore, MaxSequences: 1})
	e.setStore(store)
	first := submit(t, e, api.Request{Prompt: words(9, 50), MaxTokens: 20, IgnoreEOS: true, Salt: "other"})
	next := submit(t, e, api.Request{Prompt: text, MaxTokens: 5, IgnoreEOS: true})
	startFake(t, e)
	collect(t, first)
	if u := collect(t, next).done.Usage; u.RestoredTokens != 576 {
		t.Errorf("usage %+v", u)
	}
	checkIdle(t, e)
	want := keysOf(e.origin(""), text)
	if len(store.ahead) != 1 || !slices.Equal(store.ahead[0], want) {
		t.Errorf("%d lists of keys were prefetched, want one of %d keys", len(store.ahead), len(want))
	}
}

// TestCloseWhileRestoring ends the requests that are restored.
func TestCloseWhileRestoring(t *testing.T) {
	for _, stateful := range []bool{false, true} {
		device := &fakeDevice{stateful: stateful}
		store := &brittle{records: openStore(t, t.TempDir()), started: make(chan struct{}, 100)}
		text := savedPrefix(t, device, store, api.Request{Prompt: words(1, 500), MaxTokens: 100, IgnoreEOS: true})
		store.gate = make(chan struct{})
		e := fakeOnDisk(t, device, store, Options{})
		events := submit(t, e, api.Request{Prompt: text, MaxTokens: 20})
		<-store.started
		closed := make(chan error)
		go func() { closed <- e.Close() }()
		if a := collect(t, events); !errors.Is(a.done.Err, api.ErrClosed) {
			t.Errorf("the request ended as %+v", a.done)
		}
		close(store.gate)
		if err := <-closed; err != nil {
			t.Error(err)
		}
	}
}

// TestFailureWhileRestoring has the device fail while a sequence is restored: all end, and the next ones are computed.
func TestFailureWhileRestoring(t *testing.T) {
	for _, stateful := range []bool{false, true} {
		failing := false
		device := &fakeDevice{stateful: stateful, syncError: func(int) error {
			if failing {
				failing = false
				return errors.New("broken")
			}
			return nil
		}}
		store := &brittle{records: openStore(t, t.TempDir()), started: make(chan struct{}, 100)}
		text := savedPrefix(t, device, store, api.Request{Prompt: words(1, 500), MaxTokens: 100, IgnoreEOS: true})
		store.gate = make(chan struct{})
		e := fakeOnDisk(t, device, store, Options{})
		next := api.Request{Prompt: slices.Concat(text, words(2, 30)), MaxTokens: 20, IgnoreEOS: true}
		restored := submit(t, e, next)
		<-store.started
		if err := e.ask(t.Context(), func(*loop) { failing = true }); err != nil {
			t.Fatal(err)
		}
		for _, events := range []<-chan api.Event{submit(t, e, api.Request{Prompt: words(9, 10), MaxTokens: 3}), restored} {
			if a := collect(t, events); !errors.Is(a.done.Err, api.ErrInternal) {
				t.Errorf("a request ended as %+v", a.done)
			}
		}
		close(store.gate)
		if got, _ := device.answer(t, next); !slices.Equal(collect(t, submit(t, e, next)).tokens, got) {
			t.Error("the request after the failure has another answer")
		}
		checkIdle(t, e)
	}
}

// TestStoreThatRefuses goes on without a disk, and saves when there is one again.
func TestStoreThatRefuses(t *testing.T) {
	device := &fakeDevice{}
	store := &brittle{records: openStore(t, t.TempDir()), refuse: true}
	e := fakeOnDisk(t, device, store, Options{})
	r := api.Request{Prompt: words(1, 500), MaxTokens: 100, IgnoreEOS: true}
	a := collect(t, submit(t, e, r))
	if want, _ := device.answer(t, r); !slices.Equal(a.tokens, want) {
		t.Error("an engine whose disk is full answers otherwise")
	}
	text := slices.Concat(r.Prompt, a.tokens)
	if err := e.Evict(t.Context(), "", text, TierDisk); err == nil {
		t.Error("blocks were evicted to a disk that takes nothing")
	}
	if got, err := e.Residence(t.Context(), "", text); err != nil || got.MemoryTokens != 576 || got.DiskBytes != 0 {
		t.Errorf("residence %+v, %v", got, err)
	}
	store.mu.Lock()
	store.refuse = false
	store.mu.Unlock()
	if err := e.Evict(t.Context(), "", text, TierDisk); err != nil {
		t.Error(err)
	}
	if got, err := e.Residence(t.Context(), "", text); err != nil || got.MemoryTokens != 0 || got.DiskTokens != 576 {
		t.Errorf("residence %+v, %v", got, err)
	}
	checkIdle(t, e)
}

// TestStoreWithoutRoom has a store that takes blocks and has no place for them, as one that is full of what is pinned:
// neither are they dropped in memory as if they were on disk, nor are they pinned.
func TestStoreWithoutRoom(t *testing.T) {
	for _, stateful := range []bool{false, true} {
		device := &fakeDevice{stateful: stateful}
		inner := openStore(t, t.TempDir())
		store := &brittle{records: inner, lose: true}
		e := fakeOnDisk(t, device, store, Options{})
		r := api.Request{Prompt: words(1, 500), MaxTokens: 100, IgnoreEOS: true}
		text := slices.Concat(r.Prompt, collect(t, submit(t, e, r)).tokens)
		if err := e.Evict(t.Context(), "", text, TierDisk); err == nil {
			t.Error("blocks were evicted to a disk that has no room")
		}
		if err := e.Pin(t.Context(), "", text, true); err == nil {
			t.Error("blocks were pinned on a disk that has no room")
		}
		if got, err := e.Residence(t.Context(), "", text); err != nil || got.MemoryTokens != 576 || got.DiskBytes != 0 {
			t.Errorf("residence %+v, %v", got, err)
		}
		store.mu.Lock()
		store.lose = false
		store.mu.Unlock()
		if err := e.Evict(t.Context(), "", text, TierDisk); err != nil || inner.Stats().Records < 9 || inner.Stats().Pinned != 0 {
			t.Errorf("with room: %v, %+v", err, inner.Stats())
		}
		checkIdle(t, e)
	}
}

// TestImportIsKept wants imported blocks to be durable when Import returns, and only those to count that the store has kept.
func TestImportIsKept(t *testing.T) {
	device := &fakeDevice{}
	e := fakeEngine(t, device, Options{})
	r := api.Request{Prompt: words(1, 500), MaxTokens: 100, IgnoreEOS: true}
	text := slices.Concat(r.Prompt, collect(t, submit(t, e, r)).tokens)
	var blocks []Block
	if err := e.Export(t.Context(), "", text, func(b Block) error {
		b.Data = slices.Clone(b.Data)
		blocks = append(blocks, b)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, lose := range []bool{false, true} {
		store := &brittle{records: openStore(t, t.TempDir()), lose: lose}
		other, i := fakeOnDisk(t, device, store, Options{}), 0
		n, err := other.Import(t.Context(), "", text, func() (Block, error) {
			if i == len(blocks) {
				return Block{}, io.EOF
			}
			i++
			return blocks[i-1], nil
		})
		if want := len(blocks) * hardware.BlockLen; lose != (err != nil) || lose != (n == 0) || !lose && n != want {
			t.Errorf("%d tokens of %d are imported, %v; the store loses them: %t", n, want, err, lose)
		}
		if store.pending > 0 {
			t.Errorf("%d records may not be durable", store.pending)
		}
		checkIdle(t, other)
	}
	checkIdle(t, e)
}

// TestManyOnDisk has memory for three conversations, and twenty on disk that go on in turn and together, among callers who
// leave; all are answered as alone.
func TestManyOnDisk(t *testing.T) {
	for _, stateful := range []bool{false, true} {
		t.Run(fmt.Sprintf("stateful %t", stateful), func(t *testing.T) {
			device := &fakeDevice{stateful: stateful}
			e := loadFake(t, device, Options{Blocks: 24, MaxSequences: 3, Disk: noStore})
			e.setStore(openStore(t, t.TempDir()))
			device.beforeRun = func(int, *hardware.Batch) { // the disk keeps up, however slow it is
				for !e.loop.tier.writes.all() || !e.loop.tier.states.all() {
					runtime.Gosched()
				}
			}
			startFake(t, e)
			rng := rand.New(rand.NewPCG(1, 2))
			texts := make([][]int32, 20)
			for i := range texts {
				texts[i] = words(uint64(i), 300)
			}
			restored := 0
			for range 5 {
				channels, requests := make([]<-chan api.Event, len(texts)), make([]api.Request, len(texts))
				order := rng.Perm(len(texts))
				for _, i := range order {
					requests[i] = api.Request{Prompt: texts[i], MaxTokens: 1 + rng.IntN(30), IgnoreEOS: true}
					ctx, cancel := context.WithCancel(t.Context())
					events, err := e.Submit(ctx, &requests[i])
					if err != nil {
						t.Fatal(err)
					}
					if channels[i] = events; rng.IntN(6) == 0 {
						cancel()
					}
					defer cancel()
				}
				for _, i := range order {
					a := collect(t, channels[i])
					want, _ := device.answer(t, requests[i])
					if a.done.Reason == api.FinishCancelled {
						want = want[:len(a.tokens)]
					}
					if !slices.Equal(a.tokens, want) {
						t.Fatalf("conversation %d goes on with %v, alone with %v: %+v", i, a.tokens, want, a.done)
					}
					texts[i] = slices.Concat(texts[i], a.tokens, words(rng.Uint64(), 20))
					restored += a.done.Usage.RestoredTokens
				}
			}
			if s := e.Stats(); restored < 10_000 || s.Tier.Unsaved != 0 && s.Tier.SavedBlocks == 0 {
				t.Errorf("only %d tokens were restored: %+v", restored, s)
			}
			checkIdle(t, e)
		})
	}
}

// TestResidence asks where a prefix is, evicts and forgets it, and takes it to another engine, with and without a disk.
func TestResidence(t *testing.T) {
	ctx := t.Context()
	for _, stateful := range []bool{false, true} {
		device := &fakeDevice{stateful: stateful}
		store := openStore(t, t.TempDir())
		e := fakeOnDisk(t, device, store, Options{})
		r := api.Request{Prompt: words(1, 500), MaxTokens: 100, IgnoreEOS: true, Tenant: "a"}
		text := slices.Concat(r.Prompt, collect(t, submit(t, e, r)).tokens)
		if err := e.Pin(ctx, "a", text, true); err != nil {
			t.Error(err)
		}
		where := func(e *Engine, tenant string) [3]int {
			t.Helper()
			got, err := e.Residence(ctx, tenant, text)
			if err != nil {
				t.Error(err)
			}
			return [3]int{got.Tokens, got.MemoryTokens, got.DiskTokens}
		}
		if got := where(e, "a"); got != [3]int{600, 576, 576} {
			t.Errorf("after an answer: %v", got)
		}
		if got := where(e, "b"); got != [3]int{600, 0, 0} {
			t.Errorf("of another tenant: %v", got)
		}
		if err := e.Evict(ctx, "a", text, TierDisk); err != nil {
			t.Error(err)
		}
		if got := where(e, "a"); got != [3]int{600, 0, 576} {
			t.Errorf("after eviction: %v", got)
		}
		var blocks []Block
		if err := e.Export(ctx, "a", text, func(b Block) error {
			b.Data = slices.Clone(b.Data)
			blocks = append(blocks, b)
			return nil
		}); err != nil {
			t.Error(err)
		}
		if err := e.Forget(ctx, "a", text, 200); err != nil {
			t.Error(err)
		}
		if got := where(e, "a"); !stateful && got != [3]int{600, 0, 192} {
			t.Errorf("after the end was forgotten: %v", got)
		}
		next := api.Request{Prompt: slices.Concat(text, words(5, 10)), MaxTokens: 20, IgnoreEOS: true, Tenant: "a"}
		want, _ := device.answer(t, next)
		for _, other := range []*Engine{fakeOnDisk(t, device, openStore(t, t.TempDir()), Options{}), fakeEngine(t, device, Options{})} {
			if other.Fingerprint() != e.Fingerprint() {
				t.Error("equal engines have different fingerprints")
			}
			i := 0
			n, err := other.Import(ctx, "a", text, func() (Block, error) {
				if i == len(blocks) {
					return Block{}, io.EOF
				}
				i++
				return blocks[i-1], nil
			})
			if err != nil || n != 576 {
				t.Errorf("imported %d tokens, %v", n, err)
			}
			got := collect(t, submit(t, other, next))
			if !slices.Equal(got.tokens, want) || got.done.Usage.CachedTokens != 576 {
				t.Errorf("after an import: %v with %+v, want %v", got.tokens, got.done.Usage, want)
			}
			for _, bad := range []Block{{Tokens: 64, Data: make([]byte, 7)}, {Tokens: 128, Data: blocks[0].Data}, {State: true}, {Tokens: -64}, {}} {
				if n, err := other.Import(ctx, "a", text, func() (Block, error) { return bad, nil }); !errors.Is(err, ErrBlock) || n != 0 {
					t.Errorf("block %+v: %d tokens, %v", bad, n, err)
				}
			}
		}
		if got := collect(t, submit(t, e, next)); !slices.Equal(got.tokens, want) {
			t.Errorf("after the end was forgotten: %v, want %v", got.tokens, want)
		}
		if err := e.Evict(ctx, "a", text, TierDisk); err != nil {
			t.Error(err)
		}
		for _, other := range []struct{ fingerprint, tenant string }{{"another", "a"}, {e.Fingerprint(), "b"}} {
			if err := ForgetOnDisk(store, other.fingerprint, other.tenant, text, 0); err != nil {
				t.Error(err)
			}
		}
		if got := where(e, "a"); got[2] == 0 {
			t.Errorf("after other blocks were forgotten: %v", got)
		}
		if err := ForgetOnDisk(store, e.Fingerprint(), "a", text, 0); err != nil {
			t.Error(err)
		}
		if got := where(e, "a"); got != [3]int{600, 0, 0} {
			t.Errorf("after the disk forgot: %v", got)
		}
		checkIdle(t, e)
	}
}
