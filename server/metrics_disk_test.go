package server

import (
	"path/filepath"
	"strings"
	"testing"

	"hearth/engine"
	"hearth/kvcache/disk"
)

// TestDiskMetrics checks that what the disk store does can be seen, and that there are no series of a store that is not.
func TestDiskMetrics(t *testing.T) {
	store, err := disk.Open(disk.Options{Dir: filepath.Join(t.TempDir(), "cache"), MaxBytes: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	s := startServer(t, Options{}, engine.Options{Disk: store})
	if a := s.post("/v1/completions", completionBody(`"Once upon a time there was a little dog. It was happy. `+strings.Repeat("It ran. ", 60)+`"`, `"max_tokens":2`)); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	metrics := string(s.get("/metrics").body)
	for _, line := range []string{"hearth_disk_failing 0\n", "hearth_disk_budget_bytes 6.7108864e+07\n", "hearth_disk_dropped_total 0\n"} {
		if !strings.Contains(metrics, line) {
			t.Errorf("/metrics lacks %q", line)
		}
	}
	if metrics := string(sharedServer(t).get("/metrics").body); strings.Contains(metrics, "hearth_disk_") {
		t.Error("there are figures of a disk store that is not")
	}
}
