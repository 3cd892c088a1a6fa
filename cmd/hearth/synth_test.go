package main

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hearth/cmd/sharedtest"
	"hearth/engine"
	"hearth/engine/model"
	"hearth/engine/tokenizer"
	"hearth/engine/weights"
	"hearth/hardware"
	"hearth/hardware/cpu"
	"hearth/hardware/quant"
)

func synth(t testing.TB, args ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "synthetic.gguf")
	if _, err := execute(t, append([]string{"synth", "--out", path}, args...)...); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestSynth writes a tiny model of every architecture: each is whole, and its logits are finite.
func TestSynth(t *testing.T) {
	device, err := cpu.Open(cpu.Options{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	if got, want := slices.Sorted(slices.Values(synthArchitectures())), model.Names(); !slices.Equal(got, want) {
		t.Errorf("shapes of %v, architectures %v", got, want)
	}
	for i, arch := range synthArchitectures() {
		format := []string{"f32", "q4_k_m", "q8_0"}[i%3]
		path := synth(t, "--arch", arch, "--size", "tiny", "--quant", format, "--ctx", "300")
		r, err := inspectJSON(t, "--check", path)
		if err != nil {
			t.Errorf("%s %s: %v", arch, format, err)
			continue
		}
		if r.Architecture != arch || r.Hyperparameters.ContextLength != 300 || r.Hyperparameters.NumLayers != 4 {
			t.Errorf("%s %s: %+v", arch, format, r.Hyperparameters)
		}
		tokens := make([]int32, 140) // beyond a compressed entry of the longest kind
		for j := range tokens {
			tokens[j] = int32(1 + j*j%300)
		}
		rows, err := logits(t.Context(), path, tokens, []int{0, len(tokens) - 1}, engine.LogitsOptions{Device: device})
		if err != nil {
			t.Errorf("%s %s: %v", arch, format, err)
			continue
		}
		for _, v := range rows[1] {
			if a := math.Abs(float64(v)); !(a < 50) {
				t.Errorf("%s %s: a logit is %v", arch, format, v)
				break
			}
		}
	}
}

// TestSynthPlan plans every shape: the models load, and have as many parameters as their names say.
func TestSynthPlan(t *testing.T) {
	billions := map[string]float64{
		"0.6b": 0.596, "0.8b": 0.752, "27b": 26.9, "30b-a3b": 30.5, "35b-a3b": 34.7, "397b-a17b": 396, "80b-a3b": 79.7, "m2": 229,
		"v2-lite": 15.7, "v2": 236, "v3": 671, "v3.2": 672, "v4-flash": 284, "v4-pro": 1570, "14b-a2.7b": 14.3, "57b-a14b": 57.4,
	}
	for _, shape := range synthShapes {
		f, err := newSynthetic(t.Context(), synthOptions{arch: shape.arch, size: shape.size, quant: "q4_k_m"})
		if err != nil {
			t.Errorf("%s %s: %v", shape.arch, shape.size, err)
			continue
		}
		if want := billions[shape.size] * 1e9; want > 0 && math.Abs(float64(f.parameters)/want-1) > 0.01 {
			t.Errorf("%s %s: %d parameters", shape.arch, shape.size, f.parameters)
		}
		f.generator.bar = newProgressBar("", 0)
		src, err := weights.Outline("planned", f.md, f.tensors)
		if err != nil {
			t.Errorf("%s %s: %v", shape.arch, shape.size, err)
			continue
		}
		if m, err := model.Load(src); err != nil || m.Config.NumLayers != shape.layers {
			t.Errorf("%s %s: %v", shape.arch, shape.size, err)
		}
	}
	out, err := execute(t, "synth", "--arch", "deepseek", "--size", "v3", "--layers", "5", "--plan")
	if err != nil || !strings.Contains(out, "5 of width 7168") || !strings.Contains(out, "8 of 256 experts") {
		t.Errorf("%v: %s", err, out)
	}
	for _, arch := range []string{"qwen35", "qwen35moe", "qwen3next", "deepseek2", "deepseek32", "deepseek4"} {
		f, err := newSynthetic(t.Context(), synthOptions{arch: arch, size: "tiny", quant: "f32", predict: true})
		if err != nil {
			t.Fatal(err)
		}
		f.generator.bar = newProgressBar("", 0)
		src, err := weights.Outline("planned", f.md, f.tensors)
		if err != nil {
			t.Fatal(err)
		}
		if m, err := model.LoadDrafting(src); err != nil || m.Config.NumLayers != 4 || m.Config.NumNextNLayers != 1 || !m.Drafts {
			t.Errorf("%s with a block that predicts: %v: %+v", arch, err, m)
		}
	}
	for _, args := range [][]string{{"--mtp"}, {"--layers", "29"}, {"--layers", "-1"}, {"--size", "7t"}, {"--arch", "perceptron"}, {"--quant", "q9"}} {
		if out, err := execute(t, append([]string{"synth", "--plan"}, args...)...); err == nil || !strings.Contains(err.Error(), args[0]) {
			t.Errorf("%v: %v: %s", args, err, out)
		}
	}
}

// TestSynthFormats writes one model in every format.
func TestSynthFormats(t *testing.T) {
	formats := weights.RecipeNames()
	if testing.Short() {
		formats = []string{"bf16", "q4_0", "q5_k_m"}
	}
	for _, format := range formats {
		r, err := inspectJSON(t, "--check", synth(t, "--arch", "qwen3moe", "--size", "tiny", "--quant", format))
		if err != nil {
			t.Errorf("%s: %v", format, err)
			continue
		}
		recipe, _ := weights.RecipeByName(format)
		found := false
		for _, kind := range r.Types {
			found = found || kind.Type == recipe.Format.Name
		}
		if !found {
			t.Errorf("%s: no tensor is %s: %+v", format, recipe.Format, r.Types)
		}
	}
}

func TestSynthSeed(t *testing.T) {
	read := func(args ...string) []byte {
		data, err := os.ReadFile(synth(t, append(args, "--size", "tiny", "--quant", "q8_0")...))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	first := read()
	if !bytes.Equal(first, read("--seed", "0")) {
		t.Error("one seed gives two files")
	}
	if bytes.Equal(first, read("--seed", "1")) {
		t.Error("two seeds give one file")
	}
}

// TestPool checks that blocks from a pool are like fresh ones: a row has a length of about 1.
func TestPool(t *testing.T) {
	g := newWeightGenerator(t.Context(), 7, &synthShape{})
	g.bar = newProgressBar("", 0)
	for _, rowLen := range []int{896, 1024} {
		for _, format := range []*quant.Format{quant.F32, quant.Q8_0, quant.Q4_0} {
			tensor := weights.Tensor{Name: "x.weight", Format: format, Type: format.ID, Shape: []int{1000, rowLen}}
			var out bytes.Buffer
			if err := g.writer(tensor, 1)(&out); err != nil {
				t.Fatal(err)
			}
			want, _ := format.RowBytes(int(tensor.Elements()))
			if out.Len() != want {
				t.Errorf("%s rows of %d: %d bytes, want %d", format, rowLen, out.Len(), want)
				continue
			}
			rowBytes, _ := format.RowBytes(rowLen)
			rows := map[string]bool{}
			sum := 0.0
			values := make([]float32, rowLen)
			for row := range 1000 {
				data := out.Bytes()[row*rowBytes:][:rowBytes]
				rows[string(data)] = true
				format.Dequantize(values, data)
				for _, v := range values {
					sum += float64(v) * float64(v)
				}
			}
			if len(rows) != 1000 || math.Abs(sum/1000-1) > 0.05 {
				t.Errorf("%s rows of %d: %d different rows of mean square length %v", format, rowLen, len(rows), sum/1000)
			}
		}
	}
}

// TestSynthVocabulary takes vocabularies from tokenizer.json files: the model's tokenizer gives the ids of the original.
func TestSynthVocabulary(t *testing.T) {
	names := []string{"qwen3", "llama3.1"}
	if testing.Short() {
		names = names[:1]
	}
	for _, name := range names {
		folder := t.TempDir()
		writeTest(t, filepath.Join(folder, "tokenizer.json"), sharedtest.ReadFile(t, "testdata", "tokenizers", name, "tokenizer.json.gz"))
		if name == "qwen3" {
			writeTest(t, filepath.Join(folder, "tokenizer_config.json"), sharedtest.ReadFile(t, "testdata", "tokenizers", name, "tokenizer_config.json"))
		}
		path := synth(t, "--size", "tiny", "--tokenizer", filepath.Join(folder, "tokenizer.json"))
		src, err := weights.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer src.Close()
		got, err := engine.OpenTokenizer(src)
		if err != nil {
			t.Fatal(err)
		}
		want, err := engine.OpenTokenizerPath(filepath.Join(folder, "tokenizer.json"))
		if err != nil {
			t.Fatal(err)
		}
		text := strings.Repeat(probeText, 2) + "The quick brown fox; it's 2026, isn't it?"
		options := tokenizer.EncodeOptions{ParseSpecial: true}
		if a, b := got.Encode(text, options), want.Encode(text, options); fmt.Sprint(a) != fmt.Sprint(b) {
			t.Errorf("%s: %v, want %v", name, a, b)
		}
		if a, _ := got.EOS(); name == "qwen3" {
			if b, _ := want.EOS(); a != b {
				t.Errorf("%s: EOS %d, want %d", name, a, b)
			}
			if template, _ := src.Metadata().String("tokenizer.chat_template"); !strings.Contains(template, "tools") {
				t.Errorf("%s: chat template %q", name, template)
			}
		}
	}
}

func writeTest(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestVocabularyRefuses gives ids that no vocabulary has.
func TestVocabularyRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokenizer.json")
	for _, id := range []string{"2147483647", "-2147483648", "4194304", "-1"} {
		writeTest(t, path, []byte(`{"model": {"type": "BPE", "vocab": {"a": 0, "b": `+id+`}}, "added_tokens": []}`))
		if _, err := readVocabulary(path); err == nil || !strings.Contains(err.Error(), "id") {
			t.Errorf("id %s: %v, want an error about ids", id, err)
		}
	}
}

func TestSynthRefuses(t *testing.T) {
	out := filepath.Join(t.TempDir(), "x.gguf")
	for _, args := range [][]string{
		{"--arch", "perceptron"}, {"--size", "1t"}, {"--quant", "q3"}, {"--ctx", "-1"}, {"--ctx", "16777217"}, {"--ctx", "4294967298"}, {"--out", ""},
		{"--tokenizer", filepath.Join(t.TempDir(), "absent.json")}, {"--out", filepath.Join(t.TempDir(), "absent", "x.gguf")},
	} {
		if text, err := execute(t, append([]string{"synth", "--size", "tiny", "--out", out}, args...)...); err == nil {
			t.Errorf("%v: %s", args, text)
		}
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("a refused model was written")
	}
}

// TestSynthRefusesBeyondDisk compares the tensors with what is free, and asks for a model that no disk of a usual machine
// holds.
func TestSynthRefusesBeyondDisk(t *testing.T) {
	f := synthetic{path: "x.gguf", bytes: 3 << 30}
	for free, fits := range map[uint64]bool{0: true, 1: false, 3<<30 - 1: false, 3 << 30: true} {
		if err := f.fits(free); (err == nil) != fits {
			t.Errorf("3 GiB where %d bytes are free: %v", free, err)
		}
	}
	if err := f.fits(2 << 30); err == nil || !strings.Contains(err.Error(), "takes 3.00 GiB, 2.00 GiB are free") {
		t.Errorf("%v, want an error with both sizes", err)
	}
	folder := t.TempDir()
	if free := hardware.FreeDisk(folder); free == 0 || free > 4<<40 {
		t.Skipf("%d bytes are free", free)
	}
	path := filepath.Join(folder, "x.gguf")
	if _, err := execute(t, "synth", "--arch", "deepseek4", "--size", "v4-pro", "--quant", "f32", "--out", path); err == nil || !strings.Contains(err.Error(), "free on the disk") {
		t.Errorf("%v, want a refusal", err)
	}
	if entries, err := os.ReadDir(folder); err != nil || len(entries) > 0 {
		t.Errorf("a refused model was written: %v %v", entries, err)
	}
}

func TestSynthKeepsFiles(t *testing.T) {
	path := synth(t, "--size", "tiny")
	args := []string{"synth", "--size", "tiny", "--out", path}
	if _, err := execute(t, args...); err == nil || !strings.Contains(err.Error(), "--force") {
		t.Errorf("%v, want a refusal", err)
	}
	if _, err := execute(t, append(args, "--force")...); err != nil {
		t.Error(err)
	}
	absent := filepath.Join(t.TempDir(), "absent", "a.gguf")
	if _, err := execute(t, "synth", "--size", "tiny", "--out", absent); err == nil || strings.Count(err.Error(), "a.gguf") != 1 || !strings.Contains(err.Error(), absent) {
		t.Errorf("%v, want an error that names %s alone", err, absent)
	}
}
