package devicetest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"hearth/hardware"
)

// rows that a step adds to one sequence.
type advance struct {
	sequence, rows int
	at             int // position; -1: where the sequence ends
	draft          int // of the rows, the last ones
}

// script is a list of steps.
type script [][]advance

// player runs scripts on a queue: it keeps the sequences' tokens, lengths and blocks.
type player struct {
	t         testing.TB
	queue     hardware.Queue
	model     *model
	batch     *hardware.Batch
	memory    hardware.Memory
	sequences [][]int32     // tokens
	lengths   []int         // positions computed
	tables    [][]int32     // blocks, enough for all tokens
	slots     []int32       // of each sequence
	logits    [][][]float32 // of each sequence and position
}

// newPlayer loads a model and gives each sequence blocks of its own, in an order that is
// each time the same in a test, and another for each player of a model.
func newPlayer(t testing.TB, d hardware.Device, m *model, l hardware.Limits, sequences [][]int32) *player {
	t.Helper()
	memory, err := d.Measure(m.Program, l)
	if err != nil {
		t.Fatalf("Measure: %v", err)
	}
	p := &player{t: t, queue: load(t, d, m.Program, l), model: m, batch: hardware.NewBatch(l), memory: memory, sequences: sequences}
	p.lengths, p.tables, p.logits = make([]int, len(sequences)), make([][]int32, len(sequences)), make([][][]float32, len(sequences))
	ids, slots := m.shuffle(l.Blocks, len(sequences))
	for i, tokens := range sequences {
		for range blocksOf(len(tokens)) {
			p.tables[i] = append(p.tables[i], int32(ids[0]))
			ids = ids[1:]
		}
		p.logits[i] = make([][]float32, len(tokens))
		p.slots = append(p.slots, int32(slots[i]))
	}
	return p
}

// shuffle returns the order of blocks and slots for a further player.
func (m *model) shuffle(blocks, slots int) (blockOrder, slotOrder []int) {
	rng := rand.New(rand.NewPCG(25, m.players))
	m.players++
	return rng.Perm(blocks), rng.Perm(slots)
}

func blocksOf(n int) int { return (n + hardware.BlockLen - 1) / hardware.BlockLen }

// fill writes a step into the batch, with all rows as outputs.
func (p *player) fill(step []advance) {
	p.batch.Reset()
	for i, a := range step {
		start := a.at
		if start < 0 {
			start = p.lengths[a.sequence]
		}
		p.batch.Spans = append(p.batch.Spans, hardware.Span{
			Row: int32(len(p.batch.Tokens)), Len: int32(a.rows), Start: int32(start), Table: int32(len(p.batch.Tables)),
			Slot: p.slots[a.sequence], Draft: int32(a.draft),
		})
		p.batch.Tokens = append(p.batch.Tokens, p.sequences[a.sequence][start:start+a.rows]...)
		p.batch.Tables = append(p.batch.Tables, p.tables[a.sequence][:blocksOf(start+a.rows)]...)
		step[i].at = start
	}
	for row := range p.batch.Tokens {
		p.batch.Outputs = append(p.batch.Outputs, int32(row))
	}
}

// play runs a script and keeps the logits.
func (p *player) play(s script) {
	p.t.Helper()
	for _, step := range s {
		step = append([]advance(nil), step...)
		p.fill(step)
		p.queue.Run(p.model.trunk, p.batch)
		if err := p.queue.Sync(); err != nil {
			p.t.Fatalf("Sync: %v", err)
		}
		row := 0
		for _, a := range step {
			for i := range a.rows {
				p.logits[a.sequence][a.at+i] = append([]float32(nil), p.queue.Output(p.model.logits, row)...)
				row++
			}
			p.lengths[a.sequence] = a.at + a.rows
		}
	}
}

// playBeside runs a script on the reference too, and compares the logits.
func (p *player) playBeside(ref *Reference, s script) *meter {
	p.t.Helper()
	total := &meter{}
	for _, step := range s {
		p.play(script{step})
		ref.Run(p.model.trunk, p.batch)
		for r := range p.batch.Outputs {
			total.add(p.queue.Output(p.model.logits, r), ref.Output(p.model.logits, r))
		}
	}
	return total
}

// bytes returns the blocks of a sequence.
func (p *player) bytes(sequence int) [][]byte {
	p.t.Helper()
	var blocks [][]byte
	for _, id := range p.tables[sequence][:blocksOf(p.lengths[sequence])] {
		b := make([]byte, p.memory.Block)
		p.queue.ReadBlock(int(id), b)
		blocks = append(blocks, b)
	}
	if err := p.queue.Sync(); err != nil {
		p.t.Fatalf("Sync: %v", err)
	}
	return blocks
}

// state returns the snapshot at a sequence's last whole block, nil when there is none.
func (p *player) state(sequence int) []byte {
	p.t.Helper()
	position := p.lengths[sequence] / hardware.BlockLen * hardware.BlockLen
	if !p.model.Stateful() || position == 0 {
		return nil
	}
	b := make([]byte, p.memory.Snapshot)
	p.queue.SaveState(int(p.slots[sequence]), position, 0)
	p.queue.ReadState(0, b)
	if err := p.queue.Sync(); err != nil {
		p.t.Fatalf("Sync: %v", err)
	}
	return b
}

// oneByOne feeds every sequence alone, one row per step.
func oneByOne(sequences [][]int32) script {
	var s script
	for i, tokens := range sequences {
		for range tokens {
			s = append(s, []advance{{i, 1, -1, 0}})
		}
	}
	return s
}

// mixed feeds all sequences together, in spans of random length, until all are done.
func mixed(sequences [][]int32, maxRows int, rng *rand.Rand) script {
	left := make([]int, len(sequences))
	total := 0
	for i, tokens := range sequences {
		left[i] = len(tokens)
		total += len(tokens)
	}
	var s script
	for total > 0 {
		var step []advance
		room := maxRows
		for _, i := range rng.Perm(len(sequences)) {
			n := min(left[i], room, 1)
			if rng.IntN(2) == 0 {
				n = min(left[i], room, 1+rng.IntN(maxRows))
			}
			if n == 0 || rng.IntN(4) == 0 {
				continue
			}
			step = append(step, advance{i, n, -1, 0})
			left[i] -= n
			total -= n
			room -= n
		}
		if len(step) > 0 {
			s = append(s, step)
		}
	}
	return s
}

// diffPlayers returns the first difference in logits, state or blocks of a sequence, "" for none. The sequences' blocks may
// lie at different ids.
func diffPlayers(got, want *player, sequence int) string {
	if diff := diffLogits(got, want, sequence); diff != "" {
		return diff
	}
	if !bytes.Equal(got.state(sequence), want.state(sequence)) {
		return fmt.Sprintf("sequence %d: other snapshots of position %d", sequence, want.lengths[sequence])
	}
	g, w := got.bytes(sequence), want.bytes(sequence)
	if len(g) != len(w) {
		return fmt.Sprintf("sequence %d: %d blocks, want %d", sequence, len(g), len(w))
	}
	for i := range w {
		if !bytes.Equal(g[i], w[i]) {
			at := 0
			for g[i][at] == w[i][at] {
				at++
			}
			return fmt.Sprintf("sequence %d, block %d, byte %d of %d: %#x, want %#x", sequence, i, at, len(w[i]), g[i][at], w[i][at])
		}
	}
	return ""
}

// diffLogits returns the first difference in logits of a sequence, "" for none.
func diffLogits(got, want *player, sequence int) string {
	for position, w := range want.logits[sequence] {
		g := got.logits[sequence][position]
		if w == nil || g == nil {
			continue
		}
		for i := range w {
			if w[i] != g[i] {
				return fmt.Sprintf("sequence %d, position %d, logit %d: %v, want %v", sequence, position, i, g[i], w[i])
			}
		}
	}
	return ""
}

// randomSequences returns sequences of the given lengths.
func randomSequences(rng *rand.Rand, vocab int, lengths ...int) [][]int32 {
	var sequences [][]int32
	for _, n := range lengths {
		tokens := make([]int32, n)
		for i := range tokens {
			tokens[i] = int32(rng.IntN(vocab))
		}
		sequences = append(sequences, tokens)
	}
	return sequences
}
