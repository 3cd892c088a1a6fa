package quant

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"hearth/cmd/sharedtest"
)

// rowLen is the length of the rows of the reference data.
const rowLen = 512

// reference is one file of the reference data: rows that ggml quantized and dequantized.
type reference struct {
	raw    []byte
	values []float32 // what raw reads as
	source []float32 // what was quantized to raw
}

// readReference reads the reference of a format: a safetensors file with the tensors raw, values and source. It returns
// nil for a format that has none.
func readReference(t testing.TB, f *Format) *reference {
	t.Helper()
	path := sharedtest.Path(t, "testdata", "quants", f.Name+".safetensors")
	data, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	size := binary.LittleEndian.Uint64(data)
	var header map[string]struct {
		Offsets [2]int `json:"data_offsets"`
	}
	if err := json.Unmarshal(data[8:8+size], &header); err != nil {
		t.Fatalf("%s: %v", filepath.Base(path), err)
	}
	body := data[8+size:]
	tensor := func(name string) []byte { return body[header[name].Offsets[0]:header[name].Offsets[1]] }
	floats := func(b []byte) []float32 {
		out := make([]float32, len(b)/4)
		for i := range out {
			out[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
		}
		return out
	}
	return &reference{raw: tensor("raw"), values: floats(tensor("values")), source: floats(tensor("source"))}
}

// TestDequantizeGolden compares every block of the reference data, bit by bit.
func TestDequantizeGolden(t *testing.T) {
	for _, f := range All() {
		t.Run(f.Name, func(t *testing.T) {
			ref := readReference(t, f)
			if ref == nil {
				t.Skipf("no reference data of %s", f)
			}
			got := make([]float32, len(ref.values))
			f.Dequantize(got, ref.raw)
			for i, want := range ref.values {
				if math.Float32bits(got[i]) != math.Float32bits(want) {
					block := i / f.BlockLen
					t.Fatalf("element %d is %v, want %v; block %d, element %d of it: % x", i, got[i], want, block, i%f.BlockLen,
						ref.raw[block*f.BlockBytes:(block+1)*f.BlockBytes])
				}
			}
		})
	}
}

// TestQuantizeGolden compares the quantizers with the reference's blocks, bit by bit. The reference was told that all
// columns matter alike, and so was given an importance: those formats that have a search search longer than without.
func TestQuantizeGolden(t *testing.T) {
	for _, f := range All() {
		t.Run(f.Name, func(t *testing.T) {
			ref := readReference(t, f)
			if ref == nil || !f.CanQuantize() {
				t.Skipf("%s: no reference data, or no quantizer", f)
			}
			importance := make([]float32, rowLen)
			for i := range importance {
				importance[i] = 1
			}
			got := make([]byte, len(ref.raw))
			rowBytes, _ := f.RowBytes(rowLen)
			for row := range len(ref.source) / rowLen {
				f.QuantizeWeighted(got[row*rowBytes:(row+1)*rowBytes], ref.source[row*rowLen:(row+1)*rowLen], importance)
			}
			for b := 0; b < len(got); b += f.BlockBytes {
				got, want := got[b:b+f.BlockBytes], ref.raw[b:b+f.BlockBytes]
				if !bytes.Equal(got, want) {
					t.Errorf("block %d:\n got % x\nwant % x", b/f.BlockBytes, got, want)
				}
			}
		})
	}
}

func rmsError(got, want []float32) float64 {
	var sum float64
	for i := range got {
		d := float64(got[i]) - float64(want[i])
		sum += d * d
	}
	return math.Sqrt(sum / float64(len(got)))
}
