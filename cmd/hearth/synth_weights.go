package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"strings"

	"hearth/engine/model"
	"hearth/engine/weights"
	"hearth/hardware/quant"
)

// metadata returns the keys of a GGUF file of the shape, without the tokenizer's.
func (s *synthShape) metadata(recipe *weights.Recipe) *weights.Metadata {
	md := weights.NewMetadata()
	md.Set("general.architecture", s.arch)
	md.Set("general.name", fmt.Sprintf("random weights of the shape %s %s", s.arch, s.size))
	md.Set("general.file_type", recipe.FileType)
	md.Set("general.quantization_version", uint32(2))
	count := func(key string, n int) { md.Set(s.arch+"."+key, uint32(n)) }
	count("block_count", s.layers)
	count("context_length", s.context)
	count("embedding_length", s.hidden)
	count("feed_forward_length", s.ffn)
	count("attention.head_count", s.heads)
	count("attention.head_count_kv", s.kvHeads)
	count("attention.key_length", s.headDim)
	count("attention.value_length", s.headDim)
	count("rope.dimension_count", s.headDim)
	count("vocab_size", s.vocab)
	md.Set(s.arch+".rope.freq_base", s.theta)
	md.Set(s.arch+".attention.layer_norm_rms_epsilon", s.eps)
	if s.experts > 0 {
		count("expert_count", s.experts)
		count("expert_used_count", s.chosen)
		count("expert_feed_forward_length", s.expertFFN)
	}
	return md
}

func (s *synthShape) recipeModel() weights.RecipeModel {
	return weights.RecipeModel{NumLayers: s.layers, QueriesPerKV: s.heads / s.kvHeads, NumExperts: s.experts, Tied: s.tied}
}

// tensors lists the tensors of the shape, all F32, in the order of converted files.
func (s *synthShape) tensors() []weights.Tensor {
	var list []weights.Tensor
	add := func(name string, shape ...int) {
		list = append(list, weights.Tensor{Name: name, Shape: shape, Type: quant.F32.ID, Format: quant.F32})
	}
	add("token_embd.weight", s.vocab, s.hidden)
	queries, groups := s.heads*s.headDim, s.kvHeads*s.headDim
	for i := range s.layers {
		prefix := fmt.Sprintf("blk.%d.", i)
		add(prefix+"attn_norm.weight", s.hidden)
		add(prefix+"attn_q.weight", queries, s.hidden)
		add(prefix+"attn_k.weight", groups, s.hidden)
		add(prefix+"attn_v.weight", groups, s.hidden)
		if s.attentionBiases {
			add(prefix+"attn_q.bias", queries)
			add(prefix+"attn_k.bias", groups)
			add(prefix+"attn_v.bias", groups)
		}
		if s.attentionNorm {
			add(prefix+"attn_q_norm.weight", s.headDim)
			add(prefix+"attn_k_norm.weight", s.headDim)
		}
		add(prefix+"attn_output.weight", s.hidden, queries)
		add(prefix+"ffn_norm.weight", s.hidden)
		if s.experts > 0 {
			add(prefix+"ffn_gate_inp.weight", s.experts, s.hidden)
			add(prefix+"ffn_gate_exps.weight", s.experts, s.expertFFN, s.hidden)
			add(prefix+"ffn_up_exps.weight", s.experts, s.expertFFN, s.hidden)
			add(prefix+"ffn_down_exps.weight", s.experts, s.hidden, s.expertFFN)
			continue
		}
		add(prefix+"ffn_gate.weight", s.ffn, s.hidden)
		add(prefix+"ffn_up.weight", s.ffn, s.hidden)
		add(prefix+"ffn_down.weight", s.hidden, s.ffn)
	}
	add("output_norm.weight", s.hidden)
	if !s.tied {
		add("output.weight", s.vocab, s.hidden)
	}
	if s.llama3Factor > 0 {
		add(ropeFactorsName, s.headDim/2)
	}
	return list
}

// ropeFactorsName is the tensor that divides the rotary frequencies.
const ropeFactorsName = "rope_freqs.weight"

// weightGenerator writes random weights: norms of 1, biases near 0, and matrices whose rows have a length of 1, so that
// activations keep their magnitude over any number of layers.
//
// Quantizing billions of numbers would take longer than writing them. A large tensor is therefore put together from the
// blocks of a pool, which is quantized once for each format and row length; every block is drawn on its own.
type weightGenerator struct {
	ctx         context.Context // of the command; a write callback has no parameter for it
	seed        uint64
	ropeFactors []float32 // [headDim/2]
	bar         *progressBar
	pools       map[poolKey]*blockPool
}

type poolKey struct {
	format *quant.Format
	rowLen int
}

// blockPool holds the encoding of random numbers, in units of the same size.
type blockPool struct {
	data      []byte
	unitBytes int
}

const (
	poolElements  = 1 << 18 // of a pool
	freshElements = 1 << 18 // tensors up to this size are drawn number by number
	unitElements  = 256     // of a unit, where rows allow it: a whole number of blocks of every format
)

func newWeightGenerator(ctx context.Context, seed uint64, shape *synthShape) *weightGenerator {
	return &weightGenerator{ctx: ctx, seed: seed, ropeFactors: shape.ropeFactors(), pools: map[poolKey]*blockPool{}}
}

// writer returns what writes the i-th tensor.
func (g *weightGenerator) writer(t weights.Tensor, i uint64) func(io.Writer) error {
	rng := rand.New(rand.NewPCG(g.seed, i))
	rowLen := t.Shape[len(t.Shape)-1]
	return func(w io.Writer) error {
		out := &meteredWriter{w, g}
		switch {
		case t.Name == ropeFactorsName:
			return writeFloats(out, g.ropeFactors)
		case len(t.Shape) == 1:
			values := make([]float32, rowLen)
			for j := range values {
				if values[j] = 1; strings.HasSuffix(t.Name, ".bias") {
					values[j] = float32(0.1 * rng.NormFloat64())
				}
			}
			return writeFloats(out, values)
		case t.Elements() <= freshElements:
			return writeFresh(out, t, rng)
		}
		return g.pool(t.Format, rowLen).write(out, t, rng)
	}
}

// writeFresh draws every number of a tensor.
func writeFresh(w io.Writer, t weights.Tensor, rng *rand.Rand) error {
	rowLen := t.Shape[len(t.Shape)-1]
	rowBytes, _ := t.Format.RowBytes(rowLen)
	row, encoded := make([]float32, rowLen), make([]byte, rowBytes)
	for range int(t.Elements()) / rowLen {
		fillNormal(row, rowLen, rng)
		t.Format.Quantize(encoded, row)
		if _, err := w.Write(encoded); err != nil {
			return err
		}
	}
	return nil
}

// fillNormal draws numbers such that a row of rowLen has a length of about 1.
func fillNormal(values []float32, rowLen int, rng *rand.Rand) {
	deviation := 1 / math.Sqrt(float64(rowLen))
	for i := range values {
		values[i] = float32(deviation * rng.NormFloat64())
	}
}

// pool returns the blocks for rows of a length. Its contents depend on the seed, the format and the length alone.
func (g *weightGenerator) pool(f *quant.Format, rowLen int) *blockPool {
	key := poolKey{f, rowLen}
	if g.pools[key] == nil {
		unit := unitElements
		for rowLen%unit != 0 { // ends: a row is whole blocks, whose lengths are powers of two
			unit /= 2
		}
		values := make([]float32, poolElements)
		fillNormal(values, rowLen, rand.New(rand.NewPCG(g.seed, uint64(f.ID)<<32|uint64(rowLen))))
		bytes, _ := f.RowBytes(len(values))
		p := &blockPool{data: make([]byte, bytes)}
		p.unitBytes, _ = f.RowBytes(unit)
		f.Quantize(p.data, values)
		g.pools[key] = p
	}
	return g.pools[key]
}

// write puts a tensor together from units of the pool.
func (p *blockPool) write(w io.Writer, t weights.Tensor, rng *rand.Rand) error {
	size, _ := t.Format.RowBytes(int(t.Elements()))
	numUnits := len(p.data) / p.unitBytes // a power of two
	buffer := make([]byte, 0, 1<<20)
	for left := size / p.unitBytes; left > 0; {
		buffer = buffer[:0]
		for draws := uint64(0); left > 0 && len(buffer)+p.unitBytes <= cap(buffer); left-- {
			if draws < 1<<16 { // a draw gives three units; the bit on top says how many are left
				draws = rng.Uint64() | 1<<63
			}
			unit := int(draws&0xffff) % numUnits
			draws >>= 16
			buffer = append(buffer, p.data[unit*p.unitBytes:][:p.unitBytes]...)
		}
		if _, err := w.Write(buffer); err != nil {
			return err
		}
	}
	return nil
}

// ropeFactors are the divisors of the rotary frequencies, nil for shapes without them. Llama 3.1 and 3.2 stretch 8192
// positions, and differ in the factor.
func (s *synthShape) ropeFactors() []float32 {
	if s.llama3Factor == 0 {
		return nil
	}
	scaling := model.RopeScaling{Factor: s.llama3Factor, OriginalContext: 8192, LowFreq: 1, HighFreq: 4}
	factors := make([]float32, s.headDim/2)
	for i, d := range scaling.Divisors(s.headDim, float64(s.theta)) {
		factors[i] = float32(d)
	}
	return factors
}

func writeFloats(w io.Writer, values []float32) error {
	return binary.Write(w, binary.LittleEndian, values)
}

// meteredWriter moves the bar, and stops when the command is interrupted.
type meteredWriter struct {
	w io.Writer
	g *weightGenerator
}

func (m *meteredWriter) Write(data []byte) (int, error) {
	if err := m.g.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := m.w.Write(data)
	m.g.bar.add(int64(n))
	return n, err
}
