package devicetest

import (
	"math"
	"slices"
	"testing"

	"hearth/hardware"
	"hearth/hardware/quant"
)

// deltaProgram records a convolution and a delta rule.
func deltaProgram(heads hardware.HeadMap) *hardware.Program {
	const keyHeads, valueHeads, keyDim, valueDim, taps = 2, 4, 6, 5, 4
	const queries, values = keyHeads * keyDim, valueHeads * valueDim
	b := newBuilder("delta", 3)
	ring := b.Ring(hardware.RingInfo{Name: "rows", Dim: 2*queries + values, Reach: taps - 1})
	state := b.Delta(hardware.DeltaInfo{Name: "state", KeyHeads: keyHeads, ValueHeads: valueHeads, KeyDim: keyDim, ValueDim: valueDim, Map: heads})
	b.Section("trunk")
	x := b.Embed(b.table(opVocab, 2*queries+values+2*valueHeads))
	rows := x.Cols(0, 2*queries+values)
	c := b.Conv(rows, ring, b.matrix("conv", quant.F32, 2*queries+values, taps))
	b.Remember(ring, rows)
	o := b.DeltaRule(hardware.DeltaRuleArgs{
		Q: c.Cols(0, queries).Heads(keyHeads), K: c.Cols(queries, queries).Heads(keyHeads), V: c.Cols(2*queries, values).Heads(valueHeads),
		A: x.Cols(2*queries+values, valueHeads), B: x.Cols(2*queries+values+valueHeads, valueHeads),
		Decay: b.around("decay", valueHeads, -0.2), Bias: b.vector("bias", valueHeads), State: state,
	})
	b.show("y", o)
	return b.Program
}

// rowsOfReference feeds positions [start, start+len(tokens)) of slot 0 and returns the rows of output 0.
func rowsOfReference(r *Reference, start int, tokens []int32) [][]float64 {
	b := &hardware.Batch{Tokens: tokens, Spans: []hardware.Span{{Len: int32(len(tokens)), Start: int32(start)}}}
	for i := range tokens {
		b.Outputs = append(b.Outputs, int32(i))
	}
	r.Run(0, b)
	var rows [][]float64
	for i := range tokens {
		rows = append(rows, slices.Clone(r.Output(0, i)))
	}
	return rows
}

// TestReferenceState cuts a sequence in several ways, takes rows back, and goes on from a snapshot in another slot.
func TestReferenceState(t *testing.T) {
	tokens := make([]int32, 150)
	for i := range tokens {
		tokens[i] = int32(i * i % opVocab)
	}
	for _, heads := range []hardware.HeadMap{hardware.Grouped, hardware.Tiled} {
		p := deltaProgram(heads)
		if err := p.Err(); err != nil {
			t.Fatal(err)
		}
		want := rowsOfReference(NewReference(p, hardware.Limits{}), 0, tokens)
		r := NewReference(p, hardware.Limits{})
		check := func(start int, tokens []int32) {
			t.Helper()
			for i, row := range rowsOfReference(r, start, tokens) {
				if !slices.Equal(row, want[start+i]) {
					t.Fatalf("map %d, position %d: %v, want %v", heads, start+i, row, want[start+i])
				}
			}
		}
		check(0, tokens[:70])
		check(70, tokens[70:75])
		rowsOfReference(r, 75, []int32{1, 2, 3}) // taken back
		check(75, tokens[75:128])
		r.SaveState(0, 128, 1)
		check(128, tokens[128:])
		rowsOfReference(r, 0, []int32{1, 2, 3}) // another sequence
		r.LoadState(0, 128, 1)
		check(128, tokens[128:140])
	}
}

// TestReferenceDelta computes two positions of one head by hand.
func TestReferenceDelta(t *testing.T) {
	x := deltaRow{q: []float64{1, 2}, k: []float64{0.5, 1}, v: []float64{3}, beta: 0.5, g: math.Log(0.5)}
	first, second := make([]float64, 2), make([]float64, 2)
	y := advanceDelta(first, []float64{0, 0}, x)
	if !slices.Equal(first, []float64{0.75, 1.5}) || y[0] != 3.75 {
		t.Errorf("state %v, result %v", first, y)
	}
	// The state decays to 0.375, 0.75, which the key reads as 0.9375; the difference to 3 is 2.0625, half of it 1.03125.
	y = advanceDelta(second, first, x)
	if want := []float64{0.375 + 0.515625, 0.75 + 1.03125}; !slices.Equal(second, want) || y[0] != want[0]+2*want[1] {
		t.Errorf("state %v, result %v, want %v", second, y, want)
	}
}
