package weights_test

import (
	"bytes"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"hearth/cmd/sharedtest"
	"hearth/engine/weights"
	"hearth/engine/weights/checkpointtest"
	"hearth/hardware/quant"
)

// tinyModels are the reference models whose checkpoints are written here, by architecture.
var tinyModels = []string{
	"qwen2", "qwen3", "qwen3moe", "qwen35", "qwen35moe", "qwen35-mtp", "minimax-m2", "minimax-m3", "deepseek2-lite", "deepseek2",
	"deepseek32", "deepseek4",
}

func openTiny(t testing.TB, model string) weights.Source {
	t.Helper()
	src, err := weights.OpenBytes(model+".gguf", sharedtest.ReadFile(t, "testdata", "golden", "tiny-"+model+".gguf.gz"))
	if err != nil {
		t.Fatal(err)
	}
	return src
}

func openCheckpoint(t *testing.T, config map[string]any, tensors []weights.OutTensor) weights.Source {
	t.Helper()
	src, err := weights.Open(checkpointtest.Write(t, config, tensors))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { src.Close() })
	return src
}

// TestCheckpointGolden writes each reference model as its makers publish it, and wants back the GGUF file: the same names,
// shapes and bytes, and every hyperparameter.
func TestCheckpointGolden(t *testing.T) {
	for _, model := range tinyModels {
		t.Run(model, func(t *testing.T) {
			want := openTiny(t, model)
			var tensors []weights.OutTensor
			for _, n := range checkpointtest.Tensors(t, want) {
				tensors = append(tensors, n.Plain())
			}
			got := openCheckpoint(t, checkpointtest.Config(want), tensors)
			sameMetadata(t, got.Metadata(), want.Metadata())
			sameTensors(t, got, want)
		})
	}
}

// sameMetadata wants all keys of a GGUF file that say how the model computes.
func sameMetadata(t *testing.T, got, want *weights.Metadata) {
	t.Helper()
	for _, key := range want.Keys() {
		if strings.HasPrefix(key, "tokenizer.") {
			continue
		}
		g, _ := got.Get(key)
		if w, _ := want.Get(key); !reflect.DeepEqual(g, w) {
			t.Errorf("key %s is %v (%T), want %v (%T)", key, g, g, w, w)
		}
	}
}

// sameTensors compares the bytes of all tensors, read at once and in pieces.
func sameTensors(t *testing.T, got, want weights.Source) {
	t.Helper()
	gotNames, wantNames := slices.Sorted(slices.Values(got.Names())), slices.Sorted(slices.Values(want.Names()))
	if !slices.Equal(gotNames, wantNames) {
		t.Fatalf("names\n%q, want\n%q", gotNames, wantNames)
	}
	for _, name := range wantNames {
		w, err := want.Tensor(name)
		if err != nil {
			t.Fatal(err)
		}
		g, err := got.Tensor(name)
		if err != nil {
			t.Error(err)
			continue
		}
		if !slices.Equal(g.Shape, w.Shape) || g.Type != w.Type || g.Format != w.Format || g.Size() != w.Size() {
			t.Errorf("%s is %s %v of %d bytes, want %s %v of %d", name, g.TypeName(), g.Shape, g.Size(), w.TypeName(), w.Shape, w.Size())
			continue
		}
		data := slices.Concat(g.Parts()...)
		if rounded := strings.HasSuffix(name, "ssm_a") || strings.HasSuffix(name, "norm.weight"); rounded {
			nearby(t, name, decoded(data), decoded(slices.Concat(w.Parts()...)))
		} else if !bytes.Equal(data, slices.Concat(w.Parts()...)) {
			t.Errorf("%s has other elements", name)
		}
		sameRows(t, got, name, data)
	}
}

func decoded(data []byte) []float32 {
	x := make([]float32, len(data)/4)
	quant.F32.Dequantize(x, data)
	return x
}

// nearby allows for the last bit of numbers that went through a subtraction, or through a logarithm and an exponential.
func nearby(t *testing.T, name string, got, want []float32) {
	t.Helper()
	for i := range want {
		if !(math.Abs(float64(got[i])-float64(want[i])) <= 5e-7*max(1, math.Abs(float64(want[i])))) {
			t.Errorf("%s: element %d is %v, want %v", name, i, got[i], want[i])
		}
	}
}

// sameRows reads a tensor that is made in uneven pieces.
func sameRows(t *testing.T, src weights.Source, name string, want []byte) {
	t.Helper()
	tensor, err := src.Rows(name)
	if err != nil {
		t.Fatal(err)
	}
	if tensor.Read == nil {
		return
	}
	matrices, rows := 1, 1
	if n := len(tensor.Shape); n >= 2 {
		rows = tensor.Shape[n-2]
		matrices = int(tensor.Elements()) / rows / tensor.Shape[n-1]
	}
	rowBytes := len(want) / matrices / rows
	for m := range matrices {
		for first := 0; first < rows; first += 7 {
			last := min(first+7, rows)
			got := make([]byte, (last-first)*rowBytes)
			if err := tensor.Read(got, m, first, last); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want[(m*rows+first)*rowBytes:][:len(got)]) {
				t.Errorf("%s: rows %d to %d of matrix %d differ when they are read alone", name, first, last, m)
				return
			}
		}
	}
}
