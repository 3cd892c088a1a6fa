package gorgonia

import (
	"encoding/binary"
	"fmt"
	"math"

	g "gorgonia.org/gorgonia"

	"hearth/hardware"
)

// queue is one loaded program.
type queue struct {
	program *hardware.Program
	limits  hardware.Limits
	memory  hardware.Memory

	weights [][]float32 // [experts, out, in] each
	tensors [][]float32 // [rows, cols] each
	outputs [][]float32 // [outputs, size] each
	routes  []routes
	streams []int // first element of each stream in a block
	// numOutputs is the number of output rows of the last step.
	numOutputs int
	blocks     []float32 // [blocks][stream][position][heads, dim]

	graphs   map[graphKey]*graph
	trace    func(op int, rows []float32)
	counters hardware.Counters
	fault    error // of a graph, reported by Sync
}

// graphKey names a compiled graph: what it computes and its shapes.
type graphKey struct {
	kind    string
	a, b, c int
	eps     float32
}

// maxGraphs bounds the compiled graphs; batches have few shapes, but one that changes each step must not fill memory.
const maxGraphs = 256

// graph returns the graph of a key, built the first time.
func (q *queue) graph(key graphKey, shapes []shape, expression func([]*g.Node) (*g.Node, error)) *graph {
	if gr, ok := q.graphs[key]; ok {
		return gr
	}
	if len(q.graphs) >= maxGraphs {
		clear(q.graphs)
	}
	gr, err := build(shapes, expression)
	if err != nil {
		panic(fmt.Sprintf("gorgonia: %s of %v: %v", key.kind, shapes, err)) // the program was checked: its shapes fit
	}
	q.graphs[key] = gr
	return gr
}

// compute runs a graph; a fault is kept for Sync, and the result is then nil.
func (q *queue) compute(gr *graph, inputs ...[]float32) []float32 {
	if q.fault != nil {
		return nil
	}
	out, err := gr.run(inputs...)
	if err != nil {
		q.fault = fmt.Errorf("gorgonia: %w", err)
	}
	return out
}

// Run executes a section, one operation after the other.
func (q *queue) Run(s hardware.Section, b *hardware.Batch) {
	if err := b.Validate(&q.limits, q.vocab(s)); err != nil {
		panic(err.Error())
	}
	q.counters.Steps++
	q.counters.Rows += uint64(len(b.Tokens))
	q.numOutputs = len(b.Outputs)
	if len(b.Tokens) > 0 {
		for i, op := range q.program.Ops(s) {
			q.run(op, b)
			if q.fault != nil {
				return
			}
			q.traceOp(i, op, b)
		}
	}
	for i := range q.outputs {
		_, t := q.program.OutputTensor(hardware.Output(i))
		copy(q.outputs[i], q.gather(t, len(b.Outputs)))
	}
}

// vocab is the number of rows of the table that the section looks tokens up in.
func (q *queue) vocab(s hardware.Section) int {
	for _, op := range q.program.Ops(s) {
		if e, ok := op.Args.(*hardware.EmbedArgs); ok {
			return q.program.WeightInfo(e.Table).Out
		}
	}
	return math.MaxInt32
}

func (q *queue) run(op hardware.Op, b *hardware.Batch) {
	switch a := op.Args.(type) {
	case *hardware.EmbedArgs:
		q.embed(a, b)
	case *hardware.NormArgs:
		q.norm(a, q.numRows(a.X, b))
	case *hardware.MatMulArgs:
		q.matMul(a, q.numRows(a.X, b))
	case *hardware.RoPEArgs:
		q.rope(a, b)
	case *hardware.StoreArgs:
		q.store(a, b)
	case *hardware.AttentionArgs:
		q.attention(a, b)
	case *hardware.GLUArgs:
		q.elementwise("swiglu", swiglu, a.Dst, a.Gate, a.Up, b)
	case *hardware.AddArgs:
		q.elementwise("sum", sum, a.Dst, a.Dst, a.X, b)
	case *hardware.GatherArgs:
		q.gatherRows(a, b)
	case *hardware.RouteArgs:
		q.route(a, q.numRows(a.Logits, b))
	case *hardware.ExpertsArgs:
		q.experts(a, q.numRows(a.X, b))
	case *hardware.SoftmaxPartsArgs:
		q.softmaxParts(a, q.numRows(a.X, b))
	default:
		panic(fmt.Sprintf("gorgonia: operation %s", op.Args.Kind()))
	}
}

// numRows is how many rows a tensor has in this step.
func (q *queue) numRows(t hardware.Tensor, b *hardware.Batch) int {
	if t.Rows() == hardware.Outputs {
		return len(b.Outputs)
	}
	return len(b.Tokens)
}

// head returns head h of row r of a view.
func (q *queue) head(t hardware.Tensor, r, h int) []float32 {
	_, cols := q.program.TensorCols(t.Base())
	return q.tensors[t.Base()][r*cols+t.Offset()+h*t.Stride():][:t.Dim()]
}

// gather copies the first rows of a view into contiguous memory, [rows, heads, dim].
func (q *queue) gather(t hardware.Tensor, rows int) []float32 {
	out := make([]float32, 0, rows*t.Size())
	for r := range rows {
		for h := range t.NumHeads() {
			out = append(out, q.head(t, r, h)...)
		}
	}
	return out
}

// scatter writes contiguous rows into a view.
func (q *queue) scatter(t hardware.Tensor, values []float32) {
	for i := 0; i < len(values); i += t.Dim() {
		head := i / t.Dim()
		copy(q.head(t, head/t.NumHeads(), head%t.NumHeads()), values[i:i+t.Dim()])
	}
}

// Sync reports the fault of a graph, once.
func (q *queue) Sync() error {
	err := q.fault
	q.fault = nil
	return err
}

// Output returns a row of an output; a row that the last step was not asked for panics.
func (q *queue) Output(o hardware.Output, row int) []float32 {
	if row < 0 || row >= q.numOutputs {
		panic(fmt.Sprintf("gorgonia: Output: row %d of %d", row, q.numOutputs))
	}
	_, t := q.program.OutputTensor(o)
	return q.outputs[o][row*t.Size():][:t.Size()]
}

// block returns the elements of a block.
func (q *queue) block(id int) []float32 {
	n := int(q.memory.Block / 4)
	return q.blocks[id*n:][:n]
}

// CopyBlock copies one block onto another.
func (q *queue) CopyBlock(dst, src int) { copy(q.block(dst), q.block(src)) }

// ReadBlock copies a block out, as little-endian float32.
func (q *queue) ReadBlock(id int, dst []byte) {
	for i, v := range q.block(id) {
		binary.LittleEndian.PutUint32(dst[4*i:], math.Float32bits(v))
	}
}

// WriteBlock copies a block in.
func (q *queue) WriteBlock(id int, src []byte) {
	block := q.block(id)
	for i := range block {
		block[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
	}
}

// Counters returns what was done since Load.
func (q *queue) Counters() hardware.Counters { return q.counters }

// Idle does nothing.
func (q *queue) Idle() {}

// Close does nothing: the collector frees everything.
func (q *queue) Close() error { return nil }

// SaveState panics: the device runs no programs with state.
func (q *queue) SaveState(_, _, _ int) { panic("gorgonia: SaveState: the program has no state") }

// LoadState panics: the device runs no programs with state.
func (q *queue) LoadState(_, _, _ int) { panic("gorgonia: LoadState: the program has no state") }

// ReadState panics: the device runs no programs with state.
func (q *queue) ReadState(_ int, _ []byte) { panic("gorgonia: ReadState: the program has no state") }

// WriteState panics: the device runs no programs with state.
func (q *queue) WriteState(_ int, _ []byte) { panic("gorgonia: WriteState: the program has no state") }

// SetTrace calls f after each operation with the rows of its destination.
func (q *queue) SetTrace(f func(op int, rows []float32)) { q.trace = f }

func (q *queue) traceOp(index int, op hardware.Op, b *hardware.Batch) {
	if q.trace == nil {
		return
	}
	var rows []float32
	for _, t := range op.Args.Writes(nil) {
		rows = append(rows, q.gather(t, q.numRows(t, b))...)
	}
	q.trace(index, rows)
}
