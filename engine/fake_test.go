package engine

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync/atomic"
	"testing"

	"hearth/engine/api"
	"hearth/engine/model"
	"hearth/engine/sample"
	"hearth/hardware"
	"hearth/hardware/quant"
)

// fakeMemory is what the blocks of a fake device hold: for each position the token, and a hash of all tokens up to it.
type fakeMemory struct {
	entries [][hardware.BlockLen]fakeEntry
}

type fakeEntry struct {
	token   int32
	history uint64
}

func newFakeMemory(blocks int) *fakeMemory {
	return &fakeMemory{entries: make([][hardware.BlockLen]fakeEntry, blocks)}
}

func (m *fakeMemory) at(table []int32, position int) *fakeEntry {
	return &m.entries[table[position/hardware.BlockLen]][position%hardware.BlockLen]
}

// write computes positions [from, from+len(tokens)) as a forward pass would: each from what the cache holds before it.
func (m *fakeMemory) write(table []int32, tokens []int32, from int) {
	history := uint64(0)
	if from > 0 {
		history = m.at(table, from-1).history
	}
	for i, token := range tokens {
		history = fakeHash(history, token)
		*m.at(table, from+i) = fakeEntry{token, history}
	}
}

// attend reads positions [0, n), so that a wrong block anywhere shows in the result.
func (m *fakeMemory) attend(table []int32, n int) uint64 {
	sum := uint64(0)
	for p := range n {
		sum = fakeHash(sum^m.at(table, p).history, m.at(table, p).token)
	}
	return sum
}

// verify returns an error unless the table leads to exactly these tokens, computed after each other.
func (m *fakeMemory) verify(table []int32, tokens []int32) error {
	history := uint64(0)
	for p, token := range tokens {
		history = fakeHash(history, token)
		if got := *m.at(table, p); got != (fakeEntry{token, history}) {
			return fmt.Errorf("position %d in block %d of %v holds token %d, want %d", p, p/hardware.BlockLen, table, got.token, token)
		}
	}
	return nil
}

func fakeHash(h uint64, token int32) uint64 {
	h = (h ^ uint64(uint32(token)) + 0x9e3779b97f4a7c15) * 0xbf58476d1ce4e5b9
	return h ^ h>>29
}

const fakeVocab = 61

// fakeLogits are the logits after a history, as attend sees it.
func fakeLogits(dst []float32, attended uint64) {
	for i := range dst {
		attended = fakeHash(attended, int32(i))
		dst[i] = float32(attended>>40)/(1<<21) - 4
	}
}

// fakeParts are the parts of logits.
func fakeParts(dst, logits []float32) {
	for i := range len(dst) / 2 {
		part := logits[i*hardware.PartLen : min((i+1)*hardware.PartLen, len(logits))]
		m, sum := slices.Max(part), 0.0
		for _, l := range part {
			sum += math.Exp(float64(l - m))
		}
		dst[2*i], dst[2*i+1] = m, float32(sum)
	}
}

// fakeRow is a row to draw from, of memory of its own.
func fakeRow(attended uint64) *sample.Row {
	logits, parts := make([]float32, fakeVocab), make([]float32, 2*hardware.NumParts(fakeVocab))
	fakeLogits(logits, attended)
	fakeParts(parts, logits)
	return sample.NewScratch(fakeVocab, hardware.PartLen).Row(logits, parts)
}

// fakeDevice runs no program: its logits are a function of the tokens that the blocks of a batch hold, and of those that
// went through its slots.
type fakeDevice struct {
	stateful bool // sequences have state, and logits depend on it
	// beforeRun is called with the number of the step, counted from 1, before it runs; nil: nothing.
	beforeRun func(step int, b *hardware.Batch)
	syncError func(step int) error
	closed    atomic.Bool
}

func (d *fakeDevice) Info() hardware.Info { return hardware.Info{Name: "fake", Exact: true} }

func (d *fakeDevice) Measure(_ *hardware.Program, l hardware.Limits) (hardware.Memory, error) {
	m := hardware.Memory{Block: 1 << 10, Blocks: int64(l.Blocks) << 10}
	if d.stateful {
		m.Slot, m.Snapshot, m.States = 1<<11, 1<<10, int64(l.Slots)<<11+int64(l.Snapshots)<<10
	}
	return m, nil
}

func (d *fakeDevice) Load(_ context.Context, _ *hardware.Program, l hardware.Limits) (hardware.Queue, error) {
	q := &fakeQueue{device: d, limits: l, memory: newFakeMemory(l.Blocks), states: newFakeStates(l.Slots, l.Snapshots)}
	q.rows = make([]uint64, l.Tokens)
	for range l.Outputs {
		q.logits = append(q.logits, make([]float32, fakeVocab))
		q.parts = append(q.parts, make([]float32, 2*hardware.NumParts(fakeVocab)))
	}
	return q, nil
}

func (d *fakeDevice) Close() error { return nil }

// fakeQueue is the queue of a fakeDevice.
type fakeQueue struct {
	device   *fakeDevice
	limits   hardware.Limits
	memory   *fakeMemory
	states   *fakeStates
	logits   [][]float32 // [outputs, vocab]
	parts    [][]float32 // [outputs, parts, 2]
	rows     []uint64    // [tokens], the state after each row
	counters hardware.Counters
}

func (q *fakeQueue) Run(_ hardware.Section, b *hardware.Batch) {
	q.counters.Steps++
	if q.device.beforeRun != nil {
		q.device.beforeRun(int(q.counters.Steps), b)
	}
	if err := b.Validate(&q.limits, fakeVocab); err != nil {
		panic(err)
	}
	if len(b.Tokens) == 0 {
		panic("fake: a step without rows")
	}
	q.counters.Rows += uint64(len(b.Tokens))
	q.counters.WeightBytes += 1000
	output := 0
	for _, s := range b.Spans {
		if q.device.stateful {
			q.states.write(int(s.Slot), int(s.Start), b.Tokens[s.Row:][:s.Len], func(i int, hash uint64) { q.rows[int(s.Row)+i] = hash })
		}
		table := b.Tables[s.Table:][:s.Blocks()]
		q.memory.write(table, b.Tokens[s.Row:][:s.Len], int(s.Start))
		for ; output < len(b.Outputs) && b.Outputs[output] < s.Row+s.Len; output++ {
			length := int(s.Start + b.Outputs[output] - s.Row + 1)
			fakeLogits(q.logits[output], q.memory.attend(table, length)^q.rows[b.Outputs[output]])
			fakeParts(q.parts[output], q.logits[output])
		}
	}
}

func (q *fakeQueue) Sync() error {
	if q.device.syncError != nil {
		return q.device.syncError(int(q.counters.Steps))
	}
	return nil
}

func (q *fakeQueue) Output(o hardware.Output, row int) []float32 {
	return [...][][]float32{fakeLogitsOutput: q.logits, fakePartsOutput: q.parts}[o][row]
}
func (q *fakeQueue) CopyBlock(dst, src int) { q.memory.entries[dst] = q.memory.entries[src] }

func (q *fakeQueue) ReadBlock(id int, dst []byte) {
	for i, e := range q.memory.entries[id] {
		binary.LittleEndian.PutUint32(dst[16*i:], uint32(e.token))
		binary.LittleEndian.PutUint64(dst[16*i+8:], e.history)
	}
}

func (q *fakeQueue) WriteBlock(id int, src []byte) {
	for i := range q.memory.entries[id] {
		q.memory.entries[id][i] = fakeEntry{int32(binary.LittleEndian.Uint32(src[16*i:])), binary.LittleEndian.Uint64(src[16*i+8:])}
	}
}

func (q *fakeQueue) Counters() hardware.Counters { return q.counters }
func (q *fakeQueue) Idle()                       {}

func (q *fakeQueue) SaveState(slot, position, snapshot int) {
	q.states.save(slot, position, snapshot)
}

func (q *fakeQueue) LoadState(slot, position, snapshot int) {
	q.states.load(slot, position, snapshot)
}

func (q *fakeQueue) ReadState(snapshot int, dst []byte) {
	x := q.states.snapshots[snapshot]
	binary.LittleEndian.PutUint64(dst, uint64(x.position))
	binary.LittleEndian.PutUint64(dst[8:], x.hash)
}

func (q *fakeQueue) WriteState(snapshot int, src []byte) {
	q.states.snapshots[snapshot] = fakeSnapshot{int(binary.LittleEndian.Uint64(src)), binary.LittleEndian.Uint64(src[8:])}
}

func (q *fakeQueue) Close() error { q.device.closed.Store(true); return nil }

// The outputs of the fake model.
const (
	fakeLogitsOutput hardware.Output = iota
	fakePartsOutput
)

// Tokens of the fake vocabulary with a meaning.
const (
	fakeEOS    = 1 // end of generation
	fakeBOS    = 2 // stops as well, but IgnoreEOS makes it an ordinary token
	fakeBanned = 3
)

// fakeEngine starts an engine on a fake device; it is closed at the end of the test.
func fakeEngine(t testing.TB, device *fakeDevice, opts Options) *Engine {
	t.Helper()
	e := loadFake(t, device, opts)
	startFake(t, e)
	return e
}

// startFake runs an engine's loop until the end of the test.
func startFake(t testing.TB, e *Engine) {
	e.start()
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
}

// loadFake returns an engine whose loop does not run.
func loadFake(t testing.TB, device *fakeDevice, opts Options) *Engine {
	t.Helper()
	if opts.ContextLength == 0 {
		opts.ContextLength = 1024
	}
	opts.Device, opts.KV = device, quant.F32
	opts.StopTokens, opts.EndTokens, opts.Banned = []int32{fakeEOS, fakeBOS}, []int32{fakeEOS}, []int32{fakeBanned}
	opts.Logger = slog.New(slog.DiscardHandler)
	m := fakeModel()
	if device.stateful {
		m.Program.Ring(hardware.RingInfo{Name: "fake", Dim: 1, Reach: 1})
	}
	e, err := load(t.Context(), m, opts)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// fakeModel is a model for the fake device.
func fakeModel() *model.Model {
	return &model.Model{
		Config:  model.Config{VocabSize: fakeVocab, ContextLength: 1 << 17},
		Program: hardware.NewProgram("fake"), Logits: fakeLogitsOutput, Parts: fakePartsOutput,
	}
}

// fakeAnswer is what a request is answered with, computed without engine, cache and batch.
func fakeAnswer(t testing.TB, r api.Request) (tokens []int32, logprobs []api.Logprob) {
	t.Helper()
	return (&fakeDevice{}).answer(t, r)
}

func (d *fakeDevice) answer(t testing.TB, r api.Request) (tokens []int32, logprobs []api.Logprob) {
	t.Helper()
	sampler, err := sample.New(r.Sampling, fakeVocab)
	if err != nil {
		t.Fatal(err)
	}
	memory, table := newFakeMemory(64), make([]int32, 64)
	for i := range table {
		table[i] = int32(i)
	}
	all := append([]int32(nil), r.Prompt...)
	memory.write(table, all, 0)
	for len(tokens) < r.MaxTokens {
		attended := memory.attend(table, len(all))
		if d.stateful {
			state := uint64(fakeStateSeed)
			for _, token := range all {
				state = fakeHash(state, token)
			}
			attended ^= state
		}
		row := fakeRow(attended)
		var p api.Logprob
		if err := row.Top(r.Logprobs, &p); err != nil {
			t.Fatal(err)
		}
		row.Ban([]int32{fakeBanned})
		switch {
		case r.IgnoreEOS:
			row.Ban([]int32{fakeEOS})
		case len(tokens) < r.MinTokens:
			row.Ban([]int32{fakeEOS, fakeBOS})
		}
		token, err := sampler.Next(row, all)
		if err != nil {
			t.Fatal(err)
		}
		if !r.IgnoreEOS && (token == fakeEOS || token == fakeBOS) {
			break
		}
		p.Token, p.Logprob = token, row.Logprob(token)
		memory.write(table, []int32{token}, len(all))
		all, tokens, logprobs = append(all, token), append(tokens, token), append(logprobs, p)
	}
	return tokens, logprobs
}

// words returns n tokens of a text that is named by a number; equal names begin with equal tokens.
func words(text uint64, n int) []int32 {
	tokens := make([]int32, n)
	h := text
	for i := range tokens {
		h = fakeHash(h, int32(i))
		tokens[i] = int32(4 + h%(fakeVocab-4))
	}
	return tokens
}

// answer is what came out of a request's channel.
type answer struct {
	tokens   []int32
	logprobs []api.Logprob
	prompt   []api.Logprob
	done     api.Done
}

// submit starts a request that the engine must accept.
func submit(t testing.TB, e *Engine, r api.Request) <-chan api.Event {
	t.Helper()
	events, err := e.Submit(t.Context(), &r)
	if err != nil {
		t.Fatalf("Submit: %v", err)
	}
	return events
}

// collect reads a request's events to their end and checks their form.
func collect(t testing.TB, events <-chan api.Event) (a answer) {
	t.Helper()
	ended := false
	for event := range events {
		if ended {
			t.Errorf("an event after Done: %+v", event)
		}
		switch {
		case event.Done != nil:
			ended, a.done = true, *event.Done
		case event.Prompt != nil:
			if a.tokens != nil {
				t.Error("prompt log-probabilities after generated tokens")
			}
			a.prompt = append(a.prompt, event.Prompt...)
		default:
			a.tokens = append(a.tokens, event.Token)
			if event.Logprob != nil {
				a.logprobs = append(a.logprobs, *event.Logprob)
			}
		}
	}
	if !ended {
		t.Error("the channel was closed without Done")
	}
	return a
}
