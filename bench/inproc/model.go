package inproc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"hearth/engine"
	"hearth/engine/api"
	"hearth/engine/model"
	"hearth/hardware"
	"hearth/hardware/quant"
)

// ModelOptions say what Model measures.
type ModelOptions struct {
	Device         hardware.Device
	Path           string        // model file or folder; "": the embedded model
	KV             *quant.Format // format of the cache; nil: the engine's choice
	MaxBatchTokens int           // rows of a step; 0: 512
	Prompt         int           // tokens of a prompt; 0: no prefill
	FitPrompt      bool          // shorten the prompt to what the model's context holds behind the largest depth
	Generate       int           // tokens of each sequence; 0: no decode
	Batches        []int         // sequences decoded at once
	Depths         []int         // tokens that the cache holds before, rounded up to whole blocks
	Repeat         int           // measures of each row, of which the median counts; 0: 3

	Loading  func(doneBytes, totalBytes int64) // may be nil
	Progress func(what string)                 // called before each measure; may be nil
	Started  func(*ModelReport)                // called when the model is loaded; may be nil
	Row      func(Row)                         // called with each row when it is known; may be nil
}

// The most that options may say: what a mistake in a number would cost.
const (
	MaxTokens      = 1 << 24
	MaxSequences   = 1024
	MaxRepeat      = 1000
	MaxBatchTokens = 1 << 16
)

// Validate names the first option that is out of range.
func (o *ModelOptions) Validate() error {
	if o.Device == nil {
		return errors.New("inproc: option Device is missing")
	}
	check := func(name string, least, most int, values ...int) error {
		for _, v := range values {
			if v < least || v > most {
				return fmt.Errorf("inproc: option %s is %d, want %d to %d", name, v, least, most)
			}
		}
		return nil
	}
	return errors.Join(
		check("Prompt", 0, MaxTokens, o.Prompt), check("Generate", 0, MaxTokens, o.Generate),
		check("Batches", 1, MaxSequences, o.Batches...), check("Depths", 0, MaxTokens, o.Depths...),
		check("Repeat", 0, MaxRepeat, o.Repeat), check("MaxBatchTokens", 0, MaxBatchTokens, o.MaxBatchTokens))
}

// ModelReport is the outcome; its JSON form is stable.
type ModelReport struct {
	Model        string  `json:"model"`
	Architecture string  `json:"architecture"`
	Device       string  `json:"device"`
	Level        string  `json:"level"`
	Threads      int     `json:"threads"`
	KV           string  `json:"kv"`
	WeightBytes  int64   `json:"weight_bytes"`        // as packed
	FileBytes    int64   `json:"file_bytes"`          // of the tensors in the file
	LoadSeconds  float64 `json:"load_seconds"`        // from opening the file until its weights are packed, without the vocabulary
	LoadPeakRSS  int64   `json:"load_peak_rss_bytes"` // most memory in use while loading; 0: unknown on this system
	PeakRSS      int64   `json:"peak_rss_bytes"`      // most at any time, without what bandwidth is measured on
	Rows         []Row   `json:"rows"`
}

// Row is one measure, the median of its repeats.
type Row struct {
	Test      string  `json:"test"` // "prefill" or "decode"
	Tokens    int     `json:"tokens"`
	Sequences int     `json:"sequences"`
	Depth     int     `json:"depth"` // tokens in each sequence's cache before the test
	Rate      float64 `json:"tokens_per_second"`
	Lowest    float64 `json:"lowest_tokens_per_second"` // of the repeats
	Highest   float64 `json:"highest_tokens_per_second"`

	StepSeconds float64 `json:"step_seconds"`         // from one step's start to the next
	LoopShare   float64 `json:"loop_share"`           // of that, outside the device: scheduling, sampling, events
	Bytes       float64 `json:"bytes_per_step"`       // weights and cache
	KVBytes     float64 `json:"cache_bytes_per_step"` // of these, cache
	ReadRate    float64 `json:"bytes_per_second"`
	OpsRate     float64 `json:"ops_per_second"` // of matrix products

	ReadShare    float64           `json:"bandwidth_share"` // of the bandwidth
	ComputeShare float64           `json:"compute_share"`   // of the peaks of the weights' arithmetic
	Bounds       hardware.Roofline `json:"bounds"`          // of the same seconds
}

// Model loads a model and measures it, prefill and decode of every number of sequences at every depth.
func Model(ctx context.Context, o ModelOptions) (*ModelReport, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.Repeat == 0 {
		o.Repeat = 3
	}
	if o.MaxBatchTokens == 0 {
		o.MaxBatchTokens = 512
	}
	if err := canMeasure(o.Device); err != nil {
		return nil, err
	}
	depths := slices.Clone(o.Depths)
	for i, d := range depths {
		depths[i] = blocksFor(d) * hardware.BlockLen
	}
	o.Depths = depths
	b := &modelBench{ModelOptions: o, random: rand.New(rand.NewPCG(1, 2))}
	if err := b.open(ctx); err != nil {
		return nil, err
	}
	defer b.engine.Close()
	if o.Started != nil {
		o.Started(&b.report)
	}
	var err error
	if b.bounds, err = openBounds(o.Device, b.meterBytes()); err != nil {
		return nil, err
	}
	defer b.bounds.meter.Close()
	resetPeakRSS()
	if err := b.measure(ctx); err != nil {
		return nil, err
	}
	b.report.PeakRSS = max(b.report.LoadPeakRSS, peakRSS()-int64(b.bounds.bytes))
	return &b.report, nil
}

type modelBench struct {
	ModelOptions
	report  ModelReport
	watcher watcher
	engine  *engine.Engine
	bounds  *bounds
	work    work
	vocab   int
	random  *rand.Rand

	stateful bool // sequences have state beside their blocks
}

// open loads the model with a cache for the largest test.
func (b *modelBench) open(ctx context.Context) error {
	resetPeakRSS()
	start := time.Now()
	src, err := engine.OpenSource(b.Path)
	if err != nil {
		return err
	}
	defer src.Close()
	m, err := model.Load(src)
	if err != nil {
		return err
	}
	for i := range m.Program.NumWeights() {
		b.report.FileBytes += int64(m.Program.WeightAt(i).Bytes())
	}
	if room := m.Config.ContextLength - slices.Max(append([]int{0}, b.Depths...)) - 1; b.FitPrompt && room > 0 {
		b.Prompt = min(b.Prompt, room)
	}
	longest, blocks := 2*hardware.BlockLen, 2
	most := 1
	for _, depth := range b.Depths {
		longest = max(longest, depth+b.Prompt+1)
		blocks = max(blocks, blocksFor(depth)+b.Repeat*blocksFor(b.Prompt+1))
		for _, n := range b.Batches {
			decoded := depth + 1 + b.Generate + spareTokens
			longest, most = max(longest, decoded), max(most, n)
			blocks = max(blocks, n*(blocksFor(decoded)+2)) // the scheduler keeps some to go on with
		}
	}
	b.watcher.Device, b.vocab, b.stateful = b.Device, m.Config.VocabSize, m.Program.Stateful()
	b.work = workOf(m.Program, m.Trunk)
	b.engine, err = engine.New(ctx, m, engine.Options{
		Device: &b.watcher, KV: b.KV, ContextLength: longest, MaxSequences: most, MaxBatchTokens: b.MaxBatchTokens,
		Blocks: blocks + 2, Progress: b.Loading, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		return err
	}
	info := b.Device.Info()
	b.report.Model, b.report.Architecture = src.Path(), m.Config.Architecture
	b.report.Device, b.report.Level, b.report.Threads = info.Name, info.Level, info.Threads
	b.report.KV, b.report.WeightBytes = b.engine.Limits().KV.Name, b.engine.Memory().Weights
	b.report.LoadSeconds, b.report.LoadPeakRSS = time.Since(start).Seconds(), peakRSS()
	return nil
}

// meterBytes is the memory that bandwidth is read from: more than caches hold, and not less than a pass over the weights.
func (b *modelBench) meterBytes() int {
	const most = 1 << 30
	return min(max(coldBytes(), int(2*b.report.WeightBytes)), most)
}

// spareTokens is how many tokens a sequence makes beyond those that are measured: of sequences that begin together, the
// first runs a step alone.
const spareTokens = 4

func blocksFor(tokens int) int { return (tokens + hardware.BlockLen - 1) / hardware.BlockLen }

// measure runs all tests, those of a depth one after the other.
func (b *modelBench) measure(ctx context.Context) error {
	warm := b.request(b.prompt(2*hardware.BlockLen-8), 8)
	if err := b.run(ctx, warm); err != nil {
		return err
	}
	if err := b.bounds.sample(); err != nil {
		return err
	}
	for _, depth := range b.Depths {
		if b.Prompt > 0 {
			if err := b.row(ctx, Row{Test: "prefill", Tokens: b.Prompt, Sequences: 1, Depth: depth}, b.prefill); err != nil {
				return err
			}
		}
	}
	for _, depth := range b.Depths {
		for _, n := range b.Batches {
			if b.Generate == 0 {
				continue
			}
			if err := b.row(ctx, Row{Test: "decode", Tokens: b.Generate, Sequences: n, Depth: depth}, b.decode); err != nil {
				return err
			}
		}
	}
	return nil
}

// row repeats a test between measures of the bounds.
func (b *modelBench) row(ctx context.Context, r Row, test func(context.Context, *Row, [][]int32) error) error {
	b.bounds.reset()
	var (
		prefixes [][]int32
		tries    []Row
		err      error
	)
	for i := range b.Repeat {
		if b.Progress != nil {
			b.Progress(fmt.Sprintf("%s of %d, %d sequences at depth %d: %d of %d", r.Test, r.Tokens, r.Sequences, r.Depth, i+1, b.Repeat))
		}
		if i == 0 || b.stateful { // else the last try's are still there
			if prefixes, err = b.fill(ctx, r); err != nil {
				return err
			}
		}
		try := r
		b.watcher.reset()
		if err := test(ctx, &try, prefixes); err != nil {
			return err
		}
		if err := b.bounds.sample(); err != nil {
			return err
		}
		tries = append(tries, try)
	}
	b.finish(&r, tries)
	b.report.Rows = append(b.report.Rows, r)
	if b.Row != nil {
		b.Row(r)
	}
	return nil
}

// fill puts a prefix of the row's depth into the cache for each sequence, without computing it. It asks for a token because
// the state at the end of a prompt that nobody answers is not kept. As many states are kept as new prefixes have: those of
// earlier ones give way.
func (b *modelBench) fill(ctx context.Context, r Row) ([][]int32, error) {
	prefixes := make([][]int32, r.Sequences)
	b.watcher.filling = true
	defer func() { b.watcher.filling = false }()
	for i := range prefixes {
		prefixes[i] = b.prompt(r.Depth)
		if r.Depth == 0 {
			continue
		}
		if err := b.run(ctx, b.request(prefixes[i], 1)); err != nil {
			return nil, err
		}
	}
	return prefixes, nil
}

// prefill computes one prompt behind a prefix.
func (b *modelBench) prefill(ctx context.Context, r *Row, prefixes [][]int32) error {
	prompt := append(prefixes[0][:r.Depth:r.Depth], b.prompt(r.Tokens)...)
	done, err := b.finished(ctx, b.request(prompt, 1))
	if err != nil {
		return err
	}
	if err := b.checkRows(r.Tokens); err != nil {
		return err
	}
	return b.account(r, b.watcher.steps, done)
}

// decode has all sequences generate at once. The steps in which all of them do count.
func (b *modelBench) decode(ctx context.Context, r *Row, prefixes [][]int32) error {
	var requests []*api.Request
	for i := range r.Sequences {
		prompt := append(prefixes[i][:r.Depth:r.Depth], b.prompt(1)...)
		requests = append(requests, b.request(prompt, r.Tokens+spareTokens))
	}
	if err := b.run(ctx, requests...); err != nil {
		return err
	}
	if err := b.checkRows(r.Sequences * (r.Tokens + spareTokens)); err != nil {
		return err
	}
	steps := b.watcher.steps
	for len(steps) > 0 && !(steps[0].decodes() && steps[0].spans == r.Sequences) {
		steps = steps[1:]
	}
	n := 0
	for n < len(steps) && steps[n].spans == r.Sequences {
		n++
	}
	if n < 2 {
		return fmt.Errorf("inproc: %d sequences never ran together", r.Sequences)
	}
	return b.account(r, steps[:n-1], steps[n-1].start)
}

// checkRows reports a test that computed other tokens than its own: a prefix was not found in the cache.
func (b *modelBench) checkRows(want int) error {
	rows := 0
	for _, s := range b.watcher.steps {
		rows += s.rows
	}
	if rows != want {
		return fmt.Errorf("inproc: a test of %d tokens computed %d", want, rows)
	}
	return nil
}

// account turns steps, of which the last was over at end, into a row's numbers.
func (b *modelBench) account(r *Row, steps []step, end time.Time) error {
	if len(steps) == 0 {
		return fmt.Errorf("inproc: %s of %d tokens ran no step", r.Test, r.Tokens)
	}
	seconds := end.Sub(steps[0].start).Seconds()
	inside, tokens := 0.0, 0
	for _, s := range steps {
		inside += s.end.Sub(s.start).Seconds()
		tokens += s.rows
		r.Bytes += float64(s.weightBytes)
		r.KVBytes += float64(s.positions) * float64(b.watcher.blockBytes) / hardware.BlockLen
	}
	n := float64(len(steps))
	r.Bytes, r.KVBytes = (r.Bytes+r.KVBytes)/n, r.KVBytes/n
	r.StepSeconds, r.LoopShare, r.Rate = seconds/n, 1-inside/seconds, float64(tokens)/seconds
	r.ReadRate = r.Bytes / r.StepSeconds
	return nil
}

// finish puts the medians of the tries into a row.
func (b *modelBench) finish(r *Row, tries []Row) {
	number := func(of func(r *Row) *float64) {
		values := make([]float64, len(tries))
		for i := range tries {
			values[i] = *of(&tries[i])
		}
		*of(r) = median(values)
	}
	for _, of := range []func(r *Row) *float64{
		func(r *Row) *float64 { return &r.Rate }, func(r *Row) *float64 { return &r.StepSeconds },
		func(r *Row) *float64 { return &r.LoopShare }, func(r *Row) *float64 { return &r.Bytes },
		func(r *Row) *float64 { return &r.KVBytes }, func(r *Row) *float64 { return &r.ReadRate },
	} {
		number(of)
	}
	r.Lowest, r.Highest = tries[0].Rate, tries[0].Rate
	for _, t := range tries {
		r.Lowest, r.Highest = min(r.Lowest, t.Rate), max(r.Highest, t.Rate)
	}
	r.Bounds = b.bounds.median()
	outputs := 1.0
	if r.Test == "prefill" {
		outputs = 0 // its one row of the head would be a thousandth
	}
	ops := b.work.times(1, outputs)
	r.OpsRate = total(ops) * r.Rate
	r.ReadShare, r.ComputeShare = r.ReadRate/r.Bounds.ReadBytes, leastSeconds(ops, &r.Bounds)*r.Rate
}

// prompt returns random tokens; no two prompts share a prefix.
func (b *modelBench) prompt(n int) []int32 {
	tokens := make([]int32, n)
	for i := range tokens {
		tokens[i] = int32(b.random.IntN(b.vocab))
	}
	return tokens
}

func (b *modelBench) request(prompt []int32, maxTokens int) *api.Request {
	return &api.Request{Prompt: prompt, MaxTokens: maxTokens, IgnoreEOS: true, Logprobs: -1}
}

// run runs requests at once and waits for all of them.
func (b *modelBench) run(ctx context.Context, requests ...*api.Request) error {
	_, err := b.finished(ctx, requests...)
	return err
}

// finished is run, with the time at which the last request was done.
func (b *modelBench) finished(ctx context.Context, requests ...*api.Request) (time.Time, error) {
	streams, failure := b.submit(ctx, requests)
	if err := wait(ctx, streams); failure == nil {
		failure = err
	}
	return time.Now(), failure
}

// submit starts requests so that all of them are there when the first step begins. With an error it returns those that
// were started before.
func (b *modelBench) submit(ctx context.Context, requests []*api.Request) ([]<-chan api.Event, error) {
	b.watcher.gate.Lock()
	defer b.watcher.gate.Unlock()
	var streams []<-chan api.Event
	for _, r := range requests {
		events, err := b.engine.Submit(ctx, r)
		if err != nil {
			return streams, err
		}
		streams = append(streams, events)
	}
	return streams, nil
}
