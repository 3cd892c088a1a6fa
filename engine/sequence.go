package engine

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"hearth/engine/api"
	"hearth/engine/draft"
	"hearth/engine/sample"
	"hearth/kvcache"
	"hearth/kvcache/disk"
)

// sequence is one request while it waits and runs. The loop owns it from the moment Submit sends it; only enough and
// cancelled are written by others.
type sequence struct {
	id        string
	arrival   uint64 // order of submission
	priority  int
	salt      uint64
	promptLen int
	maxTokens int // most tokens to generate, at least 1 unless the prompt alone is scored
	minTokens int
	logprobs  int  // -1: none
	scored    bool // log-probabilities of the prompt are wanted
	ignoreEOS bool
	pooled    bool    // what the model makes of the prompt is wanted
	logitsOf  []int32 // tokens whose logits after the prompt are wanted

	tokens   []int32           // prompt and generated tokens
	computed int               // positions [0, computed) are in the cache
	share    int               // rows of the step being chosen that the scheduler gives its prompt
	table    *kvcache.Sequence // the scheduler's, while the sequence runs; nil while it waits
	sampler  *sample.Sampler
	lane     draft.Lane // guesses of what follows tokens

	origin    *kvcache.Origin // of its prefix on disk; nil: it has a salt of its own, or there is no disk
	saved     bool            // what it computes is to be saved there
	keys      []disk.Key      // of the prompt's full blocks; nil: nothing is restored
	restore   *restore        // what it waits for from disk, or nil
	held      bool            // it gets no rows until that came
	attempts  int             // restores that failed
	announced bool            // the disk knows that it will be read

	kept   int // where its state was kept last, or what it went on from
	anchor int // how many tokens later prompts are likely to begin with, or 0
	parted int // where its prompt parts from earlier ones, when the state there is missing; else 0
	asked  int // where a waiting sequence wants its state in this step, or 0

	cached      int           // positions found computed at first admission, in the cache or on disk
	restored    int           // of cached, those that came from disk
	counting    bool          // what comes from disk counts as cached
	reached     int           // most positions that were computed at once
	scores      []api.Logprob // of the prompt so far, until all are sent
	scoredUpTo  int           // last prompt position whose log-probability is known
	admitted    bool
	preempted   int // times
	submittedAt time.Time
	startedAt   time.Time
	firstAt     time.Time
	ended       *api.Done // how it ended; nil while it goes on
	closed      bool      // the reader was told

	events    chan api.Event // closed by the loop after the Done event
	enough    bool           // why it is cancelled: the answer is complete; written before cancelled
	cancelled atomic.Bool
	stopWatch func() bool // detaches the sequence from its caller's context
}

// pending is the number of tokens whose positions are not in the cache yet.
func (s *sequence) pending() int { return len(s.tokens) - s.computed }

// scoring reports whether log-probabilities of prompt tokens are still to be computed.
func (s *sequence) scoring() bool { return s.scored && s.scoredUpTo < s.promptLen-1 }

// unshared is what the scheduler leaves of a prompt for later steps.
func (s *sequence) unshared() int { return s.pending() - s.share }

// generated is the number of tokens drawn so far.
func (s *sequence) generated() int { return len(s.tokens) - s.promptLen }

// before orders sequences: higher priority first, then first come first served.
func (s *sequence) before(other *sequence) bool {
	if s.priority != other.priority {
		return s.priority > other.priority
	}
	return s.arrival < other.arrival
}

// send hands an event to the reader, without waiting; it returns false when the reader is too far behind. One place of
// the channel is kept for the Done event.
func (s *sequence) send(e api.Event) bool {
	if len(s.events) >= cap(s.events)-1 {
		return false
	}
	s.events <- e
	return true
}

// watch makes the sequence notice that its caller is gone or has enough, at the next step.
func (s *sequence) watch(ctx context.Context, wake func()) {
	s.stopWatch = context.AfterFunc(ctx, func() {
		s.enough = errors.Is(context.Cause(ctx), api.ErrEnough)
		s.cancelled.Store(true)
		wake()
	})
}
