package engine

import (
	"fmt"
	"sort"

	"hearth/engine/model"
	"hearth/hardware"
	"hearth/hardware/quant"
)

// PlanInput is what a plan is made from.
type PlanInput struct {
	ModelContext   int           // positions the model was trained for
	ContextLength  int           // positions wanted for one sequence; 0: the model's, as far as memory allows
	MaxSequences   int           // most sequences that run at once
	MaxBatchTokens int           // rows of a step
	KV             *quant.Format // format of cache rows
	BlockBytes     int64         // one cache block
	KVBytes        int64         // memory for cache blocks and states
	Blocks         int           // exact number of blocks; 0: from KVBytes
	MaxDraft       int           // most guesses of a sequence that a step checks

	Stateful                 bool  // sequences have state beside their blocks
	SlotBytes, SnapshotBytes int64 // the state of a running sequence, and one kept aside
}

// Plan decides how many sequences a model runs at once, how many cache blocks and states it gets, and how long a sequence
// may be. It is a pure function and never plans for more than KVBytes, unless the number of blocks was given. A context
// that was asked for and does not fit is an error; the model's own is cut down, and the sequences are too.
func Plan(in PlanInput) (hardware.Limits, error) {
	context := in.ContextLength
	if context == 0 {
		context = in.ModelContext
	}
	if context > in.ModelContext {
		return hardware.Limits{}, fmt.Errorf("engine: context length %d is beyond the %d the model was trained for", context, in.ModelContext)
	}
	s := in.share(context)
	if s.blocks < 1 {
		state := ""
		if in.Stateful {
			state = fmt.Sprintf(" and a sequence's state of %d", in.SlotBytes)
		}
		return hardware.Limits{}, fmt.Errorf("%w: %d bytes for the cache do not hold one block of %d%s", hardware.ErrOutOfMemory, in.KVBytes, in.BlockBytes, state)
	}
	if fits := s.blocks * hardware.BlockLen; context > fits {
		if in.ContextLength > 0 {
			return hardware.Limits{}, fmt.Errorf("%w: a context of %d tokens needs %d bytes of cache, there are %d",
				hardware.ErrOutOfMemory, context, int64(blocksFor(context))*in.BlockBytes, int64(s.blocks)*in.BlockBytes)
		}
		context = fits
	}
	limits := hardware.Limits{
		Tokens: max(in.MaxBatchTokens, s.sequences+minChunk), Spans: s.sequences, Outputs: s.sequences + max(spareOutputs, in.MaxDraft),
		Blocks: s.blocks, MaxLen: context, MaxDraft: in.MaxDraft, KV: in.KV,
	}
	if in.Stateful {
		limits.Slots, limits.Snapshots = s.sequences, s.snapshots
	}
	return limits, nil
}

// PlanFor returns what New would plan for a model, and allocate. Nothing is loaded; the weights' data may be missing.
func PlanFor(m *model.Model, opts Options) (hardware.Limits, hardware.Memory, error) {
	if err := opts.Validate(); err != nil {
		return hardware.Limits{}, hardware.Memory{}, err
	}
	opts.setDefaults()
	return planFor(m, &opts)
}

// planFor is PlanFor of options that are complete.
func planFor(m *model.Model, opts *Options) (limits hardware.Limits, memory hardware.Memory, err error) {
	kv := opts.KV
	if kv == nil {
		kv = CacheFormat(m.Program, opts.Device.Info().StreamFormats)
		if kv == quant.Q8_0 && opts.drafts() && !keepsHeads(opts.Draft.Program) { // both caches have one format
			kv = quant.F16
		}
	}
	batchTokens := opts.MaxBatchTokens
	if batchTokens == 0 {
		batchTokens = defaultBatchTokens
	}
	if memory, err = opts.Device.Measure(m.Program, oneOfEach(m.Program, kv, opts.maxDraft())); err != nil {
		return limits, memory, err
	}
	blockBytes := memory.Block
	if opts.drafts() { // which keeps as many blocks
		drafts, err := opts.Device.Measure(opts.Draft.Program, oneOfEach(opts.Draft.Program, kv, 0))
		if err != nil {
			return limits, memory, fmt.Errorf("engine: draft model: %w", err)
		}
		blockBytes += drafts.Block
	}
	limits, err = Plan(PlanInput{
		ModelContext: m.Config.ContextLength, ContextLength: opts.ContextLength, MaxSequences: opts.MaxSequences,
		MaxBatchTokens: batchTokens, KV: kv, BlockBytes: blockBytes, KVBytes: opts.KVBytes, Blocks: opts.Blocks,
		MaxDraft: opts.maxDraft(), Stateful: m.Program.Stateful(), SlotBytes: memory.Slot, SnapshotBytes: memory.Snapshot,
	})
	if err != nil {
		return limits, memory, err
	}
	limits.Progress = opts.Progress
	memory, err = opts.Device.Measure(m.Program, limits)
	return limits, memory, err
}

// oneOfEach are limits that tell the sizes of a block, a slot and a snapshot.
func oneOfEach(p *hardware.Program, kv *quant.Format, maxDraft int) hardware.Limits {
	l := hardware.Limits{Tokens: maxDraft + 1, Spans: 1, Outputs: 1, Blocks: 1, MaxLen: hardware.BlockLen, MaxDraft: maxDraft, KV: kv}
	if p.Stateful() {
		l.Slots, l.Snapshots = 1, 1
	}
	return l
}

// CacheBytes returns what a device takes for a cache block of a model, for the state of a running sequence, and for a
// state kept aside, with the cache in a format.
func CacheBytes(m *model.Model, device hardware.Device, kv *quant.Format) (block, slot, snapshot int64, err error) {
	memory, err := device.Measure(m.Program, oneOfEach(m.Program, kv, 0))
	return memory.Block, memory.Slot, memory.Snapshot, err
}

// spareOutputs is how many rows of a step may have logits beside one for each sequence: prompts are scored so many rows
// at a time, and so many guesses are checked.
const spareOutputs = 16

// shares is how the memory of a cache is divided.
type shares struct{ sequences, blocks, snapshots int }

// keptPerSequence is how many states a conversation needs for its next turn: one at the end of its last prompt, where a
// turn goes on that leaves out the reasoning between, and one at the end of its last answer.
const keptPerSequence = 2

// There is a snapshot for so many blocks at least, so that conversations of twice that have both of theirs as long as they
// have their blocks. Where memory is left, there is one for fewer blocks, if that takes no more than the blocks do.
const (
	snapshotBlocks      = keepEvery / hardware.BlockLen
	shortSnapshotBlocks = 8
)

// share divides the memory of the cache. Blocks alone take all of it, as far as the sequences can fill them. With state,
// running sequences and two snapshots for each take half of it at most, down to one sequence.
func (in *PlanInput) share(context int) shares {
	if in.Blocks > 0 {
		return shares{in.MaxSequences, in.Blocks, snapshotsOf(in.Blocks, in.MaxSequences)}
	}
	if !in.Stateful {
		return shares{in.MaxSequences, in.blocksIn(in.KVBytes, 0, context), 0}
	}
	each := max(in.SlotBytes+keptPerSequence*in.SnapshotBytes, 1)
	s := shares{sequences: max(1, int(min(int64(in.MaxSequences), in.KVBytes/2/each)))}
	for ; ; s.sequences-- {
		s.blocks = in.blocksIn(in.KVBytes-int64(s.sequences)*in.SlotBytes, s.sequences, context)
		if s.sequences == 1 || s.blocks >= blocksFor(in.ContextLength) {
			break
		}
	}
	rest := in.KVBytes - int64(s.sequences)*in.SlotBytes
	if need := blocksFor(max(in.ContextLength, 1)); s.blocks < need { // rather than no context, no prefixes
		s.blocks = max(0, int(min(int64(need), rest/max(in.BlockBytes, 1))))
	}
	blockBytes := int64(s.blocks) * in.BlockBytes
	more := min(int64(s.blocks/shortSnapshotBlocks), blockBytes/max(in.SnapshotBytes, 1))
	s.snapshots = int(min((rest-blockBytes)/max(in.SnapshotBytes, 1), max(int64(snapshotsOf(s.blocks, s.sequences)), more)))
	return s
}

// blocksIn returns how many blocks fit into so much memory, with the snapshots of so many sequences; at most as many as
// MaxSequences can fill.
func (in *PlanInput) blocksIn(memory int64, sequences, context int) int {
	wanted := in.MaxSequences * blocksFor(context)
	return sort.Search(wanted, func(i int) bool {
		return int64(i+1)*in.BlockBytes+int64(snapshotsOf(i+1, sequences))*in.SnapshotBytes > memory
	})
}

// snapshotsOf is how many snapshots so many blocks and sequences have at least.
func snapshotsOf(blocks, sequences int) int {
	return max(keptPerSequence*sequences, blocks/snapshotBlocks)
}
