package cpu

import (
	"testing"

	"hearth/hardware"
	"hearth/hardware/quant"
)

// TestNormIsNotFused has what follows a norm write over the rows that it normalises: a worker that begins late would read
// them changed.
func TestNormIsNotFused(t *testing.T) {
	for _, c := range []struct {
		name   string
		want   int // operations of the norm's group; 0: none
		record func(p *hardware.Program, x, h hardware.Tensor, w hardware.Weight)
	}{
		{"a unit apart", 4, func(p *hardware.Program, _, h hardware.Tensor, w hardware.Weight) {
			p.GLU(hardware.SiLU, p.MatMul(h, w), p.MatMul(h, w))
		}},
		{"a unit over the rows", 0, func(p *hardware.Program, x, h hardware.Tensor, w hardware.Weight) {
			p.Gate(hardware.GLUArgs{Gate: p.MatMul(h, w), Up: p.MatMul(h, w), Dst: x})
		}},
		{"a product added to the rows", 0, func(p *hardware.Program, x, h hardware.Tensor, w hardware.Weight) {
			p.MatMulAdd(x, h, w)
		}},
	} {
		p := hardware.NewProgram("norm")
		p.Section("trunk")
		x := p.Temp(hardware.Tokens, 1, 8)
		h := p.Normalize(hardware.NormArgs{X: x})
		c.record(p, x, h, p.Weight(hardware.WeightInfo{Name: "w", Format: quant.F32, Out: 8, In: 8}))
		if err := p.Err(); err != nil {
			t.Fatal(err)
		}
		compiler := &compiler{queue: &queue{program: p}, outputOf: map[int]bool{}}
		if ops := p.Ops(0); compiler.normedLen(ops, ops) != c.want {
			t.Errorf("%s: a group of %d operations, want %d", c.name, compiler.normedLen(ops, ops), c.want)
		}
	}
}
