package engine

import (
	"sync/atomic"

	"hearth/engine/api"
	"hearth/engine/draft"
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
	CachedTokens     uint64 // of the prompt tokens, those found in the cache
	GeneratedTokens  uint64
	Steps            uint64
	StepRows         uint64
	Preemptions      uint64
	Requests         [4]uint64 // ended, by api.FinishReason
	Drafts           [draft.NumSources]DraftStats
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
	requests                             [4]atomic.Uint64
	drafted, accepted                    [draft.NumSources]atomic.Uint64
	queued                               atomic.Int64 // submitted and not yet ended
}

func (c *counters) finished(done *api.Done) {
	c.requests[done.Reason].Add(1)
	c.prompt.Add(uint64(done.Usage.PromptTokens))
	c.hits.Add(uint64(done.Usage.CachedTokens))
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
}
