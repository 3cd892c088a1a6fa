package model

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"

	"hearth/cmd/sharedtest"
	"hearth/engine/weights"
	"hearth/hardware"
	"hearth/hardware/quant"
)

// The tiny model of these tests: 2 layers of width 32, 4 heads and 2 key-value heads of 8, vocabulary of 16.
const (
	tinyLayers, tinyWidth, tinyHeads, tinyKVHeads, tinyHeadDim = 2, 32, 4, 2, 8
	tinyFFN, tinyVocab, tinyExperts, tinyExpertFFN             = 48, 16, 4, 24
)

// tiny is a model file in the making, which tests damage.
type tiny struct {
	md      *weights.Metadata
	tensors []weights.NewTensor
}

func (f *tiny) add(name string, shape ...int) {
	t := weights.NewTensor{Name: name, Shape: shape}
	size, err := t.Size()
	if err != nil {
		panic(err)
	}
	t.Write = func(w io.Writer) error {
		_, err := w.Write(make([]byte, size))
		return err
	}
	f.tensors = append(f.tensors, t)
}

// reshape gives a tensor another shape; none removes it.
func (f *tiny) reshape(name string, shape ...int) {
	f.tensors = slices.DeleteFunc(f.tensors, func(t weights.NewTensor) bool { return t.Name == name })
	if len(shape) > 0 {
		f.add(name, shape...)
	}
}

func (f *tiny) open(t testing.TB) weights.Source {
	t.Helper()
	var file bytes.Buffer
	if err := weights.WriteGGUF(&file, f.md, f.tensors); err != nil {
		t.Fatal(err)
	}
	src, err := weights.OpenBytes("tiny.gguf", file.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// newTiny returns a whole model of an architecture.
func newTiny(arch string) *tiny {
	f := &tiny{md: weights.NewMetadata()}
	f.md.Set("general.architecture", arch)
	for key, value := range map[string]any{
		"block_count": uint32(tinyLayers), "context_length": uint32(64), "embedding_length": uint32(tinyWidth),
		"attention.head_count": uint32(tinyHeads), "attention.head_count_kv": uint32(tinyKVHeads),
		"feed_forward_length": uint32(tinyFFN), "attention.layer_norm_rms_epsilon": float32(1e-6), "vocab_size": uint32(tinyVocab),
	} {
		f.md.Set(arch+"."+key, value)
	}
	f.add("token_embd.weight", tinyVocab, tinyWidth)
	f.add("output_norm.weight", tinyWidth)
	for i := range tinyLayers {
		f.addLayer(arch, fmt.Sprintf("blk.%d.", i))
	}
	if arch == "qwen3moe" {
		f.md.Set("qwen3moe.expert_count", uint32(tinyExperts))
		f.md.Set("qwen3moe.expert_used_count", uint32(2))
		f.md.Set("qwen3moe.expert_feed_forward_length", uint32(tinyExpertFFN))
	}
	return f
}

func (f *tiny) addLayer(arch, prefix string) {
	queries, groups := tinyHeads*tinyHeadDim, tinyKVHeads*tinyHeadDim
	f.add(prefix+"attn_norm.weight", tinyWidth)
	f.add(prefix+"attn_q.weight", queries, tinyWidth)
	f.add(prefix+"attn_k.weight", groups, tinyWidth)
	f.add(prefix+"attn_v.weight", groups, tinyWidth)
	f.add(prefix+"attn_output.weight", tinyWidth, queries)
	f.add(prefix+"ffn_norm.weight", tinyWidth)
	if arch == "qwen2" {
		f.add(prefix+"attn_q.bias", queries)
		f.add(prefix+"attn_k.bias", groups)
		f.add(prefix+"attn_v.bias", groups)
	}
	if strings.HasPrefix(arch, "qwen3") {
		f.add(prefix+"attn_q_norm.weight", tinyHeadDim)
		f.add(prefix+"attn_k_norm.weight", tinyHeadDim)
	}
	if arch == "qwen3moe" {
		f.add(prefix+"ffn_gate_inp.weight", tinyExperts, tinyWidth)
		f.add(prefix+"ffn_gate_exps.weight", tinyExperts, tinyExpertFFN, tinyWidth)
		f.add(prefix+"ffn_up_exps.weight", tinyExperts, tinyExpertFFN, tinyWidth)
		f.add(prefix+"ffn_down_exps.weight", tinyExperts, tinyWidth, tinyExpertFFN)
		return
	}
	f.add(prefix+"ffn_gate.weight", tinyFFN, tinyWidth)
	f.add(prefix+"ffn_up.weight", tinyFFN, tinyWidth)
	f.add(prefix+"ffn_down.weight", tinyWidth, tinyFFN)
}

// operations returns the kinds of the operations of one layer's half.
func operations(m *Model, layer int, half hardware.Half) string {
	var kinds []string
	for _, op := range m.Program.Ops(m.Trunk) {
		if op.Layer == layer && op.Half == half {
			kinds = append(kinds, op.Args.Kind().String())
		}
	}
	return strings.Join(kinds, " ")
}

func TestArchitectures(t *testing.T) {
	const plain = "Norm MatMul MatMul MatMul RoPE RoPE Store Store Attention MatMul"
	const normed = "Norm MatMul MatMul MatMul Norm Norm RoPE RoPE Store Store Attention MatMul"
	const dense = "Norm MatMul MatMul GLU MatMul"
	const sparse = "Norm MatMul Route Experts"
	for _, c := range []struct {
		arch, mixer, ffn string
		pairing          hardware.Pairing
	}{
		{"llama", plain, dense, hardware.Interleaved}, {"qwen2", plain, dense, hardware.HalfSplit},
		{"qwen3", normed, dense, hardware.HalfSplit}, {"qwen3moe", normed, sparse, hardware.HalfSplit},
	} {
		m, err := Load(newTiny(c.arch).open(t))
		if err != nil {
			t.Errorf("%s: %v", c.arch, err)
			continue
		}
		for layer := range tinyLayers {
			if got := operations(m, layer, hardware.HalfMixer); got != c.mixer {
				t.Errorf("%s: mixer of layer %d: %s, want %s", c.arch, layer, got, c.mixer)
			}
			if got := operations(m, layer, hardware.HalfFFN); got != c.ffn {
				t.Errorf("%s: feed-forward half of layer %d: %s, want %s", c.arch, layer, got, c.ffn)
			}
		}
		if got := operations(m, -1, hardware.HalfNone); got != "Embed Gather Norm MatMul SoftmaxParts" {
			t.Errorf("%s: outside the layers: %s", c.arch, got)
		}
		if _, logits := m.Program.OutputTensor(m.Logits); logits.Size() != tinyVocab {
			t.Errorf("%s: logits of %d, want %d", c.arch, logits.Size(), tinyVocab)
		}
		if got := pairing(m); got != c.pairing {
			t.Errorf("%s: pairing %d, want %d", c.arch, got, c.pairing)
		}
		if got, want := m.KVBytesPerBlock(quant.F32), int64(4*2*tinyLayers*tinyKVHeads*tinyHeadDim*hardware.BlockLen); got != want {
			t.Errorf("%s: blocks of %d bytes, want %d", c.arch, got, want)
		}
	}
}

func pairing(m *Model) hardware.Pairing {
	for _, op := range m.Program.Ops(m.Trunk) {
		if rope, ok := op.Args.(*hardware.RoPEArgs); ok {
			return m.Program.RopeInfo(rope.Rope).Pairing
		}
	}
	return 255
}

// goldenModels are the reference models, whose logits are compared where there is a device, and their layers. Each
// architecture has one.
var goldenModels = []struct {
	name, arch string
	layers     int
}{
	{"llama", "llama", 3}, {"qwen2", "qwen2", 3}, {"qwen3", "qwen3", 3}, {"qwen3moe", "qwen3moe", 3},
	{"qwen35", "qwen35", 4}, {"qwen35-mtp", "qwen35", 4}, {"qwen35moe", "qwen35moe", 4},
	{"minimax-m2", "minimax-m2", 3}, {"minimax-m3", "minimax-m3", 4},
	{"deepseek2-lite", "deepseek2", 27}, {"deepseek2", "deepseek2", 4}, {"deepseek32", "deepseek32", 4}, {"deepseek4", "deepseek4", 5},
}

func openGolden(t testing.TB, name string) weights.Source {
	t.Helper()
	src, err := weights.OpenBytes("tiny-"+name+".gguf", sharedtest.ReadFile(t, "testdata", "golden", "tiny-"+name+".gguf.gz"))
	if err != nil {
		t.Fatal(err)
	}
	return src
}

func TestReferenceModelsRecord(t *testing.T) {
	names := []string{"qwen2moe", "qwen3next"} // tests of package engine compute their references
	for _, g := range goldenModels {
		names = append(names, g.arch)
		if m, err := Load(openGolden(t, g.name)); err != nil {
			t.Error(err)
		} else if m.Config.Architecture != g.arch || m.Config.NumLayers != g.layers {
			t.Errorf("%s: %+v", g.name, m.Config)
		}
	}
	slices.Sort(names)
	if names = slices.Compact(names); !slices.Equal(names, Names()) {
		t.Errorf("reference models of %v, architectures %v", names, Names())
	}
}

func TestFusedAndTied(t *testing.T) {
	f := newTiny("qwen2")
	for i := range tinyLayers {
		prefix := fmt.Sprintf("blk.%d.", i)
		for _, name := range []string{"attn_q", "attn_k", "attn_v"} {
			f.reshape(prefix + name + ".weight")
			f.reshape(prefix + name + ".bias")
		}
		f.add(prefix+"attn_qkv.weight", (tinyHeads+2*tinyKVHeads)*tinyHeadDim, tinyWidth)
		f.add(prefix+"attn_qkv.bias", (tinyHeads+2*tinyKVHeads)*tinyHeadDim)
	}
	m, err := Load(f.open(t))
	if err != nil {
		t.Fatal(err)
	}
	if got := operations(m, 0, hardware.HalfMixer); got != "Norm MatMul RoPE RoPE Store Store Attention MatMul" {
		t.Errorf("fused projections: %s", got)
	}
	f = newTiny("llama")
	f.md.Set("llama.tie_word_embeddings", false)
	if _, err := Load(f.open(t)); !errors.Is(err, weights.ErrNotFound) || !strings.Contains(err.Error(), `"output.weight"`) {
		t.Errorf("an untied model without a head: %v", err)
	}
	f.add("output.weight", tinyVocab, tinyWidth)
	if _, err := Load(f.open(t)); err != nil {
		t.Errorf("an untied model: %v", err)
	}
}

func TestLoadNamesTheTensor(t *testing.T) {
	for _, c := range []struct {
		arch, name string
		shape      []int
		kind       error
	}{
		{"llama", "token_embd.weight", nil, weights.ErrNotFound},
		{"llama", "output_norm.weight", nil, weights.ErrNotFound},
		{"llama", "blk.1.ffn_norm.weight", nil, weights.ErrNotFound},
		{"llama", "blk.1.attn_q.weight", []int{24, 32}, weights.ErrCorrupt},
		{"llama", "blk.0.ffn_down.weight", []int{48, 32}, weights.ErrCorrupt},
		{"llama", "token_embd.weight", []int{17, 32}, weights.ErrCorrupt},
		{"llama", "blk.0.attn_norm.weight", []int{31}, weights.ErrCorrupt},
		{"qwen2", "blk.0.attn_k.bias", []int{15}, weights.ErrCorrupt},
		{"qwen3", "blk.1.attn_q_norm.weight", nil, weights.ErrNotFound},
		{"qwen3", "blk.1.attn_k_norm.weight", []int{16}, weights.ErrCorrupt},
		{"qwen3moe", "blk.1.ffn_gate_inp.weight", nil, weights.ErrNotFound},
		{"qwen3moe", "blk.1.ffn_up_exps.weight", []int{3, 24, 32}, weights.ErrCorrupt},
		{"qwen3moe", "blk.1.ffn_down_exps.weight", []int{4, 24, 32}, weights.ErrCorrupt},
		{"llama", "rope_freqs.weight", []int{4}, weights.ErrCorrupt}, // all zero
	} {
		f := newTiny(c.arch)
		f.reshape(c.name, c.shape...)
		_, err := Load(f.open(t))
		if !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.name) {
			t.Errorf("%s: %s of shape %v: %v, want %v naming it", c.arch, c.name, c.shape, err, c.kind)
		}
	}
	f := newTiny("llama")
	f.reshape("output_norm.weight", 1, 1, tinyWidth) // outer ones mean nothing
	if _, err := Load(f.open(t)); err != nil {
		t.Errorf("a vector of shape [1, 1, %d]: %v", tinyWidth, err)
	}
	for i := range f.tensors {
		if f.tensors[i].Name == "output_norm.weight" {
			f.tensors[i].Type = 26 // I32
		}
	}
	if _, err := Load(f.open(t)); !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "I32") {
		t.Errorf("a norm of integers: %v", err)
	}
}

// TestConfigErrors damages one key at a time: the error names the key and quotes the value.
func TestConfigErrors(t *testing.T) {
	missing := any(nil)
	for _, c := range []struct {
		arch, key string
		value     any
		quoted    string
	}{
		{"llama", "llama.block_count", missing, "missing"},
		{"llama", "llama.block_count", uint32(0), "is 0"},
		{"llama", "llama.block_count", uint32(math.MaxUint32), "4294967295"},
		{"llama", "llama.block_count", "2", "integer"},
		{"llama", "llama.block_count", int32(-2), "integer"},
		{"llama", "llama.block_count", float32(2), "integer"},
		{"llama", "llama.context_length", missing, "missing"},
		{"llama", "llama.context_length", uint64(1) << 40, "1099511627776"},
		{"llama", "llama.embedding_length", uint32(0), "is 0"},
		{"llama", "llama.feed_forward_length", missing, "missing"},
		{"llama", "llama.feed_forward_length", []int32{48, 64}, "64"},
		{"llama", "llama.feed_forward_length", []int32{}, "integer"},
		{"llama", "llama.feed_forward_length", []int32{-1, -1}, "-1"},
		{"llama", "llama.attention.head_count", uint32(5), "5"},
		{"llama", "llama.attention.head_count", uint32(0), "is 0"},
		{"llama", "llama.attention.head_count_kv", uint32(8), "8"},
		{"llama", "llama.attention.head_count_kv", uint32(3), "3"},
		{"llama", "llama.attention.key_length", uint32(1 << 19), "524288"},
		{"llama", "llama.attention.value_length", uint32(16), "16"},
		{"llama", "llama.attention.layer_norm_rms_epsilon", missing, "missing"},
		{"llama", "llama.attention.layer_norm_rms_epsilon", float32(math.NaN()), "NaN"},
		{"llama", "llama.attention.layer_norm_rms_epsilon", float32(-1), "-1"},
		{"llama", "llama.attention.layer_norm_rms_epsilon", "tiny", "number"},
		{"llama", "llama.rope.dimension_count", uint32(10), "10"},
		{"llama", "llama.rope.dimension_count", uint32(7), "7"},
		{"llama", "llama.rope.freq_base", float32(-10000), "-10000"},
		{"llama", "llama.rope.freq_base", float32(math.Inf(1)), "Inf"},
		{"llama", "llama.rope.scaling.type", "dynamic", "dynamic"},
		{"llama", "llama.rope.scaling.type", uint8(1), "string"},
		{"llama", "llama.rope.scaling.factor", float32(-4), "-4"},
		{"llama", "llama.rope.scaling.factor", float32(math.NaN()), "NaN"},
		{"llama", "llama.vocab_size", uint32(1e9), "1000000000"},
		{"llama", "llama.pooling_type", uint32(5), "5"},
		{"llama", "llama.pooling_type", "last", "integer"},
		{"llama", "llama.vocab_size", missing, "missing"},
		{"qwen3moe", "qwen3moe.expert_count", uint32(0), "expert_count"},
		{"qwen3moe", "qwen3moe.expert_count", uint32(1e6), "1000000"},
		{"qwen3moe", "qwen3moe.expert_used_count", uint32(5), "5"},
		{"qwen3moe", "qwen3moe.expert_used_count", missing, "missing"},
		{"qwen3moe", "qwen3moe.expert_feed_forward_length", missing, "missing"},
		{"qwen3moe", "qwen3moe.expert_weights_scale", float32(math.Inf(1)), "Inf"},
		{"qwen3moe", "qwen3moe.expert_weights_norm", uint8(1), "boolean"},
		{"qwen3moe", "qwen3moe.expert_gating_func", uint32(5), "5"},
		{"llama", "general.architecture", missing, "missing"},
		{"llama", "general.architecture", uint32(1), "name"},
	} {
		f := newTiny(c.arch)
		if f.md.Delete(c.key); c.value != missing {
			f.md.Set(c.key, c.value)
		}
		_, err := Load(f.open(t))
		if !errors.Is(err, weights.ErrCorrupt) || !strings.Contains(err.Error(), c.key) || !strings.Contains(err.Error(), c.quoted) {
			t.Errorf("%s = %v: %v, want ErrCorrupt with the key and %q", c.key, c.value, err, c.quoted)
		}
	}
	f := newTiny("llama")
	f.md.Set("general.architecture", "perceptron")
	if _, err := Load(f.open(t)); !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "\"perceptron\"; supported are deepseek2, ") {
		t.Errorf("an unknown architecture: %v", err)
	}
}

func TestConfigDefaults(t *testing.T) {
	f := newTiny("qwen3moe")
	f.md.Delete("qwen3moe.attention.head_count_kv")
	f.md.Delete("qwen3moe.vocab_size")
	f.md.Set("qwen3moe.expert_weights_scale", float32(0))
	f.md.Set("qwen3moe.block_count", []int32{2, 2})
	f.md.Set("tokenizer.ggml.tokens", make([]string, tinyVocab))
	c, err := ReadConfig(f.open(t))
	if err != nil {
		t.Fatal(err)
	}
	if c.NumKVHeads != tinyHeads || c.HeadDim != tinyWidth/tinyHeads || c.VocabSize != tinyVocab || c.RoutedScalingFactor != 1 || !c.NormTopKProb ||
		c.NumLayers != 2 || c.Rope.Theta != 10000 || c.Rope.Dim != c.HeadDim || c.Rope.Scaling.Type != "" || !c.TieWordEmbeddings {
		t.Errorf("%+v", c)
	}
}

// TestHostileKeys gives every key values that no model has: each is refused or harmless, and costs no memory.
func TestHostileKeys(t *testing.T) {
	values := []any{
		uint8(0), uint32(0), uint32(1), uint32(3), uint32(math.MaxUint32), uint64(math.MaxUint64), int32(-1), int64(math.MinInt64),
		float32(0), float32(math.NaN()), float64(math.Inf(-1)), float32(math.MaxFloat32), "", "yarn", "llama3", true, []int32{}, []uint64{math.MaxUint64},
		[]string{"a"}, []float32{0},
	}
	for _, g := range goldenModels {
		if testing.Short() && g.name != "qwen3moe" && g.name != "deepseek4" || g.layers > 20 {
			continue
		}
		src := openGolden(t, g.name)
		md := src.Metadata().Clone()
		for _, key := range []string{
			"attention.key_length", "attention.value_length", "expert_weights_scale", "expert_gating_func", "expert_weights_norm",
			"expert_shared_count", "expert_shared_feed_forward_length", "expert_group_count", "expert_group_used_count", "leading_dense_block_count",
			"nextn_predict_layers", "rope.dimension_count", "rope.freq_base", "rope.scaling.type", "rope.scaling.factor",
			"rope.scaling.original_context_length", "rope.scaling.low_freq_factor", "rope.scaling.high_freq_factor",
			"rope.scaling.yarn_beta_fast", "rope.scaling.yarn_beta_slow", "rope.scaling.attn_factor", "rope.scaling.yarn_log_multiplier",
		} {
			if _, ok := md.Get(g.arch + "." + key); !ok {
				md.Set(g.arch+"."+key, uint8(255))
			}
		}
		for _, key := range md.Keys() {
			for _, value := range values {
				damaged := keyed{src, src.Metadata().Clone()}
				damaged.md.Set(key, value)
				if strings.Contains(key, "scaling.") && key != g.arch+".rope.scaling.type" {
					damaged.md.Set(g.arch+".rope.scaling.type", "yarn")
				}
				m, err := Load(damaged)
				if err == nil && m.Config.NumLayers > g.layers {
					t.Errorf("%s = %v gives %d layers", key, value, m.Config.NumLayers)
				}
				if err != nil && !strings.HasPrefix(err.Error(), "model: tiny-"+g.name+".gguf: ") {
					t.Errorf("%s = %v: %v", key, value, err)
				}
			}
		}
	}
}

// keyed is a model file with other keys.
type keyed struct {
	weights.Source
	md *weights.Metadata
}

func (k keyed) Metadata() *weights.Metadata { return k.md }
