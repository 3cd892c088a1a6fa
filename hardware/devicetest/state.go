package devicetest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"hearth/hardware"
	"hearth/hardware/quant"
)

// deltaShape is the geometry of a delta rule, and of the convolution before it.
type deltaShape struct {
	keyHeads, valueHeads, keyDim, valueDim int
	heads                                  hardware.HeadMap
	taps                                   int
}

// cols is the number of columns of queries, keys and values together.
func (s *deltaShape) cols() int { return 2*s.keyHeads*s.keyDim + s.valueHeads*s.valueDim }

// modelDelta is that of the tiny model: values that are no whole panels.
var modelDelta = deltaShape{keyHeads: 2, valueHeads: 4, keyDim: 16, valueDim: 24, taps: 4}

// deltaNet records x += a gated delta rule of h, behind a convolution (arXiv 2412.06464, figure 1).
func (b *builder) deltaNet(weights *quant.Format, x, h hardware.Tensor) {
	s, hidden := &modelDelta, x.Size()
	o := b.deltaRule(s, b.MatMul(h, b.matrix("qkv", weights, s.cols(), hidden)), b.MatMul(h, b.matrix("ab", weights, 2*s.valueHeads, hidden)))
	b.MatMulAdd(x, o.Cols(0, o.Size()), b.fitting("o", weights, hidden, s.valueHeads*s.valueDim))
}

// deltaRule records a convolution and a delta rule of rows [queries | keys | values] and [A | B].
func (b *builder) deltaRule(s *deltaShape, rows, gates hardware.Tensor) hardware.Tensor {
	ring := b.Ring(hardware.RingInfo{Name: "rows", Dim: s.cols(), Reach: s.taps - 1})
	state := b.Delta(hardware.DeltaInfo{
		Name: "state", KeyHeads: s.keyHeads, ValueHeads: s.valueHeads, KeyDim: s.keyDim, ValueDim: s.valueDim, Map: s.heads,
	})
	c := b.Conv(rows, ring, b.matrix("conv", quant.F32, s.cols(), s.taps))
	b.Remember(ring, rows)
	queries := s.keyHeads * s.keyDim
	unit := b.around("unit", s.keyDim, 1/float32(s.keyDim)) // keys much longer than 1 make the state grow
	return b.DeltaRule(hardware.DeltaRuleArgs{
		Q: b.Norm(c.Cols(0, queries).Heads(s.keyHeads), unit, 1e-5), K: b.Norm(c.Cols(queries, queries).Heads(s.keyHeads), unit, 1e-5),
		V: c.Cols(2*queries, s.valueHeads*s.valueDim).Heads(s.valueHeads),
		A: gates.Cols(0, s.valueHeads), B: gates.Cols(s.valueHeads, s.valueHeads),
		Decay: b.around("decay", s.valueHeads, -0.2), Bias: b.vector("bias", s.valueHeads), State: state,
	})
}

// testState checks what sequences remember beside cache blocks.
func testState(t *testing.T, d hardware.Device, c *Config) {
	if !claims(d, newModel(modelSpec{weights: quant.F32, delta: true}).Program) {
		t.Skip("not claimed")
	}
	for _, s := range []deltaShape{
		{1, 1, 16, 16, hardware.Grouped, 2}, {2, 6, 20, 37, hardware.Grouped, 4}, {3, 6, 33, 16, hardware.Tiled, 4}, {2, 2, 128, 128, hardware.Tiled, 3},
	} {
		if c.brief() && s.keyDim > 64 {
			continue
		}
		t.Run(fmt.Sprintf("DeltaRule/heads=%d:%d/dims=%d,%d/map=%d", s.keyHeads, s.valueHeads, s.keyDim, s.valueDim, s.heads), func(t *testing.T) {
			testDeltaRule(t, d, c, &s)
		})
	}
	t.Run("taken back", func(t *testing.T) {
		m, l, sequences := stateModel()
		testTakenBack(t, d, m, l, sequences)
	})
	t.Run("snapshots", func(t *testing.T) {
		m, l, sequences := stateModel()
		testSnapshots(t, d, c, m, l, sequences)
	})
	t.Run("broken", func(t *testing.T) { testBrokenState(t, d) })
	m, l, sequences := stateModel()
	t.Run("allocations", func(t *testing.T) { testAllocations(t, d, c, m, l, sequences) })
	for _, v := range c.Variants {
		t.Run("trace/"+v.Name, func(t *testing.T) { testTrace(t, opened(t, v.Open), m, l, sequences) })
	}
}

// testDeltaRule compares with the reference, with steps on both sides of chunks.
func testDeltaRule(t *testing.T, d hardware.Device, c *Config, s *deltaShape) {
	o := newOpTest("delta rule")
	x := o.Embed(o.table(opVocab, s.cols()+2*s.valueHeads))
	o.want("delta rule", o.deltaRule(s, x.Cols(0, s.cols()), x.Cols(s.cols(), 2*s.valueHeads)), 3*c.floatBound())
	o.mustClaim(t, d)
	steps := []int{1, 1, 61, 1, 1, 5, 58, 1, 130, 64, 3, 1}
	total := 0
	for _, n := range steps {
		total += n
	}
	o.attend(t, d, hardware.Limits{Tokens: 200, Spans: 2, Outputs: 200, Blocks: 2 * blocksOf(total), MaxLen: total, KV: quant.F32, Slots: 2}, steps)
}

// stateModel returns the limits and some sequences for a model with state.
func stateModel() (*model, hardware.Limits, [][]int32) {
	m := newModel(modelSpec{weights: quant.F32, delta: true})
	sequences := randomSequences(rand.New(rand.NewPCG(9, 8)), m.vocab, 230, 150)
	l := modelLimits(quant.F32, 100, sequences)
	l.MaxDraft = 9
	return m, l, sequences
}

// testTakenBack writes drafts that are taken back, in steps with another sequence, and wants the bytes of never having had
// them.
func testTakenBack(t *testing.T, d hardware.Device, m *model, l hardware.Limits, sequences [][]int32) {
	t.Helper()
	want, got := newPlayer(t, d, m, l, sequences), newPlayer(t, d, m, l, sequences)
	want.play(oneByOne(sequences))
	rng := rand.New(rand.NewPCG(7, 8))
	final := sequences[0]
	for at := 0; at < len(final); {
		n := min(1+rng.IntN(20), len(final)-at)
		draft := min(rng.IntN(l.MaxDraft+1), n-1)
		if end := at + n; draft > 0 && (end-draft)/hardware.BlockLen != (end-1)/hardware.BlockLen {
			draft = (end - 1) % hardware.BlockLen // in one block
		}
		accepted := rng.IntN(draft + 1)
		drafted := append([]int32(nil), final...)
		for i := at + n - draft + accepted; i < at+n; i++ {
			drafted[i] = int32(rng.IntN(m.vocab))
		}
		got.sequences = append([][]int32{drafted}, sequences[1:]...)
		step := []advance{{sequence: 0, rows: n, at: at, draft: draft}}
		for other := 1; other < len(sequences); other++ {
			if left := len(sequences[other]) - got.lengths[other]; left > 0 {
				step = append(step, advance{sequence: other, rows: min(left, 1+rng.IntN(30)), at: -1})
			}
		}
		got.play(script{step})
		at += n - draft + accepted
		got.lengths[0] = at
	}
	if !d.Info().Exact {
		return
	}
	if diff := diffPlayers(got, want, 0); diff != "" {
		t.Error(diff)
	}
}

// testSnapshots goes on from a snapshot: in another slot, in another queue, and after the sequence went on.
func testSnapshots(t *testing.T, d hardware.Device, c *Config, m *model, l hardware.Limits, sequences [][]int32) {
	t.Helper()
	want := newPlayer(t, d, m, l, sequences)
	want.play(oneByOne(sequences))
	other := d
	for _, v := range c.Variants {
		other = opened(t, v.Open)
	}
	for _, at := range []struct{ position, length int }{{64, 64}, {64, 65}, {64, 100}, {64, 127}, {128, 128}, {128, 131}, {192, 200}} {
		if at.length+3 > len(sequences[0]) {
			break
		}
		from := newPlayer(t, d, m, l, sequences)
		for from.lengths[0] < at.length {
			from.play(script{{{0, min(50, at.length-from.lengths[0]), -1, 0}}})
		}
		saved := from.state(0)
		from.queue.WriteState(1, saved)
		from.play(script{{{0, 3, -1, 0}}}) // the snapshot stays as it is
		again := make([]byte, len(saved))
		from.queue.ReadState(1, again)
		if !bytes.Equal(saved, again) {
			t.Fatalf("position %d of %d: WriteState and ReadState differ", at.position, at.length)
		}
		blocks := from.bytes(0)
		for i, q := range []*player{from, newPlayer(t, other, m, l, sequences)} {
			if i > 0 {
				q.queue.WriteState(1, saved)
				for j, b := range blocks[:at.position/hardware.BlockLen] {
					q.queue.WriteBlock(int(q.tables[0][j]), b)
				}
			}
			q.slots[0], q.slots[1] = q.slots[1], q.slots[0]
			q.queue.LoadState(int(q.slots[0]), at.position, 1)
			q.lengths[0] = at.position
			q.logits[0] = make([][]float32, len(sequences[0]))
			for q.lengths[0] < len(sequences[0]) {
				q.play(script{{{0, min(37, len(sequences[0])-q.lengths[0]), -1, 0}}})
			}
			if diff := diffPlayers(q, want, 0); diff != "" && d.Info().Exact {
				t.Errorf("position %d of %d, queue %d: %s", at.position, at.length, i, diff)
			}
		}
	}
}

// testBrokenState checks that a span which does not go on where its slot stands panics, and states of positions that a
// slot does not have.
func testBrokenState(t *testing.T, d hardware.Device) {
	m, l, sequences := stateModel()
	p := newPlayer(t, d, m, l, sequences)
	p.play(script{{{0, 100, -1, 0}}})
	slot := int(p.slots[0])
	for i, broken := range []func(){
		func() { p.play(script{{{0, 2, 101, 0}}}) },
		func() { p.play(script{{{0, 2, 90, 0}}}) },
		func() { p.play(script{{{0, 2, 99, 0}}}) },
		func() { p.play(script{{{0, 2, 63, 0}}}) },
		func() { p.play(script{{{1, 2, 5, 0}}}) },
		func() { p.queue.SaveState(slot, 100, 0) },
		func() { p.queue.SaveState(slot, 0, 0) },
		func() { p.queue.SaveState(slot, 128, 0) },
		func() { p.queue.SaveState(slot, 64, l.Snapshots) },
		func() { p.queue.SaveState(l.Slots, 64, 0) },
		func() { p.queue.LoadState(slot, 63, 0) },
		func() { p.queue.LoadState(-1, 64, 0) },
		func() { p.queue.ReadState(0, nil) },
		func() { p.queue.WriteState(0, nil) },
	} {
		if panicOf(broken) == "" {
			t.Errorf("broken use %d did not panic", i)
		}
	}
	p.lengths[0] = 100
	p.play(script{{{0, 2, -1, 0}}})
}
