package inproc

import (
	"context"
	"math/rand/v2"
	"time"

	"hearth/engine/api"
	"hearth/engine/sample"
	"hearth/hardware/quant"
)

// samplers are ways to choose a token.
var samplers = []struct {
	name   string
	params api.Sampling
}{
	{"greedy", api.Sampling{}},
	{"top_p 0.9", api.Sampling{Temperature: 1, TopP: 0.9}},
	{"top_k 40", api.Sampling{Temperature: 0.8, TopK: 40}},
	{"top_k 40, top_p 0.95, min_p 0.05", api.Sampling{Temperature: 0.8, TopK: 40, TopP: 0.95, MinP: 0.05}},
	{"temperature alone", api.Sampling{Temperature: 1}},
}

// sample measures the choice of tokens from logits of a large vocabulary, on one core as the engine's loop does it.
func (b *kernelBench) sample(ctx context.Context) error {
	const vocab = 151936
	random := rand.New(rand.NewPCG(5, 6))
	logits, work := make([]float32, vocab), make([]float32, vocab)
	for i := range logits {
		logits[i] = float32(3 * random.NormFloat64())
	}
	scratch := sample.NewScratch(vocab)
	b.bounds.reset()
	var rows []KernelRow
	for _, s := range samplers {
		sampler, err := sample.New(s.params, vocab)
		if err != nil {
			return err
		}
		var seconds []float64
		tokens := make([]int32, 16)
		for range 50 {
			copy(work, logits)
			start := time.Now()
			if _, err := sampler.Next(work, tokens, scratch); err != nil {
				return err
			}
			seconds = append(seconds, time.Since(start).Seconds())
		}
		rows = append(rows, KernelRow{
			Op: "sample", Format: quant.F32.Name, Shape: s.name, Rows: 1, Bytes: 4 * vocab, Seconds: median(seconds), alone: true,
		})
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return b.add(rows)
}
