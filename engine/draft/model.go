package draft

import (
	"fmt"

	"hearth/hardware"
)

// Pick draws a token for an item of the step, from the logits of a drafter and their parts, as it would be drawn from those
// of the model; tokens are those of the sequence with the guesses so far.
type Pick func(item int, logits, parts []float32, tokens []int32) (int32, error)

// ModelOptions say what program a Model guesses with.
type ModelOptions struct {
	Queue         hardware.Queue
	Section       hardware.Section
	Logits, Parts hardware.Output
	Limits        hardware.Limits // of the queue
	Pick          Pick
}

// Model is a drafter that runs a program: another, smaller model with a queue of its own, or the layers of the model itself
// that predict further tokens. Both write their keys and values into blocks of the same numbers as the model's, so that
// prefixes are found for both at once. It guesses one token after the other, those of all lanes together.
//
// # Another model
//
// It follows a sequence when guesses are wanted: what it has not seen yet comes first, for long prompts over several steps.
// Wrong guesses are overwritten by position.
//
//	positions  0 ......... seen ......... len(Tokens)
//	           in the cache | computed now, the last row gives the first guess
//
// full tells which blocks it has filled for their present contents, since it may have seen less of them than the model.
//
// # Predicting layers
//
// They take the model's own hidden rows, which are there until its next step, so they follow a step at once or never.
type Model struct {
	ModelOptions
	source Source
	heads  bool // predicting layers
	batch  *hardware.Batch
	full   []bool // of each block, for another model
}

// NewModel returns a drafter that runs another model. The queue stays the caller's.
func NewModel(o ModelOptions) *Model {
	return &Model{ModelOptions: o, source: OtherModel, batch: hardware.NewBatch(o.Limits), full: make([]bool, o.Limits.Blocks)}
}

// NewHeads returns a drafter that runs the predicting layers of the model in whose queue they are.
func NewHeads(o ModelOptions) *Model {
	return &Model{ModelOptions: o, source: Heads, heads: true, batch: hardware.NewBatch(o.Limits)}
}

// Source is part of Drafter.
func (m *Model) Source() Source { return m.source }

// Propose is part of Drafter. A lane whose Most is 0 keeps its draft.
func (m *Model) Propose(lanes []*Lane) error {
	m.batch.Reset()
	for _, l := range lanes {
		l.row = -1
		if m.heads {
			m.followHidden(l)
		} else {
			m.follow(l)
		}
	}
	for guessed := 0; len(m.batch.Tokens) > 0; guessed++ {
		m.Queue.Run(m.Section, m.batch)
		if err := m.Queue.Sync(); err != nil {
			return fmt.Errorf("draft: %s: %w", m.source, err)
		}
		if err := m.pick(lanes); err != nil {
			return err
		}
		m.batch.Reset()
		for _, l := range lanes {
			m.goOn(l, guessed+1)
		}
	}
	return nil
}

// Forget says that the model has other contents in a block from now on, which this one has not seen.
func (m *Model) Forget(block int) {
	if !m.heads {
		m.full[block] = false
	}
}

// followHidden adds the rows of the positions that the model's last step computed, as far as the token behind each is
// known.
func (m *Model) followHidden(l *Lane) {
	n := min(l.Kept, len(l.Tokens)-1-l.Start)
	if n <= 0 {
		return
	}
	for i := range n {
		m.batch.Inputs = append(m.batch.Inputs, int32(l.Row+i))
	}
	m.add(l, l.Start, l.Tokens[l.Start+1:][:n])
}

// follow adds the rows that another model has not seen of a lane, as many as there is room for.
func (m *Model) follow(l *Lane) {
	if l.Start != l.position { // it was just admitted, with a prefix that may be known
		l.ahead = l.ahead[:0]
		for l.seen = 0; l.seen < l.Start && m.full[l.Table[l.seen/hardware.BlockLen]]; {
			l.seen += hardware.BlockLen
		}
	}
	l.position = l.Start + l.Kept
	for i := range l.ahead { // guesses that became tokens; the last token is run again, for what follows it
		if l.seen >= len(l.Tokens)-1 || l.Tokens[l.seen] != l.ahead[i] {
			break
		}
		l.seen++
	}
	l.ahead = l.ahead[:0]
	for block := l.Start / hardware.BlockLen; block*hardware.BlockLen < l.position; block++ {
		m.full[l.Table[block]] = l.seen >= (block+1)*hardware.BlockLen
	}
	if l.Most == 0 {
		return
	}
	n := min(len(l.Tokens), len(l.Table)*hardware.BlockLen) - l.seen
	if n = min(n, m.Limits.Tokens-len(m.batch.Tokens)); n <= 0 {
		return
	}
	from := l.seen
	l.seen += n
	for block := from / hardware.BlockLen; (block+1)*hardware.BlockLen <= l.seen; block++ {
		m.full[l.Table[block]] = true
	}
	m.add(l, from, l.Tokens[from:l.seen])
	if l.seen < len(l.Tokens) { // it is not there yet
		m.batch.Outputs, l.row = m.batch.Outputs[:len(m.batch.Outputs)-1], -1
	}
}

// add adds rows of a lane at a position; the last gives a guess if more are wanted.
func (m *Model) add(l *Lane, start int, tokens []int32) {
	b, row := m.batch, len(m.batch.Tokens)
	b.Spans = append(b.Spans, hardware.Span{
		Row: int32(row), Len: int32(len(tokens)), Start: int32(start), Table: int32(len(b.Tables)), Slot: int32(l.Slot),
	})
	b.Tokens = append(b.Tokens, tokens...)
	b.Tables = append(b.Tables, l.Table...)
	if l.row = -1; l.Most > 0 {
		l.row = row + len(tokens) - 1
		b.Outputs = append(b.Outputs, int32(l.row))
	}
}

// pick takes the guesses of a run.
func (m *Model) pick(lanes []*Lane) error {
	output := 0
	for _, l := range lanes {
		if l.row < 0 {
			continue
		}
		if l.Source != m.source {
			l.Source, l.Class, l.Draft = m.source, 0, l.Draft[:0]
		}
		tokens := append(l.Tokens, l.Draft...) // in room that the sequence has for them
		token, err := m.Pick(l.Item, m.Queue.Output(m.Logits, output), m.Queue.Output(m.Parts, output), tokens)
		if err != nil {
			return fmt.Errorf("draft: %s: %w", m.source, err)
		}
		l.Draft = append(l.Draft, token)
		output++
	}
	return nil
}

// goOn adds the row of a lane's last guess if another one is wanted and its position has a block.
func (m *Model) goOn(l *Lane, guessed int) {
	last := l.row
	l.row = -1
	position := len(l.Tokens) - 1 + guessed
	if m.heads {
		position--
	}
	if last < 0 || guessed >= l.Most || position >= len(l.Table)*hardware.BlockLen {
		return
	}
	if m.heads {
		m.batch.Inputs = append(m.batch.Inputs, int32(last))
	} else {
		l.ahead = append(l.ahead, l.Draft[guessed-1])
	}
	m.add(l, position, l.Draft[guessed-1:guessed])
}
