package cpu_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"hearth/hardware"
	"hearth/hardware/cpu"
	"hearth/hardware/quant"
)

var tinyShape = benchShape{hidden: 64, ffn: 96, heads: 4, kvHeads: 2, headDim: 32, layers: 2, vocab: 128}

func tinyLimits() hardware.Limits {
	return hardware.Limits{Tokens: 16, Spans: 2, Outputs: 4, Blocks: 4, MaxLen: 128, KV: quant.F16}
}

// TestLoadCountsMemory checks that a device gives out what it was told is free, no more, and takes back what queues
// return.
func TestLoadCountsMemory(t *testing.T) {
	p, _ := tinyShape.record(quant.Q8_0)
	plain := openWith(cpu.Options{Threads: 1})(t)
	defer plain.Close()
	m, err := plain.Measure(p, tinyLimits())
	if err != nil {
		t.Fatal(err)
	}
	need := uint64(m.Total())
	d := openWith(cpu.Options{Threads: 1, FreeBytes: need + need/2})(t)
	defer d.Close()
	for range 2 {
		q, err := d.Load(context.Background(), p, tinyLimits())
		if err != nil {
			t.Fatal(err)
		}
		if free := d.Info().FreeBytes; free != need/2 {
			t.Errorf("%d bytes free after loading, want %d", free, need/2)
		}
		if _, err := d.Load(context.Background(), p, tinyLimits()); !errors.Is(err, hardware.ErrOutOfMemory) {
			t.Errorf("a second load: %v, want ErrOutOfMemory", err)
		}
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if free := d.Info().FreeBytes; free != need+need/2 {
		t.Errorf("%d bytes free at the end, want %d", free, need+need/2)
	}
}

// TestLoadReportsProgress checks that progress only grows and ends at the total.
func TestLoadReportsProgress(t *testing.T) {
	p, _ := tinyShape.record(quant.Q8_0)
	weightBytes := 0
	for i := range p.NumWeights() {
		weightBytes += p.WeightAt(i).Bytes()
	}
	d := openWith(cpu.Options{Threads: 3})(t)
	defer d.Close()
	l := tinyLimits()
	last, total := int64(0), int64(0)
	l.Progress = func(done, all int64) {
		if done < last || done > all {
			t.Errorf("progress %d of %d after %d", done, all, last)
		}
		last, total = done, all
	}
	q, err := d.Load(context.Background(), p, l)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	if last != total || total != int64(weightBytes) {
		t.Errorf("progress ended at %d of %d, the weights have %d bytes", last, total, weightBytes)
	}
}

func TestLoadRefusesLimits(t *testing.T) {
	p, _ := tinyShape.record(quant.F32)
	d := openWith(cpu.Options{Threads: 1})(t)
	defer d.Close()
	for name, change := range map[string]func(*hardware.Limits){
		"tokens": func(l *hardware.Limits) { l.Tokens = 0 },
		"spans":  func(l *hardware.Limits) { l.Spans = -1 },
		"maxlen": func(l *hardware.Limits) { l.MaxLen = 0 },
		"blocks": func(l *hardware.Limits) { l.Blocks = -1 },
		"kv":     func(l *hardware.Limits) { l.KV = nil },
		"memory": func(l *hardware.Limits) { l.Blocks = 1 << 50 },
	} {
		l := tinyLimits()
		change(&l)
		if q, err := d.Load(context.Background(), p, l); err == nil {
			q.Close()
			t.Errorf("%s: Load accepted %+v", name, l)
		}
	}
}

// TestTiedWeightIsPackedOnce checks that a table that is also the head takes its memory once.
func TestTiedWeightIsPackedOnce(t *testing.T) {
	measure := func(record func(p *hardware.Program, w func() hardware.Weight)) int64 {
		p := hardware.NewProgram("tied")
		data := make([]byte, 4*64*32)
		p.Section("trunk")
		record(p, func() hardware.Weight {
			return p.Weight(hardware.WeightInfo{Name: "table", Format: quant.F32, Out: 64, In: 32, Data: data})
		})
		d := openWith(cpu.Options{Threads: 1})(t)
		defer d.Close()
		m, err := d.Measure(p, tinyLimits())
		if err != nil {
			t.Fatal(err)
		}
		return m.Weights
	}
	tied := measure(func(p *hardware.Program, w func() hardware.Weight) {
		table := w()
		p.Output("logits", p.MatMul(p.Gather(p.Embed(table)), table))
	})
	apart := measure(func(p *hardware.Program, w func() hardware.Weight) {
		p.Output("logits", p.MatMul(p.Gather(p.Embed(w())), w()))
	})
	if apart != 2*tied {
		t.Errorf("tied weights take %d bytes, two of them %d", tied, apart)
	}
}

// TestQueuesShareWorkers runs two queues of one device from two goroutines.
func TestQueuesShareWorkers(t *testing.T) {
	p, _ := tinyShape.record(quant.F32)
	d := openWith(cpu.Options{Threads: 2})(t)
	defer d.Close()
	results := make(chan []float32, 2)
	for range 2 {
		go func() {
			q, err := d.Load(context.Background(), p, tinyLimits())
			if err != nil {
				t.Error(err)
				results <- nil
				return
			}
			defer q.Close()
			b := hardware.NewBatch(tinyLimits())
			b.Tables = append(b.Tables, 1)
			for i := range 20 {
				b.Tokens = append(b.Tokens[:0], int32(i))
				b.Spans = append(b.Spans[:0], hardware.Span{Len: 1, Start: int32(i)})
				b.Outputs = append(b.Outputs[:0], 0)
				q.Run(0, b)
			}
			results <- append([]float32(nil), q.Output(0, 0)...)
		}()
	}
	first, second := <-results, <-results
	for i := range first {
		if first[i] != second[i] {
			t.Fatalf("logit %d: %v and %v from two queues with the same work", i, first[i], second[i])
		}
	}
}

// TestLoadStops checks that a context that has ended stops the packing, and that the memory is given back.
func TestLoadStops(t *testing.T) {
	p, _ := tinyShape.record(quant.Q8_0)
	d := openWith(cpu.Options{Threads: 2, FreeBytes: 1 << 30})(t)
	defer d.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := d.Load(ctx, p, tinyLimits()); !errors.Is(err, context.Canceled) {
		t.Errorf("Load = %v, want that its context ended", err)
	}
	if free := d.Info().FreeBytes; free != 1<<30 {
		t.Errorf("%d bytes are free afterwards, want %d", free, 1<<30)
	}
}

// TestQueueAfterPanic breaks one phase after the other in the middle of a step: the step reports it, and the next ones,
// on the same queue and on the blocks that the broken step wrote, have the bits that a new queue gives.
func TestQueueAfterPanic(t *testing.T) {
	p, _ := tinyShape.record(quant.Q8_0)
	d := openWith(cpu.Options{Threads: 3})(t)
	defer d.Close()
	load := func() (hardware.Queue, func() []float32) {
		q, err := d.Load(context.Background(), p, tinyLimits())
		if err != nil {
			t.Fatal(err)
		}
		b := hardware.NewBatch(tinyLimits())
		return q, func() []float32 {
			b.Reset()
			b.Tokens, b.Outputs, b.Tables = append(b.Tokens, 5, 9, 2, 77, 31), append(b.Outputs, 4), append(b.Tables, 2)
			b.Spans = append(b.Spans, hardware.Span{Len: 5})
			q.Run(0, b)
			if q.Sync() != nil {
				return nil
			}
			return append([]float32(nil), q.Output(0, 0)...)
		}
	}
	fresh, run := load()
	defer fresh.Close()
	want := run()
	q, run := load()
	defer q.Close()
	run()
	for phase := range cpu.BusyPhases(q) {
		mend := cpu.BreakPhase(q, phase)
		if got := run(); got != nil {
			t.Errorf("phase %d panicked and Sync reports nothing", phase)
		}
		mend()
		if got := run(); !slices.Equal(got, want) {
			t.Fatalf("after a panic in phase %d: logits %v, want %v", phase, got, want)
		}
	}
}

// TestFusedPhases counts the barriers of a decode step: six for a layer, and a few before and after. More of them are
// not wrong, but cost every token time.
func TestFusedPhases(t *testing.T) {
	p, _ := tinyShape.record(quant.Q8_0)
	d := openWith(cpu.Options{Threads: 2})(t)
	defer d.Close()
	q, err := d.Load(context.Background(), p, tinyLimits())
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	b := hardware.NewBatch(tinyLimits())
	b.Tokens, b.Outputs, b.Tables = append(b.Tokens, 1), append(b.Outputs, 0), append(b.Tables, 0)
	b.Spans = append(b.Spans, hardware.Span{Len: 1, Start: 1})
	q.Run(0, b)
	// The angles, the embedding; of a layer: q|k|v, their norm, rotation and storing, attention, output, gate|up, down;
	// the gathering, the head.
	if got, want := cpu.BusyPhases(q), 2+6*tinyShape.layers+2; got != want {
		t.Errorf("a decode step has %d phases with work, want %d", got, want)
	}
}
