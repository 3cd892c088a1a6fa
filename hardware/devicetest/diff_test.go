package devicetest_test

import (
	"context"
	"strings"
	"testing"

	"hearth/hardware"
	"hearth/hardware/cpu"
	"hearth/hardware/devicetest"
	"hearth/hardware/quant"
)

// record records a norm and two products; the second one's weights are all of the given value.
func record(value float32) *hardware.Program {
	p := hardware.NewProgram("diff")
	weight := func(name string, out, in int, value float32) hardware.Weight {
		x, data := make([]float32, out*in), make([]byte, 4*out*in)
		for i := range x {
			x[i] = value + float32(i%7)/8
		}
		quant.F32.Quantize(data, x)
		return p.Weight(hardware.WeightInfo{Name: name, Format: quant.F32, Out: out, In: in, Data: data})
	}
	p.Section("trunk")
	x := p.Embed(weight("table", 10, 8, 1))
	p.FFN(3)
	h := p.MatMul(p.Norm(x, weight("norm", 1, 8, 1), 1e-5), weight("first", 8, 8, 0.5))
	p.MatMulAdd(x, h, weight("second", 8, 8, value))
	p.Output("y", p.Gather(x))
	return p
}

func openTracer(t *testing.T, p *hardware.Program, o cpu.Options) hardware.Queue {
	t.Helper()
	d, err := cpu.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	q, err := d.Load(context.Background(), p, hardware.Limits{Tokens: 4, Spans: 1, Outputs: 4, MaxLen: 8, Blocks: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.Close(); err != nil {
			t.Error(err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return q
}

func TestDiff(t *testing.T) {
	plain := cpu.Options{Threads: 1, NoFuse: true, ISA: "go"}
	p := record(1)
	a, b, other := openTracer(t, p, plain), openTracer(t, p, cpu.Options{Threads: 2, NoFuse: true}), openTracer(t, record(1.5), plain)
	step := devicetest.DiffStep{Program: p, Tolerance: 1e-6, Batch: &hardware.Batch{
		Tokens: []int32{1, 2, 3}, Spans: []hardware.Span{{Len: 3}}, Outputs: []int32{0, 2}, Tables: []int32{0},
	}}
	if found, err := devicetest.Diff(a, b, step); err != nil || found != "" {
		t.Errorf("the same program on two levels: %q, %v", found, err)
	}
	found, err := devicetest.Diff(a, other, step)
	if err != nil || !strings.Contains(found, "operation 3, layer 3 ffn: MatMul: row 0, column 0") {
		t.Errorf("another weight: %q, %v, want the fourth operation named", found, err)
	}
	fused := openTracer(t, p, cpu.Options{Threads: 1})
	if _, err := devicetest.Diff(a, fused, step); err == nil {
		t.Error("a queue that shows nothing was compared")
	}
}
