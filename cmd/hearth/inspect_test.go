package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hearth/cmd/sharedtest"
	"hearth/engine/weights"
	"hearth/hardware/quant"
)

// execute runs a command line and returns what it printed.
func execute(t testing.TB, args ...string) (string, error) {
	t.Helper()
	root := newRootCommand()
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetArgs(args)
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

func inspectJSON(t testing.TB, args ...string) (*report, error) {
	t.Helper()
	out, err := execute(t, append([]string{"inspect", "--json"}, args...)...)
	if out == "" {
		return nil, err
	}
	var r report
	decoder := json.NewDecoder(strings.NewReader(out))
	decoder.DisallowUnknownFields()
	if jsonErr := decoder.Decode(&r); jsonErr != nil {
		t.Fatalf("inspect --json %v: %v\n%s", args, jsonErr, out)
	}
	return &r, err
}

func TestInspectEmbedded(t *testing.T) {
	r, err := inspectJSON(t, "--check")
	if err != nil {
		t.Fatal(err)
	}
	// Values of 8 take the room of 16 in the CPU's blocks.
	if r.Architecture != "llama" || r.Format != "GGUF" || !r.Supported || r.Quantization != "F32" || len(r.Tensors) != 48 ||
		r.Hyperparameters.NumLayers != 5 || r.Memory.KVBytesPerToken["F16"] != 5*4*(8+16)*2 || r.Check == nil || !r.Check.OK {
		t.Errorf("%+v", r)
	}
	if r.Memory.WeightBytes != 4*r.Parameters || r.Types[0].Parameters != r.Parameters || r.Types[0].Tensors != 48 {
		t.Errorf("sums: %+v, %d parameters, %d bytes", r.Types, r.Parameters, r.Memory.WeightBytes)
	}
	if bytes, ok := r.Memory.KVBytesPerToken["Q8_0"]; ok {
		t.Errorf("a cache of Q8_0 for heads of 8 has %d bytes per token, want none", bytes)
	}
	for _, k := range r.Metadata {
		if k.Key == "tokenizer.ggml.tokens" && (k.Type != "string[]" || *k.Length != 512 || len(k.Value.([]any)) != shownElements) {
			t.Errorf("tokens: %+v", k)
		}
	}
	text, err := execute(t, "inspect", "--tensors")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"stories260K", "5 of width 64", "512 positions, rotary base 10000", "blk.4.ffn_up.weight", "172 × 64"} {
		if !strings.Contains(text, want) {
			t.Errorf("the text lacks %q:\n%s", want, text)
		}
	}
}

// TestInspectMalformed holds the verdicts of the malformed set: of stage "parse" by inspect, of the others by
// inspect --check. Where either verdict will do it is enough that nothing crashes.
func TestInspectMalformed(t *testing.T) {
	var manifest []struct{ File, Defect, Expect, Stage string }
	if err := json.Unmarshal(sharedtest.ReadFile(t, "testdata", "malformed", "manifest.json"), &manifest); err != nil {
		t.Fatal(err)
	}
	files := sharedtest.ReadArchive(t, "testdata", "malformed", "malformed.tar.gz")
	for _, c := range manifest {
		path := filepath.Join(t.TempDir(), c.File)
		if err := os.WriteFile(path, files[c.File], 0o600); err != nil {
			t.Fatal(err)
		}
		args := []string{path}
		if c.Stage != "parse" {
			args = append(args, "--check")
		}
		r, err := inspectJSON(t, args...)
		switch {
		case c.Expect == "reject" && (err == nil || len(err.Error()) < 20):
			t.Errorf("%s (%s): %v, want a message", c.File, c.Defect, err)
		case c.Expect == "accept" && err != nil:
			t.Errorf("%s (%s): %v", c.File, c.Defect, err)
		case r != nil && r.Check != nil && r.Check.OK != (err == nil):
			t.Errorf("%s (%s): %+v and %v", c.File, c.Defect, r.Check, err)
		case testing.Verbose():
			t.Logf("%s: %v", c.File, err)
		}
		if _, textErr := execute(t, append([]string{"inspect"}, args...)...); (textErr == nil) != (err == nil) {
			t.Errorf("%s: as text %v, as JSON %v", c.File, textErr, err)
		}
	}
}

// TestCheckTensor names the weight that is not finite, also where a tensor has no dimensions.
func TestCheckTensor(t *testing.T) {
	bar := newProgressBar("", 0)
	for _, c := range []struct {
		shape []int
		at    int
		want  string
	}{{nil, 0, "row 0, column 0"}, {[]int{2, 40000}, 50000, "row 1, column 10000"}, {[]int{40000}, 39999, "row 0, column 39999"}, {[]int{0, 4}, -1, ""}} {
		tensor := weights.Tensor{Name: "x", Format: quant.F32, Shape: c.shape}
		tensor.Data = make([]byte, 4*tensor.Elements())
		if c.at >= 0 {
			binary.LittleEndian.PutUint32(tensor.Data[4*c.at:], math.Float32bits(float32(math.NaN())))
		}
		err := checkTensor(t.Context(), tensor, bar)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("shape %v: %v, want %q", c.shape, err, c.want)
		}
	}
}

func TestInspectForms(t *testing.T) {
	gguf, err := inspectJSON(t, "--check", sharedtest.Path(t, "testdata", "models", "stories260K", "stories260K-ffn192-Q8_0.gguf"))
	if err != nil {
		t.Fatal(err)
	}
	if gguf.Quantization != "Q8_0" {
		t.Errorf("quantization %s", gguf.Quantization)
	}
	folder := sharedtest.Path(t, "testdata", "models", "stories260K", "hf")
	for _, path := range []string{folder, filepath.Join(folder, "config.json"), filepath.Join(folder, "model.safetensors")} {
		r, err := inspectJSON(t, "--check", path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if r.Format != "safetensors" || r.Architecture != "llama" || r.Hyperparameters.HiddenSize != 64 || r.Tensors[0].Name != "token_embd.weight" {
			t.Errorf("%s: %+v", path, r)
		}
	}
	vocabulary := filepath.Join(t.TempDir(), "vocabulary.gguf")
	if err := os.WriteFile(vocabulary, sharedtest.ReadFile(t, "testdata", "gguf-vocab", "vocab-qwen3.gguf.gz"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r, err := inspectJSON(t, vocabulary); err != nil || len(r.Tensors) != 0 {
		t.Errorf("a vocabulary alone: %+v, %v", r, err)
	}
	if _, err := execute(t, "inspect", "--check", vocabulary); err == nil {
		t.Error("a vocabulary alone passes as a model")
	}
}

// TestInspectWithoutConfig names the file that a folder of weights alone lacks.
func TestInspectWithoutConfig(t *testing.T) {
	folder := t.TempDir()
	writeTest(t, filepath.Join(folder, "model.safetensors"), sharedtest.ReadFile(t, "testdata", "models", "stories260K", "hf", "model.safetensors"))
	if r, err := inspectJSON(t, folder); err != nil || !strings.Contains(r.Problem, "config.json is missing") {
		t.Errorf("%+v, %v", r, err)
	}
	if _, _, err := runOn(t, "hi", folder); err == nil || !strings.Contains(err.Error(), "config.json is missing") {
		t.Errorf("run: %v", err)
	}
}

// TestInspectCheckFolder wants the tokenizer of a folder, which is what serving it needs, but not of weights alone.
func TestInspectCheckFolder(t *testing.T) {
	folder := t.TempDir()
	for _, name := range []string{"config.json", "model.safetensors"} {
		writeTest(t, filepath.Join(folder, name), sharedtest.ReadFile(t, "testdata", "models", "stories260K", "hf", name))
	}
	if out, err := execute(t, "inspect", "--check", folder); err == nil || !strings.Contains(err.Error(), "tokenizer.json") || !strings.HasSuffix(out, "check: failed\n") {
		t.Errorf("a folder without tokenizer: %v\n%s", err, out)
	}
	r, err := inspectJSON(t, "--check", filepath.Join(folder, "model.safetensors"))
	if err != nil || !strings.Contains(r.Check.Note, "no tokenizer") {
		t.Errorf("weights alone: %+v, %v", r, err)
	}
	for _, c := range []struct {
		args []string
		want bool
	}{{nil, false}, {[]string{"--tensors"}, true}} {
		if out, err := execute(t, append([]string{"inspect"}, c.args...)...); err != nil || strings.Contains(out, "blk.0.attn_q.weight") != c.want {
			t.Errorf("inspect %q: %v\n%s", c.args, err, out)
		}
	}
}
