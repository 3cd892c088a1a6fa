package hardware

import (
	"strings"
	"testing"

	"hearth/hardware/quant"
)

// stateful is a program in the making whose operations have state.
type stateful struct {
	*Program
	x     Tensor // [tokens, 40]
	ring  Ring   // of 20, reaching 3 back
	state Delta  // 1 key head of 4, 2 value heads of 6
}

func newStateful() *stateful {
	p := NewProgram("stateful")
	s := &stateful{Program: p, ring: p.Ring(RingInfo{Name: "rows", Dim: 20, Reach: 3})}
	s.state = p.Delta(DeltaInfo{Name: "delta", KeyHeads: 1, ValueHeads: 2, KeyDim: 4, ValueDim: 6})
	p.Section("trunk")
	s.x = p.Temp(Tokens, 1, 40)
	return s
}

func (s *stateful) weight(out, in int) Weight {
	return s.Weight(WeightInfo{Name: "w", Format: quant.F32, Out: out, In: in})
}

// args are right for the state.
func (s *stateful) args() DeltaRuleArgs {
	return DeltaRuleArgs{
		Q: s.x.Cols(0, 4), K: s.x.Cols(4, 4), V: s.x.Cols(8, 12).Heads(2), A: s.x.Cols(20, 2), B: s.x.Cols(22, 2),
		Decay: s.weight(1, 2), Bias: s.weight(1, 2), State: s.state,
	}
}

func TestRecordState(t *testing.T) {
	s := newStateful()
	rows := s.x.Cols(0, 20)
	s.Conv(rows, s.ring, s.weight(20, 4))
	s.Remember(s.ring, rows)
	if y := s.DeltaRule(s.args()); y.NumHeads() != 2 || y.Dim() != 6 {
		t.Errorf("a result of %d heads of %d", y.NumHeads(), y.Dim())
	}
	if err := s.Err(); err != nil || !s.Stateful() || s.RingInfo(s.ring).Keep != 3 {
		t.Errorf("%v, stateful %t, ring %+v", err, s.Stateful(), s.RingInfo(s.ring))
	}
}

func TestRecordStateMistakes(t *testing.T) {
	delta := func(change func(s *stateful, a *DeltaRuleArgs)) func(*stateful) {
		return func(s *stateful) {
			a := s.args()
			change(s, &a)
			s.DeltaRule(a)
		}
	}
	for _, c := range []struct {
		word string
		do   func(s *stateful)
	}{
		{"ring", func(s *stateful) { s.Ring(RingInfo{Name: "r", Dim: 0, Reach: 1}) }},
		{"ring", func(s *stateful) { s.Ring(RingInfo{Name: "r", Dim: 1, Reach: 0}) }},
		{"ring", func(s *stateful) { s.Ring(RingInfo{Name: "r", Dim: 1, Reach: 2, Keep: 3}) }},
		{"state", func(s *stateful) { s.Delta(DeltaInfo{Name: "d", KeyHeads: 2, ValueHeads: 3, KeyDim: 1, ValueDim: 1}) }},
		{"state", func(s *stateful) { s.Delta(DeltaInfo{Name: "d", KeyHeads: 1, ValueHeads: 1, KeyDim: 0, ValueDim: 1}) }},
		{"Conv", func(s *stateful) { s.Conv(s.x.Cols(0, 20), Ring{}, s.weight(20, 4)) }},
		{"Conv", func(s *stateful) { s.Conv(s.x.Cols(0, 19), s.ring, s.weight(20, 4)) }},
		{"Conv", func(s *stateful) { s.Conv(s.x.Cols(0, 20), s.ring, s.weight(20, 3)) }},
		{"Conv", func(s *stateful) { s.Conv(s.x.Cols(0, 20), s.ring, Weight{}) }},
		{"Conv", func(s *stateful) { s.Conv(s.Gather(s.x.Cols(0, 20)), s.ring, s.weight(20, 4)) }},
		{"Remember", func(s *stateful) { s.Remember(s.ring, s.x) }},
		{"Remember", func(s *stateful) { s.Remember(Ring{9}, s.x.Cols(0, 20)) }},
		{"no state", delta(func(s *stateful, a *DeltaRuleArgs) { a.State = Delta{} })},
		{"DeltaRule: Q", delta(func(s *stateful, a *DeltaRuleArgs) { a.Q = s.x.Cols(0, 5) })},
		{"DeltaRule: K", delta(func(s *stateful, a *DeltaRuleArgs) { a.K = s.x.Cols(0, 8).Heads(2) })},
		{"DeltaRule: V", delta(func(s *stateful, a *DeltaRuleArgs) { a.V = s.x.Cols(8, 12).Heads(3) })},
		{"DeltaRule: A", delta(func(s *stateful, a *DeltaRuleArgs) { a.A = s.x.Cols(0, 3) })},
		{"DeltaRule: A", delta(func(s *stateful, a *DeltaRuleArgs) { a.B = s.Gather(s.x.Cols(0, 2)) })},
		{"DeltaRule", delta(func(s *stateful, a *DeltaRuleArgs) { a.Decay = s.weight(1, 3) })},
		{"DeltaRule", delta(func(s *stateful, a *DeltaRuleArgs) { a.Bias = Weight{} })},
	} {
		s := newStateful()
		c.do(s)
		if err := s.Err(); err == nil || !strings.Contains(err.Error(), c.word) {
			t.Errorf("%v, want a mistake naming %q", err, c.word)
		}
	}
}

func TestValidateSlots(t *testing.T) {
	l := Limits{Tokens: 100, Spans: 2, Blocks: 3, MaxLen: 192, Slots: 2, MaxDraft: 5}
	for _, c := range []struct {
		word  string
		spans []Span
	}{
		{"", []Span{{Len: 2, Start: 60, Slot: 1, Draft: 1}, {Row: 2, Len: 70, Start: 60, Slot: 0, Draft: 2}}},
		{"", []Span{{Len: 6, Start: 58, Slot: 1, Draft: 5}}},
		{"slot 2", []Span{{Len: 1, Slot: 2}}},
		{"slot -1", []Span{{Len: 1, Slot: -1}}},
		{"both have slot", []Span{{Len: 1, Slot: 1}, {Row: 1, Len: 1, Slot: 1}}},
		{"two blocks", []Span{{Len: 6, Start: 60, Slot: 1, Draft: 3}}},
		{"drafts", []Span{{Len: 7, Start: 64, Slot: 1, Draft: 6}}},
		{"drafts", []Span{{Len: 2, Start: 64, Slot: 1, Draft: 2}}},
	} {
		b := Batch{Spans: c.spans, Tables: []int32{0, 1, 2}}
		for _, s := range c.spans {
			b.Tokens = append(b.Tokens, make([]int32, s.Len)...)
		}
		err := b.Validate(&l, 1)
		if c.word == "" && err != nil || c.word != "" && (err == nil || !strings.Contains(err.Error(), c.word)) {
			t.Errorf("%+v: %v, want one naming %q", c.spans, err, c.word)
		}
	}
}
