package inproc

import (
	"fmt"
	"math"
	"math/rand/v2"

	"hearth/hardware"
	"hearth/hardware/quant"
)

// groupOf returns the cases of an operation in a format, on so many bytes where they are to come from memory.
var groupOf = map[string]func(f *quant.Format, cold int) *group{
	"linear": linearGroup, "experts": expertsGroup, "attention": attentionGroup, "latents": latentsGroup, "select": selectGroup,
	"store": storeGroup, "embed": embedGroup,
	"norm": normGroup, "rope": ropeGroup, "glu": gluGroup, "add": addGroup, "softmax": softmaxGroup,
}

// smallTimes is how many operations are timed together where one goes by too fast for the clock.
const smallTimes = 16

// bench is a program under construction, with random operands from a fixed seed.
type bench struct {
	*hardware.Program
	random *rand.Rand
}

func newBench(what string) bench {
	return bench{hardware.NewProgram(what), rand.New(rand.NewPCG(3, 4))}
}

// normals returns random numbers of about one.
func (b *bench) normals(n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(b.random.NormFloat64())
	}
	return x
}

// packed returns a matrix's bytes: one random row again and again, since quantizing takes long. Formats that cannot be
// quantized to are zeros, which kernels multiply no faster.
func (b *bench) packed(f *quant.Format, out, in int) []byte {
	rowBytes, _ := f.RowBytes(in)
	data := make([]byte, out*rowBytes)
	if !f.CanQuantize() {
		return data
	}
	f.Quantize(data[:rowBytes], b.normals(in))
	for at := rowBytes; at < len(data); at += copy(data[at:], data[:at]) {
	}
	return data
}

func (b *bench) matrix(f *quant.Format, out, in int, data []byte) hardware.Weight {
	return b.Weight(hardware.WeightInfo{Name: "w", Format: f, Out: out, In: in, Data: data})
}

// rows begins a section with random rows of so many elements: those of a small table.
func (b *bench) rows(in int) hardware.Tensor {
	return b.Embed(b.matrix(quant.F32, tableRows, in, b.packed(quant.F32, tableRows, in)))
}

const tableRows = 16

// batch returns a step of one sequence with so many rows behind start.
func (b *bench) batch(rows, start, vocab int) *hardware.Batch {
	return b.sequences(1, rows, start, vocab)
}

// sequences returns a step of sequences that are alike, with blocks of their own.
func (b *bench) sequences(n, rows, start, vocab int) *hardware.Batch {
	batch := &hardware.Batch{}
	for range n {
		span := hardware.Span{Row: int32(len(batch.Tokens)), Len: int32(rows), Start: int32(start), Table: int32(len(batch.Tables))}
		batch.Spans = append(batch.Spans, span)
		for range rows {
			batch.Tokens = append(batch.Tokens, int32(b.random.IntN(vocab)))
		}
		for range span.Blocks() {
			batch.Tables = append(batch.Tables, int32(len(batch.Tables)))
		}
	}
	return batch
}

// limitsOf are wide enough for all cases.
func limitsOf(cases []kernelCase, kv *quant.Format) hardware.Limits {
	l := hardware.Limits{Outputs: 1, KV: kv}
	for _, c := range cases {
		l.Tokens, l.Spans = max(l.Tokens, len(c.batch.Tokens)), max(l.Spans, len(c.batch.Spans))
		l.Blocks = max(l.Blocks, len(c.batch.Tables))
		for _, s := range c.batch.Spans {
			l.MaxLen = max(l.MaxLen, int(s.Start+s.Len))
		}
	}
	return l
}

// linearShapes are [in, out]: the feed-forward of a model of 0.6 billion parameters, and a square one of 8 billion.
var linearShapes = [][2]int{{1024, 3072}, {4096, 4096}}

// linearGroup multiplies with weights that no cache holds; many rows with a few of them, since time is arithmetic then.
func linearGroup(f *quant.Format, cold int) *group {
	b := newBench("linear " + f.Name)
	g := &group{what: b.Name(), program: b.Program}
	for _, shape := range linearShapes {
		in, out := shape[0], shape[1]
		data := b.packed(f, out, in)
		weights := make([]hardware.Weight, (cold+len(data)-1)/len(data))
		for i := range weights {
			weights[i] = b.matrix(f, out, in, data)
		}
		for _, few := range []bool{true, false} {
			use, counts := weights, []int{1, 2, 4, 8, 16, 32}
			if !few {
				use, counts = weights[:min(len(weights), max(1, 8<<20/(in*out)))], []int{512}
			}
			section := b.Section("linear")
			// Two sources take turns, since products of one source share the preparing of its rows.
			x := [2]hardware.Tensor{b.rows(in), b.rows(in)}
			y := b.Temp(hardware.Tokens, 1, out)
			for i, w := range use {
				b.MatMulInto(y, x[i%2], w)
			}
			for _, rows := range counts {
				g.cases = append(g.cases, kernelCase{
					row: KernelRow{
						Op: "linear", Format: f.Name, Shape: fmt.Sprintf("%dx%d", out, in), Rows: rows,
						factors: f, Ops: 2 * float64(rows) * float64(in) * float64(out),
					},
					section: section, base: noBase, times: len(use), batch: b.batch(rows, 0, tableRows),
				})
			}
		}
	}
	g.limits = limitsOf(g.cases, quant.F16)
	return g
}

// The experts of a model of 30 billion parameters with 3 billion active ones, and how many layers of them take turns.
const (
	expertWidth, expertFFN, expertTopK = 2048, 768, 8
	expertLayers                       = 8
)

// expertsGroup chooses other experts in every layer, from so many that no cache holds those that are chosen.
func expertsGroup(f *quant.Format, cold int) *group {
	b := newBench("experts " + f.Name)
	g := &group{what: b.Name(), program: b.Program}
	matrixBytes := expertFFN * mustRowBytes(f, expertWidth)
	n := max(expertTopK, (cold+3*matrixBytes-1)/(3*matrixBytes))
	stack := func(out, in int) hardware.Weight {
		return b.Weight(hardware.WeightInfo{Name: "w", Format: f, Out: out, In: in, Experts: n, Data: b.packed(f, n*out, in)})
	}
	gate, up, down := stack(expertFFN, expertWidth), stack(expertFFN, expertWidth), stack(expertWidth, expertFFN)
	var routers [expertLayers]hardware.Weight
	for i := range routers {
		data := make([]byte, 4*n*expertWidth)
		quant.F32.Quantize(data, b.normals(n*expertWidth))
		routers[i] = b.matrix(quant.F32, n, expertWidth, data)
	}
	for _, c := range []struct {
		layers int
		rows   []int
	}{{expertLayers, []int{1, 4, 16}}, {1, []int{512}}} {
		route := func(section string) (s hardware.Section, x hardware.Tensor, routes []hardware.Routes) {
			s = b.Section(section)
			x = b.rows(expertWidth)
			for _, w := range routers[:c.layers] {
				routes = append(routes, b.Route(hardware.RouteArgs{Logits: b.MatMul(x, w), TopK: expertTopK, Normalize: true}))
			}
			return s, x, routes
		}
		base, _, _ := route("base")
		section, x, routes := route("experts")
		y := b.rows(expertWidth)
		for _, r := range routes {
			b.ExpertsAdd(hardware.ExpertsArgs{X: x, Routes: r, Gate: gate, Up: up, Down: down, Act: hardware.SiLU, Dst: y})
		}
		for _, rows := range c.rows {
			g.cases = append(g.cases, kernelCase{
				row: KernelRow{
					Op: "experts", Format: f.Name, Shape: fmt.Sprintf("%dx%dx%d", n, expertFFN, expertWidth), Rows: rows, factors: f,
					Ops: 2 * float64(rows) * expertTopK * 3 * expertWidth * expertFFN,
				},
				section: section, base: base, times: c.layers, batch: b.batch(rows, 0, tableRows),
			})
		}
	}
	g.limits = limitsOf(g.cases, quant.F16)
	return g
}

func mustRowBytes(f *quant.Format, n int) int {
	bytes, whole := f.RowBytes(n)
	if !whole {
		panic(fmt.Sprintf("inproc: rows of %d in %s", n, f))
	}
	return bytes
}

// storeGroup writes rows into the cache.
func storeGroup(f *quant.Format, _ int) *group {
	return rowGroup("store", f.Name, numKVHeads*headDim, float64(numKVHeads*headDim*4+mustRowBytes(f, numKVHeads*headDim)), f, func(b *bench) func(x hardware.Tensor) {
		s := b.Stream(hardware.StreamInfo{Name: "k", Heads: numKVHeads, Dim: headDim, Class: hardware.KeyStream})
		return func(x hardware.Tensor) {
			for range smallTimes {
				b.Store(s, x.Heads(numKVHeads))
			}
		}
	})
}

func normGroup(*quant.Format, int) *group {
	const dim = 1024
	return rowGroup("norm", quant.F32.Name, dim, 2*4*dim, quant.F16, func(b *bench) func(x hardware.Tensor) {
		w := b.matrix(quant.F32, 1, dim, b.packed(quant.F32, 1, dim))
		return func(x hardware.Tensor) {
			for range smallTimes {
				b.NormInto(x, x, w, 1e-6)
			}
		}
	})
}

func ropeGroup(*quant.Format, int) *group {
	return rowGroup("rope", quant.F32.Name, numHeads*headDim, 2*4*numHeads*headDim, quant.F16, func(b *bench) func(x hardware.Tensor) {
		frequencies := make([]float64, headDim/2)
		for i := range frequencies {
			frequencies[i] = math.Pow(1e6, -2*float64(i)/headDim)
		}
		rope := b.Rope(hardware.RopeInfo{Frequencies: frequencies, Pairing: hardware.HalfSplit})
		return func(x hardware.Tensor) {
			for range smallTimes {
				b.RoPEInto(x.Heads(numHeads), x.Heads(numHeads), rope)
			}
		}
	})
}

func gluGroup(*quant.Format, int) *group {
	const dim = 3072
	return rowGroup("glu", quant.F32.Name, dim, 3*4*dim, quant.F16, func(b *bench) func(x hardware.Tensor) {
		return func(x hardware.Tensor) {
			y := x
			for range smallTimes {
				y = b.GLU(hardware.SiLU, y, x)
			}
		}
	})
}

func addGroup(*quant.Format, int) *group {
	const dim = 1024
	return rowGroup("add", quant.F32.Name, dim, 3*4*dim, quant.F16, func(b *bench) func(x hardware.Tensor) {
		return func(x hardware.Tensor) {
			y := b.rows(dim)
			for range smallTimes {
				b.Add(y, x)
			}
		}
	})
}

// softmaxGroup takes what drawing a token needs of a row of logits.
func softmaxGroup(*quant.Format, int) *group {
	g := rowGroup("softmax", quant.F32.Name, sampledVocab, 4*(sampledVocab+2*float64(hardware.NumParts(sampledVocab))), quant.F16, func(b *bench) func(x hardware.Tensor) {
		return func(x hardware.Tensor) {
			for range smallTimes {
				b.SoftmaxParts(x)
			}
		}
	})
	g.cases = g.cases[:1] // more rows than sequences have no logits
	g.limits = limitsOf(g.cases, quant.F16)
	return g
}

// rowGroup measures what record records smallTimes of on rows of dim elements, each of which moves so many bytes.
func rowGroup(op, format string, dim int, rowBytes float64, kv *quant.Format, declare func(b *bench) func(x hardware.Tensor)) *group {
	b := newBench(op)
	g := &group{what: op, program: b.Program}
	record := declare(&b)
	base := b.Section("base")
	b.rows(dim)
	section := b.Section(op)
	record(b.rows(dim))
	for _, rows := range []int{1, 32, 512} {
		g.cases = append(g.cases, kernelCase{
			row:     KernelRow{Op: op, Format: format, Shape: fmt.Sprint(dim), Rows: rows, Bytes: float64(rows) * rowBytes},
			section: section, base: base, times: smallTimes, batch: b.batch(rows, 0, tableRows),
		})
	}
	g.limits = limitsOf(g.cases, kv)
	return g
}

// embedGroup looks random rows of a large table up.
func embedGroup(f *quant.Format, _ int) *group {
	const vocab, dim = 1 << 16, 1024
	b := newBench("embed " + f.Name)
	g := &group{what: b.Name(), program: b.Program}
	section := b.Section("embed")
	b.Embed(b.matrix(f, vocab, dim, b.packed(f, vocab, dim)))
	for _, rows := range []int{1, 512} {
		g.cases = append(g.cases, kernelCase{
			row: KernelRow{
				Op: "embed", Format: f.Name, Shape: fmt.Sprintf("%dx%d", vocab, dim), Rows: rows,
				Bytes: float64(rows * (mustRowBytes(f, dim) + 4*dim)),
			},
			section: section, base: noBase, times: 1, batch: b.batch(rows, 0, vocab),
		})
	}
	g.limits = limitsOf(g.cases, quant.F16)
	return g
}
