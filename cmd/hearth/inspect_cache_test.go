package main

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hearth/cmd/sharedtest"
)

// TestInspectCache shows the cache of a model with one layer of attention among three of gated delta rules.
func TestInspectCache(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tiny.gguf")
	if err := os.WriteFile(path, sharedtest.ReadFile(t, "testdata", "golden", "tiny-qwen35.gguf.gz"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := inspectJSON(t, path)
	if err != nil {
		t.Fatal(err)
	}
	const perToken, snapshot = 2 * 2 * 64, 4 * 3 * (3*512 + 4*64*64) // elements and bytes
	m := &r.Memory
	if want := map[string]int64{"F32": 4 * perToken, "F16": 2 * perToken, "BF16": 2 * perToken, "Q8_0": perToken / 32 * 34}; !maps.Equal(m.KVBytesPerToken, want) {
		t.Errorf("cache per token: %v, want %v", m.KVBytesPerToken, want)
	}
	if m.SnapshotBytes != snapshot || m.StateBytes <= snapshot {
		t.Errorf("a snapshot of %d bytes and a running state of %d, want %d and more", m.SnapshotBytes, m.StateBytes, snapshot)
	}
	last := m.Contexts[len(m.Contexts)-1]
	if last.Tokens != r.Hyperparameters.ContextLength || last.Bytes["F16"] != 2*perToken*int64(last.Tokens)+m.StateBytes ||
		m.TotalBytesF16 != m.WeightBytes+last.Bytes["F16"] {
		t.Errorf("%d tokens take %v, all %d", last.Tokens, last.Bytes, m.TotalBytesF16)
	}
	if len(m.Layers) != 2 || !slices.Equal(m.Layers[0].Layers, []int{0, 1, 2}) || !slices.Equal(m.Layers[1].Layers, []int{3}) ||
		m.Layers[0].StateBytes*3 != snapshot || m.Layers[1].BytesPerToken["F16"] != 2*perToken {
		t.Errorf("layers: %+v", m.Layers)
	}
	if p := m.Plan; p == nil || p.Problem != "" || p.Sequences < 1 || p.Snapshots < 2 || p.StateBytes < m.StateBytes {
		t.Errorf("plan: %+v", p)
	}
	text, err := execute(t, "inspect", path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"of state while it runs", "0-2 ", "state 4 × 64 × 64", "key 2 × 64, value 2 × 64", "plan here", "are kept"} {
		if !strings.Contains(text, want) {
			t.Errorf("the text lacks %q:\n%s", want, text)
		}
	}
}

// TestInspectMemoryNeeded wants what is needed and what is planned in the same format of the cache.
func TestInspectMemoryNeeded(t *testing.T) {
	for weights, kv := range map[string]string{"f32": "F32", "q8_0": "Q8_0"} {
		path := synth(t, "--size", "tiny", "--quant", weights)
		r, err := inspectJSON(t, path)
		if err != nil {
			t.Fatal(err)
		}
		m := &r.Memory
		if m.KVType != kv || m.Plan == nil || m.Plan.Format != kv || m.TotalBytes != m.WeightBytes+m.KVBytesOfContext[kv] {
			t.Errorf("%s: %+v, plan %+v", weights, m, m.Plan)
		}
		text, err := execute(t, "inspect", path)
		if err != nil || !strings.Contains(text, "one full sequence at "+kv) || !strings.Contains(text, "of cache at "+kv) {
			t.Errorf("%s: %v\n%s", weights, err, text)
		}
	}
}

func TestRanges(t *testing.T) {
	for _, test := range []struct {
		numbers []int
		want    string
	}{{nil, ""}, {[]int{3}, "3"}, {[]int{0, 1, 2, 4, 6, 7}, "0-2, 4, 6-7"}, {[]int{1, 3, 5, 7, 9, 10}, "1, 3, 5, … 9-10 (6)"}} {
		if got := ranges(test.numbers); got != test.want {
			t.Errorf("ranges(%v) = %q, want %q", test.numbers, got, test.want)
		}
	}
}
