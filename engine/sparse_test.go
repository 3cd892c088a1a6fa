package engine

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"hearth/engine/model"
	"hearth/engine/weights"
	"hearth/hardware"
	"hearth/hardware/quant"
)

// sparsePass is the forward pass of transformers with experts in double precision, one sequence and position after the
// other: the reference where the reference implementation has no logits, or does not do what the published models do.
type sparsePass struct {
	src     weights.Source
	tensors map[string][]float64

	layers, heads, kvHeads, headDim int
	rotated                         int // elements of a head
	theta, eps                      float64
	experts, topK                   int
	sigmoidScores                   bool // instead of softmax without making the chosen ones sum to one; with a bias, and sum one
	scale                           float64
	clipped                         bool // the unit of gpt-oss instead of SwiGLU
	dense                           int  // leading layers without experts
	indexHeads                      int  // 0: all positions are attended to
	unit, local, units              int
}

// sparseLayer is what a layer remembers of each position.
type sparseLayer struct{ keys, values, index [][]float64 }

// values returns a tensor's elements, nil where there is none.
func (m *sparsePass) values(name string) []float64 {
	if x, ok := m.tensors[name]; ok || !m.src.Has(name) {
		return x
	}
	t, err := m.src.Tensor(name)
	if err != nil {
		panic(err)
	}
	single := make([]float32, t.Elements())
	quant.F32.Dequantize(single, t.Data)
	x := make([]float64, len(single))
	for i, v := range single {
		x[i] = float64(v)
	}
	m.tensors[name] = x
	return x
}

// linear multiplies a row with a matrix, or with one of a stack of n.
func (m *sparsePass) linear(name string, i, n int, x []float64) []float64 {
	w, bias := m.values(name+".weight"), m.values(name+".bias")
	w = w[i*len(w)/n:][:len(w)/n]
	y := make([]float64, len(w)/len(x))
	for o := range y {
		for j, v := range x {
			y[o] += w[o*len(x)+j] * v
		}
		if bias != nil {
			y[o] += bias[o]
		}
	}
	return y
}

func (m *sparsePass) norm(name string, x []float64) []float64 {
	return rmsNorm64(x, m.values(name+".weight"), m.eps)
}

// rmsNorm64 is root mean square normalisation in double precision.
func rmsNorm64[T float32 | float64](x []float64, weight []T, eps float64) []float64 {
	sum := 0.0
	for _, v := range x {
		sum += v * v
	}
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = v / math.Sqrt(sum/float64(len(x))+eps) * float64(weight[i])
	}
	return y
}

// turned normalises a head, where there is a weight for that, and rotates it.
func (m *sparsePass) turned(norm string, x []float64, position int) []float64 {
	y := slices.Clone(x)
	if m.src.Has(norm + ".weight") {
		y = m.norm(norm, x)
	}
	for i := range m.rotated / 2 {
		sin, cos := math.Sincos(float64(position) * math.Pow(m.theta, -2*float64(i)/float64(m.rotated)))
		u, v := y[i], y[i+m.rotated/2]
		y[i], y[i+m.rotated/2] = u*cos-v*sin, v*cos+u*sin
	}
	return y
}

func product(a, b []float64) float64 {
	sum := 0.0
	for i, v := range a {
		sum += v * b[i]
	}
	return sum
}

func (m *sparsePass) attention(p string, layer *sparseLayer, x []float64) []float64 {
	at := len(layer.keys)
	k, v := m.linear(p+"attn_k", 0, 1, x), m.linear(p+"attn_v", 0, 1, x)
	for h := range m.kvHeads {
		copy(k[h*m.headDim:], m.turned(p+"attn_k_norm", k[h*m.headDim:][:m.headDim], at))
	}
	layer.keys, layer.values = append(layer.keys, k), append(layer.values, v)
	chosen := m.chooseUnits(p, layer, x)
	var y []float64
	for h, q := range slices.Collect(slices.Chunk(m.linear(p+"attn_q", 0, 1, x), m.headDim)) {
		q = m.turned(p+"attn_q_norm", q, at)
		group := h / (m.heads / m.kvHeads)
		o, total := make([]float64, m.headDim), 0.0
		for past := range layer.keys {
			if chosen != nil && !slices.Contains(chosen[group*m.indexHeads/m.kvHeads], past/m.unit) {
				continue
			}
			w := math.Exp(product(q, layer.keys[past][group*m.headDim:][:m.headDim]) / math.Sqrt(float64(m.headDim)))
			total += w
			for i := range o {
				o[i] += w * layer.values[past][group*m.headDim+i]
			}
		}
		for _, v := range o {
			y = append(y, v/total)
		}
	}
	return m.linear(p+"attn_output", 0, 1, y)
}

// chooseUnits returns the units that each index head chooses, nil where there is no indexer.
func (m *sparsePass) chooseUnits(p string, layer *sparseLayer, x []float64) [][]int {
	if !m.src.Has(p + "indexer.q_proj.weight") {
		return nil
	}
	at := len(layer.index)
	layer.index = append(layer.index, m.turned(p+"indexer.k_norm", m.linear(p+"indexer.k_proj", 0, 1, x), at))
	queries := m.linear(p+"indexer.q_proj", 0, 1, x)
	chosen := make([][]int, m.indexHeads)
	for g, q := range slices.Collect(slices.Chunk(queries, len(queries)/m.indexHeads)) {
		q = m.turned(p+"indexer.q_norm", q, at)
		scores := make([]float64, at/m.unit+1)
		for u := range scores {
			scores[u] = math.Inf(-1)
			for past := u * m.unit; past < min((u+1)*m.unit, at+1); past++ {
				scores[u] = max(scores[u], product(q, layer.index[past]))
			}
			if u > at/m.unit-m.local {
				scores[u] = math.Inf(1)
			}
		}
		chosen[g] = largest(scores, min(m.units, len(scores)))
	}
	return chosen
}

// largest returns the places of the n largest elements.
func largest(x []float64, n int) []int {
	order := make([]int, len(x))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(x[b], x[a]) })
	return order[:n]
}

// network is a gated network whose tensors have a suffix, or one of a stack.
func (m *sparsePass) network(p, suffix string, i, n int, x []float64) []float64 {
	hidden := m.linear(p+"ffn_gate"+suffix, i, n, x)
	for j, u := range m.linear(p+"ffn_up"+suffix, i, n, x) {
		g := hidden[j]
		if m.clipped {
			g, u = min(g, 7), min(max(u, -7), 7)+1
			hidden[j] = g * sigmoid64(1.702*g) * u
		} else {
			hidden[j] = g * sigmoid64(g) * u
		}
	}
	return m.linear(p+"ffn_down"+suffix, i, n, hidden)
}

func (m *sparsePass) mixture(p string, x []float64) []float64 {
	scores := m.linear(p+"ffn_gate_inp", 0, 1, x)
	total := 0.0
	for i, l := range scores {
		if scores[i] = math.Exp(l); m.sigmoidScores {
			scores[i] = sigmoid64(l)
		}
		total += scores[i]
	}
	ranks := slices.Clone(scores)
	for i, b := range m.values(p + "exp_probs_b.bias") {
		ranks[i] += b
	}
	chosen := largest(ranks, m.topK)
	if m.sigmoidScores {
		total = 0
		for _, e := range chosen {
			total += scores[e]
		}
	}
	y := m.network(p, "_shexp", 0, 1, x)
	if m.src.Has(p + "ffn_gate_inp_shexp.weight") {
		share := sigmoid64(m.linear(p+"ffn_gate_inp_shexp", 0, 1, x)[0])
		for i := range y {
			y[i] *= share
		}
	}
	for _, e := range chosen {
		for i, v := range m.network(p, "_exps", e, m.experts, x) {
			y[i] += scores[e] / total * m.scale * v
		}
	}
	return y
}

// logits returns those of every position.
func (m *sparsePass) logits(tokens []int32) [][]float32 {
	m.tensors = map[string][]float64{}
	layers := make([]sparseLayer, m.layers)
	var rows [][]float32
	for _, token := range tokens {
		width := len(m.values("output_norm.weight"))
		x := slices.Clone(m.values("token_embd.weight")[int(token)*width:][:width])
		add := func(y []float64) {
			for i, v := range y {
				x[i] += v
			}
		}
		for i := range layers {
			p := fmt.Sprintf("blk.%d.", i)
			add(m.attention(p, &layers[i], m.norm(p+"attn_norm", x)))
			if h := m.norm(p+"ffn_norm", x); i < m.dense {
				add(m.network(p, "", 0, 1, h))
			} else {
				add(m.mixture(p, h))
			}
		}
		var row []float32
		for _, v := range m.linear("output", 0, 1, m.norm("output_norm", x)) {
			row = append(row, float32(v))
		}
		rows = append(rows, row)
	}
	return rows
}

// compare feeds tokens to a model in chunks and wants the logits of this pass at every position.
func (m *sparsePass) compare(t *testing.T, src weights.Source, tokens []int32, device hardware.Device, chunks ...int) {
	t.Helper()
	want := m.logits(tokens)
	var positions []int
	for i := range want {
		positions = append(positions, i)
	}
	for _, chunk := range chunks {
		loaded, err := model.Load(src)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Logits(t.Context(), loaded, tokens, positions, LogitsOptions{Device: device, Chunk: chunk})
		if err != nil {
			t.Fatal(err)
		}
		for i := range want {
			if e := nmse(got[i], want[i]); !(e <= maxNMSE) {
				t.Fatalf("chunks of %d: position %d: error %.3g", chunk, i, e)
			}
		}
	}
}

// The sizes of a tiny Qwen2-MoE.
const moeVocab, moeLayers, moeHeads, moeKVHeads, moeHeadDim, moeExperts = 64, 3, 4, 2, 12, 6

// openQwen2MoE writes a seeded Qwen2-MoE as a GGUF file and opens it.
func openQwen2MoE(t testing.TB) weights.Source {
	t.Helper()
	const width, ffn, shared = 48, 20, 28
	md := weights.NewMetadata()
	md.Set("general.architecture", "qwen2moe")
	for key, value := range map[string]any{
		"block_count": uint32(moeLayers), "context_length": uint32(512), "embedding_length": uint32(width), "vocab_size": uint32(moeVocab),
		"attention.head_count": uint32(moeHeads), "attention.head_count_kv": uint32(moeKVHeads), "attention.layer_norm_rms_epsilon": float32(1e-6),
		"rope.freq_base": float32(1e6), "feed_forward_length": uint32(99), "expert_count": uint32(moeExperts), "expert_used_count": uint32(2),
		"expert_feed_forward_length": uint32(ffn), "expert_shared_feed_forward_length": uint32(shared),
	} {
		md.Set("qwen2moe."+key, value)
	}
	rng := rand.New(rand.NewPCG(2, 57))
	var tensors []weights.NewTensor
	add := func(name string, mean, deviation float64, shape ...int) {
		tensor := weights.NewTensor{Name: name, Shape: shape}
		size, err := tensor.Size()
		if err != nil {
			t.Fatal(err)
		}
		x, data := make([]float32, size/4), make([]byte, size)
		for i := range x {
			x[i] = float32(mean + deviation*rng.NormFloat64())
		}
		quant.F32.Quantize(data, x)
		tensor.Write = func(w io.Writer) error {
			_, err := w.Write(data)
			return err
		}
		tensors = append(tensors, tensor)
	}
	matrix := func(name string, shape ...int) {
		add(name+".weight", 0, 1/math.Sqrt(float64(shape[len(shape)-1])), shape...)
	}
	matrix("token_embd", moeVocab, width)
	matrix("output", moeVocab, width)
	add("output_norm.weight", 1, 0.2, width)
	for i := range moeLayers {
		p := fmt.Sprintf("blk.%d.", i)
		add(p+"attn_norm.weight", 1, 0.2, width)
		add(p+"ffn_norm.weight", 1, 0.2, width)
		for _, projection := range []struct {
			name string
			out  int
		}{{"attn_q", moeHeads * moeHeadDim}, {"attn_k", moeKVHeads * moeHeadDim}, {"attn_v", moeKVHeads * moeHeadDim}} {
			matrix(p+projection.name, projection.out, width)
			add(p+projection.name+".bias", 0, 0.5, projection.out)
		}
		matrix(p+"attn_output", width, moeHeads*moeHeadDim)
		matrix(p+"ffn_gate_inp", moeExperts, width)
		matrix(p+"ffn_gate_exps", moeExperts, ffn, width)
		matrix(p+"ffn_up_exps", moeExperts, ffn, width)
		matrix(p+"ffn_down_exps", moeExperts, width, ffn)
		matrix(p+"ffn_gate_inp_shexp", width)
		matrix(p+"ffn_gate_shexp", shared, width)
		matrix(p+"ffn_up_shexp", shared, width)
		matrix(p+"ffn_down_shexp", width, shared)
	}
	var file bytes.Buffer
	if err := weights.WriteGGUF(&file, md, tensors); err != nil {
		t.Fatal(err)
	}
	src, err := weights.OpenBytes("qwen2moe.gguf", file.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// TestQwen2MoE compares a seeded model with this pass, in both forms of files.
func TestQwen2MoE(t *testing.T) {
	m := &sparsePass{
		src: openQwen2MoE(t), layers: moeLayers, heads: moeHeads, kvHeads: moeKVHeads, headDim: moeHeadDim, rotated: moeHeadDim, theta: 1e6, eps: 1e-6,
		experts: moeExperts, topK: 2, scale: 1,
	}
	rng := rand.New(rand.NewPCG(2, 57))
	var tokens []int32
	for range 2*hardware.BlockLen + 9 {
		tokens = append(tokens, int32(rng.IntN(moeVocab)))
	}
	device := openCPU(t)
	m.compare(t, m.src, tokens, device, len(tokens), 7, 64, 100, 1)
	m.compare(t, published(t, m.src), tokens, device, 64)
}

// TestMiniMaxM3 compares the reference model with this pass where its indexer chooses few of the units, which the
// reference implementation attends to all the same.
func TestMiniMaxM3(t *testing.T) {
	m := &sparsePass{
		src: tinyModel(t, "minimax-m3"), layers: 4, heads: 4, kvHeads: 2, headDim: 64, rotated: 32, theta: 5e6, eps: 1e-6,
		experts: 8, topK: 2, sigmoidScores: true, scale: 2, clipped: true, dense: 1,
		indexHeads: 2, unit: 16, local: 1, units: 4,
	}
	m.compare(t, m.src, readReference(t, "minimax-m3").tokens[:180], openCPU(t), 180, 50, 7, 1)
}
