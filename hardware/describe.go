package hardware

import (
	"fmt"
	"hash/crc32"
	"io"
	"math"
)

// Describe writes everything that the results of a program depend on, but the bytes of its weights: two programs with the
// same text compute the same from the same weights, and their caches and states hold the same.
func (p *Program) Describe(w io.Writer) error {
	for i := range p.weights {
		x := &p.weights[i]
		if _, err := fmt.Fprintf(w, "weight %s %s %d %d %d %x %d %x\n",
			x.Name, x.Format, x.Out, x.In, x.Experts, math.Float32bits(x.Scale), len(x.Bias), floatSum(x.Bias)); err != nil {
			return err
		}
	}
	for _, part := range [...]struct {
		name  string
		value any
	}{
		{"ropes", p.ropes}, {"streams", p.streams}, {"rings", p.rings}, {"deltas", p.deltas}, {"routes", p.routes},
		{"selections", p.chosen}, {"carried", p.carried}, {"tensors", p.tensors}, {"outputs", p.outputs},
	} {
		if _, err := fmt.Fprintf(w, "%s %+v\n", part.name, part.value); err != nil {
			return err
		}
	}
	for i := range p.sections {
		if _, err := fmt.Fprintf(w, "section %s\n", p.sections[i].name); err != nil {
			return err
		}
		for _, op := range p.sections[i].ops {
			if _, err := fmt.Fprintf(w, "%d %s %s %+v\n", op.Layer, op.Half, op.Args.Kind(), op.Args); err != nil {
				return err
			}
		}
	}
	return nil
}

// floatSum is a checksum of elements.
func floatSum(x []float32) uint32 {
	sum, table := uint32(0), crc32.MakeTable(crc32.Castagnoli)
	for _, v := range x {
		bits := math.Float32bits(v)
		sum = crc32.Update(sum, table, []byte{byte(bits), byte(bits >> 8), byte(bits >> 16), byte(bits >> 24)})
	}
	return sum
}
