package devicetest

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"

	"hearth/hardware"
	"hearth/hardware/quant"
)

// builder records a program with random weights.
type builder struct {
	*hardware.Program
	rng *rand.Rand
}

func newBuilder(name string, seed uint64) *builder {
	return &builder{hardware.NewProgram(name), rand.New(rand.NewPCG(seed, 7))}
}

// values returns n normally distributed elements.
func (b *builder) values(n int, deviation float64) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(b.rng.NormFloat64() * deviation)
	}
	return x
}

// matrix declares a weight [out, in] whose products with normally distributed rows have about the same size.
func (b *builder) matrix(name string, f *quant.Format, out, in int) hardware.Weight {
	return b.Weight(b.info(name, f, out, in))
}

func (b *builder) info(name string, f *quant.Format, out, in int) hardware.WeightInfo {
	return hardware.WeightInfo{Name: name, Format: f, Out: out, In: in, Data: b.pack(f, out*in, 1/math.Sqrt(float64(in)))}
}

// stack declares the weights of experts.
func (b *builder) stack(name string, f *quant.Format, experts, out, in int) hardware.Weight {
	return b.Weight(hardware.WeightInfo{
		Name: name, Format: f, Out: out, In: in, Experts: experts, Data: b.pack(f, experts*out*in, 1/math.Sqrt(float64(in))),
	})
}

// table declares an embedding of plain elements of size 1: the rows that operations are tested with.
func (b *builder) table(vocab, dim int) hardware.Weight {
	return b.Weight(hardware.WeightInfo{Name: "table", Format: quant.F32, Out: vocab, In: dim, Data: b.pack(quant.F32, vocab*dim, 1)})
}

// vector declares the weight of a norm, around 1.
func (b *builder) vector(name string, n int) hardware.Weight { return b.around(name, n, 1) }

// around declares a vector whose elements lie around a number.
func (b *builder) around(name string, n int, mean float32) hardware.Weight {
	x := b.values(n, 0.2)
	for i := range x {
		x[i] = mean * (1 + x[i])
	}
	data := make([]byte, 4*n)
	quant.F32.Quantize(data, x)
	return b.Weight(hardware.WeightInfo{Name: name, Format: quant.F32, Out: 1, In: n, Data: data})
}

// pack returns n elements in a format. Formats that are only read get random bytes, block by block, until the elements
// are of a usual size.
func (b *builder) pack(f *quant.Format, n int, deviation float64) []byte {
	size, _ := f.RowBytes(n)
	data := make([]byte, size)
	if f.CanQuantize() {
		f.Quantize(data, b.values(n, deviation))
		return data
	}
	elements := make([]float32, f.BlockLen)
	for at := 0; at < size; at += f.BlockBytes {
		block := data[at:][:f.BlockBytes]
		for usual := false; !usual; {
			for i := range block {
				block[i] = byte(b.rng.Uint32())
			}
			f.Dequantize(elements, block)
			largest := 0.0
			for _, v := range elements {
				largest = max(largest, math.Abs(float64(v))) // NaN stays, and is never usual
			}
			usual = largest > deviation/16 && largest < deviation*16
		}
	}
	return data
}

// show makes a tensor of any rows an output.
func (b *builder) show(name string, x hardware.Tensor) hardware.Output {
	if x.Rows() == hardware.Tokens {
		x = b.Gather(x)
	}
	return b.Output(name, x.Cols(0, x.Size()))
}

// frequencies of a rotary embedding over n elements of a head.
func frequencies(n int, theta float64) []float64 {
	f := make([]float64, n/2)
	for i := range f {
		f[i] = math.Pow(theta, -2*float64(i)/float64(n))
	}
	return f
}

// modelSpec describes a tiny model that has every operation.
type modelSpec struct {
	weights *quant.Format
	moe     bool
	tied    bool
	delta   bool // the first layer is a gated delta rule instead of attention
	forms   bool // newFormsModel
}

// String names the model in tests.
func (s modelSpec) String() string {
	switch {
	case s.moe:
		return "sparse"
	case s.delta:
		return "delta"
	case s.forms:
		return "forms"
	}
	return "dense"
}

// The geometry of the tiny model's attention.
const modelHeads, modelKVHeads, modelHeadDim = 4, 2, 32

// model is a program of a tiny model.
type model struct {
	*hardware.Program
	trunk   hardware.Section
	logits  hardware.Output
	vocab   int
	players uint64 // made so far: the seed of the order of the next one's blocks
}

// newModel records two layers of grouped-query attention, with normalised queries and keys, and a dense or a sparse
// feed-forward network.
func newModel(spec modelSpec) *model {
	if spec.forms {
		return newFormsModel(spec)
	}
	const layers, vocab = 2, 50
	hidden, ffn := 64, 96
	if n := spec.weights.BlockLen; n > 32 {
		hidden, ffn = n, n
	}
	b := newBuilder("tiny", 1)
	m := &model{Program: b.Program, vocab: vocab}
	head := b.matrix("token_embd", spec.weights, vocab, hidden)
	embed := head
	if !spec.tied {
		embed = b.table(vocab, hidden)
	}
	rope := b.Rope(hardware.RopeInfo{Frequencies: frequencies(modelHeadDim, 10000), Pairing: hardware.HalfSplit})
	m.trunk = b.Section("trunk")
	x := b.Embed(embed)
	for layer := range layers {
		f := func(out, in int) hardware.Weight { return b.matrix("w", spec.weights, out, in) }
		b.Mixer(layer)
		h := b.Norm(x, b.vector("attn_norm", hidden), 1e-5)
		if spec.delta && layer == 0 {
			b.deltaNet(spec.weights, x, h)
		} else {
			b.selfAttention(spec.weights, layer, x, h, rope)
		}
		b.FFN(layer)
		h = b.Norm(x, b.vector("ffn_norm", hidden), 1e-5)
		if spec.moe {
			const experts, topK = 6, 2
			routes := b.Route(hardware.RouteArgs{Logits: b.MatMul(h, b.matrix("router", quant.F32, experts, hidden)), TopK: topK, Normalize: true})
			b.ExpertsAdd(hardware.ExpertsArgs{
				X: h, Routes: routes, Act: hardware.SiLU, Dst: x,
				Gate: b.stack("gate", spec.weights, experts, ffn, hidden), Up: b.stack("up", spec.weights, experts, ffn, hidden),
				Down: b.stack("down", spec.weights, experts, hidden, ffn),
			})
		} else {
			b.MatMulAdd(x, b.GLU(hardware.SiLU, b.MatMul(h, f(ffn, hidden)), b.MatMul(h, f(ffn, hidden))), f(hidden, ffn))
		}
	}
	b.Tail()
	logits := b.MatMul(b.Norm(b.Gather(x), b.vector("norm", hidden), 1e-5), head)
	m.logits = b.Output("logits", logits)
	b.show("softmax parts", b.SoftmaxParts(logits))
	return m
}

// selfAttention records x += grouped-query attention of h, with normalised queries and keys.
func (b *builder) selfAttention(weights *quant.Format, layer int, x, h hardware.Tensor, rope hardware.Rope) {
	hidden := x.Size()
	f := func(out int) hardware.Weight { return b.matrix("w", weights, out, hidden) }
	keys := b.Stream(hardware.StreamInfo{Name: "k", Layer: layer, Heads: modelKVHeads, Dim: modelHeadDim, Class: hardware.KeyStream})
	values := b.Stream(hardware.StreamInfo{Name: "v", Layer: layer, Heads: modelKVHeads, Dim: modelHeadDim, Class: hardware.ValueStream})
	q := b.MatMul(h, f(modelHeads*modelHeadDim)).Heads(modelHeads)
	k := b.MatMul(h, f(modelKVHeads*modelHeadDim)).Heads(modelKVHeads)
	v := b.MatMul(h, f(modelKVHeads*modelHeadDim)).Heads(modelKVHeads)
	q = b.RoPE(b.Norm(q, b.vector("q_norm", modelHeadDim), 1e-5), rope)
	k = b.RoPE(b.Norm(k, b.vector("k_norm", modelHeadDim), 1e-5), rope)
	b.Store(keys, k)
	b.Store(values, v)
	o := b.Attention(q, keys, values, float32(1/math.Sqrt(modelHeadDim)))
	b.MatMulAdd(x, o, b.fitting("o", weights, hidden, modelHeads*modelHeadDim))
}

// fitting declares a weight in a format, or as float32 where the rows are not whole blocks of it.
func (b *builder) fitting(name string, f *quant.Format, out, in int) hardware.Weight {
	if _, whole := f.RowBytes(in); !whole {
		f = quant.F32
	}
	return b.matrix(name, f, out, in)
}

// load loads a program and closes the queue when the test ends.
func load(t testing.TB, d hardware.Device, p *hardware.Program, l hardware.Limits) hardware.Queue {
	t.Helper()
	q, err := d.Load(context.Background(), p, l)
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	t.Cleanup(func() {
		if err := q.Close(); err != nil {
			t.Errorf("Close of the queue: %v", err)
		}
	})
	return q
}

// claims reports whether a device claims all operations and weight formats of a program.
func claims(d hardware.Device, p *hardware.Program) bool {
	info := d.Info()
	for s := range p.NumSections() {
		for _, op := range p.Ops(hardware.Section(s)) {
			if !contains(info.Ops, op.Args.Kind()) {
				return false
			}
		}
	}
	for i := range p.NumWeights() {
		if !contains(info.Formats, p.WeightAt(i).Format) {
			return false
		}
	}
	return true
}

func contains[T comparable](list []T, x T) bool {
	for _, v := range list {
		if v == x {
			return true
		}
	}
	return false
}
