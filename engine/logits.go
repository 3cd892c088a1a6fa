package engine

import (
	"context"
	"fmt"

	"hearth/engine/model"
	"hearth/hardware"
	"hearth/hardware/quant"
)

// LogitsOptions configure Logits.
type LogitsOptions struct {
	Device hardware.Device
	KV     *quant.Format // format of the cache; nil: F32
	Chunk  int           // tokens fed at once; 0: 512
}

// Logits runs a model over tokens once and returns the logits at the given positions, ascending, each [VocabSize].
// It is the reference path of tests and tools: one sequence, no scheduler.
func Logits(ctx context.Context, m *model.Model, tokens []int32, positions []int, opts LogitsOptions) ([][]float32, error) {
	if opts.KV == nil {
		opts.KV = quant.F32
	}
	if opts.Chunk == 0 {
		opts.Chunk = 512
	}
	if err := checkPositions(m, tokens, positions); err != nil {
		return nil, err
	}
	limits := hardware.Limits{
		Tokens: min(opts.Chunk, len(tokens)), Spans: 1, Outputs: min(opts.Chunk, len(positions)),
		Blocks: blocksFor(len(tokens)), MaxLen: len(tokens), KV: opts.KV,
	}
	if m.Program.Stateful() {
		limits.Slots = 1
	}
	queue, err := opts.Device.Load(ctx, m.Program, limits)
	if err != nil {
		return nil, err
	}
	defer queue.Close()
	batch := hardware.NewBatch(limits)
	logits := make([][]float32, 0, len(positions))
	for start := 0; start < len(tokens); start += opts.Chunk {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n := min(opts.Chunk, len(tokens)-start)
		batch.Reset()
		batch.Tokens = append(batch.Tokens, tokens[start:start+n]...)
		batch.Spans = append(batch.Spans, hardware.Span{Len: int32(n), Start: int32(start)})
		for block := range blocksFor(start + n) {
			batch.Tables = append(batch.Tables, int32(block))
		}
		for _, p := range positions[len(logits):] {
			if p < start+n {
				batch.Outputs = append(batch.Outputs, int32(p-start))
			}
		}
		queue.Run(m.Trunk, batch)
		if err := queue.Sync(); err != nil {
			return nil, err
		}
		for row := range batch.Outputs {
			logits = append(logits, append([]float32(nil), queue.Output(m.Logits, row)...))
		}
	}
	return logits, nil
}

func checkPositions(m *model.Model, tokens []int32, positions []int) error {
	if len(tokens) == 0 {
		return fmt.Errorf("engine: no tokens")
	}
	for i, token := range tokens {
		if token < 0 || int(token) >= m.Config.VocabSize {
			return fmt.Errorf("engine: token %d at position %d is not in the vocabulary of %d", token, i, m.Config.VocabSize)
		}
	}
	last := -1
	for _, p := range positions {
		if p <= last || p >= len(tokens) {
			return fmt.Errorf("engine: position %d: want ascending positions below %d", p, len(tokens))
		}
		last = p
	}
	return nil
}
