package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"hearth/engine/api"
	"hearth/hardware"
)

// mixedRequests returns requests that differ in length, sampling and penalties; half of them share a prefix.
func mixedRequests(n int) []api.Request {
	requests := make([]api.Request, n)
	for i := range requests {
		r := api.Request{
			ID: fmt.Sprint(i), MaxTokens: 60 + 8*i, Logprobs: i % 3, IgnoreEOS: i%4 == 0, MinTokens: i % 7,
			Prompt: append(words(1, 150*(i%2)), words(uint64(100+i), 5+11*i)...),
		}
		if i%3 > 0 {
			r.Sampling = api.Sampling{Temperature: 0.7, TopK: 30, TopP: 0.9, Seed: uint64(i)}
		}
		if i%5 == 0 {
			r.Sampling.RepeatPenalty, r.Sampling.FrequencyPenalty = 1.2, 0.1
		}
		requests[i] = r
	}
	return requests
}

// TestSameTokensWhateverElseRuns is the invariant that users care about: tokens and log-probabilities are those of the
// request alone, whatever else the engine does.
func TestSameTokensWhateverElseRuns(t *testing.T) {
	for _, stateful := range []bool{false, true} {
		t.Run(fmt.Sprintf("state %t", stateful), func(t *testing.T) { sameTokens(t, stateful) })
	}
}

func sameTokens(t *testing.T, stateful bool) {
	requests := mixedRequests(16)
	for name, opts := range map[string]Options{
		"batch of 16":    {MaxSequences: 16},
		"one at a time":  {MaxSequences: 1},
		"token by token": {MaxSequences: 16, MaxBatchTokens: 1},
		"chunks of 7":    {MaxSequences: 16, MaxBatchTokens: 7},
		"large steps":    {MaxSequences: 16, MaxBatchTokens: 4096},
		// Steps of a fixed size, since those that follow the clock may happen to preempt nobody.
		"few blocks":           {MaxSequences: 16, Blocks: 9, ContextLength: 9 * hardware.BlockLen, MaxBatchTokens: 512},
		"few blocks, 7 a step": {MaxSequences: 16, Blocks: 9, ContextLength: 9 * hardware.BlockLen, MaxBatchTokens: 7},
	} {
		t.Run(name, func(t *testing.T) {
			device := &fakeDevice{stateful: stateful}
			e := loadFake(t, device, opts)
			start := sync.OnceFunc(func() { startFake(t, e) })
			for _, round := range []string{"first", "with prefixes cached"} {
				channels := make([]<-chan api.Event, len(requests))
				for i, r := range requests {
					channels[i] = submit(t, e, r)
				}
				start() // once all are there, so that they meet in the same steps on any machine
				for i, r := range requests {
					got := collect(t, channels[i])
					tokens, logprobs := device.answer(t, r)
					if !slices.Equal(got.tokens, tokens) || !equalLogprobs(got.logprobs, logprobs) {
						t.Errorf("%s, request %d:\n%v, alone\n%v", round, i, got.tokens, tokens)
					}
				}
			}
			if preempted := e.Stats().Preemptions > 0; preempted != strings.HasPrefix(name, "few blocks") {
				t.Errorf("preemptions: %t", preempted)
			}
			if s := e.Stats(); (s.StatesLoaded > 0 && s.StatesSaved > 0) != stateful {
				t.Errorf("%d states saved, %d loaded", s.StatesSaved, s.StatesLoaded)
			}
		})
	}
}

func equalLogprobs(a, b []api.Logprob) bool {
	return slices.EqualFunc(a, b, func(a, b api.Logprob) bool {
		return a.Token == b.Token && a.Logprob == b.Logprob && slices.Equal(a.Top, b.Top)
	})
}

func TestUsageIsExact(t *testing.T) {
	e := fakeEngine(t, &fakeDevice{}, Options{})
	prompt := words(5, 200)
	first := collect(t, submit(t, e, api.Request{Prompt: prompt, MaxTokens: 70, IgnoreEOS: true, Logprobs: -1}))
	if want := (api.Usage{PromptTokens: 200, WrittenTokens: 192, GeneratedTokens: 70}); first.done.Usage != want || len(first.tokens) != 70 || first.logprobs != nil {
		t.Errorf("usage %+v with %d tokens and %d log-probabilities, want %+v", first.done.Usage, len(first.tokens), len(first.logprobs), want)
	}
	// Of the 270 tokens all but the last were computed: four whole blocks.
	followUp := slices.Concat(prompt, first.tokens, words(6, 10))
	for _, test := range []struct {
		salt            string
		prompt          []int32
		cached, written int
	}{{"", followUp, 256, 0}, {"other tenant", followUp, 0, 256}, {"", prompt[:192], 128, 64}, {"", prompt[:193], 192, 0}} {
		a := collect(t, submit(t, e, api.Request{Prompt: test.prompt, MaxTokens: 1, IgnoreEOS: true, Salt: test.salt}))
		if want := (api.Usage{PromptTokens: len(test.prompt), CachedTokens: test.cached, WrittenTokens: test.written, GeneratedTokens: 1}); a.done.Usage != want {
			t.Errorf("salt %q, prompt of %d: usage %+v, want %+v", test.salt, len(test.prompt), a.done.Usage, want)
		}
	}
	got := e.Stats()
	want := Stats{
		BlocksTotal: got.BlocksTotal, BlocksCached: got.BlocksCached, Steps: got.Steps,
		PromptTokens: 200 + 280 + 280 + 192 + 193, CachedTokens: 256 + 128 + 192, WrittenTokens: 192 + 256 + 64,
		GeneratedTokens: 74,
		StepRows:        200 + 69 + 24 + 280 + 64 + 1, Requests: [4]uint64{api.FinishLength: 5}, Drafts: got.Drafts,
	}
	if got != want || got.BlocksCached < 4 {
		t.Errorf("Stats = %+v,\nwant %+v", got, want)
	}
}

func TestEndings(t *testing.T) {
	e := fakeEngine(t, &fakeDevice{}, Options{})
	// Find a prompt that ends by itself after some tokens, to compare with.
	var r api.Request
	var alone []int32
	for text := uint64(0); len(alone) < 8 || len(alone) == 400; text++ {
		r = api.Request{Prompt: words(text, 30), MaxTokens: 400}
		alone, _ = fakeAnswer(t, r)
	}
	n := len(alone)
	for name, test := range map[string]struct {
		change    func(r *api.Request)
		reason    api.FinishReason
		generated int // 0: not fixed
	}{
		"end token":              {func(*api.Request) {}, api.FinishStop, n + 1}, // the end token counts, and is not sent
		"as many as asked for":   {func(r *api.Request) { r.MaxTokens = n }, api.FinishLength, n},
		"one more is the end":    {func(r *api.Request) { r.MaxTokens = n + 1 }, api.FinishStop, n + 1},
		"not before min_tokens":  {func(r *api.Request) { r.MinTokens = n + 5 }, 0, 0},
		"min_tokens equals":      {func(r *api.Request) { r.MinTokens = n }, api.FinishStop, n + 1},
		"end tokens ignored":     {func(r *api.Request) { r.IgnoreEOS, r.MaxTokens = true, 100 }, api.FinishLength, 100},
		"until the context ends": {func(r *api.Request) { r.IgnoreEOS, r.MaxTokens = true, 0 }, api.FinishLength, 1024 - 30},
		"nothing at all":         {func(r *api.Request) { r.MaxTokens = api.NoTokens }, api.FinishLength, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := r
			test.change(&r)
			a := collect(t, submit(t, e, r))
			want := r
			if want.MaxTokens == 0 {
				want.MaxTokens = 1024 - 30
			}
			tokens, _ := fakeAnswer(t, want)
			if !slices.Equal(a.tokens, tokens) || slices.Contains(a.tokens, fakeEOS) || slices.Contains(a.tokens, fakeBanned) {
				t.Errorf("tokens %v, want %v", a.tokens, tokens)
			}
			if test.generated > 0 && (a.done.Reason != test.reason || a.done.Usage.GeneratedTokens != test.generated) {
				t.Errorf("%s after %d tokens, want %s after %d", a.done.Reason, a.done.Usage.GeneratedTokens, test.reason, test.generated)
			}
			if r.MinTokens > n && len(a.tokens) < r.MinTokens {
				t.Errorf("%d tokens, at least %d were asked for", len(a.tokens), r.MinTokens)
			}
			if a.done.Err != nil {
				t.Error(a.done.Err)
			}
		})
	}
}

func TestPromptLogprobs(t *testing.T) {
	for name, opts := range map[string]Options{
		"large steps": {}, "small steps": {MaxBatchTokens: 5}, "few outputs": {MaxSequences: 2}, "few blocks": {Blocks: 4, ContextLength: 256},
	} {
		t.Run(name, func(t *testing.T) {
			e := fakeEngine(t, &fakeDevice{}, opts)
			prompt := words(9, 150)
			others := []<-chan api.Event{ // streams beside it, and a second reader of the same prompt
				submit(t, e, api.Request{Prompt: words(10, 60), MaxTokens: 80, IgnoreEOS: true}),
				submit(t, e, api.Request{Prompt: prompt, MaxTokens: 30, IgnoreEOS: true}),
			}
			for _, maxTokens := range []int{api.NoTokens, 3} {
				a := collect(t, submit(t, e, api.Request{Prompt: prompt, MaxTokens: maxTokens, IgnoreEOS: true, PromptLogprobs: true, Logprobs: 2}))
				if len(a.prompt) != len(prompt)-1 || len(a.tokens) != max(maxTokens, 0) || a.done.Usage.CachedTokens != 0 {
					t.Fatalf("%d scores of %d prompt tokens, %d tokens, %+v", len(a.prompt), len(prompt), len(a.tokens), a.done)
				}
				memory, table := newFakeMemory(3), []int32{0, 1, 2}
				memory.write(table, prompt, 0)
				for i, got := range a.prompt {
					row := fakeRow(memory.attend(table, i+1))
					var want api.Logprob
					if err := row.Top(2, &want); err != nil {
						t.Fatal(err)
					}
					want.Token, want.Logprob = prompt[i+1], row.Logprob(prompt[i+1])
					if !equalLogprobs([]api.Logprob{got}, []api.Logprob{want}) {
						t.Fatalf("position %d: %+v, want %+v", i+1, got, want)
					}
				}
			}
			for _, events := range others {
				collect(t, events)
			}
		})
	}
}

func TestSubmitRefuses(t *testing.T) {
	e := fakeEngine(t, &fakeDevice{}, Options{ContextLength: 100})
	for _, test := range []struct {
		field string
		r     api.Request
	}{
		{"prompt", api.Request{}},
		{"prompt", api.Request{Prompt: []int32{4, fakeVocab}}},
		{"prompt", api.Request{Prompt: []int32{-1}}},
		{"max_tokens", api.Request{Prompt: []int32{4}, MaxTokens: -2}},
		{"min_tokens", api.Request{Prompt: []int32{4}, MinTokens: -1}},
		{"min_tokens", api.Request{Prompt: []int32{4}, MinTokens: 11, MaxTokens: 10}},
		{"logprobs", api.Request{Prompt: []int32{4}, Logprobs: -2}},
		{"logprobs", api.Request{Prompt: []int32{4}, Logprobs: 101}},
		{"top_p", api.Request{Prompt: []int32{4}, Sampling: api.Sampling{TopP: 2}}},
	} {
		_, err := e.Submit(t.Context(), &test.r)
		var field *api.FieldError
		if !errors.As(err, &field) || field.Field != test.field || !errors.Is(err, api.ErrInvalid) {
			t.Errorf("Submit(%+v) = %v, want an error of %s", test.r, err, test.field)
		}
	}
	for _, test := range []struct {
		prompt, maxTokens int
		want              *api.TooLongError
	}{
		{100, 0, &api.TooLongError{Prompt: 100, Output: 1, Context: 100}},
		{200, 0, &api.TooLongError{Prompt: 200, Output: 1, Context: 100}},
		{60, 41, &api.TooLongError{Prompt: 60, Output: 41, Context: 100}},
		{101, api.NoTokens, &api.TooLongError{Prompt: 101, Output: 0, Context: 100}},
		{60, 40, nil}, {99, 0, nil}, {100, api.NoTokens, nil},
	} {
		events, err := e.Submit(t.Context(), &api.Request{Prompt: words(1, test.prompt), MaxTokens: test.maxTokens})
		if test.want == nil {
			if err != nil {
				t.Fatal(err)
			}
			collect(t, events)
			continue
		}
		var got *api.TooLongError
		if !errors.As(err, &got) || *got != *test.want || !errors.Is(err, api.ErrTooLong) {
			t.Errorf("prompt of %d and %d tokens: %v, want %v", test.prompt, test.maxTokens, err, test.want)
		}
	}
	if s := e.Stats(); s.Waiting != 0 || s.Running != 0 || s.Requests != [4]uint64{api.FinishLength: 3} {
		if s.Requests[api.FinishStop]+s.Requests[api.FinishLength] != 3 {
			t.Errorf("Stats = %+v", s)
		}
	}
}

// gatedDevice runs a step for each value of the channel; closing it lets all run.
func gatedDevice(t *testing.T) (*fakeDevice, chan struct{}, func()) {
	gate := make(chan struct{})
	open := sync.OnceFunc(func() { close(gate) })
	t.Cleanup(open)
	return &fakeDevice{beforeRun: func(int, *hardware.Batch) { <-gate }}, gate, open
}

func TestBusy(t *testing.T) {
	device, _, open := gatedDevice(t)
	e := fakeEngine(t, device, Options{MaxSequences: 2, MaxWaiting: 3})
	t.Cleanup(open) // before Close, which waits for the step
	r := api.Request{Prompt: words(1, 10), MaxTokens: 2}
	var accepted []<-chan api.Event
	for range 5 {
		accepted = append(accepted, submit(t, e, r))
	}
	if _, err := e.Submit(t.Context(), &r); !errors.Is(err, api.ErrBusy) {
		t.Errorf("the sixth request of 2 running and 3 waiting: %v, want ErrBusy", err)
	}
	open()
	for _, events := range accepted {
		if a := collect(t, events); a.done.Err != nil {
			t.Error(a.done.Err)
		}
	}
	collect(t, submit(t, e, r))
}

// TestCancel lets callers leave while they stream, while their prompt is computed and while they wait. Each step is
// let through by hand.
func TestCancel(t *testing.T) {
	device, gate, open := gatedDevice(t)
	e := loadFake(t, device, Options{MaxSequences: 2, MaxBatchTokens: 32})
	wait, left := device.beforeRun, make(chan struct{})
	device.beforeRun = func(step int, b *hardware.Batch) {
		wait(step, b)
		select {
		case <-left: // the callers' contexts tell the sequences on goroutines of their own: wait for these
			for _, seq := range slices.Concat(e.loop.scheduler.running, e.loop.scheduler.waiting) {
				for !seq.cancelled.Load() {
					runtime.Gosched()
				}
			}
		default:
		}
	}
	e.start()
	t.Cleanup(func() { open(); e.Close() })
	start := func(prompt []int32) (context.CancelCauseFunc, <-chan api.Event) {
		ctx, cancel := context.WithCancelCause(t.Context())
		events, err := e.Submit(ctx, &api.Request{Prompt: prompt, MaxTokens: 100, IgnoreEOS: true})
		if err != nil {
			t.Fatal(err)
		}
		return cancel, events
	}
	cancelStream, stream := start(words(1, 10))
	gate <- struct{}{}
	<-stream // its first token: it runs now
	cancelLong, long := start(words(2, 900))
	cancelWaiting, waiting := start(words(3, 10))
	cancelEnough, enough := start(words(4, 10))
	gate <- struct{}{}
	<-stream
	cancelStream(nil)
	cancelLong(nil)
	cancelWaiting(nil)
	cancelEnough(api.ErrEnough)
	close(left)
	open()
	if a := collect(t, enough); a.done.Reason != api.FinishStop || a.done.Err != nil {
		t.Errorf("enough: %+v, want it stopped", a.done)
	}
	for name, events := range map[string]<-chan api.Event{"stream": stream, "long": long, "waiting": waiting} {
		a := collect(t, events)
		if a.done.Reason != api.FinishCancelled || a.done.Err != nil || len(a.tokens) > 2 {
			t.Errorf("%s: %+v after %d further tokens, want it cancelled at the next step", name, a.done, len(a.tokens))
		}
	}
	if s := e.Stats(); s.Running != 0 || s.Waiting != 0 || s.BlocksUsed != 0 || s.Requests[api.FinishCancelled] != 3 || s.Requests[api.FinishStop] != 1 {
		t.Errorf("Stats = %+v, want nothing in use", s)
	}
}

func TestCancelledBeforeSubmit(t *testing.T) {
	e := fakeEngine(t, &fakeDevice{}, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	events, err := e.Submit(ctx, &api.Request{Prompt: words(1, 10), IgnoreEOS: true})
	if err != nil {
		t.Fatal(err)
	}
	if a := collect(t, events); a.done.Reason != api.FinishCancelled && a.done.Reason != api.FinishLength {
		t.Errorf("%+v", a.done)
	}
}

// TestSlowReader leaves one channel unread: its request ends with an error, the other one's does not notice. A step
// waits until the other channel has room, so that only the unread one is ever full.
func TestSlowReader(t *testing.T) {
	var fast <-chan api.Event
	submitted := make(chan struct{})
	device := &fakeDevice{beforeRun: func(int, *hardware.Batch) {
		for <-submitted; len(fast) > eventBuffer/2; {
			runtime.Gosched()
		}
	}}
	e := fakeEngine(t, device, Options{ContextLength: 3000})
	slow := submit(t, e, api.Request{Prompt: words(1, 10), IgnoreEOS: true})
	fast = submit(t, e, api.Request{Prompt: words(2, 10), IgnoreEOS: true, MaxTokens: eventBuffer + 200})
	close(submitted)
	if a := collect(t, fast); a.done.Err != nil || len(a.tokens) != eventBuffer+200 {
		t.Errorf("the fast reader got %d tokens, %v", len(a.tokens), a.done.Err)
	}
	a := collect(t, slow)
	if a.done.Reason != api.FinishError || !errors.Is(a.done.Err, api.ErrSlowReader) || len(a.tokens) != eventBuffer-1 {
		t.Errorf("the slow reader got %d tokens and %+v", len(a.tokens), a.done)
	}
}

func TestCloseEndsEverything(t *testing.T) {
	device, gate, open := gatedDevice(t)
	e := fakeEngine(t, device, Options{MaxSequences: 1})
	r := api.Request{Prompt: words(1, 10), IgnoreEOS: true}
	running, waiting := submit(t, e, r), submit(t, e, r)
	gate <- struct{}{}
	<-running
	closed := make(chan error)
	go func() { closed <- e.Close() }()
	<-e.stop
	open()
	for _, events := range []<-chan api.Event{running, waiting} {
		if a := collect(t, events); a.done.Reason != api.FinishError || !errors.Is(a.done.Err, api.ErrClosed) {
			t.Errorf("%+v, want ErrClosed", a.done)
		}
	}
	if err := <-closed; err != nil || !device.closed.Load() {
		t.Errorf("Close = %v, queue closed: %t", err, device.closed.Load())
	}
	if _, err := e.Submit(t.Context(), &r); !errors.Is(err, api.ErrClosed) {
		t.Errorf("Submit after Close = %v, want ErrClosed", err)
	}
	if e.Counters().Steps == 0 {
		t.Error("no steps counted")
	}
}

// TestCloseWhileSubmitting races many callers with Close: each is refused, or hears how its request ended.
func TestCloseWhileSubmitting(t *testing.T) {
	for range 20 {
		e := fakeEngine(t, &fakeDevice{}, Options{MaxSequences: 2, MaxWaiting: 4})
		var callers sync.WaitGroup
		for i := range 16 {
			callers.Go(func() {
				for {
					events, err := e.Submit(t.Context(), &api.Request{Prompt: words(uint64(i), 20), MaxTokens: 5})
					if errors.Is(err, api.ErrClosed) {
						return
					}
					if err == nil {
						collect(t, events)
					}
				}
			})
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		callers.Wait()
	}
}

// TestFailuresEndTheRunningRequestsOnly makes a step panic and another report a fault of the device.
func TestFailuresEndTheRunningRequestsOnly(t *testing.T) {
	fault := errors.New("fake: fault")
	for name, device := range map[string]*fakeDevice{
		"panic": {beforeRun: func(step int, _ *hardware.Batch) {
			if step == 5 {
				panic("fake: broken contract")
			}
		}},
		"fault": {syncError: func(step int) error {
			if step == 5 {
				return fault
			}
			return nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			e := fakeEngine(t, device, Options{})
			r := api.Request{Prompt: words(1, 100), MaxTokens: 30, IgnoreEOS: true}
			a := collect(t, submit(t, e, r))
			if a.done.Reason != api.FinishError || !errors.Is(a.done.Err, api.ErrInternal) || len(a.tokens) != 4 {
				t.Errorf("%+v after %d tokens, want ErrInternal after 4", a.done, len(a.tokens))
			}
			if name == "fault" && !errors.Is(a.done.Err, fault) {
				t.Errorf("error %v does not say why", a.done.Err)
			}
			a = collect(t, submit(t, e, r))
			if tokens, _ := fakeAnswer(t, r); !slices.Equal(a.tokens, tokens) || a.done.Usage.CachedTokens != 0 {
				t.Errorf("the next request: %v, %+v, want %v", a.tokens, a.done, tokens)
			}
			if s := e.Stats(); s.Requests != [4]uint64{api.FinishLength: 1, api.FinishError: 1} || s.BlocksUsed != 0 {
				t.Errorf("Stats = %+v", s)
			}
		})
	}
}

// TestLongPromptDoesNotStopStreams submits a prompt of 30k tokens beside two streams: as long as they run, every step
// brings each of them one token.
func TestLongPromptDoesNotStopStreams(t *testing.T) {
	for name, batchTokens := range map[string]int{"fixed budget": 512, "measured budget": 0} {
		t.Run(name, func(t *testing.T) {
			var steps []map[int]int // number of spans by length
			submitted := make(chan struct{})
			device := &fakeDevice{beforeRun: func(_ int, b *hardware.Batch) {
				<-submitted
				spans := map[int]int{}
				for _, s := range b.Spans {
					spans[int(s.Len)]++
				}
				steps = append(steps, spans)
			}}
			e := fakeEngine(t, device, Options{ContextLength: 1 << 15, MaxBatchTokens: batchTokens})
			streams := []<-chan api.Event{
				submit(t, e, api.Request{Prompt: words(1, 3), MaxTokens: 300, IgnoreEOS: true}),
				submit(t, e, api.Request{Prompt: words(2, 3), MaxTokens: 300, IgnoreEOS: true}),
			}
			long := submit(t, e, api.Request{Prompt: words(3, 30_000), MaxTokens: 2, IgnoreEOS: true})
			close(submitted)
			for _, events := range streams {
				collect(t, events)
			}
			collect(t, long)
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			mixed := 0
			for i, spans := range steps {
				longest := slices.Max(slices.Collect(maps.Keys(spans)))
				if longest < 3 || spans[1] == 0 {
					continue
				}
				if mixed++; spans[1] != 2 && 2 <= i && i < 290 {
					t.Fatalf("step %d has spans %v, want both streams in it", i, spans)
				}
			}
			if mixed < 30_000/528 {
				t.Errorf("only %d steps mixed the prompt with the streams", mixed)
			}
		})
	}
}

// TestLoopAllocatesNothing drives the loop by hand: 100 steps of eight sequences, greedy and sampled. With state, some
// of the steps keep it.
func TestLoopAllocatesNothing(t *testing.T) {
	loopAllocatesNothing(t, &fakeDevice{}, 10)
	loopAllocatesNothing(t, &fakeDevice{stateful: true}, keepEvery-110)
}

// TestLoopAllocatesNothingWithADisk has blocks and states listed that the disk does not take.
func TestLoopAllocatesNothingWithADisk(t *testing.T) {
	for _, device := range []*fakeDevice{{}, {stateful: true}} {
		opts := Options{MaxSequences: 8, ContextLength: 8192, Disk: noStore}
		store := &brittle{records: openStore(t, t.TempDir()), refuse: true}
		loopOfAllocatesNothing(t, device, opts, func(e *Engine) { e.setStore(store) }, keepEvery-110)
	}
}

func loopAllocatesNothing(t *testing.T, device *fakeDevice, stepsBefore int) {
	t.Helper()
	loopOfAllocatesNothing(t, device, Options{MaxSequences: 8, ContextLength: 8192}, func(*Engine) {}, stepsBefore)
}

// loopOfAllocatesNothing is loopAllocatesNothing for an engine that was prepared.
func loopOfAllocatesNothing(t *testing.T, device *fakeDevice, opts Options, prepare func(*Engine), stepsBefore int) {
	t.Helper()
	e := loadFake(t, device, opts)
	prepare(e)
	var events []<-chan api.Event
	for i := range 8 {
		r := api.Request{Prompt: words(uint64(i), 60+i), MaxTokens: 3000, IgnoreEOS: true, Logprobs: -1}
		if i%2 == 0 {
			r.Sampling = api.Sampling{Temperature: 1, TopP: 0.9, RepeatPenalty: 1.1, Seed: 3}
		}
		events = append(events, submit(t, e, r))
		e.loop.scheduler.add(<-e.submissions)
	}
	step := func() {
		if !e.loop.guardedStep() {
			t.Fatal("the loop is idle")
		}
		for _, channel := range events {
			for len(channel) > 0 {
				<-channel
			}
		}
	}
	for range stepsBefore {
		step()
	}
	saved := e.stats.statesSaved.Load()
	if running := len(e.loop.scheduler.running); running != 8 {
		t.Fatalf("%d sequences run, want 8", running)
	}
	before := e.stats.rows.Load()
	if allocs := testing.AllocsPerRun(100, step); allocs != 0 {
		t.Errorf("%v allocations per step, want 0", allocs)
	}
	if rows := e.stats.rows.Load() - before; rows != 8*101 { // AllocsPerRun warms up with one run
		t.Errorf("%d rows in 101 steps of 8 sequences", rows)
	}
	if saved = e.stats.statesSaved.Load() - saved; (saved == 8) != device.stateful {
		t.Errorf("%d states were kept in these steps", saved)
	}
}

func TestOptions(t *testing.T) {
	for _, test := range []struct {
		want string
		opts Options
	}{
		{"ContextLength", Options{ContextLength: -1}},
		{"MaxSequences", Options{MaxSequences: -1}},
		{"MaxBatchTokens", Options{MaxBatchTokens: -1}},
		{"MaxWaiting", Options{MaxWaiting: -1}},
		{"KVBytes", Options{KVBytes: -1}},
		{"Blocks", Options{Blocks: -1}},
		{"MaxSequences", Options{MaxSequences: math.MaxInt}},
		{"MaxWaiting", Options{MaxWaiting: math.MaxInt}},
		{"MaxBatchTokens", Options{MaxBatchTokens: maxCount + 1}},
		{"Speculate", Options{Speculate: SpeculateDraft + 1}},
		{"MaxDraft", Options{MaxDraft: hardware.BlockLen}},
		{"Device", Options{}},
	} {
		if test.want != "Device" {
			test.opts.Device = &fakeDevice{}
		}
		if err := test.opts.Validate(); err == nil || !strings.Contains(err.Error(), "option "+test.want+" ") {
			t.Errorf("Validate(%+v) = %v, want an error about %s", test.opts, err, test.want)
		}
	}
}
