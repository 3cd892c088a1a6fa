package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hearth/cmd/sharedtest"
	"hearth/engine"
	"hearth/engine/tokenizer"
	"hearth/engine/weights"
	"hearth/hardware"
	"hearth/hardware/cpu"
)

func stories(t testing.TB, elem ...string) string {
	t.Helper()
	return sharedtest.Path(t, append([]string{"testdata", "models", "stories260K"}, elem...)...)
}

// quantized runs quantize on a model, and returns its report and the file.
func quantized(t testing.TB, in string, args ...string) (*quantizeReport, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "quantized.gguf")
	out, err := execute(t, append([]string{"quantize", in, path, "--json"}, args...)...)
	if err != nil {
		t.Fatalf("quantize %v: %v", args, err)
	}
	var r quantizeReport
	decoder := json.NewDecoder(strings.NewReader(out))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&r); err != nil {
		t.Fatalf("quantize --json: %v\n%s", err, out)
	}
	return &r, path
}

func openCPU(t testing.TB) hardware.Device {
	t.Helper()
	device, err := cpu.Open(cpu.Options{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { device.Close() })
	return device
}

// rowsOf computes the logits of a text's tokens.
func rowsOf(t testing.TB, device hardware.Device, path string) [][]float32 {
	t.Helper()
	tokens := []int32{1, 403, 407, 261, 378, 432, 383, 286, 261, 410}
	rows, err := logits(t.Context(), path, tokens, []int{0, 4, 9}, engine.LogitsOptions{Device: device})
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return rows
}

// TestQuantizeTypes writes the trained tiny model in every type: it loads, its report adds up, and its logits are those
// of the original but for what the report says it lost.
func TestQuantizeTypes(t *testing.T) {
	in := stories(t, "stories260K-f32.gguf")
	device := openCPU(t)
	want := rowsOf(t, device, in)
	for _, recipe := range weights.RecipeNames() {
		r, path := quantized(t, in, "--type", recipe)
		inspected, err := inspectJSON(t, "--check", path)
		if err != nil {
			t.Fatalf("%s: %v", recipe, err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Size() != r.FileBytes || len(r.Tensors) != len(inspected.Tensors) || r.BytesAfter != inspected.Memory.WeightBytes {
			t.Errorf("%s: %v, %v; the report says %+v", recipe, info, err, r)
		}
		var squares, errors float64
		got := rowsOf(t, device, path)
		for i, row := range want {
			for j, v := range row {
				d := float64(got[i][j]) - float64(v)
				squares += float64(v) * float64(v)
				errors += d * d
			}
		}
		lost := 0.0 // of the type that lost most
		for _, k := range r.Types {
			lost = math.Max(lost, k.Relative)
		}
		if relative := math.Sqrt(errors / squares); relative > 3*lost || lost == 0 && relative > 0 {
			t.Errorf("%s: the logits lost %.4f, the weights at most %.4f", recipe, relative, lost)
		}
	}
}

// TestQuantizeArchitectures runs the reference models of all architectures once they are quantized. Their weights are
// representable in F16, so that all they differ by is the order of sums.
func TestQuantizeArchitectures(t *testing.T) {
	files, err := filepath.Glob(sharedtest.Path(t, "testdata", "golden", "*.gguf.gz"))
	if err != nil || len(files) < 13 {
		t.Fatalf("%d models, %v", len(files), err)
	}
	device := openCPU(t)
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".gz")
		path := filepath.Join(t.TempDir(), name)
		writeTest(t, path, sharedtest.ReadFile(t, "testdata", "golden", filepath.Base(file)))
		want := rowsOf(t, device, path)
		_, q4 := quantized(t, path, "--type", "q4_k_m")
		rowsOf(t, device, q4)
		_, f16 := quantized(t, path, "--type", "f16")
		var squares, errors float64
		for i, row := range rowsOf(t, device, f16) {
			for j, v := range row {
				d := float64(v) - float64(want[i][j])
				squares += float64(want[i][j]) * float64(want[i][j])
				errors += d * d
			}
		}
		if !(errors <= 1e-8*squares) {
			t.Errorf("%s: F16 moves the logits by %v of their squares", name, errors/squares)
		}
	}
}

// TestQuantizeFolder writes a Hugging Face folder as a GGUF file: logits, vocabulary and special tokens are the folder's.
func TestQuantizeFolder(t *testing.T) {
	folder := t.TempDir()
	for _, name := range []string{"model.safetensors", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "config.json"} {
		data, err := os.ReadFile(stories(t, "hf", name))
		if err != nil {
			t.Fatal(err)
		}
		if name == "config.json" { // and the rotary embedding of Llama 3.1
			data = []byte(strings.Replace(string(data), `"rope_scaling": null`, `"rope_scaling": {"rope_type": "llama3", "factor": 8.0,
				"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}`, 1))
		}
		writeTest(t, filepath.Join(folder, name), data)
	}
	r, path := quantized(t, folder, "--type", "f32")
	if r.Tensors[0].Name != ropeFactorsName {
		t.Errorf("the first tensor is %s, want %s", r.Tensors[0].Name, ropeFactorsName)
	}
	device := openCPU(t)
	want, got := rowsOf(t, device, folder), rowsOf(t, device, path)
	for i := range want {
		for j, v := range want[i] {
			if d := math.Abs(float64(got[i][j] - v)); d > 1e-4 {
				t.Fatalf("logit %d of row %d is %v, the folder's %v", j, i, got[i][j], v)
			}
		}
	}
	a, err := engine.OpenTokenizerPath(folder)
	if err != nil {
		t.Fatal(err)
	}
	b, err := engine.OpenTokenizerPath(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"Once upon a time, there was a girl named Lily.", "x  y\n\tZürich 😀", " <s>", ""} {
		options := tokenizer.EncodeOptions{AddSpecial: true}
		if x, y := a.Encode(text, options), b.Encode(text, options); !slices.Equal(x, y) {
			t.Errorf("%q: %v, the folder's %v", text, y, x)
		}
	}
	if !slices.Equal(a.EOG(), b.EOG()) {
		t.Errorf("ends %v, the folder's %v", b.EOG(), a.EOG())
	}
}

func TestQuantizeOverrides(t *testing.T) {
	r, _ := quantized(t, synth(t, "--size", "tiny", "--quant", "f16"), "--type", "q4_k_m", "--tensor", "blk.[01].attn_?.weight=q8_0", "--tensor", "blk.*.attn_q.weight=q6_k")
	for _, tensor := range r.Tensors {
		want := ""
		switch tensor.Name {
		case "blk.0.attn_q.weight", "blk.1.attn_k.weight":
			want = "Q8_0"
		case "blk.2.attn_q.weight":
			want = "Q6_K"
		case "blk.0.attn_norm.weight":
			want = "F32"
		default:
			continue
		}
		if tensor.Type != want {
			t.Errorf("%s is %s, want %s", tensor.Name, tensor.Type, want)
		}
	}
}

func TestQuantizeRefuses(t *testing.T) {
	in := synth(t, "--size", "tiny", "--quant", "q8_0")
	out := filepath.Join(t.TempDir(), "x.gguf")
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{in, out}, "--type is missing"},
		{[]string{in, out, "--type", "q4"}, `unknown type "q4"`},
		{[]string{in, out, "--type", "q4_0"}, "--allow-requantize"},
		{[]string{in, out, "--type", "q4_0", "--tensor", "x"}, "PATTERN=TYPE"},
		{[]string{in, out, "--type", "q4_0", "--tensor", "x=iq1_s"}, `no type "iq1_s" can be written`},
		{[]string{in, out, "--type", "q4_0", "--tensor", "[=q8_0"}, "PATTERN=TYPE"},
		{[]string{in, out, "--type", "q4_0", "--imatrix", in}, "no importance matrix"},
		{[]string{in, out, "--type", "q4_0", "--threads", "-1"}, "--threads"},
		{[]string{in, in, "--type", "f16"}, "--force replaces it"},
		{[]string{in, in, "--type", "f16", "--force"}, "the file that is converted"},
		{[]string{in, filepath.Join(out, "y.gguf"), "--type", "f16"}, "weights: folder " + out + ": no such file or directory"},
		{[]string{in, filepath.Join(in, "y.gguf"), "--type", "f16"}, "weights: folder " + in + ": this is a file"},
		{[]string{in, out, "--type", "f16", "--tensor", "zzz*=q4_0"}, `no name matches the pattern "zzz*"`},
		{[]string{in, out, "--type", "f16", "--tensor", "*_norm.weight=q4_0"}, `only tensors that keep their numbers match the pattern "*_norm.weight"`},
		{[]string{filepath.Join(out, "absent"), out, "--type", "f16"}, "absent"},
	} {
		text, err := execute(t, append([]string{"quantize"}, c.args...)...)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v: %v, want %q\n%s", c.args, err, c.says, text)
		}
	}
	if exists(out) || exists(weights.PartialPath(out)) {
		t.Error("something was written")
	}
	if text, err := execute(t, "quantize", in, out, "--type", "q4_0", "--allow-requantize", "--dry-run"); err != nil || exists(out) || !strings.Contains(text, "would be written") {
		t.Errorf("--dry-run: %v\n%s", err, text)
	}
}

// TestQuantizeChecksShapes refuses a folder whose configuration is of another model, as inspect does.
func TestQuantizeChecksShapes(t *testing.T) {
	folder := t.TempDir()
	for _, name := range []string{"model.safetensors", "tokenizer.json", "config.json"} {
		data, err := os.ReadFile(stories(t, "hf", name))
		if err != nil {
			t.Fatal(err)
		}
		if name == "config.json" {
			data = []byte(strings.Replace(string(data), `"hidden_size": 64`, `"hidden_size": 128`, 1))
		}
		writeTest(t, filepath.Join(folder, name), data)
	}
	r, err := inspectJSON(t, folder)
	if r == nil || r.Problem == "" {
		t.Fatalf("inspect finds nothing: %v, %v", r, err)
	}
	out := filepath.Join(folder, "x.gguf")
	if _, err := execute(t, "quantize", folder, out, "--type", "q8_0"); err == nil || !strings.Contains(err.Error(), r.Problem) || exists(out) {
		t.Errorf("%v, want %s", err, r.Problem)
	}
}

// TestQuantizeStopped stops the command after a part of its work, and has it say what it kept and go on from there.
func TestQuantizeStopped(t *testing.T) {
	in, out := synth(t, "--size", "tiny", "--quant", "f32"), filepath.Join(t.TempDir(), "x.gguf")
	src, err := engine.OpenSource(in)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	recipe, _ := weights.RecipeByName("q4_0")
	stop := func(part int64) string {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		c, err := weights.PlanConversion(src, weights.ConvertOptions{Recipe: recipe, Workers: 1, Progress: func(done, all int64) {
			if done >= all*part/100 {
				cancel()
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		if part == 0 {
			cancel()
		}
		_, err = c.Save(ctx, out)
		return stopNote(c, out, err)
	}
	if note := stop(0); note != "nothing was finished yet, and nothing is kept" || exists(weights.PartialPath(out)) {
		t.Errorf("before anything was done: %q", note)
	}
	note := stop(50)
	amount, _, _ := strings.Cut(strings.TrimPrefix(note, "finished are "), ";")
	if !strings.HasPrefix(note, "finished are ") || !strings.Contains(note, weights.PartialPath(out)) {
		t.Fatalf("half-way: %q", note)
	}
	if _, err := execute(t, "quantize", in, out, "--type", "q8_0"); err == nil || !strings.Contains(err.Error(), "a conversion to Q4_0 that was stopped") || !strings.Contains(err.Error(), "--force") {
		t.Errorf("another type: %v", err)
	}
	root := newRootCommand()
	var notes strings.Builder
	root.SetOut(io.Discard)
	root.SetErr(&notes)
	root.SetArgs([]string{"quantize", in, out, "--type", "q4_0"})
	if err := root.ExecuteContext(t.Context()); err != nil || !strings.Contains(notes.String(), "going on from "+amount+"\n") {
		t.Errorf("%v; going on says %q, the stop %q", err, notes.String(), amount)
	}
}

// TestQuantizeReport prints every tensor with its error.
func TestQuantizeReport(t *testing.T) {
	out := filepath.Join(t.TempDir(), "x.gguf")
	text, err := execute(t, "quantize", synth(t, "--size", "tiny", "--quant", "f32"), out, "--type", "q8_0", "--report")
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"TENSOR", "RELATIVE", "blk.3.ffn_down.weight", "0.5", "bits per weight, written in"} {
		if !strings.Contains(text, part) {
			t.Errorf("there is no %q in\n%s", part, text)
		}
	}
}

// TestQuantizeWithoutTokenizer writes a folder that has weights alone.
func TestQuantizeWithoutTokenizer(t *testing.T) {
	folder := t.TempDir()
	for _, name := range []string{"model.safetensors", "config.json"} {
		data, err := os.ReadFile(stories(t, "hf", name))
		if err != nil {
			t.Fatal(err)
		}
		writeTest(t, filepath.Join(folder, name), data)
	}
	_, path := quantized(t, folder, "--type", "q8_0")
	if r, err := inspectJSON(t, "--check", path); err != nil || !strings.Contains(r.Check.Note, "no tokenizer") {
		t.Errorf("%+v, %v", r, err)
	}
	if err := os.Remove(filepath.Join(folder, "config.json")); err != nil {
		t.Fatal(err)
	}
	if _, err := execute(t, "quantize", folder, path, "--type", "q8_0", "--force"); err == nil || errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "config.json") {
		t.Errorf("without a configuration: %v", err)
	}
}
