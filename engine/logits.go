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
func Logits(ctx context.Context, m *model.Model, tokens []int32, positions []int, opts LogitsOptions) ([][]float32, error) {
	if opts.Chunk == 0 {
		opts.Chunk = 512
	}
	if err := checkPositions(m, tokens, positions); err != nil {
		return nil, err
	}
	s, err := NewScorer(ctx, m, ScorerOptions{
		Device: opts.Device, KV: opts.KV, MaxLen: len(tokens), Chunk: opts.Chunk, Outputs: max(1, min(opts.Chunk, len(positions))),
	})
	if err != nil {
		return nil, err
	}
	defer s.Close()
	logits := make([][]float32, 0, len(positions))
	for start := 0; start < len(tokens); start += opts.Chunk {
		end := min(start+opts.Chunk, len(tokens))
		var outputs []int32
		for _, p := range positions[len(logits):] {
			if p < end {
				outputs = append(outputs, int32(p-start))
			}
		}
		if err := s.Feed(ctx, tokens[start:end], outputs); err != nil {
			return nil, err
		}
		for i := range outputs {
			logits = append(logits, append([]float32(nil), s.Row(i)...))
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
