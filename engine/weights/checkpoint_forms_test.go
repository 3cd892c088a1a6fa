package weights_test

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"hearth/engine/weights"
	"hearth/engine/weights/checkpointtest"
	"hearth/hardware/quant"
)

// counting is a matrix whose elements count up from first.
func counting(name string, first int, shape ...int) checkpointtest.Tensor {
	n := checkpointtest.Tensor{Name: name, Shape: shape, Values: make([]float32, 1)}
	for _, d := range shape {
		n.Values = make([]float32, len(n.Values)*d)
	}
	for i := range n.Values {
		n.Values[i] = float32(first + i)
	}
	return n
}

// TestQwen3Next builds the grouped projection of Qwen3-Next from its parts, and wants these back.
func TestQwen3Next(t *testing.T) {
	const keyHeads, perKey, keyDim, valueDim, hidden = 3, 2, 4, 2, 5
	const keys, values = keyHeads * keyDim, keyHeads * perKey * valueDim
	query, key := counting("", 0, keys, hidden), counting("", 1000, keys, hidden)
	value, gate := counting("", 2000, values, hidden), counting("", 3000, values, hidden)
	grouped := checkpointtest.Tensor{Name: "model.layers.0.linear_attn.in_proj_qkvz.weight", Shape: []int{2*keys + 2*values, hidden}}
	for k := range keyHeads {
		for _, part := range []struct {
			of   *checkpointtest.Tensor
			rows int
		}{{&query, keyDim}, {&key, keyDim}, {&value, perKey * valueDim}, {&gate, perKey * valueDim}} {
			grouped.Values = append(grouped.Values, part.of.Values[k*part.rows*hidden:(k+1)*part.rows*hidden]...)
		}
	}
	logA := counting("model.layers.0.linear_attn.A_log", -2, 6)
	norm := counting("model.layers.0.post_attention_layernorm.weight", 7, hidden)
	var tensors []weights.OutTensor
	for _, n := range []checkpointtest.Tensor{
		grouped, logA, norm, counting("model.layers.0.linear_attn.in_proj_ba.weight", 10, 2*keyHeads*perKey, hidden),
		counting("model.layers.0.linear_attn.dt_bias", 40, 6), counting("model.layers.0.linear_attn.conv1d.weight", 50, 2*keys+values, 1, 4),
		counting("model.layers.0.linear_attn.norm.weight", 60, valueDim), counting("model.layers.0.linear_attn.out_proj.weight", 70, hidden, values),
		counting("mtp.fc.weight", 0, hidden, 2*hidden), // announced by nothing
	} {
		tensors = append(tensors, n.Plain())
	}
	src := openCheckpoint(t, object{
		"model_type": "qwen3_next", "num_hidden_layers": 1, "linear_key_head_dim": keyDim, "linear_num_key_heads": keyHeads,
		"linear_num_value_heads": keyHeads * perKey, "linear_value_head_dim": valueDim,
	}, tensors)
	for name, want := range map[string][]float32{
		"blk.0.attn_qkv.weight":            slices.Concat(query.Values, key.Values, value.Values),
		"blk.0.attn_gate.weight":           gate.Values,
		"blk.0.ssm_ba.weight":              counting("", 10, 12, hidden).Values,
		"blk.0.ssm_dt.bias":                {40, 41, 42, 43, 44, 45},
		"blk.0.ssm_conv1d.weight":          counting("", 50, (2*keys+values)*4).Values,
		"blk.0.ssm_norm.weight":            {60, 61},
		"blk.0.ssm_out.weight":             counting("", 70, hidden*values).Values,
		"blk.0.post_attention_norm.weight": {8, 9, 10, 11, 12},
	} {
		if got := dequantized(t, src, name); !slices.Equal(got, want) {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	for i, x := range dequantized(t, src, "blk.0.ssm_a") {
		if want := -math.Exp(float64(i - 2)); math.Abs(float64(x)/want-1) > 1e-6 {
			t.Errorf("ssm_a: element %d is %v, want %v", i, x, want)
		}
	}
	if conv, err := src.Describe("blk.0.ssm_conv1d.weight"); err != nil || !slices.Equal(conv.Shape, []int{2*keys + values, 4}) {
		t.Errorf("ssm_conv1d has the shape %v, %v", conv.Shape, err)
	}
	if len(src.Names()) != 9 {
		t.Errorf("%d tensors: %q", len(src.Names()), src.Names())
	}
}

// TestFamilyKeys holds configurations, as they are published, to the keys that converters write.
func TestFamilyKeys(t *testing.T) {
	for name, c := range map[string]struct {
		config object
		want   map[string]any
	}{
		"qwen2moe": {
			object{"model_type": "qwen2_moe", "num_experts": 60, "num_experts_per_tok": 4, "moe_intermediate_size": 1408, "shared_expert_intermediate_size": 5632, "norm_topk_prob": false, "decoder_sparse_step": 1, "mlp_only_layers": []int{}},
			map[string]any{"qwen2moe.expert_count": uint32(60), "qwen2moe.expert_shared_feed_forward_length": uint32(5632), "qwen2moe.expert_weights_norm": false},
		},
		"qwen3next": {
			object{"model_type": "qwen3_next", "num_hidden_layers": 48, "head_dim": 256, "partial_rotary_factor": 0.25, "full_attention_interval": 4, "num_experts": 512, "linear_num_value_heads": 32, "linear_value_head_dim": 128},
			map[string]any{"qwen3next.rope.dimension_count": uint32(64), "qwen3next.ssm.inner_size": uint32(4096), "qwen3next.expert_weights_norm": true, "qwen3next.block_count": uint32(48), "qwen3next.full_attention_interval": uint32(4)},
		},
		"qwen35": {
			object{"model_type": "qwen3_5", "text_config": object{"model_type": "qwen3_5_text", "num_hidden_layers": 4, "mtp_num_hidden_layers": 1, "rope_parameters": object{"rope_type": "default", "rope_theta": 1e7, "mrope_section": []int{11, 11, 10}}}},
			map[string]any{"general.architecture": "qwen35", "qwen35.block_count": uint32(5), "qwen35.nextn_predict_layers": uint32(1), "qwen35.rope.dimension_count": uint32(64), "qwen35.rope.dimension_sections": []int32{11, 11, 10, 0}, "qwen35.full_attention_interval": uint32(4), "qwen35.rope.freq_base": float32(1e7), "qwen35.attention.key_length": uint32(256)},
		},
		"irregular layers": {
			object{"model_type": "qwen3_5_text", "num_hidden_layers": 3, "full_attention_interval": 2, "layer_types": []string{"full_attention", "linear_attention", "linear_attention"}},
			map[string]any{"qwen35.attention.recurrent_layers": []bool{false, true, true}},
		},
		"deepseek-v2": {
			object{"model_type": "deepseek_v2", "n_routed_experts": 160, "n_group": 8, "topk_group": 3, "topk_method": "group_limited_greedy", "q_lora_rank": 1536, "routed_scaling_factor": 16.0, "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "num_key_value_heads": 128},
			map[string]any{"deepseek2.expert_group_count": uint32(8), "deepseek2.expert_group_used_count": uint32(3), "deepseek2.expert_gating_func": uint32(1), "deepseek2.expert_weights_norm": false, "deepseek2.attention.key_length": uint32(576), "deepseek2.attention.value_length": uint32(512), "deepseek2.attention.key_length_mla": uint32(192), "deepseek2.attention.head_count_kv": uint32(1)},
		},
		"deepseek-v4": {
			object{"model_type": "deepseek_v4", "num_hidden_layers": 3, "layer_types": []string{"sliding_attention", "compressed_sparse_attention", "heavily_compressed_attention"}, "mlp_layer_types": []string{"hash_moe", "moe", "moe"}, "swiglu_limit": 10,
				"rope_parameters": object{"main": object{"rope_theta": 10000}, "compress": object{"rope_type": "yarn", "factor": 16, "original_max_position_embeddings": 65536, "attention_factor": 1.0}}},
			map[string]any{"deepseek4.attention.compress_ratios": []int32{0, 4, 128}, "deepseek4.hash_layer_count": uint32(1), "deepseek4.swiglu_clamp_exp": []float32{10, 10, 10}, "deepseek4.swiglu_clamp_shexp": []float32{10, 10, 10}, "deepseek4.rope.scaling.factor": float32(16), "deepseek4.rope.scaling.original_context_length": uint32(65536), "deepseek4.rope.freq_base": float32(10000), "deepseek4.rope.scaling.attn_factor": nil, "deepseek4.hyper_connection.count": uint32(4)},
		},
		"reranker": {
			object{"model_type": "qwen3", "architectures": []string{"Qwen3ForSequenceClassification"}},
			map[string]any{"qwen3.pooling_type": uint32(4)},
		},
	} {
		path := filepath.Join(t.TempDir(), "config.json")
		data, err := json.Marshal(c.config)
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, path, data)
		src, err := weights.Open(path)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for key, want := range c.want {
			if got, _ := src.Metadata().Get(key); !reflect.DeepEqual(got, want) {
				t.Errorf("%s: key %s is %v (%T), want %v (%T)", name, key, got, got, want, want)
			}
		}
	}
}

func writeFile(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestPooling reads how an embedder's hidden states become one.
func TestPooling(t *testing.T) {
	for config, want := range map[string]uint64{
		`{"pooling_mode_lasttoken": true}`: 3, `{"pooling_mode_mean_tokens": true, "pooling_mode_lasttoken": false}`: 1, `{"pooling_mode_cls_token": true}`: 2,
		`{"pooling_mode_max_tokens": true}`: 0, `{`: 0, `{"pooling_mode_lasttoken": 1}`: 0,
	} {
		folder := t.TempDir()
		writeFile(t, filepath.Join(folder, "config.json"), []byte(`{"model_type": "qwen3"}`))
		writeFile(t, filepath.Join(folder, "1_Pooling", "config.json"), []byte(config))
		src, err := weights.Open(filepath.Join(folder, "config.json"))
		if want == 0 {
			if err == nil || !strings.Contains(err.Error(), "1_Pooling/config.json") {
				t.Errorf("%s: %v, want an error that names the file", config, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := src.Metadata().Uint("qwen3.pooling_type"); got != want {
			t.Errorf("%s: pooling_type is %d, want %d", config, got, want)
		}
	}
}

// TestReranker takes the two rows of the head from a reranker that is known by its name, and the class of one that has but
// one. Files that are made of it have them too, whatever the other matrices become.
func TestReranker(t *testing.T) {
	embedding, head := counting("model.embed_tokens.weight", 0, 8, 4), counting("lm_head.weight", 100, 8, 4)
	score := counting("score.weight", 200, 1, 4)
	vocabulary := []byte(`{"model": {"vocab": {"no": 2, "yes": 5}}}`)
	for name, c := range map[string]struct {
		config  object
		files   map[string][]byte
		tensors []weights.OutTensor
		want    []float32
	}{
		"tied":    {object{"_name_or_path": "Qwen/Qwen3-Reranker-0.6B"}, map[string][]byte{"tokenizer.json": vocabulary}, []weights.OutTensor{embedding.Plain()}, []float32{20, 21, 22, 23, 8, 9, 10, 11}},
		"head":    {object{}, map[string][]byte{"tokenizer.json": vocabulary, "README.md": []byte("x\n# Qwen3-Reranker-4B\n")}, []weights.OutTensor{embedding.Plain(), head.Plain()}, []float32{120, 121, 122, 123, 108, 109, 110, 111}},
		"class":   {object{"architectures": []string{"Qwen3ForSequenceClassification"}}, nil, []weights.OutTensor{embedding.Plain(), score.Plain()}, []float32{200, 201, 202, 203, 0, 0, 0, 0}},
		"no":      {object{"_name_or_path": "Qwen3-Reranker"}, map[string][]byte{"tokenizer.json": []byte(`{"model": {"vocab": {"no": 2}}}`)}, []weights.OutTensor{embedding.Plain()}, nil},
		"beyond":  {object{"_name_or_path": "Qwen3-Reranker"}, map[string][]byte{"tokenizer.json": []byte(`{"model": {"vocab": {"no": 2, "yes": 8}}}`)}, []weights.OutTensor{embedding.Plain()}, nil},
		"no head": {object{"_name_or_path": "Qwen3-Reranker"}, map[string][]byte{"tokenizer.json": vocabulary}, []weights.OutTensor{score.Plain()}, nil},
	} {
		c.config["model_type"] = "qwen3"
		folder := checkpointtest.Write(t, c.config, c.tensors)
		for file, data := range c.files {
			writeFile(t, filepath.Join(folder, file), data)
		}
		src, err := weights.Open(folder)
		if c.want == nil {
			if err == nil || !errors.Is(err, weights.ErrCorrupt) {
				t.Errorf("%s: %v, want ErrCorrupt", name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		recipe, _ := weights.RecipeByName("bf16")
		conversion, err := weights.PlanConversion(src, weights.ConvertOptions{Recipe: recipe})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		path := filepath.Join(t.TempDir(), "ranking.gguf")
		if _, err := conversion.Save(t.Context(), path); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		converted, err := weights.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		for form, src := range map[string]weights.Source{"folder": src, "converted": converted} {
			if got := dequantized(t, src, "cls.output.weight"); !slices.Equal(got, c.want) {
				t.Errorf("%s, %s: the classes are %v, want %v", name, form, got, c.want)
			}
			if tensor, _ := src.Describe("cls.output.weight"); !slices.Equal(tensor.Shape, []int{2, 4}) || tensor.Format != quant.F32 {
				t.Errorf("%s, %s: %s %v", name, form, tensor.Format, tensor.Shape)
			}
			if pooling, _ := src.Metadata().Uint("qwen3.pooling_type"); pooling != 4 {
				t.Errorf("%s, %s: pooling_type is %d", name, form, pooling)
			}
			src.Close()
		}
	}
}

// TestMalformedCheckpoints wants an error for each contradiction, which names the file and the tensor, or the field.
func TestMalformedCheckpoints(t *testing.T) {
	fp8 := func(name string, shape ...int) weights.OutTensor {
		n := 1
		for _, d := range shape {
			n *= d
		}
		return weights.OutTensor{Name: name, DType: "F8_E4M3", Shape: shape, Data: make([]byte, n)}
	}
	f32 := func(name string, shape ...int) weights.OutTensor {
		n := counting(name, 0, shape...)
		return n.Plain()
	}
	const q, kv = "model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.kv_b_proj.weight"
	const qkv, in, out = "model.layers.0.linear_attn.in_proj_qkv.weight", "model.layers.0.linear_attn.", "model.layers.0.linear_attn.out_proj.weight"
	mla := object{"model_type": "deepseek_v3", "num_hidden_layers": 1, "num_attention_heads": 2, "qk_nope_head_dim": 4, "qk_rope_head_dim": 2, "v_head_dim": 4, "kv_lora_rank": 8}
	delta := object{"model_type": "qwen3_5_text", "num_hidden_layers": 1, "linear_key_head_dim": 2, "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_value_head_dim": 2}
	v4 := object{"model_type": "deepseek_v4", "num_hidden_layers": 1, "num_nextn_predict_layers": 1}
	quantization := func(q object) object { return object{"model_type": "qwen3", "quantization_config": q} }
	for name, c := range map[string]struct {
		config  object
		tensors []weights.OutTensor
		want    []string
	}{
		"no scales":            {object{"model_type": "qwen3"}, []weights.OutTensor{fp8(q, 128, 128)}, []string{q, "scales are missing", ".safetensors"}},
		"scales alone":         {object{"model_type": "qwen3"}, []weights.OutTensor{f32(q+"_scale_inv", 1, 1)}, []string{q, ".safetensors", "missing"}},
		"two scales":           {object{"model_type": "qwen3"}, []weights.OutTensor{fp8(q, 4, 4), f32(q+"_scale_inv", 1, 1), f32(q+"_scale", 1, 1)}, []string{q, ".safetensors"}},
		"too many scales":      {object{"model_type": "qwen3"}, []weights.OutTensor{fp8(q, 128, 128), f32(q+"_scale_inv", 2, 1)}, []string{q, ".safetensors", "[2 1]"}},
		"scales of integers":   {object{"model_type": "qwen3"}, []weights.OutTensor{fp8(q, 1, 1), {Name: q + "_scale_inv", DType: "I32", Shape: []int{1}, Data: make([]byte, 4)}}, []string{q, "I32"}},
		"scaled numbers":       {object{"model_type": "qwen3"}, []weights.OutTensor{f32(q, 128, 128), f32(q+"_scale_inv", 1, 1)}, []string{q, ".safetensors"}},
		"scaled vector":        {object{"model_type": "qwen3"}, []weights.OutTensor{fp8(q, 128), f32(q+"_scale_inv", 1, 1)}, []string{q}},
		"scaled and empty":     {object{"model_type": "qwen3"}, []weights.OutTensor{fp8(q, 0, 128), f32(q+"_scale_inv", 1, 1)}, []string{q}},
		"tiles of the config":  {quantization(object{"quant_method": "fp8", "weight_block_size": []int{64, 64}}), []weights.OutTensor{fp8(q, 128, 256), f32(q+"_scale_inv", 1, 2)}, []string{q}},
		"tiles of nothing":     {quantization(object{"quant_method": "fp8", "weight_block_size": []int{0, 128}}), nil, []string{"config.json", "weight_block_size"}},
		"three tiles":          {quantization(object{"quant_method": "fp8", "weight_block_size": []int{1, 2, 3}}), nil, []string{"config.json", "weight_block_size"}},
		"another quantization": {quantization(object{"quant_method": "gptq"}), nil, []string{"config.json", "quant_method", "gptq"}},
		"no quantization":      {quantization(object{}), nil, []string{"config.json", "quant_method"}},
		"E5M2":                 {quantization(object{"quant_method": "fp8", "fmt": "e5m2"}), nil, []string{"config.json", "fmt"}},
		"modules":              {quantization(object{"quant_method": "fp8", "modules_to_not_convert": []any{"a", 1}}), nil, []string{"config.json", "modules_to_not_convert"}},
		"packed, not by 32":    {v4, []weights.OutTensor{{Name: "layers.0.ffn.experts.0.w1.weight", DType: "I8", Shape: []int{2, 8}, Data: make([]byte, 16)}, {Name: "layers.0.ffn.experts.0.w1.scale", DType: "F8_E8M0", Shape: []int{2, 1}, Data: make([]byte, 2)}}, []string{"experts.0.w1.weight"}},
		"packed, scales F32":   {v4, []weights.OutTensor{{Name: "layers.0.ffn.experts.0.w1.weight", DType: "I8", Shape: []int{2, 16}, Data: make([]byte, 32)}, f32("layers.0.ffn.experts.0.w1.scale", 2, 1)}, []string{"experts.0.w1.weight"}},
		"experts apart":        {v4, []weights.OutTensor{f32("layers.0.ffn.experts.0.w1.weight", 2, 4), f32("layers.0.ffn.experts.1.w1.weight", 2, 5)}, []string{"experts.1.w1.weight", ".safetensors"}},
		"half a projection":    {v4, []weights.OutTensor{f32("mtp.0.e_proj.weight", 2, 4)}, []string{"mtp.0.e_proj.weight", "h_proj"}},
		"halves that differ":   {v4, []weights.OutTensor{f32("mtp.0.e_proj.weight", 2, 4), f32("mtp.0.h_proj.weight", 3, 4)}, []string{"mtp.0.h_proj.weight"}},
		"table of one row":     {v4, []weights.OutTensor{{Name: "layers.0.ffn.gate.tid2eid", DType: "I64", Shape: []int{2}, Data: make([]byte, 16)}}, []string{"tid2eid"}},
		"keys and values":      {mla, []weights.OutTensor{f32(kv, 15, 8)}, []string{kv, "[2*(6-2+4), rank]"}},
		"without its key":      {object{"model_type": "deepseek_v3", "num_hidden_layers": 1}, []weights.OutTensor{f32(kv, 16, 8)}, []string{kv, "deepseek2.attention.head_count"}},
		"channels":             {delta, []weights.OutTensor{f32(qkv, 15, 8)}, []string{qkv}},
		"columns":              {delta, []weights.OutTensor{f32(out, 8, 9)}, []string{out}},
		"heads":                {delta, []weights.OutTensor{f32(in+"A_log", 3)}, []string{in + "A_log"}},
		"kernels":              {delta, []weights.OutTensor{f32(in+"conv1d.weight", 3, 1, 4)}, []string{in + "conv1d.weight"}},
		"no kernel":            {delta, []weights.OutTensor{f32(in + "conv1d.weight")}, []string{in + "conv1d.weight"}},
		"heads that do not fit": {object{"model_type": "qwen3_5_text", "num_hidden_layers": 1, "linear_key_head_dim": 2, "linear_num_key_heads": 3, "linear_num_value_heads": 4, "linear_value_head_dim": 2},
			[]weights.OutTensor{f32(in+"A_log", 4)}, []string{in + "A_log"}},
		"twice":               {object{"model_type": "qwen3"}, []weights.OutTensor{f32("model.norm.weight", 3), f32("norm.weight", 3)}, []string{"output_norm.weight"}},
		"scaled norm":         {delta, []weights.OutTensor{fp8("model.norm.weight", 4), f32("model.norm.weight_scale", 1)}, []string{"model.norm.weight"}},
		"many layers":         {object{"model_type": "deepseek_v4", "num_hidden_layers": uint32(1 << 31), "swiglu_limit": 10}, nil, []string{"config.json", "num_hidden_layers"}},
		"many predictions":    {object{"model_type": "deepseek_v4", "num_hidden_layers": 1, "num_nextn_predict_layers": uint32(1 << 31)}, nil, []string{"num_nextn_predict_layers"}},
		"some dense":          {object{"model_type": "qwen2_moe", "mlp_only_layers": []int{1}}, nil, []string{"config.json", "mlp_only_layers"}},
		"another score":       {object{"model_type": "deepseek_v3", "scoring_func": "tanh"}, nil, []string{"config.json", "scoring_func"}},
		"another scale":       {object{"model_type": "deepseek_v3", "rope_scaling": object{"type": "yarn", "factor": 40, "mscale": 1, "mscale_all_dim": 0.5}}, nil, []string{"config.json", "mscale"}},
		"other kinds":         {object{"model_type": "qwen3_5_text", "layer_types": []string{"sliding_attention"}}, nil, []string{"config.json", "layer_types"}},
		"dense behind sparse": {object{"model_type": "minimax_m3", "moe_layer_freq": []int{0, 1, 0}}, nil, []string{"config.json", "moe_layer_freq"}},
		"another activation":  {object{"model_type": "minimax_m3", "swiglu_limit": 5}, nil, []string{"config.json", "swiglu_limit"}},
	} {
		src, err := weights.Open(checkpointtest.Write(t, c.config, c.tensors))
		if err == nil {
			t.Errorf("%s was opened: %q", name, src.Names())
			src.Close()
			continue
		}
		if !errors.Is(err, weights.ErrCorrupt) && !errors.Is(err, weights.ErrUnsupported) {
			t.Errorf("%s: %v, of no kind", name, err)
		}
		for _, part := range c.want {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %v, want that it says %s", name, err, part)
			}
		}
	}
}

// TestTableThatDoesNotFit wants a number beyond 32 bits to become none that an expert may have, not another expert's.
func TestTableThatDoesNotFit(t *testing.T) {
	var data []byte
	for _, expert := range []int64{5, 1<<32 + 5, -1 << 31, math.MaxInt64, -7} {
		data = binary.LittleEndian.AppendUint64(data, uint64(expert))
	}
	src, err := weights.Open(checkpointtest.Write(t, object{"model_type": "deepseek_v4", "num_hidden_layers": 1}, []weights.OutTensor{
		{Name: "layers.0.ffn.gate.tid2eid", DType: "I64", Shape: []int{1, 5}, Data: data},
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	table, err := src.Tensor("blk.0.ffn_gate_tid2eid.weight")
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []int32{5, -1, -1 << 31, -1, -7} {
		if got := int32(binary.LittleEndian.Uint32(table.Data[4*i:])); got != want {
			t.Errorf("element %d is %d, want %d", i, got, want)
		}
	}
}

// TestAbsentShard names the file that an index promises.
func TestAbsentShard(t *testing.T) {
	n := counting("model.norm.weight", 0, 4)
	m := counting("lm_head.weight", 0, 4, 4)
	folder := checkpointtest.Write(t, object{"model_type": "qwen3"}, []weights.OutTensor{n.Plain(), m.Plain()})
	const shard = "model-00002-of-00002.safetensors"
	if err := os.Remove(filepath.Join(folder, shard)); err != nil {
		t.Fatal(err)
	}
	if _, err := weights.Open(folder); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), shard) {
		t.Errorf("%v, want that %s does not exist", err, shard)
	}
}

// FuzzCheckpoint opens folders whose tensors have any names, types and shapes: nothing but an error may come of it.
func FuzzCheckpoint(f *testing.F) {
	for _, p := range published {
		data, err := json.Marshal(checkpointtest.Config(openTiny(f, p.model)))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, "model.layers.0.self_attn.kv_b_proj.weight", "F8_E4M3", uint16(128), uint16(128), uint16(0))
	}
	f.Add([]byte(`{"model_type":"qwen3_next"}`), "model.layers.0.linear_attn.in_proj_qkvz.weight", "BF16", uint16(3), uint16(5), uint16(7))
	f.Add([]byte(`{"model_type":"deepseek_v4","num_hidden_layers":1}`), "layers.0.ffn.gate.tid2eid", "I64", uint16(3), uint16(5), uint16(0))
	f.Fuzz(func(t *testing.T, config []byte, name, dtype string, rows, cols, depth uint16) {
		shape := []int{int(rows) % 300, int(cols) % 300}
		if depth > 0 {
			shape = append([]int{int(depth) % 4}, shape...)
		}
		header := object{}
		begin := 0
		for _, tensor := range []struct {
			name, dtype string
			shape       []int
			bits        int
		}{
			{name, dtype, shape, map[string]int{"F32": 32, "BF16": 16, "F16": 16, "I64": 64, "F8_E4M3": 8, "I8": 8, "U8": 8, "F4": 4}[dtype]},
			{strings.TrimSuffix(name, ".weight") + ".weight_scale_inv", "F32", []int{(shape[len(shape)-2] + 127) / 128, (shape[len(shape)-1] + 127) / 128}, 32},
		} {
			n := tensor.bits
			for _, d := range tensor.shape {
				n *= d
			}
			header[tensor.name] = object{"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": []int{begin, begin + n/8}}
			begin += n / 8
		}
		text, err := json.Marshal(header)
		if err != nil {
			return
		}
		folder := t.TempDir()
		writeFile(t, filepath.Join(folder, "config.json"), config)
		file := append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...)
		writeFile(t, filepath.Join(folder, "model.safetensors"), append(file, make([]byte, begin)...))
		src, err := weights.Open(folder)
		if err != nil {
			return
		}
		defer src.Close()
		for _, name := range src.Names() {
			if tensor, err := src.Tensor(name); err != nil || tensor.Size() > int64(8*begin+1024) {
				t.Errorf("%s of %d bytes from a file of %d: %v", name, tensor.Size(), begin, err)
			}
		}
	})
}
