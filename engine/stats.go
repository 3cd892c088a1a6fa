package engine

import (
	"sync/atomic"

	"hearth/engine/api"
	"hearth/engine/draft"
	"hearth/kvcache/disk"
)

// Stats is a snapshot of what an engine is doing and has done.
type Stats struct {
	Running, Waiting int
	BlocksTotal      int
	BlocksUsed       int // referenced by running sequences
	BlocksCached     int // findable by prefix, free to be evicted
	SnapshotsTotal   int // states that may be kept of a program that has any
	SnapshotsHeld    int // kept, each at the end of a cached block
	StatesSaved      uint64
	StatesLoaded     uint64
	PromptTokens     uint64
	CachedTokens     uint64 // of the prompt tokens, those found computed: in the cache or on disk
	RestoredTokens   uint64 // of the cached tokens, those that came from disk
	WrittenTokens    uint64 // of the prompt tokens, those that were computed and left in the cache for others
	GeneratedTokens  uint64
	Steps            uint64
	StepRows         uint64
	Preemptions      uint64
	Requests         [4]uint64 // ended, by api.FinishReason
	Drafts           [draft.NumSources]DraftStats
	Tier             TierStats
}

// TierStats counts what moved between the cache and the disk.
type TierStats struct {
	Restoring                      int // running sequences that are read from disk
	Unsaved                        int // blocks and states that are to be saved
	SavedBlocks, SavedStates       uint64
	RestoredBlocks, RestoredStates uint64
	Abandoned                      uint64 // restores given up because computing was faster
}

// DiskStats describes the disk store of an engine.
type DiskStats = disk.Stats

// Disk describes the disk store, which all engines of a process share; ok is false without one.
func (e *Engine) Disk() (stats DiskStats, ok bool) {
	if e.disk == nil {
		return DiskStats{}, false
	}
	return e.disk.Stats(), true
}

// DraftStats counts what became of the guesses from one source.
type DraftStats struct {
	Source            string // "ngram"
	Drafted, Accepted uint64 // checked; of these, right
}

// counters is what the loop writes and anybody reads.
type counters struct {
	running, used, cached, held          atomic.Int64
	prompt, hits, generated, steps, rows atomic.Uint64
	preemptions                          atomic.Uint64
	statesSaved, statesLoaded            atomic.Uint64
	restoredTokens, written              atomic.Uint64
	restoring, unsaved                   atomic.Int64
	savedBlocks, savedStates             atomic.Uint64
	restoredBlocks, restoredStates       atomic.Uint64
	abandoned                            atomic.Uint64
	requests                             [4]atomic.Uint64
	drafted, accepted                    [draft.NumSources]atomic.Uint64
	queued                               atomic.Int64 // submitted and not yet ended
}

func (c *counters) tier() TierStats {
	return TierStats{
		Restoring: int(c.restoring.Load()), Unsaved: int(c.unsaved.Load()),
		SavedBlocks: c.savedBlocks.Load(), SavedStates: c.savedStates.Load(),
		RestoredBlocks: c.restoredBlocks.Load(), RestoredStates: c.restoredStates.Load(), Abandoned: c.abandoned.Load(),
	}
}

func (c *counters) finished(done *api.Done) {
	c.requests[done.Reason].Add(1)
	c.prompt.Add(uint64(done.Usage.PromptTokens))
	c.hits.Add(uint64(done.Usage.CachedTokens))
	c.restoredTokens.Add(uint64(done.Usage.RestoredTokens))
	c.written.Add(uint64(done.Usage.WrittenTokens))
	c.generated.Add(uint64(done.Usage.GeneratedTokens))
	c.queued.Add(-1)
}

// publish makes the state visible, before the requests that just ended hear of it.
func (l *loop) publish() {
	c, cache := l.stats, l.scheduler.cache.Stats()
	c.running.Store(int64(len(l.scheduler.running)))
	c.used.Store(int64(cache.Referenced))
	c.cached.Store(int64(cache.Idle))
	c.held.Store(int64(cache.Snapshots))
	c.preemptions.Store(l.scheduler.preemptions)
	c.restoring.Store(int64(len(l.scheduler.restores)))
	c.unsaved.Store(int64(l.scheduler.cache.NumUnsaved()))
}
