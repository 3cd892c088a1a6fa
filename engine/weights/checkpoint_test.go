package weights

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"hearth/cmd/sharedtest"
	"hearth/hardware/quant"
)

// tinyModels are the reference models whose checkpoints are written here, by architecture.
var tinyModels = []string{
	"qwen2", "qwen3", "qwen3moe", "qwen35", "qwen35moe", "qwen35-mtp", "minimax-m2", "minimax-m3", "deepseek2-lite", "deepseek2",
	"deepseek32", "deepseek4",
}

// numbers is a tensor of a checkpoint in the making.
type numbers struct {
	name  string
	shape []int
	v     []float32
}

// row returns a row of a matrix.
func (n *numbers) row(i int) []float32 {
	cols := n.shape[len(n.shape)-1]
	return n.v[i*cols : (i+1)*cols]
}

// like returns another tensor of a matrix's rows, in an order.
func (n *numbers) like(name string, rows []int) numbers {
	m := numbers{name: name, shape: append([]int{len(rows)}, n.shape[1:]...)}
	for _, r := range rows {
		m.v = append(m.v, n.row(r)...)
	}
	return m
}

func openTiny(t testing.TB, model string) Source {
	t.Helper()
	src, err := OpenBytes(model+".gguf", sharedtest.ReadFile(t, "testdata", "golden", "tiny-"+model+".gguf.gz"))
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// numbersOf dequantizes a tensor, or reads its integers.
func numbersOf(t testing.TB, src Source, name string) numbers {
	t.Helper()
	tensor, err := src.Tensor(name)
	if err != nil {
		t.Fatal(err)
	}
	data := slices.Concat(tensor.Parts()...)
	n := numbers{name, tensor.Shape, make([]float32, tensor.Elements())}
	if tensor.Format != nil {
		tensor.Format.Dequantize(n.v, data)
		return n
	}
	for i := range n.v {
		n.v[i] = float32(int32(binary.LittleEndian.Uint32(data[4*i:])))
	}
	return n
}

// inverse undoes what a converter to GGUF does, tensor by tensor.
type inverse struct {
	t     testing.TB
	src   Source
	arch  string
	trunk int
	out   []numbers
}

func (v *inverse) key(name string) int {
	n, ok := v.src.Metadata().Uint(v.arch + "." + name)
	if !ok {
		v.t.Fatalf("no key %s", name)
	}
	return int(n)
}

// checkpointOf returns the tensors of a model as its makers publish them, in float32.
func checkpointOf(t testing.TB, src Source) []numbers {
	arch, _ := src.Metadata().String("general.architecture")
	v := &inverse{t: t, src: src, arch: arch}
	predicting, _ := src.Metadata().Uint(arch + ".nextn_predict_layers")
	v.trunk = v.key("block_count") - int(predicting)
	for _, name := range src.Names() {
		v.tensor(name)
	}
	return v.out
}

func (v *inverse) emit(n numbers, name string) {
	n.name = name
	v.out = append(v.out, n)
}

func (v *inverse) tensor(name string) {
	n := numbersOf(v.t, v.src, name)
	zeroCentred := strings.HasPrefix(v.arch, "qwen35") || v.arch == "minimax-m3"
	if zeroCentred && strings.HasSuffix(name, "norm.weight") && !strings.HasSuffix(name, "ssm_norm.weight") {
		for i := range n.v {
			n.v[i]--
		}
	}
	rest, layered := strings.CutPrefix(name, "blk.")
	if !layered {
		v.emit(n, v.outer(name))
		return
	}
	number, stem, _ := strings.Cut(rest, ".")
	layer, _ := strconv.Atoi(number)
	prefix := "model.layers." + number + "."
	switch {
	case v.arch == "deepseek4":
		prefix = "layers." + number + "."
	case strings.HasPrefix(v.arch, "qwen35") && layer >= v.trunk && strings.HasPrefix(stem, "nextn."):
		prefix = "mtp."
	case strings.HasPrefix(v.arch, "qwen35") && layer >= v.trunk:
		prefix = "mtp.layers." + strconv.Itoa(layer-v.trunk) + "."
	case v.arch == "qwen35moe":
		prefix = "model.language_model.layers." + number + "."
	case v.arch == "minimax-m3":
		prefix = "language_model.model.layers." + number + "."
	}
	if strings.Contains(stem, "_exps.") {
		v.experts(n, prefix, stem)
		return
	}
	v.layer(n, prefix, stem)
}

func (v *inverse) outer(name string) string {
	if v.arch == "deepseek4" {
		return map[string]string{
			"token_embd.weight": "embed.weight", "output_norm.weight": "norm.weight", "output.weight": "head.weight",
			"output_hc_fn.weight": "hc_head_fn", "output_hc_base.weight": "hc_head_base", "output_hc_scale.weight": "hc_head_scale",
		}[name]
	}
	hf := map[string]string{"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight", "output.weight": "lm_head.weight"}[name]
	switch v.arch {
	case "minimax-m3":
		return "language_model." + hf
	case "qwen35moe":
		return strings.Replace(hf, "model.", "model.language_model.", 1)
	}
	return hf
}

// experts takes a stack apart; qwen35moe has it in one piece, gate and up joined.
func (v *inverse) experts(n numbers, prefix, stem string) {
	count, rows, cols := n.shape[0], n.shape[1], n.shape[2]
	if v.arch == "qwen35moe" {
		switch stem {
		case "ffn_down_exps.weight":
			v.emit(n, prefix+"mlp.experts.down_proj")
		case "ffn_gate_exps.weight":
			up := numbersOf(v.t, v.src, strings.Replace(n.name, "ffn_gate", "ffn_up", 1))
			joined := numbers{shape: []int{count, 2 * rows, cols}}
			for e := range count {
				joined.v = append(append(joined.v, n.v[e*rows*cols:][:rows*cols]...), up.v[e*rows*cols:][:rows*cols]...)
			}
			v.emit(joined, prefix+"mlp.experts.gate_up_proj")
		}
		return
	}
	pattern := map[string]string{
		"qwen3moe": "mlp.experts.%d.%s_proj.weight", "deepseek2": "mlp.experts.%d.%s_proj.weight", "deepseek32": "mlp.experts.%d.%s_proj.weight",
		"minimax-m2": "block_sparse_moe.experts.%d.%s.weight", "minimax-m3": "block_sparse_moe.experts.%d.%s.weight",
		"deepseek4": "ffn.experts.%d.%s.weight",
	}[v.arch]
	part := strings.TrimSuffix(strings.TrimPrefix(stem, "ffn_"), "_exps.weight")
	if !strings.Contains(pattern, "_proj") {
		part = map[string]string{"gate": "w1", "up": "w3", "down": "w2"}[part]
	}
	for e := range count {
		v.emit(numbers{shape: []int{rows, cols}, v: n.v[e*rows*cols:][:rows*cols]}, prefix+fmt.Sprintf(pattern, e, part))
	}
}

// publishedNames are the parts of layers by their GGUF names, of all families but the last.
var publishedNames = map[string]string{
	"attn_norm.weight": "input_layernorm.weight", "ffn_norm.weight": "post_attention_layernorm.weight",
	"post_attention_norm.weight": "post_attention_layernorm.weight",
	"attn_q.weight":              "self_attn.q_proj.weight", "attn_k.weight": "self_attn.k_proj.weight", "attn_v.weight": "self_attn.v_proj.weight",
	"attn_q.bias": "self_attn.q_proj.bias", "attn_k.bias": "self_attn.k_proj.bias", "attn_v.bias": "self_attn.v_proj.bias",
	"attn_output.weight": "self_attn.o_proj.weight", "attn_q_norm.weight": "self_attn.q_norm.weight", "attn_k_norm.weight": "self_attn.k_norm.weight",
	"ffn_gate.weight": "mlp.gate_proj.weight", "ffn_up.weight": "mlp.up_proj.weight", "ffn_down.weight": "mlp.down_proj.weight",
	"ffn_gate_inp.weight": "mlp.gate.weight", "exp_probs_b.bias": "mlp.gate.e_score_correction_bias",
	"ffn_gate_shexp.weight": "mlp.shared_experts.gate_proj.weight", "ffn_up_shexp.weight": "mlp.shared_experts.up_proj.weight",
	"ffn_down_shexp.weight": "mlp.shared_experts.down_proj.weight", "ffn_gate_inp_shexp.weight": "mlp.shared_expert_gate.weight",
	"attn_qkv.weight": "linear_attn.in_proj_qkv.weight", "attn_gate.weight": "linear_attn.in_proj_z.weight",
	"ssm_beta.weight": "linear_attn.in_proj_b.weight", "ssm_alpha.weight": "linear_attn.in_proj_a.weight",
	"ssm_conv1d.weight": "linear_attn.conv1d.weight", "ssm_a": "linear_attn.A_log", "ssm_dt.bias": "linear_attn.dt_bias",
	"ssm_norm.weight": "linear_attn.norm.weight", "ssm_out.weight": "linear_attn.out_proj.weight",
	"nextn.eh_proj.weight": "fc.weight", "nextn.enorm.weight": "pre_fc_norm_embedding.weight", "nextn.hnorm.weight": "pre_fc_norm_hidden.weight",
	"nextn.shared_head_norm.weight": "norm.weight",
	"attn_q_a.weight":               "self_attn.q_a_proj.weight", "attn_q_a_norm.weight": "self_attn.q_a_layernorm.weight", "attn_q_b.weight": "self_attn.q_b_proj.weight",
	"attn_kv_a_mqa.weight": "self_attn.kv_a_proj_with_mqa.weight", "attn_kv_a_norm.weight": "self_attn.kv_a_layernorm.weight",
	"indexer.attn_q_b.weight": "self_attn.indexer.wq_b.weight", "indexer.attn_k.weight": "self_attn.indexer.wk.weight",
	"indexer.proj.weight": "self_attn.indexer.weights_proj.weight", "indexer.k_norm.weight": "self_attn.indexer.k_norm.weight",
	"indexer.k_norm.bias": "self_attn.indexer.k_norm.bias",
}

// miniMaxNames are those in which MiniMax differs.
var miniMaxNames = map[string]string{
	"ffn_gate_inp.weight": "block_sparse_moe.gate.weight", "exp_probs_b.bias": "block_sparse_moe.e_score_correction_bias",
	"ffn_gate_shexp.weight": "block_sparse_moe.shared_experts.gate_proj.weight", "ffn_up_shexp.weight": "block_sparse_moe.shared_experts.up_proj.weight",
	"ffn_down_shexp.weight": "block_sparse_moe.shared_experts.down_proj.weight", "indexer.q_proj.weight": "self_attn.index_q_proj.weight",
	"indexer.k_proj.weight": "self_attn.index_k_proj.weight", "indexer.q_norm.weight": "self_attn.index_q_norm.weight",
	"indexer.k_norm.weight": "self_attn.index_k_norm.weight",
}

// deepSeekV4Names are the native names of DeepSeek-V4.
var deepSeekV4Names = map[string]string{
	"attn_norm.weight": "attn_norm.weight", "ffn_norm.weight": "ffn_norm.weight", "attn_sinks.weight": "attn.attn_sink",
	"attn_q_a.weight": "attn.wq_a.weight", "attn_q_a_norm.weight": "attn.q_norm.weight", "attn_q_b.weight": "attn.wq_b.weight",
	"attn_kv.weight": "attn.wkv.weight", "attn_kv_a_norm.weight": "attn.kv_norm.weight", "attn_output_a.weight": "attn.wo_a.weight",
	"attn_output_b.weight": "attn.wo_b.weight", "hc_attn_fn.weight": "hc_attn_fn", "hc_attn_base.weight": "hc_attn_base",
	"hc_attn_scale.weight": "hc_attn_scale", "hc_ffn_fn.weight": "hc_ffn_fn", "hc_ffn_base.weight": "hc_ffn_base", "hc_ffn_scale.weight": "hc_ffn_scale",
	"attn_compressor_kv.weight": "attn.compressor.wkv.weight", "attn_compressor_gate.weight": "attn.compressor.wgate.weight",
	"attn_compressor_ape.weight": "attn.compressor.ape", "attn_compressor_norm.weight": "attn.compressor.norm.weight",
	"indexer.proj.weight": "attn.indexer.weights_proj.weight", "indexer.attn_q_b.weight": "attn.indexer.wq_b.weight",
	"indexer_compressor_kv.weight": "attn.indexer.compressor.wkv.weight", "indexer_compressor_gate.weight": "attn.indexer.compressor.wgate.weight",
	"indexer_compressor_ape.weight": "attn.indexer.compressor.ape", "indexer_compressor_norm.weight": "attn.indexer.compressor.norm.weight",
	"ffn_gate_inp.weight": "ffn.gate.weight", "exp_probs_b.bias": "ffn.gate.bias", "ffn_gate_tid2eid.weight": "ffn.gate.tid2eid",
	"ffn_gate_shexp.weight": "ffn.shared_experts.w1.weight", "ffn_up_shexp.weight": "ffn.shared_experts.w3.weight",
	"ffn_down_shexp.weight": "ffn.shared_experts.w2.weight",
}

// layer emits a tensor of a layer.
func (v *inverse) layer(n numbers, prefix, stem string) {
	name := publishedNames[stem]
	switch {
	case v.arch == "deepseek4":
		name = deepSeekV4Names[stem]
	case strings.HasPrefix(v.arch, "minimax") && miniMaxNames[stem] != "":
		name = miniMaxNames[stem]
	case strings.HasPrefix(v.arch, "qwen"):
		name = strings.Replace(name, "shared_experts", "shared_expert", 1)
	}
	switch stem {
	case "attn_k_b.weight":
		v.keysValues(n, prefix)
		return
	case "attn_v_b.weight": // goes with the keys
		return
	case "ffn_gate_inp_shexp.weight":
		n.shape = []int{1, n.shape[0]}
	case "attn_qkv.weight", "attn_gate.weight", "ssm_beta.weight", "ssm_alpha.weight", "ssm_conv1d.weight", "ssm_a", "ssm_dt.bias", "ssm_out.weight":
		n = v.delta(n, stem)
	}
	if name == "" {
		v.t.Fatalf("no published name for %s", stem)
	}
	v.emit(n, prefix+name)
}

// keysValues joins what latent attention multiplies keys and values with.
func (v *inverse) keysValues(keys numbers, prefix string) {
	values := numbersOf(v.t, v.src, strings.Replace(keys.name, "attn_k_b", "attn_v_b", 1))
	heads, rank, nope, value := keys.shape[0], keys.shape[1], keys.shape[2], values.shape[1]
	n := numbers{shape: []int{heads * (nope + value), rank}}
	for h := range heads {
		for i := range nope {
			for r := range rank {
				n.v = append(n.v, keys.v[(h*rank+r)*nope+i])
			}
		}
		n.v = append(n.v, values.v[h*value*rank:][:value*rank]...)
	}
	v.emit(n, prefix+"self_attn.kv_b_proj.weight")
}

// delta puts the value heads next to their key head, and takes the exponential back.
func (v *inverse) delta(n numbers, stem string) numbers {
	keyHeads, valueHeads := v.key("ssm.group_count"), v.key("ssm.time_step_rank")
	perKey, dim, keys := valueHeads/keyHeads, v.key("ssm.inner_size")/valueHeads, v.key("ssm.group_count")*v.key("ssm.state_size")
	var heads, elements []int // in the checkpoint's order, where the model has them
	for k := range keyHeads {
		for j := range perKey {
			heads = append(heads, j*keyHeads+k)
			for i := range dim {
				elements = append(elements, (j*keyHeads+k)*dim+i)
			}
		}
	}
	var channels []int
	for i := range 2 * keys {
		channels = append(channels, i)
	}
	for _, e := range elements {
		channels = append(channels, 2*keys+e)
	}
	switch stem {
	case "attn_qkv.weight":
		return n.like("", channels)
	case "ssm_conv1d.weight":
		c := n.like("", channels)
		c.shape = []int{len(channels), 1, n.shape[1]}
		return c
	case "attn_gate.weight":
		return n.like("", elements)
	case "ssm_beta.weight", "ssm_alpha.weight":
		return n.like("", heads)
	case "ssm_out.weight":
		c := numbers{shape: n.shape}
		for r := range n.shape[0] {
			for _, e := range elements {
				c.v = append(c.v, n.row(r)[e])
			}
		}
		return c
	}
	c := numbers{shape: n.shape}
	for _, h := range heads {
		x := n.v[h]
		if stem == "ssm_a" {
			x = float32(math.Log(-float64(x)))
		}
		c.v = append(c.v, x)
	}
	return c
}

// plainTensor encodes a tensor in float32; the table of experts has whole numbers of 8 bytes.
func plainTensor(n numbers) OutTensor {
	if strings.HasSuffix(n.name, "tid2eid") {
		out := OutTensor{Name: n.name, DType: "I64", Shape: n.shape}
		for _, x := range n.v {
			out.Data = binary.LittleEndian.AppendUint64(out.Data, uint64(x))
		}
		return out
	}
	out := OutTensor{Name: n.name, DType: "F32", Shape: n.shape}
	for _, x := range n.v {
		out.Data = binary.LittleEndian.AppendUint32(out.Data, math.Float32bits(x))
	}
	return out
}

// configOf writes the configuration that a model's makers publish with it.
func configOf(t testing.TB, src Source) object {
	md := src.Metadata()
	arch, _ := md.String("general.architecture")
	get := func(key string) any {
		v, _ := md.Get(arch + "." + key)
		return v
	}
	count := func(key string) uint64 { n, _ := md.Uint(arch + "." + key); return n }
	c := object{
		"vocab_size": get("vocab_size"), "max_position_embeddings": get("context_length"), "hidden_size": get("embedding_length"),
		"num_hidden_layers": count("block_count") - count("nextn_predict_layers"), "intermediate_size": get("feed_forward_length"),
		"num_attention_heads": get("attention.head_count"), "num_key_value_heads": get("attention.head_count_kv"),
		"rms_norm_eps": get("attention.layer_norm_rms_epsilon"), "rope_theta": get("rope.freq_base"), "num_experts_per_tok": get("expert_used_count"),
		"tie_word_embeddings": !src.Has("output.weight"), "hidden_act": "silu", "model_type": arch, "head_dim": get("attention.key_length"),
	}
	scoring := map[uint64]string{1: "softmax", 2: "sigmoid", 4: "sqrtsoftplus"}[count("expert_gating_func")]
	deepSeek := object{
		"n_routed_experts": get("expert_count"), "moe_intermediate_size": get("expert_feed_forward_length"), "n_shared_experts": get("expert_shared_count"),
		"routed_scaling_factor": get("expert_weights_scale"), "norm_topk_prob": get("expert_weights_norm"), "scoring_func": scoring,
		"first_k_dense_replace": get("leading_dense_block_count"), "q_lora_rank": get("attention.q_lora_rank"), "kv_lora_rank": get("attention.kv_lora_rank"),
		"qk_rope_head_dim": get("rope.dimension_count"), "qk_nope_head_dim": count("attention.key_length_mla") - count("rope.dimension_count"),
		"v_head_dim": get("attention.value_length_mla"), "n_group": get("expert_group_count"), "topk_group": get("expert_group_used_count"),
		"head_dim": nil, "num_key_value_heads": get("attention.head_count"), "index_n_heads": get("attention.indexer.head_count"),
		"index_head_dim": get("attention.indexer.key_length"), "index_topk": get("attention.indexer.top_k"),
	}
	scaling := object{"type": get("rope.scaling.type"), "factor": get("rope.scaling.factor"), "original_max_position_embeddings": get("rope.scaling.original_context_length")}
	switch arch {
	case "qwen3moe":
		maps.Copy(c, object{"model_type": "qwen3_moe", "num_experts": get("expert_count"), "moe_intermediate_size": get("expert_feed_forward_length"), "norm_topk_prob": true})
	case "qwen35", "qwen35moe":
		hybridConfig(c, md, arch)
		if arch == "qwen35moe" {
			return object{"model_type": "qwen3_5_moe", "architectures": []string{"Qwen3_5MoeForConditionalGeneration"}, "text_config": c, "vision_config": object{"hidden_size": 3}}
		}
	case "minimax-m2":
		maps.Copy(c, object{"model_type": "minimax_m2", "num_local_experts": get("expert_count"), "rotary_dim": get("rope.dimension_count"), "scoring_func": scoring, "use_qk_norm": true, "num_mtp_modules": 3})
	case "minimax-m3":
		dense := make([]int, count("block_count"))
		for i := range dense {
			dense[i] = min(1, i/int(count("leading_dense_block_count")))
		}
		maps.Copy(c, object{
			"model_type": "minimax_m2", "num_local_experts": get("expert_count"), "rotary_dim": get("rope.dimension_count"), "partial_rotary_factor": 0.5, "scoring_func": scoring, "moe_layer_freq": dense,
			"dense_intermediate_size": get("feed_forward_length"), "intermediate_size": get("expert_feed_forward_length"), "hidden_act": "swigluoai",
			"n_shared_experts": get("expert_shared_count"), "routed_scaling_factor": get("expert_weights_scale"), "swiglu_alpha": 1.702, "swiglu_limit": 7.0,
			"sparse_attention_config": object{
				"sparse_num_index_heads": get("attention.indexer.head_count"), "sparse_index_dim": get("attention.indexer.key_length"),
				"sparse_topk_blocks": get("attention.indexer.top_k"), "sparse_block_size": get("attention.indexer.block_size"), "sparse_local_block": get("attention.indexer.local_blocks"),
			},
		})
		return object{"model_type": "minimax_m3_vl", "architectures": []string{"MiniMaxM3SparseForConditionalGeneration"}, "text_config": c}
	case "deepseek2", "deepseek32":
		maps.Copy(c, deepSeek)
		log, _ := md.Float(arch + ".rope.scaling.yarn_log_multiplier")
		scaling["mscale"], scaling["mscale_all_dim"] = math.Round(log*1e5)/1e4, math.Round(log*1e5)/1e4
		scaling["beta_fast"], scaling["beta_slow"] = 32, 1
		maps.Copy(c, object{"model_type": map[string]string{"deepseek2": "deepseek_v3", "deepseek32": "deepseek_v32"}[arch], "rope_scaling": scaling, "topk_method": "noaux_tc", "moe_layer_freq": 1})
		if scoring == "softmax" {
			c["model_type"], c["topk_method"], c["n_group"], c["topk_group"] = "deepseek_v2", "greedy", 1, 1
		}
	case "deepseek4":
		maps.Copy(c, deepSeek)
		maps.Copy(c, object{
			"model_type": "deepseek_v4", "num_key_value_heads": 1, "head_dim": get("attention.key_length"), "intermediate_size": nil, "rope_scaling": scaling,
			"sliding_window": get("attention.sliding_window"), "swiglu_limit": 10.0, "o_groups": get("attention.output_group_count"), "o_lora_rank": get("attention.output_lora_rank"),
			"compress_ratios": get("attention.compress_ratios"), "compress_rope_theta": get("attention.compress_rope_freq_base"), "hc_mult": get("hyper_connection.count"),
			"hc_sinkhorn_iters": get("hyper_connection.sinkhorn_iterations"), "hc_eps": get("hyper_connection.epsilon"), "num_hash_layers": get("hash_layer_count"), "num_nextn_predict_layers": 1,
		})
	}
	return c
}

func hybridConfig(c object, md *Metadata, arch string) {
	get := func(key string) any { v, _ := md.Get(arch + "." + key); return v }
	count := func(key string) uint64 { n, _ := md.Uint(arch + "." + key); return n }
	sections, _ := md.Ints(arch + ".rope.dimension_sections")
	maps.Copy(c, object{
		"model_type": map[string]string{"qwen35": "qwen3_5_text", "qwen35moe": "qwen3_5_moe_text"}[arch], "rope_theta": nil,
		"rope_parameters": object{
			"rope_type": "default", "rope_theta": get("rope.freq_base"), "mrope_section": sections[:3], "mrope_interleaved": true,
			"partial_rotary_factor": float64(count("rope.dimension_count")) / float64(count("attention.key_length")),
		},
		"linear_conv_kernel_dim": get("ssm.conv_kernel"), "linear_key_head_dim": get("ssm.state_size"), "linear_num_key_heads": get("ssm.group_count"),
		"linear_num_value_heads": get("ssm.time_step_rank"), "linear_value_head_dim": count("ssm.inner_size") / count("ssm.time_step_rank"),
		"layer_types": []string{"linear_attention", "linear_attention", "linear_attention", "full_attention"}, "num_experts": get("expert_count"),
		"moe_intermediate_size": get("expert_feed_forward_length"), "shared_expert_intermediate_size": get("expert_shared_feed_forward_length"),
		"mtp_num_hidden_layers": 1,
	})
}

// writeCheckpoint writes a folder of two shards and returns it.
func writeCheckpoint(t *testing.T, config object, tensors []OutTensor) string {
	t.Helper()
	weightMap := object{}
	files := object{"config.json": config, "model.safetensors.index.json": object{"weight_map": weightMap}}
	for i, half := range [][]OutTensor{tensors[:len(tensors)/2], tensors[len(tensors)/2:]} {
		shard := fmt.Sprintf("model-0000%d-of-00002.safetensors", i+1)
		for _, tensor := range half {
			weightMap[tensor.Name] = shard
		}
		files[shard] = safetensors(t, half...)
	}
	return folder(t, files)
}

func openCheckpoint(t *testing.T, config object, tensors []OutTensor) Source {
	t.Helper()
	src, err := Open(writeCheckpoint(t, config, tensors))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { src.Close() })
	return src
}

// TestCheckpointGolden writes each reference model as its makers publish it, and wants back the GGUF file: the same names,
// shapes and bytes, and every hyperparameter.
func TestCheckpointGolden(t *testing.T) {
	for _, model := range tinyModels {
		t.Run(model, func(t *testing.T) {
			want := openTiny(t, model)
			var tensors []OutTensor
			for _, n := range checkpointOf(t, want) {
				tensors = append(tensors, plainTensor(n))
			}
			got := openCheckpoint(t, configOf(t, want), tensors)
			sameMetadata(t, got.Metadata(), want.Metadata())
			sameTensors(t, got, want)
		})
	}
}

// sameMetadata wants all keys of a GGUF file that say how the model computes.
func sameMetadata(t *testing.T, got, want *Metadata) {
	t.Helper()
	for _, key := range want.Keys() {
		if strings.HasPrefix(key, "tokenizer.") {
			continue
		}
		g, _ := got.Get(key)
		if w, _ := want.Get(key); !reflect.DeepEqual(g, w) {
			t.Errorf("key %s is %v (%T), want %v (%T)", key, g, g, w, w)
		}
	}
}

// sameTensors compares the bytes of all tensors, read at once and in pieces.
func sameTensors(t *testing.T, got, want Source) {
	t.Helper()
	gotNames, wantNames := slices.Sorted(slices.Values(got.Names())), slices.Sorted(slices.Values(want.Names()))
	if !slices.Equal(gotNames, wantNames) {
		t.Fatalf("names\n%q, want\n%q", gotNames, wantNames)
	}
	for _, name := range wantNames {
		w, err := want.Tensor(name)
		if err != nil {
			t.Fatal(err)
		}
		g, err := got.Tensor(name)
		if err != nil {
			t.Error(err)
			continue
		}
		if !slices.Equal(g.Shape, w.Shape) || g.Type != w.Type || g.Format != w.Format || g.Size() != w.Size() {
			t.Errorf("%s is %s %v of %d bytes, want %s %v of %d", name, g.TypeName(), g.Shape, g.Size(), w.TypeName(), w.Shape, w.Size())
			continue
		}
		data := slices.Concat(g.Parts()...)
		if rounded := strings.HasSuffix(name, "ssm_a") || strings.HasSuffix(name, "norm.weight"); rounded {
			nearby(t, name, decoded(data), decoded(slices.Concat(w.Parts()...)))
		} else if !bytes.Equal(data, slices.Concat(w.Parts()...)) {
			t.Errorf("%s has other elements", name)
		}
		sameRows(t, got, name, data)
	}
}

func decoded(data []byte) []float32 {
	x := make([]float32, len(data)/4)
	quant.F32.Dequantize(x, data)
	return x
}

// nearby allows for the last bit of numbers that went through a subtraction, or through a logarithm and an exponential.
func nearby(t *testing.T, name string, got, want []float32) {
	t.Helper()
	for i := range want {
		if !(math.Abs(float64(got[i])-float64(want[i])) <= 5e-7*max(1, math.Abs(float64(want[i])))) {
			t.Errorf("%s: element %d is %v, want %v", name, i, got[i], want[i])
		}
	}
}

// sameRows reads a tensor that is made in uneven pieces.
func sameRows(t *testing.T, src Source, name string, want []byte) {
	t.Helper()
	tensor, err := src.Rows(name)
	if err != nil {
		t.Fatal(err)
	}
	if tensor.Read == nil {
		return
	}
	matrices, rows := 1, 1
	if n := len(tensor.Shape); n >= 2 {
		rows = tensor.Shape[n-2]
		matrices = int(tensor.Elements()) / rows / tensor.Shape[n-1]
	}
	rowBytes := len(want) / matrices / rows
	for m := range matrices {
		for first := 0; first < rows; first += 7 {
			last := min(first+7, rows)
			got := make([]byte, (last-first)*rowBytes)
			if err := tensor.Read(got, m, first, last); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want[(m*rows+first)*rowBytes:][:len(got)]) {
				t.Errorf("%s: rows %d to %d of matrix %d differ when they are read alone", name, first, last, m)
				return
			}
		}
	}
}
