package weights_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hearth/engine/weights"
	"hearth/engine/weights/checkpointtest"
)

type object = map[string]any

// isProjection tells which tensors of a checkpoint are published in few bits: not embeddings, heads, routers and what is
// small.
func isProjection(n *checkpointtest.Tensor) bool {
	for _, not := range []string{"embed", "head", "gate.weight", "conv1d", "hc_", "ape", "weights_proj", "tid2eid", "gate.tid"} {
		if strings.Contains(n.Name, not) {
			return false
		}
	}
	dims := len(n.Shape)
	return dims >= 2 && n.Shape[dims-1] >= 32 && n.Shape[dims-2] >= 32
}

// published are the ways in which families scale their weights, and the formats that these become here.
var published = []struct {
	model   string
	scaling checkpointtest.Scaling
	config  object
	formats []string
}{
	{"deepseek2", checkpointtest.Scaling{Rows: 128, Cols: 128, Type: "F32", Suffix: ".weight_scale_inv"}, object{"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": []int{128, 128}}, []string{"F8_E4M3", "F32"}},
	{"deepseek32", checkpointtest.Scaling{Rows: 128, Cols: 128, Type: "F32", Suffix: ".weight_scale_inv"}, object{"quant_method": "fp8", "scale_fmt": "ue8m0", "weight_block_size": []int{128, 128}}, []string{"F8_E4M3", "F32"}},
	{"minimax-m2", checkpointtest.Scaling{Rows: 128, Cols: 128, Type: "F32", Suffix: ".weight_scale_inv"}, object{"quant_method": "fp8", "fmt": "float8_e4m3fn", "modules_to_not_convert": []string{"lm_head", "gate"}}, []string{"F8_E4M3", "F32"}},
	{"minimax-m3", checkpointtest.Scaling{Rows: 1, Cols: 32, Type: "U8", Suffix: ".weight_scale_inv"}, object{"quant_method": "mxfp8", "weight_block_size": []int{1, 32}, "ignored_layers": []string{"lm_head"}}, []string{"MXFP8", "F32"}},
	{"deepseek4", checkpointtest.Scaling{Rows: 128, Cols: 128, Type: "F8_E8M0", Suffix: ".scale"}, object{"quant_method": "fp8", "fmt": "e4m3", "scale_fmt": "ue8m0", "weight_block_size": []int{128, 128}}, []string{"F8_E4M3", "MXFP8", "MXFP4", "F32", "I32"}},
	{"qwen35moe", checkpointtest.Scaling{Rows: 128, Cols: 128, Type: "BF16", Suffix: ".weight_scale_inv"}, object{"quant_method": "fp8", "weight_block_size": []int{128, 128}}, []string{"F8_E4M3", "F32"}},
	{"qwen3", checkpointtest.Scaling{Rows: 1, Cols: 1 << 20, Type: "F32", Suffix: ".weight_scale"}, object{"quant_method": "compressed-tensors", "format": "float-quantized"}, []string{"F8_E4M3", "F32"}},
	{"qwen2", checkpointtest.Scaling{Rows: 1 << 20, Cols: 1 << 20, Type: "F32", Suffix: ".weight_scale"}, object{"quant_method": "fp8"}, []string{"F8_E4M3", "F32"}},
}

// quantized returns a model's checkpoint as it is published, and the same numbers in float32.
func quantized(t *testing.T, model string, scaling checkpointtest.Scaling) (few, plain []weights.OutTensor) {
	src := openTiny(t, model)
	for _, n := range checkpointtest.Tensors(t, src) {
		if !isProjection(&n) {
			few, plain = append(few, n.Plain()), append(plain, n.Plain())
			continue
		}
		weight, scale, rounded := n.FP8(scaling)
		if model == "deepseek4" && strings.Contains(n.Name, ".experts.") {
			weight, scale, rounded = n.FP4()
		}
		few, plain = append(few, weight, scale), append(plain, rounded.Plain())
	}
	return few, plain
}

// TestScaledCheckpoints wants of weights in 8 and 4 bits exactly the numbers that they stand for, in formats that take no
// more memory than the files.
func TestScaledCheckpoints(t *testing.T) {
	for _, p := range published {
		t.Run(p.model, func(t *testing.T) {
			few, plain := quantized(t, p.model, p.scaling)
			config := checkpointtest.Config(openTiny(t, p.model))
			want := openCheckpoint(t, config, plain)
			config["quantization_config"] = p.config
			got := openCheckpoint(t, config, few)
			sameNumbers(t, got, want)
			var formats []string
			for _, name := range got.Names() {
				tensor, _ := got.Describe(name)
				formats = append(formats, tensor.TypeName())
			}
			slices.Sort(formats)
			wantFormats := slices.Sorted(slices.Values(p.formats))
			if formats = slices.Compact(formats); !slices.Equal(formats, wantFormats) {
				t.Errorf("formats %q, want %q", formats, wantFormats)
			}
		})
	}
}

// sameNumbers compares what tensors of two sources stand for.
func sameNumbers(t *testing.T, got, want weights.Source) {
	t.Helper()
	gotNames, wantNames := slices.Sorted(slices.Values(got.Names())), slices.Sorted(slices.Values(want.Names()))
	if !slices.Equal(gotNames, wantNames) {
		t.Fatalf("names\n%q, want\n%q", gotNames, wantNames)
	}
	for _, name := range wantNames {
		g, w := dequantized(t, got, name), dequantized(t, want, name)
		if !slices.Equal(g, w) {
			i := 0
			for i < min(len(g), len(w)) && g[i] == w[i] {
				i++
			}
			tensor, _ := got.Describe(name)
			t.Errorf("%s in %s: %d numbers, want %d; the first that differs is %d", name, tensor.TypeName(), len(g), len(w), i)
		}
		tensor, err := got.Tensor(name)
		if err != nil {
			t.Fatal(err)
		}
		sameRows(t, got, name, slices.Concat(tensor.Parts()...))
	}
}

func dequantized(t *testing.T, src weights.Source, name string) []float32 {
	t.Helper()
	tensor, err := src.Tensor(name)
	if err != nil {
		t.Fatal(err)
	}
	data, values := slices.Concat(tensor.Parts()...), make([]float32, tensor.Elements())
	if tensor.Format == nil {
		for i := range values {
			values[i] = float32(int32(binary.LittleEndian.Uint32(data[4*i:])))
		}
		return values
	}
	tensor.Format.Dequantize(values, data)
	return values
}

// TestConvertScaled converts weights in 8 and 4 bits: the result is that of the numbers that they stand for.
func TestConvertScaled(t *testing.T) {
	for _, p := range published {
		if p.model != "deepseek2" && p.model != "deepseek4" && p.model != "minimax-m3" {
			continue
		}
		few, plain := quantized(t, p.model, p.scaling)
		config := checkpointtest.Config(openTiny(t, p.model))
		want := openCheckpoint(t, config, plain)
		config["quantization_config"] = p.config
		got := openCheckpoint(t, config, few)
		for _, recipe := range []string{"f32", "q8_0"} {
			a, b := converted(t, got, recipe), converted(t, want, recipe)
			for _, name := range b.Names() {
				x, err := a.Tensor(name)
				if err != nil {
					t.Fatal(err)
				}
				y, err := b.Tensor(name)
				if err != nil || x.Type != y.Type || !slices.Equal(x.Shape, y.Shape) || !bytes.Equal(x.Data, y.Data) {
					t.Errorf("%s, %s: %s differs as %s and %s, %v", p.model, recipe, name, x.TypeName(), y.TypeName(), err)
				}
			}
		}
	}
}

func converted(t *testing.T, src weights.Source, recipe string) weights.Source {
	t.Helper()
	r, ok := weights.RecipeByName(recipe)
	if !ok {
		t.Fatal(recipe)
	}
	plan, err := weights.PlanConversion(src, weights.ConvertOptions{Recipe: r})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "converted.gguf")
	if _, err := plan.Save(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	result, err := weights.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { result.Close() })
	return result
}

// noise is a matrix of numbers that differ much in size.
func noise(name string, shape ...int) checkpointtest.Tensor {
	rng := rand.New(rand.NewPCG(uint64(len(name)), uint64(shape[0])))
	n := checkpointtest.Tensor{Name: name, Shape: shape, Values: make([]float32, shape[0]*shape[1])}
	for i := range n.Values {
		n.Values[i] = float32(rng.NormFloat64() * float64(1+i/shape[1]/100) * float64(1+i%shape[1]/100))
	}
	return n
}

// TestScaledForms keeps FP8 where tensors take another form, at the sizes of published models: transposed, taken apart, and
// with other orders of rows and columns.
func TestScaledForms(t *testing.T) {
	latent := object{
		"model_type": "deepseek_v3", "num_hidden_layers": 1, "num_attention_heads": 2, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "kv_lora_rank": 256,
	}
	delta := object{
		"model_type": "qwen3_5_text", "num_hidden_layers": 1, "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128, "linear_num_key_heads": 2,
		"linear_num_value_heads": 6, "linear_value_head_dim": 128,
	}
	v4 := object{"model_type": "deepseek_v4", "num_hidden_layers": 1, "num_nextn_predict_layers": 1}
	for _, c := range []struct {
		config object
		shapes map[string][]int
		want   []string
	}{
		{latent, map[string][]int{"model.layers.0.self_attn.kv_b_proj.weight": {512, 256}}, []string{"blk.0.attn_k_b.weight", "blk.0.attn_v_b.weight"}},
		{delta, map[string][]int{
			"model.layers.0.linear_attn.in_proj_qkv.weight": {512 + 768, 256}, "model.layers.0.linear_attn.in_proj_z.weight": {768, 256}, "model.layers.0.linear_attn.out_proj.weight": {256, 768},
		}, []string{"blk.0.attn_qkv.weight", "blk.0.attn_gate.weight", "blk.0.ssm_out.weight"}},
		{v4, map[string][]int{"mtp.0.e_proj.weight": {200, 256}, "mtp.0.h_proj.weight": {200, 256}}, []string{"blk.1.nextn.eh_proj.weight"}},
	} {
		var few, plain []weights.OutTensor
		for name, shape := range c.shapes {
			n := noise(name, shape...)
			weight, scale, rounded := n.FP8(checkpointtest.Scaling{Rows: 128, Cols: 128, Type: "F32", Suffix: ".weight_scale_inv"})
			few, plain = append(few, weight, scale), append(plain, rounded.Plain())
		}
		got := openCheckpoint(t, c.config, few)
		sameNumbers(t, got, openCheckpoint(t, c.config, plain))
		for _, name := range c.want {
			if tensor, err := got.Describe(name); err != nil || tensor.TypeName() != "F8_E4M3" {
				t.Errorf("%s is of type %s, want F8_E4M3; %v", name, tensor.TypeName(), err)
			}
		}
	}
}

// TestMXFP4 checks a block of a checkpoint byte by byte.
func TestMXFP4(t *testing.T) {
	codes := make([]byte, 16)
	for i := range codes {
		codes[i] = byte(2*i&15 | (2*i+1)&15<<4) // element i has the code i mod 16
	}
	src := openCheckpoint(t, object{"model_type": "deepseek_v4", "num_hidden_layers": 1}, []weights.OutTensor{
		{Name: "layers.0.ffn.experts.0.w2.weight", DType: "U8", Shape: []int{1, 16}, Data: codes},
		{Name: "layers.0.ffn.experts.0.w2.scale", DType: "F8_E8M0", Shape: []int{1, 1}, Data: []byte{130}},
	})
	tensor, err := src.Tensor("blk.0.ffn_down_exps.weight")
	want := []byte{130, 0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff}
	if err != nil || !bytes.Equal(tensor.Data, want) || tensor.TypeName() != "MXFP4" || !slices.Equal(tensor.Shape, []int{1, 1, 32}) {
		t.Errorf("%s %v: % x, %v; want % x", tensor.TypeName(), tensor.Shape, tensor.Data, err, want)
	}
}
