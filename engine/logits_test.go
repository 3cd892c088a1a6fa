package engine

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"hearth/cmd/sharedtest"
	"hearth/engine/model"
	"hearth/engine/weights"
	"hearth/engine/weights/checkpointtest"
	"hearth/hardware"
	"hearth/hardware/cpu"
	"hearth/hardware/quant"
)

// maxNMSE bounds the normalised mean squared error of one position's logits. The reference implementation agrees with
// itself to 2e-10 between batch sizes.
const maxNMSE = 1e-9

// reference holds the logits of the reference implementation: *.golden.safetensors, whose __metadata__ says how they
// were made.
type reference struct {
	tokens    []int32
	positions []int
	logits    [][]float32 // [positions, vocab]
}

func openCPU(t testing.TB) hardware.Device {
	t.Helper()
	device, err := cpu.Open(cpu.Options{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := device.Close(); err != nil {
			t.Error(err)
		}
	})
	return device
}

func decode[T any](t testing.TB, src weights.Source, name string) []T {
	t.Helper()
	tensor, err := src.Tensor(name)
	if err != nil {
		t.Fatal(err)
	}
	values := make([]T, tensor.Elements())
	if _, err := binary.Decode(tensor.Data, binary.LittleEndian, values); err != nil {
		t.Fatal(err)
	}
	return values
}

func readReference(t testing.TB, arch string) *reference {
	t.Helper()
	name := "tiny-" + arch + ".golden.safetensors"
	src, err := weights.OpenBytes(name, sharedtest.ReadFile(t, "testdata", "golden", name))
	if err != nil {
		t.Fatal(err)
	}
	r := &reference{tokens: decode[int32](t, src, "tokens")}
	for _, p := range decode[int32](t, src, "positions") {
		r.positions = append(r.positions, int(p))
	}
	logits := decode[float32](t, src, "logits")
	r.logits = slices.Collect(slices.Chunk(logits, len(logits)/len(r.positions)))
	return r
}

// tinyModel opens the reference model of an architecture.
func tinyModel(t testing.TB, arch string) weights.Source {
	t.Helper()
	src, err := weights.OpenBytes("tiny-"+arch+".gguf", sharedtest.ReadFile(t, "testdata", "golden", "tiny-"+arch+".gguf.gz"))
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// referenceModel opens a reference model as the reference implementation ran it: without flash attention that has every unit
// of positions attended to, whatever an indexer chooses.
func referenceModel(t testing.TB, name string) weights.Source {
	src := tinyModel(t, name)
	if name != "minimax-m3" {
		return src
	}
	md := src.Metadata().Clone()
	md.Set("minimax-m3.attention.indexer.top_k", uint32(1<<16))
	return keyed{src, md}
}

// keyed is a model file with other keys.
type keyed struct {
	weights.Source
	md *weights.Metadata
}

func (k keyed) Metadata() *weights.Metadata { return k.md }

// extended is a model file with other keys and further tensors.
type extended struct {
	keyed
	further map[string]weights.Tensor
}

func (x extended) Has(name string) bool { return x.further[name].Name != "" || x.keyed.Has(name) }

func (x extended) Describe(name string) (weights.Tensor, error) { return x.Tensor(name) }

func (x extended) Rows(name string) (weights.Tensor, error) { return x.Tensor(name) }

func (x extended) Tensor(name string) (weights.Tensor, error) {
	if t := x.further[name]; t.Name != "" {
		return t, nil
	}
	return x.keyed.Tensor(name)
}

// nmse is the squared error of a row over the squared length of the wanted one.
func nmse(got, want []float32) float64 {
	var num, den float64
	for i := range want {
		d := float64(got[i]) - float64(want[i])
		num += d * d
		den += float64(want[i]) * float64(want[i])
	}
	return num / den
}

// compare runs a model and compares its logits with the reference.
func compare(t *testing.T, src weights.Source, r *reference, opts LogitsOptions) [][]float32 {
	t.Helper()
	m, err := model.Load(src)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Logits(t.Context(), m, r.tokens, r.positions, opts)
	if err != nil {
		t.Fatal(err)
	}
	worst := 0.0
	for i, p := range r.positions {
		e := nmse(got[i], r.logits[i])
		worst = max(worst, e)
		if !(e <= maxNMSE) {
			t.Errorf("chunks of %d: position %d: error %.3g, want at most %g", opts.Chunk, p, e, maxNMSE)
		}
	}
	t.Logf("chunks of %d: largest error %.3g", opts.Chunk, worst)
	return got
}

// golden are the reference models.
var golden = []string{
	"llama", "qwen2", "qwen3", "qwen3moe", "qwen35", "qwen35-mtp", "qwen35moe", "minimax-m2", "minimax-m3",
	"deepseek2-lite", "deepseek2", "deepseek32", "deepseek4",
}

// TestArchitecturesGolden compares every architecture with the reference implementation, whether the prompt is fed at
// once, in chunks that no block boundary divides, or token by token; they agree bit for bit.
func TestArchitecturesGolden(t *testing.T) {
	device := openCPU(t)
	for _, name := range golden {
		t.Run(name, func(t *testing.T) {
			r := readReference(t, name)
			chunks := []int{len(r.tokens), 7, 64, 100, 1}
			if testing.Short() {
				chunks = chunks[:2]
			}
			compareChunks(t, name, r, device, chunks)
		})
	}
}

// compareChunks feeds the prompt of a reference model in chunks of each length.
func compareChunks(t *testing.T, name string, r *reference, device hardware.Device, chunks []int) {
	var first [][]float32
	for _, chunk := range chunks {
		got := compare(t, referenceModel(t, name), r, LogitsOptions{Device: device, Chunk: chunk})
		if first == nil {
			first = got
		}
		for i := range got {
			if device.Info().Exact && !slices.Equal(got[i], first[i]) {
				t.Errorf("chunks of %d: position %d differs from the prompt at once", chunk, r.positions[i])
			}
		}
	}
}

// published writes a model as its makers publish it, and opens that.
func published(t testing.TB, gguf weights.Source) weights.Source {
	t.Helper()
	var tensors []weights.OutTensor
	for _, tensor := range checkpointtest.Tensors(t, gguf) {
		tensors = append(tensors, tensor.Plain())
	}
	return openPath(t, checkpointtest.Write(t, checkpointtest.Config(gguf), tensors))
}

// openPath opens a model until the end of the test.
func openPath(t testing.TB, path string) weights.Source {
	t.Helper()
	src, err := weights.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { src.Close() })
	return src
}

// TestHuggingFaceGolden writes the reference models as their makers publish them, and wants the same logits.
func TestHuggingFaceGolden(t *testing.T) {
	device := openCPU(t)
	for _, name := range golden {
		t.Run(name, func(t *testing.T) {
			gguf := referenceModel(t, name)
			var src weights.Source
			if name == "llama" { // its rows of queries and keys lie in another order
				src = openPath(t, writeHuggingFace(t, gguf))
			} else {
				src = published(t, gguf)
			}
			if src.Origin() != weights.HuggingFace {
				t.Errorf("origin %s", src.Origin())
			}
			compare(t, src, readReference(t, name), LogitsOptions{Device: device, Chunk: 64})
		})
	}
}

// TestHuggingFaceBF16 rounds a reference model to BF16, as checkpoints are published, norms and biases included: kept as
// BF16 it gives the logits of the rounded numbers kept as F32. Some processors' kernels round the rows too, and plain Go
// does not.
func TestHuggingFaceBF16(t *testing.T) {
	device, err := cpu.Open(cpu.Options{ISA: "go", Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	src := tinyModel(t, "qwen2")
	m, err := model.Load(src)
	if err != nil {
		t.Fatal(err)
	}
	tokens := readReference(t, "qwen2").tokens[:70]
	var rows [2][][]float32
	for i, format := range []*quant.Format{quant.BF16, quant.F32} {
		var tensors []weights.OutTensor
		for _, name := range src.Names() {
			tensor, err := src.Tensor(name)
			if err != nil {
				t.Fatal(err)
			}
			out := toHuggingFace(&m.Config, tensor)[0]
			out.DType, out.Data = format.Name, convert(convert(tensor.Data, quant.F32, quant.BF16), quant.BF16, format)
			tensors = append(tensors, out)
		}
		folder := checkpointtest.Write(t, huggingFaceConfig(&m.Config, !src.Has("output.weight")), tensors)
		rows[i] = logitsOf(t, device, folder, tokens, 0, 33, 69)
	}
	wantSameLogits(t, "BF16 and F32", rows)
}

// logitsOf returns the logits of a model at some positions.
func logitsOf(t *testing.T, device hardware.Device, path string, tokens []int32, positions ...int) [][]float32 {
	t.Helper()
	m, err := model.Load(openPath(t, path))
	if err != nil {
		t.Fatal(err)
	}
	rows, err := Logits(t.Context(), m, tokens, positions, LogitsOptions{Device: device})
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// wantSameLogits compares what two forms of a model give.
func wantSameLogits(t *testing.T, forms string, rows [2][][]float32) {
	t.Helper()
	for i := range rows[0] {
		if e := nmse(rows[0][i], rows[1][i]); !(e <= maxNMSE) {
			t.Errorf("row %d: %s differ by %.3g", i, forms, e)
		}
	}
}

// convert encodes numbers in another format.
func convert(data []byte, from, to *quant.Format) []byte {
	values := make([]float32, len(data)/from.BlockBytes)
	from.Dequantize(values, data)
	out := make([]byte, len(values)*to.BlockBytes)
	to.Quantize(out, values)
	return out
}

// TestHuggingFaceFP8 publishes a reference model in FP8: its logits are those of the numbers that the codes and scales stand
// for.
func TestHuggingFaceFP8(t *testing.T) {
	device := openCPU(t)
	gguf := tinyModel(t, "minimax-m2")
	scaling := checkpointtest.Scaling{Rows: 128, Cols: 128, Type: "F32", Suffix: ".weight_scale_inv"}
	var few, plain []weights.OutTensor
	for _, n := range checkpointtest.Tensors(t, gguf) {
		if !strings.Contains(n.Name, "_proj.") && !strings.Contains(n.Name, ".experts.") {
			few, plain = append(few, n.Plain()), append(plain, n.Plain())
			continue
		}
		weight, scale, rounded := n.FP8(scaling)
		few, plain = append(few, weight, scale), append(plain, rounded.Plain())
	}
	var rows [2][][]float32
	for i, tensors := range [][]weights.OutTensor{few, plain} {
		folder := checkpointtest.Write(t, checkpointtest.Config(gguf), tensors)
		rows[i] = logitsOf(t, device, folder, readReference(t, "minimax-m2").tokens[:70], 0, 33, 69)
	}
	wantSameLogits(t, "FP8 and F32", rows)
}

// TestTrainedHuggingFace compares both forms of a trained model.
func TestTrainedHuggingFace(t *testing.T) {
	device := openCPU(t)
	tokens := []int32{1}
	for i := range int32(200) {
		tokens = append(tokens, 3+i*i%500)
	}
	var rows [2][][]float32
	for i, path := range []string{"hf", "stories260K-f32.gguf"} {
		rows[i] = logitsOf(t, device, sharedtest.Path(t, "testdata", "models", "stories260K", path), tokens, 0, 1, 63, 64, 200)
	}
	wantSameLogits(t, "the two forms", rows)
}

// writeHuggingFace writes a GGUF model of float32 as a Hugging Face folder of two shards.
func writeHuggingFace(t *testing.T, src weights.Source) string {
	t.Helper()
	m, err := model.Load(src)
	if err != nil {
		t.Fatal(err)
	}
	var tensors []weights.OutTensor
	for _, name := range src.Names() {
		tensor, err := src.Tensor(name)
		if err != nil {
			t.Fatal(err)
		}
		tensors = append(tensors, toHuggingFace(&m.Config, tensor)...)
	}
	return checkpointtest.Write(t, huggingFaceConfig(&m.Config, !src.Has("output.weight")), tensors)
}

func huggingFaceConfig(c *model.Config, tied bool) map[string]any {
	modelType := c.Architecture
	if modelType == "qwen3moe" {
		modelType = "qwen3_moe"
	}
	return map[string]any{
		"model_type": modelType, "vocab_size": c.VocabSize, "max_position_embeddings": c.ContextLength, "hidden_size": c.HiddenSize,
		"num_hidden_layers": c.NumLayers, "num_attention_heads": c.NumHeads, "num_key_value_heads": c.NumKVHeads, "head_dim": c.HeadDim,
		"intermediate_size": c.FFNSize, "rms_norm_eps": c.RMSNormEps, "rope_theta": c.Rope.Theta, "hidden_act": "silu",
		"num_experts": nonZero(c.NumExperts), "num_experts_per_tok": c.NumExpertsPerTok, "moe_intermediate_size": c.ExpertFFNSize,
		"norm_topk_prob": c.NormTopKProb, "tie_word_embeddings": tied,
	}
}

func nonZero(n int) any {
	if n == 0 {
		return nil
	}
	return n
}

// huggingFaceStems are the names of Hugging Face for the parts of a layer.
var huggingFaceStems = strings.NewReplacer(
	"attn_norm.", "input_layernorm.", "ffn_norm.", "post_attention_layernorm.", "attn_q_norm.", "self_attn.q_norm.",
	"attn_k_norm.", "self_attn.k_norm.", "attn_q.", "self_attn.q_proj.", "attn_k.", "self_attn.k_proj.", "attn_v.", "self_attn.v_proj.",
	"attn_output.", "self_attn.o_proj.", "ffn_gate_inp.", "mlp.gate.", "ffn_gate.", "mlp.gate_proj.", "ffn_up.", "mlp.up_proj.",
	"ffn_down.", "mlp.down_proj.", "ffn_gate_exps.", "gate_proj.", "ffn_up_exps.", "up_proj.", "ffn_down_exps.", "down_proj.",
)

// toHuggingFace renames a tensor, takes experts apart, and undoes the permutation of Llama's queries and keys: rows 2i and
// 2i+1 of each head become rows i and i + HeadDim/2.
func toHuggingFace(c *model.Config, t weights.Tensor) []weights.OutTensor {
	out := weights.OutTensor{Name: t.Name, DType: "F32", Shape: t.Shape, Data: t.Data}
	switch t.Name {
	case "token_embd.weight":
		out.Name = "model.embed_tokens.weight"
	case "output_norm.weight":
		out.Name = "model.norm.weight"
	case "output.weight":
		out.Name = "lm_head.weight"
	}
	layer, found := strings.CutPrefix(t.Name, "blk.")
	if !found {
		return []weights.OutTensor{out}
	}
	number, part, _ := strings.Cut(layer, ".")
	prefix := "model.layers." + number + "."
	if strings.Contains(part, "_exps.") {
		var experts []weights.OutTensor
		size := len(t.Data) / t.Shape[0]
		for e := range t.Shape[0] {
			name := fmt.Sprintf("%smlp.experts.%d.%s", prefix, e, huggingFaceStems.Replace(part))
			experts = append(experts, weights.OutTensor{Name: name, DType: "F32", Shape: t.Shape[1:], Data: t.Data[e*size:][:size]})
		}
		return experts
	}
	out.Name = prefix + huggingFaceStems.Replace(part)
	if c.Architecture == "llama" && (part == "attn_q.weight" || part == "attn_k.weight") {
		out.Data = make([]byte, len(t.Data))
		rowBytes := len(t.Data) / t.Shape[0]
		for row := range t.Shape[0] {
			head, i := row/c.HeadDim, row%c.HeadDim
			from := head*c.HeadDim + 2*i
			if i >= c.HeadDim/2 {
				from = head*c.HeadDim + 2*(i-c.HeadDim/2) + 1
			}
			copy(out.Data[row*rowBytes:][:rowBytes], t.Data[from*rowBytes:])
		}
	}
	return []weights.OutTensor{out}
}

func TestLogitsRefuses(t *testing.T) {
	m, err := model.Load(openEmbedded(t))
	if err != nil {
		t.Fatal(err)
	}
	opts := LogitsOptions{Device: openCPU(t)}
	for name, c := range map[string]struct {
		tokens    []int32
		positions []int
	}{
		"no tokens": {nil, []int{0}}, "token beyond the vocabulary": {[]int32{512}, []int{0}}, "negative token": {[]int32{-1}, []int{0}},
		"position beyond the tokens": {[]int32{1}, []int{1}}, "descending positions": {[]int32{1, 2}, []int{1, 0}},
		"negative position": {[]int32{1}, []int{-1}},
	} {
		if rows, err := Logits(t.Context(), m, c.tokens, c.positions, opts); err == nil {
			t.Errorf("%s: %d rows", name, len(rows))
		}
	}
	rows, err := Logits(t.Context(), m, []int32{1}, []int{0}, opts)
	if err != nil || len(rows) != 1 || len(rows[0]) != 512 || math.IsNaN(float64(rows[0][0])) {
		t.Errorf("one token: %d rows, %v", len(rows), err)
	}
}

func openEmbedded(t testing.TB) weights.Source {
	t.Helper()
	src, err := OpenSource("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { src.Close() })
	return src
}
