package cpu_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"
	"testing"

	"hearth/cmd/sharedtest"
	"hearth/engine/embedded"
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
	tokens, positions := ints(t, golden, "tokens"), ints(t, golden, "positions")
	want := tensor(t, golden, "logits")
	for i, got := range logits(t, source, openWith(o)(t), prompt{tokens, positions, chunk}) {
		if e := normalizedError(got, want[i*len(got):][:len(got)]); !(e <= 1e-9) {
			t.Errorf("position %d: normalised mean squared error %.3g, want at most 1e-9", positions[i], e)
		}
	}
}

// prompt is what a model reads, in chunks, and where its logits are wanted.
type prompt struct {
	tokens, positions []int32
	chunk             int
}

// logits runs a model on a device, which it closes.
func logits(t *testing.T, source weights.Source, d hardware.Device, p prompt) [][]float32 {
	t.Helper()
	defer d.Close()
	m, err := model.Load(source)
	if err != nil {
		t.Fatal(err)
	}
	blocks := (len(p.tokens) + hardware.BlockLen - 1) / hardware.BlockLen
	limits := hardware.Limits{Tokens: min(p.chunk, len(p.tokens)), Spans: 1, Outputs: min(p.chunk, len(p.tokens)), Blocks: blocks, MaxLen: len(p.tokens), KV: quant.F32}
	q, err := d.Load(context.Background(), m.Program, limits)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	batch := hardware.NewBatch(limits)
	var rows [][]float32
	for start := 0; start < len(p.tokens); start += p.chunk {
		batch.Reset()
		n := min(p.chunk, len(p.tokens)-start)
		batch.Tokens = append(batch.Tokens, p.tokens[start:start+n]...)
		batch.Spans = append(batch.Spans, hardware.Span{Len: int32(n), Start: int32(start)})
		for b := range blocks {
			batch.Tables = append(batch.Tables, int32(b))
		}
		for next := len(rows); next < len(p.positions) && int(p.positions[next]) < start+n; next++ {
			batch.Outputs = append(batch.Outputs, p.positions[next]-int32(start))
		}
		q.Run(m.Trunk, batch)
		if err := q.Sync(); err != nil {
			t.Fatal(err)
		}
		for i := range batch.Outputs {
			rows = append(rows, slices.Clone(q.Output(m.Logits, i)))
		}
	}
	return rows
}

// TestBF16Rows rounds the weights of a trained model to BF16. Where the rows are rounded too, that costs as much again and
// no more: the two errors are of the same size and know nothing of each other.
func TestBF16Rows(t *testing.T) {
	source, err := weights.OpenBytes("stories260K.gguf", embedded.Model)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	p := prompt{chunk: 16}
	for i := range int32(48) {
		p.tokens, p.positions = append(p.tokens, 3+i*i%500), append(p.positions, i)
	}
	open := func(level string) hardware.Device { return openWith(cpu.Options{ISA: level, Threads: 2})(t) }
	want := logits(t, source, open("go"), p)
	loss := func(d hardware.Device) float64 {
		sum := 0.0
		for i, got := range logits(t, asBF16(t, source), d, p) {
			sum += normalizedError(got, want[i])
		}
		return sum / float64(len(want))
	}
	exact := loss(open("go"))
	devices := map[string]hardware.Device{"specification": cpu.OpenRoundingBF16(2)}
	for _, level := range cpu.Levels() {
		if cpu.RoundsBF16(level) {
			devices[level] = open(level)
		}
	}
	for name, d := range devices {
		e := loss(d)
		t.Logf("%s: error %.3g, with float32 rows %.3g", name, e, exact)
		if !(e <= 3*exact) {
			t.Errorf("%s: normalised mean squared error %.3g, want at most three times that with float32 rows, %.3g", name, e, exact)
		}
	}
}

// asBF16 returns a model with its matrices rounded to BF16.
func asBF16(t *testing.T, source weights.Source) weights.Source {
	t.Helper()
	var tensors []weights.NewTensor
	for _, name := range source.Names() {
		x, err := source.Tensor(name)
		if err != nil {
			t.Fatal(err)
		}
		format, data := x.Format, x.Data
		if len(x.Shape) > 1 {
			values := make([]float32, len(data)/format.BlockBytes*format.BlockLen)
			format.Dequantize(values, data)
			format, data = quant.BF16, make([]byte, 2*len(values))
			format.Quantize(data, values)
		}
		tensors = append(tensors, weights.NewTensor{Name: name, Type: format.ID, Shape: x.Shape, Write: func(w io.Writer) error {
			_, err := w.Write(data)
			return err
		}})
	}
	var file bytes.Buffer
	if err := weights.WriteGGUF(&file, source.Metadata(), tensors); err != nil {
		t.Fatal(err)
	}
	rounded, err := weights.OpenBytes("bf16.gguf", file.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return rounded
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
