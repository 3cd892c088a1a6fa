package engine

import (
	"context"

	"hearth/hardware"
	"hearth/hardware/devicetest"
)

// specification is the interpreter of programs in double precision as a device, for models of operations that no device
// runs yet, and to tell the error of a device from that of a model.
type specification struct{ hardware.Device }

func (specification) Info() hardware.Info { return hardware.Info{Name: "specification"} }

func (specification) Load(_ context.Context, p *hardware.Program, l hardware.Limits) (hardware.Queue, error) {
	return &specificationQueue{reference: devicetest.NewReference(p, l)}, nil
}

// specificationQueue has the methods of a queue that Logits calls.
type specificationQueue struct {
	hardware.Queue
	reference *devicetest.Reference
}

func (q *specificationQueue) Run(s hardware.Section, b *hardware.Batch) { q.reference.Run(s, b) }
func (q *specificationQueue) Sync() error                               { return nil }
func (q *specificationQueue) Close() error                              { return nil }

func (q *specificationQueue) Output(o hardware.Output, row int) []float32 {
	var single []float32
	for _, v := range q.reference.Output(o, row) {
		single = append(single, float32(v))
	}
	return single
}
