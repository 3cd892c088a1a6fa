package weights

import (
	"fmt"
	"slices"
	"testing"
)

// layersOf lists the tensors of a dense model of n layers, with the head's.
func layersOf(n int, width ...int) []Tensor {
	in := 256
	if len(width) > 0 {
		in = width[0]
	}
	tensors := []Tensor{{Name: "token_embd.weight", Shape: []int{512, in}}, {Name: "output_norm.weight", Shape: []int{in}}, {Name: "output.weight", Shape: []int{512, in}}}
	for i := range n {
		for _, name := range []string{"attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_down"} {
			shape := []int{in, in}
			if name == "attn_norm" {
				shape = []int{in}
			}
			tensors = append(tensors, Tensor{Name: fmt.Sprintf("blk.%d.%s.weight", i, name), Shape: shape})
		}
	}
	return append(tensors, Tensor{Name: "blk.0.ffn_gate_inp.weight", Shape: []int{8, in}}, Tensor{Name: "blk.0.ffn_up_exps.weight", Shape: []int{8, in, in}})
}

// TestRecipes compares with the table of llama.cpp's rules, on 16 layers: more bits go to the layers 0, 1, 14, 15 and
// every third from 4 on.
func TestRecipes(t *testing.T) {
	more := []int{0, 1, 4, 7, 10, 13, 14, 15}
	for _, c := range []struct {
		recipe                              string
		head, embedding, q, output          string
		value, down                         string // in the layers of more
		otherValue, otherDown, gate, router string
		more                                []int
	}{
		{"f16", "F16", "F16", "F16", "F16", "F16", "F16", "F16", "F16", "F16", "", more},
		{"q8_0", "Q8_0", "Q8_0", "Q8_0", "Q8_0", "Q8_0", "Q8_0", "Q8_0", "Q8_0", "Q8_0", "", more},
		{"q4_0", "Q6_K", "Q4_0", "Q4_0", "Q4_0", "Q4_0", "Q4_0", "Q4_0", "Q4_0", "Q4_0", "", more},
		{"q4_k_m", "Q6_K", "Q4_K", "Q4_K", "Q4_K", "Q6_K", "Q6_K", "Q4_K", "Q4_K", "Q4_K", "", more},
		{"q5_k_m", "Q6_K", "Q5_K", "Q5_K", "Q5_K", "Q6_K", "Q6_K", "Q5_K", "Q5_K", "Q5_K", "", more},
		{"q2_k", "Q6_K", "Q2_K", "Q2_K", "Q3_K", "Q3_K", "Q3_K", "Q3_K", "Q3_K", "Q2_K", "", more},
		{"q3_k_m", "Q6_K", "Q3_K", "Q3_K", "Q4_K", "Q5_K", "Q4_K", "Q4_K", "Q4_K", "Q3_K", "", []int{0, 1}},
		{"mxfp4_moe", "Q8_0", "Q8_0", "Q8_0", "Q8_0", "Q8_0", "Q8_0", "Q8_0", "Q8_0", "Q8_0", "", more},
	} {
		recipe, ok := RecipeByName(c.recipe)
		if !ok {
			t.Fatalf("no recipe %s", c.recipe)
		}
		tensors := layersOf(16)
		formats := recipe.Assign(RecipeModel{NumLayers: 16, QueriesPerKV: 2}, tensors)
		check := func(name, want string) {
			t.Helper()
			i := slices.IndexFunc(tensors, func(t Tensor) bool { return t.Name == name })
			got := ""
			if formats[i] != nil {
				got = formats[i].Name
			}
			if got != want {
				t.Errorf("%s: %s is %q, want %q", c.recipe, name, got, want)
			}
		}
		check("output.weight", c.head)
		check("token_embd.weight", c.embedding)
		check("output_norm.weight", "")
		check("blk.0.ffn_gate_inp.weight", c.router)
		for i := range 16 {
			value, down := c.otherValue, c.otherDown
			if slices.Contains(c.more, i) {
				value, down = c.value, c.down
			}
			check(fmt.Sprintf("blk.%d.attn_v.weight", i), value)
			if c.recipe != "q3_k_m" {
				check(fmt.Sprintf("blk.%d.ffn_down.weight", i), down)
			}
			check(fmt.Sprintf("blk.%d.attn_q.weight", i), c.q)
			check(fmt.Sprintf("blk.%d.attn_output.weight", i), c.output)
			check(fmt.Sprintf("blk.%d.ffn_gate.weight", i), c.gate)
		}
	}
}

func TestRecipeFallback(t *testing.T) {
	recipe, _ := RecipeByName("Q4_K_M")
	formats := recipe.Assign(RecipeModel{NumLayers: 1, Tied: true}, layersOf(1, 896))
	if formats[0].Name != "Q8_0" || formats[4].Name != "Q5_0" {
		t.Errorf("rows of 896: embedding %s, want Q8_0; attn_q %s, want Q5_0", formats[0], formats[4])
	}
	formats = recipe.Assign(RecipeModel{NumLayers: 1}, layersOf(1, 40))
	if formats[4].Name != "F16" {
		t.Errorf("rows of 40: %s, want F16", formats[4])
	}
	for _, name := range RecipeNames() {
		r, ok := RecipeByName(name)
		if !ok || r.head == nil || !r.Format.CanQuantize() || !r.head.CanQuantize() {
			t.Errorf("recipe %s cannot be made", name)
		}
	}
	if _, ok := RecipeByName("q4"); ok {
		t.Error("there is a recipe q4")
	}
}
