package weights

import (
	"slices"
	"strconv"
	"strings"
)

// Tensors have the names of ggml-org/llama.cpp, gguf-py/gguf/tensor_mapping.py and conversion/deepseek.py. Where these
// have none, for the parts of DeepSeek-V4's prediction blocks, they are blk.N.nextn.hc_head_fn.weight and so on.

// renamed are the architectures whose tensors have these names; others keep their own.
var renamed = []string{
	"llama", "qwen2", "qwen2moe", "qwen3", "qwen3moe", "qwen3next", "qwen35", "qwen35moe", "minimax-m2", "minimax-m3",
	"deepseek2", "deepseek32", "deepseek4",
}

// outerNames are the tensors outside the layers: Hugging Face on the left, GGUF on the right.
var outerNames = map[string]string{
	"model.embed_tokens.weight": "token_embd.weight",
	"model.norm.weight":         "output_norm.weight",
	"lm_head.weight":            "output.weight",
	"lm_head.bias":              "output.bias",
	"score.weight":              "cls.output.weight", // of rerankers

	"embed.weight":  "token_embd.weight", // DeepSeek-V4
	"norm.weight":   "output_norm.weight",
	"head.weight":   "output.weight",
	"hc_head_fn":    "output_hc_fn.weight",
	"hc_head_base":  "output_hc_base.weight",
	"hc_head_scale": "output_hc_scale.weight",
}

// layerNames are the tensors within model.layers.N and blk.N, without .weight or .bias.
var layerNames = map[string]string{
	"input_layernorm":          "attn_norm",
	"self_attn.q_proj":         "attn_q",
	"self_attn.k_proj":         "attn_k",
	"self_attn.v_proj":         "attn_v",
	"self_attn.o_proj":         "attn_output",
	"self_attn.q_norm":         "attn_q_norm",
	"self_attn.k_norm":         "attn_k_norm",
	"post_attention_layernorm": "ffn_norm",
	"mlp.gate_proj":            "ffn_gate",
	"mlp.up_proj":              "ffn_up",
	"mlp.down_proj":            "ffn_down",
	"mlp.gate":                 "ffn_gate_inp",

	"mlp.shared_expert_gate":      "ffn_gate_inp_shexp", // Qwen
	"mlp.shared_expert.gate_proj": "ffn_gate_shexp",
	"mlp.shared_expert.up_proj":   "ffn_up_shexp",
	"mlp.shared_expert.down_proj": "ffn_down_shexp",
	"linear_attn.in_proj_qkv":     "attn_qkv",
	"linear_attn.in_proj_z":       "attn_gate",
	"linear_attn.in_proj_b":       "ssm_beta",
	"linear_attn.in_proj_a":       "ssm_alpha",
	"linear_attn.in_proj_qkvz":    groupedQKVZ,
	"linear_attn.in_proj_ba":      "ssm_ba",
	"linear_attn.conv1d":          "ssm_conv1d",
	"linear_attn.norm":            "ssm_norm",
	"linear_attn.out_proj":        "ssm_out",
	"fc":                          "nextn.eh_proj",
	"pre_fc_norm_embedding":       "nextn.enorm",
	"pre_fc_norm_hidden":          "nextn.hnorm",

	"block_sparse_moe.gate":                     "ffn_gate_inp", // MiniMax
	"block_sparse_moe.shared_experts.gate_proj": "ffn_gate_shexp",
	"block_sparse_moe.shared_experts.up_proj":   "ffn_up_shexp",
	"block_sparse_moe.shared_experts.down_proj": "ffn_down_shexp",
	"self_attn.index_q_proj":                    "indexer.q_proj",
	"self_attn.index_k_proj":                    "indexer.k_proj",
	"self_attn.index_q_norm":                    "indexer.q_norm",
	"self_attn.index_k_norm":                    "indexer.k_norm",

	"self_attn.q_a_proj":             "attn_q_a", // DeepSeek-V2 to V3.2
	"self_attn.q_a_layernorm":        "attn_q_a_norm",
	"self_attn.q_b_proj":             "attn_q_b",
	"self_attn.kv_a_proj_with_mqa":   "attn_kv_a_mqa",
	"self_attn.kv_a_layernorm":       "attn_kv_a_norm",
	"self_attn.kv_b_proj":            joinedKV,
	"self_attn.indexer.wq_b":         "indexer.attn_q_b",
	"self_attn.indexer.wk":           "indexer.attn_k",
	"self_attn.indexer.k_norm":       "indexer.k_norm",
	"self_attn.indexer.weights_proj": "indexer.proj",
	"mlp.shared_experts.gate_proj":   "ffn_gate_shexp",
	"mlp.shared_experts.up_proj":     "ffn_up_shexp",
	"mlp.shared_experts.down_proj":   "ffn_down_shexp",
	"eh_proj":                        "nextn.eh_proj",
	"enorm":                          "nextn.enorm",
	"hnorm":                          "nextn.hnorm",
	"embed_tokens":                   "nextn.embed_tokens",
	"shared_head.norm":               "nextn.shared_head_norm",
	"shared_head.head":               "nextn.shared_head_head",
	"norm":                           "nextn.shared_head_norm", // of Qwen and DeepSeek-V4

	"attn_norm":                     "attn_norm", // DeepSeek-V4
	"attn.wq_a":                     "attn_q_a",
	"attn.q_norm":                   "attn_q_a_norm",
	"attn.wq_b":                     "attn_q_b",
	"attn.wkv":                      "attn_kv",
	"attn.kv_norm":                  "attn_kv_a_norm",
	"attn.wo_a":                     "attn_output_a",
	"attn.wo_b":                     "attn_output_b",
	"attn.compressor.wkv":           "attn_compressor_kv",
	"attn.compressor.wgate":         "attn_compressor_gate",
	"attn.compressor.norm":          "attn_compressor_norm",
	"attn.indexer.wq_b":             "indexer.attn_q_b",
	"attn.indexer.weights_proj":     "indexer.proj",
	"attn.indexer.compressor.wkv":   "indexer_compressor_kv",
	"attn.indexer.compressor.wgate": "indexer_compressor_gate",
	"attn.indexer.compressor.norm":  "indexer_compressor_norm",
	"ffn_norm":                      "ffn_norm",
	"ffn.gate":                      "ffn_gate_inp",
	"ffn.shared_experts.w1":         "ffn_gate_shexp",
	"ffn.shared_experts.w3":         "ffn_up_shexp",
	"ffn.shared_experts.w2":         "ffn_down_shexp",
	"e_proj":                        predictEmbedding,
	"h_proj":                        predictHidden,
}

// wholeLayerNames are the tensors of layers whose names end otherwise.
var wholeLayerNames = map[string]string{
	"linear_attn.A_log":   "ssm_a",
	"linear_attn.dt_bias": "ssm_dt.bias",

	"mlp.gate.e_score_correction_bias":         "exp_probs_b.bias",
	"block_sparse_moe.e_score_correction_bias": "exp_probs_b.bias",
	"ffn.gate.bias":    "exp_probs_b.bias",
	"ffn.gate.tid2eid": "ffn_gate_tid2eid.weight",

	"attn.attn_sink":              "attn_sinks.weight",
	"attn.compressor.ape":         "attn_compressor_ape.weight",
	"attn.indexer.compressor.ape": "indexer_compressor_ape.weight",
	"hc_attn_fn":                  "hc_attn_fn.weight",
	"hc_attn_base":                "hc_attn_base.weight",
	"hc_attn_scale":               "hc_attn_scale.weight",
	"hc_ffn_fn":                   "hc_ffn_fn.weight",
	"hc_ffn_base":                 "hc_ffn_base.weight",
	"hc_ffn_scale":                "hc_ffn_scale.weight",
	"hc_head_fn":                  "nextn.hc_head_fn.weight",
	"hc_head_base":                "nextn.hc_head_base.weight",
	"hc_head_scale":               "nextn.hc_head_scale.weight",
}

// Names that stand for several tensors, or for a part of one.
const (
	joinedKV         = "attn_kv_b" // the name in old GGUF files: becomes attn_k_b and attn_v_b
	groupedQKVZ      = "ssm_in"    // the same: becomes attn_qkv and attn_gate
	joinedGateUp     = "ffn_gate_up_exps"
	predictEmbedding = "nextn.e_proj" // the two halves of nextn.eh_proj
	predictHidden    = "nextn.h_proj"
)

// expertNames are the matrices of one expert, stacked in GGUF.
var expertNames = map[string]string{
	"gate_proj": "ffn_gate_exps", "up_proj": "ffn_up_exps", "down_proj": "ffn_down_exps",
	"w1": "ffn_gate_exps", "w3": "ffn_up_exps", "w2": "ffn_down_exps",
}

// stackNames are the matrices of all experts, where a checkpoint stacks them itself.
var stackNames = map[string]string{"gate_up_proj": joinedGateUp, "down_proj": "ffn_down_exps"}

// foreignPrefixes begin the names of what is no part of the language model: eyes and ears.
var foreignPrefixes = []string{
	"visual.", "vision_tower.", "vision_model.", "audio_tower.", "multi_modal_projector.", "patch_merge_mlp.",
}

// naming translates the names of one checkpoint.
type naming struct {
	arch      string
	numLayers int // without prediction blocks
	numBlocks int // with those that are presented; 0 when it is not known
}

// target is where a tensor goes.
type target struct {
	prefix, name string // "blk.3.", or nothing, and the rest of the GGUF name
	stack        bool   // it is one matrix of that stack:
	expert       int
}

// translate returns where a tensor goes; false for those that are left out. A tensor without a GGUF name keeps its own.
func (n *naming) translate(name string) (target, bool) {
	plain, ok := n.plain(name)
	if !ok {
		return target{}, false
	}
	if outer, ok := outerNames[plain]; ok {
		return target{name: outer}, true
	}
	block, rest, ok := n.block(plain)
	if !ok {
		return target{name: name}, true
	}
	if n.numBlocks > 0 && block >= n.numBlocks {
		return target{}, false
	}
	prefix := "blk." + strconv.Itoa(block) + "."
	if inner, ok := n.expert(rest); ok {
		inner.prefix = prefix
		return inner, true
	}
	if inner, ok := n.layer(rest); ok {
		return target{prefix: prefix, name: inner}, true
	}
	return target{name: name}, true
}

// plain takes off what multimodal and other checkpoints put before the names; false for what is not the language
// model's.
func (n *naming) plain(name string) (string, bool) {
	name = strings.Replace(name, "model.language_model.", "model.", 1)
	name = strings.TrimPrefix(name, "language_model.")
	bare := strings.TrimPrefix(name, "model.")
	for _, prefix := range foreignPrefixes {
		if strings.HasPrefix(bare, prefix) {
			return "", false
		}
	}
	if strings.HasSuffix(name, ".rotary_emb.inv_freq") { // the configuration says it
		return "", false
	}
	switch {
	case n.arch == "deepseek4", strings.HasPrefix(bare, "mtp."):
		return bare, true
	case strings.HasPrefix(bare, "layers."), bare == "embed_tokens.weight", bare == "norm.weight":
		return "model." + bare, true // of embedders too, which are saved without their head
	}
	return name, true
}

// block splits the name of a tensor within a layer. The prediction blocks follow the layers.
func (n *naming) block(name string) (block int, rest string, ok bool) {
	first := 0
	rest, predicts := strings.CutPrefix(name, "mtp.")
	if predicts {
		first = n.numLayers
		inner, numbered := strings.CutPrefix(rest, "layers.")
		if !numbered && n.arch != "deepseek4" { // shared by all of them, of which models have one
			return first, rest, true
		}
		rest = inner
	} else if rest, ok = strings.CutPrefix(strings.TrimPrefix(name, "model."), "layers."); !ok {
		return 0, "", false
	}
	number, rest, ok := strings.Cut(rest, ".")
	i, err := strconv.ParseUint(number, 10, 31)
	if err != nil || !ok {
		return 0, "", false
	}
	return first + int(i), rest, true
}

// layer returns the GGUF name within a block.
func (n *naming) layer(rest string) (string, bool) {
	if whole, ok := wholeLayerNames[rest]; ok {
		return whole, true
	}
	for _, kind := range []string{".weight", ".bias"} {
		stem, ok := strings.CutSuffix(rest, kind)
		if inner := layerNames[stem]; ok && inner != "" {
			if inner == "ffn_norm" && n.isHybrid() {
				inner = "post_attention_norm"
			}
			return inner + kind, true
		}
	}
	return "", false
}

// isHybrid reports whether most layers are gated DeltaNet.
func (n *naming) isHybrid() bool {
	return slices.Contains([]string{"qwen3next", "qwen35", "qwen35moe"}, n.arch)
}

// hasZeroCentredNorms reports whether norms are stored less one, as Hugging Face's modeling_qwen3_5.py and
// modeling_minimax_m3_vl.py have them.
func (n *naming) hasZeroCentredNorms() bool { return n.isHybrid() || n.arch == "minimax-m3" }

// expert splits "mlp.experts.E.gate_proj.weight" into the name of the stack and the expert; a stack of the checkpoint is
// a tensor of its own.
func (n *naming) expert(rest string) (target, bool) {
	_, rest, ok := strings.Cut(rest, ".experts.")
	if !ok {
		return target{}, false
	}
	stem := strings.TrimSuffix(rest, ".weight")
	if stack := stackNames[stem]; stack != "" {
		return target{name: stack + ".weight"}, true
	}
	number, stem, ok := strings.Cut(stem, ".")
	index, err := strconv.ParseUint(number, 10, 31)
	if !ok || err != nil || !strings.HasSuffix(rest, ".weight") || expertNames[stem] == "" {
		return target{}, false
	}
	return target{name: expertNames[stem] + ".weight", stack: true, expert: int(index)}, true
}
