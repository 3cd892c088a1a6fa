package engine

import (
	"fmt"
	"slices"

	"hearth/engine/draft"
	"hearth/hardware"
)

// Speculate says which guesses an engine checks. None changes an answer.
type Speculate uint8

// The choices.
const (
	SpeculateOff   Speculate = iota // none
	SpeculateAuto                   // all that the model allows
	SpeculateNGram                  // prompt lookup alone
)

// speculateNames are the choices as the command line spells them.
var speculateNames = [...]string{"off", "auto", "ngram"}

// String returns the choice as the command line spells it.
func (s Speculate) String() string { return speculateNames[s] }

// SpeculateNames lists the choices.
func SpeculateNames() []string { return slices.Clone(speculateNames[:]) }

// ParseSpeculate returns the choice of a name.
func ParseSpeculate(name string) (Speculate, error) {
	i := slices.Index(speculateNames[:], name)
	if i < 0 {
		return 0, fmt.Errorf("engine: speculation %q is none of %v", name, speculateNames)
	}
	return Speculate(i), nil
}

// maxDraft bounds Options.MaxDraft: more guesses than a block has positions never pay.
const maxDraft = hardware.BlockLen - 1

// maxDraft is the most guesses of a step for a sequence, 0 without speculation.
func (o *Options) maxDraft() int {
	if o.Speculate == SpeculateOff {
		return 0
	}
	return o.MaxDraft
}

// speculation is what the loop owns to guess how sequences go on. It allocates nothing after it is made; prepare is
// called by Submit, in the caller's goroutine, before the loop knows the sequence.
type speculation struct {
	most     int  // guesses for a sequence in a step
	outputs  int  // rows with logits of a step
	oneBlock bool // guesses lie in one block, as programs with state ask
	drafters []draft.Drafter
	control  draft.Control
	lanes    []*draft.Lane // of the step
	stats    *counters
}

// newSpeculation returns nil where nothing is guessed.
func newSpeculation(opts *Options, limits hardware.Limits, stateful bool, stats *counters) *speculation {
	if opts.Speculate == SpeculateOff {
		return nil
	}
	return &speculation{
		most: limits.MaxDraft, outputs: limits.Outputs, oneBlock: stateful,
		drafters: []draft.Drafter{draft.Lookup{}},
		lanes:    make([]*draft.Lane, 0, limits.Spans), stats: stats,
	}
}

// prepare gives a new sequence what its guesses are made from.
func (s *speculation) prepare(seq *sequence, expected []int32) {
	seq.lane = draft.NewLane(s.most)
	seq.lane.LookIn(expected, seq.tokens, cap(seq.tokens))
}

// guess drafts what follows the sequences that a step brought to their end.
func (s *speculation) guess(items []stepItem) error {
	s.lanes = s.lanes[:0]
	for _, it := range items {
		seq := it.seq
		if seq.ended != nil || seq.pending() != 1 || seq.generated() == 0 || cap(seq.lane.Draft) == 0 {
			continue
		}
		lane := &seq.lane
		lane.Tokens, lane.Draft = seq.tokens, lane.Draft[:0]
		lane.Most = min(s.most, seq.maxTokens-seq.generated()-1) // the last token is drawn from the row before it
		if s.oneBlock {
			lane.Most = min(lane.Most, hardware.BlockLen-len(seq.tokens)%hardware.BlockLen)
		}
		s.lanes = append(s.lanes, lane)
	}
	for _, d := range s.drafters {
		if err := d.Propose(s.lanes); err != nil {
			return err
		}
	}
	s.control.Choose(s.lanes, s.outputs-len(s.lanes))
	return nil
}

// checked records what became of a sequence's guesses.
func (s *speculation) checked(seq *sequence, drafts, right int) {
	s.control.Checked(&seq.lane, drafts, right)
	s.stats.drafted[seq.lane.Source].Add(uint64(drafts))
	s.stats.accepted[seq.lane.Source].Add(uint64(right))
}
