package engine

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"hearth/cmd/sharedtest"
	"hearth/engine/api"
	"hearth/engine/draft"
	"hearth/engine/model"
	"hearth/engine/tokenizer"
	"hearth/engine/weights"
	"hearth/hardware"
	"hearth/hardware/cpu"
	"hearth/hardware/quant"
)

// startEngine runs a model; the engine is closed at the end of the test.
func startEngine(t testing.TB, src weights.Source, opts Options) *Engine {
	t.Helper()
	e := loadEngine(t, src, opts)
	e.start()
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// loadEngine returns an engine whose loop does not run. Its end-of-generation token is 2.
func loadEngine(t testing.TB, src weights.Source, opts Options) *Engine {
	t.Helper()
	m, err := model.Load(src)
	if err != nil {
		t.Fatal(err)
	}
	opts.Logger = slog.New(slog.DiscardHandler)
	if opts.StopTokens == nil {
		opts.StopTokens, opts.EndTokens = []int32{1, 2}, []int32{2}
	}
	e, err := load(t.Context(), m, opts)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// smallModels are one or more of every architecture.
func smallModels() map[string]func(testing.TB) weights.Source {
	models := map[string]func(testing.TB) weights.Source{
		"embedded": openEmbedded, "qwen2moe": openQwen2MoE,
		"qwen3next": func(t testing.TB) weights.Source { return newNextModel().open(t, "qwen3next") },
	}
	for _, name := range golden {
		models[name] = func(t testing.TB) weights.Source { return tinyModel(t, name) }
	}
	return models
}

// TestSameBitsOnTheCPU is the invariant on the real device and real arithmetic: the same request gives the same tokens
// and bitwise the same log-probabilities alone, among 16, from cached prefixes, in chunks of any size, and preempted.
func TestSameBitsOnTheCPU(t *testing.T) {
	one := openOneThread(t)
	sources := smallModels()
	delete(sources, "qwen35-mtp") // whose trunk is that of qwen35
	for name, open := range sources {
		for _, kv := range []*quant.Format{quant.F32, quant.F16} {
			if kv == quant.F32 && (name != "embedded" || testing.Short()) || name != "embedded" && testing.Short() {
				continue
			}
			t.Run(name+"/"+kv.Name, func(t *testing.T) { sameBits(t, one, open, kv) })
		}
	}
}

// TestSameBitsOfTwoWorkers is the same for fewer requests and work that is shared out: workers that spin wait long for
// each other on a busy machine. What one worker computes is what two do.
func TestSameBitsOfTwoWorkers(t *testing.T) {
	var got [2][]answer
	requests := bitRequests(512, 512)[:6]
	for i, device := range []hardware.Device{openOneThread(t), openCPU(t)} {
		e := startEngine(t, openEmbedded(t), Options{Device: device, KV: quant.F16, MaxBatchTokens: 64 * (1 + i)})
		channels := make([]<-chan api.Event, len(requests))
		for j, r := range requests {
			channels[j] = submit(t, e, r)
		}
		for _, events := range channels {
			got[i] = append(got[i], collect(t, events))
		}
	}
	for j := range requests {
		if !slices.Equal(got[0][j].tokens, got[1][j].tokens) || !equalLogprobs(got[0][j].logprobs, got[1][j].logprobs) {
			t.Errorf("request %d: one worker gives\n%v, two\n%v", j, got[0][j].tokens, got[1][j].tokens)
		}
	}
}

func sameBits(t *testing.T, device hardware.Device, open func(testing.TB) weights.Source, kv *quant.Format) {
	m, err := model.Load(open(t))
	if err != nil {
		t.Fatal(err)
	}
	const blocks = 7 // few enough to preempt
	longest := min(m.Config.ContextLength, blocks*hardware.BlockLen)
	requests := bitRequests(m.Config.VocabSize, longest)
	variants := map[string]Options{
		"among 16":                  {},
		"chunks of 7":               {MaxBatchTokens: 7},
		"chunks of 100, few blocks": {MaxBatchTokens: 100, Blocks: blocks},
		"guesses":                   {Speculate: SpeculateAuto},
		"guesses, few blocks":       {Speculate: SpeculateAuto, MaxDraft: 5, MaxBatchTokens: 33, Blocks: blocks},
	}
	if strings.HasPrefix(m.Config.Architecture, "deepseek") { // which takes longest
		requests = requests[len(requests)/2:]
		maps.DeleteFunc(variants, func(_ string, opts Options) bool { return opts.Blocks == 0 })
	}
	want := make([]answer, len(requests))
	alone := startEngine(t, open(t), Options{Device: device, KV: kv, ContextLength: longest, MaxSequences: 1})
	for i, r := range requests {
		want[i] = collect(t, submit(t, alone, r))
		if want[i].done.Err != nil || len(want[i].tokens) == 0 {
			t.Fatalf("request %d alone: %+v", i, want[i].done)
		}
	}
	for name, opts := range variants {
		opts.Device, opts.KV, opts.ContextLength, opts.MaxSequences = device, kv, longest, 16
		e := loadEngine(t, open(t), opts)
		if opts.Speculate != SpeculateOff {
			e.loop.speculation.control.Always = true
		}
		start := sync.OnceFunc(e.start)
		for _, round := range []string{"first", "cached"} {
			channels := make([]<-chan api.Event, len(requests))
			for i, r := range requests {
				if opts.Speculate != SpeculateOff {
					r.Expected = nearly(want[i].tokens)
				}
				channels[i] = submit(t, e, r)
			}
			start() // once all are there, so that they meet in the same steps on any machine
			cached := 0
			for i := range requests {
				got := collect(t, channels[i])
				cached += got.done.Usage.CachedTokens
				if !slices.Equal(got.tokens, want[i].tokens) || !equalLogprobs(got.logprobs, want[i].logprobs) ||
					!equalLogprobs(got.prompt, want[i].prompt) || got.done.Reason != want[i].done.Reason {
					t.Errorf("%s, %s: request %d gives\n%v, %+v, alone\n%v, %+v", name, round, i, got.tokens, got.done, want[i].tokens, want[i].done)
				}
			}
			if round == "cached" && cached == 0 {
				t.Errorf("%s: nothing came from the cache", name)
			}
		}
		if drafts := e.Stats().Drafts[draft.NGram]; opts.Speculate != SpeculateOff && drafts.Accepted == 0 {
			t.Errorf("%s: of %d guesses none was right: the test tests too little", name, drafts.Drafted)
		}
		if s := e.Stats(); m.Program.Stateful() != (s.StatesSaved > 0 && s.StatesLoaded > 0) {
			t.Errorf("%s: %d states saved, %d loaded", name, s.StatesSaved, s.StatesLoaded)
		}
		if preempted := e.Stats().Preemptions > 0; preempted != (opts.Blocks > 0) {
			t.Errorf("%s: preemptions: %t", name, preempted)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
}

// nearly returns tokens of which every ninth is another: guesses of which some are right.
func nearly(tokens []int32) []int32 {
	tokens = slices.Clone(tokens)
	for i := 8; i < len(tokens); i += 9 {
		tokens[i] ^= 1 // vocabularies are of even size
	}
	return tokens
}

// bitRequests returns 16 requests of different lengths and sampling; half share a prefix of two blocks. Some ask for as
// many log-probabilities as there may be, so that these stand for the logits.
func bitRequests(vocab, longest int) []api.Request {
	text := func(seed uint64, n int) []int32 { return textOf(vocab, seed, n) }
	requests := make([]api.Request, 16)
	for i := range requests {
		prompt := append(text(1, 140*(i%2)), text(uint64(10+i), 3+7*i)...)
		r := api.Request{Prompt: prompt, MaxTokens: 20 + 6*i, Logprobs: []int{0, 1, maxLogprobs}[i%3], IgnoreEOS: i%3 > 0, PromptLogprobs: i == 9}
		if i%3 == 1 {
			r.Sampling = api.Sampling{Temperature: 0.8, TopP: 0.95, TopK: 40, Seed: uint64(i), PresencePenalty: 0.3}
		}
		r.MaxTokens = min(r.MaxTokens, longest-len(prompt))
		requests[i] = r
	}
	if testing.Short() {
		requests = requests[8:]
	}
	return requests
}

// textOf returns n tokens of a vocabulary, the same for the same seed.
func textOf(vocab int, seed uint64, n int) []int32 {
	tokens := make([]int32, n)
	for i := range tokens {
		seed = fakeHash(seed, int32(i))
		tokens[i] = int32(3 + seed%uint64(vocab-3))
	}
	return tokens
}

// openOneThread opens a device whose only worker is the loop.
func openOneThread(t testing.TB) hardware.Device {
	t.Helper()
	device, err := cpu.Open(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { device.Close() })
	return device
}

// TestCPULoopAllocatesNothing drives the loop by hand: 100 steps of eight sequences on the real device, and copies of
// states. AllocsPerRun leaves Go one thread, so the device has one too.
func TestCPULoopAllocatesNothing(t *testing.T) {
	device := openOneThread(t)
	for name, src := range map[string]weights.Source{"embedded": openEmbedded(t), "state": tinyModel(t, "qwen35")} {
		e := loadEngine(t, src, Options{Device: device, MaxSequences: 8})
		defer e.loop.queue.Close()
		for i := range 8 {
			r := api.Request{Prompt: []int32{1, int32(300 + i)}, MaxTokens: 400, IgnoreEOS: true, Logprobs: -1}
			if i%2 == 0 {
				r.Sampling = api.Sampling{Temperature: 1, TopP: 0.9, Seed: 3}
			}
			submit(t, e, r)
			e.loop.scheduler.add(<-e.submissions)
		}
		step := func() { e.loop.guardedStep() }
		for range 10 {
			step()
		}
		before := e.stats.rows.Load()
		if allocs := testing.AllocsPerRun(100, step); allocs != 0 {
			t.Errorf("%s: %v allocations per step, want 0", name, allocs)
		}
		if rows := e.stats.rows.Load() - before; rows != 8*101 {
			t.Errorf("%s: %d rows in 101 steps of 8 sequences", name, rows)
		}
		if e.limits.Slots == 0 {
			continue
		}
		if allocs := testing.AllocsPerRun(10, func() { // every sequence has computed more than a block
			e.loop.queue.SaveState(2, hardware.BlockLen, 5)
			e.loop.queue.LoadState(2, hardware.BlockLen, 5)
		}); allocs != 0 {
			t.Errorf("%s: copying a state makes %v allocations, want 0", name, allocs)
		}
	}
}

// TestBatchingMultipliesEachWeightOnce counts the bytes of weights that a step multiplies, for one sequence and for
// eight: they are the same.
func TestBatchingMultipliesEachWeightOnce(t *testing.T) {
	device := openCPU(t)
	perStep := map[int]uint64{}
	for _, sequences := range []int{1, 8} {
		e := loadEngine(t, openEmbedded(t), Options{Device: device, MaxSequences: 8})
		for i := range sequences {
			submit(t, e, api.Request{Prompt: []int32{1, int32(300 + i)}, MaxTokens: 100, IgnoreEOS: true})
			e.loop.scheduler.add(<-e.submissions)
		}
		e.loop.guardedStep() // the prompts
		before := e.loop.queue.Counters()
		for range 20 {
			e.loop.guardedStep()
		}
		after := e.loop.queue.Counters()
		if steps, rows := after.Steps-before.Steps, after.Rows-before.Rows; steps != 20 || rows != uint64(20*sequences) {
			t.Errorf("%d sequences: %d steps of %d rows, want 20 of %d", sequences, steps, rows, 20*sequences)
		}
		perStep[sequences] = (after.WeightBytes - before.WeightBytes) / 20
		if err := e.loop.queue.Close(); err != nil {
			t.Error(err)
		}
	}
	if perStep[1] == 0 || perStep[1] != perStep[8] {
		t.Errorf("a step multiplies %d bytes of weights for one sequence, %d for eight", perStep[1], perStep[8])
	}
}

// greedyReference is a line of the reference's greedy continuations.
type greedyReference struct {
	File      string    `json:"file"`
	Prompt    string    `json:"prompt"`
	PromptIDs []int32   `json:"prompt_ids"`
	IDs       []int32   `json:"ids"`
	Logprobs  []float64 `json:"logprobs"`
}

// TestEmbeddedGreedyGolden wants the embedded model's greedy continuations to be those of the reference, computed in
// float64 and equal to llama.cpp's choice at every step; log-probabilities to the five digits of the file.
func TestEmbeddedGreedyGolden(t *testing.T) {
	references := readLines[greedyReference](t, "testdata", "models", "stories260K", "expected_greedy.jsonl")
	e := startEngine(t, openEmbedded(t), Options{Device: openCPU(t)})
	channels := make([]<-chan api.Event, len(references))
	for i := range references {
		r := &references[i]
		if testing.Short() {
			r.IDs = r.IDs[:24]
		}
		channels[i] = submit(t, e, api.Request{Prompt: r.PromptIDs, MaxTokens: len(r.IDs), IgnoreEOS: true})
	}
	worst := 0.0
	for i, r := range references {
		got := collect(t, channels[i])
		if !slices.Equal(got.tokens, r.IDs) {
			t.Errorf("%q:\n%v, want\n%v", r.Prompt, got.tokens, r.IDs)
			continue
		}
		for j, p := range got.logprobs {
			worst = max(worst, math.Abs(float64(p.Logprob)-r.Logprobs[j]))
		}
	}
	if worst > 2e-5 {
		t.Errorf("a log-probability differs by %v", worst)
	}
}

// TestGreedyUpToNearTies scores the reference's greedy continuations, given as prompts, and wants the reference's choice
// to be ours at every position, up to near ties, where both arithmetics round. Free running would compare nothing after
// the first of them. llama.cpp and this device both round activations of quantized products to 8 bits, in different
// places: log-probabilities then differ in the second digit. A float16 cache moves them by less than 0.01.
func TestGreedyUpToNearTies(t *testing.T) {
	if testing.Short() {
		t.Skip("scores 5,000 tokens")
	}
	device := openCPU(t)
	references := readLines[greedyReference](t, "testdata", "models", "stories260K", "llamacpp_quant_greedy.jsonl")
	for _, r := range readLines[greedyReference](t, "testdata", "models", "stories260K", "expected_greedy.jsonl") {
		r.File = "stories260K-f32.gguf"
		references = append(references, r)
	}
	bounds := map[string]struct{ gap, share float64 }{ // largest gap to our choice, and share of equal choices
		"stories260K-f32.gguf":          {0.01, 0.99},
		"stories260K-storyend-f16.gguf": {0, 1},
		"stories260K-ffn192-Q8_0.gguf":  {0.2, 0.97},
		"stories260K-ffn192-Q4_0.gguf":  {0.2, 0.97},
	}
	for file, bound := range bounds {
		src, err := weights.Open(sharedtest.Path(t, "testdata", "models", "stories260K", file))
		if err != nil {
			t.Fatal(err)
		}
		tok, err := OpenTokenizer(src)
		if err != nil {
			t.Fatal(err)
		}
		e := startEngine(t, src, Options{Device: device, KV: quant.F16})
		src.Close()
		equal, all, worst := 0, 0, 0.0
		for _, r := range references {
			if r.File != file {
				continue
			}
			prompt := tok.Encode(r.Prompt, tokenizer.EncodeOptions{AddSpecial: true})
			scores := len(prompt) - 1 // of the prompt, before those of the continuation
			prompt = append(prompt, r.IDs...)
			got := collect(t, submit(t, e, api.Request{Prompt: prompt, MaxTokens: api.NoTokens, PromptLogprobs: true, Logprobs: 1}))
			for _, p := range got.prompt[scores:] {
				all++
				if p.Token == p.Top[0].Token {
					equal++
				}
				worst = max(worst, float64(p.Top[0].Logprob-p.Logprob))
			}
		}
		t.Logf("%s: %d of %d choices equal, largest gap %.3g", file, equal, all, worst)
		if worst > bound.gap || float64(equal) < bound.share*float64(all) {
			t.Errorf("%s: %d of %d choices equal, largest gap %.3g, want %v of them and at most %v", file, equal, all, worst, bound.share, bound.gap)
		}
	}
}

func readLines[T any](t testing.TB, path ...string) []T {
	t.Helper()
	var all []T
	lines := bufio.NewScanner(bytes.NewReader(sharedtest.ReadFile(t, path...)))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var x T
		if err := json.Unmarshal(lines.Bytes(), &x); err != nil {
			t.Fatal(err)
		}
		all = append(all, x)
	}
	return all
}

// BenchmarkDecode/<sequences> is a step of the embedded model: what the loop and the sampler cost around the device.
func BenchmarkDecode(b *testing.B) {
	for _, sequences := range []int{1, 8} {
		b.Run(fmt.Sprint(sequences), func(b *testing.B) {
			e := loadEngine(b, openEmbedded(b), Options{Device: openCPU(b), MaxSequences: sequences})
			defer e.loop.queue.Close()
			for b.Loop() {
				for i := len(e.loop.scheduler.running) + len(e.loop.scheduler.waiting); i < sequences; i++ {
					submit(b, e, api.Request{Prompt: []int32{1, int32(300 + i)}, MaxTokens: 500, IgnoreEOS: true, Logprobs: -1})
					e.loop.scheduler.add(<-e.submissions)
				}
				e.loop.guardedStep()
			}
		})
	}
}
