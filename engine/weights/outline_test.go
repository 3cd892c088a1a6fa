package weights

import (
	"errors"
	"io"
	"slices"
	"testing"

	"hearth/hardware/quant"
)

func TestOutline(t *testing.T) {
	md := NewMetadata()
	md.Set("general.architecture", "llama")
	write := func(w io.Writer) error {
		_, err := w.Write([]byte{1, 2, 3, 4, 5, 6, 7, 8})
		return err
	}
	never := func(io.Writer) error { return errors.New("a weight was written") }
	const typeI32 = 26
	s, err := Outline("planned.gguf", md, []NewTensor{
		{Name: "norm", Type: quant.F32.ID, Shape: []int{2}, Write: write},
		{Name: "table", Type: typeI32, Shape: []int{1, 2}, Write: write},
		{Name: "matrix", Type: quant.Q8_0.ID, Shape: []int{1 << 20, 1 << 20}, Write: never},
	})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(s.Names(), []string{"norm", "table", "matrix"}) || s.Path() != "planned.gguf" || s.Metadata() != md {
		t.Errorf("%v in %s", s.Names(), s.Path())
	}
	for name, bytes := range map[string]int{"norm": 8, "table": 8, "matrix": 0} {
		if tensor, err := s.Tensor(name); err != nil || len(tensor.Data) != bytes || tensor.Stack != nil {
			t.Errorf("%s has %d bytes (%v), want %d", name, len(tensor.Data), err, bytes)
		}
	}
	if tensor, _ := s.Describe("matrix"); tensor.Size() != 34<<35 || tensor.Format != quant.Q8_0 {
		t.Errorf("the matrix has %d bytes of %s", tensor.Size(), tensor.Format)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	for _, bad := range []NewTensor{
		{Name: "x", Type: 9999, Shape: []int{2}}, {Name: "x", Type: quant.Q8_0.ID, Shape: []int{33}},
		{Name: "x", Type: typeI32, Shape: []int{1 << 20, 1 << 20}, Write: never}, {Name: "x", Type: quant.F32.ID, Shape: []int{1}, Write: never},
	} {
		if _, err := Outline("x", md, []NewTensor{bad}); err == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
}
