package engine

import (
	"testing"

	"hearth/hardware/gorgonia"
)

// TestLogitsOnGorgonia computes the reference logits on the independent device: what agrees with the reference here and
// on the CPU device was computed twice, by implementations that share no arithmetic.
func TestLogitsOnGorgonia(t *testing.T) {
	for _, arch := range []string{"llama", "qwen2", "qwen3", "qwen3moe"} {
		t.Run(arch, func(t *testing.T) {
			device, err := gorgonia.Open(gorgonia.Options{})
			if err != nil {
				t.Fatal(err)
			}
			r, src := readReference(t, arch), tinyModel(t, arch)
			defer src.Close()
			compare(t, src, r, LogitsOptions{Device: device, Chunk: 64})
		})
	}
}
