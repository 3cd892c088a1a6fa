package kvcache

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// begin runs a prompt that goes on with fewer than a block behind what is to be saved, and saves there.
func (d *device) begin(tokens []int32, worth Worth) (hit int) {
	d.t.Helper()
	s := d.cache.NewSequence()
	hit = d.run(s, 0, tokens)
	d.save(s, worth)
	d.cache.Release(s)
	d.check()
	return hit
}

func TestPrefixEndsAtASnapshot(t *testing.T) {
	d := newDevice(t, Options{Blocks: 32, Slots: 2, Snapshots: 4})
	s, prompt := d.cache.NewSequence(), count(1, 22)
	d.run(s, 0, prompt[:9])
	d.save(s, Lasting) // at 8
	if err := d.cache.Grow(s, 22); err != nil {
		t.Fatal(err)
	}
	d.compute(s, 0, prompt, 9)
	d.cache.Publish(s, 0, prompt)
	d.cache.Release(s)
	if s.Slot() != -1 {
		t.Errorf("a released sequence holds slot %d", s.Slot())
	}
	for _, test := range []struct{ tokens, match, hit, parted int }{
		{22, 8, 8, 20}, {20, 8, 8, 16}, {9, 8, 8, 8}, {8, 8, 0, 4}, {7, 0, 0, 4}, {4, 0, 0, 0},
	} {
		if got := d.cache.Match(0, prompt[:test.tokens]); got != test.match {
			t.Errorf("Match of %d tokens = %d, want %d", test.tokens, got, test.match)
		}
		hit := d.cache.Acquire(s, 0, prompt[:test.tokens])
		if hit != test.hit || s.Parted() != test.parted {
			t.Errorf("Acquire of %d tokens = %d, parted at %d, want %d and %d", test.tokens, hit, s.Parted(), test.hit, test.parted)
		}
		if _, ok := s.Snapshot(); ok != (hit > 0) {
			t.Errorf("with %d tokens from the cache there is a snapshot: %t", hit, ok)
		}
		d.check()
		d.cache.Release(s)
	}
	if cost := d.cache.Cost(0, prompt, 24); cost != 6 {
		t.Errorf("Cost = %d, want 6: nothing is held", cost)
	}
	if got := d.cache.Stats(); got.Snapshots != 1 || got.Saved != 1 || got.Loaded != 0 || got.HitTokens != 24 {
		t.Errorf("Stats = %+v", got)
	}
}

func TestWithoutSnapshotsNothingComesBack(t *testing.T) {
	d := newDevice(t, Options{Blocks: 32, Slots: 2})
	for range 2 {
		s := d.cache.NewSequence()
		if hit := d.run(s, 0, count(1, 13)); hit != 0 {
			t.Errorf("%d tokens came back without their state", hit)
		}
		if d.save(s, Lasting) {
			t.Error("a snapshot was attached of none")
		}
		d.cache.Release(s)
	}
}

// TestConversationsTakeTurns wants every conversation to go on from its last answer, with two snapshots for each: those of
// its last prompt and its last answer.
func TestConversationsTakeTurns(t *testing.T) {
	const conversations, turns = 10, 8
	for _, dropsReasoning := range []bool{false, true} {
		t.Run(fmt.Sprintf("drops reasoning: %t", dropsReasoning), func(t *testing.T) {
			d := newDevice(t, Options{Blocks: 2000, Slots: 1, Snapshots: 2 * conversations})
			logs := make([][]int32, conversations)
			for turn := range turns {
				for i := range logs {
					prompt := append(logs[i], count(1000*i+100*turn, 21)...)
					s := d.cache.NewSequence()
					hit := d.run(s, 0, prompt)
					if want := len(logs[i]) / testBlockLen * testBlockLen; hit != want {
						t.Fatalf("turn %d of conversation %d goes on from %d tokens, want %d", turn, i, hit, want)
					}
					d.save(s, Lasting)
					all := append(slices.Clone(prompt), count(1000*i+100*turn+30, 18)...)
					if err := d.cache.Grow(s, len(all)); err != nil {
						t.Fatal(err)
					}
					d.compute(s, 0, all, len(prompt))
					d.cache.Publish(s, 0, all)
					d.save(s, Lasting)
					d.cache.Release(s)
					logs[i] = all
					if dropsReasoning {
						logs[i] = prompt
					}
				}
			}
		})
	}
}

// TestCommonBeginningsStay lets others begin and never come back, and agents begin with one prompt now and then.
func TestCommonBeginningsStay(t *testing.T) {
	d := newDevice(t, Options{Blocks: 1000, Slots: 1, Snapshots: 6})
	system := count(1, 16)
	agent := func(i int) (hit int) {
		s, prompt := d.cache.NewSequence(), append(slices.Clone(system), count(1000*i, 10)...)
		hit = d.run(s, 0, prompt[:17])
		if hit < 16 && s.Parted() == 16 {
			d.save(s, Lasting)
		}
		if err := d.cache.Grow(s, len(prompt)); err != nil {
			t.Fatal(err)
		}
		d.compute(s, 0, prompt, 17)
		d.cache.Publish(s, 0, prompt)
		d.save(s, Lasting)
		d.cache.Release(s)
		return hit
	}
	for i, want := range []int{0, 0, 16, 16, 16, 16} {
		if hit := agent(1 + i); hit != want {
			t.Errorf("agent %d goes on from %d tokens, want %d", i, hit, want)
		}
		for j := range 3 + i {
			d.begin(count(100_000+1000*i+100*j, 9), Lasting)
		}
	}
	for j := range 40 { // nobody needs the prompt any more
		d.begin(count(200_000+100*j, 9), Lasting)
	}
	if hit := d.cache.Match(0, system); hit != 0 {
		t.Errorf("a prompt that was common once is still there")
	}
}

// TestPassingSnapshotsMakeRoom computes a long prompt with snapshots on the way. While there is room they stay; when there
// is none, they replace each other and nobody else's.
func TestPassingSnapshotsMakeRoom(t *testing.T) {
	for _, test := range []struct{ snapshots, kept int }{{16, 7}, {4, 2}, {3, 1}} {
		d := newDevice(t, Options{Blocks: 100, Slots: 1, Snapshots: test.snapshots})
		d.begin(count(1000, 9), Lasting)
		d.begin(count(2000, 9), Lasting)
		s, prompt := d.cache.NewSequence(), count(1, 30)
		for n := 4; n < 30; n += 4 {
			if err := d.cache.Grow(s, n); err != nil {
				t.Fatal(err)
			}
			d.compute(s, 0, prompt[:n], n-4)
			d.cache.Publish(s, 0, prompt[:n])
			d.save(s, Passing)
		}
		d.cache.Release(s)
		if d.cache.Match(0, count(1000, 9)) != 8 || d.cache.Match(0, count(2000, 9)) != 8 || d.cache.Match(0, prompt) != 28 {
			t.Errorf("of %d snapshots none is left of another prompt, or of the end", test.snapshots)
		}
		if got := d.cache.Stats().Snapshots - 2; got != test.kept {
			t.Errorf("of %d snapshots %d are kept on the way, want %d", test.snapshots, got, test.kept)
		}
	}
}

func TestPinnedSnapshotsStay(t *testing.T) {
	d := newDevice(t, Options{Blocks: 100, Slots: 3, Snapshots: 2})
	d.begin(count(1, 9), Lasting)
	d.begin(count(101, 9), Lasting)
	a, b, other := d.cache.NewSequence(), d.cache.NewSequence(), d.cache.NewSequence()
	d.cache.Acquire(a, 0, count(1, 9)) // the oldest
	d.run(other, 0, count(201, 9))
	d.save(other, Lasting)
	if d.cache.Match(0, count(101, 9)) != 0 || d.cache.Match(0, count(201, 9)) != 8 {
		t.Error("the new snapshot did not replace the one that nobody waits for")
	}
	d.cache.Acquire(b, 0, count(201, 9))
	d.cache.Release(other)
	d.run(other, 0, count(301, 9))
	if d.save(other, Lasting) {
		t.Error("a snapshot that is about to be loaded was replaced")
	}
	d.load(a, 0, count(1, 8))
	d.load(b, 0, count(201, 8))
	if !d.save(other, Lasting) || d.cache.Match(0, count(1, 9)) != 0 {
		t.Error("the oldest snapshot was not replaced when it had been loaded")
	}
}

func TestSnapshotsGoWithTheirBlocks(t *testing.T) {
	d := newDevice(t, Options{Blocks: 6, Slots: 1, Snapshots: 2})
	d.begin(count(1, 9), Lasting) // three blocks, of which two stay
	s := d.cache.NewSequence()
	if err := d.cache.Grow(s, 20); err != nil { // takes the second of the two
		t.Fatal(err)
	}
	d.check()
	if got := d.cache.Stats(); got.Snapshots != 0 || got.Replaced != 0 || d.cache.Match(0, count(1, 9)) != 0 {
		t.Errorf("Stats = %+v, want no snapshot left", got)
	}
	d.cache.Release(s)
	d.begin(count(1, 9), Lasting)
	d.begin(count(11, 5), Lasting)
	if d.begin(count(1, 9), Lasting) != 8 || d.cache.Stats().Saved != 3 {
		t.Errorf("Stats = %+v: the same state was saved again", d.cache.Stats())
	}
	d.begin(count(21, 5), Lasting)
	if d.cache.Match(0, count(11, 5)) != 0 || d.cache.Match(0, count(1, 9)) != 8 {
		t.Error("what was attached again is replaced before what was not")
	}
}

func TestStateHasNoForks(t *testing.T) {
	d := newDevice(t, Options{Blocks: 8, Slots: 2})
	s := d.cache.NewSequence()
	d.run(s, 0, count(1, 9))
	defer func() {
		if r, ok := recover().(string); !ok || !strings.HasPrefix(r, "kvcache: Fork: ") {
			t.Errorf("recovered %v", r)
		}
	}()
	_, _, _, _ = d.cache.Fork(d.cache.NewSequence(), s, 4)
}

func TestSnapshotsAllocateNothing(t *testing.T) {
	d := newDevice(t, Options{Blocks: 64, BlockLen: 64, Slots: 2, Snapshots: 3})
	prompts := [][]int32{count(0, 1000), count(5000, 900), append(count(0, 500), count(9000, 500)...)}
	s := d.cache.NewSequence()
	round := 0
	allocs := testing.AllocsPerRun(100, func() {
		prompt := prompts[round%len(prompts)]
		round++
		if d.cache.Acquire(s, 1, prompt) > 0 {
			d.cache.Loaded(s)
		}
		if err := d.cache.Grow(s, len(prompt)); err != nil {
			t.Fatal(err)
		}
		for n := 256; n <= len(prompt); n += 256 {
			d.cache.Publish(s, 1, prompt[:n])
			d.cache.Attach(s, n, Passing)
		}
		d.cache.Release(s)
	})
	if allocs != 0 {
		t.Errorf("%v allocations per round, want 0", allocs)
	}
	if got := d.cache.Stats(); got.Replaced == 0 || got.Loaded == 0 {
		t.Errorf("the rounds did too little: %+v", got)
	}
	d.check()
}

// TestRenewedSnapshotStays renews the snapshot of a prompt that others go on from, beside more snapshots than there is room for.
func TestRenewedSnapshotStays(t *testing.T) {
	for _, renews := range []bool{false, true} {
		d := newDevice(t, Options{Blocks: 200, Slots: 2, Snapshots: 4})
		prompt := count(1, 9)
		d.begin(prompt, Lasting) // at 8
		for i := range 20 {
			prompt = append(prompt, count(100*i, 8)...)
			s := d.cache.NewSequence()
			d.run(s, 0, prompt)
			if renews {
				d.cache.Renew(s, 8)
			}
			d.cache.Renew(s, 5)   // no block ends there
			d.cache.Renew(s, 0)   // nor there
			d.cache.Renew(s, 4)   // and here is no snapshot
			d.cache.Renew(s, 400) // and no block
			d.save(s, Lasting)
			d.cache.Release(s)
			d.check()
		}
		want := 0
		if renews {
			want = 8
		}
		if got := d.cache.Match(0, append(count(1, 9), 77, 78, 79)); got != want {
			t.Errorf("renewed %t: %d tokens are found, want %d", renews, got, want)
		}
	}
}
