package inproc_test

import (
	"context"
	"math"
	"strings"
	"testing"

	"hearth/bench/inproc"
	"hearth/hardware"
	"hearth/hardware/cpu"
)

func openDevice(t *testing.T) hardware.Device {
	t.Helper()
	d, err := cpu.Open(cpu.Options{Threads: 1, FreeBytes: 1 << 29})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// TestModel measures the embedded model and checks what does not depend on speed.
func TestModel(t *testing.T) {
	report, err := inproc.Model(context.Background(), inproc.ModelOptions{
		Device: openDevice(t), Prompt: 20, Generate: 8, Batches: []int{1, 3}, Depths: []int{0, 130}, Repeat: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	if report.Architecture != "llama" || report.KV != "F32" || report.WeightBytes == 0 || report.LoadSeconds <= 0 {
		t.Errorf("report %+v", report)
	}
	type test struct {
		name             string
		sequences, depth int
	}
	want := []test{{"prefill", 1, 0}, {"prefill", 1, 192}, {"decode", 1, 0}, {"decode", 3, 0}, {"decode", 1, 192}, {"decode", 3, 192}}
	if len(report.Rows) != len(want) {
		t.Fatalf("%d rows, want %d", len(report.Rows), len(want))
	}
	for i, r := range report.Rows {
		if got := (test{r.Test, r.Sequences, r.Depth}); got != want[i] {
			t.Errorf("row %d is %v, want %v", i, got, want[i])
		}
		if r.Rate <= 0 || r.Lowest > r.Rate || r.Highest < r.Rate || r.StepSeconds <= 0 || r.LoopShare <= 0 || r.LoopShare >= 1 ||
			r.ReadShare <= 0 || r.ComputeShare <= 0 {
			t.Errorf("row %d has rates that cannot be: %+v", i, r)
		}
	}
	// Five layers of four heads: keys of 8 float32, and values of 8 in panels of 16. The sequences need not begin in one
	// step, nor end so, which moves the mean position by some.
	const positionBytes = 5 * 4 * (8 + 16) * 4
	near, far := report.Rows[3], report.Rows[5]
	if got, want := far.KVBytes-near.KVBytes, 3*192*float64(positionBytes); got > want+3*4*positionBytes || got < want-3*4*positionBytes {
		t.Errorf("a step behind 192 tokens reads %g more bytes of cache for 3 sequences, want %g", got, want)
	}
	if near.Bytes-near.KVBytes != far.Bytes-far.KVBytes || near.Bytes <= near.KVBytes {
		t.Errorf("steps read %g and %g bytes of weights", near.Bytes-near.KVBytes, far.Bytes-far.KVBytes)
	}
	if math.Abs(near.OpsRate/near.Rate-far.OpsRate/far.Rate) > 1 {
		t.Errorf("a token takes %g and %g operations", near.OpsRate/near.Rate, far.OpsRate/far.Rate)
	}
}

// TestModelRunsSequencesTogether checks that the cache has room for many of them.
func TestModelRunsSequencesTogether(t *testing.T) {
	report, err := inproc.Model(context.Background(), inproc.ModelOptions{
		Device: openDevice(t), Generate: 4, Batches: []int{64}, Depths: []int{0, 100}, Repeat: 1, MaxBatchTokens: 64,
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Rows) != 2 {
		t.Errorf("%d rows, want 2", len(report.Rows))
	}
}

func TestModelRefuses(t *testing.T) {
	device := openDevice(t)
	for _, c := range []struct {
		options inproc.ModelOptions
		want    string
	}{
		{inproc.ModelOptions{}, "Device"},
		{inproc.ModelOptions{Device: device, Prompt: -1}, "Prompt is -1"},
		{inproc.ModelOptions{Device: device, Generate: 1, Batches: []int{1, 0}, Depths: []int{0}}, "Batches is 0"},
		{inproc.ModelOptions{Device: device, Generate: 1, Batches: []int{1}, Depths: []int{4096}}, "context length"},
		{inproc.ModelOptions{Device: device, Path: "absent.gguf", Prompt: 1, Depths: []int{0}}, "absent.gguf"},
	} {
		if _, err := inproc.Model(context.Background(), c.options); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want one with %q", err, c.want)
		}
	}
}

func TestModelStops(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	_, err := inproc.Model(ctx, inproc.ModelOptions{
		Device: openDevice(t), Prompt: 8, Depths: []int{0}, Repeat: 1000,
		Progress: func(string) { cancel() },
	})
	if err == nil || !strings.Contains(err.Error(), context.Canceled.Error()) {
		t.Errorf("a bench that is cancelled returns %v", err)
	}
}
