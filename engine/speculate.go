package engine

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"hearth/engine/draft"
	"hearth/engine/model"
	"hearth/engine/tokenizer"
	"hearth/engine/weights"
	"hearth/hardware"
)

// Speculate says which guesses an engine checks. None changes an answer.
type Speculate uint8

// The choices.
const (
	SpeculateOff   Speculate = iota // none
	SpeculateAuto                   // prompt lookup, and the draft model or else the predicting layers if there are any
	SpeculateNGram                  // prompt lookup alone
	SpeculateMTP                    // predicting layers of the model alone
	SpeculateDraft                  // a draft model alone
)

// speculateNames are the choices as the command line spells them.
var speculateNames = [...]string{"off", "auto", "ngram", "mtp", "draft"}

// String returns the choice as the command line spells it.
func (s Speculate) String() string { return speculateNames[s] }

// SpeculateNames lists the choices.
func SpeculateNames() []string { return slices.Clone(speculateNames[:]) }

// ParseSpeculate returns the choice of a name.
func ParseSpeculate(name string) (Speculate, error) {
	i := slices.Index(speculateNames[:], name)
	if i < 0 {
		return 0, fmt.Errorf("engine: speculation %q is none of %s", name, strings.Join(speculateNames[:], ", "))
	}
	return Speculate(i), nil
}

// MaxDraft bounds Options.MaxDraft: more guesses than a block has positions never pay.
const MaxDraft = hardware.BlockLen - 1

// maxDraft is the most guesses of a step for a sequence, 0 without speculation.
func (o *Options) maxDraft() int {
	if o.Speculate == SpeculateOff {
		return 0
	}
	return o.MaxDraft
}

// Predicts reports whether the choice wants the predicting layers of a model, where it has some.
func (o *Options) Predicts() bool {
	return o.Speculate == SpeculateMTP || o.Speculate == SpeculateAuto && o.Draft == nil
}

// LoadModel reads a model with the layers that the choice of guesses wants.
func LoadModel(src weights.Source, opts *Options) (*model.Model, error) {
	if opts.Predicts() {
		return model.LoadDrafting(src)
	}
	return model.Load(src)
}

// OpenDraft loads the draft model that opts.DraftPath names into opts.Draft, if the choice of guesses wants one. Its source
// is nil without; else it is closed by the caller, when an engine was made.
func OpenDraft(opts *Options) (weights.Source, error) {
	if opts.DraftPath == "" || opts.Speculate != SpeculateAuto && opts.Speculate != SpeculateDraft {
		return nil, nil
	}
	src, err := OpenSource(opts.DraftPath)
	if err != nil {
		return nil, fmt.Errorf("engine: draft model: %w", err)
	}
	if opts.Draft, err = model.Load(src); err != nil {
		return nil, errors.Join(fmt.Errorf("engine: draft model: %w", err), src.Close())
	}
	return src, nil
}

// sameVocabulary returns an error naming the first token that two vocabularies have different texts for.
func sameVocabulary(a, b *tokenizer.Tokenizer) error {
	if a.VocabSize() != b.VocabSize() {
		return fmt.Errorf("engine: the draft model's vocabulary has %d tokens, the model's %d", b.VocabSize(), a.VocabSize())
	}
	for id := range int32(a.VocabSize()) {
		one, _ := a.Token(id)
		if other, _ := b.Token(id); one != other {
			return fmt.Errorf("engine: token %d is %q in the model's vocabulary and %q in the draft model's", id, one, other)
		}
	}
	return nil
}

// checkDraft returns an error when the choice of guesses asks for what is not there, or the draft model does not fit.
func (o *Options) checkDraft(m *model.Model) error {
	switch d := o.Draft; {
	case o.Speculate == SpeculateMTP && !m.Drafts:
		return fmt.Errorf("engine: speculation %q: the model has no layers that predict further tokens", o.Speculate)
	case o.Speculate == SpeculateDraft && d == nil:
		return fmt.Errorf("engine: speculation %q: there is no draft model", o.Speculate)
	case d == nil:
		return nil
	case d.Config.VocabSize != m.Config.VocabSize:
		return fmt.Errorf("engine: the draft model has a vocabulary of %d, the model one of %d", d.Config.VocabSize, m.Config.VocabSize)
	case d.Program.Stateful():
		return fmt.Errorf("%w: a draft model of architecture %s, whose sequences have state beside their cache", model.ErrUnsupported, d.Config.Architecture)
	}
	return nil
}

// drafts reports whether a draft model is used.
func (o *Options) drafts() bool {
	return o.Draft != nil && (o.Speculate == SpeculateAuto || o.Speculate == SpeculateDraft)
}

// speculation is what the loop owns to guess how sequences go on. It allocates nothing after it is made; prepare is
// called by Submit, in the caller's goroutine, before the loop knows the sequence.
type speculation struct {
	most     int  // guesses for a sequence in a step
	outputs  int  // rows with logits of a step
	oneBlock bool // guesses lie in one block, as programs with state ask
	lookup   bool
	model    *draft.Model   // nil: none
	queue    hardware.Queue // of a draft model; nil: none
	control  draft.Control
	lanes    []*draft.Lane // of sequences of the step that guesses are wanted for
	all      []*draft.Lane // of all sequences that the drafter follows
	wishing  []*draft.Lane // of lanes, those that the model may guess for
	items    []stepItem    // of all
	unasked  int           // steps since the model was asked for more than a guess
	stats    *counters
	now      func() time.Time
}

// newSpeculation returns nil where nothing is guessed. The draft model's queue is nil without one.
func newSpeculation(opts *Options, l *loop, drafts hardware.Queue) *speculation {
	if opts.Speculate == SpeculateOff {
		return nil
	}
	lanes := func() []*draft.Lane { return make([]*draft.Lane, 0, l.limits.Spans) }
	s := &speculation{
		most: l.limits.MaxDraft, outputs: l.limits.Outputs, oneBlock: l.model.Program.Stateful(),
		lookup: opts.Speculate == SpeculateAuto || opts.Speculate == SpeculateNGram,
		lanes:  lanes(), all: lanes(), wishing: lanes(), stats: l.stats, now: l.now,
	}
	pick := func(item int, logits, parts []float32, tokens []int32) (int32, error) {
		seq := s.items[item].seq
		row := l.scratch.Row(logits, parts)
		l.ban(seq, row, len(tokens)-seq.promptLen)
		return seq.sampler.Next(row, tokens)
	}
	switch {
	case drafts != nil:
		m := opts.Draft
		s.queue = drafts
		s.model = draft.NewModel(draft.ModelOptions{
			Queue: drafts, Section: m.Trunk, Logits: m.Logits, Parts: m.Parts, Limits: draftLimits(l.limits), Pick: pick,
		})
	case l.model.Drafts && opts.Predicts():
		s.model = draft.NewHeads(draft.ModelOptions{
			Queue: l.queue, Section: l.model.Draft, Logits: l.model.Guess.Logits, Parts: l.model.Guess.Parts, Limits: l.limits, Pick: pick,
		})
	}
	return s
}

// draftLimits are the limits of a draft model's queue: its blocks have the numbers of the model's.
func draftLimits(limits hardware.Limits) hardware.Limits {
	limits.Outputs, limits.MaxDraft, limits.Progress = limits.Spans, 0, nil
	return limits
}

// close frees what the speculation alone owns.
func (s *speculation) close() error {
	if s == nil {
		return nil
	}
	return closeQueue(s.queue)
}

// prepare gives a new sequence what its guesses are made from.
func (s *speculation) prepare(seq *sequence, expected []int32) {
	seq.lane = draft.NewLane(s.most)
	if s.lookup {
		seq.lane.LookIn(expected, seq.tokens, cap(seq.tokens))
	}
}

// guess drafts what follows the sequences that a step brought to their end.
func (s *speculation) guess(scheduler *scheduler, items []stepItem) error {
	s.enter(items)
	if s.lookup {
		if err := (draft.Lookup{}).Propose(s.lanes); err != nil {
			return err
		}
	}
	if s.model != nil {
		if err := s.ask(scheduler); err != nil {
			return err
		}
	}
	s.control.Choose(s.lanes, s.outputs-len(s.lanes))
	return nil
}

// enter lists the lanes of a step.
func (s *speculation) enter(items []stepItem) {
	s.lanes, s.all, s.items = s.lanes[:0], s.all[:0], items
	row := 0
	for i, it := range items {
		seq, lane := it.seq, &it.seq.lane
		first := row
		row += it.rows + it.drafts
		if seq.ended != nil && s.queue == nil {
			continue // another model notes that it has not seen blocks from which others may go on
		}
		kept := it.rows + it.right
		lane.Item, lane.Row, lane.Start, lane.Kept = i, first, seq.computed-kept, kept
		lane.Slot, lane.Table = seq.table.Slot(), seq.table.Blocks()
		lane.Tokens, lane.Draft, lane.Most = seq.tokens, lane.Draft[:0], 0
		s.all = append(s.all, lane)
		if seq.ended != nil || seq.pending() != 1 || seq.generated() == 0 || cap(lane.Draft) == 0 {
			continue
		}
		lane.Most = min(s.most, seq.maxTokens-seq.generated()-1) // the last token is drawn from the row before it
		if s.oneBlock {
			lane.Most = min(lane.Most, hardware.BlockLen-len(seq.tokens)%hardware.BlockLen)
		}
		s.lanes = append(s.lanes, lane)
	}
}

// restAfter is after how many steps without guesses the predicting layers no longer follow answers, which costs as much as a
// layer of the model. What they then lack makes later guesses worse and nothing else; prompts are followed all the same.
const restAfter = 32

// ask has the model guess for the lanes where it is surer than what was found, as much as pays.
func (s *speculation) ask(scheduler *scheduler) error {
	source := s.model.Source()
	s.wishing = s.wishing[:0]
	for _, lane := range s.lanes {
		if len(lane.Draft) > 0 && s.control.Right(lane, lane.Source, lane.Class) >= s.control.Right(lane, source, 0) {
			lane.Most = 0
		} else {
			s.wishing = append(s.wishing, lane)
		}
	}
	s.control.Wish(s.wishing, source, len(s.lanes), s.outputs-len(s.lanes))
	deepest := 0
	for _, lane := range s.wishing {
		if lane.Most > 0 {
			deepest = max(deepest, lane.Most)
			seq := s.items[lane.Item].seq
			scheduler.reserve(seq, len(seq.tokens)+lane.Most)
			lane.Table = seq.table.Blocks()
		}
	}
	if s.unasked++; deepest > 1 { // one may be a trial
		s.unasked = 0
	}
	if source == draft.Heads && deepest == 0 && s.unasked > restAfter && len(s.all) == len(s.lanes) {
		return nil
	}
	start := s.now()
	if err := s.model.Propose(s.all); err != nil {
		return err
	}
	if len(s.all) == len(s.lanes) { // else others are followed too, which takes longer
		s.control.Drafted(source, deepest, s.now().Sub(start))
	}
	return nil
}

// forget says that a block was filled from disk, where what a draft model knows of its tokens is not kept.
func (s *speculation) forget(block int) {
	if s != nil && s.model != nil {
		s.model.Forget(block)
	}
}

// checked records what became of a sequence's guesses.
func (s *speculation) checked(seq *sequence, drafts, right int) {
	s.control.Checked(&seq.lane, drafts, right)
	s.stats.drafted[seq.lane.Source].Add(uint64(drafts))
	s.stats.accepted[seq.lane.Source].Add(uint64(right))
}
