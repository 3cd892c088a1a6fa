package main

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
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
	set := func(key string, value any) { md.Set(s.arch+"."+key, value) }
	set("block_count", uint32(s.layers+s.blocks))
	if s.blocks > 0 {
		set("nextn_predict_layers", uint32(s.blocks))
	}
	set("context_length", uint32(s.context))
	set("embedding_length", uint32(s.hidden))
	set("feed_forward_length", uint32(s.ffn))
	set("attention.head_count", uint32(s.heads))
	set("attention.head_count_kv", uint32(s.kvHeads))
	if s.headDim > 0 {
		set("attention.key_length", uint32(s.headDim))
		set("attention.value_length", uint32(s.headDim))
		set("rope.dimension_count", uint32(cmp.Or(s.rotated, s.headDim)))
	}
	set("vocab_size", uint32(s.vocab))
	set("rope.freq_base", s.theta)
	set("attention.layer_norm_rms_epsilon", s.eps)
	s.mixer.keys(s, set)
	s.experts.keys(s, set)
	return md
}

// keys sets the metadata of experts.
func (e *synthExperts) keys(s *synthShape, set func(name string, value any)) {
	if e.count == 0 {
		return
	}
	set("expert_count", uint32(e.count))
	set("expert_used_count", uint32(e.chosen))
	set("expert_feed_forward_length", uint32(e.ffn))
	set("expert_weights_norm", !e.unnormalized)
	for key, n := range map[string]int{
		"expert_shared_count": e.shared, "leading_dense_block_count": min(e.dense, s.layers), "hash_layer_count": min(e.hash, s.layers),
		"expert_group_count": e.groups, "expert_group_used_count": e.usedGroups, "expert_gating_func": e.scoring,
	} {
		if n > 0 {
			set(key, uint32(n))
		}
	}
	if e.sharedFFN > 0 && e.shared == 0 {
		set("expert_shared_feed_forward_length", uint32(e.sharedFFN))
	}
	if e.scale > 0 {
		set("expert_weights_scale", e.scale)
	}
	if e.limit > 0 {
		set("swiglu_clamp_exp", slices.Repeat([]float32{e.limit}, s.layers+s.blocks))
		set("swiglu_clamp_shexp", slices.Repeat([]float32{e.limit}, s.layers+s.blocks))
	}
}

func (s *synthShape) recipeModel() weights.RecipeModel {
	return weights.RecipeModel{NumLayers: s.layers, QueriesPerKV: s.heads / s.kvHeads, NumExperts: s.experts.count, Tied: s.tied}
}

// tensors lists the tensors of the shape, all F32 but the table from tokens to experts, in the order of converted files.
func (s *synthShape) tensors() []weights.Tensor {
	var list []weights.Tensor
	add := func(name string, shape ...int) {
		t := weights.Tensor{Name: name, Shape: shape, Type: quant.F32.ID, Format: quant.F32}
		if strings.HasSuffix(name, tokenTableName) {
			t.Type, t.Format = typeI32, nil
		}
		list = append(list, t)
	}
	add("token_embd.weight", s.vocab, s.hidden)
	for i := range s.layers + s.blocks {
		inner := func(name string, shape ...int) { add(fmt.Sprintf("blk.%d.%s", i, name), shape...) }
		inner("attn_norm.weight", s.hidden)
		s.mixer.layer(s, i, inner)
		inner(cmp.Or(s.ffnNorm, "ffn_norm")+".weight", s.hidden)
		if s.experts.count == 0 || i < s.experts.dense {
			s.addFFN("", s.ffn, inner)
		} else {
			s.addExperts(i, inner)
		}
		if i >= s.layers {
			inner("nextn.eh_proj.weight", s.hidden, 2*s.hidden)
			inner("nextn.enorm.weight", s.hidden)
			inner("nextn.hnorm.weight", s.hidden)
			inner("nextn.shared_head_norm.weight", s.hidden)
		}
	}
	add("output_norm.weight", s.hidden)
	if !s.tied {
		add("output.weight", s.vocab, s.hidden)
	}
	s.mixer.outer(s, add)
	return list
}

// addFFN adds a feed-forward network, whose tensors have a suffix.
func (s *synthShape) addFFN(suffix string, ffn int, add func(name string, shape ...int)) {
	add("ffn_gate"+suffix+".weight", ffn, s.hidden)
	add("ffn_up"+suffix+".weight", ffn, s.hidden)
	add("ffn_down"+suffix+".weight", s.hidden, ffn)
}

// addExperts adds the experts of layer i.
func (s *synthShape) addExperts(i int, add func(name string, shape ...int)) {
	e := &s.experts
	add("ffn_gate_inp.weight", e.count, s.hidden)
	switch {
	case i < e.hash:
		add(tokenTableName, s.vocab, e.chosen)
	case e.bias:
		add("exp_probs_b.bias", e.count)
	}
	add("ffn_gate_exps.weight", e.count, e.ffn, s.hidden)
	add("ffn_up_exps.weight", e.count, e.ffn, s.hidden)
	add("ffn_down_exps.weight", e.count, s.hidden, e.ffn)
	if e.sharedFFN > 0 {
		s.addFFN("_shexp", e.sharedFFN, add)
	}
	if e.sharedGate {
		add("ffn_gate_inp_shexp.weight", s.hidden)
	}
}

// tokenTableName is the tensor with the experts of each token, of integers.
const (
	tokenTableName = "ffn_gate_tid2eid.weight"
	typeI32        = 26
)

// ropeFactorsName is the tensor that divides the rotary frequencies.
const ropeFactorsName = "rope_freqs.weight"

// weightGenerator writes random weights: norms of 1, biases near 0, and matrices whose rows have a length of 1, so that
// activations keep their magnitude over any number of layers. Decays of delta rules are drawn as models begin training with
// (arXiv 2412.06464, and Hugging Face modeling_qwen3_next.py): they forget over tens to thousands of positions.
//
// Quantizing billions of numbers would take longer than writing them. A large tensor is therefore put together from the
// blocks of a pool, which is quantized once for each format and row length; every block is drawn on its own.
type weightGenerator struct {
	ctx         context.Context // of the command; a write callback has no parameter for it
	seed        uint64
	ropeFactors []float32 // [headDim/2]
	numExperts  int
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
	return &weightGenerator{ctx: ctx, seed: seed, ropeFactors: shape.ropeFactors(), numExperts: shape.experts.count, pools: map[poolKey]*blockPool{}}
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
		case strings.HasSuffix(t.Name, tokenTableName):
			return writeTokenTable(out, t, g.numExperts, rng)
		case len(t.Shape) == 1 && !strings.HasSuffix(t.Name, "ffn_gate_inp_shexp.weight"):
			draw := vectorElement(t.Name)
			values := make([]float32, rowLen)
			for j := range values {
				values[j] = float32(draw(rng))
			}
			return writeFloats(out, values)
		case t.Elements() <= freshElements:
			return writeFresh(out, t, rng)
		}
		return g.pool(t.Format, rowLen).write(out, t, rng)
	}
}

// vectorElement returns what draws the elements of a vector: 1 for norms and scales.
func vectorElement(name string) func(rng *rand.Rand) float64 {
	switch {
	case strings.HasSuffix(name, ".ssm_a"): // rates from 1 to 16
		return func(rng *rand.Rand) float64 { return -1 - 15*rng.Float64() }
	case strings.HasSuffix(name, ".ssm_dt.bias"): // steps from 0.001 to 0.1, before the softplus
		return func(rng *rand.Rand) float64 { return math.Log(math.Expm1(math.Pow(10, -3+2*rng.Float64()))) }
	case strings.HasSuffix(name, ".bias"), strings.HasSuffix(name, "_base.weight"), strings.HasSuffix(name, ".attn_sinks.weight"):
		return func(rng *rand.Rand) float64 { return 0.1 * rng.NormFloat64() }
	}
	return func(*rand.Rand) float64 { return 1 }
}

// writeTokenTable draws different experts for each token.
func writeTokenTable(w io.Writer, t weights.Tensor, numExperts int, rng *rand.Rand) error {
	table := make([]int32, 0, t.Elements())
	for range t.Shape[0] {
		row := len(table)
		for len(table) < row+t.Shape[1] {
			if e := int32(rng.IntN(numExperts)); !slices.Contains(table[row:], e) {
				table = append(table, e)
			}
		}
	}
	return binary.Write(w, binary.LittleEndian, table)
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
