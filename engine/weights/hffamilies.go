package weights

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
)

// The values of expert_gating_func (llama.cpp, src/llama-hparams.h) by Hugging Face's scoring_func.
var gatings = map[string]uint64{"softmax": 1, "sigmoid": 2, "sqrtsoftplus": 4}

// The values of pooling_type (llama.cpp, include/llama.h): what of a text's hidden states is its embedding, and rank where
// a text is scored.
const (
	poolingKey  = "pooling_type"
	poolingMean = 1
	poolingCLS  = 2
	poolingLast = 3
	poolingRank = 4
)

// family translates the fields that only some families have.
func (c *hfConfig) family() {
	switch c.arch {
	case "qwen2moe", "qwen3moe":
		c.sharedExpert()
		c.sparseEverywhere()
	case "qwen3next", "qwen35", "qwen35moe":
		c.sharedExpert()
		c.sparseEverywhere()
		c.hybrid()
	case "minimax-m2":
		c.count("expert_feed_forward_length", "intermediate_size")
		c.gating("sigmoid")
	case "minimax-m3":
		c.miniMaxM3()
	case "deepseek2", "deepseek32":
		c.latentAttention()
		c.deepSeekExperts()
	case "deepseek4":
		c.deepSeekV4()
	}
	if c.arch == "deepseek32" {
		c.indexer()
	}
	c.activation()
}

// activation refuses other functions than the one that the architecture has.
func (c *hfConfig) activation() {
	if !slices.Contains(renamed, c.arch) {
		return
	}
	if c.arch == "minimax-m3" { // the field is not read by Hugging Face's modeling_minimax_m3_vl.py; these are
		for field, want := range map[string]float64{"swiglu_alpha": 1.702, "swiglu_limit": 7} {
			if v, ok := c.float(c.fields, field); ok && v != want {
				c.unsupported(field, "is %v, want %v", v, want)
			}
		}
	} else if act, ok := c.text("hidden_act"); ok && act != "silu" && act != "swish" {
		c.fail("hidden_act", "is %s, want \"silu\"", quote(act))
	}
	if windows, _ := c.flag("use_sliding_window"); windows {
		c.fail("use_sliding_window", "is true; attention within a window is not supported")
	}
}

func (c *hfConfig) sharedExpert() {
	c.count("expert_shared_feed_forward_length", "shared_expert_intermediate_size")
}

// sparseEverywhere refuses models of which some layers are dense.
func (c *hfConfig) sparseEverywhere() {
	if step, ok := c.integer(c.fields, "decoder_sparse_step"); ok && step != 1 {
		c.unsupported("decoder_sparse_step", "is %d; only layers that are all sparse are supported", step)
	}
	if layers, _ := c.integers(c.fields, "mlp_only_layers"); len(layers) > 0 {
		c.unsupported("mlp_only_layers", "is not empty; only layers that are all sparse are supported")
	}
}

// gating translates how experts are scored.
func (c *hfConfig) gating(missing string) {
	name, ok := c.text("scoring_func")
	if !ok {
		name = missing
	}
	if gatings[name] == 0 {
		c.unsupported("scoring_func", "is %s; known are softmax, sigmoid and sqrtsoftplus", quote(name))
		return
	}
	c.set("expert_gating_func", gatings[name])
}

// hybrid translates gated DeltaNet, and which layers have attention instead.
func (c *hfConfig) hybrid() {
	c.count("ssm.conv_kernel", "linear_conv_kernel_dim")
	c.count("ssm.state_size", "linear_key_head_dim")
	c.count("ssm.group_count", "linear_num_key_heads")
	heads, ok := c.count("ssm.time_step_rank", "linear_num_value_heads")
	if dim, hasDim := c.integer(c.fields, "linear_value_head_dim"); ok && hasDim {
		if heads > maxDimension || dim > maxDimension {
			c.fail("linear_value_head_dim", "is %d for %d heads", dim, heads)
			return
		}
		c.set("ssm.inner_size", heads*dim)
	}
	interval, ok := c.count("full_attention_interval", "full_attention_interval")
	kinds, listed := c.names(c.fields, "layer_types")
	if !ok {
		interval = 4
		if i := slices.Index(kinds, "full_attention"); i >= 0 {
			interval = uint64(i) + 1
		}
		c.set("full_attention_interval", interval)
	}
	if interval == 0 {
		c.fail("full_attention_interval", "is 0")
	} else if listed {
		c.kinds(kinds, interval)
	}
}

// kinds translates the list of layers' kinds when it is not what the interval says.
func (c *hfConfig) kinds(kinds []string, interval uint64) {
	recurrent, regular := make([]bool, max(c.numBlocks, uint64(len(kinds)))), true // prediction blocks are not
	for i, kind := range kinds {
		switch kind {
		case "linear_attention":
			recurrent[i] = true
		case "full_attention":
		default:
			c.unsupported("layer_types", "has a layer of kind %s", quote(kind))
			return
		}
		regular = regular && recurrent[i] == ((uint64(i)+1)%interval != 0)
	}
	if !regular {
		c.md.Set(c.prefix+"attention.recurrent_layers", recurrent)
	}
}

func (c *hfConfig) miniMaxM3() {
	c.count("feed_forward_length", "dense_intermediate_size")
	c.count("expert_feed_forward_length", "intermediate_size")
	c.count("expert_shared_count", "n_shared_experts")
	c.number("expert_weights_scale", c.fields, "routed_scaling_factor")
	c.gating("sigmoid")
	if sparse, ok := c.integers(c.fields, "moe_layer_freq"); ok {
		dense := slices.IndexFunc(sparse, func(n int32) bool { return n != 0 })
		if dense < 0 {
			dense = len(sparse)
		}
		if slices.Contains(sparse[dense:], 0) {
			c.unsupported("moe_layer_freq", "has dense layers behind sparse ones")
		}
		c.set("leading_dense_block_count", uint64(dense))
	}
	indexer := c.object("sparse_attention_config")
	c.countIn(indexer, "attention.indexer.head_count", "sparse_num_index_heads")
	c.countIn(indexer, "attention.indexer.key_length", "sparse_index_dim")
	c.countIn(indexer, "attention.indexer.top_k", "sparse_topk_blocks")
	c.countIn(indexer, "attention.indexer.block_size", "sparse_block_size")
	c.countIn(indexer, "attention.indexer.local_blocks", "sparse_local_block")
}

// latentAttention translates multi-head latent attention as GGUF has it: one head, of which keys and values are the
// latent.
func (c *hfConfig) latentAttention() {
	rank, _ := c.count("attention.kv_lora_rank", "kv_lora_rank")
	rope, _ := c.integer(c.fields, "qk_rope_head_dim")
	nope, _ := c.integer(c.fields, "qk_nope_head_dim")
	c.count("attention.q_lora_rank", "q_lora_rank")
	c.count("attention.value_length_mla", "v_head_dim")
	if max(rank, rope, nope) > maxDimension {
		c.fail("kv_lora_rank", "is %d, qk_rope_head_dim %d and qk_nope_head_dim %d", rank, rope, nope)
		return
	}
	c.set("attention.head_count_kv", 1)
	c.set("attention.key_length", rank+rope)
	c.set("attention.value_length", rank)
	c.set("attention.key_length_mla", nope+rope)
}

func (c *hfConfig) deepSeekExperts() {
	c.count("expert_shared_count", "n_shared_experts")
	c.number("expert_weights_scale", c.fields, "routed_scaling_factor")
	if _, ok := c.count("leading_dense_block_count", "first_k_dense_replace"); !ok {
		c.set("leading_dense_block_count", 0)
	}
	if c.isModelType("deepseek_v2") {
		c.gating("softmax")
	} else {
		c.gating("sigmoid")
	}
	if method, _ := c.text("topk_method"); method != "greedy" { // it disregards the groups
		c.count("expert_group_count", "n_group")
		c.count("expert_group_used_count", "topk_group")
	}
	if step, ok := c.integer(c.fields, "moe_layer_freq"); ok && step != 1 {
		c.unsupported("moe_layer_freq", "is %d; only layers that are all sparse behind the dense ones are supported", step)
	}
}

func (c *hfConfig) indexer() {
	c.count("attention.indexer.head_count", "index_n_heads")
	c.count("attention.indexer.key_length", "index_head_dim")
	c.count("attention.indexer.top_k", "index_topk")
}

func (c *hfConfig) deepSeekV4() {
	c.count("feed_forward_length", "intermediate_size", "moe_intermediate_size")
	c.orElse("attention.head_count_kv", "num_key_value_heads", 1)
	c.count("attention.q_lora_rank", "q_lora_rank")
	c.count("attention.sliding_window", "sliding_window")
	c.count("attention.output_group_count", "o_groups")
	c.count("attention.output_lora_rank", "o_lora_rank")
	c.number("attention.compress_rope_freq_base", c.fields, "compress_rope_theta")
	c.count("expert_shared_count", "n_shared_experts")
	c.number("expert_weights_scale", c.fields, "routed_scaling_factor")
	c.gating("sqrtsoftplus")
	c.orElse("hyper_connection.count", "hc_mult", 4)
	c.orElse("hyper_connection.sinkhorn_iterations", "hc_sinkhorn_iters", 20)
	if !c.number("hyper_connection.epsilon", c.fields, "hc_eps") {
		c.md.Set(c.prefix+"hyper_connection.epsilon", float32(1e-6))
	}
	c.indexer()
	c.compression()
	if kinds, ok := c.names(c.fields, "mlp_layer_types"); ok && c.fields["num_hash_layers"] == nil {
		hashed := slices.IndexFunc(kinds, func(kind string) bool { return kind != "hash_moe" })
		if hashed < 0 {
			hashed = len(kinds)
		}
		c.set("hash_layer_count", uint64(hashed))
	} else {
		c.orElse("hash_layer_count", "num_hash_layers", 3)
	}
	if limit, ok := c.float(c.fields, "swiglu_limit"); ok && limit > 0 {
		limits := slices.Repeat([]float32{float32(limit)}, int(c.numBlocks))
		c.md.Set(c.prefix+"swiglu_clamp_exp", limits)
		c.md.Set(c.prefix+"swiglu_clamp_shexp", limits)
	}
}

// compression translates by how much each layer compresses what it attends to.
func (c *hfConfig) compression() {
	ratios, ok := c.integers(c.fields, "compress_ratios")
	if kinds, listed := c.names(c.fields, "layer_types"); listed && !ok {
		rates := c.object("compress_rates")
		for _, kind := range kinds {
			ratio := map[string]uint64{"compressed_sparse_attention": 4, "heavily_compressed_attention": 128}[kind]
			if n, ok := c.integer(rates, kind); ok {
				ratio = n
			}
			if ratio == 0 && kind != "sliding_attention" || ratio > maxBlocks {
				c.unsupported("layer_types", "has a layer of kind %s, which compresses by %d", quote(kind), ratio)
				return
			}
			ratios = append(ratios, int32(ratio))
		}
		ok = true
	}
	if ok {
		c.md.Set(c.prefix+"attention.compress_ratios", ratios)
	}
}

// orElse translates a field that configurations may leave out.
func (c *hfConfig) orElse(key, field string, missing uint64) {
	if _, ok := c.count(key, field); !ok {
		c.set(key, missing)
	}
}

// quantization reads how the weights of 8 or 4 bits are scaled. Which modules are of full precision shows by their types.
func (c *hfConfig) quantization() (announced tiling) {
	q := c.object("quantization_config")
	if q == nil {
		return tiling{}
	}
	method, _ := q["quant_method"].(string)
	switch {
	case method == "fp8" || method == "mxfp8":
	case method == "compressed-tensors" && q["format"] == "float-quantized":
	default:
		c.unsupported("quantization_config.quant_method", "is %s; known are fp8, mxfp8 and compressed-tensors of the format float-quantized", quote(q["quant_method"]))
		return tiling{}
	}
	if kind, ok := q["fmt"]; ok && kind != "e4m3" && kind != "float8_e4m3fn" {
		c.unsupported("quantization_config.fmt", "is %s, want \"e4m3\"", quote(kind))
	}
	for _, field := range []string{"modules_to_not_convert", "ignored_layers", "ignore"} {
		c.names(q, field)
	}
	size, ok := c.integers(q, "weight_block_size")
	if !ok {
		return tiling{}
	}
	if len(size) != 2 || size[0] == 0 || size[1] == 0 {
		c.fail("quantization_config.weight_block_size", "is %s, want two positive numbers", quote(q["weight_block_size"]))
		return tiling{}
	}
	return tiling{int(size[0]), int(size[1])}
}

// readPooling translates how an embedder's hidden states become one (sentence-transformers, 1_Pooling/config.json).
func readPooling(md *Metadata, folder string) error {
	const file = "1_Pooling/config.json"
	data, err := readOptional(filepath.Join(folder, filepath.FromSlash(file)))
	if err != nil || data == nil {
		return err
	}
	var modes struct {
		Last bool `json:"pooling_mode_lasttoken"`
		Mean bool `json:"pooling_mode_mean_tokens"`
		CLS  bool `json:"pooling_mode_cls_token"`
	}
	if err := json.Unmarshal(data, &modes); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrCorrupt, file, err)
	}
	arch, _ := md.String("general.architecture")
	for _, mode := range []struct {
		chosen bool
		value  uint32
	}{{modes.Last, poolingLast}, {modes.Mean, poolingMean}, {modes.CLS, poolingCLS}} {
		if mode.chosen {
			md.Set(arch+"."+poolingKey, mode.value)
			return nil
		}
	}
	return fmt.Errorf("%w: %s: of the poolings only those of the last token, the mean and the first token are known", ErrUnsupported, file)
}
