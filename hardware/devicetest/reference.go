package devicetest

import (
	"fmt"
	"math"
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
	tensors [][]float64                   // [rows, cols] of each base tensor, for the step that runs
	streams []map[[2]int32][]float64      // by block and place in it, [heads, dim]
	routes  [][][]choice                  // of each declared routes and row, best first
	// selections are the chosen entries of each declared selection, row and group, ascending.
	selections [][][][]int

	slots     map[int32]*memory
	snapshots map[int]*memory
}

// choice is an expert and its weight.
type choice struct {
	expert int
	weight float64
}

// NewReference returns an interpreter with an empty cache. The program's weights need their data.
func NewReference(p *hardware.Program, l hardware.Limits) *Reference {
	r := &Reference{
		program: p, limits: l, weights: map[hardware.Weight][]float64{}, tensors: make([][]float64, p.NumTensors()),
		routes: make([][][]choice, p.NumRoutes()), selections: make([][][][]int, p.NumSelections()),
		slots: map[int32]*memory{}, snapshots: map[int]*memory{},
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
		kind, cols := r.program.TensorCols(i)
		r.tensors[i] = make([]float64, r.rows[kind]*cols)
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
		r.eachHead(a.X, a.Dst, func(_ int, x []float64) { normalize(x, r.weight(a.Weight), float64(a.Eps)) })
	case *hardware.MatMulArgs:
		r.matMul(a)
	case *hardware.RoPEArgs:
		positions := r.positions()
		r.eachHead(a.X, a.Dst, func(row int, x []float64) { rotate(x, r.program.RopeInfo(a.Rope), positions[row]) })
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
			r.set(a.Dst, i, gate(r.row(a.Gate, i), r.row(a.Up, i)))
		}
	case *hardware.AddArgs:
		for i := range r.rows[a.Dst.Rows()] {
			r.set(a.Dst, i, plus(r.row(a.Dst, i), r.row(a.X, i)))
		}
	case *hardware.GatherArgs:
		for i, from := range r.batch.Outputs {
			r.set(a.Dst, i, r.row(a.X, int(from)))
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

// product is scale * (W x) + bias for one row and expert.
func (r *Reference) product(w hardware.Weight, expert int, x []float64) []float64 {
	info := r.program.WeightInfo(w)
	matrix := r.weight(w)[expert*info.Out*info.In:]
	y := make([]float64, info.Out)
	for o := range y {
		y[o] = dot(matrix[o*info.In:][:info.In], x)
		if info.Scale != 0 {
			y[o] *= float64(info.Scale)
		}
		if info.Bias != nil {
			y[o] += float64(info.Bias[o])
		}
	}
	return y
}

func (r *Reference) matMul(a *hardware.MatMulArgs) {
	for i := range r.rows[a.X.Rows()] {
		y := r.product(a.W, 0, r.row(a.X, i))
		if a.Accumulate {
			y = plus(r.row(a.Dst, i), y)
		}
		r.set(a.Dst, i, y)
	}
}

func (r *Reference) route(a *hardware.RouteArgs) {
	chosen := make([][]choice, r.rows[a.Logits.Rows()])
	for i := range chosen {
		p := r.row(a.Logits, i)
		softmax(p)
		for e, w := range p {
			chosen[i] = append(chosen[i], choice{e, w})
		}
		slices.SortStableFunc(chosen[i], func(a, b choice) int { return -compare(a.weight, b.weight) })
		chosen[i] = chosen[i][:a.TopK]
		total := 1.0
		if a.Normalize {
			total = 0
			for _, c := range chosen[i] {
				total += c.weight
			}
		}
		for j := range chosen[i] {
			chosen[i][j].weight *= float64(a.Scale) / total
		}
	}
	r.routes[a.Dst.Index()] = chosen
}

func (r *Reference) experts(a *hardware.ExpertsArgs) {
	for i, chosen := range r.routes[a.Routes.Index()] {
		x, y := r.row(a.X, i), r.row(a.Dst, i)
		for _, c := range chosen {
			hidden := gate(r.product(a.Gate, c.expert, x), r.product(a.Up, c.expert, x))
			for j, v := range r.product(a.Down, c.expert, hidden) {
				y[j] += c.weight * v
			}
		}
		r.set(a.Dst, i, y)
	}
}

func normalize(x, weight []float64, eps float64) {
	factor := 1 / math.Sqrt(dot(x, x)/float64(len(x))+eps)
	for i := range x {
		x[i] *= factor * weight[i]
	}
}

func rotate(x []float64, info *hardware.RopeInfo, position int) {
	n := len(info.Frequencies)
	for i, f := range info.Frequencies {
		sin, cos := math.Sincos(float64(position) * f)
		sin, cos = sin*float64(info.Magnitude), cos*float64(info.Magnitude)
		u, v := i, i+n
		if info.Pairing == hardware.Interleaved {
			u, v = 2*i, 2*i+1
		}
		x[u], x[v] = x[u]*cos-x[v]*sin, x[v]*cos+x[u]*sin
	}
}

// gate is silu(g) * u.
func gate(g, u []float64) []float64 {
	y := make([]float64, len(g))
	for i := range y {
		y[i] = g[i] / (1 + math.Exp(-g[i])) * u[i]
	}
	return y
}

func softmax(x []float64) {
	largest, sum := slices.Max(x), 0.0
	for i := range x {
		x[i] = math.Exp(x[i] - largest)
		sum += x[i]
	}
	for i := range x {
		x[i] /= sum
	}
}

func softmaxParts(x []float64) []float64 {
	var parts []float64
	for part := range slices.Chunk(x, hardware.PartLen) {
		largest, sum := slices.Max(part), 0.0
		for _, v := range part {
			sum += math.Exp(v - largest)
		}
		parts = append(parts, largest, sum)
	}
	return parts
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

func compare(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// widen returns float32 as float64.
func widen(x []float32) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(v)
	}
	return y
}
