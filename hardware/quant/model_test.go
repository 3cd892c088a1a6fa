package quant_test

import (
	"bytes"
	"testing"

	"hearth/cmd/sharedtest"
	"hearth/engine/weights"
	"hearth/hardware/quant"
)

// TestQuantizeModelGolden quantizes the trained model of the reference data and compares every tensor with the files
// that llama.cpp made of it, without the importance of columns: block by block, bit by bit. Those files have more
// feed-forward columns, of zeros, so that rows are whole blocks.
func TestQuantizeModelGolden(t *testing.T) {
	open := func(name string) weights.Source {
		src, err := weights.Open(sharedtest.Path(t, "testdata", "models", "stories260K", name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { src.Close() })
		return src
	}
	plain := open("stories260K-f32.gguf")
	for _, f := range []*quant.Format{quant.Q4_0, quant.Q8_0} {
		file := open("stories260K-ffn192-" + f.Name + ".gguf")
		compared := map[string]int{}
		for _, name := range file.Names() {
			want, err := file.Tensor(name)
			if err != nil {
				t.Fatal(err)
			}
			source, err := plain.Tensor(name)
			if err != nil {
				t.Fatal(err)
			}
			if want.Format == quant.F32 {
				continue
			}
			compared[want.Format.Name]++
			if got := quantizePadded(source, want); !bytes.Equal(got, want.Data) {
				t.Errorf("%s in %s: the first difference is at byte %d", name, want.Format, firstDifference(got, want.Data))
			}
		}
		t.Logf("%s: %v tensors compared", file.Path(), compared)
		if compared[f.Name] < 35 {
			t.Errorf("only %d tensors in %s", compared[f.Name], f)
		}
	}
}

// quantizePadded quantizes a matrix to the format and the shape of another one; what is not there is zero.
func quantizePadded(source, like weights.Tensor) []byte {
	rows, cols := like.Shape[0], like.Shape[1]
	x := make([]float32, rows*cols)
	for r := range source.Shape[0] {
		row := x[r*cols : r*cols+source.Shape[1]]
		quant.F32.Dequantize(row, source.Data[4*r*source.Shape[1]:])
	}
	got := make([]byte, len(like.Data))
	like.Format.Quantize(got, x)
	return got
}

func firstDifference(a, b []byte) int {
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return len(a)
}
