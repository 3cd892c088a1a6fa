// Package checkpointtest writes models as their makers publish them, for tests: Hugging Face folders in the names, forms and
// formats of each family, from GGUF files in float32.
package checkpointtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"hearth/engine/weights"
)

// Write writes a folder of two shards with an index, and returns it.
func Write(t testing.TB, config map[string]any, tensors []weights.OutTensor) string {
	t.Helper()
	dir := t.TempDir()
	weightMap := map[string]string{}
	for i, half := range [][]weights.OutTensor{tensors[:len(tensors)/2], tensors[len(tensors)/2:]} {
		shard := fmt.Sprintf("model-0000%d-of-00002.safetensors", i+1)
		for _, tensor := range half {
			weightMap[tensor.Name] = shard
		}
		var file bytes.Buffer
		if err := weights.WriteSafetensors(&file, half); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, shard), file.Bytes())
	}
	for name, value := range map[string]any{"model.safetensors.index.json": map[string]any{"weight_map": weightMap}, "config.json": config} {
		data, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name), data)
	}
	return dir
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
