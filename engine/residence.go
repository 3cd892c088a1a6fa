package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"hearth/engine/api"
	"hearth/hardware"
	"hearth/kvcache"
	"hearth/kvcache/disk"
)

// ErrNoDisk says that an engine without a disk store was asked to keep something there.
var ErrNoDisk = errors.New("engine: computed blocks are not kept on disk")

// Tier is where computed blocks are kept.
type Tier uint8

// The tiers.
const (
	TierNone   Tier = iota // nowhere: the tokens are all there is
	TierDisk               // in the disk store
	TierMemory             // in the cache
)

var tierNames = [...]string{TierNone: "none", TierDisk: "disk", TierMemory: "memory"}

// String returns the tier's name on the wire.
func (t Tier) String() string { return tierNames[t] }

// ParseTier returns the tier of a name.
func ParseTier(name string) (Tier, error) {
	for t, n := range tierNames {
		if n == name {
			return Tier(t), nil
		}
	}
	return 0, &api.FieldError{Field: "tier", Reason: fmt.Sprintf("must be none, disk or memory, got %q", name)}
}

// Residence says where the computed state of a prefix is.
type Residence struct {
	Tokens       int           // asked about
	MemoryTokens int           // of these, from the beginning, a new request goes on from in memory at once
	DiskTokens   int           // likewise, with what is on disk as well
	MemoryBytes  int64         // of the prefix's blocks and states in memory; shared with other prefixes
	DiskBytes    int64         // of its records on disk, likewise
	Restore      time.Duration // about how long it takes to bring from disk what is not in memory; 0: nothing, or unknown
}

// Fingerprint names everything that computed blocks depend on beside the tokens: blocks move between engines of equal
// fingerprints only.
func (e *Engine) Fingerprint() string { return e.fingerprint }

// Residence says where the blocks of a tenant's prefix are, those of requests without salt. It changes nothing.
func (e *Engine) Residence(ctx context.Context, tenant string, tokens []int32) (Residence, error) {
	p := e.prefixOf(tenant, tokens)
	r := Residence{Tokens: len(tokens)}
	here := make([]bool, len(p.keys)) // in memory, state apart
	states := make([]bool, len(p.keys))
	err := e.ask(ctx, func(l *loop) {
		l.scheduler.cache.Walk(p.salt, tokens, func(c kvcache.Cached) bool {
			i := c.Length/hardware.BlockLen - 1
			here[i], states[i] = true, c.Snapshot >= 0
			r.MemoryBytes += e.memory.Block
			if states[i] {
				r.MemoryBytes += e.memory.Snapshot
			}
			if states[i] || !l.scheduler.stateful {
				r.MemoryTokens = c.Length
			}
			return true
		})
	})
	if err != nil {
		return r, err
	}
	r.DiskTokens = r.MemoryTokens
	whole, missing := true, int64(0) // bytes to read
	for i, key := range p.keys {
		block, onDisk := e.onDisk(tenant, key, disk.Block)
		r.DiskBytes += block
		state, stateOnDisk := e.onDisk(tenant, key, disk.State)
		r.DiskBytes += state
		if !here[i] {
			whole = whole && onDisk
			missing += block
		}
		if end := (i + 1) * hardware.BlockLen; whole && end > r.DiskTokens && (!e.loop.model.Program.Stateful() || states[i] || stateOnDisk) {
			r.DiskTokens = end
			if e.disk != nil {
				r.Restore = duration(missing+state, e.disk.Stats().ReadSpeed)
			}
		}
	}
	return r, nil
}

// duration is how long so many bytes take; 0 when the speed is not known.
func duration(bytes int64, speed float64) time.Duration {
	if speed <= 0 {
		return 0
	}
	return time.Duration(float64(bytes) / speed * float64(time.Second))
}

// onDisk returns the size of a record, 0 when it is not there.
func (e *Engine) onDisk(tenant string, key disk.Key, kind disk.Kind) (size int64, ok bool) {
	if e.disk == nil {
		return 0, false
	}
	n, ok := e.disk.Has(tenant, key, kind)
	return int64(n), ok
}

// Pin keeps what is on disk of a tenant's prefix, and what comes there later, from giving way to others; or ends that. What
// is in memory alone is saved first; where that fails, nothing is pinned. Pins are counted and end with the process.
func (e *Engine) Pin(ctx context.Context, tenant string, tokens []int32, on bool) error {
	if e.disk == nil {
		return ErrNoDisk
	}
	keys := e.prefixOf(tenant, tokens).keys
	e.disk.Pin(tenant, keys, on)
	if !on {
		return nil
	}
	err := e.save(ctx, tenant, tokens)
	if err != nil {
		e.disk.Pin(tenant, keys, false)
	}
	return err
}

// Evict takes a tenant's prefix out of the tiers above one: to TierDisk, what is in memory is saved and then dropped there;
// to TierNone, it is dropped on disk as well. Blocks that other prefixes go on from stay, and in memory those that a running
// request holds.
func (e *Engine) Evict(ctx context.Context, tenant string, tokens []int32, to Tier) error {
	switch {
	case to == TierNone:
		return e.Forget(ctx, tenant, tokens, 0)
	case to != TierDisk:
		return &api.FieldError{Field: "tier", Reason: fmt.Sprintf("must be disk or none, got %s", to)}
	case e.disk == nil:
		return ErrNoDisk
	}
	if err := e.save(ctx, tenant, tokens); err != nil {
		return err
	}
	p := e.prefixOf(tenant, tokens)
	return e.ask(ctx, func(l *loop) { l.scheduler.cache.Forget(p.salt, tokens, 0) })
}

// Forget drops all blocks of a tenant's prefix that hold tokens behind the first keep ones, in memory and on disk, where
// their bytes are overwritten. In memory, blocks stay that a running request holds, or that another prefix goes on from; on
// disk none do, so that the caller says how much of the prefix others share.
func (e *Engine) Forget(ctx context.Context, tenant string, tokens []int32, keep int) error {
	p := e.prefixOf(tenant, tokens)
	if err := e.ask(ctx, func(l *loop) { l.scheduler.cache.Forget(p.salt, tokens, keep) }); err != nil {
		return err
	}
	if e.disk == nil {
		return nil
	}
	return forgetOnDisk(e.disk, tenant, p.keys, keep)
}

// ForgetOnDisk drops what an engine of some fingerprint left on disk of a tenant's prefix, as Engine.Forget does, where no such
// engine is running.
func ForgetOnDisk(store *disk.Store, fingerprint, tenant string, tokens []int32, keep int) error {
	return forgetOnDisk(store, tenant, keysOf(originOf(fingerprint, tenant), tokens), keep)
}

func forgetOnDisk(store records, tenant string, keys []disk.Key, keep int) error {
	first := min(max(keep, 0)/hardware.BlockLen, len(keys))
	if err := store.Remove(tenant, keys[first:]); err != nil {
		return fmt.Errorf("engine: forgetting %d blocks on disk: %w", len(keys)-first, err)
	}
	return nil
}

// save brings the blocks and states of a prefix that are in memory to the disk, and waits until they are durable.
func (e *Engine) save(ctx context.Context, tenant string, tokens []int32) error {
	p := e.prefixOf(tenant, tokens)
	missing := 0
	for range saveAttempts {
		if err := e.saveOnce(ctx, p); err != nil {
			return err
		}
		missing = 0
		if err := e.ask(ctx, func(l *loop) { missing = l.missingOnDisk(tenant, p) }); err != nil || missing == 0 {
			return err
		}
	}
	return fmt.Errorf("engine: saving computed blocks: the disk store has no room for %d of them", missing)
}

// saveAttempts is how often a prefix is saved of which the store loses blocks that it took, or requests compute more.
const saveAttempts = 3

// saveOnce offers the disk what is in memory of a prefix and not there, until it has taken all of it.
func (e *Engine) saveOnce(ctx context.Context, p prefix) error {
	if err := e.ask(ctx, func(l *loop) { l.listPrefix(p) }); err != nil {
		return err
	}
	for idle := 0; ; idle++ {
		taken, more := 0, false
		err := e.ask(ctx, func(l *loop) { taken, more = l.savePrefix(p) })
		if err != nil {
			return err
		}
		if err := e.disk.Sync(ctx); err != nil {
			return fmt.Errorf("engine: saving computed blocks: %w", err)
		}
		switch {
		case !more:
			return nil
		case taken > 0:
			idle = 0
		case idle > 1: // its queue was empty, and it took nothing
			return fmt.Errorf("engine: saving computed blocks: the disk store takes no more: %v", e.disk.Stats().Failing)
		}
	}
}

// prefix is a tenant's tokens as cache and disk know them.
type prefix struct {
	salt   uint64
	tokens []int32
	keys   []disk.Key // of each full block
}

// prefixOf returns a prefix of requests without salt.
func (e *Engine) prefixOf(tenant string, tokens []int32) prefix {
	return prefix{e.salt(tenant, ""), tokens, keysOf(e.origin(tenant), tokens)}
}

// origin returns where the prefixes of a tenant begin on disk.
func (e *Engine) origin(tenant string) *kvcache.Origin { return originOf(e.fingerprint, tenant) }

// keysOf returns the keys of all full blocks of tokens.
func keysOf(origin *kvcache.Origin, tokens []int32) []disk.Key {
	keys := make([]disk.Key, len(tokens)/hardware.BlockLen)
	before := origin.Root
	for i := range keys {
		before = kvcache.NextKey(before, tokens[i*hardware.BlockLen:][:hardware.BlockLen])
		keys[i] = before
	}
	return keys
}
