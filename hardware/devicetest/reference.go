package devicetest

import (
	"fmt"
	"slices"

	"hearth/hardware"
)

// Reference interprets a program in double precision, one operation after the other, as simply as it can be written.
// It is the specification of the operations. Rows of the cache are rounded to the cache's format, since what a device
// reads back is what it stored; nothing else is.
type Reference struct {
	program *hardware.Program
	limits  hardware.Limits
	batch   *hardware.Batch
	rows    [2]int
	weights map[hardware.Weight][]float64 // [experts, out, in]
	tensors [][]float64                   // [rows, cols] of each base tensor, for the step that runs or, carried, as last written
	carried []bool                        // of each base tensor: it survives Begin
	streams []map[[2]int32][]float64      // by block and place in it, [heads, dim]
	routes  [][][]choice                  // of each declared routes and row, best first
	// selections are the chosen entries of each declared selection, row and group, ascending.
	selections [][][][]int

	slots     map[int32]*memory
	snapshots map[int]*memory
}

// NewReference returns an interpreter with an empty cache. The program's weights need their data.
func NewReference(p *hardware.Program, l hardware.Limits) *Reference {
	r := &Reference{
		program: p, limits: l, weights: map[hardware.Weight][]float64{}, tensors: make([][]float64, p.NumTensors()),
		routes: make([][][]choice, p.NumRoutes()), selections: make([][][][]int, p.NumSelections()),
		slots: map[int32]*memory{}, snapshots: map[int]*memory{},
		carried: make([]bool, p.NumTensors()),
	}
	for _, t := range p.Carried() {
		_, cols := p.TensorCols(t.Base())
		r.carried[t.Base()], r.tensors[t.Base()] = true, make([]float64, l.Tokens*cols)
	}
	for range p.Streams() {
		r.streams = append(r.streams, map[[2]int32][]float64{})
	}
	return r
}

// Run executes a section.
func (r *Reference) Run(s hardware.Section, b *hardware.Batch) {
	r.Begin(b)
	for i := range r.program.Ops(s) {
		r.Step(s, i)
	}
}

// Begin starts a step whose operations are run one by one with Step.
func (r *Reference) Begin(b *hardware.Batch) {
	r.batch = b
	r.rows = [2]int{hardware.Tokens: len(b.Tokens), hardware.Outputs: len(b.Outputs)}
	for i := range r.tensors {
		if kind, cols := r.program.TensorCols(i); !r.carried[i] {
			r.tensors[i] = make([]float64, r.rows[kind]*cols)
		}
	}
}

// Output returns a row of an output, as Queue.Output does.
func (r *Reference) Output(o hardware.Output, row int) []float64 {
	_, t := r.program.OutputTensor(o)
	return r.row(t, row)
}

// Step executes one operation of a section.
func (r *Reference) Step(s hardware.Section, op int) {
	switch a := r.program.Ops(s)[op].Args.(type) {
	case *hardware.EmbedArgs:
		in := r.program.WeightInfo(a.Table).In
		for i, token := range r.batch.Tokens {
			r.set(a.Dst, i, r.weight(a.Table)[int(token)*in:][:in])
		}
	case *hardware.NormArgs:
		r.eachHead(a.X, a.Dst, func(_ int, x []float64) { r.normalize(a, x) })
	case *hardware.MatMulArgs:
		r.matMul(a)
	case *hardware.RoPEArgs:
		positions := r.positions()
		r.eachHead(a.X, a.Dst, func(row int, x []float64) { rotate(x, r.program.RopeInfo(a.Rope), turns(a, positions[row])) })
	case *hardware.StoreArgs:
		r.store(a)
	case *hardware.AttentionArgs:
		r.attention(a)
	case *hardware.SelectArgs:
		r.selectEntries(a)
	case *hardware.CompressArgs:
		r.compress(a)
	case *hardware.RememberArgs:
		r.remember(a)
	case *hardware.GLUArgs:
		for i := range r.rows[a.Dst.Rows()] {
			r.set(a.Dst, i, gate(a.Act, a.Limit, r.row(a.Gate, i), r.row(a.Up, i)))
		}
	case *hardware.AddArgs:
		for i := range r.rows[a.Dst.Rows()] {
			r.set(a.Dst, i, plus(r.row(a.Dst, i), r.row(a.X, i)))
		}
	case *hardware.GatherArgs:
		from := r.batch.Outputs
		if a.ByInputs {
			from = r.batch.Inputs
		}
		for i := range r.rows[a.Dst.Rows()] {
			r.set(a.Dst, i, r.row(a.X, int(from[i])))
		}
	case *hardware.CopyArgs:
		for i := range r.rows[a.Dst.Rows()] {
			r.set(a.Dst, i, slices.Repeat(r.row(a.X, i), a.Dst.NumHeads()/a.X.NumHeads()))
		}
	case *hardware.RouteArgs:
		r.route(a)
	case *hardware.ExpertsArgs:
		r.experts(a)
	case *hardware.SoftmaxPartsArgs:
		for i := range r.rows[a.X.Rows()] {
			r.set(a.Dst, i, softmaxParts(r.row(a.X, i)))
		}
	case *hardware.ConvArgs:
		r.conv(a)
	case *hardware.DeltaRuleArgs:
		r.deltaRule(a)
	case *hardware.HyperPreArgs:
		r.hyperPre(a)
	case *hardware.HyperPostArgs:
		r.hyperPost(a)
	default:
		panic("devicetest: Reference: unknown operation " + a.Kind().String())
	}
}

// weight returns a weight's elements.
func (r *Reference) weight(w hardware.Weight) []float64 {
	if x, ok := r.weights[w]; ok {
		return x
	}
	info := r.program.WeightInfo(w)
	n := info.Out * info.In
	single := make([]float32, n*max(1, info.Experts))
	for e := range max(1, info.Experts) {
		rows, err := info.Rows(nil, e, 0, info.Out)
		if err != nil {
			panic(fmt.Sprintf("devicetest: Reference: weight %q: %v", info.Name, err))
		}
		info.Format.Dequantize(single[e*n:][:n], rows)
	}
	x := widen(single)
	r.weights[w] = x
	return x
}

// row returns a copy of a view's row, head after head.
func (r *Reference) row(t hardware.Tensor, row int) []float64 {
	_, cols := r.program.TensorCols(t.Base())
	var x []float64
	for h := range t.NumHeads() {
		x = append(x, r.tensors[t.Base()][row*cols+t.Offset()+h*t.Stride():][:t.Dim()]...)
	}
	return x
}

// set writes a view's row.
func (r *Reference) set(t hardware.Tensor, row int, x []float64) {
	_, cols := r.program.TensorCols(t.Base())
	for h := range t.NumHeads() {
		copy(r.tensors[t.Base()][row*cols+t.Offset()+h*t.Stride():][:t.Dim()], x[h*t.Dim():])
	}
}

// eachHead applies f to every head of every row.
func (r *Reference) eachHead(src, dst hardware.Tensor, f func(row int, x []float64)) {
	for i := range r.rows[src.Rows()] {
		x := r.row(src, i)
		for h := range src.NumHeads() {
			f(i, x[h*src.Dim():][:src.Dim()])
		}
		r.set(dst, i, x)
	}
}

// positions returns the position of each row.
func (r *Reference) positions() []int {
	var positions []int
	for _, s := range r.batch.Spans {
		for i := range s.Len {
			positions = append(positions, int(s.Start+i))
		}
	}
	return positions
}

func dot(a, b []float64) float64 {
	sum := 0.0
	for i := range a {
		sum += a[i] * b[i]
	}
	return sum
}

func plus(a, b []float64) []float64 {
	y := make([]float64, len(a))
	for i := range y {
		y[i] = a[i] + b[i]
	}
	return y
}

// widen returns float32 as float64.
func widen(x []float32) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(v)
	}
	return y
}
