package main

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"hearth/hardware"
)

func TestDeviceWarnsOfTooManyThreads(t *testing.T) {
	for _, c := range []struct {
		threads int
		want    string
	}{{1, ""}, {runtime.NumCPU() + 1, fmt.Sprintf("threads %q", fmt.Sprint(runtime.NumCPU()+1))}} {
		var out bytes.Buffer
		d := deviceFlags{name: "cpu", threads: c.threads}
		device, err := d.open(warnings(&out))
		if err != nil {
			t.Fatal(err)
		}
		if err := device.Close(); err != nil {
			t.Fatal(err)
		}
		if got := out.String(); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%d threads: %q, want %q", c.threads, got, c.want)
		}
	}
}

func TestMostThreadsKeepsTheQuota(t *testing.T) {
	for quota, want := range map[float64]int{0: runtime.NumCPU(), 0.5: 1, 1.7: 1, 1e6: runtime.NumCPU()} {
		m := hardware.Machine{Limits: hardware.ProcessLimits{CPUs: quota}}
		if got := mostThreads(&m); got != want {
			t.Errorf("quota of %v processors: %d threads, want %d", quota, got, want)
		}
	}
}
