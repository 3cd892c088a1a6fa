package engine

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"hearth/engine/api"
	"hearth/engine/draft"
	"hearth/engine/model"
	"hearth/engine/sample"
	"hearth/hardware"
	"hearth/hardware/quant"
	"hearth/kvcache"
	"hearth/kvcache/disk"
)

// maxLogprobs is the most alternatives of a token, since a reader may be eventBuffer tokens behind.
const maxLogprobs = 100

// reservedTokens is how much of an answer a sequence has room for from the start. The few that grow beyond it double
// their room, so that a waiting request does not hold memory for a context that it will hardly fill.
const reservedTokens = 8192

// eventBuffer is how many events a reader may be behind.
const eventBuffer = 1024

// Options configure an engine. Device is required; the zero value of everything else works.
type Options struct {
	Device         hardware.Device
	KV             *quant.Format // format of the cache; nil: F32 for a model of float32, else F16
	ContextLength  int           // most tokens of a sequence; 0: the model's, as far as memory allows
	MaxSequences   int           // sequences that run at once; 0: 32
	MaxBatchTokens int           // rows of a step; 0: as measured, at most 512
	MaxWaiting     int           // requests that may wait; 0: 512
	KVBytes        int64         // memory for the cache; 0: 1 GiB
	Blocks         int           // exact number of cache blocks, 0: from KVBytes
	StopTokens     []int32       // tokens that end a generation
	EndTokens      []int32       // of these, the ones that IgnoreEOS bans; others are then ordinary tokens
	Banned         []int32       // ids that are never drawn
	Speculate      Speculate     // which guesses are checked; the zero value: none
	MaxDraft       int           // most guesses checked for a sequence in a step; 0: 16
	Draft          *model.Model  // a smaller model of the same vocabulary that guesses; nil: none
	DraftPath      string        // where Catalog.Load finds it; "": nowhere
	Disk           *disk.Store   // where computed blocks outlive the process, shared by all engines; nil: nowhere
	Logger         *slog.Logger  // nil: slog.Default
	// Now is the clock by which steps, requests and what comes from disk are measured; nil: time.Now. It is called from any goroutine.
	Now      func() time.Time
	Progress func(doneBytes, totalBytes int64)
}

func (o *Options) setDefaults() {
	if o.MaxSequences == 0 {
		o.MaxSequences = 32
	}
	if o.MaxWaiting == 0 {
		o.MaxWaiting = 512
	}
	if o.KVBytes == 0 {
		o.KVBytes = 1 << 30
	}
	if o.MaxDraft == 0 {
		o.MaxDraft = spareOutputs
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
}

// maxCount bounds options whose memory is taken when the engine starts: tables, queues and tensors of a step.
const maxCount = 1 << 16

// Validate names the first field that is out of range.
func (o *Options) Validate() error {
	for _, f := range []struct {
		name        string
		value, most int64
	}{
		{"ContextLength", int64(o.ContextLength), math.MaxInt32}, {"MaxSequences", int64(o.MaxSequences), maxCount},
		{"MaxBatchTokens", int64(o.MaxBatchTokens), maxCount}, {"MaxWaiting", int64(o.MaxWaiting), maxCount},
		{"KVBytes", o.KVBytes, math.MaxInt64}, {"Blocks", int64(o.Blocks), math.MaxInt32},
		{"Speculate", int64(o.Speculate), int64(len(speculateNames) - 1)}, {"MaxDraft", int64(o.MaxDraft), MaxDraft},
	} {
		if f.value < 0 || f.value > f.most {
			return fmt.Errorf("engine: option %s is %d, want 0 to %d", f.name, f.value, f.most)
		}
	}
	if o.Device == nil {
		return errors.New("engine: option Device is missing")
	}
	return nil
}

// defaultBatchTokens is enough rows to use the arithmetic units fully (specs of the CPU kernels: 128 to 512).
const defaultBatchTokens = 512

// Engine runs one model. Its methods are safe for concurrent use.
type Engine struct {
	limits  hardware.Limits
	memory  hardware.Memory
	vocab   int
	stats   counters
	arrival atomic.Uint64
	seed    maphash.Seed // keys the salts, so that nobody outside can craft two that collide
	maxLoad int64        // requests that may wait or run
	loop    *loop

	fingerprint string
	disk        records // nil: there is no disk store

	submissions chan *sequence
	commands    chan *command // received by the loop as long as it runs
	wake        chan struct{}
	stop        chan struct{} // closed by Close
	stopOnce    sync.Once
	done        chan struct{}     // closed by the loop
	closeErr    error             // written by the loop before done is closed
	counters    hardware.Counters // likewise
}

// New loads a model onto a device and starts its loop. The model's source may be closed afterwards.
func New(ctx context.Context, m *model.Model, opts Options) (*Engine, error) {
	e, err := load(ctx, m, opts)
	if err != nil {
		return nil, err
	}
	e.start()
	return e, nil
}

// start starts the goroutines of an engine.
func (e *Engine) start() {
	e.loop.tier.start()
	go e.run()
}

// load returns an engine whose loop does not run yet.
func load(ctx context.Context, m *model.Model, opts Options) (*Engine, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	opts.setDefaults()
	if err := opts.checkDraft(m); err != nil {
		return nil, err
	}
	if err := checkTokens(m.Config.VocabSize, opts.StopTokens, opts.EndTokens, opts.Banned); err != nil {
		return nil, err
	}
	limits, memory, err := planFor(m, &opts)
	if err != nil {
		return nil, err
	}
	queue, name, err := loadProgram(ctx, m, &opts, limits, memory)
	if err != nil {
		return nil, err
	}
	var drafts hardware.Queue
	if opts.drafts() {
		if drafts, err = opts.Device.Load(ctx, opts.Draft.Program, draftLimits(limits)); err != nil {
			return nil, errors.Join(fmt.Errorf("engine: draft model: %w", err), queue.Close())
		}
		opts.Draft.Program.ReleaseData()
	}
	e := &Engine{
		limits: limits, memory: memory, vocab: m.Config.VocabSize, seed: maphash.MakeSeed(),
		maxLoad:     int64(opts.MaxWaiting + opts.MaxSequences),
		submissions: make(chan *sequence, opts.MaxWaiting+opts.MaxSequences), commands: make(chan *command), fingerprint: name,
		wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}
	cacheOpts := kvcache.Options{
		Blocks: limits.Blocks, BlockLen: hardware.BlockLen, MaxSequences: limits.Spans,
		MaxBlocksPerSequence: blocksFor(limits.MaxLen), Slots: limits.Slots, Snapshots: limits.Snapshots, Durable: opts.Disk != nil,
	}
	if opts.Disk != nil {
		e.disk = opts.Disk
	}
	cache, err := kvcache.New(cacheOpts)
	if err != nil {
		return nil, errors.Join(err, queue.Close(), closeQueue(drafts))
	}
	e.loop = &loop{
		model: m, queue: queue, limits: limits, cacheOpts: cacheOpts,
		scheduler: newScheduler(cache, limits.Spans, limits.Outputs, opts.MaxWaiting),
		batch:     hardware.NewBatch(limits), scratch: sample.NewScratch(e.vocab, hardware.PartLen),
		pace: pace{fixed: opts.MaxBatchTokens}, stops: opts.StopTokens, ends: opts.EndTokens, banned: opts.Banned,
		stats: &e.stats, log: opts.Logger, now: opts.Now,
		finished: make([]*sequence, 0, opts.MaxWaiting+opts.MaxSequences),
	}
	e.loop.speculation = newSpeculation(&opts, e.loop, drafts)
	e.loop.tier = newTier(e.disk, memory, e, opts.Logger)
	if e.disk != nil {
		e.loop.scheduler.onDisk, e.loop.scheduler.has = e.loop.onDisk, e.loop.tier.has
	}
	return e, nil
}

// loadProgram loads a model's program onto the device, and computes its fingerprint meanwhile.
func loadProgram(ctx context.Context, m *model.Model, opts *Options, limits hardware.Limits, memory hardware.Memory) (hardware.Queue, string, error) {
	type named struct {
		name string
		err  error
	}
	found := make(chan named, 1)
	go func() {
		name, err := fingerprint(m.Program, opts.Device.Info(), limits, memory)
		found <- named{name, err}
	}()
	queue, err := opts.Device.Load(ctx, m.Program, limits)
	n := <-found // in any case: it reads the weights
	if err != nil {
		return nil, "", err
	}
	if n.err != nil {
		return nil, "", errors.Join(n.err, queue.Close())
	}
	m.Program.ReleaseData()
	return queue, n.name, nil
}

func closeQueue(q hardware.Queue) error {
	if q == nil {
		return nil
	}
	return q.Close()
}

// checkTokens reports a token that is not in the vocabulary.
func checkTokens(vocab int, lists ...[]int32) error {
	for _, ids := range lists {
		for _, id := range ids {
			if id < 0 || int(id) >= vocab {
				return fmt.Errorf("engine: token %d of the options is not in the vocabulary of %d", id, vocab)
			}
		}
	}
	return nil
}

// setTokens sets what Options has as StopTokens, EndTokens and Banned, before the loop runs.
func (e *Engine) setTokens(stops, ends, banned []int32) error {
	if err := checkTokens(e.vocab, stops, ends, banned); err != nil {
		return err
	}
	e.loop.stops, e.loop.ends, e.loop.banned = stops, ends, banned
	return nil
}

// abandon frees an engine whose loop never ran.
func (e *Engine) abandon() error {
	return errors.Join(e.loop.speculation.close(), e.loop.queue.Close())
}

// CacheFormat returns the format of the cache that an engine chooses, of those that the device keeps: float32 for a model
// whose weights all are, since its user chose precision. Else Q8_0 where the cache holds keys and values of heads and nothing
// else: it takes half of what float16 does, in memory, on disk and to read, and its rounding costs a tenth of what that of Q8_0
// weights does. Latents, which stand for all heads at once, and index rows, which only rank positions, bear less: for them it
// is float16.
func CacheFormat(p *hardware.Program, formats []*quant.Format) *quant.Format {
	for i := range p.NumWeights() {
		if p.WeightAt(i).Format == quant.F32 {
			continue
		}
		if keepsHeads(p) && slices.Contains(formats, quant.Q8_0) {
			return quant.Q8_0
		}
		return quant.F16
	}
	return quant.F32
}

// keepsHeads reports whether a program's cache holds keys and values of heads in whole blocks of Q8_0, and nothing else.
func keepsHeads(p *hardware.Program) bool {
	return !slices.ContainsFunc(p.Streams(), func(s hardware.StreamInfo) bool {
		return s.Class != hardware.KeyStream && s.Class != hardware.ValueStream || s.Dim%quant.Q8_0.BlockLen != 0
	})
}

// Limits returns what the engine was planned for.
func (e *Engine) Limits() hardware.Limits { return e.limits }

// Memory returns what the engine allocated.
func (e *Engine) Memory() hardware.Memory { return e.memory }

// ContextLength is the most tokens of one sequence, prompt and output together.
func (e *Engine) ContextLength() int { return e.limits.MaxLen }

// Counters returns the device's counters. It may be called only after Close.
func (e *Engine) Counters() hardware.Counters { <-e.done; return e.counters }

// Submit starts a request. It refuses at once what is out of range (ErrInvalid) or can never fit (ErrTooLong), when
// too many requests wait (ErrBusy), and after Close (ErrClosed). Otherwise the channel delivers the request's events
// and is closed after exactly one Done event. When ctx ends, the sequence is dropped at the next step: as
// cancelled, or with the cause ErrEnough as stopped.
func (e *Engine) Submit(ctx context.Context, r *api.Request) (<-chan api.Event, error) {
	maxTokens, err := e.check(r)
	if err != nil {
		return nil, err
	}
	sampler, err := sample.New(r.Sampling, e.vocab)
	if err != nil {
		return nil, err
	}
	seq := &sequence{
		id: r.ID, arrival: e.arrival.Add(1), priority: r.Priority, salt: e.salt(r.Tenant, r.Salt),
		promptLen: len(r.Prompt), maxTokens: maxTokens, minTokens: r.MinTokens, logprobs: r.Logprobs,
		anchor: min(max(r.Anchor, 0), len(r.Prompt)), scored: r.PromptLogprobs, ignoreEOS: r.IgnoreEOS, pooled: r.Pooled, logitsOf: r.LogitsOf,
		tokens:  append(make([]int32, 0, len(r.Prompt)+min(maxTokens, reservedTokens)), r.Prompt...),
		sampler: sampler, submittedAt: e.loop.now(),
	}
	if e.disk != nil && r.Salt == "" {
		seq.origin, seq.saved = e.origin(r.Tenant), maxTokens > 0 // else there is no answer, and nobody goes on
		if !r.PromptLogprobs {
			seq.keys = keysOf(seq.origin, seq.tokens)
		}
	}
	seq.events = make(chan api.Event, eventBuffer)
	if e.loop.speculation != nil && maxTokens > 1 && !r.Unguessed {
		e.loop.speculation.prepare(seq, r.Expected)
	}
	if e.stats.queued.Add(1) > e.maxLoad {
		e.unqueue()
		return nil, api.ErrBusy
	}
	select {
	case <-e.stop:
		e.unqueue()
		return nil, api.ErrClosed
	default:
	}
	seq.watch(ctx, e.nudge)
	e.submissions <- seq // has room for maxLoad
	return seq.events, nil
}

// salt keeps the prefixes of tenants, and of salts, apart.
func (e *Engine) salt(tenant, salt string) uint64 {
	return maphash.Comparable(e.seed, [2]string{tenant, salt})
}

// unqueue takes back what Submit counted. The loop is told, since while it shuts down it waits for the count.
func (e *Engine) unqueue() {
	e.stats.queued.Add(-1)
	e.nudge()
}

// check returns the most tokens the request may generate.
func (e *Engine) check(r *api.Request) (int, error) {
	switch {
	case len(r.Prompt) == 0:
		return 0, &api.FieldError{Field: "prompt", Reason: "is empty"}
	case r.MaxTokens < 0 && r.MaxTokens != api.NoTokens:
		return 0, &api.FieldError{Field: "max_tokens", Reason: fmt.Sprintf("must be at least 0, got %d", r.MaxTokens)}
	case r.MinTokens < 0:
		return 0, &api.FieldError{Field: "min_tokens", Reason: fmt.Sprintf("must be at least 0, got %d", r.MinTokens)}
	case r.Logprobs < -1 || r.Logprobs > maxLogprobs:
		return 0, &api.FieldError{Field: "logprobs", Reason: fmt.Sprintf("must be between -1 and %d, got %d", maxLogprobs, r.Logprobs)}
	case r.Pooled && !e.loop.model.Pools:
		return 0, &api.FieldError{Field: "pooled", Reason: fmt.Sprintf("must not be set for a model whose pooling is %s", e.loop.model.Config.Pooling)}
	case (r.Pooled || r.LogitsOf != nil) && (r.MaxTokens != api.NoTokens || r.Pooled && r.LogitsOf != nil):
		return 0, &api.FieldError{Field: "max_tokens", Reason: "must ask for no tokens where the prompt's pooling or logits are wanted, and for one of these"}
	}
	for _, text := range []struct {
		field  string
		tokens []int32
	}{{"prompt", r.Prompt}, {"expected", r.Expected}, {"logits_of", r.LogitsOf}} {
		for i, token := range text.tokens {
			if token < 0 || int(token) >= e.vocab {
				return 0, &api.FieldError{Field: text.field, Reason: fmt.Sprintf("has token %d at position %d; the vocabulary has %d", token, i, e.vocab)}
			}
		}
	}
	room := e.limits.MaxLen - len(r.Prompt)
	wanted := r.MaxTokens
	if wanted == api.NoTokens {
		wanted = 0
	} else if wanted == 0 {
		wanted = max(room, 1)
	}
	if wanted > room {
		return 0, &api.TooLongError{Prompt: len(r.Prompt), Output: wanted, Context: e.limits.MaxLen}
	}
	if r.MinTokens > wanted {
		return 0, &api.FieldError{Field: "min_tokens", Reason: fmt.Sprintf("is %d, more than the %d tokens to generate", r.MinTokens, wanted)}
	}
	return wanted, nil
}

// Stats returns a snapshot.
func (e *Engine) Stats() Stats {
	c := &e.stats
	s := Stats{
		Running: int(c.running.Load()), BlocksTotal: e.limits.Blocks,
		BlocksUsed: int(c.used.Load()), BlocksCached: int(c.cached.Load()),
		SnapshotsTotal: e.limits.Snapshots, SnapshotsHeld: int(c.held.Load()),
		StatesSaved: c.statesSaved.Load(), StatesLoaded: c.statesLoaded.Load(),
		PromptTokens: c.prompt.Load(), CachedTokens: c.hits.Load(), GeneratedTokens: c.generated.Load(),
		RestoredTokens: c.restoredTokens.Load(), WrittenTokens: c.written.Load(), Tier: c.tier(),
		Steps: c.steps.Load(), StepRows: c.rows.Load(), Preemptions: c.preemptions.Load(),
	}
	s.Waiting = max(int(c.queued.Load())-s.Running, 0)
	for i := range s.Drafts {
		s.Drafts[i] = DraftStats{draft.Source(i).String(), c.drafted[i].Load(), c.accepted[i].Load()}
	}
	for i := range s.Requests {
		s.Requests[i] = c.requests[i].Load()
	}
	return s
}

// Close stops the loop, ends the requests that still run with ErrClosed, and frees everything. Callers that want
// requests to finish wait for their events before.
func (e *Engine) Close() error {
	e.stopOnce.Do(func() { close(e.stop) })
	<-e.done
	return e.closeErr
}

// run is the loop's goroutine.
func (e *Engine) run() {
	defer close(e.done)
	l := e.loop
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		for drained := false; !drained; {
			select {
			case seq := <-e.submissions:
				l.scheduler.add(seq)
			case c := <-e.commands:
				l.obey(c)
			default:
				drained = true
			}
		}
		select {
		case <-e.stop:
			e.shutDown()
			return
		default:
		}
		if l.guardedStep() {
			continue
		}
		l.publish()
		l.queue.Idle()
		var late <-chan time.Time
		if wait := l.patience(); wait > 0 {
			timer.Reset(wait)
			late = timer.C
		}
		select {
		case seq := <-e.submissions:
			l.scheduler.add(seq)
		case c := <-e.commands:
			l.obey(c)
		case <-e.wake:
		case <-late:
		case <-e.stop:
		}
	}
}

// shutDown ends what runs, waits or is just being submitted: who was counted before stop was closed is on the way here.
func (e *Engine) shutDown() {
	l := e.loop
	l.finishDisk()
	l.failAll(api.ErrClosed)
	for e.stats.queued.Load() > 0 {
		select {
		case seq := <-e.submissions:
			seq.ended = &api.Done{Reason: api.FinishError, Err: api.ErrClosed}
			l.close(seq, l.now())
		case <-e.wake:
		}
	}
	l.tier.close()
	e.counters = l.queue.Counters()
	e.closeErr = errors.Join(l.speculation.close(), l.queue.Close())
}

// nudge wakes the loop if it sleeps.
func (e *Engine) nudge() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}
