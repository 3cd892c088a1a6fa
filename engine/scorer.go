package engine

import (
	"context"
	"fmt"

	"hearth/engine/model"
	"hearth/hardware"
	"hearth/hardware/quant"
)

// ScorerOptions configure a Scorer.
type ScorerOptions struct {
	Device  hardware.Device
	KV      *quant.Format // format of the cache; nil: F32
	MaxLen  int           // positions of a sequence
	Chunk   int           // most tokens fed at once; 0: 512
	Outputs int           // most rows of logits at once; 0: as many as fit 32 MiB
	// Loading, when set, is called now and then while weights are packed.
	Loading func(doneBytes, totalBytes int64)
}

// Scorer runs a model over one sequence after another and hands out whole rows of logits: no scheduler, no sampling. It is
// the reference path of tests and tools. One goroutine uses it.
type Scorer struct {
	model  *model.Model
	limits hardware.Limits
	queue  hardware.Queue
	batch  *hardware.Batch
	len    int // positions fed
}

// NewScorer loads a model for scoring. The weights' source may be closed when it returns.
func NewScorer(ctx context.Context, m *model.Model, opts ScorerOptions) (*Scorer, error) {
	if opts.KV == nil {
		opts.KV = quant.F32
	}
	if opts.Chunk == 0 {
		opts.Chunk = 512
	}
	if opts.Outputs == 0 {
		opts.Outputs = rowsAtOnce(m.Config.VocabSize)
	}
	chunk := min(opts.Chunk, opts.MaxLen)
	opts.Outputs = min(opts.Outputs, chunk)
	s := &Scorer{model: m, limits: hardware.Limits{
		Tokens: chunk, Spans: 1, Outputs: opts.Outputs, Blocks: blocksFor(opts.MaxLen), MaxLen: opts.MaxLen, KV: opts.KV, Progress: opts.Loading,
	}}
	if m.Program.Stateful() {
		s.limits.Slots = 1
	}
	queue, err := opts.Device.Load(ctx, m.Program, s.limits)
	if err != nil {
		return nil, err
	}
	s.queue, s.batch = queue, hardware.NewBatch(s.limits)
	return s, nil
}

// rowsAtOnce bounds the rows of logits that are kept: large vocabularies have rows of half a megabyte.
func rowsAtOnce(vocab int) int { return max(8, (32<<20)/(4*max(vocab, 1))) }

// Reset begins another sequence.
func (s *Scorer) Reset() { s.len = 0 }

// VocabSize is the length of a row of logits.
func (s *Scorer) VocabSize() int { return s.model.Config.VocabSize }

// Most is how many tokens and outputs Feed takes at once.
func (s *Scorer) Most() (tokens, outputs int) { return s.limits.Tokens, s.limits.Outputs }

// Feed runs the next tokens of the sequence, and keeps the logits of those at the indices outputs, ascending, for Row. It
// may be called with as many tokens and outputs as Most says; ctx is asked before.
func (s *Scorer) Feed(ctx context.Context, tokens []int32, outputs []int32) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.len+len(tokens) > s.limits.MaxLen {
		return fmt.Errorf("engine: %d tokens after %d, the longest sequence is %d", len(tokens), s.len, s.limits.MaxLen)
	}
	s.batch.Reset()
	s.batch.Tokens = append(s.batch.Tokens, tokens...)
	s.batch.Spans = append(s.batch.Spans, hardware.Span{Len: int32(len(tokens)), Start: int32(s.len)})
	s.len += len(tokens)
	for block := range blocksFor(s.len) {
		s.batch.Tables = append(s.batch.Tables, int32(block))
	}
	s.batch.Outputs = append(s.batch.Outputs, outputs...)
	s.queue.Run(s.model.Trunk, s.batch)
	return s.queue.Sync()
}

// Row returns the logits of the i-th output of the last Feed, [VocabSize], valid until the next one.
func (s *Scorer) Row(i int) []float32 { return s.queue.Output(s.model.Logits, i) }

// Idle says that no tokens are coming for a while: the device's workers may sleep.
func (s *Scorer) Idle() { s.queue.Idle() }

// Close frees the model.
func (s *Scorer) Close() error { return s.queue.Close() }
