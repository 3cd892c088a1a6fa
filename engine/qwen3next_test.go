package engine

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"hearth/engine/model"
	"hearth/engine/weights"
	"hearth/hardware"
	"hearth/hardware/quant"
)

// nextModel is a tiny Qwen3-Next with seeded weights, and its forward pass in double precision, one sequence and position
// after the other: the reference that the published models have and this architecture's golden files lack.
type nextModel struct {
	tensors map[string][]float32
	shapes  map[string][]int
	names   []string
}

const (
	nextVocab, nextHidden, nextLayers   = 64, 48, 4
	nextHeads, nextKVHeads, nextHeadDim = 4, 2, 16
	nextRotated                         = 4
	nextKeyHeads, nextValueHeads        = 2, 6
	nextKeyDim, nextValueDim, nextTaps  = 12, 10, 4
	nextExperts, nextTopK               = 6, 2
	nextExpertFFN, nextSharedFFN        = 20, 24
	nextGroup                           = nextValueHeads / nextKeyHeads
	nextKeys, nextValues                = nextKeyHeads * nextKeyDim, nextValueHeads * nextValueDim
	nextTheta, nextEps                  = 10000, 1e-6
	nextConv                            = 2*nextKeys + nextValues
	nextQueries, nextGroups             = nextHeads * nextHeadDim, nextKVHeads * nextHeadDim
)

func newNextModel() *nextModel {
	m := &nextModel{tensors: map[string][]float32{}, shapes: map[string][]int{}}
	rng := rand.New(rand.NewPCG(35, 3))
	add := func(name string, mean, deviation float64, shape ...int) {
		n := 1
		for _, s := range shape {
			n *= s
		}
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(mean + deviation*rng.NormFloat64())
		}
		m.tensors[name], m.shapes[name], m.names = x, shape, append(m.names, name)
	}
	matrix := func(name string, shape ...int) {
		add(name+".weight", 0, 1/math.Sqrt(float64(shape[len(shape)-1])), shape...)
	}
	norm := func(name string, n int) { add(name+".weight", 1, 0.2, n) }
	matrix("token_embd", nextVocab, nextHidden)
	norm("output_norm", nextHidden)
	matrix("output", nextVocab, nextHidden)
	for i := range nextLayers {
		p := fmt.Sprintf("blk.%d.", i)
		norm(p+"attn_norm", nextHidden)
		norm(p+"post_attention_norm", nextHidden)
		if i == nextLayers-1 {
			matrix(p+"attn_q", 2*nextQueries, nextHidden)
			matrix(p+"attn_k", nextGroups, nextHidden)
			matrix(p+"attn_v", nextGroups, nextHidden)
			matrix(p+"attn_output", nextHidden, nextQueries)
			norm(p+"attn_q_norm", nextHeadDim)
			norm(p+"attn_k_norm", nextHeadDim)
		} else {
			matrix(p+"attn_qkv", nextConv, nextHidden)
			matrix(p+"attn_gate", nextValues, nextHidden)
			matrix(p+"ssm_ba", 2*nextValueHeads, nextHidden)
			matrix(p+"ssm_conv1d", nextConv, nextTaps)
			add(p+"ssm_a", -0.3, 0.05, nextValueHeads)
			add(p+"ssm_dt.bias", 0, 0.5, nextValueHeads)
			norm(p+"ssm_norm", nextValueDim)
			matrix(p+"ssm_out", nextHidden, nextValues)
		}
		matrix(p+"ffn_gate_inp", nextExperts, nextHidden)
		matrix(p+"ffn_gate_exps", nextExperts, nextExpertFFN, nextHidden)
		matrix(p+"ffn_up_exps", nextExperts, nextExpertFFN, nextHidden)
		matrix(p+"ffn_down_exps", nextExperts, nextHidden, nextExpertFFN)
		matrix(p+"ffn_gate_inp_shexp", nextHidden)
		matrix(p+"ffn_gate_shexp", nextSharedFFN, nextHidden)
		matrix(p+"ffn_up_shexp", nextSharedFFN, nextHidden)
		matrix(p+"ffn_down_shexp", nextHidden, nextSharedFFN)
	}
	return m
}

// open writes the model as a GGUF file of an architecture and opens it.
func (m *nextModel) open(t testing.TB, arch string) weights.Source {
	t.Helper()
	md := weights.NewMetadata()
	md.Set("general.architecture", arch)
	for key, value := range map[string]any{
		"block_count": uint32(nextLayers), "context_length": uint32(512), "embedding_length": uint32(nextHidden), "vocab_size": uint32(nextVocab),
		"attention.head_count": uint32(nextHeads), "attention.head_count_kv": uint32(nextKVHeads), "attention.key_length": uint32(nextHeadDim),
		"attention.value_length": uint32(nextHeadDim), "attention.layer_norm_rms_epsilon": float32(nextEps),
		"rope.dimension_count": uint32(nextRotated), "rope.freq_base": float32(nextTheta),
		"ssm.conv_kernel": uint32(nextTaps), "ssm.state_size": uint32(nextKeyDim), "ssm.group_count": uint32(nextKeyHeads),
		"ssm.time_step_rank": uint32(nextValueHeads), "ssm.inner_size": uint32(nextValues),
		"expert_count": uint32(nextExperts), "expert_used_count": uint32(nextTopK), "expert_feed_forward_length": uint32(nextExpertFFN),
		"expert_shared_feed_forward_length": uint32(nextSharedFFN),
	} {
		md.Set(arch+"."+key, value)
	}
	var tensors []weights.NewTensor
	for _, name := range m.names {
		data := make([]byte, 4*len(m.tensors[name]))
		quant.F32.Quantize(data, m.tensors[name])
		tensors = append(tensors, weights.NewTensor{Name: name, Shape: m.shapes[name], Write: func(w io.Writer) error {
			_, err := w.Write(data)
			return err
		}})
	}
	var file bytes.Buffer
	if err := weights.WriteGGUF(&file, md, tensors); err != nil {
		t.Fatal(err)
	}
	src, err := weights.OpenBytes(arch+".gguf", file.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// set puts a tensor in place of others.
func (m *nextModel) set(name string, values []float32, shape []int, instead ...string) {
	m.names = slices.DeleteFunc(m.names, func(n string) bool { return slices.Contains(instead, n) })
	m.tensors[name], m.shapes[name], m.names = values, shape, append(m.names, name)
}

// linear multiplies a row with a matrix, or with one of a stack.
func (m *nextModel) linear(name string, expert int, x []float64) []float64 {
	w, shape := m.tensors[name+".weight"], m.shapes[name+".weight"]
	out := 1
	if len(shape) > 1 {
		out = shape[len(shape)-2]
	}
	y := make([]float64, out)
	for o := range y {
		for i, v := range x {
			y[o] += float64(w[(expert*out+o)*len(x)+i]) * v
		}
	}
	return y
}

// norm is root mean square normalisation.
func (m *nextModel) norm(name string, x []float64) []float64 {
	return rmsNorm64(x, m.tensors[name+".weight"], nextEps)
}

func sigmoid64(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

// swiGLU is a gated network whose tensors have a suffix.
func (m *nextModel) swiGLU(p, suffix string, expert int, x []float64) []float64 {
	hidden := m.linear(p+"ffn_gate"+suffix, expert, x)
	for i, u := range m.linear(p+"ffn_up"+suffix, expert, x) {
		hidden[i] *= sigmoid64(hidden[i]) * u
	}
	return m.linear(p+"ffn_down"+suffix, expert, hidden)
}

func (m *nextModel) experts(p string, x []float64) []float64 {
	logits := m.linear(p+"ffn_gate_inp", 0, x)
	order := make([]int, nextExperts)
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		if logits[a] > logits[b] {
			return -1
		}
		return 1
	})
	total, y := 0.0, make([]float64, nextHidden)
	for _, e := range order[:nextTopK] {
		total += math.Exp(logits[e])
	}
	for _, e := range order[:nextTopK] {
		for i, v := range m.swiGLU(p, "_exps", e, x) {
			y[i] += math.Exp(logits[e]) / total * v
		}
	}
	share := sigmoid64(m.linear(p+"ffn_gate_inp_shexp", 0, x)[0])
	for i, v := range m.swiGLU(p, "_shexp", 0, x) {
		y[i] += share * v
	}
	return y
}

// nextLayer is what a layer remembers.
type nextLayer struct {
	rows         [][]float64 // before the convolution
	state        [nextValueHeads][nextKeyDim][nextValueDim]float64
	keys, values [][]float64
}

func (m *nextModel) deltaNet(p string, layer *nextLayer, x []float64) []float64 {
	layer.rows = append(layer.rows, m.linear(p+"attn_qkv", 0, x))
	c := make([]float64, nextConv)
	for ch := range c {
		for j := range nextTaps {
			if at := len(layer.rows) - nextTaps + j; at >= 0 {
				c[ch] += float64(m.tensors[p+"ssm_conv1d.weight"][ch*nextTaps+j]) * layer.rows[at][ch]
			}
		}
		c[ch] *= sigmoid64(c[ch])
	}
	unit := func(x []float64) []float64 {
		sum := 0.0
		for _, v := range x {
			sum += v * v
		}
		y := slices.Clone(x)
		for i := range y {
			y[i] /= math.Sqrt(sum)
		}
		return y
	}
	z, ba := m.linear(p+"attn_gate", 0, x), m.linear(p+"ssm_ba", 0, x)
	var y []float64
	for h := range nextValueHeads {
		g := h / nextGroup
		q, k := unit(c[g*nextKeyDim:][:nextKeyDim]), unit(c[nextKeys+g*nextKeyDim:][:nextKeyDim])
		v := c[2*nextKeys+h*nextValueDim:][:nextValueDim]
		b, a := ba[g*2*nextGroup+h%nextGroup], ba[g*2*nextGroup+nextGroup+h%nextGroup]
		decay := math.Exp(float64(m.tensors[p+"ssm_a"][h]) * math.Log1p(math.Exp(a+float64(m.tensors[p+"ssm_dt.bias"][h]))))
		o, s := make([]float64, nextValueDim), &layer.state[h]
		for col := range nextValueDim {
			read := 0.0
			for i := range k {
				s[i][col] *= decay
				read += s[i][col] * k[i]
			}
			for i := range k {
				s[i][col] += k[i] * sigmoid64(b) * (v[col] - read)
				o[col] += s[i][col] * q[i] / math.Sqrt(nextKeyDim)
			}
		}
		for i, v := range m.norm(p+"ssm_norm", o) {
			gate := z[h*nextValueDim+i]
			y = append(y, v*gate*sigmoid64(gate))
		}
	}
	return m.linear(p+"ssm_out", 0, y)
}

func (m *nextModel) attention(p string, layer *nextLayer, x []float64) []float64 {
	position := len(layer.keys)
	rotate := func(x []float64) []float64 {
		for i := range nextRotated / 2 {
			sin, cos := math.Sincos(float64(position) * math.Pow(nextTheta, -2*float64(i)/nextRotated))
			u, v := x[i], x[i+nextRotated/2]
			x[i], x[i+nextRotated/2] = u*cos-v*sin, v*cos+u*sin
		}
		return x
	}
	k := m.linear(p+"attn_k", 0, x)
	for h := range nextKVHeads {
		copy(k[h*nextHeadDim:], rotate(m.norm(p+"attn_k_norm", k[h*nextHeadDim:][:nextHeadDim])))
	}
	layer.keys, layer.values = append(layer.keys, k), append(layer.values, m.linear(p+"attn_v", 0, x))
	both := m.linear(p+"attn_q", 0, x)
	var y []float64
	for h := range nextHeads {
		at := h / (nextHeads / nextKVHeads) * nextHeadDim
		q := rotate(m.norm(p+"attn_q_norm", both[h*2*nextHeadDim:][:nextHeadDim]))
		o, total := make([]float64, nextHeadDim), 0.0
		for past := range layer.keys {
			score := 0.0
			for i, v := range q {
				score += v * layer.keys[past][at+i]
			}
			w := math.Exp(score / math.Sqrt(nextHeadDim))
			total += w
			for i := range o {
				o[i] += w * layer.values[past][at+i]
			}
		}
		for i, v := range o {
			y = append(y, v/total*sigmoid64(both[(2*h+1)*nextHeadDim+i]))
		}
	}
	return m.linear(p+"attn_output", 0, y)
}

// logits returns those of every position.
func (m *nextModel) logits(tokens []int32) [][]float32 {
	layers := make([]nextLayer, nextLayers)
	var rows [][]float32
	for _, token := range tokens {
		x := make([]float64, nextHidden)
		for i := range x {
			x[i] = float64(m.tensors["token_embd.weight"][int(token)*nextHidden+i])
		}
		add := func(y []float64) {
			for i, v := range y {
				x[i] += v
			}
		}
		for i := range layers {
			p := fmt.Sprintf("blk.%d.", i)
			if h := m.norm(p+"attn_norm", x); i == nextLayers-1 {
				add(m.attention(p, &layers[i], h))
			} else {
				add(m.deltaNet(p, &layers[i], h))
			}
			add(m.experts(p, m.norm(p+"post_attention_norm", x)))
		}
		var row []float32
		for _, v := range m.linear("output", 0, m.norm("output_norm", x)) {
			row = append(row, float32(v))
		}
		rows = append(rows, row)
	}
	return rows
}

// joined returns the model in the form of older files: one tensor for the rows q | k | v | z of each key head.
func (m *nextModel) joined() *nextModel {
	j := newNextModel()
	const group = nextGroup * nextValueDim
	for i := range nextLayers - 1 {
		p := fmt.Sprintf("blk.%d.", i)
		qkv, z := m.tensors[p+"attn_qkv.weight"], m.tensors[p+"attn_gate.weight"]
		var rows []float32
		for g := range nextKeyHeads {
			for _, part := range []struct {
				from        []float32
				first, rows int
			}{{qkv, g * nextKeyDim, nextKeyDim}, {qkv, nextKeys + g*nextKeyDim, nextKeyDim}, {qkv, 2*nextKeys + g*group, group}, {z, g * group, group}} {
				rows = append(rows, part.from[part.first*nextHidden:][:part.rows*nextHidden]...)
			}
		}
		j.set(p+"ssm_in.weight", rows, []int{nextConv + nextValues, nextHidden}, p+"attn_qkv.weight", p+"attn_gate.weight")
	}
	return j
}

// tiled returns the model in the form of Qwen3.5: value head h uses key head h mod their number, and the two gates have
// tensors of their own.
func (m *nextModel) tiled() *nextModel {
	c := newNextModel()
	// move puts the heads from an element on, of so many elements each, into their new order.
	move := func(x []float32, first, size int) {
		old := slices.Clone(x)
		for h := range nextValueHeads {
			to := h%nextGroup*nextKeyHeads + h/nextGroup
			copy(x[first+to*size:][:size], old[first+h*size:])
		}
	}
	for i := range nextLayers - 1 {
		p := fmt.Sprintf("blk.%d.", i)
		move(c.tensors[p+"attn_qkv.weight"], 2*nextKeys*nextHidden, nextValueDim*nextHidden)
		move(c.tensors[p+"attn_gate.weight"], 0, nextValueDim*nextHidden)
		move(c.tensors[p+"ssm_conv1d.weight"], 2*nextKeys*nextTaps, nextValueDim*nextTaps)
		move(c.tensors[p+"ssm_a"], 0, 1)
		move(c.tensors[p+"ssm_dt.bias"], 0, 1)
		for o := range nextHidden {
			move(c.tensors[p+"ssm_out.weight"], o*nextValues, nextValueDim)
		}
		ba := m.tensors[p+"ssm_ba.weight"]
		var a, b []float32
		for g := range nextKeyHeads {
			rows := ba[g*2*nextGroup*nextHidden:][:2*nextGroup*nextHidden]
			b, a = append(b, rows[:nextGroup*nextHidden]...), append(a, rows[nextGroup*nextHidden:]...)
		}
		move(a, 0, nextHidden)
		move(b, 0, nextHidden)
		shape := []int{nextValueHeads, nextHidden}
		c.set(p+"ssm_alpha.weight", a, shape, p+"ssm_ba.weight")
		c.set(p+"ssm_beta.weight", b, shape)
	}
	return c
}

// TestQwen3Next compares all forms that files of the architecture have with the forward pass above.
func TestQwen3Next(t *testing.T) {
	device, next := openCPU(t), newNextModel()
	rng := rand.New(rand.NewPCG(3, 5))
	var tokens []int32
	var positions []int
	for i := range 2*hardware.BlockLen + 9 {
		tokens, positions = append(tokens, int32(rng.IntN(nextVocab))), append(positions, i)
	}
	want := next.logits(tokens)
	for _, form := range []struct {
		name string
		src  weights.Source
	}{{"qwen3next", next.open(t, "qwen3next")}, {"folder", published(t, next.open(t, "qwen3next"))}, {"joined", next.joined().open(t, "qwen3next")}, {"tiled", next.tiled().open(t, "qwen35moe")}} {
		for _, chunk := range []int{len(tokens), 7, 64, 100, 1} {
			m, err := model.Load(form.src)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Logits(t.Context(), m, tokens, positions, LogitsOptions{Device: device, Chunk: chunk})
			if err != nil {
				t.Fatal(err)
			}
			worst := 0.0
			for i := range want {
				worst = max(worst, nmse(got[i], want[i]))
			}
			if !(worst <= maxNMSE) {
				t.Errorf("%s: chunks of %d: error %.3g", form.name, chunk, worst)
			}
		}
	}
	broken := newNextModel()
	broken.names = slices.DeleteFunc(broken.names, func(n string) bool { return n == "blk.1.ssm_ba.weight" })
	if _, err := model.Load(broken.open(t, "qwen3next")); err == nil || !strings.Contains(err.Error(), "blk.1.ssm_alpha.weight") {
		t.Errorf("a file without a tensor: %v", err)
	}
}
