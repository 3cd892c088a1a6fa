package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"testing"

	"hearth/engine/api"
	"hearth/engine/draft"
	"hearth/engine/model"
	"hearth/engine/weights"
	"hearth/hardware"
	"hearth/hardware/quant"
)

// guessing starts an engine on a fake device that checks every guess.
func guessing(t testing.TB, device *fakeDevice, opts Options) *Engine {
	t.Helper()
	if opts.Speculate == SpeculateOff {
		opts.Speculate = SpeculateNGram
	}
	e := loadFake(t, device, opts)
	e.loop.speculation.control.Always = true
	e.start()
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return e
}

// few makes three tokens as probable as all others are not: what occurred before occurs again now and then, and what
// followed follows every third time.
func few(extra ...int32) map[int32]float32 {
	bias := map[int32]float32{10: 40, 11: 40, 12: 40}
	for _, token := range extra {
		bias[token] = 40
	}
	return bias
}

// TestSpeculationChangesNothing wants the answers of engines that guess to be those that are computed without engine:
// drawn and greedy, with penalties, stop tokens, tokens that are banned before a length, and log-probabilities; in few
// blocks, within small budgets, and beside others.
func TestSpeculationChangesNothing(t *testing.T) {
	var requests []api.Request
	for i := range 24 {
		r := api.Request{
			Prompt: slices.Concat(words(1, 130*(i%2)), words(uint64(i), 5+i)), MaxTokens: 20 + 11*i, Logprobs: i%4 - 1,
			Sampling: api.Sampling{LogitBias: few(), Seed: uint64(i)}, IgnoreEOS: i%5 == 0,
		}
		if i%3 > 0 {
			r.Sampling.Temperature = 0.7
		}
		if i%4 == 1 {
			r.Sampling.PresencePenalty, r.Sampling.RepeatLastN = 0.5, 3
		}
		if i%4 == 2 {
			r.Sampling.LogitBias = few(fakeEOS, fakeBOS)
			r.MinTokens = r.MaxTokens / 2
		}
		r.Expected = words(2, 10*i)
		requests = append(requests, r)
	}
	for _, device := range []*fakeDevice{{}, {stateful: true}} {
		t.Run(fmt.Sprintf("state %t", device.stateful), func(t *testing.T) { speculationChangesNothing(t, device, requests) })
	}
}

func speculationChangesNothing(t *testing.T, device *fakeDevice, requests []api.Request) {
	for name, opts := range map[string]Options{
		"all": {MaxSequences: 24}, "one": {MaxSequences: 1}, "budget of 9": {MaxBatchTokens: 9, MaxSequences: 5},
		"drafts of 3": {MaxDraft: 3}, "few blocks": {Blocks: 9, ContextLength: 9 * hardware.BlockLen, MaxSequences: 8},
	} {
		t.Run(name, func(t *testing.T) {
			e := guessing(t, device, opts)
			var channels []<-chan api.Event
			for _, r := range requests {
				channels = append(channels, submit(t, e, r))
			}
			for i, r := range requests {
				got := collect(t, channels[i])
				tokens, logprobs := device.answer(t, r)
				if r.Logprobs < 0 {
					logprobs = nil
				}
				if !slices.Equal(got.tokens, tokens) || !equalLogprobs(got.logprobs, logprobs) {
					t.Errorf("request %d gives\n%v, without guesses\n%v", i, got.tokens, tokens)
				}
				if u := got.done.Usage; u.AcceptedTokens > u.DraftedTokens || u.AcceptedTokens > u.GeneratedTokens {
					t.Errorf("request %d: usage %+v", i, u)
				}
			}
			if d := e.Stats().Drafts[draft.NGram]; d.Accepted < 100 || d.Drafted-d.Accepted < 100 {
				t.Errorf("%+v: the test tests too little", d)
			}
		})
	}
}

// TestDrawnDistribution draws three tokens after each other thousands of times, the second and the third with guesses,
// and compares how often each combination came with its probability (Pearson's chi-square).
func TestDrawnDistribution(t *testing.T) {
	const draws, temperature = 4000, 4
	var prompt []int32 // every three of the three tokens are in it
	for _, digit := range "00010020110120210221112122200" {
		prompt = append(prompt, 10+digit-'0')
	}
	sampling := api.Sampling{LogitBias: few(), Temperature: temperature}
	e := guessing(t, &fakeDevice{}, Options{MaxWaiting: draws, MaxSequences: 1})
	var channels []<-chan api.Event
	for seed := range draws {
		sampling.Seed = uint64(seed)
		channels = append(channels, submit(t, e, api.Request{Prompt: prompt, MaxTokens: 3, Sampling: sampling, Logprobs: -1, IgnoreEOS: true}))
	}
	counts := map[[3]int32]float64{}
	for _, events := range channels {
		counts[[3]int32(collect(t, events).tokens)]++
	}
	if d := e.Stats().Drafts[draft.NGram]; d.Accepted < draws/8 || d.Drafted-d.Accepted < draws/8 {
		t.Errorf("%+v: the test tests too little", d)
	}
	memory, table := newFakeMemory(1), []int32{0}
	memory.write(table, prompt, 0)
	chiSquare, cells := 0.0, 0
	var extend func(drawn []int32, p float64)
	extend = func(drawn []int32, p float64) {
		if len(drawn) == 3 {
			expected, seen := draws*p, counts[[3]int32(drawn)]
			chiSquare += (seen - expected) * (seen - expected) / expected
			cells++
			return
		}
		n := len(prompt) + len(drawn)
		memory.write(table, drawn, len(prompt))
		logits := make([]float32, fakeVocab)
		fakeLogits(logits, memory.attend(table, n))
		all := 0.0
		for id, l := range logits {
			if id != fakeBanned && id != fakeEOS {
				all += math.Exp(float64(l+sampling.LogitBias[int32(id)]) / temperature)
			}
		}
		for _, id := range []int32{10, 11, 12} {
			extend(append(drawn, id), p*math.Exp(float64(logits[id]+40)/temperature)/all)
		}
	}
	extend(nil, 1)
	if cells != 27 || chiSquare > 61 { // with 26 degrees of freedom less than one of 10,000 is as large
		t.Errorf("chi-square of %d combinations is %.1f, want at most 61", cells, chiSquare)
	}
}

// TestGuessesThatAreNotWanted ends answers within guesses that are right: by the length, by a stop token, and by a
// caller who leaves.
func TestGuessesThatAreNotWanted(t *testing.T) {
	one := func(token int32) api.Sampling { return api.Sampling{LogitBias: map[int32]float32{token: 60}} }
	repeated := slices.Repeat([]int32{10}, 40)
	e := guessing(t, &fakeDevice{}, Options{})
	for n := range 40 {
		a := collect(t, submit(t, e, api.Request{Prompt: repeated, MaxTokens: n + 1, Sampling: one(10), Logprobs: -1}))
		if len(a.tokens) != n+1 || a.done.Reason != api.FinishLength || a.done.Usage.GeneratedTokens != n+1 {
			t.Errorf("asked for %d tokens: got %d, %+v", n+1, len(a.tokens), a.done)
		}
		if u := a.done.Usage; n > 20 && u.AcceptedTokens < n*3/4 || u.AcceptedTokens != u.DraftedTokens {
			t.Errorf("usage %+v for a text of one word", u)
		}
	}
	// The stop token is guessed as well: it follows the same three tokens in the text that is expected.
	stop := api.Request{
		Prompt: repeated[:8], Expected: []int32{12, 12, 12, fakeEOS, 12, 12}, MaxTokens: 100, Logprobs: -1, MinTokens: 5,
		Sampling: api.Sampling{LogitBias: map[int32]float32{12: 60, fakeEOS: 90}},
	}
	if a := collect(t, submit(t, e, stop)); len(a.tokens) != 5 || a.done.Reason != api.FinishStop || a.done.Usage.AcceptedTokens == 0 {
		t.Errorf("got %v, %+v", a.tokens, a.done)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	events, err := e.Submit(ctx, &api.Request{Prompt: repeated, MaxTokens: 900, Logprobs: -1, Sampling: one(10)})
	if err != nil {
		t.Fatal(err)
	}
	<-events
	cancel(errors.New("gone"))
	if a := collect(t, events); a.done.Reason != api.FinishCancelled && a.done.Reason != api.FinishLength {
		t.Errorf("%+v", a.done)
	}
}

// TestSlowReaderOfGuesses wants a reader that is too far behind to be told so even when the tokens come many at a time.
func TestSlowReaderOfGuesses(t *testing.T) {
	e := guessing(t, &fakeDevice{}, Options{ContextLength: 4096})
	r := api.Request{Prompt: slices.Repeat([]int32{10}, 9), MaxTokens: 3000, Logprobs: -1, Sampling: api.Sampling{LogitBias: map[int32]float32{10: 60}}}
	events := submit(t, e, r)
	collect(t, submit(t, e, r)) // takes as many steps
	if a := collect(t, events); !errors.Is(a.done.Err, api.ErrSlowReader) || len(a.tokens) != eventBuffer-1 {
		t.Errorf("%d tokens, %+v", len(a.tokens), a.done)
	}
}

// TestGuessesOnTheCPU wants many guesses of both kinds with a trained model: right ones and wrong ones.
func TestGuessesOnTheCPU(t *testing.T) {
	var got [2]answer
	for i, speculate := range []Speculate{SpeculateOff, SpeculateAuto} {
		e := loadEngine(t, openEmbedded(t), Options{Device: openOneThread(t), KV: quant.F16, Speculate: speculate})
		if speculate != SpeculateOff {
			e.loop.speculation.control.Always = true
		}
		e.start()
		got[i] = collect(t, submit(t, e, api.Request{Prompt: []int32{1, 403, 407}, MaxTokens: 480, Logprobs: 5, IgnoreEOS: true}))
		if d := e.Stats().Drafts[draft.NGram]; speculate != SpeculateOff && (d.Accepted < 50 || d.Drafted-d.Accepted < 50) {
			t.Errorf("%+v: the test tests too little", d)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
	if !slices.Equal(got[0].tokens, got[1].tokens) || !equalLogprobs(got[0].logprobs, got[1].logprobs) {
		t.Errorf("without guesses\n%v, with\n%v", got[0].tokens, got[1].tokens)
	}
}

// TestGuessingAllocatesNothing drives the loop by hand: steps of eight sequences whose guesses are right and wrong, found in
// their texts, drawn from a draft model, and predicted by layers of the model on the real device.
func TestGuessingAllocatesNothing(t *testing.T) {
	m, err := model.LoadDrafting(tinyModel(t, "qwen35-mtp"))
	if err != nil {
		t.Fatal(err)
	}
	predicting, err := load(t.Context(), m, Options{
		Device: openOneThread(t), KV: quant.F32, Speculate: SpeculateMTP, MaxSequences: 8, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	for source, e := range map[draft.Source]*Engine{
		draft.NGram:      loadFake(t, &fakeDevice{}, Options{MaxSequences: 8, Speculate: SpeculateNGram}),
		draft.OtherModel: loadFake(t, &fakeDevice{}, Options{MaxSequences: 8, Speculate: SpeculateDraft, Draft: fakeModel()}),
		draft.Heads:      predicting,
	} {
		e.loop.speculation.control.Always = true
		for i := range 8 {
			r := api.Request{
				Prompt: words(uint64(i), 60+i), MaxTokens: 900, IgnoreEOS: true, Logprobs: -1,
				Sampling: api.Sampling{Temperature: 1, LogitBias: few(), Seed: uint64(i)},
			}
			submit(t, e, r)
			e.loop.scheduler.add(<-e.submissions)
		}
		step := func() {
			if !e.loop.guardedStep() {
				t.Fatalf("%s: the loop is idle", source)
			}
		}
		for range 10 {
			step()
		}
		if allocs := testing.AllocsPerRun(25, step); allocs != 0 {
			t.Errorf("%s: %v allocations per step, want 0", source, allocs)
		}
		if d := e.Stats().Drafts[source]; d.Accepted == 0 || d.Accepted == d.Drafted && source != draft.OtherModel {
			t.Errorf("%+v: the test tests too little", d)
		}
		if err := e.abandon(); err != nil {
			t.Error(err)
		}
	}
}

// TestDraftModel has a model guess for itself: where its cache holds what it should, every guess is right, greedy or drawn.
// Prompts share prefixes, are computed in chunks, are preempted and come back.
func TestDraftModel(t *testing.T) {
	for name, opts := range map[string]Options{
		"all": {MaxSequences: 24}, "budget of 40": {MaxBatchTokens: 40, MaxSequences: 5}, "drafts of 3": {MaxDraft: 3},
		"few blocks": {Blocks: 12, ContextLength: 12 * hardware.BlockLen, MaxSequences: 8},
	} {
		t.Run(name, func(t *testing.T) {
			opts.Draft, opts.Speculate = fakeModel(), SpeculateDraft
			e := guessing(t, &fakeDevice{}, opts)
			var requests []api.Request
			for i := range 24 {
				r := api.Request{
					Prompt: slices.Concat(words(1, 130*(i%2)), words(uint64(i), 5+9*i)), MaxTokens: 20 + 11*i, Logprobs: -1, IgnoreEOS: true,
				}
				if i%2 > 0 {
					r.Sampling = api.Sampling{Temperature: 1, PresencePenalty: 1, Seed: uint64(i)}
				}
				requests = append(requests, r)
			}
			for range 2 { // the second time prefixes come from the cache
				var channels []<-chan api.Event
				for _, r := range requests {
					channels = append(channels, submit(t, e, r))
				}
				for i, r := range requests {
					got := collect(t, channels[i])
					if tokens, _ := fakeAnswer(t, r); !slices.Equal(got.tokens, tokens) {
						t.Errorf("request %d gives\n%v, without guesses\n%v", i, got.tokens, tokens)
					}
				}
			}
			if d := e.Stats().Drafts[draft.OtherModel]; d.Drafted < 1000 || d.Accepted != d.Drafted {
				t.Errorf("%+v: want all of many guesses to be right", d)
			}
			if opts.Blocks > 0 && e.Stats().Preemptions == 0 {
				t.Error("nobody was preempted")
			}
		})
	}
}

// TestDraftModelKnowsItsBlocks has a prompt computed by a request that ends in the same step, in blocks that others filled
// before: the model that guesses has seen nothing of it, and must not go on from what the blocks held.
func TestDraftModelKnowsItsBlocks(t *testing.T) {
	const blocks = 3
	e := guessing(t, &fakeDevice{}, Options{
		Draft: fakeModel(), Speculate: SpeculateDraft, Blocks: blocks, ContextLength: blocks * hardware.BlockLen, MaxSequences: 1,
	})
	prompt := words(7, hardware.BlockLen+5)
	for _, r := range []api.Request{
		{Prompt: words(5, 10), MaxTokens: 2 * hardware.BlockLen}, {Prompt: words(6, 10), MaxTokens: hardware.BlockLen - 9}, // three full blocks
		{Prompt: prompt, MaxTokens: 1}, {Prompt: prompt, MaxTokens: 40},
	} {
		r.IgnoreEOS, r.Logprobs = true, -1
		got := collect(t, submit(t, e, r))
		if tokens, _ := fakeAnswer(t, r); !slices.Equal(got.tokens, tokens) {
			t.Errorf("%d tokens after %d: got %v, without guesses %v", r.MaxTokens, len(r.Prompt), got.tokens, tokens)
		}
		if u := got.done.Usage; r.MaxTokens > 1 && (u.DraftedTokens < r.MaxTokens/2 || u.AcceptedTokens != u.DraftedTokens) {
			t.Errorf("%d tokens after %d: usage %+v, want all of many guesses to be right", r.MaxTokens, len(r.Prompt), u)
		}
	}
}

// TestDraftModelAheadOfItself has steps take two of many right guesses: the token behind them is one that the model that
// guesses has run already, and it goes on from there all the same.
func TestDraftModelAheadOfItself(t *testing.T) {
	e := guessing(t, &fakeDevice{}, Options{Draft: fakeModel(), Speculate: SpeculateDraft, MaxBatchTokens: 3, MaxSequences: 1})
	r := api.Request{Prompt: words(7, 9), MaxTokens: 90, IgnoreEOS: true, Logprobs: -1}
	got := collect(t, submit(t, e, r))
	if tokens, _ := fakeAnswer(t, r); !slices.Equal(got.tokens, tokens) {
		t.Errorf("got %v, without guesses %v", got.tokens, tokens)
	}
	if u := got.done.Usage; u.AcceptedTokens != u.DraftedTokens || u.AcceptedTokens < r.MaxTokens*2/3-2 {
		t.Errorf("usage %+v, want two of three tokens guessed", u)
	}
}

// predictingDeepSeek is a reference model of DeepSeek whose last layer predicts further tokens instead, from the sum of
// the embedding and the hidden row.
func predictingDeepSeek(t testing.TB, name string) weights.Source {
	t.Helper()
	src := tinyModel(t, name)
	arch, _ := src.Metadata().String("general.architecture")
	blocks, _ := src.Metadata().Uint(arch + ".block_count")
	width, _ := src.Metadata().Uint(arch + ".embedding_length")
	x := extended{keyed{src, src.Metadata().Clone()}, map[string]weights.Tensor{}}
	x.md.Set(arch+".nextn_predict_layers", uint32(1))
	add := func(name string, value func(i int) float32, shape ...int) {
		n := int(width)
		for _, d := range shape[1:] {
			n *= d
		}
		values, data := make([]float32, n), make([]byte, 4*n)
		for i := range values {
			values[i] = value(i)
		}
		quant.F32.Quantize(data, values)
		name = fmt.Sprintf("blk.%d.nextn.%s.weight", blocks-1, name)
		x.further[name] = weights.Tensor{Name: name, Format: quant.F32, Shape: shape, Data: data}
	}
	hidden := int(width)
	add("eh_proj", func(i int) float32 {
		if row, column := i/(2*hidden), i%(2*hidden); row == column%hidden {
			return 0.5
		}
		return 0
	}, hidden, 2*hidden)
	for _, norm := range []string{"enorm", "hnorm", "shared_head_norm"} {
		add(norm, func(int) float32 { return 1 }, hidden)
	}
	if arch == "deepseek4" {
		for _, part := range []string{"fn", "base", "scale"} {
			tensor, err := src.Tensor("output_hc_" + part + ".weight")
			if err != nil {
				t.Fatal(err)
			}
			tensor.Name = fmt.Sprintf("blk.%d.nextn.hc_head_%s.weight", blocks-1, part)
			x.further[tensor.Name] = tensor
		}
	}
	return x
}

// TestPredictingLayers runs models with layers that predict further tokens, alone and beside prompt lookup: the answers are
// those without guesses, also when prompts come from the cache.
func TestPredictingLayers(t *testing.T) {
	device := openOneThread(t)
	for name, open := range map[string]func(testing.TB, string) weights.Source{
		"qwen35-mtp": tinyModel, "deepseek2": predictingDeepSeek, "deepseek32": predictingDeepSeek, "deepseek4": predictingDeepSeek,
	} {
		t.Run(name, func(t *testing.T) { predictingLayers(t, device, open(t, name)) })
	}
}

func predictingLayers(t *testing.T, device hardware.Device, src weights.Source) {
	requests := bitRequests(512, 512)[:6]
	for i := range requests {
		requests[i].MaxTokens = 40
		requests[i].Sampling.LogitBias = map[int32]float32{}
		for token := range int32(512) {
			if token%128 > 1 { // of few tokens, so that guesses are right now and then
				requests[i].Sampling.LogitBias[token] = -100
			}
		}
	}
	var want []answer
	for _, speculate := range []Speculate{SpeculateOff, SpeculateMTP, SpeculateAuto} {
		m, err := model.LoadDrafting(src)
		if err != nil {
			t.Fatal(err)
		}
		e, err := load(t.Context(), m, Options{
			Device: device, KV: quant.F32, Speculate: speculate, MaxDraft: 4, Blocks: 40, ContextLength: 512, MaxSequences: 8,
			Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		if e.loop.speculation != nil {
			e.loop.speculation.control.Always = true
		}
		e.start()
		for round := range 2 {
			var channels []<-chan api.Event
			for _, r := range requests {
				channels = append(channels, submit(t, e, r))
			}
			for i, events := range channels {
				got := collect(t, events)
				if speculate == SpeculateOff && round == 0 {
					want = append(want, got)
				} else if !slices.Equal(got.tokens, want[i].tokens) || !equalLogprobs(got.logprobs, want[i].logprobs) {
					t.Errorf("%s: request %d gives\n%v, without guesses\n%v", speculate, i, got.tokens, want[i].tokens)
				}
			}
		}
		if s := e.Stats().Drafts[draft.Heads]; speculate != SpeculateOff && (s.Accepted == 0 || s.Accepted == s.Drafted) {
			t.Errorf("%s: %+v: the test tests too little", speculate, s)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestParseSpeculate(t *testing.T) {
	for i, name := range SpeculateNames() {
		if choice, err := ParseSpeculate(name); err != nil || choice != Speculate(i) || choice.String() != name {
			t.Errorf("%q is %d, %v", name, choice, err)
		}
	}
	if _, err := ParseSpeculate("magic"); err == nil || !strings.Contains(err.Error(), "is none of off, auto, ngram, mtp, draft") {
		t.Errorf("an unknown choice: %v", err)
	}
}
