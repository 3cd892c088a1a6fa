package weights

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"hearth/cmd/sharedtest"
	"hearth/hardware/quant"
)

func recipeOf(t testing.TB, name string) *Recipe {
	t.Helper()
	r, ok := RecipeByName(name)
	if !ok {
		t.Fatalf("no recipe %q", name)
	}
	return r
}

// normalTensor is a float32 matrix of the normal distribution with variance 1.
func normalTensor(name string, seed uint64, shape ...int) NewTensor {
	rng := rand.New(rand.NewPCG(seed, 1))
	n := 1
	for _, d := range shape {
		n *= d
	}
	values := make([]float32, n)
	for i := range values {
		values[i] = float32(rng.NormFloat64())
	}
	return floatTensor(name, values, shape...)
}

func floatTensor(name string, values []float32, shape ...int) NewTensor {
	data, _ := binary.Append(nil, binary.LittleEndian, values)
	return bytesTensor(name, quant.F32.ID, data, shape...)
}

// toyModel is a source with these tensors.
func toyModel(t testing.TB, tensors ...NewTensor) Source {
	t.Helper()
	path := filepath.Join(t.TempDir(), "source.gguf")
	md := NewMetadata()
	md.Set("general.architecture", "toy")
	md.Set("toy.block_count", uint32(1))
	md.Set("tokenizer.chat_template", "{{ messages }}")
	md.Set("general.alignment", uint32(64))
	if err := SaveGGUF(path, md, tensors); err != nil {
		t.Fatal(err)
	}
	return open(t, path)
}

func open(t testing.TB, path string) Source {
	t.Helper()
	src, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { src.Close() })
	return src
}

// convert makes a file of a source, and opens it.
func convert(t testing.TB, src Source, options ConvertOptions) (*Conversion, Source) {
	t.Helper()
	c, err := PlanConversion(src, options)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "result.gguf")
	if kept, err := c.Save(t.Context(), path); err != nil || kept != 0 {
		t.Fatalf("%d tensors were kept, %v", kept, err)
	}
	if _, err := os.Stat(PartialPath(path)); err == nil {
		t.Errorf("%s is still there", PartialPath(path))
	}
	if info, err := os.Stat(path); err != nil || info.Size() != c.Size() {
		t.Errorf("%v, %v; the plan said %d bytes", info, err, c.Size())
	}
	return c, open(t, path)
}

// valuesOf dequantizes a tensor.
func valuesOf(t testing.TB, src Source, name string) []float32 {
	t.Helper()
	tensor, err := src.Tensor(name)
	if err != nil {
		t.Fatal(err)
	}
	values := make([]float32, tensor.Elements())
	at := 0
	for _, part := range tensor.Parts() {
		n := len(values) / len(tensor.Parts())
		tensor.Format.Dequantize(values[at:at+n], part)
		at += n
	}
	return values
}

// referenceErrors are the root mean square errors of the reference quantizers on the normal distribution of variance 1:
// the published figures are rounded to 0.0055, 0.018, 0.036, 0.043, 0.0715, 0.078, 0.086, 0.114, 0.15 and 0.30, these are
// the largest that round to them.
var referenceErrors = map[string]float64{
	"Q8_0": 0.00555, "Q6_K": 0.0185, "Q5_K": 0.0365, "Q5_0": 0.0435, "Q4_K": 0.07155, "Q4_1": 0.0785, "Q4_0": 0.0865, "MXFP4": 0.1145,
	"Q3_K": 0.155, "Q2_K": 0.305, "F32": 0, "F16": 3e-4, "BF16": 2.1e-3,
	"Q5_1": 0.0435, "IQ4_NL": 0.0865, "IQ4_XS": 0.0865, // no worse than the plainest format of as many bits
}

// TestConvertErrors quantizes normally distributed weights with every recipe: no tensor may lose more than the reference
// loses, and what the report says is what the file holds.
func TestConvertErrors(t *testing.T) {
	src := toyModel(t, normalTensor("token_embd.weight", 1, 40, 512), normalTensor("output.weight", 2, 40, 512),
		normalTensor("blk.0.attn_q.weight", 3, 100, 512), normalTensor("blk.0.attn_v.weight", 4, 100, 512),
		normalTensor("blk.0.ffn_down_exps.weight", 5, 3, 50, 512), normalTensor("blk.0.attn_norm.weight", 6, 512))
	recipes := RecipeNames()
	if testing.Short() {
		recipes = []string{"q4_0", "q4_k_m"}
	}
	for _, recipe := range recipes {
		c, result := convert(t, src, ConvertOptions{Recipe: recipeOf(t, recipe)})
		thorough, _ := convert(t, src, ConvertOptions{Recipe: recipeOf(t, recipe), Thorough: true})
		for i, other := range thorough.Tensors() {
			if got, usual := other.Error.RMSE(), c.Tensors()[i].Error.RMSE(); got > usual {
				t.Errorf("%s: %s: error %.5f after a longer search, %.5f before", recipe, other.Name, got, usual)
			}
		}
		for _, converted := range c.Tensors() {
			tensor, err := result.Describe(converted.Name)
			if err != nil || tensor.Type != converted.Type || tensor.Size() != converted.Bytes || !slices.Equal(tensor.Shape, converted.Shape) {
				t.Fatalf("%s: the file has %+v, %v; want %+v", recipe, tensor, err, converted)
			}
			measured := roundingError(valuesOf(t, src, converted.Name), valuesOf(t, result, converted.Name))
			if d := math.Abs(measured.RMSE() - converted.Error.RMSE()); d > 1e-12 || measured.Max != converted.Error.Max || measured.Elements != converted.Error.Elements {
				t.Errorf("%s: %s: reported %+v, measured %+v", recipe, converted.Name, converted.Error, measured)
			}
			bound := referenceErrors[tensor.Format.Name]
			// Of 20000 weights the error itself is known to about 0.35%: this allows for three times as much.
			if got := measured.Relative(); got > 1.01*bound {
				t.Errorf("%s: %s as %s: relative error %.5f, the reference has %.5f", recipe, converted.Name, tensor.Format, got, bound)
			}
		}
	}
}

// TestConvertGolden converts the rows that the reference library quantized, and compares every byte. It was told that
// all columns matter alike.
func TestConvertGolden(t *testing.T) {
	ones := slices.Repeat([]float32{1}, 512)
	for _, f := range quant.All() {
		path := sharedtest.Path(t, "testdata", "quants", f.Name+".safetensors")
		if _, err := os.Stat(path); err != nil || !f.CanQuantize() {
			continue
		}
		reference := open(t, path)
		const name = "blk.0.attn_q.weight"
		values := valuesOf(t, reference, "source")
		src := toyModel(t, floatTensor(name, values, len(values)/512, 512))
		_, result := convert(t, src, ConvertOptions{
			Recipe: recipeOf(t, "q8_0"), Overrides: []Override{{"blk.*.attn_?.weight", f}}, Importance: map[string][]float32{name: ones},
		})
		want, _ := reference.Tensor("raw")
		if got, err := result.Tensor(name); err != nil || got.Format != f || !bytes.Equal(got.Data, want.Data) {
			t.Errorf("%s: other bytes than the reference's, %v", f, err)
		}
	}
}

// TestConvertArchitectures converts the models of all architectures: what is to stay float32 does, everything else is as
// the recipe says, and nothing else changes.
func TestConvertArchitectures(t *testing.T) {
	files, err := filepath.Glob(sharedtest.Path(t, "testdata", "golden", "*.gguf.gz"))
	if err != nil || len(files) < 13 {
		t.Fatalf("%d models, %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".gz")
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, sharedtest.ReadFile(t, "testdata", "golden", filepath.Base(file)), 0o644); err != nil {
			t.Fatal(err)
		}
		src := open(t, path)
		recipes := []string{"q4_k_m", "mxfp4_moe"}
		if strings.Contains(name, "minimax-m3") { // what is left alone does not depend on the recipe
			recipes = append(recipes, "q8_0", "bf16")
		}
		for _, recipe := range recipes {
			_, result := convert(t, src, ConvertOptions{Recipe: recipeOf(t, recipe)})
			if !slices.Equal(result.Names(), src.Names()) {
				t.Errorf("%s, %s: the names are %v", name, recipe, result.Names())
			}
			checkMetadata(t, src.Metadata(), result.Metadata(), recipeOf(t, recipe).FileType)
			for _, tensor := range src.Names() {
				checkConverted(t, src, result, tensor, recipe)
			}
		}
	}
}

// mustStay tells what may not be quantized, by a list of its own.
func mustStay(name string, shape []int) bool {
	for _, part := range []string{
		"norm", ".bias", "ffn_gate_inp", "ssm_conv1d", "hc_", "tid2eid", "_ape", "indexer.proj.", "indexer.q_proj", "indexer.k_proj", "sinks", "rope_freqs",
	} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return len(shape) == 1 || strings.HasSuffix(name, ".ssm_a")
}

func checkConverted(t *testing.T, src, result Source, name, recipe string) {
	t.Helper()
	before, _ := src.Tensor(name)
	after, err := result.Tensor(name)
	if err != nil || !slices.Equal(before.Shape, after.Shape) {
		t.Errorf("%s: %+v, %v", name, after, err)
		return
	}
	if mustStay(name, before.Shape) {
		if after.Type != before.Type || !bytes.Equal(after.Data, before.Data) {
			t.Errorf("%s: %s became %s", name, before.TypeName(), after.TypeName())
		}
		return
	}
	rowLen := before.Shape[len(before.Shape)-1]
	want := map[string]string{"q8_0": "Q8_0", "bf16": "BF16", "mxfp4_moe": "Q8_0"}[recipe]
	switch {
	case recipe == "mxfp4_moe" && strings.Contains(name, "_exps."):
		want = "MXFP4"
	case recipe == "q4_k_m" && rowLen%256 == 0:
		want = "Q4_K Q5_K Q6_K Q8_0"
	case recipe == "q4_k_m": // every K format has another for short rows
		want = "Q5_0 Q5_1 Q8_0"
	}
	if !slices.Contains(strings.Fields(want), after.TypeName()) {
		t.Errorf("%s: rows of %d became %s, want %s", name, rowLen, after.TypeName(), want)
		return
	}
	moved := roundingError(valuesOf(t, src, name), valuesOf(t, result, name))
	if relative := moved.Relative(); relative > 1.1*referenceErrors[after.TypeName()] {
		t.Errorf("%s as %s: relative error %.4f, the reference has %.4f", name, after.TypeName(), relative, referenceErrors[after.TypeName()])
	}
}

func checkMetadata(t *testing.T, before, after *Metadata, fileType uint32) {
	t.Helper()
	want := before.Clone()
	want.Set("general.file_type", fileType)
	want.Set("general.quantization_version", uint32(2))
	if !reflect.DeepEqual(want, after) {
		t.Errorf("the keys are\n%v, want\n%v", after, want)
	}
}

// TestRecipeModel reads heads that are given per layer: layers without attention have none.
func TestRecipeModel(t *testing.T) {
	md := NewMetadata()
	md.Set("general.architecture", "toy")
	md.Set("toy.block_count", uint32(4))
	md.Set("toy.attention.head_count", uint32(12))
	md.Set("toy.attention.head_count_kv", []int32{0, 3, 0, 3})
	md.Set("toy.expert_count", uint32(64))
	src := &source{md: md, tensors: map[string]*entry{"output.weight": {}}}
	if got, want := NewRecipeModel(src), (RecipeModel{NumLayers: 4, QueriesPerKV: 4, NumExperts: 64}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func bytesTensor(name string, typ uint32, data []byte, shape ...int) NewTensor {
	return NewTensor{Name: name, Type: typ, Shape: shape, Write: func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	}}
}

func TestConvertRefuses(t *testing.T) {
	const name = "blk.0.attn_q.weight"
	q8 := func() Source {
		_, result := convert(t, toyModel(t, normalTensor(name, 1, 4, 256)), ConvertOptions{Recipe: recipeOf(t, "q8_0")})
		return result
	}
	bad := make([]float32, 1024)
	bad[700] = float32(math.NaN())
	large := make([]float32, 1024)
	large[3] = 1e6
	for _, c := range []struct {
		source Source
		recipe string
		err    error
		says   string
	}{
		{q8(), "q4_0", ErrRequantize, `tensor "blk.0.attn_q.weight": the weights would be quantized a second time from Q8_0 to Q4_0`},
		{toyModel(t, floatTensor(name, bad, 4, 256)), "q4_k_m", ErrCorrupt, `tensor "blk.0.attn_q.weight": corrupt model file: the weight in row 2, column 188 is not finite`},
		{toyModel(t, floatTensor(name, large, 4, 256)), "f16", ErrUnsupported, `tensor "blk.0.attn_q.weight": unsupported model file: the weight 1e+06 in row 0, column 3 is out of the range of F16`},
		{toyModel(t), "f16", ErrUnsupported, "no tensors"},
	} {
		plan, err := PlanConversion(c.source, ConvertOptions{Recipe: recipeOf(t, c.recipe)})
		path := filepath.Join(t.TempDir(), "x.gguf")
		if err == nil {
			_, err = plan.Save(t.Context(), path)
		}
		if !errors.Is(err, c.err) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", c.recipe, err, c.says)
		}
		for _, p := range []string{path, PartialPath(path)} {
			if _, err := os.Stat(p); err == nil {
				t.Errorf("%s: %s is left over", c.recipe, p)
			}
		}
	}
	// What loses next to nothing, or was asked for, is done.
	for _, options := range []ConvertOptions{{Recipe: recipeOf(t, "f32")}, {Recipe: recipeOf(t, "q8_0")}, {Recipe: recipeOf(t, "q4_0"), Requantize: true}} {
		convert(t, q8(), options)
	}
	src := toyModel(t, normalTensor(name, 1, 4, 256))
	plan, err := PlanConversion(src, ConvertOptions{Recipe: recipeOf(t, "q8_0")})
	if err == nil {
		_, err = plan.Save(t.Context(), src.Path())
	}
	if err == nil || !strings.Contains(err.Error(), "this is the file that is converted") {
		t.Errorf("converting a file in place: %v", err)
	}
}

// TestConvertSplit converts the parts of a split file into one.
func TestConvertSplit(t *testing.T) {
	folder := t.TempDir()
	for i := range uint64(2) {
		md := NewMetadata()
		md.Set("general.architecture", "toy")
		md.Set("split.no", uint16(i))
		md.Set("split.count", uint16(2))
		md.Set("split.tensors.count", int32(2))
		tensor := normalTensor(fmt.Sprintf("blk.%d.attn_q.weight", i), i, 8, 256)
		if err := SaveGGUF(partPath(filepath.Join(folder, "m"), i+1, 2), md, []NewTensor{tensor}); err != nil {
			t.Fatal(err)
		}
	}
	src := open(t, partPath(filepath.Join(folder, "m"), 1, 2))
	_, result := convert(t, src, ConvertOptions{Recipe: recipeOf(t, "q6_k")})
	if want := []string{"general.architecture", "general.file_type", "general.quantization_version"}; !slices.Equal(result.Metadata().Keys(), want) {
		t.Errorf("the keys are %v, want %v", result.Metadata().Keys(), want)
	}
	if len(result.Names()) != 2 {
		t.Errorf("the tensors are %v", result.Names())
	}
}

// TestConvertFolder converts a Hugging Face folder and compares it with the GGUF file of the same weights, whose query
// and key rows are in another order.
func TestConvertFolder(t *testing.T) {
	src := open(t, sharedtest.Path(t, "testdata", "models", "stories260K", "hf"))
	want := open(t, sharedtest.Path(t, "testdata", "models", "stories260K", "stories260K-f32.gguf"))
	_, result := convert(t, src, ConvertOptions{Recipe: recipeOf(t, "f32"), Extra: []ExtraTensor{{"rope_freqs.weight", []float32{1, 2, 3, 4}}}})
	for _, name := range want.Names() {
		if name == "output.weight" { // the folder says that it is the embedding
			continue
		}
		a, errA := want.Tensor(name)
		b, errB := result.Tensor(name)
		if errA != nil || errB != nil || a.Type != b.Type || !bytes.Equal(a.Data, b.Data) {
			t.Errorf("%s: %v %v %v, %v %v %v", name, a.TypeName(), a.Shape, errA, b.TypeName(), b.Shape, errB)
		}
	}
	if got := valuesOf(t, result, "rope_freqs.weight"); !slices.Equal(got, []float32{1, 2, 3, 4}) {
		t.Errorf("rope_freqs.weight is %v", got)
	}
	for key, value := range map[string]any{"general.architecture": "llama", "llama.attention.head_count_kv": uint32(4), "llama.rope.freq_base": float32(10000)} {
		if got, _ := result.Metadata().Get(key); got != value {
			t.Errorf("%s is %v, want %v", key, got, value)
		}
	}
}

// TestConvertMemory converts tensors of many sizes: what is allocated does not grow with them.
func TestConvertMemory(t *testing.T) {
	allocated := func(rows int) uint64 {
		src := toyModel(t, bytesTensor("blk.0.attn_q.weight", quant.F16.ID, make([]byte, rows*2*1024), rows, 1024))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		plan, err := PlanConversion(src, ConvertOptions{Recipe: recipeOf(t, "q8_0"), Workers: 2})
		if err == nil {
			_, err = plan.Save(t.Context(), filepath.Join(t.TempDir(), "x.gguf"))
		}
		if err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	small, large := allocated(1<<10), allocated(1<<14)
	if large > small+1<<19 {
		t.Errorf("%d bytes are allocated for 2 MiB of weights, %d for 32 MiB", small, large)
	}
}

// TestImportance reads an importance matrix and quantizes with it: columns that matter are kept better.
func TestImportance(t *testing.T) {
	const name = "blk.0.ffn_up_exps.weight"
	sums := slices.Repeat([]float32{1}, 2*256)
	for i := range 256 {
		if i%8 == 3 {
			sums[i] = 4000 // of the first expert, which met four activations; the other met none
		}
		sums[256+i] = 0
	}
	imatrix := toyModel(t, floatTensor(name+".in_sum2", sums, 2, 256), floatTensor(name+".counts", []float32{4, 0}, 2, 1))
	importance, err := ReadImportance(imatrix.Path())
	if err != nil {
		t.Fatal(err)
	}
	if got := importance[name]; len(importance) != 1 || len(got) != 512 || got[3] != 1000 || got[4] != 0.25 || got[256+3] != 1 || got[256+4] != 1 {
		t.Fatalf("importance %v", importance)
	}
	src := toyModel(t, normalTensor(name, 9, 2, 64, 256))
	before := valuesOf(t, src, name)
	lost := func(importance map[string][]float32) (important, other RoundingError) {
		_, result := convert(t, src, ConvertOptions{Recipe: recipeOf(t, "q4_k_s"), Importance: importance})
		after := valuesOf(t, result, name)
		for i := range before[:64*256] {
			if i%8 == 3 {
				important.Add(roundingError(before[i:i+1], after[i:i+1]))
			} else {
				other.Add(roundingError(before[i:i+1], after[i:i+1]))
			}
		}
		return important, other
	}
	plain, _ := lost(nil)
	weighted, other := lost(importance)
	if weighted.RMSE() > 0.7*plain.RMSE() || other.RMSE() < weighted.RMSE() {
		t.Errorf("columns that matter: error %.4f, without their importance %.4f; other columns %.4f", weighted.RMSE(), plain.RMSE(), other.RMSE())
	}
	for _, wrong := range []NewTensor{floatTensor(name+".counts", []float32{1, 2, 3}, 3), bytesTensor(name+".counts", quant.F16.ID, make([]byte, 4), 2)} {
		if _, err := ReadImportance(toyModel(t, floatTensor(name+".in_sum2", sums, 2, 256), wrong).Path()); !errors.Is(err, ErrCorrupt) {
			t.Errorf("counts %v: %v", wrong.Shape, err)
		}
	}
	if _, err := ReadImportance(src.Path()); !errors.Is(err, ErrUnsupported) {
		t.Errorf("a model as an importance matrix: %v", err)
	}
	if _, err := PlanConversion(src, ConvertOptions{Recipe: recipeOf(t, "q4_k_s"), Importance: map[string][]float32{name: {1, 2}}}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("the importance of two columns: %v", err)
	}
}
