package checkpointtest

import (
	"maps"
	"math"

	"hearth/engine/weights"
)

// Config returns the configuration that a model's makers publish with it.
func Config(src weights.Source) map[string]any {
	md := src.Metadata()
	arch, _ := md.String("general.architecture")
	get := func(key string) any {
		v, _ := md.Get(arch + "." + key)
		return v
	}
	count := func(key string) uint64 { n, _ := md.Uint(arch + "." + key); return n }
	c := map[string]any{
		"vocab_size": get("vocab_size"), "max_position_embeddings": get("context_length"), "hidden_size": get("embedding_length"),
		"num_hidden_layers": count("block_count") - count("nextn_predict_layers"), "intermediate_size": get("feed_forward_length"),
		"num_attention_heads": get("attention.head_count"), "num_key_value_heads": get("attention.head_count_kv"),
		"rms_norm_eps": get("attention.layer_norm_rms_epsilon"), "rope_theta": get("rope.freq_base"), "num_experts_per_tok": get("expert_used_count"),
		"tie_word_embeddings": !src.Has("output.weight"), "hidden_act": "silu", "model_type": arch, "head_dim": get("attention.key_length"),
	}
	scoring := map[uint64]string{1: "softmax", 2: "sigmoid", 4: "sqrtsoftplus"}[count("expert_gating_func")]
	deepSeek := map[string]any{
		"n_routed_experts": get("expert_count"), "moe_intermediate_size": get("expert_feed_forward_length"), "n_shared_experts": get("expert_shared_count"),
		"routed_scaling_factor": get("expert_weights_scale"), "norm_topk_prob": get("expert_weights_norm"), "scoring_func": scoring,
		"first_k_dense_replace": get("leading_dense_block_count"), "q_lora_rank": get("attention.q_lora_rank"), "kv_lora_rank": get("attention.kv_lora_rank"),
		"qk_rope_head_dim": get("rope.dimension_count"), "qk_nope_head_dim": count("attention.key_length_mla") - count("rope.dimension_count"),
		"v_head_dim": get("attention.value_length_mla"), "n_group": get("expert_group_count"), "topk_group": get("expert_group_used_count"),
		"head_dim": nil, "num_key_value_heads": get("attention.head_count"), "index_n_heads": get("attention.indexer.head_count"),
		"index_head_dim": get("attention.indexer.key_length"), "index_topk": get("attention.indexer.top_k"),
	}
	scaling := map[string]any{"type": get("rope.scaling.type"), "factor": get("rope.scaling.factor"), "original_max_position_embeddings": get("rope.scaling.original_context_length")}
	switch arch {
	case "qwen3moe":
		maps.Copy(c, map[string]any{"model_type": "qwen3_moe", "num_experts": get("expert_count"), "moe_intermediate_size": get("expert_feed_forward_length"), "norm_topk_prob": true})
	case "qwen2moe":
		maps.Copy(c, map[string]any{"model_type": "qwen2_moe", "num_experts": get("expert_count"), "moe_intermediate_size": get("expert_feed_forward_length"), "shared_expert_intermediate_size": get("expert_shared_feed_forward_length"), "norm_topk_prob": false, "decoder_sparse_step": 1})
	case "qwen35", "qwen35moe", "qwen3next":
		hybridConfig(c, md, arch)
		if arch == "qwen35moe" {
			return map[string]any{"model_type": "qwen3_5_moe", "architectures": []string{"Qwen3_5MoeForConditionalGeneration"}, "text_config": c, "vision_config": map[string]any{"hidden_size": 3}}
		}
	case "minimax-m2":
		maps.Copy(c, map[string]any{"model_type": "minimax_m2", "num_local_experts": get("expert_count"), "rotary_dim": get("rope.dimension_count"), "scoring_func": scoring, "use_qk_norm": true, "num_mtp_modules": 3})
	case "minimax-m3":
		dense := make([]int, count("block_count"))
		for i := range dense {
			dense[i] = min(1, i/int(count("leading_dense_block_count")))
		}
		maps.Copy(c, map[string]any{
			"model_type": "minimax_m2", "num_local_experts": get("expert_count"), "rotary_dim": get("rope.dimension_count"), "partial_rotary_factor": 0.5, "scoring_func": scoring, "moe_layer_freq": dense,
			"dense_intermediate_size": get("feed_forward_length"), "intermediate_size": get("expert_feed_forward_length"), "hidden_act": "swigluoai",
			"n_shared_experts": get("expert_shared_count"), "routed_scaling_factor": get("expert_weights_scale"), "swiglu_alpha": 1.702, "swiglu_limit": 7.0,
			"sparse_attention_config": map[string]any{
				"sparse_num_index_heads": get("attention.indexer.head_count"), "sparse_index_dim": get("attention.indexer.key_length"),
				"sparse_topk_blocks": get("attention.indexer.top_k"), "sparse_block_size": get("attention.indexer.block_size"), "sparse_local_block": get("attention.indexer.local_blocks"),
			},
		})
		return map[string]any{"model_type": "minimax_m3_vl", "architectures": []string{"MiniMaxM3SparseForConditionalGeneration"}, "text_config": c}
	case "deepseek2", "deepseek32":
		maps.Copy(c, deepSeek)
		log, _ := md.Float(arch + ".rope.scaling.yarn_log_multiplier")
		scaling["mscale"], scaling["mscale_all_dim"] = math.Round(log*1e5)/1e4, math.Round(log*1e5)/1e4
		scaling["beta_fast"], scaling["beta_slow"] = 32, 1
		maps.Copy(c, map[string]any{"model_type": map[string]string{"deepseek2": "deepseek_v3", "deepseek32": "deepseek_v32"}[arch], "rope_scaling": scaling, "topk_method": "noaux_tc", "moe_layer_freq": 1})
		if scoring == "softmax" {
			c["model_type"], c["topk_method"], c["n_group"], c["topk_group"] = "deepseek_v2", "greedy", 1, 1
		}
	case "deepseek4":
		maps.Copy(c, deepSeek)
		maps.Copy(c, map[string]any{
			"model_type": "deepseek_v4", "num_key_value_heads": 1, "head_dim": get("attention.key_length"), "intermediate_size": nil, "rope_scaling": scaling,
			"sliding_window": get("attention.sliding_window"), "swiglu_limit": 10.0, "o_groups": get("attention.output_group_count"), "o_lora_rank": get("attention.output_lora_rank"),
			"compress_ratios": get("attention.compress_ratios"), "compress_rope_theta": get("attention.compress_rope_freq_base"), "hc_mult": get("hyper_connection.count"),
			"hc_sinkhorn_iters": get("hyper_connection.sinkhorn_iterations"), "hc_eps": get("hyper_connection.epsilon"), "num_hash_layers": get("hash_layer_count"), "num_nextn_predict_layers": 1,
		})
	}
	return c
}

func hybridConfig(c map[string]any, md *weights.Metadata, arch string) {
	get := func(key string) any { v, _ := md.Get(arch + "." + key); return v }
	count := func(key string) uint64 { n, _ := md.Uint(arch + "." + key); return n }
	sections, _ := md.Ints(arch + ".rope.dimension_sections")
	if len(sections) == 0 { // text alone
		sections = []int{11, 11, 10}
	}
	maps.Copy(c, map[string]any{
		"model_type": map[string]string{"qwen35": "qwen3_5_text", "qwen35moe": "qwen3_5_moe_text", "qwen3next": "qwen3_next"}[arch], "rope_theta": nil,
		"rope_parameters": map[string]any{
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
