package checkpointtest

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"hearth/engine/weights"
)

// Tensor is a tensor of a checkpoint before it is encoded.
type Tensor struct {
	Name   string
	Shape  []int // row-major
	Values []float32
}

// row returns a row of a matrix.
func (n *Tensor) row(i int) []float32 {
	cols := n.Shape[len(n.Shape)-1]
	return n.Values[i*cols : (i+1)*cols]
}

// like returns another tensor of a matrix's rows, in an order.
func (n *Tensor) like(name string, rows []int) Tensor {
	m := Tensor{Name: name, Shape: append([]int{len(rows)}, n.Shape[1:]...)}
	for _, r := range rows {
		m.Values = append(m.Values, n.row(r)...)
	}
	return m
}

// elementsOf dequantizes a tensor, or reads its integers.
func elementsOf(t testing.TB, src weights.Source, name string) Tensor {
	t.Helper()
	tensor, err := src.Tensor(name)
	if err != nil {
		t.Fatal(err)
	}
	data := slices.Concat(tensor.Parts()...)
	n := Tensor{name, tensor.Shape, make([]float32, tensor.Elements())}
	if tensor.Format != nil {
		tensor.Format.Dequantize(n.Values, data)
		return n
	}
	for i := range n.Values {
		n.Values[i] = float32(int32(binary.LittleEndian.Uint32(data[4*i:])))
	}
	return n
}

// inverse undoes what a converter to GGUF does, tensor by tensor.
type inverse struct {
	t     testing.TB
	src   weights.Source
	arch  string
	trunk int
	out   []Tensor
}

func (v *inverse) key(name string) int {
	n, ok := v.src.Metadata().Uint(v.arch + "." + name)
	if !ok {
		v.t.Fatalf("no key %s", name)
	}
	return int(n)
}

// Tensors returns the tensors of a model as its makers publish them. It undoes, by code of its own, what converters to GGUF
// do.
func Tensors(t testing.TB, src weights.Source) []Tensor {
	arch, _ := src.Metadata().String("general.architecture")
	v := &inverse{t: t, src: src, arch: arch}
	predicting, _ := src.Metadata().Uint(arch + ".nextn_predict_layers")
	v.trunk = v.key("block_count") - int(predicting)
	for _, name := range src.Names() {
		v.tensor(name)
	}
	return v.out
}

func (v *inverse) emit(n Tensor, name string) {
	n.Name = name
	v.out = append(v.out, n)
}

func (v *inverse) tensor(name string) {
	n := elementsOf(v.t, v.src, name)
	zeroCentred := strings.HasPrefix(v.arch, "qwen35") || v.arch == "qwen3next" || v.arch == "minimax-m3"
	if zeroCentred && strings.HasSuffix(name, "norm.weight") && !strings.HasSuffix(name, "ssm_norm.weight") {
		for i := range n.Values {
			n.Values[i]--
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
func (v *inverse) experts(n Tensor, prefix, stem string) {
	count, rows, cols := n.Shape[0], n.Shape[1], n.Shape[2]
	if v.arch == "qwen35moe" {
		switch stem {
		case "ffn_down_exps.weight":
			v.emit(n, prefix+"mlp.experts.down_proj")
		case "ffn_gate_exps.weight":
			up := elementsOf(v.t, v.src, strings.Replace(n.Name, "ffn_gate", "ffn_up", 1))
			joined := Tensor{Shape: []int{count, 2 * rows, cols}}
			for e := range count {
				joined.Values = append(append(joined.Values, n.Values[e*rows*cols:][:rows*cols]...), up.Values[e*rows*cols:][:rows*cols]...)
			}
			v.emit(joined, prefix+"mlp.experts.gate_up_proj")
		}
		return
	}
	pattern := map[string]string{
		"qwen2moe": "mlp.experts.%d.%s_proj.weight", "qwen3moe": "mlp.experts.%d.%s_proj.weight", "qwen3next": "mlp.experts.%d.%s_proj.weight",
		"deepseek2": "mlp.experts.%d.%s_proj.weight", "deepseek32": "mlp.experts.%d.%s_proj.weight",
		"minimax-m2": "block_sparse_moe.experts.%d.%s.weight", "minimax-m3": "block_sparse_moe.experts.%d.%s.weight",
		"deepseek4": "ffn.experts.%d.%s.weight",
	}[v.arch]
	part := strings.TrimSuffix(strings.TrimPrefix(stem, "ffn_"), "_exps.weight")
	if !strings.Contains(pattern, "_proj") {
		part = map[string]string{"gate": "w1", "up": "w3", "down": "w2"}[part]
	}
	for e := range count {
		v.emit(Tensor{Shape: []int{rows, cols}, Values: n.Values[e*rows*cols:][:rows*cols]}, prefix+fmt.Sprintf(pattern, e, part))
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
	"ssm_ba.weight": "linear_attn.in_proj_ba.weight", "ssm_norm.weight": "linear_attn.norm.weight", "ssm_out.weight": "linear_attn.out_proj.weight",
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
func (v *inverse) layer(n Tensor, prefix, stem string) {
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
	case "attn_qkv.weight", "attn_gate.weight":
		if v.arch == "qwen3next" {
			v.groups(n, prefix, stem)
			return
		}
		n = v.delta(n, stem)
	case "ffn_gate_inp_shexp.weight":
		n.Shape = []int{1, n.Shape[0]}
	case "ssm_beta.weight", "ssm_alpha.weight", "ssm_conv1d.weight", "ssm_a", "ssm_dt.bias", "ssm_out.weight":
		n = v.delta(n, stem)
	}
	if name == "" {
		v.t.Fatalf("no published name for %s", stem)
	}
	v.emit(n, prefix+name)
}

// keysValues joins what latent attention multiplies keys and values with.
func (v *inverse) keysValues(keys Tensor, prefix string) {
	values := elementsOf(v.t, v.src, strings.Replace(keys.Name, "attn_k_b", "attn_v_b", 1))
	heads, rank, nope, value := keys.Shape[0], keys.Shape[1], keys.Shape[2], values.Shape[1]
	n := Tensor{Shape: []int{heads * (nope + value), rank}}
	for h := range heads {
		for i := range nope {
			for r := range rank {
				n.Values = append(n.Values, keys.Values[(h*rank+r)*nope+i])
			}
		}
		n.Values = append(n.Values, values.Values[h*value*rank:][:value*rank]...)
	}
	v.emit(n, prefix+"self_attn.kv_b_proj.weight")
}

// groups joins, for each key head, what gives its queries, keys, values and the gates of these.
func (v *inverse) groups(qkv Tensor, prefix, stem string) {
	if stem == "attn_gate.weight" { // goes with the others
		return
	}
	gate := elementsOf(v.t, v.src, strings.Replace(qkv.Name, "attn_qkv", "attn_gate", 1))
	keyHeads, keyDim := v.key("ssm.group_count"), v.key("ssm.state_size")
	keys, values := keyHeads*keyDim, v.key("ssm.inner_size")/keyHeads
	joined := Tensor{Shape: []int{qkv.Shape[0] + gate.Shape[0], qkv.Shape[1]}}
	add := func(from *Tensor, first, n int) {
		for r := range n {
			joined.Values = append(joined.Values, from.row(first+r)...)
		}
	}
	for h := range keyHeads {
		add(&qkv, h*keyDim, keyDim)
		add(&qkv, keys+h*keyDim, keyDim)
		add(&qkv, 2*keys+h*values, values)
		add(&gate, h*values, values)
	}
	v.emit(joined, prefix+"linear_attn.in_proj_qkvz.weight")
}

// delta puts the value heads next to their key head, and takes the exponential back.
func (v *inverse) delta(n Tensor, stem string) Tensor {
	keyHeads, valueHeads := v.key("ssm.group_count"), v.key("ssm.time_step_rank")
	perKey, dim, keys := valueHeads/keyHeads, v.key("ssm.inner_size")/valueHeads, v.key("ssm.group_count")*v.key("ssm.state_size")
	var heads, elements []int // in the checkpoint's order, where the model has them
	for k := range keyHeads {
		for j := range perKey {
			h := j*keyHeads + k
			if v.arch == "qwen3next" { // where they are next to it already
				h = k*perKey + j
			}
			heads = append(heads, h)
			for i := range dim {
				elements = append(elements, h*dim+i)
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
		c.Shape = []int{len(channels), 1, n.Shape[1]}
		return c
	case "attn_gate.weight":
		return n.like("", elements)
	case "ssm_beta.weight", "ssm_alpha.weight":
		return n.like("", heads)
	case "ssm_out.weight":
		c := Tensor{Shape: n.Shape}
		for r := range n.Shape[0] {
			for _, e := range elements {
				c.Values = append(c.Values, n.row(r)[e])
			}
		}
		return c
	}
	c := Tensor{Shape: n.Shape}
	for _, h := range heads {
		x := n.Values[h]
		if stem == "ssm_a" {
			x = float32(math.Log(-float64(x)))
		}
		c.Values = append(c.Values, x)
	}
	return c
}

// plainTensor encodes a tensor in float32; the table of experts has whole Tensor of 8 bytes.
func (n *Tensor) Plain() weights.OutTensor {
	if strings.HasSuffix(n.Name, "tid2eid") {
		out := weights.OutTensor{Name: n.Name, DType: "I64", Shape: n.Shape}
		for _, x := range n.Values {
			out.Data = binary.LittleEndian.AppendUint64(out.Data, uint64(x))
		}
		return out
	}
	out := weights.OutTensor{Name: n.Name, DType: "F32", Shape: n.Shape}
	for _, x := range n.Values {
		out.Data = binary.LittleEndian.AppendUint32(out.Data, math.Float32bits(x))
	}
	return out
}
