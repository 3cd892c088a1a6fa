package inproc

import (
	"context"
	"slices"
	"time"

	"hearth/engine/api"
	"hearth/engine/sample"
	"hearth/hardware"
	"hearth/hardware/quant"
)

// sampledVocab is the vocabulary of Qwen3.
const sampledVocab = 151936

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

// sample measures the choice of a token from a row of logits, on one core as the engine's loop does it, after the device
// has taken what a softmax needs of them.
func (b *kernelBench) sample(ctx context.Context) error {
	logits, parts, err := b.logits(ctx)
	if err != nil {
		return err
	}
	scratch := sample.NewScratch(sampledVocab, hardware.PartLen)
	tokens := make([]int32, 50)
	b.bounds.reset()
	var rows []KernelRow
	for _, s := range samplers {
		if err := ctx.Err(); err != nil {
			return err
		}
		sampler, err := sample.New(s.params, sampledVocab)
		if err != nil {
			return err
		}
		var seconds []float64
		for position := range tokens { // each of them with random numbers of its own
			row := scratch.Row(slices.Clone(logits), slices.Clone(parts))
			start := time.Now()
			if _, err := sampler.Next(row, tokens[:position]); err != nil {
				return err
			}
			seconds = append(seconds, time.Since(start).Seconds())
		}
		rows = append(rows, KernelRow{
			Op: "sample", Format: quant.F32.Name, Shape: s.name, Rows: 1, Bytes: 4 * sampledVocab, Seconds: median(seconds), alone: true,
		})
	}
	return b.add(rows)
}

// logits returns a row of random logits, and its parts as the device makes them.
func (b *kernelBench) logits(ctx context.Context) (logits, parts []float32, err error) {
	p := newBench("sample")
	section := p.Section("sample")
	x := p.Gather(p.rows(sampledVocab))
	y := p.SoftmaxParts(x)
	outputs := [2]hardware.Output{p.Output("logits", x), p.Output("parts", y.Cols(0, y.Size()))}
	if err := p.Err(); err != nil {
		return nil, nil, err
	}
	batch := p.batch(1, 0, tableRows)
	batch.Outputs = []int32{0}
	queue, err := b.Device.Load(ctx, p.Program, limitsOf([]kernelCase{{batch: batch}}, quant.F16))
	if err != nil {
		return nil, nil, err
	}
	defer queue.Close()
	queue.Run(section, batch)
	if err := queue.Sync(); err != nil {
		return nil, nil, err
	}
	return slices.Clone(queue.Output(outputs[0], 0)), slices.Clone(queue.Output(outputs[1], 0)), nil
}
