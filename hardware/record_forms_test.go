package hardware

import (
	"strings"
	"testing"

	"hearth/hardware/quant"
)

// TestRecordFormsMistakes records operations with one mistake each, which the error names.
func TestRecordFormsMistakes(t *testing.T) {
	for _, c := range []struct {
		record func(p *Program, x Tensor) // x is [tokens, 24]
		quoted string
	}{
		{func(p *Program, x Tensor) { p.Normalize(NormArgs{X: x, Bias: vectorOf(p, 23)}) }, "[1, 23]"},
		{func(p *Program, x Tensor) { p.Gate(GLUArgs{Gate: x.Cols(0, 2), Up: x.Cols(2, 4)}) }, "GLU"},
		{func(p *Program, x Tensor) { p.Copy(x.Heads(3), x.Cols(0, 7)) }, "Copy"},
		{func(p *Program, x Tensor) { p.GatherInputs(x) }, "not carried"},
		{func(p *Program, x Tensor) { p.Carry(p.Gather(x)) }, "rows of outputs"},
		{func(p *Program, x Tensor) { p.MatMul(x.Heads(3), stackOf(p, 4, 5, 6)) }, "[4, 5, 6]"},
		{func(p *Program, x Tensor) {
			p.MatMulAdd(p.Temp(Tokens, 4, 5), x.Heads(4), stackOf(p, 4, 5, 6))
		}, "cannot be added"},
		{func(p *Program, x Tensor) { p.Route(RouteArgs{Logits: x, TopK: 25}) }, "25 of 24"},
		{func(p *Program, x Tensor) { p.Route(RouteArgs{Logits: x, TopK: 2, Groups: 5, UsedGroups: 1}) }, "5 groups"},
		{func(p *Program, x Tensor) { p.Route(RouteArgs{Logits: x, TopK: 9, Groups: 3, UsedGroups: 1}) }, "9 of 24"},
		{func(p *Program, x Tensor) {
			p.Route(RouteArgs{Logits: x, TopK: 1, Groups: 24, UsedGroups: 1, PairRank: true})
		}, "no two best"},
		{func(p *Program, x Tensor) { p.Route(RouteArgs{Logits: x, TopK: 2, Table: []int32{0, 1, 2}}) }, "table of 3"},
		{func(p *Program, x Tensor) { p.Route(RouteArgs{Logits: x, TopK: 2, Table: []int32{0, 24}}) }, "expert 24 of 24"},
		{func(p *Program, x Tensor) { p.Route(RouteArgs{Logits: x, TopK: 2, Bias: vectorOf(p, 3)}) }, "[1, 3]"},
		{func(p *Program, x Tensor) {
			p.HyperPre(HyperPreArgs{X: x.Cols(0, 16).Heads(2), Mix: x.Cols(16, 8), Scale: vectorOf(p, 3), Base: vectorOf(p, 8)})
		}, "0 iterations"},
		{func(p *Program, x Tensor) {
			p.HyperPre(HyperPreArgs{X: x.Cols(0, 16).Heads(2), Mix: x.Cols(16, 7), Scale: vectorOf(p, 3), Base: vectorOf(p, 7)})
		}, "mix of 7 for 2 streams"},
		{func(p *Program, x Tensor) {
			p.HyperPost(x.Cols(0, 8).Heads(2), p.Temp(Tokens, 1, 4), p.Temp(Tokens, 1, 5))
		}, "5 coefficients"},
		{func(p *Program, x Tensor) {
			p.HyperPost(x.Cols(0, 8).Heads(2), x.Cols(0, 4), p.Temp(Tokens, 1, 6))
		}, "share a tensor"},
		{func(p *Program, x Tensor) {
			p.HyperPost(x.Cols(0, 8).Heads(2), p.Temp(Tokens, 1, 4), x.Cols(8, 6))
		}, "share a tensor"},
		{func(p *Program, x Tensor) {
			ring := p.Ring(RingInfo{Name: "window", Dim: 6, Reach: 3})
			p.Attend(AttentionArgs{Q: x.Heads(4), Sources: []Source{{Recent: x.Cols(0, 6), Ring: ring, ValueDim: 7}}, Scale: 1})
		}, "first 7 elements of rows of 6"},
		{func(p *Program, x Tensor) {
			s := p.Stream(StreamInfo{Name: "entries", Heads: 1, Dim: 6, Class: LatentStream, Ratio: 4})
			p.Attend(AttentionArgs{Q: x.Heads(4), Sources: []Source{{K: s, V: s, Window: 7}}, Scale: 1})
		}, "window of 7 positions"},
	} {
		p := NewProgram("forms")
		p.Section("trunk")
		c.record(p, p.Temp(Tokens, 1, 24))
		if err := p.Err(); err == nil || !strings.Contains(err.Error(), c.quoted) {
			t.Errorf("error %v, want one with %q", err, c.quoted)
		}
	}
}

func vectorOf(p *Program, n int) Weight { return stackOf(p, 0, 1, n) }

func stackOf(p *Program, experts, out, in int) Weight {
	return p.Weight(WeightInfo{Name: "w", Format: quant.F32, Out: out, In: in, Experts: experts})
}
