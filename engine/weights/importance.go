package weights

import (
	"fmt"
	"strings"

	"hearth/hardware/quant"
)

// An importance matrix (ggml-org/llama.cpp tools/imatrix) is a GGUF file with two float32 tensors for each matrix NAME
// that a text was run through:
//
//	NAME.in_sum2  [experts, columns]  sums of the squared activations that each column met; without experts [1, columns]
//	NAME.counts   [experts, 1]        how many activations those were
const (
	sumsSuffix   = ".in_sum2"
	countsSuffix = ".counts"
)

// ReadImportance reads an importance matrix: for each tensor's name the mean squared activations of its columns, as
// ConvertOptions.Importance has them. Columns of an expert that met no activation all matter alike.
func ReadImportance(path string) (map[string][]float32, error) {
	src, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	importance := map[string][]float32{}
	for _, name := range src.Names() {
		matrix, ok := strings.CutSuffix(name, sumsSuffix)
		if !ok {
			continue
		}
		if importance[matrix], err = meanSquares(src, matrix); err != nil {
			return nil, fmt.Errorf("weights: %s: %w", path, err)
		}
	}
	if len(importance) == 0 {
		return nil, fmt.Errorf("weights: %s: %w: no tensor is called NAME%s: this is no importance matrix", path, ErrUnsupported, sumsSuffix)
	}
	return importance, nil
}

// meanSquares divides the sums of a matrix by their counts.
func meanSquares(src Source, matrix string) ([]float32, error) {
	sums, err := floatsOf(src, matrix+sumsSuffix)
	if err != nil {
		return nil, err
	}
	counts, err := floatsOf(src, matrix+countsSuffix)
	if err != nil {
		return nil, err
	}
	if len(sums)%len(counts) != 0 {
		return nil, fmt.Errorf("%w: tensor %q: %d sums have %d counts", ErrCorrupt, matrix+sumsSuffix, len(sums), len(counts))
	}
	columns := len(sums) / len(counts)
	for i := range sums {
		if n := counts[i/columns]; n > 0 {
			sums[i] /= n
		} else {
			sums[i] = 1
		}
	}
	return sums, nil
}

// floatsOf reads a tensor of float32.
func floatsOf(src Source, name string) ([]float32, error) {
	t, err := src.Tensor(name)
	if err != nil {
		return nil, err
	}
	if t.Format != quant.F32 || t.Elements() == 0 || t.Data == nil {
		return nil, fmt.Errorf("%w: tensor %q is %s %v, want float32", ErrCorrupt, name, t.TypeName(), t.Shape)
	}
	values := make([]float32, t.Elements())
	quant.F32.Dequantize(values, t.Data)
	return values, nil
}
