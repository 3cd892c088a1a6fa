package kvcache

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"hearth/kvcache/disk"
)

// fakeDisk is what was saved: the contents of blocks, and states.
type fakeDisk struct {
	device *device
	blocks map[string][]string
	states map[string]string
}

func newFakeDisk(d *device) *fakeDisk {
	return &fakeDisk{device: d, blocks: map[string][]string{}, states: map[string]string{}}
}

func recordName(tenant string, key disk.Key) string { return fmt.Sprintf("%s %x", tenant, key) }

func (f *fakeDisk) has(tenant string, key disk.Key, kind disk.Kind) bool {
	name := recordName(tenant, key)
	if kind == disk.State {
		_, ok := f.states[name]
		return ok
	}
	return f.blocks[name] != nil
}

// save takes what became unsaved first; it returns false when there is nothing.
func (f *fakeDisk) save() bool {
	d := f.device
	u, ok := d.cache.NextUnsaved()
	if !ok {
		return false
	}
	name := recordName(u.Tenant, u.Key)
	if u.Kind == disk.State {
		f.states[name] = d.snapshots[u.ID]
	} else {
		f.blocks[name] = slices.Clone(d.blocks[u.ID])
	}
	d.cache.Saved(u)
	return true
}

// restore brings a prefix as far as the disk has it, and returns its length. The sequence is empty and stays so when that is 0.
func (f *fakeDisk) restore(s *Sequence, origin *Origin, salt uint64, tokens []int32) int {
	d, n := f.device, f.device.cache.options.BlockLen
	_, cached := d.cache.Lookup(salt, tokens)
	keys, end := []disk.Key{}, 0
	for before, i := origin.Root, 0; i < d.cache.reusable(tokens); i++ {
		before = NextKey(before, tokens[i*n:][:n])
		if keys = append(keys, before); i >= cached && !f.has(origin.Tenant, before, disk.Block) {
			break
		}
		if len(d.slots) == 0 || f.has(origin.Tenant, before, disk.State) {
			end = i + 1
		}
	}
	if end == 0 {
		return 0
	}
	s.SetOrigin(origin, true)
	held := d.cache.Hold(s, salt, tokens, end)
	if d.cache.Grow(s, end*n) != nil {
		d.cache.Release(s)
		return 0
	}
	for i := held; i < end; i++ {
		copy(d.blocks[s.Blocks()[i]], f.blocks[recordName(origin.Tenant, keys[i])])
	}
	d.cache.Publish(s, salt, tokens[:end*n])
	d.verify(s, salt, tokens[:end*n])
	if len(d.slots) > 0 {
		id, write, ok := d.cache.Install(s, end*n)
		if !ok {
			d.cache.Release(s)
			return 0
		}
		if write {
			d.snapshots[id] = f.states[recordName(origin.Tenant, keys[end-1])]
		}
		d.check()
		d.load(s, salt, tokens[:end*n])
	}
	return end * n
}

// TestKeysTellPrefixesApart wants different keys for different tokens, places, tenants; and equal ones for equal prefixes.
func TestKeysTellPrefixesApart(t *testing.T) {
	seen := map[disk.Key]string{}
	for root := range byte(3) {
		for first := range int32(5) {
			before := disk.Key{root}
			for block := range int32(4) {
				tokens := []int32{first, block, -1, 1 << 30}
				before = NextKey(before, tokens)
				name := fmt.Sprint(root, first, block)
				if other := seen[before]; other != "" {
					t.Errorf("%s and %s have one key", name, other)
				}
				seen[before] = name
			}
		}
	}
	if NextKey(disk.Key{1}, count(1, 64)) != NextKey(disk.Key{1}, count(1, 64)) {
		t.Error("one prefix has two keys")
	}
}

// TestRandomDurable plays a server with a disk: sequences of two tenants and one that is not saved, that acquire, compute,
// are saved and restored, forgotten and evicted. After every operation all invariants hold and every table leads to the
// right content; at the end nothing leaked.
func TestRandomDurable(t *testing.T) {
	seeds := uint64(30)
	if testing.Short() {
		seeds = 6
	}
	restored := 0
	for seed := range seeds {
		rng := rand.New(rand.NewPCG(seed, 7))
		options := Options{Blocks: 8 + rng.IntN(30), MaxSequences: 6, Durable: true}
		if seed%2 == 1 {
			options.Slots, options.Snapshots = 6, 1+rng.IntN(8)
		}
		d := newDevice(t, options)
		f := newFakeDisk(d)
		origins := []*Origin{{"a", disk.Key{1}}, {"b", disk.Key{2}}, nil}
		var running []*live
		for range 500 {
			switch op := rng.IntN(12); {
			case op < 3 && len(running) < options.MaxSequences:
				l := &live{table: d.cache.NewSequence(), salt: rng.Uint64N(3), tokens: randomTokens(rng, 1+rng.IntN(24))}
				origin := origins[l.salt]
				if origin != nil && rng.IntN(4) > 0 {
					l.computed = f.restore(l.table, origin, l.salt, l.tokens)
					restored += l.computed
				}
				if l.computed == 0 {
					l.table.SetOrigin(origin, rng.IntN(4) > 0)
					l.computed = d.cache.Acquire(l.table, l.salt, l.tokens)
					for _, id := range l.table.Blocks() {
						d.cache.Save(id, f.has)
					}
				}
				if d.cache.Grow(l.table, len(l.tokens)) != nil {
					d.cache.Release(l.table)
					continue
				}
				running = append(running, l)
			case op < 6:
				for range 4 {
					f.save()
				}
			case op == 6 && rng.IntN(3) == 0:
				tokens := randomTokens(rng, rng.IntN(24))
				keep := rng.IntN(len(tokens) + 1)
				stay := d.cache.Forget(rng.Uint64N(3), tokens, keep)
				if stay < 0 || stay > len(tokens)/testBlockLen-keep/testBlockLen {
					t.Fatalf("%d blocks stay of %d tokens behind %d", stay, len(tokens), keep)
				}
			case op == 7 && len(running) > 0:
				i := rng.IntN(len(running))
				d.cache.Release(running[i].table)
				running = slices.Delete(running, i, i+1)
			case len(running) > 0:
				running = computeAndPublish(d, rng, running)
			}
			d.check()
			for _, l := range running {
				d.verify(l.table, l.salt, l.tokens[:l.computed])
			}
		}
		for _, l := range running {
			d.cache.Release(l.table)
		}
		for f.save() {
		}
		if stats := d.cache.Stats(); stats.Referenced != 0 || d.cache.NumUnsaved() != 0 {
			t.Errorf("leaked: %+v, %d unsaved", stats, d.cache.NumUnsaved())
		}
		d.check()
	}
	if restored < 10*int(seeds) {
		t.Errorf("only %d tokens were restored: the test tests too little", restored)
	}
}

// computeAndPublish computes a chunk of a sequence, and publishes it.
func computeAndPublish(d *device, rng *rand.Rand, running []*live) []*live {
	l := running[rng.IntN(len(running))]
	if l.computed < len(l.tokens) {
		to := l.computed + 1 + rng.IntN(len(l.tokens)-l.computed)
		if _, ok := l.table.Snapshot(); ok {
			d.load(l.table, l.salt, l.tokens[:l.computed])
		}
		d.compute(l.table, l.salt, l.tokens[:to], l.computed)
		l.computed = to
	}
	d.cache.Publish(l.table, l.salt, l.tokens[:l.computed])
	if _, pending := l.table.Snapshot(); len(d.slots) > 0 && !pending && l.computed >= testBlockLen {
		d.save(l.table, Worth(rng.IntN(2)))
	}
	return running
}

// TestForget drops the end of a prefix, but neither what a table holds nor what others go on from.
func TestForget(t *testing.T) {
	d := newDevice(t, Options{Blocks: 16, Durable: true})
	s := d.cache.NewSequence()
	d.run(s, 0, count(0, 16))
	if stay := d.cache.Forget(0, count(0, 16), 0); stay != 4 {
		t.Errorf("%d blocks stay of those in a table, want 4", stay)
	}
	d.cache.Release(s)
	d.run(s, 0, append(count(0, 8), count(100, 4)...))
	d.cache.Release(s)
	for _, test := range []struct{ keep, stay, cached int }{{13, 0, 12}, {12, 0, 12}, {5, 1, 8}, {0, 2, 8}, {100, 0, 8}} {
		if stay := d.cache.Forget(0, count(0, 16), test.keep); stay != test.stay || d.cache.Match(0, count(0, 16)) != test.cached {
			t.Errorf("behind %d tokens %d blocks stay, want %d; %d tokens are cached, want %d",
				test.keep, stay, test.stay, d.cache.Match(0, count(0, 16)), test.cached)
		}
		d.check()
	}
}

// TestRenewedStateIsSaved renews a snapshot that lies on the way: it lasts from then on, so that it is saved.
func TestRenewedStateIsSaved(t *testing.T) {
	cache, err := New(Options{Blocks: 4, BlockLen: 4, Slots: 1, Snapshots: 2, Durable: true})
	if err != nil {
		t.Fatal(err)
	}
	s := cache.NewSequence()
	s.SetOrigin(&Origin{Tenant: "a", Root: disk.Key{1}}, true)
	if err := cache.Grow(s, 4); err != nil {
		t.Fatal(err)
	}
	cache.Publish(s, 0, count(1, 4))
	if _, ok := cache.Attach(s, 4, Passing); !ok || cache.NumUnsaved() != 1 {
		t.Fatalf("attached %v, unsaved are %d, want the block alone", ok, cache.NumUnsaved())
	}
	cache.Renew(s, 4)
	if err := cache.Check(); err != nil || cache.NumUnsaved() != 2 {
		t.Errorf("unsaved are %d, want the block and its state; %v", cache.NumUnsaved(), err)
	}
}

// TestCheckFindsDurableDamage breaks the invariants of keys by hand.
func TestCheckFindsDurableDamage(t *testing.T) {
	for name, damage := range map[string]func(c *Cache, s *Sequence){
		"invariant 13": func(c *Cache, s *Sequence) { c.durable.keys[s.blocks[0]][0]++ },
		"invariant 14": func(c *Cache, s *Sequence) { c.durable.blocks.push(c.pool.free[0]) },
	} {
		d := newDevice(t, Options{Blocks: 8, Durable: true})
		s := d.cache.NewSequence()
		s.SetOrigin(&Origin{"a", disk.Key{1}}, true)
		d.run(s, 0, count(1, 9))
		damage(d.cache, s)
		if err := d.cache.Check(); err == nil || !strings.Contains(err.Error(), name+":") {
			t.Errorf("Check = %v, want %s", err, name)
		}
	}
}
