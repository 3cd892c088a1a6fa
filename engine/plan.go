package engine

import (
	"fmt"

	"hearth/hardware"
	"hearth/hardware/quant"
)

// PlanInput is what a plan is made from.
type PlanInput struct {
	ModelContext   int           // positions the model was trained for
	ContextLength  int           // positions wanted for one sequence; 0: the model's, as far as memory allows
	MaxSequences   int           // sequences that run at once
	MaxBatchTokens int           // rows of a step
	KV             *quant.Format // format of cache rows
	BlockBytes     int64         // one cache block
	KVBytes        int64         // memory for cache blocks
	Blocks         int           // exact number of blocks; 0: from KVBytes
	MaxDraft       int           // most guesses of a sequence that a step checks
}

// Plan decides how many cache blocks a model gets and how long a sequence may be. It is a pure function and never
// plans for more than KVBytes. A context that was asked for and does not fit is an error; the model's own is cut down.
func Plan(in PlanInput) (hardware.Limits, error) {
	context := in.ContextLength
	if context == 0 {
		context = in.ModelContext
	}
	if context > in.ModelContext {
		return hardware.Limits{}, fmt.Errorf("engine: context length %d is beyond the %d the model was trained for", context, in.ModelContext)
	}
	blocks := in.Blocks
	if blocks == 0 {
		wanted := int64(in.MaxSequences) * int64(blocksFor(context))
		blocks = int(min(wanted, in.KVBytes/in.BlockBytes))
	}
	if blocks < 1 {
		return hardware.Limits{}, fmt.Errorf("%w: %d bytes for the cache do not hold one block of %d", hardware.ErrOutOfMemory, in.KVBytes, in.BlockBytes)
	}
	if fits := blocks * hardware.BlockLen; context > fits {
		if in.ContextLength > 0 {
			return hardware.Limits{}, fmt.Errorf("%w: a context of %d tokens needs %d bytes of cache, there are %d",
				hardware.ErrOutOfMemory, context, int64(blocksFor(context))*in.BlockBytes, int64(blocks)*in.BlockBytes)
		}
		context = fits
	}
	return hardware.Limits{
		Tokens: max(in.MaxBatchTokens, in.MaxSequences+minChunk), Spans: in.MaxSequences, Outputs: in.MaxSequences + max(spareOutputs, in.MaxDraft),
		Blocks: blocks, MaxLen: context, MaxDraft: in.MaxDraft, KV: in.KV,
	}, nil
}

// spareOutputs is how many rows of a step may have logits beside one for each sequence: prompts are scored so many rows
// at a time, and so many guesses are checked.
const spareOutputs = 16
