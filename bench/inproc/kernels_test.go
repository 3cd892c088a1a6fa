package inproc_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"hearth/bench/inproc"
	"hearth/hardware/quant"
)

// TestKernels measures every operation on little memory and checks what does not depend on speed.
func TestKernels(t *testing.T) {
	if testing.Short() {
		t.Skip("some seconds of arithmetic")
	}
	report, err := inproc.Kernels(context.Background(), inproc.KernelOptions{
		Device: openDevice(t), Formats: []*quant.Format{quant.Q8_0}, ColdBytes: 1 << 20,
	})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, r := range report.Rows {
		seen[r.Op] = true
		if r.Bytes <= 0 || r.Seconds < 0 || r.Rows < 1 || r.Bounds.ReadBytes <= 0 {
			t.Errorf("row %+v", r)
		}
		if (r.Op == "linear" || r.Op == "attention") && (r.Ops <= 0 || r.ComputeShare <= 0 || r.Seconds == 0) {
			t.Errorf("%s without arithmetic: %+v", r.Op, r)
		}
		if r.Op == "linear" && r.Rows == 1 && r.Shape == "4096x4096" {
			if want := 4096.0 * 4096 * 34 / 32; r.Bytes != want || r.Ops != 2*4096*4096 { // a scale of two bytes for 32 weights
				t.Errorf("a matrix of Q8_0 has %g bytes and takes %g operations, want %g bytes", r.Bytes, r.Ops, want)
			}
		}
	}
	for _, op := range inproc.KernelOps {
		if op != "part" && !seen[op] {
			t.Errorf("nothing was measured of %s", op)
		}
	}
	if !seen["scores"] || !seen["prepare"] {
		t.Error("nothing was measured of parts")
	}
}

func TestKernelsRefuses(t *testing.T) {
	device := openDevice(t)
	for _, c := range []struct {
		options inproc.KernelOptions
		want    string
	}{
		{inproc.KernelOptions{}, "Device"},
		{inproc.KernelOptions{Device: device, Ops: []string{"conv"}}, `"conv"`},
		{inproc.KernelOptions{Device: device, Ops: []string{"norm", "attention"}, Formats: []*quant.Format{quant.Q4_K}}, "attention wants some of"},
		{inproc.KernelOptions{Device: device, ColdBytes: -1}, "ColdBytes is -1"},
	} {
		if _, err := inproc.Kernels(context.Background(), c.options); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want one with %q", err, c.want)
		}
	}
}

func TestKernelsNarrows(t *testing.T) {
	var ops []string
	_, err := inproc.Kernels(context.Background(), inproc.KernelOptions{
		Device: openDevice(t), Ops: []string{"norm", "add"}, ColdBytes: 1 << 20,
		Row: func(r inproc.KernelRow) { ops = append(ops, r.Op) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if slices.Sort(ops); len(slices.Compact(ops)) != 2 {
		t.Errorf("measured %v, want norm and add", ops)
	}
}
