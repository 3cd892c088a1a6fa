package weights

import (
	"bytes"
	"fmt"

	"hearth/hardware/quant"
)

// outlineBytes is the most that an outline holds of a tensor that models read while they are loaded.
const outlineBytes = 64 << 20

// Outline returns a model that is not written yet as a source without the bytes of its weights, to plan with: its
// metadata, and its tensors' names, types and shapes. Vectors, and tensors of types that no weight has, are there, since
// models read some of them while they are loaded.
func Outline(path string, md *Metadata, tensors []NewTensor) (Source, error) {
	s := newSource(GGUF)
	s.path, s.md = path, md
	for i := range tensors {
		n := &tensors[i]
		size, err := n.Size()
		if err != nil {
			return nil, fmt.Errorf("weights: %w", err)
		}
		format, known := quant.ByID(n.Type)
		t := Tensor{Name: n.Name, Type: n.Type, Format: format, Shape: n.Shape, size: size}
		var parts [][]byte
		if len(n.Shape) == 1 || !known {
			if size > outlineBytes {
				return nil, fmt.Errorf("weights: tensor %q: %w: %d bytes of type %s in an outline", n.Name, ErrUnsupported, size, t.TypeName())
			}
			var data bytes.Buffer
			if err := n.Write(&data); err != nil {
				return nil, fmt.Errorf("weights: tensor %q: %w", n.Name, err)
			}
			parts = append(parts, data.Bytes())
		}
		if err := s.add(t, parts...); err != nil {
			return nil, fmt.Errorf("weights: %w", err)
		}
	}
	return s, nil
}
