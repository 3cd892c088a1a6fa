package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fixture writes a tree of files and returns its root.
func fixture(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		writeTest(t, path, []byte(content))
	}
	return root
}

// TestDoctor describes a machine from its files: one Inferentia2 device, one NVIDIA card without a driver.
func TestDoctor(t *testing.T) {
	root := fixture(t, map[string]string{
		"proc/meminfo":                  "MemTotal: 16777216 kB\nMemFree: 1048576 kB\nMemAvailable: 8388608 kB\n",
		"sys/devices/system/cpu/online": "0-3", "dev/neuron0": "", "sys/module/neuron/version": "2.22.2.0",
		"sys/bus/pci/devices/0000:00:1f.0/vendor": "0x1d0f", "sys/bus/pci/devices/0000:00:1f.0/device": "0x7264",
		"sys/bus/pci/devices/0000:00:1f.0/class":  "0x088000",
		"sys/bus/pci/devices/0000:01:00.0/vendor": "0x10de", "sys/bus/pci/devices/0000:01:00.0/device": "0x2335",
		"sys/bus/pci/devices/0000:01:00.0/class": "0x030200",
	})
	out, err := execute(t, "doctor", "--root", root, "--json")
	if err != nil {
		t.Fatal(err)
	}
	var machine struct {
		CPU          map[string]any
		Memory       map[string]any
		Limits       map[string]any
		Accelerators []map[string]any
	}
	if err := json.Unmarshal([]byte(out), &machine); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if machine.CPU["threads"] != 4.0 || machine.Memory["total_bytes"] != float64(16<<30) || machine.Limits["cgroup_version"] != 0.0 {
		t.Errorf("cpu %v, memory %v, limits %v", machine.CPU, machine.Memory, machine.Limits)
	}
	want := []map[string]any{
		{"kind": "neuron", "name": "Inferentia2", "index": 0.0, "cores": 2.0, "memory_bytes": float64(32 << 30), "driver": "2.22.2.0", "usable": true, "reason": ""},
		{"kind": "nvidia", "name": "NVIDIA GPU 10de:2335", "index": 0.0, "cores": 0.0, "memory_bytes": 0.0, "driver": "", "usable": false, "reason": "no NVIDIA driver is loaded"},
	}
	if len(machine.Accelerators) != len(want) {
		t.Fatalf("accelerators %v, want %d", machine.Accelerators, len(want))
	}
	for i, fields := range want {
		for name, value := range fields {
			if got := machine.Accelerators[i][name]; got != value {
				t.Errorf("accelerator %d: %s is %v (%T), want %v", i, name, got, got, value)
			}
		}
	}
	text, err := execute(t, "doctor", "--root", root)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"16.0 GiB, 8.00 GiB available", "none\n", "neuron 0", "Inferentia2", "32.0 GiB", "no: no NVIDIA driver is loaded"} {
		if !strings.Contains(text, want) {
			t.Errorf("the text lacks %q:\n%s", want, text)
		}
	}
}

// TestDoctorEmpty lists nothing as a list, not as null.
func TestDoctorEmpty(t *testing.T) {
	out, err := execute(t, "doctor", "--root", t.TempDir(), "--json")
	if err != nil || !strings.Contains(out, `"accelerators": []`) {
		t.Errorf("%v\n%s", err, out)
	}
	if text, err := execute(t, "doctor", "--root", t.TempDir()); err != nil || !strings.Contains(text, "No accelerators.") {
		t.Errorf("%v\n%s", err, text)
	}
	for _, root := range []string{filepath.Join(t.TempDir(), "absent"), fixture(t, map[string]string{"file": ""}) + "/file"} {
		if _, err := execute(t, "doctor", "--root", root); err == nil || !strings.Contains(err.Error(), "--root") {
			t.Errorf("%s: %v, want an error that names --root", root, err)
		}
	}
}

// TestDoctorLevels names what the kernels of this machine use, and why nothing better.
func TestDoctorLevels(t *testing.T) {
	out, err := execute(t, "doctor", "--json")
	if err != nil {
		t.Fatal(err)
	}
	var report struct {
		Level  string                          `json:"kernel_level"`
		Levels []struct{ Name, Reason string } `json:"kernel_levels"`
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text, err := execute(t, "doctor")
	if err != nil {
		t.Fatal(err)
	}
	used := false
	for _, l := range report.Levels {
		used = used || l.Name == report.Level
		if !used && (l.Reason == "" || !strings.Contains(text, "not "+l.Name+": "+l.Reason)) {
			t.Errorf("level %s is better than %s, and its reason %q not in\n%s", l.Name, report.Level, l.Reason, text)
		}
	}
	if last := report.Levels[len(report.Levels)-1]; !used || last.Name != "go" || last.Reason != "" {
		t.Errorf("levels %+v, want %s among them and go as the last", report.Levels, report.Level)
	}
}

// TestISA checks that every command which opens a device can be told a level, and says which there are.
func TestISA(t *testing.T) {
	model := filepath.Join(t.TempDir(), "none.gguf")
	for _, args := range [][]string{
		{"serve", "--addr", "127.0.0.1:0"},
		{"run", "stories260k", "Once"},
		{"logits", "--model", model, "--tokens", "1", "--out", filepath.Join(t.TempDir(), "out")},
		{"bench", "model", "--model", model},
	} {
		_, err := execute(t, append(args, "--isa", "z80")...)
		if err == nil || !strings.HasPrefix(err.Error(), `--isa: cpu: level "z80" is not available, this machine runs `) {
			t.Errorf("%v: got %v, want an error that names --isa and the levels of this machine", args, err)
		}
	}
}
