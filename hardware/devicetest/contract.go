package devicetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"hearth/hardware"
	"hearth/hardware/quant"
)

func isUnsupported(err error) bool { return errors.Is(err, hardware.ErrUnsupported) }

// testContract checks what package hardware promises besides numbers.
func testContract(t *testing.T, d hardware.Device, c *Config) {
	m := newModel(modelSpec{weights: quant.F32})
	if !claims(d, m.Program) {
		t.Skip("not claimed")
	}
	kv := d.Info().StreamFormats[0]
	sequences := randomSequences(rand.New(rand.NewPCG(9, 9)), m.vocab, 100, 100)
	l := modelLimits(kv, 20, sequences)
	t.Run("allocations", func(t *testing.T) { testAllocations(t, d, c, m, l, sequences) })
	t.Run("counters", func(t *testing.T) { testCounters(t, newPlayer(t, d, m, l, sequences)) })
	t.Run("broken batches", func(t *testing.T) { testBrokenBatches(t, newPlayer(t, d, m, l, sequences)) })
	t.Run("plan", func(t *testing.T) { testPlan(t, d, m, l) })
	t.Run("output", func(t *testing.T) { testOutput(t, newPlayer(t, d, m, l, sequences)) })
	t.Run("trace", func(t *testing.T) { testTrace(t, d, m, l, sequences) })
	for _, v := range c.Variants {
		t.Run("trace/"+v.Name, func(t *testing.T) { testTrace(t, opened(t, v.Open), m, l, sequences) })
	}
	t.Run("close", func(t *testing.T) {
		q, err := d.Load(context.Background(), m.Program, l)
		if err != nil {
			t.Fatal(err)
		}
		q.Idle()
		for range 2 {
			if err := q.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		}
	})
	t.Run("stopped load", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := d.Load(ctx, m.Program, l); !errors.Is(err, context.Canceled) {
			t.Errorf("Load with a stopped context: %v", err)
		}
	})
}

// testAllocations checks that steps allocate nothing, on the device and on its variants.
func testAllocations(t *testing.T, d hardware.Device, c *Config, m *model, l hardware.Limits, sequences [][]int32) {
	if c.Allocates {
		t.Skip("the device may allocate")
	}
	wantNoAllocations(t, newPlayer(t, d, m, l, sequences))
	for _, v := range c.Variants {
		wantNoAllocations(t, newPlayer(t, opened(t, v.Open), m, l, sequences))
	}
}

func wantNoAllocations(t *testing.T, p *player) {
	p.play(script{{{0, 20, -1, 0}}})
	p.fill([]advance{{0, 1, 20, 0}, {1, 5, 0, 0}})
	n := testing.AllocsPerRun(20, func() {
		p.queue.Run(p.model.trunk, p.batch)
		p.batch.Spans[0].Start++ // a slot's sequence goes on, the other one begins anew
		if err := p.queue.Sync(); err != nil {
			t.Error(err)
		}
	})
	if n != 0 {
		t.Errorf("a step allocates %v times", n)
	}
}

// testCounters checks that each weight is multiplied once per step, however many rows there are.
func testCounters(t *testing.T, p *player) {
	before := p.queue.Counters()
	p.play(script{{{0, 1, -1, 0}}})
	one := p.queue.Counters()
	p.play(script{{{0, 7, -1, 0}, {1, 13, -1, 0}}})
	many := p.queue.Counters()
	if one.Steps-before.Steps != 1 || one.Rows-before.Rows != 1 || many.Steps-one.Steps != 1 || many.Rows-one.Rows != 20 {
		t.Errorf("counters %+v, after a row %+v, after 20 more %+v", before, one, many)
	}
	if first, second := one.WeightBytes-before.WeightBytes, many.WeightBytes-one.WeightBytes; first == 0 || first != second {
		t.Errorf("%d bytes of weights multiplied for one row, %d for 20", first, second)
	}
}

// testBrokenBatches checks that a batch that breaks the contract panics and says what is wrong with it, and that the
// queue works afterwards.
func testBrokenBatches(t *testing.T, p *player) {
	breaks := []struct {
		word string
		do   func(b *hardware.Batch)
	}{
		{"token", func(b *hardware.Batch) { b.Tokens[1] = int32(p.model.vocab) }},
		{"token", func(b *hardware.Batch) { b.Tokens[0] = -1 }},
		{"span", func(b *hardware.Batch) { b.Spans[0].Len = 0 }},
		{"span", func(b *hardware.Batch) { b.Spans[0].Row = 1 }},
		{"span", func(b *hardware.Batch) { b.Spans[0].Start = 1 << 20 }},
		{"table", func(b *hardware.Batch) { b.Spans[0].Table = 5 }},
		{"block", func(b *hardware.Batch) { b.Tables[0] = -1 }},
		{"block", func(b *hardware.Batch) { b.Tables[0] = 1000 }},
		{"output", func(b *hardware.Batch) { b.Outputs[0] = 7 }},
		{"inputs", func(b *hardware.Batch) { b.Inputs = append(b.Inputs, 0) }},
		{"input", func(b *hardware.Batch) { b.Inputs = append(b.Inputs, 0, 1000) }},
		{"spans cover", func(b *hardware.Batch) { b.Tokens = b.Tokens[:1]; b.Outputs = b.Outputs[:0] }},
	}
	for i, broken := range breaks {
		p.fill([]advance{{0, 2, 0, 0}})
		broken.do(p.batch)
		message := panicOf(func() { p.queue.Run(p.model.trunk, p.batch) })
		if !strings.Contains(message, broken.word) {
			t.Errorf("broken batch %d: panic %q, want one naming %q", i, message, broken.word)
		}
	}
	p.play(script{{{0, 2, 0, 0}}})
}

// panicOf returns what f panicked with, "" when it did not.
func panicOf(f func()) (message string) {
	defer func() {
		if r := recover(); r != nil {
			message = fmt.Sprint(r)
		}
	}()
	f()
	return ""
}

// testPlan checks that measuring needs no data, and that a program without data is not loaded.
func testPlan(t *testing.T, d hardware.Device, m *model, l hardware.Limits) {
	want, err := d.Measure(m.Program, l)
	if err != nil {
		t.Fatal(err)
	}
	if want.Weights <= 0 || want.Block <= 0 || want.Blocks < want.Block*int64(l.Blocks) || want.Scratch <= 0 {
		t.Errorf("Measure: %+v", want)
	}
	empty := newModel(modelSpec{weights: quant.F32})
	empty.ReleaseData()
	got, err := d.Measure(empty.Program, l)
	if err != nil || got != want {
		t.Errorf("Measure without data: %+v, %v, want %+v", got, err, want)
	}
	if q, err := d.Load(context.Background(), empty.Program, l); err == nil {
		q.Close()
		t.Error("Load without data succeeded")
	}
}

// testOutput checks that an output stays as it is while nothing runs, and may be written to.
func testOutput(t *testing.T, p *player) {
	p.play(script{{{0, 3, -1, 0}}})
	first := p.queue.Output(p.model.logits, 0)
	clear(first)
	if p.queue.Output(p.model.logits, 1)[0] == 0 {
		t.Error("writing to one row of an output changed another")
	}
	if panicOf(func() { p.queue.Output(p.model.logits, 3) }) == "" {
		t.Error("an output of a row that was not asked for did not panic")
	}
}

// testTrace compares every operation of a model with the reference, on devices that show them.
func testTrace(t *testing.T, d hardware.Device, m *model, l hardware.Limits, sequences [][]int32) {
	p := newPlayer(t, d, m, l, sequences)
	tracer, ok := p.queue.(hardware.Tracer)
	if !ok {
		t.Skip("the device shows no operations")
	}
	ref := NewReference(m.Program, l)
	p.fill([]advance{{0, 9, 0, 0}, {1, 3, 0, 0}})
	ref.Begin(p.batch)
	next := 0
	tracer.SetTrace(func(op int, rows []float32) {
		if op != next {
			t.Errorf("operation %d traced after %d", op, next-1)
		}
		next++
		ref.Step(m.trunk, op)
		var total meter
		if want := ref.destination(m.trunk, op); want != nil {
			if len(rows) != len(want) {
				t.Fatalf("operation %d: %d elements, want %d", op, len(rows), len(want))
			}
			total.add(rows, want)
		}
		total.check(t, fmt.Sprintf("operation %d, %s", op, m.Ops(m.trunk)[op].Args.Kind()), 10*defaultError)
	})
	p.queue.Run(m.trunk, p.batch)
	if err := p.queue.Sync(); err != nil {
		t.Fatal(err)
	}
	tracer.SetTrace(nil)
	if next != len(m.Ops(m.trunk)) {
		t.Errorf("%d operations traced of %d", next, len(m.Ops(m.trunk)))
	}
	p.play(script{{{0, 9, 0, 0}}})
}
