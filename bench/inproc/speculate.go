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
	"hearth/hardware"
)

// SpeculateOptions say what Speculate measures.
type SpeculateOptions struct {
	Device   hardware.Device
	Path     string           // model file or folder; "": the embedded model
	Mode     engine.Speculate // where guesses come from
	MaxDraft int              // most guesses at once; 0: the engine's choice
	Draft    string           // a draft model's file or folder; "": none
	Generate int              // tokens of each answer
	Repeat   int              // answers with guesses between two without, of which the median counts
	Sequence int              // answers at once
	Texts    []string         // kinds of text, of SpeculateTexts; nil: all

	Loading  func(doneBytes, totalBytes int64) // may be nil
	Progress func(what string)                 // may be nil
	Row      func(SpeculateRow)                // called with each row when it is known; may be nil
}

// SpeculateRow is one kind of text, written with guesses and without in turn.
type SpeculateRow struct {
	Text       string  `json:"text"`
	Plain      float64 `json:"plain_tokens_per_second"`
	Guessed    float64 `json:"guessed_tokens_per_second"`
	Ratio      float64 `json:"ratio"` // median of the pairs' ratios
	Lowest     float64 `json:"lowest_ratio"`
	Highest    float64 `json:"highest_ratio"`
	Drafted    float64 `json:"drafted_per_token"`
	Acceptance float64 `json:"acceptance"` // of the drafted tokens
}

// speculateText is a kind of text to write.
type speculateText struct {
	name     string
	request  func(b *speculateBench, seed uint64) api.Request
	expected bool // the answer itself, with every 24th token another one, is what is expected
}

// favour makes the first n tokens above some special ones as likely as no others.
func favour(n int) map[int32]float32 {
	bias := map[int32]float32{}
	for i := range n {
		bias[int32(100+i)] = 100
	}
	return bias
}

var speculateTexts = []speculateText{
	{"edit", (*speculateBench).greedy, true},
	{"repetition", func(b *speculateBench, seed uint64) api.Request {
		r := b.greedy(seed)
		r.Sampling.LogitBias = favour(1)
		return r
	}, false},
	{"greedy", (*speculateBench).greedy, false},
	{"random", func(b *speculateBench, seed uint64) api.Request {
		r := b.greedy(seed)
		r.Sampling.Temperature, r.Sampling.Seed = 100, seed
		return r
	}, false},
	{"misleading", func(b *speculateBench, seed uint64) api.Request {
		r := b.greedy(seed)
		r.Sampling = api.Sampling{Temperature: 30, LogitBias: favour(6), Seed: seed}
		return r
	}, false},
}

// SpeculateTexts lists the kinds of text.
func SpeculateTexts() []string {
	names := make([]string, len(speculateTexts))
	for i, t := range speculateTexts {
		names[i] = t.name
	}
	return names
}

// Speculate loads a model and measures what guessing tokens does to the speed of different texts: one that repeats most
// of a text that is known, with edits; one that repeats itself; what the model writes by itself; random tokens, in which
// nothing is found to guess; and random ones of a few, which mislead, since everything occurs again and goes on otherwise.
// Each is written without guesses, with them and without again, and the answers have to be the same.
func Speculate(ctx context.Context, o SpeculateOptions) ([]SpeculateRow, error) {
	if o.Device == nil {
		return nil, errors.New("inproc: option Device is missing")
	}
	src, err := engine.OpenSource(o.Path)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	opts := engine.Options{
		Device: o.Device, MaxSequences: o.Sequence, Speculate: o.Mode, MaxDraft: o.MaxDraft, DraftPath: o.Draft, Progress: o.Loading,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	drafts, err := engine.OpenDraft(&opts)
	if err != nil {
		return nil, err
	}
	if drafts != nil {
		defer drafts.Close()
	}
	m, err := engine.LoadModel(src, &opts)
	if err != nil {
		return nil, err
	}
	const promptLen = 8
	length := promptLen + o.Generate + 1
	b := &speculateBench{SpeculateOptions: o, vocab: m.Config.VocabSize, promptLen: promptLen}
	opts.ContextLength, opts.Blocks = length, o.Sequence*(blocksFor(length)+1)+2
	b.engine, err = engine.New(ctx, m, opts)
	if err != nil {
		return nil, err
	}
	defer b.engine.Close()
	var rows []SpeculateRow
	for _, text := range speculateTexts {
		if o.Texts != nil && !slices.Contains(o.Texts, text.name) {
			continue
		}
		row, err := b.measure(ctx, text)
		if err != nil {
			return nil, fmt.Errorf("inproc: %s: %w", text.name, err)
		}
		rows = append(rows, row)
		if o.Row != nil {
			o.Row(row)
		}
	}
	return rows, nil
}

type speculateBench struct {
	SpeculateOptions
	engine    *engine.Engine
	vocab     int
	promptLen int
}

// greedy asks for the model's own text after a random prompt.
func (b *speculateBench) greedy(seed uint64) api.Request {
	random := rand.New(rand.NewPCG(seed, 3))
	prompt := make([]int32, b.promptLen)
	for i := range prompt {
		prompt[i] = int32(random.IntN(b.vocab))
	}
	return api.Request{Prompt: prompt, MaxTokens: b.Generate, IgnoreEOS: true, Logprobs: -1, Salt: fmt.Sprint(seed)}
}

// measure writes one kind of text several times.
func (b *speculateBench) measure(ctx context.Context, text speculateText) (SpeculateRow, error) {
	row := SpeculateRow{Text: text.name}
	var plain, guessed, ratios []float64
	drafted, accepted, tokens := 0, 0, 0
	for i := range b.Repeat + 1 { // the first warms up
		if b.Progress != nil {
			b.Progress(fmt.Sprintf("%s: %d of %d", text.name, i, b.Repeat))
		}
		requests := make([]api.Request, b.Sequence)
		for j := range requests {
			requests[j] = text.request(b, uint64(1+i*b.Sequence+j))
		}
		before, err := b.write(ctx, requests, false)
		if err != nil {
			return row, err
		}
		for j := range requests {
			if text.expected {
				requests[j].Expected = b.edited(before.tokens[j])
			}
		}
		fast, err := b.write(ctx, requests, true)
		if err != nil {
			return row, err
		}
		after, err := b.write(ctx, requests, false)
		if err != nil {
			return row, err
		}
		if !slices.EqualFunc(before.tokens, fast.tokens, slices.Equal[[]int32]) {
			return row, errors.New("the answer with guesses is another one")
		}
		slow := 2 / (1/before.rate + 1/after.rate) // what the machine does meanwhile concerns both alike
		if i == 0 {
			continue
		}
		plain, guessed = append(plain, slow), append(guessed, fast.rate)
		ratios = append(ratios, fast.rate/slow)
		drafted, accepted, tokens = drafted+fast.drafted, accepted+fast.accepted, tokens+b.Generate*b.Sequence
	}
	row.Plain, row.Guessed, row.Ratio = median(plain), median(guessed), median(ratios)
	row.Lowest, row.Highest = slices.Min(ratios), slices.Max(ratios)
	row.Drafted = float64(drafted) / float64(tokens)
	if drafted > 0 {
		row.Acceptance = float64(accepted) / float64(drafted)
	}
	return row, nil
}

// edited returns a text with every 24th token another one.
func (b *speculateBench) edited(tokens []int32) []int32 {
	tokens = slices.Clone(tokens)
	for at := 23; at < len(tokens); at += 24 {
		tokens[at] = (tokens[at] + 1) % int32(b.vocab)
	}
	return tokens
}

// written is what a set of requests was answered with.
type written struct {
	tokens            [][]int32
	rate              float64 // tokens per second of all together, without prompts
	drafted, accepted int
}

func (b *speculateBench) write(ctx context.Context, requests []api.Request, guess bool) (written, error) {
	w := written{tokens: make([][]int32, len(requests))}
	streams := make([]<-chan api.Event, len(requests))
	for i := range requests {
		requests[i].Unguessed = !guess
		var err error
		if streams[i], err = b.engine.Submit(ctx, &requests[i]); err != nil {
			return w, err
		}
	}
	longest := time.Duration(0)
	for i, events := range streams {
		for e := range events {
			if e.Done == nil {
				w.tokens[i] = append(w.tokens[i], e.Token)
				continue
			}
			if e.Done.Err != nil {
				return w, e.Done.Err
			}
			longest = max(longest, e.Done.Timing.Decode)
			w.drafted += e.Done.Usage.DraftedTokens
			w.accepted += e.Done.Usage.AcceptedTokens
		}
		if err := ctx.Err(); err != nil {
			return w, err
		}
		if len(w.tokens[i]) != b.Generate {
			return w, fmt.Errorf("an answer of %d tokens, want %d", len(w.tokens[i]), b.Generate)
		}
	}
	w.rate = float64((b.Generate-1)*len(requests)) / longest.Seconds()
	return w, nil
}
