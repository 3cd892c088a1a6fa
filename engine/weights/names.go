package weights

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// outerNames are the tensors outside the layers: Hugging Face on the left, GGUF on the right.
var outerNames = map[string]string{
	"model.embed_tokens.weight": "token_embd.weight",
	"model.norm.weight":         "output_norm.weight",
	"lm_head.weight":            "output.weight",
	"lm_head.bias":              "output.bias",
}

// layerNames are the tensors within model.layers.N and blk.N, without .weight or .bias. The families of Llama, Qwen2 and
// Qwen3 share them.
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
}

// expertNames are the matrices of one expert, stacked in GGUF.
var expertNames = map[string]string{
	"gate_proj": "ffn_gate_exps",
	"up_proj":   "ffn_up_exps",
	"down_proj": "ffn_down_exps",
}

// renamed are the model types whose tensors have these names; others keep their own.
var renamed = []string{"llama", "qwen2", "qwen3", "qwen3moe"}

// expert is one matrix of a stack.
type expert struct {
	index  int
	tensor *rawTensor
}

// addRenamed enters the tensors under their GGUF names, those of experts as stacks.
func (s *source) addRenamed(tensors []rawTensor) error {
	arch, _ := s.md.String("general.architecture")
	stacks := map[string][]expert{}
	var order []string // of the stacks
	for i := range tensors {
		t := &tensors[i]
		name := t.name
		if slices.Contains(renamed, arch) {
			if stack, index, ok := expertName(t.name); ok {
				if stacks[stack] == nil {
					order = append(order, stack)
				}
				stacks[stack] = append(stacks[stack], expert{index, t})
				continue
			}
			if prefix, ok := strings.CutSuffix(ggufPrefix(t.name), "mlp.experts.gate_up_proj"); ok {
				if err := s.addFused(prefix, t); err != nil {
					return err
				}
				continue
			}
			name = ggufName(t.name)
		}
		if err := s.add(t.tensor(name), t.data); err != nil {
			return err
		}
	}
	for _, name := range order {
		if err := s.addStack(name, stacks[name]); err != nil {
			return err
		}
	}
	return nil
}

// addStack enters the matrices of all experts as one tensor [experts, out, in].
func (s *source) addStack(name string, experts []expert) error {
	slices.SortStableFunc(experts, func(a, b expert) int { return a.index - b.index })
	first := experts[0].tensor
	parts := make([][]byte, len(experts))
	for i, e := range experts {
		switch {
		case e.index != i:
			return fmt.Errorf("%w: tensor %q: the matrix of expert %d is missing or there twice", ErrCorrupt, name, i)
		case e.tensor.dtype != first.dtype || !slices.Equal(e.tensor.shape, first.shape):
			return fmt.Errorf("%w: tensor %q is %s %v, but %q is %s %v", ErrCorrupt, e.tensor.name, e.tensor.dtype, e.tensor.shape, first.name, first.dtype, first.shape)
		}
		parts[i] = e.tensor.data
	}
	t := first.tensor(name)
	t.Shape = append([]int{len(experts)}, first.shape...)
	t.size = int64(len(experts)) * int64(len(first.data))
	return s.add(t, parts...)
}

// addFused enters a stack [experts, 2*ffn, hidden], whose rows are first those of gate, then those of up, as two.
func (s *source) addFused(prefix string, raw *rawTensor) error {
	if len(raw.shape) != 3 || raw.shape[1]%2 != 0 || len(raw.data) == 0 {
		return fmt.Errorf("%w: tensor %q has the shape %v, want [experts, 2*ffn, hidden]", ErrCorrupt, raw.name, raw.shape)
	}
	half := len(raw.data) / raw.shape[0] / 2
	for i, name := range []string{"ffn_gate_exps.weight", "ffn_up_exps.weight"} {
		parts := make([][]byte, raw.shape[0])
		for e := range parts {
			parts[e] = raw.data[(2*e+i)*half:][:half]
		}
		t := raw.tensor(prefix + name)
		t.Shape = []int{raw.shape[0], raw.shape[1] / 2, raw.shape[2]}
		t.size = int64(len(raw.data) / 2)
		if err := s.add(t, parts...); err != nil {
			return err
		}
	}
	return nil
}

// ggufName translates a tensor's name; one without a GGUF name keeps its own.
func ggufName(name string) string {
	plain := strings.Replace(name, "model.language_model.", "model.", 1) // of checkpoints that also see
	if outer, ok := outerNames[plain]; ok {
		return outer
	}
	inner := ggufPrefix(name)
	if inner == "" {
		return name
	}
	block := inner[:strings.Index(inner[len("blk."):], ".")+len("blk.")+1]
	rest := inner[len(block):]
	if rest == "mlp.experts.down_proj" { // a stack already
		return block + "ffn_down_exps.weight"
	}
	for _, kind := range []string{".weight", ".bias"} {
		if stem, ok := strings.CutSuffix(rest, kind); ok && layerNames[stem] != "" {
			return block + layerNames[stem] + kind
		}
	}
	return name
}

// ggufPrefix turns "model.layers.N.REST" into "blk.N.REST", and anything else into "".
func ggufPrefix(name string) string {
	rest, ok := strings.CutPrefix(strings.Replace(name, "model.language_model.", "model.", 1), "model.layers.")
	if !ok {
		return ""
	}
	layer, _, ok := strings.Cut(rest, ".")
	if _, err := strconv.ParseUint(layer, 10, 31); err != nil || !ok {
		return ""
	}
	return "blk." + rest
}

// expertName splits "model.layers.N.mlp.experts.E.gate_proj.weight" into the name of the stack and the expert.
func expertName(name string) (stack string, index int, ok bool) {
	block, rest, ok := strings.Cut(ggufPrefix(name), "mlp.experts.")
	if !ok {
		return "", 0, false
	}
	number, rest, ok := strings.Cut(rest, ".")
	index, err := strconv.Atoi(number)
	stem, isWeight := strings.CutSuffix(rest, ".weight")
	if !ok || err != nil || index < 0 || !isWeight || expertNames[stem] == "" {
		return "", 0, false
	}
	return block + expertNames[stem] + ".weight", index, true
}
