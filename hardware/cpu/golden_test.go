package cpu_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"testing"

	"hearth/cmd/sharedtest"
	"hearth/engine/model"
	"hearth/engine/weights"
	"hearth/hardware"
	"hearth/hardware/cpu"
	"hearth/hardware/quant"
)

// TestGoldenModels compares whole tiny models with the logits of the reference implementation.
func TestGoldenModels(t *testing.T) {
	for _, name := range []string{"tiny-llama", "tiny-qwen2", "tiny-qwen3", "tiny-qwen3moe"} {
		source, err := weights.OpenBytes(name+".gguf", sharedtest.ReadFile(t, "testdata", "golden", name+".gguf.gz"))
		if err != nil {
			t.Fatal(err)
		}
		golden, err := weights.Open(sharedtest.Path(t, "testdata", "golden", name+".golden.safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		for _, chunk := range []int{7, 512, 1} {
			if testing.Short() && chunk != 7 {
				continue
			}
			t.Run(fmt.Sprintf("%s/chunk=%d", name, chunk), func(t *testing.T) {
				checkGolden(t, source, golden, cpu.Options{Threads: 2}, chunk)
			})
		}
	}
}

func checkGolden(t *testing.T, source, golden weights.Source, o cpu.Options, chunk int) {
	m, err := model.Load(source)
	if err != nil {
		t.Fatal(err)
	}
	tokens, positions := ints(t, golden, "tokens"), ints(t, golden, "positions")
	want := tensor(t, golden, "logits")
	d, err := cpu.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	blocks := (len(tokens) + hardware.BlockLen - 1) / hardware.BlockLen
	limits := hardware.Limits{Tokens: min(chunk, len(tokens)), Spans: 1, Outputs: min(chunk, len(tokens)), Blocks: blocks, MaxLen: len(tokens), KV: quant.F32}
	q, err := d.Load(context.Background(), m.Program, limits)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	batch := hardware.NewBatch(limits)
	next := 0
	for start := 0; start < len(tokens); start += chunk {
		batch.Reset()
		n := min(chunk, len(tokens)-start)
		batch.Tokens = append(batch.Tokens, tokens[start:start+n]...)
		batch.Spans = append(batch.Spans, hardware.Span{Len: int32(n), Start: int32(start)})
		for b := range blocks {
			batch.Tables = append(batch.Tables, int32(b))
		}
		first := next
		for ; next < len(positions) && int(positions[next]) < start+n; next++ {
			batch.Outputs = append(batch.Outputs, positions[next]-int32(start))
		}
		q.Run(m.Trunk, batch)
		if err := q.Sync(); err != nil {
			t.Fatal(err)
		}
		for i := range batch.Outputs {
			got := q.Output(m.Logits, i)
			if e := normalizedError(got, want[(first+i)*len(got):][:len(got)]); !(e <= 1e-9) {
				t.Errorf("position %d: normalised mean squared error %.3g, want at most 1e-9", positions[first+i], e)
			}
		}
	}
}

func normalizedError(got, want []float32) float64 {
	var difference, power float64
	for i, v := range want {
		difference += math.Pow(float64(got[i])-float64(v), 2)
		power += math.Pow(float64(v), 2)
	}
	return difference / power
}

func tensor(t *testing.T, s weights.Source, name string) []float32 {
	x, err := s.Tensor(name)
	if err != nil {
		t.Fatal(err)
	}
	values := make([]float32, len(x.Data)/4)
	for i := range values {
		values[i] = math.Float32frombits(binary.LittleEndian.Uint32(x.Data[4*i:]))
	}
	return values
}

func ints(t *testing.T, s weights.Source, name string) []int32 {
	x, err := s.Tensor(name)
	if err != nil {
		t.Fatal(err)
	}
	values := make([]int32, len(x.Data)/4)
	for i := range values {
		values[i] = int32(binary.LittleEndian.Uint32(x.Data[4*i:]))
	}
	return values
}
