package gorgonia

import (
	"context"
	"fmt"
	"slices"

	_ "go4.org/unsafe/assume-no-moving-gc" // a version that knows this Go; Gorgonia's own requirement panics at start

	"hearth/hardware"
	"hearth/hardware/quant"
)

// Options configure the device; there is nothing to choose.
type Options struct{}

// Device runs programs as Gorgonia graphs. It is safe for concurrent use; each queue has graphs of its own.
type Device struct{}

// Open returns the device.
func Open(Options) (*Device, error) { return &Device{}, nil }

// streamFormats are the formats that rows of the cache are rounded to.
var streamFormats = []*quant.Format{quant.F32, quant.F16, quant.BF16, quant.Q8_0}

// layoutID names the inner layout of a block: all rows of all streams, as float32, rounded to the cache's format.
const layoutID = "gorgonia/f32-rows"

// Info describes the device.
func (*Device) Info() hardware.Info {
	plain := hardware.OpKinds()[:hardware.OpSoftmaxParts+1] // those of dense transformers and plain mixtures of experts
	return hardware.Info{
		Name: "gorgonia", Level: "go", Ops: plain, Formats: quant.All(),
		StreamFormats: streamFormats, LayoutID: layoutID,
	}
}

// Close does nothing: the device has no workers.
func (*Device) Close() error { return nil }

// Measure returns what Load would allocate, without the graphs, whose size depends on the shapes that steps have.
func (*Device) Measure(p *hardware.Program, l hardware.Limits) (hardware.Memory, error) {
	if err := check(p, &l); err != nil {
		return hardware.Memory{}, err
	}
	m := hardware.Memory{Block: int64(blockFloats(p)) * 4}
	m.Blocks = m.Block * int64(l.Blocks)
	for i := range p.NumWeights() {
		w := p.WeightAt(i)
		m.Weights += int64(w.Out) * int64(w.In) * int64(max(w.Experts, 1)) * 4
	}
	for i := range p.NumTensors() {
		rows, cols := p.TensorCols(i)
		m.Scratch += int64(limitRows(rows, &l)) * int64(cols) * 4
	}
	return m, nil
}

// check refuses what the device does not run, naming it.
func check(p *hardware.Program, l *hardware.Limits) error {
	if err := p.Err(); err != nil {
		return err
	}
	for i := range p.NumWeights() {
		if w := p.WeightAt(i); !slices.Contains(quant.All(), w.Format) {
			return fmt.Errorf("%w: gorgonia: weight %q of format %s", hardware.ErrUnsupported, w.Name, w.Format)
		}
	}
	if l.KV != nil && !slices.Contains(streamFormats, l.KV) {
		return fmt.Errorf("%w: gorgonia: cache rows of %s", hardware.ErrUnsupported, l.KV)
	}
	for s := range p.NumSections() {
		for _, op := range p.Ops(hardware.Section(s)) {
			if !p.Plain(op.Args) {
				return fmt.Errorf("%w: gorgonia: layer %d: %s in another form than dense transformers use", hardware.ErrUnsupported, op.Layer, op.Args.Kind())
			}
		}
	}
	if p.Stateful() {
		return fmt.Errorf("%w: gorgonia: program %q keeps state", hardware.ErrUnsupported, p.Name())
	}
	for _, s := range p.Streams() {
		if l.KV != nil && s.Dim%l.KV.BlockLen != 0 {
			return fmt.Errorf("%w: gorgonia: stream %q has heads of %d, %s needs a multiple of %d", hardware.ErrUnsupported, s.Name, s.Dim, l.KV, l.KV.BlockLen)
		}
	}
	return nil
}

// blockFloats is the number of elements of one cache block.
func blockFloats(p *hardware.Program) int {
	n := 0
	for _, s := range p.Streams() {
		n += s.Heads * s.Dim * hardware.BlockLen
	}
	return n
}

// limitRows is the most rows of a row count.
func limitRows(rows hardware.Rows, l *hardware.Limits) int {
	if rows == hardware.Outputs {
		return l.Outputs
	}
	return l.Tokens
}

// Load dequantizes the weights and allocates the tensors and the cache.
func (d *Device) Load(ctx context.Context, p *hardware.Program, l hardware.Limits) (hardware.Queue, error) {
	memory, err := d.Measure(p, l)
	if err != nil {
		return nil, err
	}
	if l.KV == nil {
		l.KV = quant.F32
	}
	q := &queue{program: p, limits: l, memory: memory, graphs: map[graphKey]*graph{}}
	if err := q.loadWeights(ctx, memory.Weights); err != nil {
		return nil, err
	}
	for i := range p.NumTensors() {
		rows, cols := p.TensorCols(i)
		q.tensors = append(q.tensors, make([]float32, limitRows(rows, &l)*cols))
	}
	for i := range p.NumOutputs() {
		_, t := p.OutputTensor(hardware.Output(i))
		q.outputs = append(q.outputs, make([]float32, l.Outputs*t.Size()))
	}
	offset := 0
	for _, s := range p.Streams() {
		q.streams = append(q.streams, offset)
		offset += s.Heads * s.Dim * hardware.BlockLen
	}
	q.blocks = make([]float32, blockFloats(p)*l.Blocks)
	q.routes = make([]routes, p.NumRoutes())
	return q, nil
}

func (q *queue) loadWeights(ctx context.Context, total int64) error {
	done := int64(0)
	for i := range q.program.NumWeights() {
		if err := ctx.Err(); err != nil {
			return err
		}
		w := q.program.WeightAt(i)
		if !w.HasData() {
			return fmt.Errorf("gorgonia: weight %q has no data", w.Name)
		}
		n := w.Out * w.In
		values := make([]float32, n*max(w.Experts, 1))
		for e := range max(w.Experts, 1) {
			rows, err := w.Rows(nil, e, 0, w.Out)
			if err != nil {
				return fmt.Errorf("gorgonia: weight %q: %w", w.Name, err)
			}
			w.Format.Dequantize(values[e*n:][:n], rows)
			if w.Release != nil {
				w.Release(rows)
			}
		}
		q.weights = append(q.weights, values)
		done += int64(len(values)) * 4
		if q.limits.Progress != nil {
			q.limits.Progress(done, total)
		}
	}
	return nil
}
