package weights

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func safetensors(t testing.TB, tensors ...OutTensor) []byte {
	t.Helper()
	var file bytes.Buffer
	if err := WriteSafetensors(&file, tensors); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

// floats is a tensor of float32 that count up from first.
func floats(name string, first int, shape ...int) OutTensor {
	t := OutTensor{Name: name, DType: "F32", Shape: shape}
	n := 1
	for _, d := range shape {
		n *= d
	}
	for i := range n {
		v := float32(first + i)
		t.Data, _ = binary.Append(t.Data, binary.LittleEndian, v)
	}
	return t
}

func TestSafetensorsRoundTrip(t *testing.T) {
	file := safetensors(t, floats("a", 0, 2, 3), OutTensor{Name: "empty", DType: "BF16", Shape: []int{0, 4}},
		OutTensor{Name: "scalar", DType: "I64", Data: make([]byte, 8)}, OutTensor{Name: "ü\"", DType: "F8_E4M3", Shape: []int{3}, Data: []byte{1, 2, 3}})
	src, err := OpenBytes("x.safetensors", file)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"a", "empty", "scalar", "ü\""}; !slices.Equal(src.Names(), want) || src.Origin() != HuggingFace {
		t.Errorf("names %q of a %s file, want %q", src.Names(), src.Origin(), want)
	}
	a, err := src.Tensor("a")
	if err != nil || a.TypeName() != "F32" || a.Format == nil || !slices.Equal(a.Shape, []int{2, 3}) || !bytes.Equal(a.Data, floats("a", 0, 6).Data) {
		t.Errorf("tensor a: %+v, %v", a, err)
	}
	if fp8, _ := src.Tensor("ü\""); fp8.TypeName() != "F8_E4M3" || fp8.Type != NoType || fp8.Format != nil || len(fp8.Data) != 3 {
		t.Errorf("FP8: %+v", fp8)
	}
}

func TestWriteSafetensorsRefuses(t *testing.T) {
	for name, tensors := range map[string][]OutTensor{
		"too few bytes": {{Name: "a", DType: "F32", Shape: []int{2}, Data: make([]byte, 4)}},
		"unknown type":  {{Name: "a", DType: "F33", Shape: []int{0}}},
		"twice":         {floats("a", 0, 1), floats("a", 0, 1)},
		"overflow":      {{Name: "a", DType: "F32", Shape: []int{1 << 40, 1 << 40}}},
	} {
		var out bytes.Buffer
		if err := WriteSafetensors(&out, tensors); err == nil || out.Len() > 0 {
			t.Errorf("%s: %v, %d bytes written", name, err, out.Len())
		}
	}
}

// TestSafetensorsShapes refuses a shape of very many dimensions, in few words.
func TestSafetensorsShapes(t *testing.T) {
	header := `{"a":{"dtype":"F32","shape":[1` + strings.Repeat(",1", 1<<16) + `],"data_offsets":[0,4]}}`
	file := append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...)
	_, err := OpenBytes("a.safetensors", append(file, 0, 0, 0, 0))
	if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), `tensor "a": shape`) || len(err.Error()) > 200 {
		t.Errorf("%.300v, want ErrCorrupt naming the shape", err)
	}
}

// folder writes files into a new folder; values that are not bytes are written as JSON.
func folder(t *testing.T, files map[string]any) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		data, isBytes := content.([]byte)
		if !isBytes {
			var err error
			if data, err = json.Marshal(content); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

type object = map[string]any

// moeTensors is a layer of a mixture of 3 experts, the experts' matrices in an order that is not theirs.
func moeTensors() []OutTensor {
	return []OutTensor{
		floats("model.embed_tokens.weight", 0, 4, 2), floats("model.layers.10.self_attn.q_proj.weight", 100, 2, 2),
		floats("model.layers.10.self_attn.q_proj.bias", 110, 2), floats("model.layers.10.mlp.gate.weight", 120, 3, 2),
		floats("model.layers.10.mlp.experts.2.up_proj.weight", 20, 5, 2), floats("model.layers.10.mlp.experts.0.up_proj.weight", 0, 5, 2),
		floats("model.layers.10.mlp.experts.1.up_proj.weight", 10, 5, 2), floats("model.layers.10.strange.weight", 1, 1), floats("lm_head.weight", 7, 4, 2),
	}
}

func TestHuggingFaceNames(t *testing.T) {
	dir := folder(t, object{
		"model.safetensors": safetensors(t, moeTensors()...),
		"config.json":       object{"model_type": "qwen3_moe", "num_experts": 3},
	})
	src, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	want := []string{"token_embd.weight", "blk.10.attn_q.weight", "blk.10.attn_q.bias", "blk.10.ffn_gate_inp.weight",
		"model.layers.10.strange.weight", "output.weight", "blk.10.ffn_up_exps.weight"}
	if !slices.Equal(src.Names(), want) {
		t.Errorf("names %q, want %q", src.Names(), want)
	}
	stack, err := src.Tensor("blk.10.ffn_up_exps.weight")
	if err != nil || !slices.Equal(stack.Shape, []int{3, 5, 2}) || !bytes.Equal(slices.Concat(stack.Stack...), floats("", 0, 30).Data) || stack.Data != nil || stack.Size() != 120 {
		t.Errorf("the stack of experts: %+v, %v", stack, err)
	}
}

// TestTranslate holds names to where they go, "" for those that are left out.
func TestTranslate(t *testing.T) {
	for _, c := range []struct{ arch, name, want string }{
		{"qwen3", "model.layers.3.mlp.down_proj.weight", "blk.3.ffn_down.weight"},
		{"qwen3", "layers.3.mlp.down_proj.weight", "blk.3.ffn_down.weight"},
		{"qwen3", "norm.weight", "output_norm.weight"},
		{"qwen3", "model.language_model.layers.3.mlp.down_proj.weight", "blk.3.ffn_down.weight"},
		{"qwen3", "model.language_model.norm.weight", "output_norm.weight"},
		{"minimax-m3", "language_model.model.layers.3.block_sparse_moe.experts.7.w3.weight", "blk.3.ffn_up_exps.weight"},
		{"minimax-m3", "language_model.lm_head.weight", "output.weight"},
		{"qwen3moe", "model.layers.3.mlp.experts.down_proj", "blk.3.ffn_down_exps.weight"},
		{"qwen35", "model.layers.3.post_attention_layernorm.weight", "blk.3.post_attention_norm.weight"},
		{"qwen35", "mtp.layers.0.self_attn.q_proj.weight", "blk.4.attn_q.weight"},
		{"qwen35", "model.mtp.fc.weight", "blk.4.nextn.eh_proj.weight"},
		{"qwen35", "mtp.layers.1.self_attn.q_proj.weight", ""},
		{"deepseek2", "model.layers.4.shared_head.norm.weight", "blk.4.nextn.shared_head_norm.weight"},
		{"deepseek2", "model.layers.5.eh_proj.weight", ""},
		{"deepseek4", "mtp.0.norm.weight", "blk.4.nextn.shared_head_norm.weight"},
		{"deepseek4", "mtp.0.hc_head_fn", "blk.4.nextn.hc_head_fn.weight"},
		{"deepseek4", "model.layers.1.attn.indexer.compressor.ape", "blk.1.indexer_compressor_ape.weight"},
		{"qwen3", "model.layers.3", "model.layers.3"},
		{"qwen3", "model.layers.-3.mlp.down_proj.weight", "model.layers.-3.mlp.down_proj.weight"},
		{"qwen3", "model.layers.x.mlp.down_proj.weight", "model.layers.x.mlp.down_proj.weight"},
		{"qwen3", "model.layers.3.self_attn.rotary_emb.inv_freq", ""},
		{"qwen35", "model.visual.layers.3.mlp.down_proj.weight", ""},
		{"minimax-m3", "vision_tower.layers.3.mlp.down_proj.weight", ""},
	} {
		n := naming{arch: c.arch, numLayers: 4, numBlocks: 5}
		to, ok := n.translate(c.name)
		if got := to.prefix + to.name; got != c.want || ok != (c.want != "") {
			t.Errorf("%s: %q goes to %q, %v; want %q", c.arch, c.name, got, ok, c.want)
		}
	}
}

func TestFusedExperts(t *testing.T) {
	dir := folder(t, object{
		"model.safetensors": safetensors(t, floats("model.layers.0.mlp.experts.gate_up_proj", 0, 2, 6, 4)),
		"config.json":       object{"model_type": "qwen3_moe"},
	})
	src, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	up, err := src.Tensor("blk.0.ffn_up_exps.weight")
	want := append(floats("", 12, 12).Data, floats("", 36, 12).Data...)
	if err != nil || !slices.Equal(up.Shape, []int{2, 3, 4}) || !bytes.Equal(slices.Concat(up.Parts()...), want) {
		t.Errorf("up: %+v, %v", up, err)
	}
}

func TestShards(t *testing.T) {
	tensors := moeTensors()
	files := func() object {
		weightMap := object{}
		for i, tensor := range tensors {
			weightMap[tensor.Name] = []string{"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}[min(i/5, 1)]
		}
		return object{
			"config.json":                      object{"model_type": "qwen3_moe"},
			"model.safetensors.index.json":     object{"metadata": object{"total_size": 1}, "weight_map": weightMap},
			"model-00001-of-00002.safetensors": safetensors(t, tensors[:5]...),
			"model-00002-of-00002.safetensors": safetensors(t, tensors[5:]...),
		}
	}
	dir := folder(t, files())
	for _, path := range []string{dir, filepath.Join(dir, "model.safetensors.index.json"), filepath.Join(dir, "config.json")} {
		src, err := Open(path)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if len(src.Names()) != 7 {
			t.Errorf("%s: names %q", path, src.Names())
		}
		if stack, err := src.Tensor("blk.10.ffn_up_exps.weight"); err != nil || !bytes.Equal(slices.Concat(stack.Stack...), floats("", 0, 30).Data) {
			t.Errorf("%s: the stack of experts: %v, %v", path, stack, err)
		}
		src.Close()
	}
	broken := files()
	broken["model-00002-of-00002.safetensors"] = safetensors(t, tensors[6:]...)
	if _, err := Open(folder(t, broken)); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), tensors[5].Name) {
		t.Errorf("a tensor that no shard has: %v", err)
	}
	if src, err := Open(filepath.Join(dir, "model-00001-of-00002.safetensors")); err == nil { // the stack lacks two experts
		t.Errorf("one shard alone was opened: %q", src.Names())
	}
}

func TestConfig(t *testing.T) {
	md := NewMetadata()
	_, err := readConfig(md, []byte(`{"model_type": "multi", "hidden_act": "silu", "text_config": {"model_type": "qwen3_moe",
		"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 96,
		"max_position_embeddings": 512, "rms_norm_eps": 1e-05, "vocab_size": 100, "num_experts": 8, "num_experts_per_tok": 2,
		"moe_intermediate_size": 32, "norm_topk_prob": true, "tie_word_embeddings": false, "head_dim": null,
		"rope_parameters": {"rope_type": "yarn", "rope_theta": 1000000, "factor": 4.0, "original_max_position_embeddings": 128}}}`), true)
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{
		"general.architecture": "qwen3moe", "qwen3moe.embedding_length": uint32(64), "qwen3moe.block_count": uint32(2),
		"qwen3moe.attention.head_count": uint32(4), "qwen3moe.attention.head_count_kv": uint32(2), "qwen3moe.feed_forward_length": uint32(96),
		"qwen3moe.context_length": uint32(512), "qwen3moe.attention.layer_norm_rms_epsilon": float32(1e-5), "qwen3moe.vocab_size": uint32(100),
		"qwen3moe.expert_count": uint32(8), "qwen3moe.expert_used_count": uint32(2), "qwen3moe.expert_feed_forward_length": uint32(32),
		"qwen3moe.expert_weights_norm": true, "qwen3moe.tie_word_embeddings": false, "qwen3moe.attention.key_length": uint32(128),
		"qwen3moe.attention.value_length": uint32(128), "qwen3moe.rope.freq_base": float32(1e6), "qwen3moe.rope.scaling.type": "yarn",
		"qwen3moe.rope.scaling.factor": float32(4), "qwen3moe.rope.scaling.original_context_length": uint32(128),
	} {
		if got, _ := md.Get(key); got != want {
			t.Errorf("key %s is %v (%T), want %v (%T)", key, got, got, want, want)
		}
	}
}

func TestConfigRefuses(t *testing.T) {
	for config, want := range map[string]string{
		`{"model_type": 3}`: "model_type", `{}`: "model_type", `[]`: "config.json", `{`: "config.json",
		`{"model_type": "llama", "hidden_size": -1}`:                       "hidden_size",
		`{"model_type": "llama", "hidden_size": 1.5}`:                      "hidden_size",
		`{"model_type": "llama", "vocab_size": 99999999999999999999999}`:   "vocab_size",
		`{"model_type": "llama", "rms_norm_eps": "small"}`:                 "rms_norm_eps",
		`{"model_type": "llama", "rope_scaling": "linear"}`:                "rope_scaling",
		`{"model_type": "llama", "rope_theta": [1]}`:                       "rope_theta",
		`{"model_type": "llama", "tie_word_embeddings": "yes"}`:            "tie_word_embeddings",
		`{"model_type": "llama", "hidden_act": "gelu"}`:                    "hidden_act",
		`{"model_type": "qwen2", "use_sliding_window": true}`:              "use_sliding_window",
		`{"model_type": "llama"} {}`:                                       "config.json",
		`{"model_type": "qwen3", "partial_rotary_factor": 2}`:              "partial_rotary_factor",
		`{"model_type": "llama", "rope_scaling": {"type":"x","factor":{}}`: "config.json",
	} {
		if _, err := readConfig(NewMetadata(), []byte(config), true); !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want ErrCorrupt naming %s", config, err, want)
		}
	}
}

func TestTemplatesAndSampling(t *testing.T) {
	config := object{"model_type": "llama"}
	for name, c := range map[string]struct {
		files object
		want  map[string]string
	}{
		"field": {object{"tokenizer_config.json": object{"chat_template": "T"}}, map[string]string{templateKey: "T"}},
		"list": {object{"tokenizer_config.json": object{"chat_template": []object{{"name": "default", "template": "D"}, {"name": "tool_use", "template": "U"}}}},
			map[string]string{templateKey: "D", templateKey + ".tool_use": "U"}},
		"file": {object{"tokenizer_config.json": object{"chat_template": "T"}, "chat_template.jinja": []byte("J")}, map[string]string{templateKey: "J"}},
		"none": {object{"tokenizer_config.json": object{}}, map[string]string{templateKey: ""}},
	} {
		c.files["config.json"] = config
		c.files["generation_config.json"] = object{"temperature": 0.6, "top_k": 20, "top_p": 0.95}
		src, err := Open(filepath.Join(folder(t, c.files), "config.json"))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for key, want := range c.want {
			if got, _ := src.Metadata().String(key); got != want {
				t.Errorf("%s: %s is %q, want %q", name, key, got, want)
			}
		}
		if top, _ := src.Metadata().Uint("general.sampling.top_k"); top != 20 {
			t.Errorf("%s: top_k is %d", name, top)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := folder(t, object{"a.gguf": []byte("GGUF"), "b.gguf": []byte("GGUF"), "x.json": object{"a": 1}, "list.json": []byte("[1]")})
	for _, path := range []string{dir, t.TempDir(), filepath.Join(dir, "absent"), filepath.Join(dir, "x.json"), filepath.Join(dir, "list.json"), os.DevNull} {
		if src, err := Open(path); err == nil {
			t.Errorf("%s was opened: %q", path, src.Names())
		} else if !strings.HasPrefix(err.Error(), "weights: ") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func FuzzSafetensors(f *testing.F) {
	f.Add(safetensors(f, moeTensors()...))
	f.Add(safetensors(f))
	for _, seed := range malformedSeeds(f, ".safetensors") {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := safetensorsSource(data)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("an error of no kind: %v", err)
			}
			return
		}
		checkSource(t, s, len(data))
	})
}

// FuzzConfig reads arbitrary configurations: none may crash, whatever types its fields have.
func FuzzConfig(f *testing.F) {
	f.Add([]byte(`{"model_type":"qwen3","hidden_size":64,"rope_scaling":{"rope_type":"yarn","factor":4}}`))
	f.Add([]byte(`{"text_config":{"model_type":"llama","rope_parameters":null},"num_experts":2}`))
	f.Fuzz(func(_ *testing.T, data []byte) {
		_, _ = readConfig(NewMetadata(), data, true)
		_ = readGeneration(NewMetadata(), data)
	})
}
