package kvcache

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

const testBlockLen = 4

// device is a fake that remembers what each position of each block holds: the salt and all tokens up to there, as text.
// So a test proves that the right content came back, not only the right number of blocks.
type device struct {
	t      *testing.T
	cache  *Cache
	blocks [][]string // [blocks][testBlockLen]

	slots     []fakeState // what the sequences of the slots have computed
	snapshots []string    // the state that each was saved with, as text
}

// fakeState is the state of a sequence, which can be saved at the last multiple of BlockLen.
type fakeState struct {
	salt   uint64
	tokens []int32
}

func newDevice(t *testing.T, options Options) *device {
	t.Helper()
	if options.BlockLen == 0 {
		options.BlockLen = testBlockLen
	}
	cache, err := New(options)
	if err != nil {
		t.Fatal(err)
	}
	d := &device{t: t, cache: cache, blocks: make([][]string, options.Blocks)}
	d.slots, d.snapshots = make([]fakeState, options.Slots), make([]string, options.Snapshots)
	for i := range d.blocks {
		d.blocks[i] = make([]string, options.BlockLen)
	}
	return d
}

func content(salt uint64, tokens []int32) string { return fmt.Sprint(salt, tokens) }

// compute fills positions [from, len(tokens)) as a forward pass would, from the state in the sequence's slot.
func (d *device) compute(s *Sequence, salt uint64, tokens []int32, from int) {
	d.t.Helper()
	if len(d.slots) > 0 && from < len(tokens) {
		state := &d.slots[s.Slot()]
		if from > 0 && (state.salt != salt || !slices.Equal(state.tokens, tokens[:from])) {
			d.t.Fatalf("slot %d stands after %v, not after %v", s.Slot(), state.tokens, tokens[:from])
		}
		*state = fakeState{salt, slices.Clone(tokens)}
	}
	n := d.cache.options.BlockLen
	for i := from; i < len(tokens); i++ {
		d.blocks[s.Blocks()[i/n]][i%n] = content(salt, tokens[:i+1])
	}
}

// load copies the acquired snapshot into the sequence's slot, and fails unless it is the state after exactly these tokens.
func (d *device) load(s *Sequence, salt uint64, tokens []int32) {
	d.t.Helper()
	id, ok := s.Snapshot()
	if !ok {
		d.t.Fatalf("a sequence goes on from %d tokens without a snapshot", len(tokens))
	}
	if got, want := d.snapshots[id], content(salt, tokens); got != want {
		d.t.Fatalf("snapshot %d holds the state after %s, want %s", id, got, want)
	}
	d.slots[s.Slot()] = fakeState{salt, slices.Clone(tokens)}
	d.cache.Loaded(s)
}

// save attaches the state of the sequence's slot to the last full block and reports whether it was to be saved.
func (d *device) save(s *Sequence, worth Worth) bool {
	d.t.Helper()
	state, n := d.slots[s.Slot()], d.cache.options.BlockLen
	position := len(state.tokens) / n * n
	id, ok := d.cache.Attach(s, position, worth)
	if ok {
		d.snapshots[id] = content(state.salt, state.tokens[:position])
	}
	d.check()
	return ok
}

// verify fails unless the table leads to the content of exactly these tokens.
func (d *device) verify(s *Sequence, salt uint64, tokens []int32) {
	d.t.Helper()
	n := d.cache.options.BlockLen
	for i := range tokens {
		if got, want := d.blocks[s.Blocks()[i/n]][i%n], content(salt, tokens[:i+1]); got != want {
			d.t.Fatalf("position %d in block %d of %v holds %q, want %q", i, i/n, s.Blocks(), got, want)
		}
	}
}

func (d *device) check() {
	d.t.Helper()
	if err := d.cache.Check(); err != nil {
		d.t.Fatal(err)
	}
}

// run is the whole way of a prompt: reuse, grow, compute the rest, publish. It returns the tokens reused.
func (d *device) run(s *Sequence, salt uint64, tokens []int32) int {
	d.t.Helper()
	match := d.cache.Match(salt, tokens)
	hit := d.cache.Acquire(s, salt, tokens)
	if want := min(match, (len(tokens)-1)/d.cache.options.BlockLen*d.cache.options.BlockLen); hit != want {
		d.t.Fatalf("Acquire found %d tokens, want %d: Match found %d of %d", hit, want, match, len(tokens))
	}
	d.verify(s, salt, tokens[:hit])
	if hit > 0 && len(d.slots) > 0 {
		d.load(s, salt, tokens[:hit])
	}
	if err := d.cache.Grow(s, len(tokens)); err != nil {
		d.t.Fatalf("Grow to %d: %v, %+v", len(tokens), err, d.cache.Stats())
	}
	d.compute(s, salt, tokens, hit)
	d.cache.Publish(s, salt, tokens)
	d.verify(s, salt, tokens)
	d.check()
	return hit
}

// count returns n ascending tokens from first.
func count(first, n int) []int32 {
	tokens := make([]int32, n)
	for i := range tokens {
		tokens[i] = int32(first + i)
	}
	return tokens
}

func TestValidateNamesTheField(t *testing.T) {
	for _, test := range []struct {
		options Options
		want    string // "" for valid
	}{
		{Options{Blocks: 1}, ""},
		{Options{Blocks: 8, BlockLen: 64, MaxSequences: 2, MaxBlocksPerSequence: 4}, ""},
		{Options{}, "Blocks is 0"},
		{Options{Blocks: -1}, "Blocks is -1"},
		{Options{Blocks: 1 << 40}, "Blocks is"},
		{Options{Blocks: 1, BlockLen: -2}, "BlockLen is -2"},
		{Options{Blocks: 1, MaxSequences: -3}, "MaxSequences is -3"},
		{Options{Blocks: 1, MaxBlocksPerSequence: -4}, "MaxBlocksPerSequence is -4"},
		{Options{Blocks: 8, Slots: 2}, ""},
		{Options{Blocks: 8, Slots: 3, MaxSequences: 2, Snapshots: 5}, ""},
		{Options{Blocks: 8, Slots: 2, MaxSequences: 3}, "Slots is 2"},
		{Options{Blocks: 8, Slots: -1}, "Slots is -1"},
		{Options{Blocks: 8, Slots: 1, Snapshots: -1}, "Snapshots is -1"},
		{Options{Blocks: 8, Snapshots: 1}, "Snapshots is 1 without Slots"},
	} {
		_, err := New(test.options)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("New(%+v) = %v, want an error with %q", test.options, err, test.want)
		}
	}
}

func TestPrefixComesBack(t *testing.T) {
	d := newDevice(t, Options{Blocks: 16})
	s := d.cache.NewSequence()
	prompt := count(1, 10) // two full blocks and a half
	if hit := d.run(s, 7, prompt); hit != 0 {
		t.Fatalf("an empty cache found %d tokens", hit)
	}
	d.cache.Release(s)
	d.check()

	if got := d.cache.Match(7, prompt); got != 8 {
		t.Errorf("Match after release = %d, want 8", got)
	}
	if got := d.cache.Match(8, prompt); got != 0 {
		t.Errorf("Match with another salt = %d, want 0", got)
	}
	if got := d.cache.Match(7, append(count(1, 5), 99, 100, 101)); got != 4 {
		t.Errorf("Match of a prompt that differs in its second block = %d, want 4", got)
	}
	if got := d.cache.Match(7, prompt[4:]); got != 0 {
		t.Errorf("Match of the second block alone = %d, want 0: a block is found only behind its prefix", got)
	}
	if got := d.cache.Match(7, prompt[:8]); got != 8 {
		t.Errorf("Match of exactly two blocks = %d, want 8", got)
	}
	if got := d.cache.Acquire(s, 7, prompt[:8]); got != 4 {
		t.Errorf("Acquire of exactly two cached blocks = %d, want 4: the last token must be computed", got)
	}
	d.cache.Release(s)

	if hit := d.run(s, 7, count(1, 15)); hit != 8 {
		t.Errorf("the longer prompt reused %d tokens, want 8", hit)
	}
	d.cache.Release(s)
	d.check()
	want := Stats{Blocks: 16, Free: 13, Idle: 3, Cached: 3, HitTokens: 4 + 8, MissTokens: 10 + 4 + 7}
	if got := d.cache.Stats(); got != want {
		t.Errorf("Stats = %+v, want %+v", got, want)
	}
}

func TestSharedBlocksOutliveTheirFirstOwner(t *testing.T) {
	d := newDevice(t, Options{Blocks: 6})
	a, b := d.cache.NewSequence(), d.cache.NewSequence()
	d.run(a, 0, count(1, 9))
	if hit := d.run(b, 0, append(count(1, 8), 50, 51)); hit != 8 {
		t.Fatalf("b reused %d tokens, want 8", hit)
	}
	if a.Blocks()[0] != b.Blocks()[0] || a.Blocks()[2] == b.Blocks()[2] {
		t.Fatalf("tables are %v and %v, want the first two blocks shared", a.Blocks(), b.Blocks())
	}
	d.cache.Release(a)
	d.check()
	if err := d.cache.Grow(b, 6*testBlockLen); err != nil {
		t.Fatalf("b cannot have all six blocks: %v", err)
	}
	d.check()
	d.verify(b, 0, append(count(1, 8), 50, 51))
}

func TestEvictionTakesTheOldestAndTheDeepestFirst(t *testing.T) {
	d := newDevice(t, Options{Blocks: 8})
	s := d.cache.NewSequence()
	old, recent := count(100, 12), count(200, 12)
	d.run(s, 0, old)
	d.cache.Release(s)
	d.run(s, 0, recent)
	d.cache.Release(s)
	d.run(s, 0, count(100, 5)) // the first block of old is used again
	d.cache.Release(s)

	// Seven are idle or free by now: old 3, recent 3, free 2. Every further block evicts the next in this order.
	filler := d.cache.NewSequence()
	for _, step := range []struct{ length, old, recent int }{
		{2, 12, 12}, // the two free ones
		{3, 8, 12},  // end of old
		{4, 4, 12},
		{5, 4, 8}, // old's first block was used last, so recent goes before it
		{6, 4, 4},
		{7, 4, 0},
		{8, 0, 0},
	} {
		if err := d.cache.Grow(filler, step.length*testBlockLen); err != nil {
			t.Fatalf("Grow to %d blocks: %v", step.length, err)
		}
		d.check()
		if o, r := d.cache.Match(0, old), d.cache.Match(0, recent); o != step.old || r != step.recent {
			t.Errorf("with %d blocks taken old matches %d and recent %d tokens, want %d and %d", step.length, o, r, step.old, step.recent)
		}
	}
	if got := d.cache.Stats().Evictions; got != 6 {
		t.Errorf("%d evictions, want 6", got)
	}
}

func TestMatchDoesNotTouch(t *testing.T) {
	d := newDevice(t, Options{Blocks: 2})
	s := d.cache.NewSequence()
	d.run(s, 0, count(1, 4))
	d.cache.Release(s)
	d.run(s, 0, count(11, 4))
	d.cache.Release(s)
	before := d.cache.Stats()
	d.cache.Match(0, count(1, 4)) // would make it the most recent
	d.cache.Cost(0, count(1, 5), 5)
	if got := d.cache.Stats(); got != before {
		t.Errorf("Match changed %+v to %+v", before, got)
	}
	d.run(s, 0, count(21, 4))
	if d.cache.Match(0, count(1, 4)) != 0 || d.cache.Match(0, count(11, 4)) != 4 {
		t.Error("the block that was only matched survived the more recent one")
	}
}

func TestGrowChangesNothingWhenFull(t *testing.T) {
	d := newDevice(t, Options{Blocks: 4})
	a, b := d.cache.NewSequence(), d.cache.NewSequence()
	d.run(a, 0, count(1, 6))
	before, table := d.cache.Stats(), slices.Clone(a.Blocks())
	if err := d.cache.Grow(a, 5*testBlockLen-19); err != nil || len(a.Blocks()) != 2 {
		t.Errorf("Grow to fewer blocks: %v, table %v", err, a.Blocks())
	}
	if err := d.cache.Grow(b, 3*testBlockLen); !errors.Is(err, ErrFull) {
		t.Errorf("Grow past the end = %v, want ErrFull", err)
	}
	if got := d.cache.Stats(); got != before || b.Len() != 0 || !slices.Equal(a.Blocks(), table) {
		t.Errorf("after ErrFull: %+v, want %+v; tables %v %v", got, before, a.Blocks(), b.Blocks())
	}
	d.check()
}

func TestDuplicatesBecomeOne(t *testing.T) {
	d := newDevice(t, Options{Blocks: 8})
	a, b := d.cache.NewSequence(), d.cache.NewSequence()
	prompt := count(1, 9)
	for _, s := range []*Sequence{a, b} { // both start before either has published
		if err := d.cache.Grow(s, len(prompt)); err != nil {
			t.Fatal(err)
		}
		d.compute(s, 0, prompt, 0)
	}
	d.cache.Publish(a, 0, prompt)
	first := slices.Clone(a.Blocks())
	d.cache.Publish(b, 0, prompt)
	d.check()
	if !slices.Equal(a.Blocks(), first) || !slices.Equal(b.Blocks()[:2], first[:2]) || b.Blocks()[2] == first[2] {
		t.Errorf("tables are %v and %v, want the first to stay %v and the second to share its full blocks", a.Blocks(), b.Blocks(), first)
	}
	if got := d.cache.Stats(); got.Referenced != 4 || got.Cached != 2 {
		t.Errorf("Stats = %+v, want 4 referenced and 2 cached blocks", got)
	}
	d.verify(b, 0, prompt)
}

func TestFork(t *testing.T) {
	for _, test := range []struct{ length, shared int }{{0, 0}, {3, 0}, {4, 1}, {6, 1}, {8, 2}, {10, 2}} {
		t.Run(fmt.Sprint(test.length), func(t *testing.T) {
			d := newDevice(t, Options{Blocks: 8})
			src, dst := d.cache.NewSequence(), d.cache.NewSequence()
			prompt := count(1, 10)
			d.run(src, 3, prompt)
			from, to, needsCopy, err := d.cache.Fork(dst, src, test.length)
			if err != nil {
				t.Fatal(err)
			}
			if want := test.length%testBlockLen != 0; needsCopy != want {
				t.Fatalf("needsCopy is %t, want %t", needsCopy, want)
			}
			if needsCopy {
				copy(d.blocks[to], d.blocks[from])
			}
			d.check()
			if !slices.Equal(dst.Blocks()[:test.shared], src.Blocks()[:test.shared]) {
				t.Errorf("tables are %v and %v, want %d shared", src.Blocks(), dst.Blocks(), test.shared)
			}
			d.verify(dst, 3, prompt[:test.length])
			// Both go on differently and neither disturbs the other.
			other := append(slices.Clone(prompt[:test.length]), 90, 91, 92, 93, 94)
			if err := d.cache.Grow(dst, len(other)); err != nil {
				t.Fatal(err)
			}
			d.compute(dst, 3, other, test.length)
			d.cache.Publish(dst, 3, other)
			d.check()
			d.verify(dst, 3, other)
			d.verify(src, 3, prompt)
		})
	}
}

func TestForkWithoutABlockLeft(t *testing.T) {
	d := newDevice(t, Options{Blocks: 2})
	src, dst := d.cache.NewSequence(), d.cache.NewSequence()
	d.run(src, 0, count(1, 6))
	before := d.cache.Stats()
	if _, _, _, err := d.cache.Fork(dst, src, 6); !errors.Is(err, ErrFull) {
		t.Errorf("Fork = %v, want ErrFull", err)
	}
	if got := d.cache.Stats(); got != before || dst.Len() != 0 {
		t.Errorf("after ErrFull: %+v, want %+v", got, before)
	}
	d.check()
}

// A fork shares blocks that nobody published yet; publishing them from one side must keep both tables alike, or the
// other side would hold a cached block whose parent it does not hold.
func TestForksFollowASwap(t *testing.T) {
	d := newDevice(t, Options{Blocks: 12})
	prompt := count(1, 8)
	first, src, dst := d.cache.NewSequence(), d.cache.NewSequence(), d.cache.NewSequence()
	if err := d.cache.Grow(src, 8); err != nil {
		t.Fatal(err)
	}
	d.compute(src, 0, prompt, 0)
	if _, _, _, err := d.cache.Fork(dst, src, 8); err != nil {
		t.Fatal(err)
	}
	d.run(first, 0, prompt[:4])
	d.cache.Publish(src, 0, prompt) // swaps the first block, publishes the second behind it
	d.check()
	if !slices.Equal(src.Blocks(), dst.Blocks()) || src.Blocks()[0] != first.Blocks()[0] {
		t.Errorf("tables are %v, %v and %v, want the first block of all alike", first.Blocks(), src.Blocks(), dst.Blocks())
	}
	d.cache.Release(first)
	d.cache.Release(src)
	d.check()
	d.verify(dst, 0, prompt)
	d.cache.Publish(dst, 0, prompt)
	d.check()
	d.cache.Release(dst)
	d.check()
	if got := d.cache.Stats(); got.Idle != 2 || got.Free != 10 {
		t.Errorf("Stats = %+v, want 2 idle and 10 free", got)
	}
}

func TestCostForetellsAvailable(t *testing.T) {
	d := newDevice(t, Options{Blocks: 10})
	a, b := d.cache.NewSequence(), d.cache.NewSequence()
	d.run(a, 0, count(1, 13))
	d.cache.Release(a)
	d.run(a, 0, count(1, 6)) // block 0 referenced, blocks 1 and 2 idle
	prompt := count(1, 13)
	cost, before := d.cache.Cost(0, prompt, 20), d.cache.Available()
	if cost != 4 { // five blocks, of which one is shared with a running sequence
		t.Errorf("Cost = %d, want 4", cost)
	}
	d.run(b, 0, prompt)
	if err := d.cache.Grow(b, 20); err != nil {
		t.Fatal(err)
	}
	if got := before - d.cache.Available(); got != cost {
		t.Errorf("Available fell by %d, Cost said %d", got, cost)
	}
}

// With a hash that says the same of everything, all blocks are in one chain; only the comparison of salt, parent and
// tokens tells them apart.
func TestCollisionsAreNoHits(t *testing.T) {
	d := newDevice(t, Options{Blocks: 32})
	d.cache.index.hash = func(uint64, []int32) uint64 { return 5 }
	s := d.cache.NewSequence()
	prompts := [][]int32{count(1, 9), count(50, 9), append(count(50, 4), count(1, 5)...), append(count(1, 4), count(50, 5)...)}
	for salt := range uint64(2) {
		for i, prompt := range prompts {
			hit := d.run(s, salt, prompt)
			if want := 4 * (i / 2); hit != want {
				t.Errorf("salt %d prompt %d reused %d tokens, want %d", salt, i, hit, want)
			}
			d.cache.Release(s)
			d.check()
		}
	}
	for salt := range uint64(2) {
		for i, prompt := range prompts {
			if hit := d.run(s, salt, prompt); hit != 8 {
				t.Errorf("salt %d prompt %d reused %d tokens, want 8", salt, i, hit)
			}
			d.cache.Release(s)
		}
	}
}

func TestBrokenContractsPanic(t *testing.T) {
	for name, breakIt := range map[string]func(c *Cache, s *Sequence){
		"Acquire of a full table": func(c *Cache, s *Sequence) { c.Acquire(s, 0, count(1, 9)) },
		"Grow past the longest":   func(c *Cache, s *Sequence) { _ = c.Grow(s, 100) },
		"Publish past the table":  func(c *Cache, s *Sequence) { c.Publish(s, 0, count(1, 20)) },
		"Publish other salt":      func(c *Cache, s *Sequence) { _ = c.Grow(s, 12); c.Publish(s, 1, count(1, 12)) },
		"Fork to a full table":    func(c *Cache, s *Sequence) { _, _, _, _ = c.Fork(s, s, 4) },
		"Fork past the table":     func(c *Cache, s *Sequence) { _, _, _, _ = c.Fork(c.NewSequence(), s, 13) },
		"too many sequences":      func(c *Cache, s *Sequence) { _ = c.Grow(c.NewSequence(), 1); _ = c.Grow(c.NewSequence(), 1) },
		"Attach without a block":  func(c *Cache, s *Sequence) { c.Attach(s, 0, Lasting) },
		"Attach inside a block":   func(c *Cache, s *Sequence) { c.Attach(s, 7, Lasting) },
		"Attach past the table":   func(c *Cache, s *Sequence) { c.Attach(s, 12, Lasting) },
		"Loaded without snapshot": func(c *Cache, s *Sequence) { c.Loaded(s) },
	} {
		t.Run(name, func(t *testing.T) {
			d := newDevice(t, Options{Blocks: 8, MaxSequences: 2, MaxBlocksPerSequence: 4})
			s := d.cache.NewSequence()
			d.run(s, 0, count(1, 9))
			defer func() {
				if r, ok := recover().(string); !ok || !strings.HasPrefix(r, "kvcache: ") {
					t.Errorf("recovered %v, want a panic that names the package", r)
				}
			}()
			breakIt(d.cache, s)
		})
	}
}

// TestCheckFindsDamage breaks each invariant by hand.
func TestCheckFindsDamage(t *testing.T) {
	for name, damage := range map[string]func(c *Cache, s *Sequence){
		"invariant 1": func(c *Cache, s *Sequence) { c.pool.free = c.pool.free[:len(c.pool.free)-1] },
		"invariant 2": func(c *Cache, s *Sequence) { c.pool.refs[s.blocks[0]]++ },
		"invariant 3": func(c *Cache, s *Sequence) { c.index.nodes[c.pool.free[0]].cached = true },
		"invariant 4": func(c *Cache, s *Sequence) { c.index.nodes[s.blocks[1]].salt = 9 },
		"invariant 5": func(c *Cache, s *Sequence) { s.blocks[0], s.blocks[1] = s.blocks[1], s.blocks[0] },
		"invariant 6": func(c *Cache, s *Sequence) {
			c.Release(s)
			id := c.pool.idle.oldest
			c.pool.idle.remove(id)
			c.pool.idle.push(id)
		},
		"invariant 7":  func(c *Cache, s *Sequence) { c.index.tokensOf(s.blocks[0])[0] = 77 },
		"invariant 8":  func(c *Cache, s *Sequence) { c.active = append(c.active, c.NewSequence()) },
		"invariant 9":  func(c *Cache, s *Sequence) { s.slot = c.states.slots[0] },
		"invariant 10": func(c *Cache, s *Sequence) { c.index.nodes[s.blocks[0]].snapshot = 1 },
		"invariant 11": func(c *Cache, s *Sequence) { s.loading = 0 },
		"invariant 12": func(c *Cache, s *Sequence) { c.states.kept.remove(0) },
	} {
		t.Run(name, func(t *testing.T) {
			d := newDevice(t, Options{Blocks: 8, Slots: 2, Snapshots: 3})
			s := d.cache.NewSequence()
			d.run(s, 0, count(1, 9))
			d.save(s, Lasting)
			damage(d.cache, s)
			if err := d.cache.Check(); err == nil || !strings.Contains(err.Error(), name+":") {
				t.Errorf("Check = %v, want %s", err, name)
			}
		})
	}
}

// live is a running sequence of the random test.
type live struct {
	table    *Sequence
	salt     uint64
	tokens   []int32
	computed int
}

// TestRandomOperations plays a server for many steps: few distinct tokens, so that prefixes meet often, few blocks, so
// that eviction and ErrFull happen often. After every operation all invariants hold, every table leads to the right
// content, and at the end nothing leaked.
func TestRandomOperations(t *testing.T) {
	seeds := uint64(40)
	if testing.Short() {
		seeds = 8
	}
	loaded, replaced := uint64(0), uint64(0)
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			options := Options{Blocks: 8 + rng.IntN(40), MaxSequences: 8}
			if seed%2 == 1 {
				options.Slots, options.Snapshots = 8, rng.IntN(12)
			}
			d := newDevice(t, options)
			if seed%4 == 0 {
				d.cache.index.hash = func(before uint64, tokens []int32) uint64 { return hashTokens(before, tokens) & 3 }
			}
			var running []*live
			for range 600 {
				running = randomOperation(d, rng, running)
				d.check()
				for _, l := range running {
					d.verify(l.table, l.salt, l.tokens[:l.computed])
				}
			}
			for _, l := range running {
				d.cache.Release(l.table)
			}
			d.check()
			stats := d.cache.Stats()
			if stats.Referenced != 0 || stats.Free+stats.Idle != stats.Blocks || stats.Cached != stats.Idle || len(d.cache.active) != 0 ||
				len(d.cache.states.slots) != options.Slots {
				t.Errorf("leaked: %+v, %d sequences active", stats, len(d.cache.active))
			}
			if stats.Evictions == 0 || stats.HitTokens == 0 && options.Slots == 0 {
				t.Errorf("the test tests too little: %+v", stats)
			}
			loaded, replaced = loaded+stats.Loaded, replaced+stats.Replaced
		})
	}
	if loaded < 3*seeds || replaced < 3*seeds {
		t.Errorf("only %d snapshots loaded and %d replaced: the test tests too little", loaded, replaced)
	}
}

func randomOperation(d *device, rng *rand.Rand, running []*live) []*live {
	d.t.Helper()
	switch op := rng.IntN(10); {
	case op < 3 && len(running) < d.cache.options.MaxSequences: // admit
		l := &live{table: d.cache.NewSequence(), salt: rng.Uint64N(2), tokens: randomTokens(rng, 1+rng.IntN(24))}
		cost := d.cache.Cost(l.salt, l.tokens, len(l.tokens))
		available := d.cache.Available()
		l.computed = d.cache.Acquire(l.table, l.salt, l.tokens)
		if l.computed >= len(l.tokens) {
			d.t.Fatalf("Acquire took %d of %d tokens", l.computed, len(l.tokens))
		}
		err := d.cache.Grow(l.table, len(l.tokens))
		if (err == nil) != (cost <= available) || err == nil && available-d.cache.Available() != cost {
			d.t.Fatalf("Cost said %d of %d; Grow = %v, %d left", cost, available, err, d.cache.Available())
		}
		if err != nil {
			d.cache.Release(l.table)
			return running
		}
		return append(running, l)
	case len(running) == 0:
	case op < 6: // compute a chunk
		l := running[rng.IntN(len(running))]
		if l.computed == len(l.tokens) {
			l.tokens = append(l.tokens, randomTokens(rng, 1)...)
			if d.cache.Grow(l.table, len(l.tokens)) != nil {
				l.tokens = l.tokens[:l.computed]
				return running
			}
		}
		to := l.computed + 1 + rng.IntN(len(l.tokens)-l.computed)
		if _, ok := l.table.Snapshot(); ok {
			d.load(l.table, l.salt, l.tokens[:l.computed])
		}
		d.compute(l.table, l.salt, l.tokens[:to], l.computed)
		l.computed = to
	case op < 8: // publish
		l := running[rng.IntN(len(running))]
		d.cache.Publish(l.table, l.salt, l.tokens[:l.computed])
		if _, pending := l.table.Snapshot(); len(d.slots) > 0 && !pending && l.computed >= testBlockLen {
			d.save(l.table, Worth(rng.IntN(2)))
		}
	case op == 8 && len(d.slots) == 0 && len(running) < d.cache.options.MaxSequences: // fork
		src := running[rng.IntN(len(running))]
		length := rng.IntN(src.computed + 1)
		l := &live{table: d.cache.NewSequence(), salt: src.salt, tokens: slices.Clone(src.tokens[:length]), computed: length}
		from, to, needsCopy, err := d.cache.Fork(l.table, src.table, length)
		if err != nil {
			return running
		}
		if needsCopy {
			copy(d.blocks[to], d.blocks[from])
		}
		return append(running, l)
	case op == 8 && rng.IntN(3) > 0: // where nothing is forked, sequences would be short
	default: // finish
		i := rng.IntN(len(running))
		d.cache.Release(running[i].table)
		return slices.Delete(running, i, i+1)
	}
	return running
}

// randomTokens returns tokens of which prefixes repeat often: one of two values at each position.
func randomTokens(rng *rand.Rand, n int) []int32 {
	tokens := make([]int32, n)
	for i := range tokens {
		if rng.IntN(6) == 0 {
			tokens[i] = 1
		}
	}
	return tokens
}

func TestSteadyStateAllocatesNothing(t *testing.T) {
	d := newDevice(t, Options{Blocks: 32, BlockLen: 64, MaxSequences: 4})
	prompts := [][]int32{count(0, 1000), count(5000, 900), append(count(0, 500), count(9000, 500)...)}
	a, b := d.cache.NewSequence(), d.cache.NewSequence()
	round := 0
	allocs := testing.AllocsPerRun(100, func() {
		prompt := prompts[round%len(prompts)]
		round++
		d.cache.Match(1, prompt)
		d.cache.Cost(1, prompt, len(prompt))
		d.cache.Acquire(a, 1, prompt)
		if err := d.cache.Grow(a, len(prompt)); err != nil {
			t.Fatal(err)
		}
		d.cache.Publish(a, 1, prompt)
		if _, _, _, err := d.cache.Fork(b, a, 700); err != nil {
			t.Fatal(err)
		}
		d.cache.Publish(b, 1, prompt[:700])
		d.cache.Stats()
		d.cache.Release(a)
		d.cache.Release(b)
	})
	if allocs != 0 {
		t.Errorf("%v allocations per round, want 0", allocs)
	}
	if d.cache.Stats().Evictions == 0 {
		t.Error("the rounds evicted nothing")
	}
	d.check()
}

// BenchmarkMatch/32k is the cost of asking for a long cached prompt.
func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{1 << 10, 32 << 10} {
		b.Run(fmt.Sprintf("%dk", n>>10), func(b *testing.B) {
			cache, err := New(Options{Blocks: 1024})
			if err != nil {
				b.Fatal(err)
			}
			s, prompt := cache.NewSequence(), count(0, n)
			if err := cache.Grow(s, n); err != nil {
				b.Fatal(err)
			}
			cache.Publish(s, 1, prompt)
			b.ReportAllocs()
			for b.Loop() {
				if got := cache.Match(1, prompt); got != n {
					b.Fatalf("Match = %d, want %d", got, n)
				}
			}
		})
	}
}
